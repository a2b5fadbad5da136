import type { LogInstant } from "../../log/book.ts";
import type { Terms } from "../commands.ts";
import { compareRatios, type Ratio } from "../fair.ts";
import { askedOf, barred, effectiveRank, hasRoom, misfit } from "./fitness.ts";
import { costOf } from "./ledger.ts";
import { type LeaseRecord, leaseDeadline, type OfferRecord, type RequestRecord } from "./records.ts";
import type { ResourceState } from "./state.ts";
import { replan } from "./victims.ts";

/** reserve gives units to a request, until it confirms or the reservation expires (RB5). Who asks has looked whether there is room. */
export function reserve(state: ResourceState, at: LogInstant, request: RequestRecord, offer: OfferRecord, terms: Terms): LeaseRecord {
  const { policy } = state.hub(offer.owner);
  const rank = effectiveRank(state, offer, request.command.priority);
  if (request.state === "waiting") state.waiting.delete(request);
  offer.talks.delete(request);
  const lease: LeaseRecord = {
    lease: ++state.serial,
    offer,
    borrower: request.borrower,
    id: request.command.id,
    amounts: terms.amounts,
    agents: offer.free.slice(0, terms.amounts[0] as number),
    priority: rank === 3 ? "critical" : rank === 2 ? "high" : rank === 1 ? "medium" : "low",
    onDisconnect: policy.onDisconnect,
    state: "reserved",
    fence: 0,
    startedAt: at.time,
    endsAt: at.time + state.rules.reserveMs,
    costMicro: terms.costMicro,
    paidMs: terms.durationMs,
    notice: undefined,
    end: undefined,
    nominal: state.protects(offer, request.borrower, terms.amounts),
  };
  state.ledger.hold(request.borrower, terms.costMicro);
  state.occupy(lease);
  request.owner = offer.owner;
  request.name = offer.offer.name;
  request.terms = terms;
  request.lease = lease.lease;
  state.setRequest(request, "reserved", lease.endsAt);
  state.tell("reserved", lease);
  return lease;
}

/** begin makes an allocation of a reservation: the lease begins, with a fence that is higher than any before (RB3). */
export function begin(state: ResourceState, at: LogInstant, request: RequestRecord, lease: LeaseRecord): void {
  lease.state = "live";
  lease.fence = ++state.serial;
  lease.startedAt = at.time;
  lease.endsAt = at.time + lease.paidMs;
  state.setRequest(request, "confirmed", 0);
  state.deadlines.set(leaseDeadline(lease.lease), lease.endsAt);
  state.tell("live", lease);
  replan(state, at.time, lease.offer, (other) => askedOf(other, 0));
}

interface Candidate {
  readonly request: RequestRecord;
  readonly nominal: boolean;
  readonly rank: number;
  readonly share: Ratio;
}

/**
 * goesFirst orders those that wait (S4-14, S4-21, RB8): within a nominal quota, by priority, by the smaller dominant share of the borrower,
 * and who came first.
 */
function goesFirst(a: Candidate, b: Candidate): boolean {
  if (a.nominal !== b.nominal) return a.nominal;
  if (a.rank !== b.rank) return a.rank > b.rank;
  const shares = a.nominal ? 0 : compareRatios(a.share, b.share);
  return shares === 0 ? a.request.seq < b.request.seq : shares < 0;
}

/** serve gives what is free of an offer to those that wait for it, one after the other. */
export function serve(state: ResourceState, at: LogInstant, offer: OfferRecord): void {
  if (state.waiting.size === 0 || offer.withdrawn || !offer.offer.automatic || !state.offers.has(offer.key)) return;
  for (const claim of [...offer.claims]) {
    const asked = askedOf(claim, costOf(offer.offer.prices, claim.command.amounts, claim.command.durationMs));
    if ((misfit(state, offer, asked) ?? barred(state, offer, asked)) !== undefined) state.unclaim(claim);
  }
  for (;;) {
    const { best, starved } = nextFor(state, at, offer);
    if (best === undefined) {
      if (starved !== undefined && offer.claims.size === 0) claim(starved.request, offer);
      break;
    }
    const { amounts, durationMs } = best.request.command;
    reserve(state, at, best.request, offer, { amounts, durationMs, costMicro: costOf(offer.offer.prices, amounts, durationMs) });
  }
  replan(state, at.time, offer, (other) => askedOf(other, 0));
}

/** claim keeps what becomes free of an offer for a request. */
export function claim(request: RequestRecord, offer: OfferRecord): void {
  request.claim = offer;
  offer.claims.add(request);
}

interface Next {
  best: Candidate | undefined;
  /** First of those for which there is not room enough, if it has waited long. */
  starved: Candidate | undefined;
}

function nextFor(state: ResourceState, at: LogInstant, offer: OfferRecord): Next {
  const shares = new Map<string, Ratio>();
  const next: Next = { best: undefined, starved: undefined };
  state.waiting.forOffer(offer, (request) => {
    const { borrower, command } = request;
    const asked = askedOf(request, costOf(offer.offer.prices, command.amounts, command.durationMs));
    if (asked.terms.costMicro > command.maxCostMicro) return false;
    if ((misfit(state, offer, asked) ?? barred(state, offer, asked)) !== undefined) return false;
    const rank = effectiveRank(state, offer, command.priority);
    const room = hasRoom(state, offer, asked, request, rank);
    const starves = !room && request.claim === undefined && at.time - request.since >= state.rules.starveMs;
    if (!room && !starves) return false;
    const share = shares.get(borrower) ?? state.shareOf(borrower);
    shares.set(borrower, share);
    const candidate = { request, nominal: state.withinNominal(offer, borrower, command.amounts), rank, share };
    if (room && (next.best === undefined || goesFirst(candidate, next.best))) next.best = candidate;
    if (starves && (next.starved === undefined || goesFirst(candidate, next.starved))) next.starved = candidate;
    // What comes later in the same line goes behind it, unless it is within a quota and this is not.
    return room && !offer.quotas.has(borrower);
  });
  return next;
}
