import { create } from "@bufbuild/protobuf";
import {
  AttachExecutorRequestSchema,
  type CommandForwardingService,
} from "#gen/foedus/command_forwarding/v1alpha1/command_forwarding_service_pb.ts";
import { type Value, ValueSchema } from "#gen/foedus/common/v1/value_pb.ts";
import { Backoff, type BackoffConfig } from "#kernel/backoff.ts";
import { type Failure, FoedusError, fail } from "#kernel/error.ts";
import { Prng } from "#kernel/prng.ts";
import { formatParent, parseTrace } from "#kernel/trace-context.ts";
import { type Clock, systemClock, type Timer } from "#runtime/clock.ts";
import { systemEntropy } from "#runtime/entropy.ts";
import { type ClientDuplex, type ClientOf, RawMessage } from "#runtime/rpc/call.ts";
import type { CommandOutcome, CommandRequest } from "./automation.ts";
import { valueBytes, valueOf } from "./codec.ts";
import { decodeTaskFrame, encodeReports, type ReceivedTask } from "./executor-codec.ts";
import { type Command, NO_VALUE, OUTCOME, type TaskReport } from "./messages.ts";
import { decodeStreamResponse, encodeStreamRequest, type ReceivedResult } from "./stream-codec.ts";

export type { CommandOutcome, CommandRequest } from "./automation.ts";
export { type CommandName, OUTCOME, OUTCOME_NAMES, type Outcome } from "./messages.ts";

type Client = ClientOf<typeof CommandForwardingService>;

/** PlainValue is a value in JavaScript: number is a double, bigint a signed 64-bit integer, `json` is JSON text. */
export type PlainValue = boolean | number | bigint | string | Uint8Array | { readonly json: string };

/** plainOf reads a Value; undefined for "no value". */
export function plainOf(value: Value | undefined): PlainValue | undefined {
  const kind = value?.kind;
  if (kind?.case === undefined) return undefined;
  return kind.case === "jsonValue" ? { json: kind.value } : kind.value;
}

/** valueOfPlain writes a Value. */
export function valueOfPlain(plain: PlainValue | undefined): Value | undefined {
  if (plain === undefined) return undefined;
  const make = (kind: Value["kind"]): Value => create(ValueSchema, { kind });
  switch (typeof plain) {
    case "boolean":
      return make({ case: "boolValue", value: plain });
    case "number":
      return make({ case: "doubleValue", value: plain });
    case "bigint":
      return make({ case: "intValue", value: plain });
    case "string":
      return make({ case: "stringValue", value: plain });
    default:
      return make(plain instanceof Uint8Array ? { case: "bytesValue", value: plain } : { case: "jsonValue", value: plain.json });
  }
}

/** PlainCommand is a command with its argument as a JavaScript value. */
export interface PlainCommand extends Omit<CommandRequest, "value"> {
  readonly value?: PlainValue;
}

/** OnResult is told what became of a command; it must not throw. */
export type OnResult = (result: ReceivedResult) => void;

const LOST: Failure = { reason: "OUTCOME_UNKNOWN", message: "the stream to the hub was lost before the outcome came" };

/**
 * A burst leaves in two parts, a turn of the event loop apart, so that the hubs and the executor do not wait for each other: one works
 * on the first part while the next has the second. Below this many commands a message of its own costs more than that gains.
 */
const SMALLEST_PART = 64;

const CLOSED: Failure = { reason: "PEER_UNREACHABLE", message: "the channel to the hub was closed" };

/**
 * CommandStream runs many commands over one ExecuteStream: those of one turn of the event loop travel in one message, and so do
 * their results. A lost stream ends what was in flight as UNKNOWN (use idempotency keys to ask again); the next command opens
 * a new one.
 */
export class CommandStream {
  readonly #client: Pick<Client, "executeStream">;
  readonly #clock: Clock;
  readonly #waiting = new Map<number, OnResult>();
  #duplex: ClientDuplex<unknown, unknown> | undefined;
  #commands: Command[] = [];
  #cancels: number[] = [];
  #scheduled = false;
  #closed = false;
  #next = 1;

  constructor(client: Pick<Client, "executeStream">, clock: Clock = systemClock) {
    this.#client = client;
    this.#clock = clock;
  }

  /** inFlight is how many commands have no outcome yet. */
  get inFlight(): number {
    return this.#waiting.size;
  }

