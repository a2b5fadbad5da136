import { create } from "@bufbuild/protobuf";
import type { AttachExecutorRequest } from "#gen/foedus/command_forwarding/v1alpha1/command_forwarding_service_pb.ts";
import {
  AttachExecutorRequestSchema,
  type AttachExecutorResponse,
  AttachExecutorResponseSchema,
} from "#gen/foedus/command_forwarding/v1alpha1/command_forwarding_service_pb.ts";
import { type Failure, FoedusError, fail } from "#kernel/error.ts";
import { formatParent, type TraceContext } from "#kernel/trace-context.ts";
import type { Clock } from "#runtime/clock.ts";
import { type CallContext, type Outbound, RawMessage } from "#runtime/rpc/call.ts";
import { decodeMessage } from "#runtime/rpc/definition.ts";
import { failureToProto } from "#runtime/rpc/failure.ts";
import { validateRequest } from "#runtime/rpc/interceptors/validation.ts";
import { type LocalCommandHandler, valueFrom } from "./automation.ts";
import { isWireError, valueBytes, valueOf } from "./codec.ts";
import { decodeReports, encodeTasks } from "./executor-codec.ts";
import { type CommandEffect, type Input, LOCAL_EXECUTOR, NO_VALUE, type Scope, type Task, type TaskReport } from "./messages.ts";
import type { CommandCalls } from "./turn.ts";

type Tasks = Extract<CommandEffect, { readonly kind: "tasks" }>;

interface Attached {
  readonly out: Outbound<AttachExecutorResponse>;
  tasks: Task[];
  end(failure: Failure): void;
}

/** ExecutorsIo carries tasks to executors, attached or in this process, and their reports back. */
export class ExecutorsIo {
  readonly #clock: Clock;
  readonly #calls: CommandCalls;
  /** atEnd calls back before the inputs of this turn are taken. */
  readonly #atEnd: (run: () => void) => void;
  readonly #onBug: (error: unknown, trace: TraceContext | undefined) => Failure;
  readonly #attached = new Map<number, Attached>();
  readonly #touched = new Set<number>();
  #next = LOCAL_EXECUTOR + 1;
  #handler: LocalCommandHandler | undefined;
  readonly #signals = new Map<number, AbortController>();
  #local: Task[] = [];
  #reports: TaskReport[] = [];

  constructor(parts: {
    readonly clock: Clock;
    readonly calls: CommandCalls;
    readonly atEnd: (run: () => void) => void;
    readonly onBug: (error: unknown, trace: TraceContext | undefined) => Failure;
  }) {
    this.#clock = parts.clock;
    this.#calls = parts.calls;
    this.#atEnd = parts.atEnd;
    this.#onBug = parts.onBug;
  }

  /** setHandler puts the in-process handler in place, or takes it away. */
  setHandler(handler: LocalCommandHandler | undefined): void {
    this.#handler = handler;
    this.#calls.tell({ kind: "handler", present: handler !== undefined }, "handler");
  }

