import { createPublicKey, type KeyObject } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import type { ClientDuplex, ClientOf, StreamOpenInit } from "#channel/call.ts";
import { type Clock, systemClock } from "#channel/clock.ts";
import { failureFromProto } from "#channel/failure.ts";
import {
  type AgentAsk as AgentAskProto,
  AgentDeed,
  type AgentStage,
  type AgentStanding as AgentStandingProto,
  type CheckpointHead,
  type HostAgentsRequest,
  HostAgentsRequestSchema,
  type HostAgentsResponse,
} from "#gen/foedus/coordination/v1alpha1/agents_pb.ts";
import type { CoordinationService } from "#gen/foedus/coordination/v1alpha1/coordination_service_pb.ts";
import type { BackoffConfig } from "#kernel/backoff.ts";
import { type Failure, fail } from "#kernel/error.ts";
import type { ExecutorAnswer } from "../executor-client.ts";
import { callProgram, FINAL_REASONS, KeptStream, type OnError, type StreamIdentity } from "../kept-stream.ts";
import {
  type AgentAsk,
  type AgentCheckpoint,
  type AgentReply,
  type AgentStanding,
  MovableAgent,
  type MovableOptions,
} from "./movable-agent.ts";
import { type AgentRegistry, Registered } from "./registered.ts";
import { type Base, sendReply } from "./replies.ts";
import { ComingCheckpoint, Staged, type StagedCheckpoint } from "./staging.ts";

type Client = Pick<ClientOf<typeof CoordinationService>, "hostAgents">;
type Duplex = ClientDuplex<HostAgentsRequest, HostAgentsResponse>;

interface Coming {
  /** Of an ask; 0 of what is staged. */
  readonly number: bigint;
  /** Undefined if it is not kept: the base is not here, or there is no room. */
  readonly into: ComingCheckpoint | undefined;
  missing: number;
  readonly whole: (came: StagedCheckpoint | undefined) => void;
}

/** Most bytes of a checkpoint that a hub may send. */
const CHECKPOINT_BYTES = 256 * 1024 * 1024;
/** How long tasks wait for an agent that moves, if the program does not say, ms. */
const WAIT_MS = 5_000;

/** HostedAgentOptions are an agent that a program has. */
export interface HostedAgentOptions extends MovableOptions {
  /** The fence that `resume` was given last and that is stored with the agent; 0 or missing for one that never moved. */
  readonly fence?: number;
}

/** TakeIn makes of a checkpoint what the agent needs to run here. `resume` of that is called then, and stores it. */
export type TakeIn = (checkpoint: AgentCheckpoint, fence: number, agent: string) => MovableOptions | Promise<MovableOptions>;

/** TakesIn is how a program takes in agents of one kind that it may be shown before they come. */
export interface TakesIn {
  readonly start: TakeIn;
  /**
   * stage is shown what may come, once and again: a program can store it already. If nothing of the memory changes any more, the memory with
   * which the agent starts is the same object. It is no agent, and may never become one.
   */
  readonly stage?: (checkpoint: AgentCheckpoint, agent: string) => void | Promise<void>;
  /** unstage deletes what `stage` stored: the agent does not come, or it has come and was started. */
  readonly unstage?: (agent: string) => void | Promise<void>;
}

/** AgentHostOptions say which agents a program has, and which it takes in. */
export interface AgentHostOptions {
  readonly agents?: readonly HostedAgentOptions[];
  /** By kind, which is the first of an agent's dependencies. */
  readonly takesIn?: Readonly<Record<string, TakeIn | TakesIn>>;
  /** Follows agents that say what they are in it (`node`). */
  readonly registry?: AgentRegistry;
  /** Told how an agent stands at the hub whenever that changes. */
  readonly onStanding?: (standing: AgentStanding) => void;
  /** onDetached is called when the stream ended; false means that it will not come back by itself. */
  readonly onDetached?: (failure: Failure, willRetry: boolean) => void;
  /** How long tasks wait for an agent that moves, ms. Default 5,000. */
  readonly waitMs?: number;
  readonly identity?: StreamIdentity;
  readonly onError?: OnError;
  readonly clock?: Clock;
  readonly backoff?: BackoffConfig;
}

/**
 * AgentHost joins a program's agents to its hub: it says which there are, and carries out what the hub wants when one moves.
 *
 * AH1 an agent runs only after the hub has said that it does, and goes on while the hub is away.
 * AH2 what the hub asked on a stream that is gone is carried out, and not answered: the hub asks again.
 * AH3 what is staged is no agent: it makes a start shorter, and one that is not what its digest says is not begun.
 */
