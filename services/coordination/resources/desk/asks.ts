import type { Finding } from "../audit.ts";
import type { OfferView } from "../book.ts";
import type { Answer, LeaseView, RequestView, ResourceCommand } from "../commands.ts";

/** Take says what this hub does once its request was accepted: nothing, confirm it, or confirm it and renew it until it is given back. */
export type Take = "no" | "once" | "keep";

/** LendingAsk is what a caller of this hub wants of lending. */
export type LendingAsk =
  /** Something that is decided and needs nothing else of this hub. */
  | {
      readonly kind: "command";
      readonly command: Exclude<ResourceCommand, { readonly kind: "request" | "confirm" | "renew" | "release" | "stopped" | "refence" }>;
      /** What is done where it reserves something for this hub: an accepted counter-offer. */
      readonly take: Take;
    }
  | { readonly kind: "request"; readonly command: Extract<ResourceCommand, { readonly kind: "request" }>; readonly take: Take }
  | { readonly kind: "confirm"; readonly id: string; readonly take: Exclude<Take, "no"> }
  | { readonly kind: "renew"; readonly lease: number; readonly fence: number; readonly durationMs: number }
  | { readonly kind: "release"; readonly lease: number; readonly fence: number }
  /** May the program `by` act under this lease now; or with `done`, it does nothing any more. Without `by`, this hub's operators ask, for all. */
  | { readonly kind: "check"; readonly lease: number; readonly fence: number; readonly done: boolean; readonly by?: string }
  | { readonly kind: "audit" }
  /** What this hub has of the book. */
  | { readonly kind: "list"; readonly what: "offers" | "requests" | "allocations" };

/** Allocation is a lease as this hub sees it. */
export interface Allocation {
  readonly lease: LeaseView;
  /** For how much longer this hub may use it, ms; 0 if it is another hub's, or may not be used. */
  readonly usableMs: number;
  /** How much is left of it by the last log time that this hub knows, ms. */
  readonly remainingMs: number;
}

/** LendingAnswer is what a caller gets. */
export type LendingAnswer =
  | { readonly kind: "answer"; readonly answer: Answer }
  | { readonly kind: "lease"; readonly allocation: Allocation }
  | { readonly kind: "offer"; readonly name: string; readonly revision: number }
  | { readonly kind: "done" }
  | { readonly kind: "admitted"; readonly agents: readonly string[]; readonly validMs: number }
  | { readonly kind: "audit"; readonly findings: readonly Finding[]; readonly asked: readonly string[]; readonly silent: readonly string[] }
  | { readonly kind: "offers"; readonly offers: readonly OfferView[]; readonly ageMs: number }
  | { readonly kind: "requests"; readonly requests: readonly RequestView[]; readonly ageMs: number }
  | { readonly kind: "allocations"; readonly allocations: readonly Allocation[]; readonly ageMs: number };

/** LendingReport is what executor and borrower of a hub say for the audit. */
export interface LendingReport {
  readonly runs: readonly { readonly lease: number; readonly fence: number; readonly ran: boolean; readonly orphan: boolean }[];
  readonly uses: readonly {
    readonly id: string;
    readonly lease: number;
    readonly fence: number;
    readonly usable: boolean;
    readonly inUse: boolean;
  }[];
}

/** LendingFrame is what hubs say to each other of lending, beside the log: an audit asks what runs and what is used. */
export type LendingFrame =
  | { readonly kind: "report_ask"; readonly id: number }
  | ({ readonly kind: "report"; readonly id: number } & LendingReport);
