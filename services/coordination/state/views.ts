import { encode } from "#kernel/wire/shape.ts";
import { hubOf, type LogStatus, type ReplicaId, replicaIdOf } from "../log/engine.ts";
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

/** Around is how a hub stands to the others of its federation. */
export interface Around {
  /** inContact tells whether this hub has a session with another one, or is it. */
  readonly inContact: (hubId: string) => boolean;
  /** Hubs in contact that say that they belong to the federation. */
  readonly fellows: readonly string[];
  /** Those that this hub cannot know to be members, where it knows no others (SW4). */
  readonly strangers: readonly string[];
  /** Replica of this hub. */
  readonly self: ReplicaId;
  /** The state has this hub, with this replica. */
  readonly isMember: boolean;
}

/** statusView is how a member stands, for people and programs. */
export function statusView(
  state: FederationState,
  founding: SignedFounding,
  log: LogStatus,
  stateDigest: Uint8Array,
  around: Around,
): Omit<FederationStatus, "invitations"> {
  const { name, engine, federationId } = founding.founding;
  const { role, term, leader, committed, quorum, ageMs, membership } = log;
  const copied = copiedOf(federationId, log, around.self);
  const members = state.books.members.members().map(({ hubId, incarnation, weight, failed }): MemberStatus => {
    const replica = replicaIdOf(hubId, incarnation);
    return { hubId, replica, voter: membership.voters.includes(replica), weight, failed, inContact: around.inContact(hubId) };
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
    canDecide: quorum && copied === undefined,
    ageMs,
    problem: copied !== undefined ? copied : quorum ? "" : (absenceOf(federationId, state.at.index, around) ?? problemOf(members)),
    members,
    stateDigest,
    founding: encode(SIGNED_FOUNDING, founding),
    joins: [...new Set(state.books.members.dump().joins.map(({ candidate }) => candidate.hubId))],
  };
}

/** outsideView is how a hub stands that takes no part in a federation's log. */
export function outsideView(
  standing: FederationStatus["standing"],
  federationId: string,
  problem: string,
): Omit<FederationStatus, "invitations"> {
  return {
    standing,
    federationId,
    name: "",
    engine: "",
    role: "outside",
    term: 0,
    leader: "",
    committed: 0,
    applied: 0,
    appliedTime: 0,
    canDecide: false,
    ageMs: undefined,
    problem,
    members: [],
    stateDigest: new Uint8Array(),
    founding: new Uint8Array(),
    joins: [],
  };
}

/** copiedOf says that a replica that the log has takes no part in it, as another one speaks with its key (BF6). */
function copiedOf(federationId: string, { role, membership }: LogStatus, self: ReplicaId): string | undefined {
  if (role !== "outside" || ![...membership.voters, ...membership.learners].includes(self)) return undefined;
  return `this hub signs nothing any more, because it has seen a vote of its own that it did not cast: another copy of it is at work, or its store was restored from a backup. See that it runs once, then give it another replica: foedus federation rejoin ${federationId}`;
}

/** absenceOf says why a hub has not all that was decided, if it is not for links and hubs that are down. */
function absenceOf(federationId: string, applied: number, { fellows, strangers, isMember }: Around): string | undefined {
  if (strangers.length > 0)
    return `${strangers.join(", ")} ${strangers.length === 1 ? "says that it keeps" : "say that they keep"} the log of ${federationId}, and this hub cannot know that: of the voters that it knows too few are there. Bring those back into contact that are members still (foedus peers), or have this hub let in anew: foedus federation leave ${federationId} --force, then foedus federation join ${federationId} --via ${strangers[0]}`;
  if (isMember) return undefined;
  return fellows.length === 0
    ? `no member of ${federationId} is in contact that could give this hub what was decided before it came; see to the links (foedus peers)`
    : `this hub takes over what was decided before it came, and is at position ${applied}; ${fellows.join(", ")} ${fellows.length === 1 ? "has" : "have"} more`;
}

function problemOf(members: readonly MemberStatus[]): string {
  const away = members.filter(({ voter, inContact }) => voter && !inContact).map(({ hubId }) => hubId);
  if (away.length === 0) return "no leader is known at the moment: an election is under way, or this hub is not let in yet";
  return `nothing can be decided: too few voters are in contact (${away.join(", ")} ${away.length === 1 ? "is" : "are"} not); see to their hubs and links`;
}
