import type { Failure } from "#kernel/error.ts";
import { problemOf } from "#kernel/wire/shape.ts";
import type { Admission } from "./admission.ts";
import { MEMBER_ACTION, MEMBER_LIMITS, type Member, type MemberAction, VOTERS } from "./messages.ts";
import { type Policies, policyProblem } from "./policies.ts";
import { noMember, type Roster } from "./roster.ts";

type Action<K extends MemberAction["kind"]> = Extract<MemberAction, { kind: K }>;

/** memberActionProblem says why an action cannot be carried out as things are, or undefined: asked when it is proposed, and again when it is approved. */
export function memberActionProblem(roster: Roster, admission: Admission, policies: Policies, action: MemberAction): Failure | undefined {
  const malformed = problemOf(MEMBER_ACTION, action);
  if (malformed !== undefined) return { reason: "INVALID_FIELD", message: `${malformed.path} ${malformed.message}`, field: malformed.path };
  if (action.kind === "admit") return admission.admitProblem(action);
  if (action.kind === "remove") return admission.goProblem(action.hubId);
  if (action.kind === "set_policy") return changeProblem(roster, policies, action);
  const member = roster.get(action.hubId);
  if (member === undefined) return noMember(action.hubId, "hubId");
  switch (action.kind) {
    case "weigh":
      if (action.weight > 0 || admission.hasWeightWithout(action.hubId)) return undefined;
      return { reason: "VALUE_OUT_OF_RANGE", message: "no member would have any weight, and nothing could be decided", field: "weight" };
    case "assign_role":
      return roleProblem(roster, action);
    case "confirm_failed":
      return lifeProblem(member, action.life);
  }
}

function changeProblem({ engine }: Roster, policies: Policies, { key, value, basis }: Action<"set_policy">): Failure | undefined {
  const problem = policyProblem(key, value);
  if (problem !== undefined) return problem;
  const { max } = VOTERS[engine];
  if (key === "min_voters" && value.kind === "int" && value.value > max) {
    const message = `a federation that decides by ${engine} has at most ${max} voters, and with a policy ${key} above that no voter could ever go`;
    return { reason: "VALUE_OUT_OF_RANGE", message, field: "value" };
  }
  const version = policies.version(key);
  if (version === basis) return undefined;
  const message = `policy ${key} is at version ${version}, and this change is based on ${basis}; propose it anew on what holds now`;
  return { reason: "IDEMPOTENCY_CONFLICT", message, field: "basis" };
}

function roleProblem(roster: Roster, { role, hubId, standbys }: Action<"assign_role">): Failure | undefined {
  const hubs = [hubId, ...standbys];
  const unknown = hubs.find((hub) => roster.get(hub) === undefined);
  if (unknown !== undefined) return noMember(unknown, "standbys");
  if (new Set(hubs).size < hubs.length)
    return { reason: "INVALID_FIELD", message: "a hub is named twice; who has a role is no standby for it", field: "standbys" };
  if (!roster.mayAct(hubId))
    return { reason: "VALUE_OUT_OF_RANGE", message: `hub ${hubId} has failed or is damped, and gets no role`, field: "hubId" };
  if (roster.mayAddRole(role)) return undefined;
  return { reason: "LIMIT_EXCEEDED", message: `there are ${MEMBER_LIMITS.roles} roles already`, field: "role" };
}

/** lifeProblem says why an accusation in some life of a hub does not count (any more). */
export function lifeProblem(member: Member, life: number): Failure | undefined {
  if (life === member.life) return undefined;
  const message =
    life < member.life
      ? `hub ${member.hubId} has refuted this: it lives with ${member.life}, and was accused in ${life}`
      : `hub ${member.hubId} never said that it lives with ${life}; its life is ${member.life}`;
  return { reason: "TOO_STALE", message, field: "life", facts: { life: String(member.life) } };
}
