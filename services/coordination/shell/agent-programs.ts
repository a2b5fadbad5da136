import { createHash } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import type { Outbound } from "#channel/call.ts";
import type { Clock } from "#channel/clock.ts";
import { failureToProto } from "#channel/failure.ts";
import {
  type AgentHosts,
  type AgentPart,
  type CheckpointHead,
  type HostAgentsRequest,
  type HostAgentsResponse,
  HostAgentsResponseSchema,
} from "#gen/foedus/coordination/v1alpha1/agents_pb.ts";
import { type Failure, fail } from "#kernel/error.ts";
import type { CallContext, Caller } from "#runtime/rpc/call.ts";
import { type Fenced, FencedStreams } from "#runtime/rpc/server/fenced-streams.ts";
import {
  askToProto,
  checkpointOf,
  type Digests,
  digestBytesOf,
  hostedToProto,
  offerFromProto,
  partsOf,
  partToProto,
  replyFromProto,
  sizeOf,
  stageToProto,
  unstageToProto,
} from "../codec/agents.ts";
import type { Laid } from "../migration/checkpoint/checkpoint.ts";
import type { AgentEffect, AgentInput, AskSpec } from "../migration/hosting/messages.ts";
import { CHECKPOINT_MAX } from "../migration/hosting/sagas.ts";
import type { Sealing } from "./sealing.ts";

/** Bytes for a program that are not written yet, above which a checkpoint waits. */
const AHEAD_BYTES = 1024 * 1024;

interface Staged {
  readonly transfer: number;
  readonly checkpoint: Laid;
  readonly digest: Uint8Array;
}

interface Asked extends Pick<AskSpec, "agent" | "deed" | "transfer"> {
  /** All of a start that went as what differs from what was staged: the program may not have that. */
  readonly whole?: AskSpec;
}

interface Program extends Fenced {
  readonly id: number;
  readonly out: Outbound<HostAgentsResponse>;
  /** What is sent to it, one after the other: a checkpoint has many messages. */
  line: Promise<void>;
  /** Asks that it has not answered. */
  readonly asked: Map<number, Asked>;
  /** The answer that is coming in parts: its bytes, and how many of them are there. */
  coming: { readonly ask: number; readonly head: CheckpointHead; readonly bytes: Buffer; filled: number } | undefined;
  /** The last checkpoint of each agent that moves, and of which move: the next one says what of it is the same. */
  readonly bases: Map<string, { readonly transfer: number; readonly bytes: Buffer }>;
  /** It keeps what is staged; and what it was shown last of each agent that may come, by which a start is short. */
  stages: boolean;
  readonly staged: Map<string, Staged>;
  leave: (() => void) | undefined;
  end(failure: Failure): void;
}

/** AgentPrograms are the streams of programs that have agents, and what is sealed and opened for those that move. */
export class AgentPrograms {
  readonly #offer: (input: AgentInput, bytes: number) => Promise<void> | undefined;
  readonly #tell: (input: AgentInput) => void;
  readonly #sealing: Promise<Sealing>;
  readonly #programs = new Map<number, Program>();
  readonly #fences: FencedStreams<Program>;
  #next = 1;

  /** `offer` gives the core an input that its sender can hold back, `tell` one that must not be lost (calls.ts). */
  constructor(parts: {
    readonly clock: Clock;
    readonly offer: (input: AgentInput, bytes: number) => Promise<void> | undefined;
    readonly tell: (input: AgentInput) => void;
    readonly sealing: Promise<Sealing>;
  }) {
    this.#offer = parts.offer;
    this.#tell = parts.tell;
    this.#sealing = parts.sealing;
    this.#fences = new FencedStreams(parts.clock);
  }

