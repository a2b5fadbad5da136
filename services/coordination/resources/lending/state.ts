import { assert } from "#kernel/assert.ts";
import { type Amounts, add, ceilingOf, covers, DIMENSIONS, isNothing, minus, plus, take } from "../amounts.ts";
import { DEFAULT_POLICY, type LeaseEnd, type Policy, type RequestState, type ResourceNews } from "../commands.ts";
import { dominantShare, type Ratio } from "../fair.ts";
import { classOf } from "../kinds.ts";
import type { Rules } from "../rules.ts";
import { Deadlines } from "./deadlines.ts";
import { Ledger, partOf } from "./ledger.ts";
import {
  type HubRecord,
  type LeaseRecord,
  leaseDeadline,
  leaseView,
  type OfferRecord,
  offerKey,
  type RequestRecord,
  requestDeadline,
  requestKey,
  requestView,
  type Use,
} from "./records.ts";
import { Waiting } from "./waiting.ts";

/** ResourceState is the records of the book with all that is derived from them, and the changes that keep both in step. */
export class ResourceState {
  readonly rules: Rules;
  readonly hubs = new Map<string, HubRecord>();
  readonly offers = new Map<string, OfferRecord>();
  readonly requests = new Map<string, RequestRecord>();
  readonly leases = new Map<number, LeaseRecord>();
  /** Offers that are not withdrawn, by what they are for, sorted by key. */
  readonly classes = new Map<string, OfferRecord[]>();
  readonly waiting = new Waiting();
  readonly ledger = new Ledger();
  readonly deadlines = new Deadlines();
  /** All that may be lent in the federation. */
  readonly totals: number[] = DIMENSIONS.map(() => 0);
  /** The last number given to a lease, a fence or a request: none is used twice. */
  serial = 0;
  news: ResourceNews[] = [];
  /** Offers of which something became free, or was changed, in this step. */
  readonly touched = new Set<OfferRecord>();

  constructor(rules: Rules) {
    this.rules = rules;
  }

  hub(id: string): HubRecord {
    const known = this.hubs.get(id);
    if (known !== undefined) return known;
    const made: HubRecord = {
      policy: DEFAULT_POLICY,
      stated: false,
      absent: false,
      offers: new Set(),
      lent: new Map(),
      use: DIMENSIONS.map(() => 0),
      requests: 0,
      context: 0,
      leases: 0,
    };
    this.hubs.set(id, made);
    return made;
  }

  /** list and unlist put an offer among those that requests choose from, and take it out. */
  list(record: OfferRecord): void {
    add(this.totals, record.ceiling);
    const key = classOf(record.offer.what);
    const all = this.classes.get(key) ?? [];
    const at = all.findIndex((other) => other.key > record.key);
    all.splice(at < 0 ? all.length : at, 0, record);
    this.classes.set(key, all);
  }

  unlist(record: OfferRecord): void {
    take(this.totals, record.ceiling);
    const key = classOf(record.offer.what);
    const left = (this.classes.get(key) ?? []).filter((other) => other !== record);
    if (left.length === 0) this.classes.delete(key);
    else this.classes.set(key, left);
  }

  /** shareOf is the dominant share of a borrower. Its own offers count no more than those of all others together (RB13). */
  shareOf(borrower: string): Ratio {
    const hub = this.hubs.get(borrower);
    if (hub === undefined) return { num: 0, den: 1 };
    const own = DIMENSIONS.map(() => 0);
    for (const offer of hub.offers) if (!offer.withdrawn) add(own, offer.ceiling);
    const totals = this.totals.map((total, i) => Math.min(total, 2 * (total - (own[i] as number))));
    return dominantShare(hub.use, totals);
  }

  /** recap computes the ceiling of an offer anew. It covers what is used: who asks has looked. */
  recap(record: OfferRecord, policy: Policy): void {
    const ceiling = ceilingOf(record.offer.capacity, policy.maxUtilization);
    assert(covers(ceiling, record.used), "a ceiling covers what is used", { offer: record.key });
    if (!record.withdrawn) add(this.totals, minus(ceiling, record.ceiling));
    record.ceiling = ceiling;
  }

  /** useOf is what a borrower has of an offer. */
  useOf(record: OfferRecord, borrower: string): Use {
    const known = record.uses.get(borrower);
    if (known !== undefined) return known;
    const made: Use = { total: DIMENSIONS.map(() => 0), nominal: DIMENSIONS.map(() => 0), leases: new Set() };
    record.uses.set(borrower, made);
    return made;
  }

