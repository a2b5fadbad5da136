import type { Failure } from "#kernel/error.ts";
import type { KeyLink, Member, MemberAction } from "../members/messages.ts";
import type { Policies } from "../members/policies.ts";
import { noMember } from "../members/roster.ts";
import type { Action, Eligible } from "./messages.ts";

/** Electorate is what the book of ballots asks the book of members, which is at the same position of the log. */
export interface Electorate {
  readonly policies: Pick<Policies, "int" | "fraction" | "words">;
  federation(): { readonly id: string; readonly digest: Uint8Array } | undefined;
  member(hubId: string): Pick<Member, "incarnation"> | undefined;
  /** eligible are the members with a weight, by hub id, without the one that the ballot is about. */
  eligible(about?: string): readonly Eligible[];
  /** key of a member that is in force, and from which position on. */
  key(hubId: string): { readonly serial: number; readonly publicKey: Uint8Array; readonly from: number } | undefined;
  links(hubId: string, after: number, through: number): readonly KeyLink[];
  actionProblem(action: MemberAction): Failure | undefined;
}

/** isMemberAction tells whether an action is one that the book of members carries out. */
export function isMemberAction(action: Action): action is MemberAction {
  return action.kind !== "allocate" && action.kind !== "prioritize";
}

/** aboutOf is the hub that has no vote, as the ballot is about whether it may stay or has failed. */
export function aboutOf(action: Action): string | undefined {
  return action.kind === "remove" || action.kind === "confirm_failed" ? action.hubId : undefined;
}

/** actionProblem says why nobody may propose an action, as no policy allows it or things are otherwise, or undefined. */
export function actionProblem(electorate: Electorate, action: Action): Failure | undefined {
  if (isMemberAction(action)) return electorate.actionProblem(action);
  if (action.kind === "prioritize") return undefined;
  const { owner, borrower, resource, amount, durationMs, agentType } = action;
  if (owner === borrower) return { reason: "INVALID_FIELD", message: "a hub does not lend to itself", field: "action.borrower" };
  const unknown = [owner, borrower].find((hubId) => electorate.member(hubId) === undefined);
  if (unknown !== undefined) return noMember(unknown, "action.owner");
  const beyond = (what: string, field: string): Failure => ({
    reason: "VALUE_OUT_OF_RANGE",
    message: `the federation's policy allows ${what}; ask for less, or have the policy changed by a ballot`,
    field: `action.${field}`,
  });
  const longest = electorate.policies.int("max_duration_ms");
  if (durationMs > longest) return beyond(`at most ${longest} ms`, "durationMs");
  if (resource !== "agents") return undefined;
  const most = electorate.policies.int("max_agents");
  if (amount > most) return beyond(`at most ${most} agents`, "amount");
  const types = electorate.policies.words("allowed_types");
  return types.includes(agentType) ? undefined : beyond(`agents of type ${types.join(", ") || "none"} only`, "agentType");
}
