import type { Failure } from "#kernel/error.ts";
import { type Amounts, amountsText, covers, fits, plus } from "../amounts.ts";
import { invalid } from "../check.ts";
import type { PRIORITIES, Terms } from "../commands.ts";
import { matches, typeOf, uncounted, type Want } from "../kinds.ts";
import type { HubRecord, OfferRecord, RequestRecord } from "./records.ts";
import type { ResourceState } from "./state.ts";
import { rankOf } from "./waiting.ts";

/** Asked is what is to be decided on: of whom, what, and on which terms. */
export interface Asked {
  readonly borrower: string;
  readonly want: Want;
  readonly terms: Terms;
}

/** misfit says why an offer can never be for a request, whatever is free: its kind, its owner's policy, the borrower's quota. */
export function misfit(state: ResourceState, offer: OfferRecord, { borrower, want, terms }: Asked): Failure | undefined {
  const { policy } = state.hub(offer.owner);
  if (offer.owner === borrower) return invalid("owner", "a hub does not lend to itself; ask another owner");
  const odd = uncounted(offer.offer.what.kind, terms.amounts);
  if (odd !== undefined) return invalid(`terms.amounts.${odd}`, `${offer.key} is not counted in ${odd}; leave it out`);
  if (!matches(offer.offer.what, want, terms.durationMs))
    return { reason: "OFFER_NOT_FOUND", message: `${offer.key} has not what is asked for; see what it offers` };
  return policyRefusal(policy, offer, want, terms) ?? limitRefusal(offer, borrower, terms.amounts);
}

function policyRefusal(policy: HubRecord["policy"], offer: OfferRecord, want: Want, terms: Terms): Failure | undefined {
  const { owner } = offer;
  const refuse = (field: string, message: string): Failure => ({ reason: "LIMIT_EXCEEDED", field, message });
  const type = typeOf(want);
  if (policy.allowedTypes.length > 0 && !policy.allowedTypes.includes(type))
    return refuse("want", `the policy of ${owner} does not lend ${type}; it lends ${policy.allowedTypes.join(", ")}`);
  const agents = terms.amounts[0] as number;
  if (agents > policy.maxAgents)
    return refuse("amounts.agents", `${owner} lends at most ${policy.maxAgents} agents to one hub; ask for fewer than ${agents}`);
  const most = want.kind === "storage" ? policy.storage.retentionMs : policy.maxDurationMs;
  if (terms.durationMs > most)
    return refuse("duration_ms", `${owner} lends for at most ${most} ms; ask for a shorter time than ${terms.durationMs} ms`);
  if (want.kind === "storage" && (terms.amounts[4] as number) > policy.storage.maxMb)
    return refuse("amounts.storage_mb", `${owner} lends at most ${policy.storage.maxMb} MB of storage to one request; ask for less`);
  if (want.kind === "storage" && want.replication > policy.storage.replication)
    return refuse("want.replication", `${owner} keeps at most ${policy.storage.replication} copies; ask for fewer`);
  return undefined;
}

function limitRefusal(offer: OfferRecord, borrower: string, amounts: Amounts): Failure | undefined {
  if (!covers(offer.ceiling, amounts))
    return {
      reason: "LIMIT_EXCEEDED",
      field: "amounts",
      message: `${offer.key} lends at most ${amountsText(offer.ceiling)}; ask for less than ${amountsText(amounts)}`,
    };
  const quota = offer.quotas.get(borrower);
  if (quota === undefined || covers(quota.limit, amounts)) return undefined;
  return {
    reason: "QUOTA_EXCEEDED",
    field: "amounts",
    message: `${offer.owner} lends at most ${amountsText(quota.limit)} of ${offer.key} to ${borrower}; ask for less, or the owner for more`,
  };
}

/** barred says what but a lack of units keeps a borrower from an offer now: its owner, its quota, its credit. */
export function barred(state: ResourceState, offer: OfferRecord, { borrower, terms }: Asked): Failure | undefined {
  const owner = state.hub(offer.owner);
  if (owner.absent)
    return {
      reason: "PEER_UNREACHABLE",
      message: `${offer.owner} is not there: what it has is not known, and not lent; try another owner`,
    };
  if (owner.leases >= state.rules.leasesMax)
    return {
      reason: "QUOTA_EXCEEDED",
      message: `${offer.owner} has ${owner.leases} leases that run or are not back yet, and no more at a time; try another owner, or later`,
    };
  const quota = offer.quotas.get(borrower);
  const use = offer.uses.get(borrower);
  const over = quota !== undefined && use !== undefined && !fits(quota.limit, use.total, terms.amounts);
  if (over || (owner.lent.get(borrower) ?? 0) + (terms.amounts[0] as number) > owner.policy.maxAgents)
    return {
      reason: "QUOTA_EXCEEDED",
      message: `${borrower} has as much of ${over ? offer.key : offer.owner} as it may; release something first`,
    };
  if (state.ledger.balance(borrower) - terms.costMicro < -state.rules.creditMicro)
    return { reason: "QUOTA_EXCEEDED", message: `${borrower} owes as much as it may; lend something first, or ask for what costs less` };
  return undefined;
}

/** hasRoom tells whether there are units for a request, beside what is kept for others that go before it. */
export function hasRoom(state: ResourceState, offer: OfferRecord, asked: Asked, request: RequestRecord | undefined, rank: number): boolean {
  return fits(offer.ceiling, usedFor(state, offer, asked, request, rank), asked.terms.amounts);
}

/** usedFor is what is used of an offer, as seen by a request: with what is kept for others. */
export function usedFor(state: ResourceState, offer: OfferRecord, asked: Asked, request: RequestRecord | undefined, rank: number): Amounts {
  let used: Amounts = offer.used;
  if (offer.claims.size === 0) return used;
  const nominal = state.withinNominal(offer, asked.borrower, asked.terms.amounts);
  for (const claim of offer.claims) {
    if (claim === request) continue;
    const claimNominal = state.withinNominal(offer, claim.borrower, claim.command.amounts);
    const claimRank = effectiveRank(state, offer, claim.command.priority);
    let order = Number(nominal) - Number(claimNominal) || rank - claimRank;
    if (order === 0 && request?.claim === offer) order = claim.seq - request.seq;
    if (order <= 0) used = plus(used, claim.command.amounts);
  }
  return used;
}

/** effectiveRank is the priority that a request has at an owner: no more than its policy allows. */
export function effectiveRank(state: ResourceState, offer: OfferRecord, priority: (typeof PRIORITIES)[number]): number {
  return Math.min(rankOf(priority), rankOf(state.hub(offer.owner).policy.priority));
}

/** askedOf is what a request that waits asks of an offer. */
export function askedOf(request: RequestRecord, costMicro: number): Asked {
  const { borrower, command } = request;
  return { borrower, want: command.want, terms: { amounts: command.amounts, durationMs: command.durationMs, costMicro } };
}
