import { create } from "@bufbuild/protobuf";
import { type ClientDuplex, type ClientOf, RawMessage, type StreamOpenInit } from "#channel/call.ts";
import { type Clock, systemClock } from "#channel/clock.ts";
import {
  AttachExecutorRequestSchema,
  type CommandForwardingService,
} from "#gen/foedus/command_forwarding/v1alpha1/command_forwarding_service_pb.ts";
import type { BackoffConfig } from "#kernel/backoff.ts";
import { type Failure, FoedusError, fail } from "#kernel/error.ts";
import { formatParent } from "#kernel/trace-context.ts";
import { valueBytes, valueOf } from "../../services/command-forwarding/codec/codec.ts";
import { decodeTaskFrame, encodeReports, type ReceivedTask } from "../../services/command-forwarding/codec/executor-codec.ts";
import { VALUE_MAX_BYTES } from "../../services/command-forwarding/codec/value.ts";
import { NO_VALUE, type TaskReport } from "../../services/command-forwarding/messages.ts";
import { callProgram, FINAL_REASONS, KeptStream, type OnError, type StreamIdentity, tellError } from "./kept-stream.ts";
import { type PlainValue, plainOf, valueOfPlain } from "./plain.ts";

type Client = ClientOf<typeof CommandForwardingService>;

type Duplex = ClientDuplex<unknown, unknown>;

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
  /** Newest fence of the node if it is an agent that can move, as far as the hub knows; else 0. `AgentHost.run` compares it. */
  readonly agentFence: number;
  /** Trace to go on with (W3C Trace Context), if there is one. */
  readonly traceparent?: string | undefined;
  readonly tracestate?: string | undefined;
}

/** ExecutorAnswer is what became of a task. Reasons VALUE_OUT_OF_RANGE, CAPABILITY_ACCESS, NODE_OFFLINE, MOVED and
 * AGENT_FROZEN say that nothing was done, OUTCOME_UNKNOWN that nobody can tell. */
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
  /** run does a task. A FoedusError that it throws is the task's failure; anything else is EXECUTOR_FAILED, and told to `onError`. */
  readonly run: (task: ExecutorTask) => ExecutorAnswer | Promise<ExecutorAnswer>;
  /** onAttached is called whenever the hub confirmed the offer, with nodes that it refused. */
  readonly onAttached?: (nodes: number, refused: readonly Failure[]) => void;
  /** onDetached is called when the attachment ended; false means that it will not come back by itself. */
  readonly onDetached?: (failure: Failure, willRetry: boolean) => void;
  /** Attachments that replace one another at the hub; by default those of this client. */
  readonly identity?: StreamIdentity;
  /** Told what callbacks threw. */
  readonly onError?: OnError;
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

/** Tasks in flight, if the program does not say, and at most. */
const IN_FLIGHT_DEFAULT = 64;
const IN_FLIGHT_MAX = 4_096;

/** Tasks beyond `maxInFlight` that a hub may send, as one that gives another before it says that the time of the first is over. No honest hub comes near. */
const OVERDUE_MAX = IN_FLIGHT_MAX;

/** Cancels that are kept for tasks that have not come yet: as many as there may be tasks. */
const EARLY_MAX = IN_FLIGHT_MAX;

/**
 * ExecutorClient serves commands of nodes over AttachExecutor. It attaches again after a lost stream, but not after it was replaced.
 *
 * EC1 a task is answered on the stream that it came on, or not at all: each stream numbers its tasks anew.
 * EC2 after `close` no task is begun, nothing is attached that was not, and no callback is called.
 */
export class ExecutorClient {
  readonly #client: Pick<Client, "attachExecutor">;
  readonly #o: ExecutorOptions;
  readonly #clock: Clock;
  readonly #kept: KeptStream<Duplex, unknown>;
  /** Nodes that are offered, and how many of their tasks may be outstanding here. */
  #offered: ReadonlySet<string>;
  readonly #most: number;
  /** Nodes of earlier offers on this stream: their tasks may be on the way. */
  #leaving = new Set<string>();
  #controllers = new Map<number, AbortController>();
  /** Highest task that came, and tasks beyond it that were given up already: a hub may say so first. */
  #newest = 0;
  #early = new Set<number>();
  #reports: TaskReport[] = [];
  #scheduled = false;
  /** The hub has confirmed the offer on the stream that is open. */
  #attached = false;
  #closed = false;

