import type { Accounts } from "../connections/accounts.ts";
import { mayAnswer, UNREAD } from "../server/call-context.ts";
import type { Interceptor } from "./interceptor.ts";

/** accountInterceptor bounds what one principal begins and holds over all its connections, and counts the call with it. */
export function accountInterceptor(accounts: Accounts): Interceptor {
  return {
    name: "account",
    open(call) {
      const account = accounts.of(call.caller);
      const { bounds } = account;
      if (call.tooSoonMs > 0) {
        const message = `calls of ${account.key} begin too fast, on all connections; wait ${call.tooSoonMs} ms`;
        return { reason: "RATE_LIMITED", message, facts: { retry_after_ms: String(call.tooSoonMs) } };
      }
      if (account.calls >= bounds.calls) {
        const message = `${bounds.calls} calls are open already, on all connections of ${account.key}; end some first`;
        return { reason: "OVERLOADED", message, facts: { limit: String(bounds.calls) } };
      }
      if (!account.mayBegin()) {
        const message = "as many calls are open as this hub has memory for; end some first";
        return { reason: "OVERLOADED", message, facts: { calls: String(account.calls) } };
      }
      if (!mayAnswer(account, call.entry)) return UNREAD;
      call.charge(account);
      return undefined;
    },
  };
}
