import type { Failure } from "#kernel/error.ts";
import type { FederationRole } from "./messages.ts";

/**
 * holdingProblem says why who was given a role with a fence may not act in it any more, or undefined: then it may, as of the read that the
 * roles come from. Programs that act for the federation ask before they act, so that one that was paused while its role moved does not (S1-17).
 */
export function holdingProblem(roles: readonly FederationRole[], role: string, hubId: string, fence: number): Failure | undefined {
  const held = roles.find((one) => one.role === role);
  if (held === undefined) return { reason: "FENCE_STALE", message: `nobody has the role ${role} at the moment`, field: "role" };
  const facts = { hub_id: held.hubId, fence: String(held.fence) };
  if (held.hubId !== hubId)
    return { reason: "FENCE_STALE", message: `${held.hubId} has the role ${role} now, with fence ${held.fence}; stop acting in it`, facts };
  if (held.fence === fence) return undefined;
  return {
    reason: "FENCE_STALE",
    message: `${hubId} has the role ${role} with fence ${held.fence}, not ${fence}: it moved meanwhile; begin anew with the present one`,
    field: "fence",
    facts,
  };
}
