import { add, fits, minus, take } from "../amounts.ts";
import { type Asked, effectiveRank, usedFor } from "./fitness.ts";
import type { LeaseRecord, OfferRecord, RequestRecord } from "./records.ts";
import type { ResourceState } from "./state.ts";
import { rankOf } from "./waiting.ts";

/**
 * victimsFor are the allocations of which an early end makes room for a request: none if what is on its way back is enough, undefined if
 * there is no way. No victim is within its borrower's nominal quota (RB8), each goes behind the request, and none could be spared (RB9):
 * of those that may be chosen, the least urgent and among them the youngest are.
 */
export function victimsFor(
  state: ResourceState,
  time: number,
  offer: OfferRecord,
  asked: Asked,
  request: RequestRecord | undefined,
  rank: number,
): LeaseRecord[] | undefined {
  const { amounts } = asked.terms;
  const used = [...usedFor(state, offer, asked, request, rank)];
  for (const lease of offer.leases) if (lease.state === "ended" || lease.notice !== undefined) take(used, lease.amounts);
  if (fits(offer.ceiling, used, amounts)) return [];
  if (!state.hub(offer.owner).policy.preemption) return undefined;
  const nominal = state.withinNominal(offer, asked.borrower, amounts);
  const candidates = [...offer.leases]
    .filter((lease) => mayBeVictim(state, time, lease, nominal, rank))
    .sort((a, b) => rankOf(a.priority) - rankOf(b.priority) || b.lease - a.lease);
  const chosen: LeaseRecord[] = [];
  for (const lease of candidates) {
    if (fits(offer.ceiling, used, amounts)) break;
    take(used, lease.amounts);
    chosen.push(lease);
  }
  if (!fits(offer.ceiling, used, amounts)) return undefined;
  return spared(offer, used, asked, chosen, candidates);
}

function mayBeVictim(state: ResourceState, time: number, lease: LeaseRecord, nominal: boolean, rank: number): boolean {
  const { graceMs, settleMs } = state.rules;
  if (lease.state !== "live" || lease.notice !== undefined || lease.nominal) return false;
  if (lease.endsAt - time <= graceMs) return false;
  return nominal || (rankOf(lease.priority) < rank && time - lease.startedAt >= settleMs);
}

/** spared leaves out those that are not needed after all, the most urgent first; one alone that is no more urgent is better than several. */
function spared(
  offer: OfferRecord,
  used: number[],
  { terms: { amounts } }: Asked,
  chosen: readonly LeaseRecord[],
  candidates: readonly LeaseRecord[],
): LeaseRecord[] {
  const without = [...used];
  for (const lease of chosen) add(without, lease.amounts);
  const most = Math.max(...chosen.map((lease) => rankOf(lease.priority)));
  const alone = candidates.find((lease) => rankOf(lease.priority) <= most && fits(offer.ceiling, minus(without, lease.amounts), amounts));
  if (alone !== undefined) return [alone];
  const left = new Set(chosen);
  for (const lease of [...chosen].reverse()) {
    add(used, lease.amounts);
    if (fits(offer.ceiling, used, amounts)) left.delete(lease);
    else take(used, lease.amounts);
  }
  return [...left];
}

/** giveNotice says to the borrowers of victims that they end early, and keeps what becomes free for the request. */
export function giveNotice(state: ResourceState, time: number, victims: readonly LeaseRecord[]): void {
  for (const lease of victims) state.shorten(lease, time + state.rules.graceMs, "preempted");
}

/** replan looks again whether those that have a claim on an offer may have somebody end early for it. */
export function replan(state: ResourceState, time: number, offer: OfferRecord, askedBy: (request: RequestRecord) => Asked): void {
  if (offer.claims.size === 0 || state.hub(offer.owner).absent) return;
  for (const request of [...offer.claims].sort((a, b) => a.seq - b.seq)) {
    const rank = effectiveRank(state, offer, request.command.priority);
    giveNotice(state, time, victimsFor(state, time, offer, askedBy(request), request, rank) ?? []);
  }
}
