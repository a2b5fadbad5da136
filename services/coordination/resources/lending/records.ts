import { type Amounts, loadOf } from "../amounts.ts";
import type {
  LeaseEnd,
  LeaseState,
  LeaseView,
  Offer,
  OnDisconnect,
  Policy,
  Priority,
  RequestState,
  RequestView,
  ResourceCommand,
  Terms,
} from "../commands.ts";

/** RequestCommand is a request as its borrower wrote it. */
export type RequestCommand = Extract<ResourceCommand, { kind: "request" }>;

/** Quota is what one borrower may count on, and have at the most, of an offer. */
export interface Quota {
  readonly nominal: Amounts;
  readonly limit: Amounts;
}

/** Use is what one borrower has of an offer: in all, and as far as its nominal quota protects it. */
export interface Use {
  readonly total: number[];
  readonly nominal: number[];
  readonly leases: Set<LeaseRecord>;
}

/** OfferRecord is an offer with what is lent of it. */
export interface OfferRecord {
  readonly key: string;
  readonly owner: string;
  offer: Offer;
  revision: number;
  withdrawn: boolean;
  /** What may be lent: the capacity times the owner's ceiling. */
  ceiling: Amounts;
  /** What is reserved, lent, or not yet back. */
  readonly used: number[];
  /** Agents that nobody has. Sorted. */
  free: string[];
  readonly quotas: Map<string, Quota>;
  readonly uses: Map<string, Use>;
  readonly leases: Set<LeaseRecord>;
  readonly talks: Set<RequestRecord>;
  /** Requests for which what becomes free here is kept. */
  readonly claims: Set<RequestRecord>;
}

/** LeaseRecord is a reservation that may become an allocation, or an allocation. */
export interface LeaseRecord {
  readonly lease: number;
  readonly offer: OfferRecord;
  readonly borrower: string;
  readonly id: string;
  readonly amounts: Amounts;
  readonly agents: readonly string[];
  priority: Priority;
  readonly onDisconnect: OnDisconnect;
  state: LeaseState;
  fence: number;
  startedAt: number;
  endsAt: number;
  /** What is in escrow, and the time that it is for. */
  costMicro: number;
  paidMs: number;
  notice: "preempted" | "reclaimed" | undefined;
  end: LeaseEnd | undefined;
  /** Within its borrower's nominal quota: it is no victim. */
  nominal: boolean;
}

/** RequestRecord is a request with what has become of it. */
export interface RequestRecord {
  readonly key: string;
  /** Position among all that was numbered: who came first. */
  readonly seq: number;
  readonly borrower: string;
  readonly command: RequestCommand;
  readonly since: number;
  state: RequestState;
  owner: string;
  name: string;
  terms: Terms;
  round: number;
  turn: "owner" | "borrower";
  lease: number;
  until: number;
  why: string;
  /** The offer for which it has a claim. */
  claim: OfferRecord | undefined;
}

/** HubRecord is a hub as owner and as borrower. */
export interface HubRecord {
  policy: Policy;
  /** It has said what its policy is. */
  stated: boolean;
  absent: boolean;
  readonly offers: Set<OfferRecord>;
  /** Agents that each borrower has of it. */
  readonly lent: Map<string, number>;
  /** What it has of others, reservations included; what has ended is not its any more. */
  readonly use: number[];
  /** Requests that are kept, and the characters of their contexts. */
  requests: number;
  context: number;
  /** Leases of its offers. */
  leases: number;
}

/** offerKey names an offer among all, and requestKey a request. */
export function offerKey(owner: string, name: string): string {
  return `${owner}/${name}`;
}

export function requestKey(borrower: string, id: string): string {
  return `${borrower} ${id}`;
}

const REQUEST = "r ";
const LEASE = "l ";

/** requestDeadline and leaseDeadline are the keys of deadlines; dueOf reads what one is of. */
export function requestDeadline(key: string): string {
  return REQUEST + key;
}

export function leaseDeadline(lease: number): string {
  return `${LEASE}${String(lease).padStart(16, "0")}`;
}

export function dueOf(key: string): { readonly request: string } | { readonly lease: number } {
  return key.startsWith(REQUEST) ? { request: key.slice(REQUEST.length) } : { lease: Number(key.slice(LEASE.length)) };
}

/** leaseView is what can be seen of a lease. */
export function leaseView(record: LeaseRecord): LeaseView {
  const { lease, offer, borrower, id, amounts, agents, priority, state, fence, startedAt, endsAt, costMicro, notice, end } = record;
  return {
    ...{ lease, owner: offer.owner, name: offer.offer.name, borrower, id, amounts, agents, priority, state, fence, startedAt, endsAt },
    ...{ costMicro, onDisconnect: record.onDisconnect },
    ...(notice === undefined ? {} : { notice }),
    ...(end === undefined ? {} : { end }),
  };
}

/** requestView is what can be seen of a request. */
export function requestView(record: RequestRecord): RequestView {
  const { seq, borrower, command, state, owner, name, terms, round, turn, lease, until, why } = record;
  return { seq, borrower, id: command.id, state, owner, name, terms, round, turn, lease, until, why };
}

/** loadOfOffer is how much of what may be lent is, per mille. */
export function loadOfOffer(offer: OfferRecord): number {
  return loadOf(offer.ceiling, offer.used);
}
