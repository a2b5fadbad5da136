import type { Identities } from "../identities.ts";
import type { Interceptor } from "./interceptor.ts";

/** identityInterceptor says who calls, from the client's certificate alone. */
export function identityInterceptor(identities: Identities): Interceptor {
  return {
    name: "identity",
    open(call) {
      const { connection } = call;
      if (connection?.leaf === undefined) return { reason: "UNKNOWN_IDENTITY", message: "the call came without a client certificate" };
      const answer = identities.admission(connection.leaf, connection.thumbprint);
      if (!("caller" in answer)) return { ...answer.failure, facts: { ...answer.failure.facts, check: answer.refusedBy } };
      call.identify(answer.caller);
      return undefined;
    },
  };
}
