import type { Now } from "#kernel/instant.ts";
import type { ResourceBook } from "../book.ts";
import type { LeaseBorrower } from "../borrower.ts";
import type { LeaseView } from "../commands.ts";
import type { Allocation, LendingAnswer } from "./asks.ts";

/** allocationOf is a lease as this hub sees it at a log time. */
export function allocationOf(lease: LeaseView, logTime: number, borrower: LeaseBorrower, now: Now): Allocation {
  const remainingMs = lease.state === "ended" ? 0 : Math.max(0, lease.endsAt - logTime);
  return { lease, usableMs: borrower.usableMs(now, lease.lease), remainingMs };
}

/** listOf is what the book here has of one kind. */
export function listOf(
  what: "offers" | "requests" | "allocations",
  book: ResourceBook,
  logTime: number,
  ageMs: number,
  borrower: LeaseBorrower,
  now: Now,
): LendingAnswer {
  if (what === "offers") return { kind: "offers", offers: book.offers(), ageMs };
  if (what === "requests") return { kind: "requests", requests: book.requests(), ageMs };
  return { kind: "allocations", allocations: book.leases().map((lease) => allocationOf(lease, logTime, borrower, now)), ageMs };
}