  /** execute runs a command; it resolves with the outcome, whatever it is. `signal` cancels the command. */
  execute(command: PlainCommand, signal?: AbortSignal): Promise<CommandOutcome> {
    return new Promise((resolve) => {
      const corr = this.send(command, (received) => {
        signal?.removeEventListener("abort", abort);
        resolve(outcomeOf(received));
      });
      const abort = (): void => this.cancel(corr);
      signal?.addEventListener("abort", abort, { once: true });
      if (signal?.aborted === true) abort();
    });
  }

  /** send is `execute` with a callback, for those who count microseconds; the answer is the command's number, for `cancel`. */
  send(command: PlainCommand, onResult: OnResult): number {
    const { hubId = "", nodeId, capability, value, timeoutMs = 0, idempotencyKey = "", hops = [], traceparent, tracestate } = command;
    const trace = traceparent === undefined ? undefined : parseTrace(traceparent, tracestate);
    return this.sendEncoded(
      { hubId, nodeId, capability, value: valueBytes(valueOfPlain(value)), timeoutMs, key: idempotencyKey, hops, trace },
      onResult,
    );
  }

  /** sendEncoded is `send` of a command whose value is already encoded. */
  sendEncoded(command: Omit<Command, "corr">, onResult: OnResult): number {
    const corr = this.#next++;
    if (this.#closed) {
      onResult({
        corr,
        result: { outcome: OUTCOME.REJECTED, value: NO_VALUE, failure: { reason: "CANCELLED", message: "the stream is closed" } },
        name: undefined,
        durationMs: 0,
        replayed: false,
      });
      return corr;
    }
    this.#waiting.set(corr, onResult);
    const { hubId, nodeId, capability, value, timeoutMs, key, hops, trace } = command;
    this.#commands.push({ corr, hubId, nodeId, capability, value, timeoutMs, key, hops, trace });
    this.#schedule();
    return corr;
  }

  /** cancel gives a command up; its result says whether it came too late. */
  cancel(corr: number): void {
    if (!this.#waiting.has(corr)) return;
    this.#cancels.push(corr);
    this.#schedule();
  }

  /** close ends the stream after what is in flight is answered. */
  close(): void {
    do this.#flush();
    while (this.#commands.length > 0);
    this.#closed = true;
    this.#duplex?.end();
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    this.#clock.setImmediate(() => this.#flush());
  }

  #flush(): void {
    this.#scheduled = false;
    if (this.#commands.length + this.#cancels.length === 0) return;
    // Cancels go with the last part: none may overtake its command.
    const part = this.#commands.splice(0, Math.max(SMALLEST_PART, Math.ceil(this.#waiting.size / 2)));
    const last = this.#commands.length === 0;
    const bytes = encodeStreamRequest(part, last ? this.#cancels : []);
    if (last) this.#cancels = [];
    else this.#schedule();
    try {
      this.#duplex ??= this.#open();
      if (!this.#duplex.send(new RawMessage(bytes))) this.#lost(this.#duplex);
    } catch {
      this.#closed = true;
      this.#end(CLOSED);
    }
  }

  #open(): ClientDuplex<unknown, unknown> {
    const duplex = this.#client.executeStream({ rawResponses: true }) as ClientDuplex<unknown, unknown>;
    void this.#read(duplex);
    return duplex;
  }

  async #read(duplex: ClientDuplex<unknown, unknown>): Promise<void> {
    try {
      for await (const message of duplex.responses)
        for (const received of decodeStreamResponse((message as RawMessage).bytes)) this.#received(received);
      this.#lost(duplex);
    } catch (error) {
      this.#lost(duplex, error);
    }
  }

  #received(received: ReceivedResult): void {
    const onResult = this.#waiting.get(received.corr);
    this.#waiting.delete(received.corr);
    onResult?.(received);
  }

  #lost(duplex: ClientDuplex<unknown, unknown>, error?: unknown): void {
    if (this.#duplex !== duplex) return;
    this.#duplex = undefined;
    const failure: Failure =
      error instanceof FoedusError ? { ...error.failure, facts: { ...error.failure.facts, outcome: "UNKNOWN" } } : LOST;
    this.#end(failure);
  }

  #end(failure: Failure): void {
    for (const corr of [...this.#waiting.keys()])
      this.#received({
        corr,
        result: { outcome: OUTCOME.UNKNOWN, value: NO_VALUE, failure },
        name: undefined,
        durationMs: 0,
        replayed: false,
      });
  }
}