export class AgentHost {
  readonly #client: Client;
  readonly #o: AgentHostOptions;
  readonly #clock: Clock;
  readonly #agents = new Map<string, MovableAgent>();
  readonly #kept: KeptStream<Duplex, HostAgentsResponse>;
  /** Agents that are being taken in, or were. */
  readonly #starting = new Map<string, Promise<AgentReply>>();
  /** The checkpoint that is coming, and what is done with it; undefined there: it is not what it should be, or has no room. */
  #coming: Coming | undefined;
  readonly #staged = new Staged();
  readonly #registered: Registered | undefined;
  /** What programs do with what was staged, by agent: one after the other, and a start after all of it. */
  readonly #staging = new Map<string, Promise<void>>();
  /** What is sent, one after the other. */
  #line: Promise<void> = Promise.resolve();
  /** What was sent last of each agent that moves, on this stream. */
  #bases = new Map<string, Base>();

  constructor(client: Client, options: AgentHostOptions) {
    this.#client = client;
    this.#o = options;
    this.#clock = options.clock ?? systemClock;
    if (options.registry !== undefined)
      this.#registered = new Registered(options.registry, this.#clock, (error) => callProgram(options.onError, options.onError, error));
    for (const agent of options.agents ?? []) this.#agents.set(agent.agent, this.#made(agent, agent.fence ?? 0, true));
    this.#kept = new KeptStream({
      clock: this.#clock,
      backoff: options.backoff,
      identity: options.identity,
      open: (number) => this.#open(number),
      onMessage: (message, duplex) => this.#message(message, duplex),
      onCut: (failure, final) => {
        this.#coming = undefined;
        for (const agent of this.#staged.agents) this.#unstage(agent);
        callProgram(options.onError, options.onDetached, failure, !final);
      },
      onReady: () => this.#kept.open(),
      final: FINAL_REASONS,
      onError: options.onError,
    });
    this.#kept.whenOver(() => this.#registered?.close());
    this.#kept.open();
  }

  /** agent gives an agent that is, or was, here. */
  agent(name: string): MovableAgent | undefined {
    return this.#agents.get(name);
  }

  /**
   * run does a task of an agent, when it runs; the `run` of what serves its commands calls it, with the `agentFence` of the task. A copy that is
   * older than that does nothing.
   */
  run(agent: string, task: () => ExecutorAnswer | Promise<ExecutorAnswer>, agentFence = 0): Promise<ExecutorAnswer> {
    const known = this.#agents.get(agent);
    if (known !== undefined) return known.run(task, agentFence);
    return Promise.resolve({ failure: { reason: "NODE_OFFLINE", message: `the agent ${agent} is not here` } });
  }

  /** whenOver calls a listener when it is closed, or will not be opened again; at once if that is so. */
  whenOver(listener: () => void): void {
    this.#kept.whenOver(listener);
  }

  /** close ends the stream. The agents go on, and cannot move. */
  close(): void {
    this.#kept.close();
  }

  #made(options: MovableOptions, fence: number, untilHosted: boolean): MovableAgent {
    return new MovableAgent({ clock: this.#clock, ...options }, fence, { untilHosted, waitMs: this.#o.waitMs ?? WAIT_MS });
  }

  #open(stream: StreamOpenInit): Duplex {
    const duplex = this.#client.hostAgents();
    this.#line = Promise.resolve();
    this.#bases = new Map();
    duplex.send(this.#hosts(stream));
    return duplex;
  }

  #hosts(stream?: StreamOpenInit): HostAgentsRequest {
    const here = [...this.#agents.values()].filter((agent) => agent.here);
    const agents = here.map((agent) => ({
      agent: agent.name,
      nodeKey: rawPublic(agent.nodeKey),
      fence: BigInt(agent.fence),
    }));
    const value = { agents, kinds: Object.keys(this.#o.takesIn ?? {}), stages: true, ...(stream === undefined ? {} : { stream }) };
    return create(HostAgentsRequestSchema, { frame: { case: "hosts", value } });
  }

  #message({ frame }: HostAgentsResponse, duplex: Duplex): void {
    switch (frame.case) {
      case "hosted":
        this.#kept.worked();
        for (const standing of frame.value.agents) this.#hosted(standingOf(standing));
        return;
      case "ask":
        return this.#asked(frame.value, duplex);
      case "stage":
        return this.#stage(frame.value);
      case "unstage":
        return this.#unstage(frame.value.agent, frame.value.transfer);
      case "part": {
        const coming = this.#coming;
        const bytes = frame.value.data.length + frame.value.same;
        if (coming === undefined || coming.number !== frame.value.ask || bytes > coming.missing)
          throw fail("INVALID_FIELD", "the hub sent bytes of no checkpoint");
        coming.into?.add(frame.value);
        coming.missing -= bytes;
        if (coming.missing === 0) this.#came();
        return;
      }
      case "unhosted":
        if (frame.value.failure !== undefined) this.#kept.said(failureFromProto(frame.value.failure));
        return duplex.end();
      default:
        return;
    }
  }

  /** comes waits for the bytes of a checkpoint. */
  #comes(head: CheckpointHead, coming: Omit<Coming, "missing">): void {
    if (this.#coming !== undefined) throw fail("INVALID_FIELD", "the hub began a checkpoint before the one before it was whole");
    const missing = Number(head.memoryBytes + head.contextBytes);
    if (missing > CHECKPOINT_BYTES) throw fail("LIMIT_EXCEEDED", "the hub sent a checkpoint that is too large");
    this.#coming = { ...coming, missing };
    if (missing === 0) this.#came();
  }

  #came(): void {
    const { into, whole } = this.#coming!;
    this.#coming = undefined;
    whole(into?.finish());
  }

  #asked(ask: AgentAskProto, duplex: Duplex): void {
    const { head, agent, transfer, digest, base } = ask;
    if (head === undefined) return void this.#carryOut(ask, undefined, duplex);
    const from = base.length === 0 ? undefined : this.#staged.get(agent, transfer, base);
    const here = base.length === 0 || from !== undefined;
    this.#comes(head, {
      number: ask.ask,
      into: here ? new ComingCheckpoint(head, { digest, base: from }) : undefined,
      whole: (came) => {
        if (came !== undefined) return void this.#carryOut(ask, came.checkpoint, duplex);
        this.#reply(ask, { failure: NOT_WHOLE }, duplex);
      },
    });
  }

  #stage({ agent, transfer, head, digest, base }: AgentStage): void {
    if (head === undefined) return;
    const from = base.length === 0 ? undefined : this.#staged.get(agent, transfer, base);
    const fits = this.#staged.room(agent, Number(head.memoryBytes + head.contextBytes)) && digest.length > 0;
    const here = base.length === 0 || from !== undefined;
    this.#comes(head, {
      number: 0n,
      into: fits && here ? new ComingCheckpoint(head, { digest, base: from }) : undefined,
      whole: (came) => {
        if (came === undefined) return this.#unstage(agent);
        this.#staged.set(agent, transfer, came);
        const { stage } = this.#takesIn(came.checkpoint) ?? {};
        if (stage !== undefined) this.#afterStaging(agent, () => stage(came.checkpoint, agent));
      },
    });
  }

  /** unstage drops what is staged of an agent; of one transfer, if that is said. */
  #unstage(agent: string, transfer?: bigint): void {
    if (!this.#staged.drop(agent, transfer)) return;
    for (const kind of Object.values(this.#o.takesIn ?? {}))
      if (typeof kind !== "function" && kind.unstage !== undefined) this.#afterStaging(agent, () => kind.unstage?.(agent));
  }

  #afterStaging(agent: string, act: () => void | Promise<void>): void {
    const before = this.#staging.get(agent) ?? Promise.resolve();
    const done = before.then(act).catch((error: unknown) => callProgram(this.#o.onError, this.#o.onError, error));
    this.#staging.set(agent, done);
    void done.then(() => {
      if (this.#staging.get(agent) === done) this.#staging.delete(agent);
    });
  }

  #takesIn({ dependencies }: AgentCheckpoint): TakesIn | undefined {
    const kind = this.#o.takesIn?.[dependencies[0] ?? ""];
    return typeof kind === "function" ? { start: kind } : kind;
  }

  #hosted(standing: AgentStanding): void {
    this.#agents.get(standing.agent)?.hosted(standing);
    callProgram(this.#o.onError, this.#o.onStanding, standing);
  }

  async #carryOut(ask: AgentAskProto, checkpoint: AgentCheckpoint | undefined, duplex: Duplex): Promise<void> {
    const reply = await this.#done(ask, checkpoint);
    if (ask.deed === AgentDeed.START && !("failure" in reply)) this.#unstage(ask.agent);
    // A discard of an older copy, which comes late, says nothing of one that is here.
    const left = this.#agents.get(ask.agent);
    if (ask.deed === AgentDeed.DISCARD && left?.node !== undefined && !left.here) void this.#registered?.want(ask.agent, undefined);
    this.#reply(ask, reply, duplex);
  }

  #reply(ask: AgentAskProto, reply: AgentReply, duplex: Duplex): void {
    if (duplex !== this.#kept.current) return;
    // The hub is told of agents that came or went, so that it knows them when this stream is another one.
    if (ask.deed === AgentDeed.START || ask.deed === AgentDeed.DISCARD) duplex.send(this.#hosts());
    const bases = this.#bases;
    this.#line = this.#line.then(() => sendReply(duplex, ask, reply, bases)).catch(() => undefined);
  }

  async #done(ask: AgentAskProto, checkpoint: AgentCheckpoint | undefined): Promise<AgentReply> {
    const wanted = askOf(ask, checkpoint);
    if (wanted === undefined) return { failure: { reason: "INVALID_FIELD", message: "this program does not know what the hub asked" } };
    const known = this.#agents.get(ask.agent);
    if (wanted.deed !== "START") {
      if (known !== undefined) return known.ask(wanted);
      return wanted.deed === "DISCARD" ? {} : { failure: { reason: "NODE_NOT_FOUND", message: `the agent ${ask.agent} is not here` } };
    }
    const takeIn = this.#takesIn(wanted.checkpoint)?.start;
    if (takeIn === undefined)
      return known?.ask(wanted) ?? { failure: { reason: "NO_EXECUTOR", message: "this program takes in no agents of that kind" } };
    // What is asked twice is begun once.
    const start = (this.#starting.get(ask.agent) ?? Promise.resolve()).then(() => this.#takeIn(takeIn, ask.agent, wanted));
    this.#starting.set(ask.agent, start);
    return start;
  }

  async #takeIn(takeIn: TakeIn, name: string, ask: Extract<AgentAsk, { deed: "START" }>): Promise<AgentReply> {
    if ((this.#agents.get(name)?.highest ?? 0) >= ask.fence) return {};
    await this.#staging.get(name);
    try {
      const agent = this.#made(await takeIn(ask.checkpoint, ask.fence, name), 0, false);
      const before = this.#agents.get(name);
      // From now on, so that the program finds it while it resumes.
      this.#agents.set(name, agent);
      const [reply] = await Promise.all([agent.ask(ask), agent.node && this.#registered?.want(name, agent.node)]);
      if ("failure" in reply) {
        if (before === undefined) this.#agents.delete(name);
        else this.#agents.set(name, before);
      }
      return reply;
    } catch (error) {
      callProgram(this.#o.onError, this.#o.onError, error);
      return { failure: { reason: "EXECUTOR_FAILED", message: "the program could not take the agent in" } };
    }
  }
}

const NOT_WHOLE: Failure = { reason: "CHECKPOINT_INVALID", message: "what came is not what its digest says, or its beginning is not here" };

function rawPublic(key: KeyObject): Uint8Array {
  const SPKI_BYTES = 12;
  return createPublicKey(key).export({ format: "der", type: "spki" }).subarray(SPKI_BYTES);
}

function standingOf({ agent, fence, runs, movedTo, failure }: AgentStandingProto): AgentStanding {
  return { agent, fence: Number(fence), runs, movedTo, failure: failure === undefined ? undefined : failureFromProto(failure) };
}

function askOf(ask: AgentAskProto, checkpoint: AgentCheckpoint | undefined): AgentAsk | undefined {
  const common = { fence: Number(ask.fence), transfer: Number(ask.transfer) };
  switch (ask.deed) {
    case AgentDeed.CAPTURE:
      return { ...common, deed: "CAPTURE" };
    case AgentDeed.FREEZE:
      return { ...common, deed: "FREEZE" };
    case AgentDeed.CLAIM:
      return { ...common, deed: "CLAIM", claim: ask.claim };
    case AgentDeed.RESUME:
      return { ...common, deed: "RESUME", checkpoint };
    case AgentDeed.START:
      return checkpoint === undefined ? undefined : { ...common, deed: "START", checkpoint };
    case AgentDeed.DISCARD:
      return { ...common, deed: "DISCARD", hub: ask.hub };
    default:
      return undefined;
  }
}
