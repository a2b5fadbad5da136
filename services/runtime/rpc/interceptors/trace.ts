import * as grpc from "@grpc/grpc-js";
import { methodPath } from "#channel/messages.ts";
import { SPAN_KIND, Span } from "#runtime/trace/span.ts";
import type { Tracer } from "#runtime/trace/tracer.ts";
import type { Interceptor } from "./interceptor.ts";

/** Codes that are this server's fault (OpenTelemetry semantic conventions, gRPC server spans). */
const FAULTS: ReadonlySet<number> = new Set([
  grpc.status.UNKNOWN,
  grpc.status.DEADLINE_EXCEEDED,
  grpc.status.UNIMPLEMENTED,
  grpc.status.INTERNAL,
  grpc.status.UNAVAILABLE,
  grpc.status.DATA_LOSS,
]);

/**
 * traceInterceptor makes a server span of each unary call that is sampled. Streams have none: they live for days, and what they
 * carry has contexts of its own. It comes after access, so that a stranger cannot make this server record anything.
 */
export function traceInterceptor(tracer: Tracer): Interceptor {
  return {
    name: "trace",
    open(call) {
      const { kind, hubId } = call.caller;
      if (call.method.methodKind !== "unary" || kind === "stranger") return undefined;
      const method = methodPath(call.method).slice(1);
      const trace = tracer.begin(method, SPAN_KIND.SERVER, call.trace);
      call.trace = trace;
      if (trace instanceof Span)
        Object.assign(trace.attributes, {
          "rpc.system.name": "grpc",
          "rpc.method": method,
          "foedus.caller.kind": kind,
          "foedus.caller.hub_id": hubId,
        });
      return undefined;
    },
    close({ trace }, { code }) {
      if (!(trace instanceof Span)) return;
      const name = grpc.status[code] ?? String(code);
      trace.attributes["rpc.status_code"] = name;
      if (code !== grpc.status.OK) trace.attributes["error.type"] = name;
      tracer.end(trace, FAULTS.has(code));
    },
  };
}