function outcomeOf({ result, name, durationMs, replayed }: ReceivedResult): CommandOutcome {
  return { outcome: result.outcome, failure: result.failure, value: valueOf(result.value), name, durationMs, replayed };
}

/** CommandClient runs commands and gives their values; everything but DONE is a FoedusError with the outcome in its facts. */
export class CommandClient {
  readonly #stream: CommandStream;

  constructor(client: Pick<Client, "executeStream">, clock: Clock = systemClock) {
    this.#stream = new CommandStream(client, clock);
  }

  async execute(command: PlainCommand, signal?: AbortSignal): Promise<PlainValue | undefined> {
    const { outcome, failure, value, name } = await this.#stream.execute(command, signal);
    if (outcome === OUTCOME.DONE) return plainOf(value);
    const { reason, message, ...more } = failure ?? LOST;
    const named = name === undefined ? {} : { command: `${name.hubId}/${name.epoch}/${name.seq}` };
    throw fail(reason, message, { ...more, facts: { ...more.facts, outcome: String(outcome), ...named } });
  }

  close(): void {
    this.#stream.close();
  }
}

/** ExecutorTask is a task as a program gets it. */
export interface ExecutorTask {
  readonly nodeId: string;
  readonly capability: string;
  readonly value: PlainValue | undefined;
  /** Milliseconds left. */
  readonly timeoutMs: number;
  readonly callerHubId: string;
  /** Aborted when the caller gave up or the deadline passed; an answer is still welcome. */
  readonly signal: AbortSignal;
  /** Trace to go on with (W3C Trace Context), if there is one. */
  readonly traceparent?: string | undefined;
  readonly tracestate?: string | undefined;
}

/** ExecutorAnswer is what became of a task. Reasons VALUE_OUT_OF_RANGE, CAPABILITY_ACCESS and NODE_OFFLINE say that nothing was done. */
export type ExecutorAnswer = { readonly value?: PlainValue | undefined; readonly failure?: undefined } | { readonly failure: Failure };

/** ExecutorOptions say what is served. */
export interface ExecutorOptions {
  readonly nodeIds: readonly string[];
  /** Empty or missing: all of the nodes'. */
  readonly capabilities?: readonly string[];
  /** Most tasks in flight; 64 by default, at most 4,096. */
  readonly maxInFlight?: number;
  /** True if others may serve the same; else a newer attach replaces this one. */
  readonly shared?: boolean;
  /** run does a task. A FoedusError that it throws is the task's failure; anything else is EXECUTOR_FAILED. */
  readonly run: (task: ExecutorTask) => ExecutorAnswer | Promise<ExecutorAnswer>;
  /** onAttached is called whenever the hub confirmed the offer, with nodes that it refused. */
  readonly onAttached?: (nodes: number, refused: readonly Failure[]) => void;
  /** onDetached is called when the attachment ended; false means that it will not come back by itself. */
  readonly onDetached?: (failure: Failure, willRetry: boolean) => void;
  readonly clock?: Clock;
  readonly backoff?: BackoffConfig;
}

const RECONNECT: BackoffConfig = { baseMs: 200, maxMs: 10_000, factor: 2, jitter: 0.25 };

/** ExecutorClient serves commands of nodes over AttachExecutor. It attaches again after a lost stream, but not after it was replaced. */
export class ExecutorClient {
  readonly #client: Pick<Client, "attachExecutor">;
  readonly #o: ExecutorOptions;
  readonly #clock: Clock;
  readonly #backoff: Backoff;
  #duplex: ClientDuplex<unknown, unknown> | undefined;
  #controllers = new Map<number, AbortController>();
  #reports: TaskReport[] = [];
  #scheduled = false;
  #timer: Timer | undefined;
  #detached: Failure | undefined;
  #closed = false;

  constructor(client: Pick<Client, "attachExecutor">, options: ExecutorOptions) {
    this.#client = client;
    this.#o = options;
    this.#clock = options.clock ?? systemClock;
    this.#backoff = new Backoff(new Prng(systemEntropy.seed()), options.backoff ?? RECONNECT);
    this.#attach();
  }

