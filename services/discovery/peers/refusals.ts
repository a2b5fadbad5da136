import type { Failure } from "#kernel/error.ts";
import type { Introduction } from "../messages.ts";
import type { CoreConfig } from "../settings.ts";
import type { Peer } from "./peer.ts";

/** unknownPeer is what is said of a hub that no operator configured. */
export function unknownPeer(hubId: string): Failure {
  return {
    reason: "PEER_NOT_FOUND",
    message: `${hubId} is not configured here; add it to the federation configuration`,
    facts: { hub_id: hubId },
  };
}

/** callerFailure is why a hub may not call: nobody configured it, or an operator ended the link. */
export function callerFailure({ hubId }: CoreConfig, peer: Peer | undefined, caller: string): Failure | undefined {
  if (peer === undefined) return unknownPeer(caller);
  if (peer.record.enabled) return undefined;
  return { reason: "TERMINATED", message: `the operator of ${hubId} ended the link; ask for it to be enabled again` };
}

/** introductionFailure is why what a hub says of itself is not taken: it is not that hub, or speaks no version of ours. */
export function introductionFailure(config: CoreConfig, hubId: string, from: Introduction): Failure | undefined {
  if (from.hubId !== hubId)
    return {
      reason: "IDENTITY_MISMATCH",
      message: `the certificate proves ${hubId} and not the hub_id in the message`,
      field: "hub_id",
      facts: { certificate: hubId },
    };
  if (!from.packages.includes(config.packageName))
    return {
      reason: "UPGRADE_NEEDED",
      message: `no common version; ${config.hubId} speaks ${config.packageName}`,
      field: "packages",
    };
  return undefined;
}
