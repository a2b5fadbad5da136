import { create } from "@bufbuild/protobuf";
import { type Outbound, RawMessage } from "#channel/call.ts";
import type { Clock } from "#channel/clock.ts";
import { failureToProto } from "#channel/failure.ts";
import {
  type AttachExecutorResponse,
  AttachExecutorResponseSchema,
} from "#gen/foedus/command_forwarding/v1alpha1/command_forwarding_service_pb.ts";
import { type Failure, FoedusError, fail } from "#kernel/error.ts";
import { formatParent, type TraceContext } from "#kernel/trace-context.ts";
import type { CallContext } from "#runtime/rpc/call.ts";
import { type Fenced, FencedStreams } from "#runtime/rpc/server/fenced-streams.ts";
import { decodeAttach } from "../codec/attach-codec.ts";
import { isWireError, valueBytes, valueOf } from "../codec/codec.ts";
import { decodeReports, encodeTasks } from "../codec/executor-codec.ts";
import { valueFrom } from "../codec/request.ts";
import { type CommandEffect, type Input, LOCAL_EXECUTOR, NO_VALUE, type Scope, type Task, type TaskReport } from "../messages.ts";
import { AttachPace } from "./attach-pace.ts";
import type { LocalCommandHandler } from "./automation.ts";
import type { CommandCalls } from "./turn.ts";

type Tasks = Extract<CommandEffect, { readonly kind: "tasks" }>;

interface Attached extends Fenced {
  readonly id: number;
  readonly out: Outbound<AttachExecutorResponse>;
  tasks: Task[];
  /** Tasks that were given up: said after the tasks of the same turn, which may be among them. */
  cancels: number[];
  leave: (() => void) | undefined;
  /** A newer stream of its group takes its place at the core, so that its nodes are never without an executor. */
  replaced: boolean;
  /** Its attach was given to the core, or waits for room there. */
  offered: boolean;
  /** Older streams of its group whose place it takes, until it has. */
  replaces: readonly number[];
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
  /** Executors that are given nothing any more, with the tasks for them since then: until the core has given them the last one. */
  readonly #undelivered = new Map<number, number[]>();
  readonly #fences: FencedStreams<Attached>;
  readonly #pace: AttachPace;
  #next = LOCAL_EXECUTOR + 1;
  #handler: LocalCommandHandler | undefined;
  /** Signals of tasks that the handler has in hand, as far as anybody asked for them. */
  readonly #signals = new Map<number, AbortController>();
  /** Tasks whose handler has not answered yet. */
  readonly #inHand = new Set<number>();
  /** Tasks of this turn that were given up before they ran. */
  readonly #givenUp = new Set<number>();
  #local: Task[] = [];
  #reports: TaskReport[] = [];

  constructor(parts: {
    readonly clock: Clock;
    readonly calls: CommandCalls;
    readonly atEnd: (run: () => void) => void;
    readonly onBug: (error: unknown, trace: TraceContext | undefined) => Failure;
  }) {
    this.#clock = parts.clock;
    this.#fences = new FencedStreams(parts.clock);
    this.#pace = new AttachPace(parts.clock);
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
    const end = (failure: Failure): void => {
      ended ??= failure;
      over.resolve();
    };
    const attached: Attached = {
      id,
      out,
      tasks: [],
      cancels: [],
      leave: undefined,
      replaced: false,
      offered: false,
      replaces: [],
      end,
      fence: end,
    };
    this.#attached.set(id, attached);
    try {
      await Promise.race([this.#read(attached, requests, context), over.promise]);
    } finally {
      attached.leave?.();
      this.#attached.delete(id);
      this.#touched.delete(id);
      if (!attached.replaced) {
        this.#hold(attached);
        this.#calls.tell({ kind: "executor-gone", executor: id });
      }
    }
    if (ended === undefined) return;
    out.send(create(AttachExecutorResponseSchema, { frame: { case: "detached", value: { failure: failureToProto(ended) } } }));
  }

  async #read(attached: Attached, requests: AsyncIterable<RawMessage>, context: CallContext): Promise<void> {
    const { id } = attached;
    // What waits for room when the stream ends must not come after its end: nobody would ever take the attachment back.
    const stands = (): boolean => !attached.replaced && this.#attached.get(id) === attached;
    let first = true;
    for await (const { bytes } of requests) {
      if (!stands()) return;
      const reports = reportsIn(bytes);
      if (reports === undefined) await this.#offer(attached, bytes, context, first, stands);
      else {
        const room = this.#calls.offer({ kind: "reports", executor: id, reports }, bytes.length, stands);
        if (room !== undefined) await room;
      }
      first = false;
    }
  }

  /** offer takes an attach, in slices. The first one may be numbered; it then takes the place of the one before it in its group. */
  async #offer(attached: Attached, bytes: Uint8Array, context: CallContext, first: boolean, stands: () => boolean): Promise<void> {
    const { caller } = context;
    const { head, nodes } = decodeAttach(bytes);
    const { capabilities, maxInFlight, shared, stream } = head;
    if (stream !== undefined && !first) throw fail("INVALID_FIELD", "a stream is numbered by its first frame", { field: "attach.stream" });
    const entered = stream === undefined ? undefined : this.#fences.enter(caller, stream, attached);
    if (entered !== undefined) attached.leave = entered.leave;
    const replaces = entered?.replaced === undefined ? [] : this.#replace(entered.replaced);
    attached.replaces = replaces;
    const common = { kind: "attach", executor: attached.id, name: caller.name, scope: scopeOf(context), replaces } as const;
    let begins = true;
    try {
      for (const { nodeIds, last } of nodes()) {
        await this.#pace.turn(caller.spiffeId, nodeIds.length, begins, stands);
        if (!stands()) return;
        const offer = { nodeIds, capabilities, maxInFlight, shared };
        const input: Input = { ...common, offer, part: { first: begins, last } };
        attached.offered = true;
        const room = this.#calls.offer(input, begins ? bytes.length : 0, stands);
        if (room !== undefined) await room;
        if (!stands()) return;
        attached.replaces = [];
        begins = false;
      }
    } finally {
      // In case their place was not taken, unless a newer stream takes it instead of this one.
      if (!attached.replaced || attached.replaces.length === 0)
        for (const executor of replaces) this.#calls.tell({ kind: "executor-gone", executor });
    }
  }