  /** withinNominal tells whether so much more of an offer is within the borrower's nominal quota, with all that it has (RB8). */
  withinNominal(record: OfferRecord, borrower: string, amounts: Amounts): boolean {
    const quota = record.quotas.get(borrower);
    if (quota === undefined) return false;
    const use = record.uses.get(borrower);
    return covers(quota.nominal, use === undefined ? amounts : plus(use.total, amounts));
  }

  /** protects tells whether so much more is protected by a nominal quota, beside what it protects: it may protect a part of what a borrower has. */
  protects(record: OfferRecord, borrower: string, amounts: Amounts): boolean {
    const quota = record.quotas.get(borrower);
    const use = record.uses.get(borrower);
    return quota !== undefined && covers(quota.nominal, use === undefined ? amounts : plus(use.nominal, amounts));
  }

  /** setRequest notes another state of a request, and until when it has it. */
  setRequest(request: RequestRecord, state: RequestState, until: number): void {
    request.state = state;
    request.until = until;
    if (state !== "waiting") this.unclaim(request);
    if (until === 0) this.deadlines.delete(requestDeadline(request.key));
    else this.deadlines.set(requestDeadline(request.key), until);
    this.news.push({ kind: "request", request: requestView(request) });
  }

  /** overRequest ends a request; it is remembered for a while. */
  overRequest(request: RequestRecord, time: number, why: string): void {
    if (request.state === "over") return;
    if (request.state === "waiting") this.waiting.delete(request);
    if (request.state === "negotiating") this.offers.get(offerKey(request.owner, request.name))?.talks.delete(request);
    request.why = why;
    this.setRequest(request, "over", time + this.rules.settledMs);
  }

  /** keep and forget have a request among those that are kept, and no more. */
  keep(request: RequestRecord): void {
    this.requests.set(request.key, request);
    const borrower = this.hub(request.borrower);
    borrower.requests++;
    borrower.context += request.command.context.length;
  }

  forget(request: RequestRecord): void {
    this.requests.delete(request.key);
    const borrower = this.hub(request.borrower);
    borrower.requests--;
    borrower.context -= request.command.context.length;
    this.tidy(request.borrower);
  }

  /** tidy forgets a hub of which nothing is to be known. */
  tidy(id: string): void {
    const hub = this.hubs.get(id);
    if (hub === undefined || hub.stated || hub.absent || hub.requests > 0) return;
    if (hub.offers.size === 0 && hub.lent.size === 0 && isNothing(hub.use)) this.hubs.delete(id);
  }

  unclaim(request: RequestRecord): void {
    if (request.claim === undefined) return;
    request.claim.claims.delete(request);
    // What was kept for it is there for others.
    this.touched.add(request.claim);
    request.claim = undefined;
  }

  /** occupy gives units of an offer to a lease that was not there (RB1, RB2). */
  occupy(lease: LeaseRecord): void {
    const { offer, borrower, amounts } = lease;
    add(offer.used, amounts);
    assert(covers(offer.ceiling, offer.used), "no more is lent than may be", { offer: offer.key });
    offer.free = offer.free.filter((agent) => !lease.agents.includes(agent));
    offer.leases.add(lease);
    const use = this.useOf(offer, borrower);
    add(use.total, amounts);
    use.leases.add(lease);
    if (lease.nominal) add(use.nominal, amounts);
    const owner = this.hub(offer.owner);
    owner.leases++;
    owner.lent.set(borrower, (owner.lent.get(borrower) ?? 0) + (amounts[0] as number));
    if (lease.state !== "ended") add(this.hub(borrower).use, amounts);
    this.leases.set(lease.lease, lease);
  }

