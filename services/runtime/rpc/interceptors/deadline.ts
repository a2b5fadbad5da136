import type { Clock, Timer } from "#channel/clock.ts";
import type { ServerCall } from "../server/call-context.ts";
import type { Interceptor } from "./interceptor.ts";

/** deadlineInterceptor refuses what came too late, and gives unary calls without a deadline the default one. */
export function deadlineInterceptor(clock: Clock, defaultTimeoutMs: number): Interceptor {
  const timers = new WeakMap<ServerCall, Timer>();
  return {
    name: "deadline",
    open(call) {
      if (call.timeoutMs !== undefined)
        return call.timeoutMs > 0 ? undefined : { reason: "DEADLINE_EXPIRED", message: "the deadline had passed when the call arrived" };
      if (call.method.methodKind !== "unary" || call.entry.rule.longLived) return undefined;
      call.timeoutMs = defaultTimeoutMs;
      const message = `no answer within the default deadline of ${defaultTimeoutMs} ms; give the call a deadline of its own`;
      timers.set(
        call,
        clock.setTimer(defaultTimeoutMs, () => call.expire({ reason: "DEADLINE_EXPIRED", message })),
      );
      return undefined;
    },
    close(call) {
      timers.get(call)?.cancel();
    },
  };
}
