import { type KeyObject, sign } from "node:crypto";
import { fromBinary } from "@bufbuild/protobuf";
import { type Clock, systemClock } from "#channel/clock.ts";
import { AgentClaimSchema } from "#gen/foedus/coordination/v1alpha1/migration_pb.ts";
import { type Failure, FoedusError } from "#kernel/error.ts";
import type { ExecutorAnswer } from "../executor-client.ts";
import type { NodeInit } from "../kept-nodes.ts";

/** AgentCheckpoint is all that an agent is, in its own formats. */
export interface AgentCheckpoint {
  /** What it knows. */
  readonly memory: Uint8Array;
  /** What it is doing. */
  readonly context: Uint8Array;
  /** How far it is with that, from 0 to 1. */
  readonly progress: number;
  /** What it needs where it runs. */
  readonly dependencies: readonly string[];
}

/** MovableOptions say how an agent is read, stopped and begun. All of it may answer with a promise. */
export interface MovableOptions {
  readonly agent: string;
  /** Ed25519 key of the agent, with which it says where it goes. */
  readonly nodeKey: KeyObject;
  /**
   * What the registry says of it. With this it is registered at the hub at which it starts after a move, and deregistered at the one that it has
   * left; without it the program does that.
   */
  readonly node?: NodeInit;
  /** checkpoint gives all that the agent is. What it gives is not changed afterwards. */
  readonly checkpoint: () => AgentCheckpoint | Promise<AgentCheckpoint>;
  /** freeze stops what the agent does by itself. Tasks are over by then, and none begins. */
  readonly freeze?: () => void | Promise<void>;
  /** resume goes on: as what the agent is, or as the one of the checkpoint, which is stored before this is done. */
  readonly resume: (checkpoint: AgentCheckpoint | undefined, fence: number) => void | Promise<void>;
  /** discard deletes what is here of the agent: it runs elsewhere. */
  readonly discard: () => void | Promise<void>;
  readonly clock?: Clock;
}

/** AgentAsk is what a hub wants of an agent; `fence` is the one with which it runs, of START the one that it gets. */
export type AgentAsk = { readonly fence: number } & (
  | { readonly deed: "CAPTURE" }
  | { readonly deed: "FREEZE"; readonly transfer: number }
  | { readonly deed: "CLAIM"; readonly transfer: number; readonly claim: Uint8Array }
  | { readonly deed: "RESUME"; readonly transfer: number; readonly checkpoint: AgentCheckpoint | undefined }
  | { readonly deed: "START"; readonly checkpoint: AgentCheckpoint }
  /** `hub` is where it runs now. */
  | { readonly deed: "DISCARD"; readonly hub?: string }
);

/** AgentStanding is how an agent stands at the hub. */
export interface AgentStanding {
  readonly agent: string;
  /** The fence with which the federation knows it; 0 if it does not. */
  readonly fence: number;
  /** It runs here. */
  readonly runs: boolean;
  /** Hub that has it now; empty if it is this one, or not known. */
  readonly movedTo: string;
  /** Why it does not run. */
  readonly failure: Failure | undefined;
}

/** WaitOptions say what happens to tasks that come while an agent does not run. */
export interface WaitOptions {
  /** The agent runs nothing before the hub says how it stands. */
  readonly untilHosted: boolean;
  /** Tasks wait so long, ms. */
  readonly waitMs: number;
}

/** Most tasks that wait for an agent; further ones are answered at once. */
const WAITING = 1_024;

/** AgentReply is the answer to an ask. */
export type AgentReply = { readonly checkpoint?: AgentCheckpoint; readonly signature?: Uint8Array } | { readonly failure: Failure };

/** How long tasks that run may take to end before a freeze is given up. */
const FREEZE_MS = 2_000;

const CONTEXT = Buffer.from("foedus.agent-claim.v1\0");

const FROZEN: Failure = { reason: "AGENT_FROZEN", message: "the agent is frozen while it moves; try again" };

const OLD_COPY: Failure = {
  reason: "AGENT_FROZEN",
  message: "this is a copy of the agent from before it moved, and does nothing; try again",
};

/** movedFailure says where an agent is now. Outcomes of commands carry no facts, so that the hub is in `field` as well. */
function movedFailure(agent: string, hub: string): Failure {
  return { reason: "MOVED", message: `the agent ${agent} has moved to ${hub}; send the command there`, field: hub, facts: { hub, agent } };
}

/** movedTo gives the hub that has an agent now, of a failure that says so (MOVED); undefined for others. */
export function movedTo({ reason, facts, field }: Failure): string | undefined {
  return reason === "MOVED" ? (facts?.["hub"] ?? field) : undefined;
}

