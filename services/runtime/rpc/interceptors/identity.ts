import type { Clock } from "#runtime/clock.ts";
import { type Admission, admit } from "#runtime/tls/peer-admission.ts";
import type { PeerAuthority } from "#runtime/tls/peer-authority.ts";
import type { Caller } from "../call.ts";
import type { Interceptor } from "./interceptor.ts";

const CACHE_MAX = 8192;

/**
 * identityInterceptor decides who calls, from the client's certificate alone. The decision is kept per fingerprint until the
 * authority's version moves; validity and revocation are looked at on every call, because connections outlive certificates.
 * `decide` is another rule than `admit`, for a door that takes strangers.
 */
export function identityInterceptor(authority: PeerAuthority, clock: Clock, decide: typeof admit = admit): Interceptor {
  const admitted = new Map<string, Caller>();
  let version = -1;
  const admission = (leaf: Parameters<typeof admit>[0], thumbprint: string): Admission => {
    if (authority.version() !== version) admitted.clear();
    version = authority.version();
    const now = clock.wall();
    const known = admitted.get(thumbprint);
    if (known !== undefined && now < known.notAfterWall && !authority.revoked(thumbprint)) return { caller: known };
    const answer = decide(leaf, authority, now);
    if (!("caller" in answer)) admitted.delete(thumbprint);
    else if (admitted.size < CACHE_MAX) admitted.set(thumbprint, answer.caller);
    return answer;
  };
  return {
    name: "identity",
    open(call) {
      const { connection } = call;
      if (connection?.leaf === undefined) return { reason: "UNKNOWN_IDENTITY", message: "the call came without a client certificate" };
      const answer = admission(connection.leaf, connection.thumbprint);
      if (!("caller" in answer)) return { ...answer.failure, facts: { ...answer.failure.facts, check: answer.refusedBy } };
      call.identify(answer.caller);
      return undefined;
    },
  };
}