  /** vacate takes the units of a lease back and forgets it. Nobody has them from here on. */
  vacate(lease: LeaseRecord): void {
    const { offer, borrower, amounts } = lease;
    this.deadlines.delete(leaseDeadline(lease.lease));
    this.leases.delete(lease.lease);
    offer.leases.delete(lease);
    take(offer.used, amounts);
    const named = offer.offer.what.kind === "agent" ? offer.offer.what.agents : [];
    offer.free = [...offer.free, ...lease.agents.filter((agent) => named.includes(agent))].sort();
    const use = this.useOf(offer, borrower);
    take(use.total, amounts);
    if (lease.nominal) take(use.nominal, amounts);
    use.leases.delete(lease);
    if (use.leases.size === 0) offer.uses.delete(borrower);
    const owner = this.hub(offer.owner);
    owner.leases--;
    const left = (owner.lent.get(borrower) ?? 0) - (amounts[0] as number);
    if (left === 0) owner.lent.delete(borrower);
    else owner.lent.set(borrower, left);
    if (lease.state !== "ended") take(this.hub(borrower).use, amounts);
    this.reflag(offer, borrower);
    this.touched.add(offer);
    if (offer.withdrawn && offer.leases.size === 0) this.drop(offer);
  }

  /** drop forgets an offer of which nothing is lent any more. */
  drop(offer: OfferRecord): void {
    this.offers.delete(offer.key);
    this.hub(offer.owner).offers.delete(offer);
    this.news.push({ kind: "offer", owner: offer.owner, name: offer.offer.name, what: "gone" });
  }

  /** reflag decides which of a borrower's leases its nominal quota protects: those that it did, and then the oldest for which there is room. */
  reflag(offer: OfferRecord, borrower: string): void {
    const use = offer.uses.get(borrower);
    if (use === undefined) return;
    const nominal = offer.quotas.get(borrower)?.nominal ?? DIMENSIONS.map(() => 0);
    const byAge = [...use.leases].sort((a, b) => a.lease - b.lease);
    for (const lease of [...byAge].reverse()) {
      if (covers(nominal, use.nominal)) break;
      if (!lease.nominal) continue;
      lease.nominal = false;
      take(use.nominal, lease.amounts);
    }
    for (const lease of byAge) {
      if (lease.nominal || !covers(nominal, plus(use.nominal, lease.amounts))) continue;
      lease.nominal = true;
      add(use.nominal, lease.amounts);
    }
  }

  /** shorten gives notice of an early end. */
  shorten(lease: LeaseRecord, endsAt: number, notice: "preempted" | "reclaimed"): void {
    if (endsAt >= lease.endsAt) return;
    lease.notice = notice;
    lease.endsAt = endsAt;
    this.deadlines.set(leaseDeadline(lease.lease), endsAt);
    this.tell("noticed", lease);
  }

  /** endLease ends an allocation (RB6): it is paid for, and keeps its units until the owner says that it has stopped (RB11). */
  endLease(lease: LeaseRecord, time: number, end: LeaseEnd): void {
    if (lease.state === "ended") return;
    assert(lease.state === "live", "only what has begun ends", { lease: lease.lease });
    const used = Math.min(Math.max(0, Math.min(time, lease.endsAt) - lease.startedAt), lease.paidMs);
    const paid = partOf(lease.costMicro, used, lease.paidMs, true);
    this.ledger.settle(lease.borrower, lease.offer.owner, lease.costMicro, paid);
    lease.costMicro = paid;
    lease.state = "ended";
    lease.end = end;
    // From here on its borrower has nothing of it, whenever its owner says that it has stopped (RB13).
    take(this.hub(lease.borrower).use, lease.amounts);
    lease.endsAt = Math.min(lease.endsAt, time);
    this.deadlines.delete(leaseDeadline(lease.lease));
    this.tell("ended", lease);
    const request = this.requestOf(lease);
    if (request !== undefined) this.overRequest(request, time, `its lease has ended: ${end}`);
  }

  /** requestOf is the request that a lease came of, while it is remembered. */
  requestOf(lease: LeaseRecord): RequestRecord | undefined {
    const request = this.requests.get(requestKey(lease.borrower, lease.id));
    return request?.lease === lease.lease ? request : undefined;
  }

  /** cancel takes a reservation back that is not an allocation yet. */
  cancel(lease: LeaseRecord): void {
    assert(lease.state === "reserved", "only a reservation is cancelled", { lease: lease.lease });
    this.ledger.settle(lease.borrower, lease.offer.owner, lease.costMicro, 0);
    lease.costMicro = 0;
    this.tell("cancelled", lease);
    this.vacate(lease);
  }

  tell(what: Extract<ResourceNews, { kind: "lease" }>["what"], lease: LeaseRecord): void {
    this.news.push({ kind: "lease", what, lease: leaseView(lease) });
  }
}