  /** replace ends an older stream, and answers whose place its successor takes: also that of those which it has not replaced yet itself. */
  #replace(older: Attached): readonly number[] {
    older.replaced = true;
    if (!older.offered) return older.replaces;
    this.#hold(older);
    return [older.id, ...older.replaces];
  }

  /** hold collects the tasks for an executor that is given none any more: the core may give it some until it knows. */
  #hold(attached: Attached): void {
    const held = this.#undelivered.get(attached.id) ?? [];
    for (const { taskId } of attached.tasks) held.push(taskId);
    attached.tasks = [];
    this.#undelivered.set(attached.id, held);
  }

  /** tellUndelivered answers which tasks of an executor were never handed out. The core gives it none any more. */
  tellUndelivered(executor: number): void {
    const attached = this.#attached.get(executor);
    if (attached !== undefined) this.#hold(attached);
    const tasks = this.#undelivered.get(executor);
    if (tasks === undefined) return;
    this.#undelivered.delete(executor);
    this.#calls.tell({ kind: "undelivered", executor, tasks });
  }

  tasks(effect: Tasks): void {
    if (effect.executor === LOCAL_EXECUTOR) {
      for (const task of effect.items) this.#local.push(task);
      return;
    }
    const attached = this.#attached.get(effect.executor);
    const held = this.#undelivered.get(effect.executor);
    if (attached === undefined || held !== undefined) {
      for (const { taskId } of effect.items) held?.push(taskId);
      return;
    }
    for (const task of effect.items) attached.tasks.push(task);
    this.#touched.add(effect.executor);
  }

  cancel(executor: number, taskId: number): void {
    if (executor === LOCAL_EXECUTOR) return this.#cancelLocal(taskId);
    const attached = this.#attached.get(executor);
    if (attached === undefined) return;
    attached.cancels.push(taskId);
    this.#touched.add(executor);
  }

  /**
   * cancelLocal aborts the handler's signal, also if the handler has not asked for it yet, or does not run yet. What has its answer, of
   * which the core may not know yet, has none.
   */
  #cancelLocal(taskId: number): void {
    if (this.#inHand.has(taskId)) this.#signal(taskId).abort();
    else this.#givenUp.add(taskId);
  }

  #signal(taskId: number): AbortController {
    let controller = this.#signals.get(taskId);
    if (controller === undefined) this.#signals.set(taskId, (controller = new AbortController()));
    return controller;
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
      for (const taskId of attached.cancels)
        attached.out.send(create(AttachExecutorResponseSchema, { frame: { case: "cancel", value: { taskId: BigInt(taskId) } } }));
      attached.cancels = [];
    }
    this.#touched.clear();
    const tasks = this.#local;
    if (tasks.length > 0) this.#local = [];
    for (const task of tasks) this.#run(task);
    // Whatever else was given up has its answer.
    this.#givenUp.clear();
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
    const signal = (): AbortController => this.#signal(taskId);
    const clock = this.#clock;
    let own: AbortController | undefined;
    let over = false;
    if (this.#givenUp.size > 0 && this.#givenUp.has(taskId)) signal().abort();
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
        own ??= over ? new AbortController() : signal();
        return own.signal;
      },
    };
    const done = (answer: Parameters<typeof valueFrom>[0]): void => {
      over = true;
      this.#done(task, answer);
    };
    const failed = (error: unknown): void => {
      over = true;
      this.#failed(task, error);
    };
    try {
      const answer = handler(input);
      if (answer instanceof Promise) {
        this.#inHand.add(taskId);
        answer.then(done, failed);
      } else done(answer);
    } catch (error) {
      failed(error);
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
    this.#inHand.delete(report.taskId);
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