/**
 * MovableAgent is one agent of a program: it stands between its tasks and what a hub asks for when the agent moves.
 *
 * MV1 no task runs between a freeze and the resume after it; what comes waits, for `waitMs` at most, and is answered AGENT_FROZEN, or MOVED
 *    with the hub that has it, with nothing done.
 * MV2 asks are carried out one after the other, in the order in which they came; each may be repeated.
 * MV3 of an older fence nothing is done; a start with a fence that it has, or less, starts nothing again.
 * MV4 it signs a claim for itself only: its name, its next fence, and the transfer for which it is frozen.
 * MV5 a task with a fence above its own is not run: the hub knows that the agent has gone on elsewhere, and this copy has not heard of it.
 */
export class MovableAgent {
  readonly #o: MovableOptions;
  readonly #clock: Clock;
  #fence: number;
  /** The highest fence that it has had here: it does not come back as the one that left. */
  #highest: number;
  /** Transfer for which it is frozen, what it is since then, and the last one after which it went on. */
  #frozenFor = 0;
  #frozen: AgentCheckpoint | undefined;
  #resumed = 0;
  /** It may run: the hub said so, or started it. */
  #runs: boolean;
  #tasks = 0;
  #idle: (() => void) | undefined;
  #line: Promise<unknown> = Promise.resolve();
  /** A copy of it is here, whatever its fence. */
  #here: boolean;
  /** Hub to which it has moved; empty for none. */
  #moved = "";
  /** Failure that the hub gave for it. */
  #refused: Failure | undefined;
  readonly #waitMs: number;
  /** Tasks that wait for what becomes of it. */
  readonly #waiting = new Set<() => void>();

  /** fence is the one with which it runs; 0 for one that is not here before it is started, or that the hub has yet to give one. */
  constructor(options: MovableOptions, fence: number, { untilHosted, waitMs }: WaitOptions = { untilHosted: false, waitMs: 0 }) {
    this.#o = options;
    this.#clock = options.clock ?? systemClock;
    this.#fence = fence;
    this.#highest = fence;
    this.#runs = fence > 0 && !untilHosted;
    this.#here = fence > 0 || untilHosted;
    this.#waitMs = waitMs;
  }

  /** name of the agent. */
  get name(): string {
    return this.#o.agent;
  }

  /** nodeKey is the agent's key. */
  get nodeKey(): KeyObject {
    return this.#o.nodeKey;
  }

  /** node is what the registry says of it. */
  get node(): NodeInit | undefined {
    return this.#o.node;
  }

  /** highest is the highest fence that it has had here. */
  get highest(): number {
    return this.#highest;
  }

  /** here tells whether a copy of it is here, running or not. */
  get here(): boolean {
    return this.#here;
  }

  /** runs tells whether its tasks run. */
  get runs(): boolean {
    return this.#runs;
  }

