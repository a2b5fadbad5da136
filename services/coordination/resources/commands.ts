import type { Amounts } from "./amounts.ts";
import type { Kind, Want } from "./kinds.ts";

/** PRIORITIES are those of a request, from the least on. */
export const PRIORITIES = ["low", "medium", "high", "critical"] as const;

/** Priority is how urgent a request is. */
export type Priority = (typeof PRIORITIES)[number];

/** ON_DISCONNECT is what an owner may do with what a hub that is not connected any more has of it. */
export const ON_DISCONNECT = ["keep", "stop", "hand_back"] as const;

/** OnDisconnect is: keep it until the lease ends, stop it and leave the lease, or stop it and end the lease. */
export type OnDisconnect = (typeof ON_DISCONNECT)[number];

/** Policy is under which limits a hub lends (S1-22, S4-10, S4-11). Durations are ms. */
export interface Policy {
  /** Agents that one borrower has at a time. */
  readonly maxAgents: number;
  readonly maxDurationMs: number;
  /** Types of agents and work that are lent; all, if it is empty. Sorted. */
  readonly allowedTypes: readonly string[];
  /** How much of each capacity may be lent, per mille. */
  readonly maxUtilization: number;
  /** The highest priority that a request of others has here: a higher one counts as this. */
  readonly priority: Priority;
  /** What is lent may be taken back early for a request that goes before it. */
  readonly preemption: boolean;
  readonly storage: { readonly maxMb: number; readonly retentionMs: number; readonly replication: number };
  readonly onDisconnect: OnDisconnect;
}

/** DEFAULT_POLICY holds for an owner that has stated none. */
export const DEFAULT_POLICY: Policy = {
  maxAgents: 5,
  maxDurationMs: 7_200_000,
  allowedTypes: [],
  maxUtilization: 800,
  priority: "high",
  preemption: true,
  storage: { maxMb: 100_000, retentionMs: 30 * 86_400_000, replication: 2 },
  onDisconnect: "keep",
};

/** Offer is what an owner says of a resource. */
export interface Offer {
  readonly name: string;
  readonly what: Kind;
  readonly capacity: Amounts;
  /** What is not shared is never offered; a command that says so is refused (S4-8). */
  readonly shared: boolean;
  /** Millionths of a cost unit, per unit and hour, in the order of DIMENSIONS. */
  readonly prices: readonly number[];
  /** Requests are decided by the policy at once; else the owner answers each. */
  readonly automatic: boolean;
}

/** Terms are what owner and borrower agree on. `costMicro` is for the whole duration. */
export interface Terms {
  readonly amounts: Amounts;
  readonly durationMs: number;
  readonly costMicro: number;
}

/** ResourceCommand is what a hub says of lending, in the log. Amounts are vectors, times are durations in ms, costs are millionths. */
export type ResourceCommand =
  | { readonly kind: "policy"; readonly policy: Policy }
  /** A new offer, or another text of one that is there. */
  | { readonly kind: "offer"; readonly offer: Offer }
  /** No more of it is lent. What is lent goes on to its end; what is only reserved does not become an allocation. */
  | { readonly kind: "withdraw"; readonly name: string }
  /** What a borrower may count on (`nominal`) and have at the most (`limit`) of an offer of the author. */
  | { readonly kind: "quota"; readonly name: string; readonly borrower: string; readonly nominal: Amounts; readonly limit: Amounts }
  | {
      readonly kind: "request";
      /** Correlation id, of the author's own choice: a second request with it is answered as the first. */
      readonly id: string;
      /** Of this hub, and this resource of it, or of any if empty. */
      readonly owner: string;
      readonly name: string;
      readonly want: Want;
      readonly amounts: Amounts;
      readonly durationMs: number;
      readonly priority: Priority;
      readonly context: string;
      /** What it may cost; a request of a named resource that costs more is negotiated. */
      readonly maxCostMicro: number;
      /** How long to wait for room; 0 to be refused at once. */
      readonly waitMs: number;
    }
  /** Other terms, by whose turn it is. `round` is that of the terms which it answers. */
  | { readonly kind: "counter"; readonly borrower: string; readonly id: string; readonly round: number; readonly terms: Terms }
  /** Yes to the terms of a round, by whose turn it is. */
  | { readonly kind: "accept"; readonly borrower: string; readonly id: string; readonly round: number }
  /** No: of the owner while it is asked, or of the borrower until it has confirmed. */
  | { readonly kind: "decline"; readonly borrower: string; readonly id: string }
  /** The borrower takes what was reserved: the lease begins. */
  | { readonly kind: "confirm"; readonly id: string }
  | { readonly kind: "renew"; readonly lease: number; readonly fence: number; readonly durationMs: number }
  | { readonly kind: "release"; readonly lease: number; readonly fence: number }
  /** The owner wants it back: notice is given. */
  | { readonly kind: "reclaim"; readonly lease: number; readonly graceMs: number }
  /** The owner's word that nothing runs under these leases any more: their units are free, and those that had not ended have. */
  | { readonly kind: "stopped"; readonly leases: readonly number[] }
  /** The owner's executor does not know what it had admitted (a restored backup): each lease of it has a new fence. */
  | { readonly kind: "refence"; readonly name: string };