  /** Throws INVALID_FIELD for a `maxInFlight` that no hub takes. */
  constructor(client: Pick<Client, "attachExecutor">, options: ExecutorOptions) {
    const { maxInFlight = 0 } = options;
    if (!Number.isInteger(maxInFlight) || maxInFlight < 0 || maxInFlight > IN_FLIGHT_MAX)
      throw fail("INVALID_FIELD", `maxInFlight must be a whole number from 1 to ${IN_FLIGHT_MAX}, or 0 for 64`, { field: "maxInFlight" });
    this.#client = client;
    this.#o = options;
    this.#clock = options.clock ?? systemClock;
    this.#offered = new Set(options.nodeIds);
    this.#most = (maxInFlight || IN_FLIGHT_DEFAULT) + OVERDUE_MAX;
    this.#kept = new KeptStream({
      clock: this.#clock,
      backoff: options.backoff,
      identity: options.identity,
      open: (number) => this.#attach(number),
      onMessage: (message, duplex) => this.#frame(duplex, (message as RawMessage).bytes),
      onCut: (failure, final) => this.#onCut(failure, !final),
      onReady: () => this.#kept.open(),
      final: FINAL_REASONS,
      onError: options.onError,
    });
    this.#kept.open();
  }

  /** offer serves these nodes from now on, in place of those before. Tasks that are under way go on. */
  offer(nodeIds: Iterable<string>): void {
    if (this.#closed) return;
    for (const nodeId of this.#offered) this.#leaving.add(nodeId);
    this.#offered = new Set(nodeIds);
    for (const nodeId of this.#offered) this.#leaving.delete(nodeId);
    this.#kept.current?.send(create(AttachExecutorRequestSchema, { frame: { case: "attach", value: this.#offer() } }));
  }

  /** whenOver calls a listener when it is closed, or will not be opened again; at once if that is so. */
  whenOver(listener: () => void): void {
    this.#kept.whenOver(listener);
  }

  /** close detaches; what still runs becomes UNKNOWN to its callers. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#flush();
    // An offer that is still on its way would be taken, and detach whoever serves the nodes by then.
    if (!this.#attached) return this.#kept.close();
    this.#kept.current?.end();
    this.#kept.leave();
  }

  #attach(stream: StreamOpenInit): Duplex {
    const duplex = this.#client.attachExecutor({ rawResponses: true }) as Duplex;
    const value = { ...this.#offer(), stream };
    duplex.send(create(AttachExecutorRequestSchema, { frame: { case: "attach", value } }));
    return duplex;
  }

  #offer(): { nodeIds: string[]; capabilities: string[]; maxInFlight: number; shared: boolean } {
    const { capabilities = [], maxInFlight = 0, shared = false } = this.#o;
    return { nodeIds: [...this.#offered], capabilities: [...capabilities], maxInFlight, shared };
  }

  #frame(duplex: Duplex, bytes: Buffer): void {
    const frame = decodeTaskFrame(bytes);
    switch (frame.kind) {
      case "tasks":
        // What was on its way when the executor was closed is UNKNOWN to its callers, and so is what `run` has closed it before.
        for (const task of frame.tasks) if (!this.#closed) this.#run(duplex, task);
        return;
      case "attached":
        this.#kept.worked();
        this.#attached = true;
        if (this.#closed) return;
        return callProgram(this.#o.onError, this.#o.onAttached, frame.nodes, frame.refused);
      case "cancel":
        return this.#cancel(frame.taskId);
      case "detached":
        this.#kept.said(frame.failure);
        return duplex.end();
      case "other":
        return;
    }
  }

  #cancel(taskId: number): void {
    if (taskId <= this.#newest) {
      // For the hub it is over, whether or not `run` ever returns; what it answers is sent all the same.
      this.#controllers.get(taskId)?.abort();
      this.#controllers.delete(taskId);
    } else if (this.#early.size < EARLY_MAX) this.#early.add(taskId);
  }

  /** mustBeAsked throws for a task that no hub gives to this executor: more than it takes, or of a node that it does not offer. */
  #mustBeAsked({ taskId, nodeId }: ReceivedTask): void {
    if (this.#controllers.size + this.#reports.length >= this.#most || this.#controllers.has(taskId))
      throw fail("LIMIT_EXCEEDED", "the hub sent more tasks than this executor takes");
    if (!this.#offered.has(nodeId) && !this.#leaving.has(nodeId))
      throw fail("OUT_OF_SCOPE", "the hub sent a task of a node that this executor does not offer");
  }

  #run(duplex: Duplex, task: ReceivedTask): void {
    this.#mustBeAsked(task);
    const controller = new AbortController();
    const { taskId, nodeId, capability, timeoutMs, callerHubId, trace } = task;
    this.#controllers.set(taskId, controller);
    this.#newest = Math.max(this.#newest, taskId);
    if (this.#early.size > 0 && this.#early.delete(taskId)) controller.abort();
    const done = (report: Omit<TaskReport, "taskId">): void => {
      if (duplex !== this.#kept.current) return;
      this.#controllers.delete(taskId);
      this.#report({ taskId, ...report });
    };
    const failed = (error: unknown): void => {
      if (error instanceof FoedusError) return done({ value: NO_VALUE, failure: error.failure });
      done({ value: NO_VALUE, failure: { reason: "EXECUTOR_FAILED", message: "the executor failed" } });
      // The caller learns no more of it than that.
      tellError(this.#o.onError, error);
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
        agentFence: task.agentFence,
        ...(trace === undefined ? {} : { traceparent: formatParent(trace), tracestate: trace.state }),
      });
      // Promises of other libraries are some, too.
      if ("then" in answer) answer.then(answered, failed);
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
    for (const bytes of encodeReports(this.#reports)) this.#kept.current?.send(new RawMessage(bytes));
    this.#reports = [];
  }

  #onCut(failure: Failure, willRetry: boolean): void {
    for (const controller of this.#controllers.values()) controller.abort();
    this.#controllers = new Map();
    this.#newest = 0;
    this.#early.clear();
    this.#leaving.clear();
    this.#reports = [];
    this.#attached = false;
    if (this.#closed) return this.#kept.close();
    callProgram(this.#o.onError, this.#o.onDetached, failure, willRetry);
  }
}
