import { encode } from "#kernel/wire/shape.ts";
import { hubOf, type LogStatus, replicaIdOf } from "../log/engine.ts";
import { endpointOf } from "../members/failures.ts";
import { SIGNED_FOUNDING, type SignedFounding } from "../members/messages.ts";
import type { FederationStatus, MemberStatus, Query, QueryAnswer } from "../messages.ts";
import type { FederationState } from "./federation-state.ts";

/** answerQuery reads the state as it is here. */
export function answerQuery({ books: { values, ballots, members } }: FederationState, query: Query): QueryAnswer {
  switch (query.kind) {
    case "value":
      return { kind: "value", value: values.get(query.key) };
    case "values":
      return { kind: "values", ...values.page(query.prefix, query.after) };
    case "ballots":
      return { kind: "ballots", ballots: ballots.ballots() };
    case "ballot":
      return { kind: "ballot", ballot: ballots.ballot(query.ballotId), certificate: ballots.certificate(query.ballotId) };
    case "policies":
      return { kind: "policies", policies: members.policies.all() };
    case "roles": {
      const endpoints = members.members().map((member) => {
        const { hubId, primary, dialled, standbys, fence } = member;
        return { hubId, endpoint: endpointOf(member), primary, dialled, standbys, fence };
      });
      return { kind: "roles", roles: members.dump().roles, endpoints };
    }
  }
}

/** statusView is how a member stands, for people and programs. `inContact` tells whether this hub has a session with another one, or is it. */
export function statusView(
  state: FederationState,
  founding: SignedFounding,
  log: LogStatus,
  stateDigest: Uint8Array,
  inContact: (hubId: string) => boolean,
): Omit<FederationStatus, "invitations"> {
  const { name, engine, federationId } = founding.founding;
  const { role, term, leader, committed, quorum, ageMs, membership } = log;
  const members = state.books.members.members().map(({ hubId, incarnation, weight, failed }): MemberStatus => {
    const replica = replicaIdOf(hubId, incarnation);
    return { hubId, replica, voter: membership.voters.includes(replica), weight, failed, inContact: inContact(hubId) };
  });
  return {
    standing: "member",
    federationId,
    name,
    engine,
    role,
    term,
    leader: leader === undefined ? "" : hubOf(leader),
    committed,
    applied: state.at.index,
    appliedTime: state.at.time,
    canDecide: quorum,
    ageMs,
    problem: quorum ? "" : problemOf(members),
    members,
    stateDigest,
    founding: encode(SIGNED_FOUNDING, founding),
    joins: [...new Set(state.books.members.dump().joins.map(({ candidate }) => candidate.hubId))],
  };
}

function problemOf(members: readonly MemberStatus[]): string {
  const away = members.filter(({ voter, inContact }) => voter && !inContact).map(({ hubId }) => hubId);
  if (away.length === 0) return "no leader is known at the moment: an election is under way, or this hub is not let in yet";
  return `nothing can be decided: too few voters are in contact (${away.join(", ")} ${away.length === 1 ? "is" : "are"} not); see to their hubs and links`;
}
