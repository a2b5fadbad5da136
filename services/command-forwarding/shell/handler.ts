import { create } from "@bufbuild/protobuf";
import { whenAborted } from "#channel/abort.ts";
import { type Outbound, RawMessage } from "#channel/call.ts";
import type { Clock } from "#channel/clock.ts";
import { decodeMessage } from "#channel/messages.ts";
import {
  CommandForwardingService,
  ExecuteResponseSchema,
  type ExecuteStreamResponse,
  GetCommandResponseSchema,
} from "#gen/foedus/command_forwarding/v1alpha1/command_forwarding_service_pb.ts";
import type { Command as ProtoCommand } from "#gen/foedus/command_forwarding/v1alpha1/command_pb.ts";
import { type SessionFrame, type SessionRequest, SessionRequestSchema } from "#gen/foedus/command_forwarding/v1alpha1/session_pb.ts";
import { type Failure, FoedusError, fail } from "#kernel/error.ts";
import { bind, type CallContext, type Caller, type ServiceBinding } from "#runtime/rpc/call.ts";
import { type Fenced, FencedStreams } from "#runtime/rpc/server/fenced-streams.ts";
import type { PeerLinks } from "#runtime/sessions/peer-links.ts";
import { UNARY_CLIENT } from "../caller/pending.ts";
import { isWireError, nameFromProto, resultToProto, traceFromProto, valueBytes } from "../codec/codec.ts";
import { decodeStreamRequest, encodeStreamResponse } from "../codec/stream-codec.ts";
import type { CommandCore } from "../core.ts";
import { type Command, type Input, NO_VALUE, OUTCOME, OUTCOME_NAMES, type Reply } from "../messages.ts";
import type { ExecutorsIo } from "./executors-io.ts";
import type { CommandTraces } from "./traces.ts";
import type { CommandCalls } from "./turn.ts";

/** Results that a client does not read are bounded by this and by what it may have in flight. */
const UNREAD_BYTES = 1024 * 1024;
/** Commands of one message that the core takes in one turn of the event loop: some milliseconds of work. */
const STEP_COMMANDS = 1_024;

interface Stream extends Fenced {
  readonly client: number;
  readonly out: Outbound<ExecuteStreamResponse>;
  replies: Reply[];
  /** Commands without a reply. */
  open: number;
  /** Called when the last reply is sent, once the client has finished. */
  onIdle: (() => void) | undefined;
  /** Set when a newer stream took its place: nothing more is taken from it. */
  fenced: Failure | undefined;
  leave: (() => void) | undefined;
}

/** HandlerParts are what the RPCs work with. */
export interface HandlerParts {
  readonly core: CommandCore;
  readonly clock: Clock;
  readonly calls: CommandCalls;
  readonly executors: ExecutorsIo;
  readonly links: () => PeerLinks<SessionFrame>;
  /** Undefined while tracing is off. */
  readonly traces: CommandTraces | undefined;
}

/** CommandHandler serves callers: it posts their commands and carries the replies back. */
export class CommandHandler {
  readonly #p: HandlerParts;
  readonly #streams = new Map<number, Stream>();
  readonly #touched = new Set<number>();
  readonly #fences: FencedStreams<Stream>;
  #nextClient = UNARY_CLIENT + 1;

  constructor(parts: HandlerParts) {
    this.#p = parts;
    this.#fences = new FencedStreams(parts.clock);
  }

  /** binding serves the RPCs. Hot streams come as bytes: their fields are checked here and by the core. */
  binding(): ServiceBinding {
    const refused = (caller: Caller, failure: Failure): void => this.#denied(caller, failure);
    const binding = bind(
      CommandForwardingService,
      {
        execute: async (request, context) => {
          const reply = await this.run(commandFromProto(request.command as ProtoCommand, context), context.caller.spiffeId, context.signal);
          if (reply.result.outcome === OUTCOME.DONE) return create(ExecuteResponseSchema, { result: resultToProto(reply) });
          throw new FoedusError(failureOfReply(reply));
        },
        executeStream: (requests, out, context) => this.#stream(requests, out, context),
        attachExecutor: (requests, out, context) => this.#p.executors.attach(requests, out, context),
        getCommand: (request) => {
          const name = nameFromProto(request.name as NonNullable<typeof request.name>);
          const known = this.#p.core.lookup(name);
          if (known === undefined) throw fail("POSITION_EXPIRED", "nothing is known of this command any more");
          const { result, durationMs, replayed } = known;
          return create(
            GetCommandResponseSchema,
            result === undefined ? { pending: true } : { result: resultToProto({ result, name, durationMs, replayed }) },
          );
        },
        session: (requests, out, context) => this.#p.links().accept(decoded(requests), out, context),
      },
      ["executeStream", "attachExecutor", "session"],
    );
    return { ...binding, refused: { execute: refused, executeStream: refused } };
  }