  /** hosted takes the hub's word on how it stands. A freeze, and what ended one, count for more. */
  hosted({ fence, runs, movedTo, failure }: AgentStanding): void {
    this.#refused = failure;
    if (movedTo !== "") {
      this.#moved = movedTo;
      this.#runs = false;
    } else if (this.#here && failure === undefined) {
      this.#moved = "";
      if (this.#fence === 0) this.#fence = this.#highest = fence;
      if (this.#fence === fence && this.#frozenFor === 0) this.#runs = runs;
    } else if (failure !== undefined) this.#runs = false;
    this.#decided();
  }

  /** fence of everything that the agent does; 0 while it is not here. */
  get fence(): number {
    return this.#fence;
  }

  /** run does a task of the agent, unless it is frozen (MV1), or the hub knows of a newer copy of it (MV5). */
  async run(task: () => ExecutorAnswer | Promise<ExecutorAnswer>, agentFence = 0): Promise<ExecutorAnswer> {
    if (!this.#runs && this.#moved === "" && this.#refused === undefined && this.#waitMs > 0) await this.#wait();
    if (!this.#runs) return { failure: this.#moved === "" ? (this.#refused ?? FROZEN) : movedFailure(this.#o.agent, this.#moved) };
    if (agentFence > this.#fence) return { failure: OLD_COPY };
    this.#tasks++;
    try {
      return await task();
    } finally {
      if (--this.#tasks === 0) this.#idle?.();
    }
  }

  /** wait ends when the agent runs, has moved or is refused, or after `waitMs`. */
  async #wait(): Promise<void> {
    if (this.#waiting.size >= WAITING) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = this.#clock.setTimer(this.#waitMs, resolve);
    this.#waiting.add(resolve);
    await promise;
    timer.cancel();
    this.#waiting.delete(resolve);
  }

  /** decided lets go on what waits, if it is known now what becomes of it. */
  #decided(): void {
    if (!this.#runs && this.#moved === "" && this.#refused === undefined) return;
    for (const go of this.#waiting) go();
  }

  /** ask carries out what the hub wants. It never rejects: what callbacks throw is the failure. */
  ask(ask: AgentAsk): Promise<AgentReply> {
    const reply = this.#line.then(() => this.#carryOut(ask)).catch((error: unknown) => ({ failure: failureOf(error) }));
    this.#line = reply;
    return reply;
  }

  async #carryOut(ask: AgentAsk): Promise<AgentReply> {
    if (ask.deed === "START") return this.#start(ask.fence, ask.checkpoint);
    if (ask.deed === "DISCARD") return this.#discard(ask.fence, ask.hub ?? "");
    if (ask.fence !== this.#fence || this.#fence === 0) {
      const message = `the agent ${this.#o.agent} has fence ${this.#fence} here and not ${ask.fence}`;
      return { failure: { reason: "MIGRATION_STEP", message } };
    }
    switch (ask.deed) {
      case "CAPTURE":
        return { checkpoint: this.#frozen ?? (await this.#o.checkpoint()) };
      case "FREEZE":
        return this.#freeze(ask.transfer);
      case "CLAIM":
        return this.#claim(ask.transfer, ask.claim);
      case "RESUME":
        this.#resumed = Math.max(this.#resumed, ask.transfer);
        await this.#o.resume(ask.checkpoint, this.#fence);
        return this.#goOn();
    }
  }

  async #freeze(transfer: number): Promise<AgentReply> {
    if (transfer <= this.#resumed) return { failure: { reason: "MIGRATION_STEP", message: `the move ${transfer} was aborted already` } };
    if (this.#frozen === undefined) {
      this.#runs = false;
      if (!(await this.#tasksEnd())) {
        this.#goOn();
        return { failure: { reason: "OVERLOADED", message: `tasks of ${this.#o.agent} did not end within ${FREEZE_MS} ms` } };
      }
      try {
        await this.#o.freeze?.();
        this.#frozen = await this.#o.checkpoint();
      } catch (error) {
        await this.#o.resume(undefined, this.#fence);
        this.#goOn();
        throw error;
      }
    }
    this.#frozenFor = transfer;
    return { checkpoint: this.#frozen };
  }

  /** tasksEnd waits for the tasks that run; false if that takes too long. */
  async #tasksEnd(): Promise<boolean> {
    if (this.#tasks === 0) return true;
    const { promise, resolve } = Promise.withResolvers<boolean>();
    const timer = this.#clock.setTimer(FREEZE_MS, () => resolve(false));
    this.#idle = () => resolve(true);
    const idle = await promise;
    timer.cancel();
    this.#idle = undefined;
    return idle;
  }

  #claim(transfer: number, bytes: Uint8Array): AgentReply {
    const claim = fromBinary(AgentClaimSchema, bytes);
    const mine =
      claim.agent === this.#o.agent &&
      Number(claim.fence) === this.#fence + 1 &&
      Number(claim.transfer) === transfer &&
      transfer === this.#frozenFor;
    if (!mine) return { failure: { reason: "ACCESS_DENIED", message: `the claim is not one that ${this.#o.agent} makes now` } };
    return { signature: sign(null, Buffer.concat([CONTEXT, bytes]), this.#o.nodeKey) };
  }

  async #start(fence: number, checkpoint: AgentCheckpoint): Promise<AgentReply> {
    if (fence <= this.#highest) return {};
    await this.#o.resume(checkpoint, fence);
    this.#fence = fence;
    this.#highest = fence;
    this.#here = true;
    this.#moved = "";
    this.#refused = undefined;
    return this.#goOn();
  }

  async #discard(fence: number, hub: string): Promise<AgentReply> {
    if (!this.#here || fence < this.#fence) return {};
    this.#runs = false;
    this.#moved = hub;
    this.#decided();
    await this.#o.discard();
    this.#here = false;
    this.#fence = 0;
    this.#frozen = undefined;
    this.#frozenFor = 0;
    return {};
  }

  #goOn(): AgentReply {
    this.#frozen = undefined;
    this.#frozenFor = 0;
    this.#runs = true;
    this.#decided();
    return {};
  }
}

function failureOf(error: unknown): Failure {
  return error instanceof FoedusError ? error.failure : { reason: "EXECUTOR_FAILED", message: "the agent failed" };
}
