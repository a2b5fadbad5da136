import { LIMITS } from "#kernel/bounds/limits.ts";
import { SPAN_KIND, Span, type SpanKind } from "#runtime/trace/span.ts";
import type { Tracer } from "#runtime/trace/tracer.ts";
import {
  type Answer,
  type Command,
  type InvocationsFrame,
  OUTCOME,
  OUTCOME_NAMES,
  type Reply,
  type Respond,
  type Result,
  type Task,
} from "../messages.ts";

/** Characters of a capability's name that are kept: what a peer sends is not checked yet. */
const CAPABILITY_MAX = 127;

/** Names of commands' spans as OpenTelemetry's conventions for RPC have them. */
const RPC = { "rpc.system.name": "foedus", "rpc.method": "foedus.command_forwarding.v1alpha1.CommandForwardingService/Invoke" } as const;

/**
 * CommandTraces makes the spans of commands: `forward` at the caller's hub, from acceptance to the answer, and `execute` at the
 * owner's, whose context the executor is given. A command of this hub for its own node has the one span `execute`. Spans are the
 * contexts that travel through the core, so nothing is kept here. It exists only while tracing is on.
 */
export class CommandTraces {
  readonly #tracer: Tracer;

  constructor(tracer: Tracer) {
    this.#tracer = tracer;
  }

  /** accepted begins the spans of callers' commands. */
  accepted(commands: readonly Omit<Command, "corr">[]): void {
    for (const command of commands) {
      const span = this.#begin("forward", SPAN_KIND.CLIENT, command);
      if (span !== undefined && command.hubId !== "") span.attributes["foedus.node.hub_id"] = command.hubId.slice(0, LIMITS.idLength);
    }
  }

  /** arrived begins the spans of a peer's commands. */
  arrived(peer: string, { items }: InvocationsFrame): void {
    for (const item of items) {
      const span = this.#begin("execute", SPAN_KIND.SERVER, item);
      if (span === undefined) continue;
      span.attributes["foedus.caller.hub_id"] = peer;
      if (item.retry) span.attributes["foedus.retry"] = true;
    }
  }

  /** handed notes that executors are given tasks. One that still has its caller's span is a command for this hub's own node. */
  handed(tasks: readonly Task[]): void {
    for (const { trace } of tasks) {
      if (!(trace instanceof Span)) continue;
      if (trace.kind === SPAN_KIND.CLIENT) {
        trace.name = "execute";
        trace.kind = SPAN_KIND.INTERNAL;
      }
      this.#tracer.note(trace, "handed to the executor");
    }
  }

  /** replied ends a caller's command. */
  replied({ trace, result, replayed }: Reply): void {
    if (!(trace instanceof Span)) return;
    if (replayed) trace.attributes["foedus.replayed"] = true;
    this.#end(trace, result);
  }

  /** responded ends peers' commands. */
  responded({ items }: Respond): void {
    for (const { trace, result } of items as readonly Answer[]) if (trace instanceof Span) this.#end(trace, result);
  }

  /** begin puts a span in the place of the context that came with a command, if it is sampled. */
  #begin(name: string, kind: SpanKind, command: Pick<Command, "nodeId" | "capability" | "trace">): Span | undefined {
    const trace = this.#tracer.begin(name, kind, command.trace);
    command.trace = trace;
    if (!(trace instanceof Span)) return undefined;
    Object.assign(trace.attributes, RPC);
    trace.attributes["foedus.node.id"] = command.nodeId.slice(0, LIMITS.idLength);
    trace.attributes["foedus.capability"] = command.capability.slice(0, CAPABILITY_MAX);
    return trace;
  }

  /** A command that was refused may name what is not there: its names, which anybody chose, are not kept. */
  #end(span: Span, { outcome, failure }: Result): void {
    const { attributes } = span;
    attributes["rpc.status_code"] = OUTCOME_NAMES[outcome];
    if (failure !== undefined) attributes["error.type"] = failure.reason;
    if (outcome === OUTCOME.REJECTED)
      for (const name of ["foedus.node.hub_id", "foedus.node.id", "foedus.capability"]) delete attributes[name];
    this.#tracer.end(span, outcome !== OUTCOME.DONE);
  }
}