  /** denied tells the audit of a caller who was refused before its commands were read. */
  #denied({ spiffeId: principal }: Caller, failure: Failure): void {
    const merge = (older: Input, newer: Input): Input =>
      older.kind === "denied" && newer.kind === "denied" ? { ...newer, times: older.times + newer.times } : newer;
    this.#p.calls.tell({ kind: "denied", principal, failure, times: 1 }, `denied ${principal}`, merge);
  }

  /** run gives the core one command and resolves with its reply. An abort cancels it. */
  async run(command: Omit<Command, "corr">, principal: string, signal?: AbortSignal): Promise<Reply> {
    const { calls, traces } = this.#p;
    let corr = 0;
    const reply = calls.ask((call) => {
      corr = call;
      const submitted: Command = { ...command, corr };
      traces?.accepted([submitted]);
      return { kind: "execute", client: UNARY_CLIENT, principal, commands: [submitted] };
    });
    if (signal === undefined) return reply;
    const abort = (): void => calls.tell({ kind: "cancel", client: UNARY_CLIENT, corrs: [corr] });
    whenAborted(signal, abort);
    try {
      return await reply;
    } finally {
      signal.removeEventListener("abort", abort);
    }
  }

  reply(reply: Reply): void {
    if (reply.client !== UNARY_CLIENT) {
      const stream = this.#streams.get(reply.client);
      if (stream === undefined) return;
      stream.replies.push(reply);
      stream.open--;
      this.#touched.add(reply.client);
      return;
    }
    this.#p.calls.answer(reply.corr, reply);
  }

  /** end answers UNKNOWN to every caller that still waits: the hub is stopping and must not leave any of them waiting (S0-12). */
  end(failure: Failure): void {
    const result = { outcome: OUTCOME.UNKNOWN, value: NO_VALUE, failure };
    const replyTo = (corr: number): Reply => ({
      kind: "reply",
      client: UNARY_CLIENT,
      corr,
      result,
      name: undefined,
      durationMs: 0,
      replayed: false,
    });
    this.#p.calls.end(failure, replyTo);
  }

  /** flush sends the streams' results of this turn. */
  flush(): void {
    for (const client of this.#touched) {
      const stream = this.#streams.get(client);
      if (stream === undefined) continue;
      for (const bytes of encodeStreamResponse(stream.replies)) stream.out.send(new RawMessage(bytes));
      stream.replies = [];
      if (stream.open === 0) stream.onIdle?.();
    }
    this.#touched.clear();
  }

  async #stream(requests: AsyncIterable<RawMessage>, out: Outbound<ExecuteStreamResponse>, context: CallContext): Promise<void> {
    const { calls } = this.#p;
    const client = this.#nextClient++;
    const over = Promise.withResolvers<never>();
    const fence = (failure: Failure): void => {
      stream.fenced = failure;
      // Now, and not when its handler has ended: what of it waits for its turn must not run after what the newer stream brings.
      calls.tell({ kind: "client-gone", client });
      over.reject(new FoedusError(failure));
    };
    const stream: Stream = { client, out, replies: [], open: 0, onIdle: undefined, fenced: undefined, leave: undefined, fence };
    this.#streams.set(client, stream);
    try {
      await Promise.race([this.#serve(stream, requests, context), over.promise]);
    } finally {
      stream.leave?.();
      this.#streams.delete(client);
      this.#touched.delete(client);
      calls.tell({ kind: "client-gone", client });
    }
  }

  /** nextTurn resolves when the core has taken what this turn brought, and all else had its turn. */
  #nextTurn(): Promise<void> {
    return new Promise((resolve) => void this.#p.clock.setImmediate(resolve));
  }

  #requestIn(bytes: Uint8Array, caller: Caller): ReturnType<typeof decodeStreamRequest> {
    try {
      return decodeStreamRequest(bytes);
    } catch (cause) {
      if (!isWireError(cause)) throw cause;
      const error = fail("INVALID_FIELD", "the bytes are not a valid ExecuteStreamRequest", { cause });
      this.#denied(caller, error.failure);
      throw error;
    }
  }

  async #serve(stream: Stream, requests: AsyncIterable<RawMessage>, { caller, signal }: CallContext): Promise<void> {
    const { calls, traces } = this.#p;
    const { client, out } = stream;
    const stands = (): boolean => this.#streams.get(client) === stream && stream.fenced === undefined;
    let first = true;
    for await (const { bytes } of requests) {
      if (!stands()) return;
      const { commands, cancels, open } = this.#requestIn(bytes, caller);
      if (open !== undefined) {
        if (!first) throw fail("INVALID_FIELD", "a stream is numbered by its first message", { field: "stream" });
        stream.leave = this.#fences.enter(caller, open, stream).leave;
      }
      first = false;
      traces?.accepted(commands);
      stream.open += commands.length;
      for (let from = 0; from < commands.length; from += STEP_COMMANDS) {
        if (from > 0) await this.#nextTurn();
        if (!stands()) return;
        const part = commands.length <= STEP_COMMANDS ? commands : commands.slice(from, from + STEP_COMMANDS);
        const input = { kind: "execute", client, principal: caller.spiffeId, commands: part } as const;
        const room = calls.offer(input, from === 0 ? bytes.length : 0, stands);
        if (room !== undefined) await room;
      }
      if (cancels.length > 0) await calls.offer({ kind: "cancel", client, corrs: cancels }, bytes.length, stands);
      if (out.bufferedBytes > UNREAD_BYTES) await out.drained();
    }
    if (stream.open > 0) await answered(stream, signal);
  }
}

