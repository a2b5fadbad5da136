import { type Fraction, isMoreThan } from "../members/policies.ts";
import type { Eligible, Opening, Result, SignedVote, Tally } from "./messages.ts";

/** Rules are the two fractions by which a ballot is decided. */
export type Rules = Pick<Opening, "majority" | "participation">;

/** weightOf sums the weights of voters. */
export function weightOf(voters: readonly Pick<Eligible, "weight">[]): number {
  return voters.reduce((sum, { weight }) => sum + weight, 0);
}

/** tallyOf counts votes, one of each voter at most, by the weights of the opening. */
export function tallyOf(eligible: readonly Eligible[], votes: readonly SignedVote[]): Tally {
  const weights = new Map(eligible.map(({ hubId, weight }) => [hubId, weight]));
  const sums = { APPROVE: 0, REJECT: 0, ABSTAIN: 0 };
  let missing = weightOf(eligible);
  for (const { statement } of votes) {
    const weight = weights.get(statement.hubId) ?? 0;
    sums[statement.vote] += weight;
    missing -= weight;
  }
  return { approve: sums.APPROVE, reject: sums.REJECT, abstain: sums.ABSTAIN, missing };
}

/** hasQuorum tells whether enough weight has voted; ABSTAIN counts here, and nowhere else. */
export function hasQuorum({ approve, reject, abstain, missing }: Tally, { participation }: { readonly participation: Fraction }): boolean {
  const cast = approve + reject + abstain;
  return isMoreThan(participation, cast, cast + missing);
}

/** resultAt is the result if nobody votes any more. */
export function resultAt(tally: Tally, rules: Rules): Extract<Result, "APPROVED" | "REJECTED" | "EXPIRED"> {
  if (!hasQuorum(tally, rules)) return "EXPIRED";
  return isMoreThan(rules.majority, tally.approve, tally.approve + tally.reject) ? "APPROVED" : "REJECTED";
}

/** certainResult is the result that no further vote can change, whatever it says; undefined while one could. */
export function certainResult(tally: Tally, rules: Rules): "APPROVED" | "REJECTED" | undefined {
  if (!hasQuorum(tally, rules)) return undefined;
  const { approve, reject, missing } = tally;
  const decided = approve + reject + missing;
  if (isMoreThan(rules.majority, approve, decided)) return "APPROVED";
  return isMoreThan(rules.majority, approve + missing, decided) ? undefined : "REJECTED";
}