  /** close detaches; what still runs becomes UNKNOWN to its callers. */
  close(): void {
    this.#closed = true;
    this.#timer?.cancel();
    this.#flush();
    this.#duplex?.end();
  }

  #attach(): void {
    let duplex: ClientDuplex<unknown, unknown>;
    try {
      duplex = this.#client.attachExecutor({ rawResponses: true }) as ClientDuplex<unknown, unknown>;
    } catch {
      // The channel was closed by its owner: nothing will ever come of it.
      this.#closed = true;
      return this.#o.onDetached?.(CLOSED, false);
    }
    const { nodeIds, capabilities = [], maxInFlight = 0, shared = false } = this.#o;
    const value = { nodeIds: [...nodeIds], capabilities: [...capabilities], maxInFlight, shared };
    this.#duplex = duplex;
    this.#detached = undefined;
    duplex.send(create(AttachExecutorRequestSchema, { frame: { case: "attach", value } }));
    void this.#read(duplex);
  }

  async #read(duplex: ClientDuplex<unknown, unknown>): Promise<void> {
    let failure: Failure = { reason: "PEER_UNREACHABLE", message: "the hub ended the stream" };
    try {
      for await (const message of duplex.responses) this.#frame(duplex, (message as RawMessage).bytes);
    } catch (error) {
      if (error instanceof FoedusError) failure = error.failure;
    }
    this.#ended(this.#detached ?? failure);
  }

  #frame(duplex: ClientDuplex<unknown, unknown>, bytes: Buffer): void {
    const frame = decodeTaskFrame(bytes);
    switch (frame.kind) {
      case "tasks":
        for (const task of frame.tasks) this.#run(duplex, task);
        return;
      case "attached":
        this.#backoff.succeeded();
        return this.#o.onAttached?.(frame.nodes, frame.refused);
      case "cancel":
        return this.#controllers.get(frame.taskId)?.abort();
      case "detached":
        this.#detached = frame.failure;
        return duplex.end();
      case "other":
        return;
    }
  }

  #run(duplex: ClientDuplex<unknown, unknown>, task: ReceivedTask): void {
    const controller = new AbortController();
    const { taskId, nodeId, capability, timeoutMs, callerHubId, trace } = task;
    this.#controllers.set(taskId, controller);
    const done = (report: Omit<TaskReport, "taskId">): void => {
      this.#controllers.delete(taskId);
      if (duplex === this.#duplex) this.#report({ taskId, ...report });
    };
    const answered = (answer: ExecutorAnswer): void => {
      if (answer.failure !== undefined) done({ value: NO_VALUE, failure: answer.failure });
      else done({ value: valueBytes(valueOfPlain(answer.value)), failure: undefined });
    };
    const failed = (error: unknown): void => {
      const failure: Failure = error instanceof FoedusError ? error.failure : { reason: "EXECUTOR_FAILED", message: "the executor failed" };
      done({ value: NO_VALUE, failure });
    };
    try {
      const answer = this.#o.run({
        nodeId,
        capability,
        value: plainOf(valueOf(task.value)),
        timeoutMs,
        callerHubId,
        signal: controller.signal,
        ...(trace === undefined ? {} : { traceparent: formatParent(trace), tracestate: trace.state }),
      });
      if (answer instanceof Promise) answer.then(answered, failed);
      else answered(answer);
    } catch (error) {
      failed(error);
    }
  }

  #report(report: TaskReport): void {
    this.#reports.push(report);
    if (this.#scheduled) return;
    this.#scheduled = true;
    this.#clock.setImmediate(() => this.#flush());
  }

  #flush(): void {
    this.#scheduled = false;
    if (this.#reports.length === 0) return;
    this.#duplex?.send(new RawMessage(encodeReports(this.#reports)));
    this.#reports = [];
  }

  #ended(failure: Failure): void {
    this.#duplex = undefined;
    for (const controller of this.#controllers.values()) controller.abort();
    this.#controllers = new Map();
    this.#reports = [];
    const willRetry = !this.#closed && failure.reason !== "SESSION_REPLACED" && failure.reason !== "ACCESS_DENIED";
    if (!this.#closed) this.#o.onDetached?.(failure, willRetry);
    if (willRetry) this.#timer = this.#clock.setTimer(this.#backoff.failed(this.#clock.mono()), () => this.#attach());
  }
}
