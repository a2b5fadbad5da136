import type { TraceContext } from "#kernel/trace-context.ts";

/** SPAN_KIND are the kinds of a span; the numbers are OpenTelemetry's SpanKind. */
export const SPAN_KIND = { INTERNAL: 0, SERVER: 1, CLIENT: 2 } as const;

/** SpanKind is the part that a span plays: SERVER answers, CLIENT asks. */
export type SpanKind = (typeof SPAN_KIND)[keyof typeof SPAN_KIND];

/** SpanAttributes are the attributes of a span: few, with few values. Never a command's argument, never a secret. */
export type SpanAttributes = Record<string, string | number | boolean>;

/** SpanEvent is something that happened within a span, Unix time in ms. */
export interface SpanEvent {
  readonly name: string;
  readonly atMs: number;
}

/**
 * Span is one sampled piece of work of this process. It is also the TraceContext that whoever goes on with the work is given: so it
 * travels through a core as the context that it is, and comes back to be ended. One that never comes back is never exported.
 */
export class Span implements TraceContext {
  readonly traceId: string;
  readonly spanId: string;
  readonly sampled = true;
  readonly state: string;
  /** Who caused it; undefined for the first span of a trace. */
  readonly parent: TraceContext | undefined;
  name: string;
  kind: SpanKind;
  readonly attributes: SpanAttributes = {};
  events: SpanEvent[] | undefined;
  /** Unix time, ms with a fraction. */
  readonly startMs: number;
  /** 0 while it runs. */
  endMs = 0;
  failed = false;

  constructor(init: {
    readonly name: string;
    readonly kind: SpanKind;
    readonly traceId: string;
    readonly spanId: string;
    readonly parent: TraceContext | undefined;
    readonly startMs: number;
  }) {
    this.name = init.name;
    this.kind = init.kind;
    this.traceId = init.traceId;
    this.spanId = init.spanId;
    this.parent = init.parent;
    this.state = init.parent?.state ?? "";
    this.startMs = init.startMs;
  }
}

/** traceFields are what a log line says of a trace, under the names that OpenTelemetry gives them; nothing without one. */
export function traceFields(trace: TraceContext | undefined): { readonly trace_id?: string; readonly span_id?: string } {
  return trace === undefined ? {} : { trace_id: trace.traceId, span_id: trace.spanId };
}