/** LEASE_STATES: reserved, then live, then ended; what has ended has its units until the owner says that it has stopped. */
export const LEASE_STATES = ["reserved", "live", "ended"] as const;

/** LeaseState is where an allocation stands. */
export type LeaseState = (typeof LEASE_STATES)[number];

/** ENDS are the ways in which an allocation ends. `lost`: a hub was removed. */
export const ENDS = ["expired", "released", "preempted", "reclaimed", "stopped", "lost"] as const;

/** LeaseEnd is how an allocation ended. */
export type LeaseEnd = (typeof ENDS)[number];

/** LeaseView is what can be seen of an allocation. Times are log times. */
export interface LeaseView {
  readonly lease: number;
  readonly owner: string;
  readonly name: string;
  readonly borrower: string;
  /** Of the request. */
  readonly id: string;
  readonly amounts: Amounts;
  /** Names of agents, if it is of agents. */
  readonly agents: readonly string[];
  readonly priority: Priority;
  readonly state: LeaseState;
  /** 0 while it is only reserved. */
  readonly fence: number;
  /** When it began, or was reserved. */
  readonly startedAt: number;
  /** When it ends: a reservation if it is not confirmed before. */
  readonly endsAt: number;
  readonly costMicro: number;
  /** It ends early for this reason. */
  readonly notice?: "preempted" | "reclaimed";
  readonly end?: LeaseEnd;
  readonly onDisconnect: OnDisconnect;
}

/** REQUEST_STATES: what has no room yet waits; what is to be agreed on is negotiated. `over` is for what came to nothing. */
export const REQUEST_STATES = ["waiting", "negotiating", "reserved", "confirmed", "over"] as const;

/** RequestState is where a request stands. */
export type RequestState = (typeof REQUEST_STATES)[number];

/** RequestView is what can be seen of a request. */
export interface RequestView {
  /** Its place among all that was numbered: who came first. */
  readonly seq: number;
  readonly borrower: string;
  readonly id: string;
  readonly state: RequestState;
  /** Of what it is, once that is known. */
  readonly owner: string;
  readonly name: string;
  readonly terms: Terms;
  /** The round of the terms, from 1, and whose turn it is to answer them; 0 where nothing is negotiated. */
  readonly round: number;
  readonly turn: "owner" | "borrower";
  readonly lease: number;
  /** When it is over by itself: the wait, the negotiation or the reservation; 0 when not. */
  readonly until: number;
  /** Why it is over. */
  readonly why: string;
}

/** Answer is S1-4's: ACCEPTED with what is reserved, or NEGOTIATING. REJECTED is a refused command. */
export interface Answer {
  readonly status: "accepted" | "negotiating" | "waiting";
  readonly request: RequestView;
  /** What is reserved. It must be confirmed within `confirmMs`. */
  readonly lease?: LeaseView;
  readonly confirmMs: number;
  /** From now until when it is there, if it is confirmed: log times. */
  readonly window: { readonly start: number; readonly end: number };
}

/** ResourceValue answers an author. */
export type ResourceValue =
  | { readonly kind: "answer"; readonly answer: Answer }
  | { readonly kind: "lease"; readonly lease: LeaseView; readonly remainingMs: number }
  | { readonly kind: "offer"; readonly name: string; readonly revision: number }
  | { readonly kind: "done" };

/** ResourceNews is what becomes known. */
export type ResourceNews =
  | { readonly kind: "offer"; readonly owner: string; readonly name: string; readonly what: "offered" | "withdrawn" | "gone" }
  | { readonly kind: "request"; readonly request: RequestView }
  /** `freed`: the units are there for others. `expired`: a reservation was not confirmed. */
  | {
      readonly kind: "lease";
      readonly what: "reserved" | "live" | "renewed" | "noticed" | "ended" | "refenced" | "freed" | "cancelled";
      readonly lease: LeaseView;
    };
