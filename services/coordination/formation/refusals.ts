import type { Failure } from "#kernel/error.ts";
import { hubOf, type LogStatus, type ReplicaId } from "../log/engine.ts";
import type { FormationFrame } from "../messages.ts";

/** NONE is told to who wants something of a federation at a hub that belongs to none. */
export const NONE: Failure = {
  reason: "NOT_FEDERATED",
  message: "this hub belongs to no federation; found one (foedus federation found NAME), or join one (foedus federation join NAME)",
};

/** notIn refuses what concerns another federation than this hub's. */
export function notIn(federationId: string): Failure {
  const message = `this hub does not belong to federation ${federationId}, and is not on its way into it`;
  return { reason: "NOT_FEDERATED", message, field: "federation_id" };
}

/** lastVoice refuses that a hub gives its replica up without which the others can decide nothing, so that they could not let it in again. */
export function lastVoice(
  { membership, members }: Pick<LogStatus, "membership"> & { readonly members: number },
  hubId: string,
): Failure | undefined {
  if (members === 1) return { reason: "NO_QUORUM", message: "this hub is the only member of its federation: nobody could let it in again" };
  const isOne = (replica: ReplicaId): boolean => hubOf(replica) === hubId;
  const needs = [membership.voters, membership.outgoing].find((voters) => voters.some(isOne) && voters.length <= 2);
  if (needs === undefined) return undefined;
  const message = `${needs.map(hubOf).join(" and ")} decide only together, so that nobody could let this hub in again: have a third hub join first`;
  return { reason: "NO_QUORUM", message };
}

/** over ends what waits for a federation that this hub does not belong to any more. */
export function over(federationId: string): Failure {
  const message = `this hub does not belong to federation ${federationId} any more; what was asked may still be decided: ask one of its members`;
  return { reason: "OUTCOME_UNKNOWN", message };
}

/** alreadyIn refuses the way into a second federation. */
export function alreadyIn(federationId: string): Failure {
  return {
    reason: "ALREADY_EXISTS",
    message: `this hub belongs to federation ${federationId}, and a hub belongs to one at a time; leave that first`,
    field: "federation_id",
  };
}

/** Own is the federation of a hub, or the one that it is on its way into. */
interface Own {
  readonly federationId: string;
  readonly member: boolean;
}

/** declined is the answer of a hub to who asks it to be let into a federation that it is no member of. */
export function declined(federationId: string, own: Own): FormationFrame {
  const { federationId: other, member } = own;
  const message =
    other === ""
      ? `it belongs to no federation; name a member of ${federationId} (--via)`
      : `it does not belong to federation ${federationId}, but ${member ? "to" : "is on its way into"} ${other}; did you mean ${other}?`;
  return { kind: "join_answer", federationId, failure: { reason: "NOT_FEDERATED", message }, incarnation: 0 };
}
