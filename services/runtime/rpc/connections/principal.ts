import type { Caller } from "../call.ts";

/**
 * principalOf names who pays for a call. A peer is its hub, whatever names its certificates have: it makes as many as it likes. This
 * hub's own callers are who their certificate says, because this hub's CA decides what it says.
 */
export function principalOf({ kind, hubId, spiffeId, thumbprint }: Caller): string {
  if (kind === "peer") return `peer ${hubId}`;
  // A stranger only claims a hub: what it cannot share with others is its certificate.
  return kind === "stranger" ? `stranger ${thumbprint}` : spiffeId;
}