/** answered resolves when every command of a stream has its reply; an abort rejects, and cancels what is left. */
function answered(stream: Stream, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const abort = (): void => reject(signal.reason);
    stream.onIdle = () => {
      signal.removeEventListener("abort", abort);
      resolve();
    };
    whenAborted(signal, abort);
  });
}

/** Part of a gRPC deadline that is kept back, so that the answer arrives before the client's own timer fires. */
const DEADLINE_MARGIN_MS = 100;

function deadlineOf(context: CallContext): number {
  const { timeoutMs } = context;
  if (timeoutMs === undefined) return 0;
  return Math.max(1, Math.floor(timeoutMs - Math.min(DEADLINE_MARGIN_MS, timeoutMs / 5)));
}

/** What the command itself says of its trace wins over the metadata of the call. */
function commandFromProto(command: ProtoCommand, context: CallContext): Omit<Command, "corr"> {
  const { target, capability, value, timeoutMs, idempotencyKey, hops, trace } = command;
  return {
    hubId: target?.hubId ?? "",
    nodeId: target?.nodeId ?? "",
    capability,
    value: valueBytes(value),
    timeoutMs: timeoutMs === 0 ? deadlineOf(context) : timeoutMs,
    key: idempotencyKey,
    hops,
    trace: traceFromProto(trace) ?? context.trace,
  };
}

/** failureOfReply is how an outcome other than DONE leaves a unary call: its reason, and the command's name and outcome as facts. */
export function failureOfReply({ result, name }: Reply): Failure {
  const failure: Failure = result.failure ?? { reason: "OUTCOME_UNKNOWN", message: "no outcome is known" };
  const named = name === undefined ? {} : { command: `${name.hubId}/${name.epoch}/${name.seq}` };
  return { ...failure, facts: { ...failure.facts, outcome: OUTCOME_NAMES[result.outcome], ...named } };
}

async function* decoded(requests: AsyncIterable<RawMessage>): AsyncGenerator<SessionRequest> {
  for await (const { bytes } of requests) yield decodeMessage(SessionRequestSchema, bytes) as SessionRequest;
}
