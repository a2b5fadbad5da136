import { assert } from "#kernel/assert.ts";
import type { Failure } from "#kernel/error.ts";
import { isHubId } from "#kernel/hub-id.ts";
import type { Book, LogInstant, Outcome } from "../log/book.ts";
import { amountsText } from "./amounts.ts";
import { commandProblem, invalid } from "./check.ts";
import {
  DEFAULT_POLICY,
  type LeaseView,
  type Offer,
  type Policy,
  PRIORITIES,
  type Priority,
  type RequestView,
  type ResourceCommand,
  type ResourceNews,
  type ResourceValue,
} from "./commands.ts";
import type { Ratio } from "./fair.ts";
import { dumpOf, loadInto, type ResourceDump } from "./lending/dump.ts";
import { onReclaim, onRefence, onRelease, onRenew, onStopped } from "./lending/leases.ts";
import { serve } from "./lending/line.ts";
import { onOffer, onPolicy, onQuota, onWithdraw, withdraw } from "./lending/offers.ts";
import { dueOf, leaseView, loadOfOffer, type OfferRecord, offerKey, requestKey, requestView } from "./lending/records.ts";
import { dissolve, onAccept, onConfirm, onCounter, onDecline, onRequest } from "./lending/requests.ts";
import { ResourceState } from "./lending/state.ts";
import { RULES, type Rules } from "./rules.ts";

/** OfferView is what can be seen of an offer. Load is per mille of what may be lent. */
export interface OfferView {
  readonly owner: string;
  readonly offer: Offer;
  readonly revision: number;
  readonly withdrawn: boolean;
  readonly absent: boolean;
  readonly ceiling: readonly number[];
  readonly used: readonly number[];
  readonly load: number;
}

/**
 * ResourceBook is what a federation knows of lending: offers, requests, negotiations, reservations, allocations and what they cost.
 *
 * RB1 what is reserved and lent of an offer, what is not back yet included, is never more than its capacity times its owner's ceiling.
 * RB2 a unit has one holder: an agent is named in one lease at a time, and other units are counted.
 * RB3 each fence of a resource is higher than all before. An allocation is changed only by who names the fence that is in force.
 * RB4 a lease ends at its log time or before; its owner's executor and its borrower measure it in durations (RE4, RK2).
 * RB5 nothing is lent that was not reserved and then confirmed; a reservation that is not confirmed in time is over.
 * RB6 each allocation has an end, which comes at its log time whatever becomes of the hubs.
 * RB7 what was rejected, withdrawn, or has expired never becomes an allocation: of two that race, the first in the log wins.
 * RB8 a request within its borrower's nominal quota goes before all that are not, whatever the shares; and an allocation that the quota
 *    protects is no victim. Nominal quotas of an offer together are no more than its ceiling.
 * RB9 who ends early for somebody else has notice and grace, goes behind it, and could not be spared; a young allocation is left alone.
 * RB10 what a hub pays, another is paid: all accounts and what is in escrow are zero together.
 * RB11 what is not known is not free: units of an allocation that has ended are lent again only after its owner's word that nothing runs,
 *    and nothing of an owner that is away is lent.
 * RB12 book, executors and borrowers do not contradict each other (audit.ts).
 * RB13 no hub makes its own share small by what it says that it offers: that counts no more than what all others offer together. Nor does an
 *    owner make a borrower's large by its silence: what has ended does not count, though its units are not free yet.
 */
export class ResourceBook implements Book<ResourceCommand, ResourceValue, ResourceNews, ResourceDump> {
  #state: ResourceState;

  constructor(rules: Rules = RULES) {
    this.#state = new ResourceState(rules);
  }