  /** attach serves one HostAgents stream until it ends. */
  async attach(requests: AsyncIterable<HostAgentsRequest>, out: Outbound<HostAgentsResponse>, context: CallContext): Promise<void> {
    const id = this.#next++;
    const over = Promise.withResolvers<void>();
    let ended: Failure | undefined;
    const end = (failure: Failure): void => {
      ended ??= failure;
      // Before what a newer stream says: its agents are free.
      if (this.#programs.delete(id)) this.#tell({ kind: "host_gone", host: id });
      over.resolve();
    };
    const program: Program = {
      id,
      out,
      line: Promise.resolve(),
      asked: new Map(),
      coming: undefined,
      bases: new Map(),
      stages: false,
      staged: new Map(),
      leave: undefined,
      end,
      fence: end,
    };
    this.#programs.set(id, program);
    try {
      await Promise.race([this.#read(program, requests, context), over.promise]);
    } finally {
      program.leave?.();
      if (this.#programs.delete(id)) this.#tell({ kind: "host_gone", host: id });
    }
    if (ended !== undefined)
      out.send(create(HostAgentsResponseSchema, { frame: { case: "unhosted", value: { failure: failureToProto(ended) } } }));
  }

  /** execute does what the core wants of programs and keys. */
  execute(effect: AgentEffect): void {
    switch (effect.kind) {
      case "hosted":
        return this.#send(effect.host, async ({ out }) => void out.send(hostedToProto(effect.agents)));
      case "ask":
        return this.#ask(effect.host, effect.ask, effect.spec);
      case "stage":
        return this.#stage(effect.host, effect.agent, effect.transfer, effect.checkpoint);
      case "unstage":
        return this.#unstage(effect.agent, effect.transfer);
      case "seal":
        return void this.#seal(effect);
      case "open":
        return void this.#open(effect);
    }
  }

  /** endAll ends all streams. */
  endAll(failure: Failure): void {
    for (const program of [...this.#programs.values()]) program.end(failure);
  }

  async #read(program: Program, requests: AsyncIterable<HostAgentsRequest>, { caller }: CallContext): Promise<void> {
    let first = true;
    for await (const { frame } of requests) {
      if (!this.#programs.has(program.id)) return;
      if (first && frame.case !== "hosts") throw fail("INVALID_FIELD", "a program says first which agents it has", { field: "hosts" });
      const room = this.#frame(program, frame, caller, first);
      if (room !== undefined) await room;
      first = false;
    }
  }

  #frame(program: Program, frame: HostAgentsRequest["frame"], caller: Caller, first: boolean): Promise<void> | undefined {
    switch (frame.case) {
      case "hosts":
        return this.#hosts(program, frame.value, caller, first);
      case "answer": {
        const ask = Number(frame.value.ask);
        if (!program.asked.has(ask) || program.coming !== undefined)
          throw fail("INVALID_FIELD", "nothing was asked under this number", { field: "answer.ask" });
        const { head } = frame.value;
        if (head === undefined) return this.#replied(program, ask, { reply: replyFromProto(frame.value), bytes: 0 });
        const size = sizeOf(head);
        // What follows has no place to go to, and the agent stays.
        if (size > CHECKPOINT_MAX) throw fail("LIMIT_EXCEEDED", TOO_LARGE, { field: "answer.head" });
        program.coming = { ask, head, bytes: Buffer.allocUnsafe(size), filled: 0 };
        return size === 0 ? this.#complete(program) : undefined;
      }
      case "part":
        return this.#part(program, frame.value);
      default:
        throw fail("INVALID_FIELD", "the message has no frame that this hub knows", { field: "frame" });
    }
  }

  #hosts(program: Program, hosts: AgentHosts, caller: Caller, first: boolean): Promise<void> | undefined {
    if (hosts.stream !== undefined) {
      if (!first) throw fail("INVALID_FIELD", "a stream is numbered by its first message", { field: "hosts.stream" });
      program.leave = this.#fences.enter(caller, hosts.stream, program).leave;
    }
    const foreign = hosts.agents.find(({ agent }) => !maySpeakFor(caller, agent));
    if (foreign !== undefined)
      throw fail("ACCESS_DENIED", `the certificate of this program is not for the node ${foreign.agent}`, { field: "hosts.agents" });
    program.stages = hosts.stages;
    return this.#offer({ kind: "host", host: program.id, principal: caller.spiffeId, offer: offerFromProto(hosts) }, 0);
  }

  #part(program: Program, { ask, data, same }: AgentPart): Promise<void> | undefined {
    const { coming } = program;
    const length = data.length + same;
    if (coming === undefined || coming.ask !== Number(ask) || length === 0 || length > coming.bytes.length - coming.filled)
      throw fail("INVALID_FIELD", "these bytes belong to no checkpoint that was announced", { field: "part" });
    coming.bytes.set(data, coming.filled);
    coming.filled += data.length;
    if (same > 0) {
      const { agent, transfer } = program.asked.get(coming.ask)!;
      const base = program.bases.get(agent);
      if (base?.transfer !== transfer || base.bytes.length < coming.filled + same)
        throw fail("INVALID_FIELD", "there was no checkpoint before that has these bytes", { field: "part.same" });
      base.bytes.copy(coming.bytes, coming.filled, coming.filled, coming.filled + same);
      coming.filled += same;
    }
    return coming.filled === coming.bytes.length ? this.#complete(program) : undefined;
  }

  #complete(program: Program): Promise<void> | undefined {
    const { ask, head, bytes } = program.coming!;
    program.coming = undefined;
    const { agent, transfer } = program.asked.get(ask)!;
    program.bases.set(agent, { transfer, bytes });
    return this.#replied(program, ask, { reply: { checkpoint: checkpointOf(head, bytes) }, bytes: bytes.length });
  }

  #replied(
    program: Program,
    ask: number,
    { reply, bytes }: { readonly reply: Extract<AgentInput, { kind: "replied" }>["reply"]; readonly bytes: number },
  ): Promise<void> | undefined {
    const spec = program.asked.get(ask);
    if (spec?.deed === "START") program.staged.delete(spec.agent);
    if (spec?.whole !== undefined && reply.failure?.reason === "CHECKPOINT_INVALID") return void this.#ask(program.id, ask, spec.whole);
    program.asked.delete(ask);
    if (spec?.deed === "RESUME" || spec?.deed === "DISCARD") program.bases.delete(spec.agent);
    return this.#offer({ kind: "replied", host: program.id, ask, reply }, bytes);
  }

  #ask(host: number, ask: number, spec: AskSpec): void {
    const program = this.#programs.get(host);
    if (program === undefined) return;
    const { agent, deed, transfer, checkpoint } = spec;
    const base = deed === "START" ? program.staged.get(agent) : undefined;
    const short = base?.transfer === transfer ? base : undefined;
    program.asked.set(ask, { agent, deed, transfer, ...(short === undefined ? {} : { whole: spec }) });
    const digests = deed === "START" && program.stages && checkpoint !== undefined ? digestsOf(checkpoint, short) : undefined;
    this.#sendAll(host, askToProto(ask, spec, digests), ask, checkpoint, short?.checkpoint);
  }

