import * as grpc from "@grpc/grpc-js";
import type { Clock } from "#channel/clock.ts";
import { methodPath } from "#channel/messages.ts";
import type { Reason } from "#kernel/error.ts";
import type { EventSink } from "#runtime/events.ts";
import { limitedEvents, limitedLogger } from "#runtime/log/limited.ts";
import type { Logger } from "#runtime/log/log.ts";
import { traceFields } from "#runtime/trace/span.ts";
import type { Outcome, ServerCall } from "../server/call-context.ts";
import type { Interceptor } from "./interceptor.ts";

/** Codes that point at this server rather than at its caller. */
const GRAVE: ReadonlySet<number> = new Set([grpc.status.INTERNAL, grpc.status.UNKNOWN, grpc.status.DATA_LOSS]);

/** Reasons with such a code that are answers like others: what became of a command is not known here, and its caller is told so. */
const EXPECTED: ReadonlySet<string> = new Set<Reason>(["OUTCOME_UNKNOWN"]);

/** Codes that say that somebody was not let in. */
const REFUSED: ReadonlySet<number> = new Set([grpc.status.UNAUTHENTICATED, grpc.status.PERMISSION_DENIED]);

/** fieldsOf is what a line says about a call. */
function fieldsOf(call: ServerCall, { code, reason, details }: Outcome, clock: Clock): object {
  const caller = call.identified ? call.caller.spiffeId : undefined;
  const durationMs = Math.round((clock.mono() - call.startedMono) * 1000) / 1000;
  const method = methodPath(call.method);
  return {
    method,
    caller,
    remote: call.connection?.address,
    code: grpc.status[code],
    reason,
    details,
    durationMs,
    ...traceFields(call.trace),
  };
}

/**
 * logInterceptor writes one line per ended call: bugs as errors, refusals as warnings, the rest for debugging. Refusals are one line per
 * method, code and second. Somebody whose certificate passed TLS and was refused by who it is (a revoked one, one that a peer's CA signed
 * in another's name) is an event, too: that does not happen by mistake.
 */
export function logInterceptor(log: Logger, clock: Clock, sink?: EventSink): Interceptor {
  const limited = limitedLogger(log, clock);
  let stopped = false;
  const events = sink === undefined ? undefined : limitedEvents(sink, clock);
  const tell = (call: ServerCall, details: string): void => {
    const { connection } = call;
    if (stopped || call.identified || connection?.leaf === undefined) return;
    const fields = { remote: connection.address, claims: connection.hubId, fingerprint: connection.thumbprint };
    const text = `a caller from ${connection.address} was refused: ${details}`;
    events?.report(`${connection.hubId} ${details}`, { kind: "ACCESS_REFUSED", severity: "WARNING", text, fields });
  };
  return {
    name: "log",
    close(call, outcome) {
      const { code, reason } = outcome;
      const grave = GRAVE.has(code) && !EXPECTED.has(reason);
      if (!grave && !REFUSED.has(code)) return log.debug(fieldsOf(call, outcome, clock), "rpc ended");
      // Calls that were cut end after the stop, and must not leave a timer.
      if (stopped) return log[grave ? "error" : "warn"](fieldsOf(call, outcome, clock), "rpc ended");
      limited.log(grave ? "error" : "warn", `${methodPath(call.method)} ${code}`, fieldsOf(call, outcome, clock), "rpc ended");
      if (REFUSED.has(code)) tell(call, outcome.details);
    },
    stop() {
      stopped = true;
      limited.flush();
      events?.flush();
    },
  };
}
