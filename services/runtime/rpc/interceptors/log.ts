import * as grpc from "@grpc/grpc-js";
import type { Clock } from "#runtime/clock.ts";
import type { Logger } from "#runtime/log/log.ts";
import { traceFields } from "#runtime/trace/span.ts";
import { methodPath } from "../definition.ts";
import type { Interceptor } from "./interceptor.ts";

/** Codes that point at this server rather than at its caller. */
const GRAVE: ReadonlySet<number> = new Set([grpc.status.INTERNAL, grpc.status.UNKNOWN, grpc.status.DATA_LOSS]);

/** Codes that say that somebody was not let in. */
const REFUSED: ReadonlySet<number> = new Set([grpc.status.UNAUTHENTICATED, grpc.status.PERMISSION_DENIED]);

/** logInterceptor writes one line per ended call: bugs as errors, refusals as warnings, the rest for debugging. */
export function logInterceptor(log: Logger, clock: Clock): Interceptor {
  return {
    name: "log",
    close(call, { code, reason, details }) {
      const level = GRAVE.has(code) ? "error" : REFUSED.has(code) ? "warn" : "debug";
      const caller = call.identified ? call.caller.spiffeId : undefined;
      const remote = call.connection?.socket.remoteAddress;
      const durationMs = Math.round((clock.mono() - call.startedMono) * 1000) / 1000;
      const method = methodPath(call.method);
      const trace = traceFields(call.trace);
      log[level]({ method, caller, remote, code: grpc.status[code], reason, details, durationMs, ...trace }, "rpc ended");
    },
  };
}