  #stage(host: number, agent: string, transfer: number, checkpoint: Laid): void {
    const program = this.#programs.get(host);
    if (program?.stages !== true) return;
    const before = program.staged.get(agent);
    const base = before?.transfer === transfer ? before : undefined;
    const digests = digestsOf(checkpoint, base);
    program.staged.set(agent, { transfer, checkpoint, digest: digests.digest });
    this.#sendAll(host, stageToProto(agent, transfer, checkpoint, digests), 0, checkpoint, base?.checkpoint);
  }

  #unstage(agent: string, transfer: number): void {
    for (const { id, staged } of this.#programs.values()) {
      if (staged.get(agent)?.transfer !== transfer) continue;
      staged.delete(agent);
      this.#send(id, async ({ out }) => void out.send(unstageToProto(agent, transfer)));
    }
  }

  /** sendAll sends a message, and the parts of a checkpoint behind it. */
  #sendAll(host: number, first: HostAgentsResponse, ask: number, checkpoint: Laid | undefined, base: Laid | undefined): void {
    this.#send(host, async ({ out }) => {
      out.send(first);
      if (checkpoint === undefined) return;
      for (const part of partsOf(checkpoint, base)) {
        out.send(partToProto(ask, part));
        if (out.bufferedBytes > AHEAD_BYTES) await out.drained();
        if (out.closed) return;
      }
    });
  }

  #send(host: number, send: (program: Program) => Promise<void>): void {
    const program = this.#programs.get(host);
    if (program === undefined) return;
    program.line = program.line.then(() => (this.#programs.has(host) ? send(program) : undefined));
  }

  async #seal({ transfer, round, numbers, key, info, aad, raw }: Extract<AgentEffect, { kind: "seal" }>): Promise<void> {
    const parcel = await (await this.#sealing).seal(key, info, aad, raw);
    this.#tell({ kind: "sealed", transfer, round, numbers, parcel });
  }

  async #open(effect: Extract<AgentEffect, { kind: "open" }>): Promise<void> {
    const { transfer, round, numbers, enc, sealed, info, aad, rawLength } = effect;
    const raw = await (await this.#sealing).open({ enc, sealed }, info, aad, rawLength);
    this.#tell({ kind: "opened", transfer, round, numbers, raw });
  }
}

const TOO_LARGE = `a checkpoint that moves has at most ${CHECKPOINT_MAX / 1024 / 1024} MiB; keep what is larger elsewhere`;

/** digestsOf are those of a checkpoint that is sent, and of what was staged before it. */
function digestsOf(checkpoint: Laid, base: Staged | undefined): Digests {
  return { digest: createHash("sha256").update(digestBytesOf(checkpoint)).digest(), base: base?.digest ?? NOTHING };
}

const NOTHING = new Uint8Array(0);

function maySpeakFor({ kind, name, prefixes }: Caller, agent: string): boolean {
  if (kind === "node") return agent === name;
  return prefixes.length === 0 || prefixes.some((prefix) => agent.startsWith(prefix));
}
