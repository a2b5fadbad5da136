import type { Failure } from "#kernel/error.ts";
import type { SharePolicy } from "../messages.ts";

/** UNTRUSTED is why a hub may ask for no command. */
export const UNTRUSTED: Failure = { reason: "TRUST_TOO_LOW", message: "commands need trust level 2" };

/** WITHDRAWN is why a command that waited is not started. */
export const WITHDRAWN: Failure = { reason: "TRUST_TOO_LOW", message: "the owner took back its trust before the command was started" };

/** denied tells why shares do not let a hub invoke something. */
export function denied(policy: SharePolicy, hubId: string, nodeId: string, capability: string): Failure | undefined {
  const right = policy(hubId, nodeId, capability);
  if (right === "none") return { reason: "NODE_NOT_FOUND", message: `no node ${nodeId}` };
  return right === "invoke" ? undefined : { reason: "NOT_SHARED", message: `${capability} of ${nodeId} may not be invoked by ${hubId}` };
}
