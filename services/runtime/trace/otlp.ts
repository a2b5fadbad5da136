import { createRequire } from "node:module";
import type { TraceContext } from "#kernel/trace-context.ts";
import { Span } from "./span.ts";
import type { SpanSink } from "./tracer.ts";

/** OtlpOptions say where spans go. */
export interface OtlpOptions {
  /** Full URL of the collector's endpoint for traces. */
  readonly url: string;
  /** Attributes of this process as OpenTelemetry names them. */
  readonly resource: Readonly<Record<string, string>>;
  /** Name and version of what makes the spans. */
  readonly scope: { readonly name: string; readonly version: string };
  /** tls is what an https endpoint is dialled with, read anew for each connection. Undefined: the CAs that come with Node. */
  readonly tls: () => OtlpTls | undefined;
  /** headers of each request, read anew each time; never logged. */
  readonly headers: () => Readonly<Record<string, string>>;
  readonly timeoutMs: number;
}

/** OtlpTls is whom an https endpoint must be, and who we are. */
export interface OtlpTls {
  readonly ca: readonly string[];
  readonly cert?: string;
  readonly key?: string;
}

/** OtlpSink sends spans over OTLP/HTTP as protobuf; `renew` makes it dial again with new certificates. */
export interface OtlpSink extends SpanSink {
  renew(): void;
}

type HttpAgent = import("node:http").Agent;

/** Time as OpenTelemetry's code has it: seconds and nanoseconds. */
function hrTime(ms: number): [number, number] {
  const seconds = Math.floor(ms / 1_000);
  return [seconds, Math.round((ms - seconds * 1_000) * 1e6)];
}

type ExporterModule = typeof import("@opentelemetry/exporter-trace-otlp-proto");
type Ready = Parameters<InstanceType<ExporterModule["OTLPTraceExporter"]>["export"]>[0][number];
type Api = typeof import("@opentelemetry/api");

/** readier gives what makes of a span what the exporter takes. */
function readier(
  createTraceState: Api["createTraceState"],
  resource: Ready["resource"],
  scope: Ready["instrumentationScope"],
): (span: Span) => Ready {
  const contextOf = ({ traceId, spanId, state }: TraceContext) => ({
    traceId,
    spanId,
    traceFlags: 1,
    ...(state === "" ? {} : { traceState: createTraceState(state) }),
  });
  return (span) => {
    const start = hrTime(span.startMs);
    return {
      name: span.name,
      kind: span.kind,
      spanContext: () => contextOf(span),
      ...(span.parent === undefined ? {} : { parentSpanContext: { ...contextOf(span.parent), isRemote: !(span.parent instanceof Span) } }),
      startTime: start,
      endTime: hrTime(span.endMs),
      duration: hrTime(span.endMs - span.startMs),
      // 0 unset, 2 error: "ok" is for people who know better than the instrumentation.
      status: { code: span.failed ? 2 : 0 },
      attributes: span.attributes,
      links: [],
      events: (span.events ?? []).map(({ name, atMs }) => ({ name, time: hrTime(atMs), attributes: {} })),
      ended: true,
      resource,
      instrumentationScope: scope,
      droppedAttributesCount: 0,
      droppedEventsCount: 0,
      droppedLinksCount: 0,
    };
  };
}

/**
 * createOtlpSink loads OpenTelemetry's exporter, which a hub that does not trace never does, and makes a sink of it. Serialisation,
 * retries within the timeout and partial success are the exporter's; the queue in front of it is the Tracer's.
 */
export async function createOtlpSink(options: OtlpOptions): Promise<OtlpSink> {
  const [{ OTLPTraceExporter }, { resourceFromAttributes }, { createTraceState }] = await Promise.all([
    import("@opentelemetry/exporter-trace-otlp-proto"),
    import("@opentelemetry/resources"),
    import("@opentelemetry/api"),
  ]);
  // As in ops/server.ts: an import of node:http would read every export of it.
  const load = createRequire(import.meta.url);
  const { Agent: PlainAgent } = load("node:http") as typeof import("node:http");
  const { Agent: TlsAgent } = load("node:https") as typeof import("node:https");
  type Exporter = InstanceType<typeof OTLPTraceExporter>;
  const resource = resourceFromAttributes(options.resource);
  const ready = readier(createTraceState, resource, options.scope);
  const make = (): Exporter =>
    new OTLPTraceExporter({
      url: options.url,
      timeoutMillis: options.timeoutMs,
      // The Tracer sends one request at a time; the exporter counts one that it has just answered for a moment longer.
      concurrencyLimit: 2,
      headers: async () => {
        // The exporter's way out of its retries: a process that stops does not wait for a collector.
        if (closed) throw new Error("the sink is closed");
        return { ...options.headers() };
      },
      httpAgentOptions: async (protocol) => {
        agent?.destroy();
        const tls = options.tls();
        const secure = { keepAlive: true, minVersion: "TLSv1.2", ...(tls === undefined ? {} : { ...tls, ca: [...tls.ca] }) } as const;
        agent = protocol === "http:" ? new PlainAgent({ keepAlive: true }) : new TlsAgent(secure);
        return agent;
      },
    });
  let agent: HttpAgent | undefined;
  let closed = false;
  let exporter = make();
  return {
    renew() {
      exporter = make();
    },
    send: (spans) =>
      new Promise((resolve, reject) => {
        exporter.export(spans.map(ready), ({ code, error }) => {
          // 0 is success.
          if (code === 0) resolve();
          else reject(error ?? new Error("the collector did not take the spans"));
        });
      }),
    close() {
      closed = true;
      agent?.destroy();
    },
  };
}
