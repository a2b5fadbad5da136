import type { Accounts } from "../accounts.ts";
import type { Interceptor } from "./interceptor.ts";

/** accountInterceptor bounds what one principal holds over all its connections, and counts the call with it. */
export function accountInterceptor(accounts: Accounts): Interceptor {
  return {
    name: "account",
    open(call) {
      const account = accounts.of(call.caller);
      const { bounds } = account;
      if (account.calls >= bounds.calls) {
        const message = `${bounds.calls} calls are open already, on all connections of ${account.key}; end some first`;
        return { reason: "OVERLOADED", message, facts: { limit: String(bounds.calls) } };
      }
      if (account.unreadBytes > bounds.unreadBytes)
        return { reason: "OVERLOADED", message: "too many answers wait to be read; read them first" };
      call.charge(account);
      return undefined;
    },
  };
}