  apply(at: LogInstant, author: string, command: ResourceCommand): Outcome<ResourceValue, ResourceNews> {
    const problem = isHubId(author) ? commandProblem(command) : invalid("author", "the author is not a hub; sign as one");
    const result = problem ?? this.#handle(at, author, command);
    if ("reason" in result) {
      assert(this.#state.news.length === 0, "a refused command changes nothing", { command: command.kind });
      return { ok: false, failure: result };
    }
    return { ok: true, value: result, news: this.#settle(at) };
  }

  due(): number | undefined {
    return this.#state.deadlines.first();
  }

  expire(at: LogInstant): readonly ResourceNews[] {
    const state = this.#state;
    for (let key = state.deadlines.take(at.time); key !== undefined; key = state.deadlines.take(at.time)) {
      const due = dueOf(key);
      if ("lease" in due) this.#leaseDue(due.lease);
      else this.#requestDue(at, due.request);
    }
    return this.#settle(at);
  }

  dump(): ResourceDump {
    return dumpOf(this.#state);
  }

  load(data: ResourceDump): void {
    this.#state = new ResourceState(this.#state.rules);
    loadInto(this.#state, data);
    this.#state.news = [];
    this.#state.touched.clear();
  }

  /** setAbsent notes what the federation has decided of a hub: that it is away, or that it is back. What is away lends nothing (RB11). */
  setAbsent(at: LogInstant, hub: string, absent: boolean): readonly ResourceNews[] {
    const record = this.#state.hub(hub);
    record.absent = absent;
    for (const offer of record.offers) this.#state.touched.add(offer);
    this.#state.tidy(hub);
    return this.#settle(at);
  }

  /** remove has a hub that left the federation lend and borrow no more. What it lent is lost; what it borrowed ends, and its owners say when it has stopped. */
  remove(at: LogInstant, hub: string): readonly ResourceNews[] {
    const state = this.#state;
    const record = state.hub(hub);
    const why = `${hub} left the federation`;
    for (const offer of [...record.offers].sort((a, b) => (a.key < b.key ? -1 : 1))) {
      if (!offer.withdrawn) withdraw(state, at.time, offer, why);
      for (const lease of [...offer.leases].sort((a, b) => a.lease - b.lease)) {
        state.endLease(lease, at.time, "lost");
        state.tell("freed", lease);
        state.vacate(lease);
      }
    }
    const own = [...state.requests.values()].filter(({ borrower }) => borrower === hub).sort((a, b) => a.seq - b.seq);
    for (const request of own) if (request.state !== "confirmed") dissolve(state, at.time, request, why);
    for (const lease of [...state.leases.values()].sort((a, b) => a.lease - b.lease))
      if (lease.borrower === hub) state.endLease(lease, at.time, "lost");
    state.ledger.writeOff(hub);
    Object.assign(record, { policy: DEFAULT_POLICY, stated: false, absent: false });
    state.tidy(hub);
    return this.#settle(at);
  }

  /** reprioritize gives an allocation the priority that the federation decided, no higher than its owner's policy allows. */
  reprioritize(at: LogInstant, lease: number, priority: Priority): Outcome<ResourceValue, ResourceNews> {
    const state = this.#state;
    const record = state.leases.get(lease);
    if (record?.state !== "live") return { ok: false, failure: { reason: "LEASE_OVER", message: `lease ${lease} does not run any more` } };
    const most = state.hub(record.offer.owner).policy.priority;
    record.priority = PRIORITIES.indexOf(priority) > PRIORITIES.indexOf(most) ? most : priority;
    // Somebody may go before it now.
    state.touched.add(record.offer);
    const value = { kind: "lease", lease: leaseView(record), remainingMs: Math.max(0, record.endsAt - at.time) } as const;
    return { ok: true, value, news: this.#settle(at) };
  }

  /** offers are all offers, by key, those that are withdrawn and still lent included. */
  offers(): OfferView[] {
    return [...this.#state.offers.values()].sort((a, b) => (a.key < b.key ? -1 : 1)).map((record) => this.#offerView(record));
  }

  /** offer is one offer. */
  offer(owner: string, name: string): OfferView | undefined {
    const record = this.#state.offers.get(offerKey(owner, name));
    return record === undefined ? undefined : this.#offerView(record);
  }

  /** leases are all that are reserved, run, or are not back yet, by number; those of one owner or borrower if one is named. */
  leases(of: { readonly owner?: string; readonly borrower?: string } = {}): LeaseView[] {
    return [...this.#state.leases.values()]
      .filter((lease) => (of.owner ?? lease.offer.owner) === lease.offer.owner && (of.borrower ?? lease.borrower) === lease.borrower)
      .sort((a, b) => a.lease - b.lease)
      .map(leaseView);
  }

  /** lease is one lease. */
  lease(lease: number): LeaseView | undefined {
    const record = this.#state.leases.get(lease);
    return record === undefined ? undefined : leaseView(record);
  }

  /** request is one request, as long as it is remembered. */
  request(borrower: string, id: string): RequestView | undefined {
    const record = this.#state.requests.get(requestKey(borrower, id));
    return record === undefined ? undefined : requestView(record);
  }

  /** requests are all that are remembered, by when they came; with those to which an owner has to answer if one is named. */
  requests(of: { readonly owner?: string; readonly borrower?: string } = {}): RequestView[] {
    return [...this.#state.requests.values()]
      .filter((request) => (of.owner ?? request.owner) === request.owner && (of.borrower ?? request.borrower) === request.borrower)
      .sort((a, b) => a.seq - b.seq)
      .map(requestView);
  }

  /** policy is that of an owner. */
  policy(owner: string): Policy {
    return this.#state.hubs.get(owner)?.policy ?? DEFAULT_POLICY;
  }

  /** share is the dominant share that a borrower has of all that may be lent, its own offers bounded (RB13). */
  share(borrower: string): Ratio {
    return this.#state.shareOf(borrower);
  }

  /** totals is all that may be lent in the federation. */
  totals(): readonly number[] {
    return [...this.#state.totals];
  }

  /** balance of a hub, in millionths of a unit: below zero if it owes. */
  balance(hub: string): number {
    return this.#state.ledger.balance(hub);
  }

  /** fence is the highest number that was given out: what an executor that has lost its memory takes as its floor. */
  fence(): number {
    return this.#state.serial;
  }

  describe(): string {
    const offers = this.offers().map(
      ({ owner, offer, load, used, withdrawn, absent }) =>
        `  ${owner}/${offer.name} ${amountsText(used)} load=${load}${withdrawn ? " withdrawn" : ""}${absent ? " absent" : ""}`,
    );
    const leases = this.leases().map(
      ({ lease, owner, name, borrower, state, fence, endsAt, amounts, notice, end }) =>
        `  ${lease} ${owner}/${name} to ${borrower} ${end ?? notice ?? state} fence=${fence} until=${endsAt} ${amountsText(amounts)}`,
    );
    const requests = this.requests()
      .filter(({ state }) => state !== "over" && state !== "confirmed")
      .map(({ borrower, id, state, round }) => `  ${borrower} ${id} ${state}${round > 0 ? ` round=${round}` : ""}`);
    return ["offers", ...offers, "leases", ...leases, "requests", ...requests].join("\n");
  }

  #offerView(record: OfferRecord): OfferView {
    const { owner, offer, revision, withdrawn, ceiling, used } = record;
    const absent = this.#state.hubs.get(owner)?.absent ?? false;
    return { owner, offer, revision, withdrawn, absent, ceiling, used: [...used], load: loadOfOffer(record) };
  }

  #handle(at: LogInstant, author: string, command: ResourceCommand): ResourceValue | Failure {
    const state = this.#state;
    switch (command.kind) {
      case "policy":
        return onPolicy(state, at, author, command);
      case "offer":
        return onOffer(state, at, author, command);
      case "withdraw":
        return onWithdraw(state, at, author, command);
      case "quota":
        return onQuota(state, at, author, command);
      case "request":
        return onRequest(state, at, author, command);
      case "counter":
        return onCounter(state, at, author, command);
      case "accept":
        return onAccept(state, at, author, command);
      case "decline":
        return onDecline(state, at, author, command);
      case "confirm":
        return onConfirm(state, at, author, command);
      case "renew":
        return onRenew(state, at, author, command);
      case "release":
        return onRelease(state, at, author, command);
      case "reclaim":
        return onReclaim(state, at, author, command);
      case "stopped":
        return onStopped(state, at, author, command);
      case "refence":
        return onRefence(state, at, author, command);
    }
  }

  #leaseDue(lease: number): void {
    const record = this.#state.leases.get(lease);
    if (record?.state === "live") this.#state.endLease(record, record.endsAt, record.notice ?? "expired");
  }

  #requestDue(at: LogInstant, key: string): void {
    const state = this.#state;
    const request = state.requests.get(key);
    if (request === undefined) return;
    if (request.state === "over") state.forget(request);
    else if (request.state === "negotiating") state.overRequest(request, at.time, "its terms were not answered in time");
    else if (request.state === "reserved") dissolve(state, at.time, request, "it was not confirmed in time");
    else if (request.state === "waiting") state.overRequest(request, at.time, "nothing became free in time");
  }

  /** settle gives what became free to those that wait, and takes the news. */
  #settle(at: LogInstant): readonly ResourceNews[] {
    const state = this.#state;
    while (state.touched.size > 0) {
      const touched = [...state.touched].sort((a, b) => (a.key < b.key ? -1 : 1));
      state.touched.clear();
      for (const offer of touched) serve(state, at, offer);
    }
    const { news } = state;
    state.news = [];
    return news;
  }
}
