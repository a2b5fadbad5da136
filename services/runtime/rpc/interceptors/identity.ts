import type { Failure } from "#kernel/error.ts";
import type { Connection } from "../connections/connection.ts";
import type { Identities } from "../server/identities.ts";
import type { Interceptor } from "./interceptor.ts";

/**
 * identityInterceptor says who calls, from the client's certificate alone. `onOutlived` is told of a connection that outlived the admission
 * of its caller: its client may have another certificate by now, but shows it on a new connection only.
 */
export function identityInterceptor(
  identities: Identities,
  onOutlived: (connection: Connection, failure: Failure) => void = () => undefined,
): Interceptor {
  return {
    name: "identity",
    open(call) {
      const { connection } = call;
      if (connection?.leaf === undefined) return { reason: "UNKNOWN_IDENTITY", message: "the call came without a client certificate" };
      const answer = identities.admission(connection.leaf, connection.thumbprint);
      if (!("caller" in answer)) {
        const failure = { ...answer.failure, facts: { ...answer.failure.facts, check: answer.refusedBy } };
        if (connection.account?.known === true) onOutlived(connection, failure);
        return failure;
      }
      call.identify(answer.caller);
      return undefined;
    },
  };
}
