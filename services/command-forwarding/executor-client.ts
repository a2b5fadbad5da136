import { create } from "@bufbuild/protobuf";
import {
  AttachExecutorRequestSchema,
  type CommandForwardingService,
} from "#gen/foedus/command_forwarding/v1alpha1/command_forwarding_service_pb.ts";
import { Backoff, type BackoffConfig } from "#kernel/backoff.ts";
import { type Failure, FoedusError, fail } from "#kernel/error.ts";
import { Prng } from "#kernel/prng.ts";
import { formatParent } from "#kernel/trace-context.ts";
import { type Clock, systemClock, type Timer } from "#runtime/clock.ts";
import { systemEntropy } from "#runtime/entropy.ts";
import { type ClientDuplex, type ClientOf, RawMessage } from "#runtime/rpc/call.ts";
import { valueBytes, valueOf } from "./codec.ts";
import { decodeTaskFrame, encodeReports, type ReceivedTask } from "./executor-codec.ts";
import { NO_VALUE, type TaskReport } from "./messages.ts";
import { type PlainValue, plainOf, valueOfPlain } from "./plain.ts";
import { VALUE_MAX_BYTES } from "./value.ts";

type Client = ClientOf<typeof CommandForwardingService>;

/** CLOSED is why nothing comes back when whoever made the channel to the hub has closed it. */
export const CLOSED: Failure = { reason: "PEER_UNREACHABLE", message: "the channel to the hub was closed" };

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

/** reportOf throws for an answer that is none, such as an integer of more than 64 bits. */
function reportOf(answer: ExecutorAnswer): Omit<TaskReport, "taskId"> {
  if (answer.failure !== undefined) return { value: NO_VALUE, failure: answer.failure };
  const value = valueBytes(valueOfPlain(answer.value));
  if (value.length > VALUE_MAX_BYTES) throw fail("EXECUTOR_FAILED", "it ran, and answered with a value that is too long");
  return { value, failure: undefined };
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
    const failed = (error: unknown): void => {
      const failure: Failure = error instanceof FoedusError ? error.failure : { reason: "EXECUTOR_FAILED", message: "the executor failed" };
      done({ value: NO_VALUE, failure });
    };
    const answered = (answer: ExecutorAnswer): void => {
      try {
        done(reportOf(answer));
      } catch (error) {
        failed(error);
      }
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
    for (const bytes of encodeReports(this.#reports)) this.#duplex?.send(new RawMessage(bytes));
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