  /** attach serves one AttachExecutor stream until it ends. */
  async attach(requests: AsyncIterable<RawMessage>, out: Outbound<AttachExecutorResponse>, context: CallContext): Promise<void> {
    const id = this.#next++;
    let ended: Failure | undefined;
    const over = Promise.withResolvers<void>();
    this.#attached.set(id, {
      out,
      tasks: [],
      end: (failure) => {
        ended = failure;
        over.resolve();
      },
    });
    try {
      await Promise.race([this.#read(id, requests, context), over.promise]);
    } finally {
      this.#attached.delete(id);
      this.#touched.delete(id);
      this.#calls.tell({ kind: "executor-gone", executor: id });
    }
    if (ended === undefined) return;
    out.send(create(AttachExecutorResponseSchema, { frame: { case: "detached", value: { failure: failureToProto(ended) } } }));
  }

  async #read(id: number, requests: AsyncIterable<RawMessage>, context: CallContext): Promise<void> {
    for await (const { bytes } of requests) {
      const reports = reportsIn(bytes);
      const input: Input = reports === undefined ? this.#offer(id, bytes, context) : { kind: "reports", executor: id, reports };
      const room = this.#calls.offer(input);
      if (room !== undefined) await room;
    }
  }

  #offer(id: number, bytes: Uint8Array, context: CallContext): Input {
    const message = decodeMessage(AttachExecutorRequestSchema, bytes) as AttachExecutorRequest;
    const failure = validateRequest(AttachExecutorRequestSchema, message);
    if (failure !== undefined) throw new FoedusError(failure);
    if (message.frame.case !== "attach") throw fail("INVALID_FIELD", "the first frame must be attach", { field: "frame" });
    const { nodeIds, capabilities, maxInFlight, shared } = message.frame.value;
    return {
      kind: "attach",
      executor: id,
      name: context.caller.name,
      scope: scopeOf(context),
      offer: { nodeIds, capabilities, maxInFlight, shared },
    };
  }

  tasks(effect: Tasks): void {
    if (effect.executor === LOCAL_EXECUTOR) {
      for (const task of effect.items) this.#local.push(task);
      return;
    }
    const attached = this.#attached.get(effect.executor);
    if (attached === undefined) return;
    for (const task of effect.items) attached.tasks.push(task);
    this.#touched.add(effect.executor);
  }

  cancel(executor: number, taskId: number): void {
    if (executor === LOCAL_EXECUTOR) this.#signals.get(taskId)?.abort();
    else
      this.#attached
        .get(executor)
        ?.out.send(create(AttachExecutorResponseSchema, { frame: { case: "cancel", value: { taskId: BigInt(taskId) } } }));
  }

  attachedNow(executor: number, nodes: number, refused: readonly Failure[]): void {
    const value = { nodes, refused: refused.slice(0, 64).map(failureToProto) };
    this.#attached.get(executor)?.out.send(create(AttachExecutorResponseSchema, { frame: { case: "attached", value } }));
  }

  detach(executor: number, failure: Failure): void {
    this.#attached.get(executor)?.end(failure);
  }

  /** detachAll ends every attachment: the hub stops. */
  detachAll(failure: Failure): void {
    for (const attached of this.#attached.values()) attached.end(failure);
  }

  /** flush sends what this turn gathered. */
  flush(): void {
    const mono = this.#clock.mono();
    for (const id of this.#touched) {
      const attached = this.#attached.get(id);
      if (attached === undefined) continue;
      for (const bytes of encodeTasks(attached.tasks, mono)) attached.out.send(new RawMessage(bytes));
      attached.tasks = [];
    }
    this.#touched.clear();
    if (this.#local.length === 0) return;
    const tasks = this.#local;
    this.#local = [];
    for (const task of tasks) this.#run(task);
  }

  #run(task: Task): void {
    const handler = this.#handler;
    if (handler === undefined)
      return this.#report({
        taskId: task.taskId,
        value: NO_VALUE,
        failure: { reason: "NO_EXECUTOR", message: "the handler was taken away" },
      });
    const { taskId, nodeId, capability, callerHubId, trace } = task;
    const signals = this.#signals;
    const clock = this.#clock;
    const input = {
      nodeId,
      capability,
      callerHubId,
      get value() {
        return valueOf(task.value);
      },
      timeoutMs: Math.max(0, task.deadline - clock.mono()),
      get traceparent() {
        return trace === undefined ? undefined : formatParent(trace);
      },
      get tracestate() {
        return trace?.state === "" ? undefined : trace?.state;
      },
      // Made when it is asked for: most handlers are done before anyone could give up.
      get signal() {
        let controller = signals.get(taskId);
        if (controller === undefined) signals.set(taskId, (controller = new AbortController()));
        return controller.signal;
      },
    };
    try {
      const answer = handler(input);
      if (answer instanceof Promise)
        answer.then(
          (value) => this.#done(task, value),
          (error) => this.#failed(task, error),
        );
      else this.#done(task, answer);
    } catch (error) {
      this.#failed(task, error);
    }
  }

  /** done takes what the handler answered; what is no value, such as a fraction for an integer, is a failure of the handler. */
  #done(task: Task, answer: Parameters<typeof valueFrom>[0]): void {
    let value: Uint8Array;
    try {
      value = valueBytes(valueFrom(answer));
    } catch (error) {
      return this.#failed(task, error);
    }
    this.#report({ taskId: task.taskId, value, failure: undefined });
  }

  #failed({ taskId, trace }: Task, error: unknown): void {
    this.#report({ taskId, value: NO_VALUE, failure: error instanceof FoedusError ? error.failure : this.#onBug(error, trace) });
  }

  #report(report: TaskReport): void {
    this.#signals.delete(report.taskId);
    if (this.#reports.length === 0)
      this.#atEnd(() => {
        const reports = this.#reports;
        this.#reports = [];
        this.#calls.tell({ kind: "reports", executor: LOCAL_EXECUTOR, reports });
      });
    this.#reports.push(report);
  }
}

function reportsIn(bytes: Uint8Array): TaskReport[] | undefined {
  try {
    return decodeReports(bytes);
  } catch (cause) {
    if (!isWireError(cause)) throw cause;
    throw fail("INVALID_FIELD", "the bytes are not a valid AttachExecutorRequest", { cause });
  }
}

function scopeOf({ caller }: CallContext): Scope {
  return caller.kind === "node" ? { kind: "node", nodeId: caller.name } : { kind: "gateway", prefixes: caller.prefixes };
}
