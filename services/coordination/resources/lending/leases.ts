import type { Failure } from "#kernel/error.ts";
import type { LogInstant } from "../../log/book.ts";
import type { ResourceCommand, ResourceValue } from "../commands.ts";
import { MICRO_MAX, partOf } from "./ledger.ts";
import { type LeaseRecord, leaseDeadline, leaseView, offerKey } from "./records.ts";
import type { ResourceState } from "./state.ts";

type Result = ResourceValue | Failure;
type Command<K extends ResourceCommand["kind"]> = Extract<ResourceCommand, { kind: K }>;

/** heldBy finds an allocation that an author has, by a fence that is its own now (RB3). */
function heldBy(state: ResourceState, author: string, lease: number, fence: number): LeaseRecord | Failure {
  const record = state.leases.get(lease);
  if (record === undefined || record.borrower !== author)
    return { reason: "LEASE_OVER", message: `${author} has no lease ${lease}: it is over, or another hub's; ask for another` };
  if (record.fence !== fence)
    return {
      reason: "FENCE_STALE",
      message: `fence ${fence} of lease ${lease} is not the one in force; stop what runs under it and read the lease again`,
    };
  return record;
}

function leaseValue(at: LogInstant, record: LeaseRecord): ResourceValue {
  return { kind: "lease", lease: leaseView(record), remainingMs: Math.max(0, record.endsAt - at.time) };
}

/** onRenew has a lease end so long after now, at the price that was agreed on. It never makes one shorter. */
export function onRenew(state: ResourceState, at: LogInstant, author: string, command: Command<"renew">): Result {
  const record = heldBy(state, author, command.lease, command.fence);
  if ("reason" in record) return record;
  const { offer } = record;
  const { policy, absent } = state.hub(offer.owner);
  if (record.state !== "live") return { reason: "LEASE_OVER", message: `lease ${record.lease} has ended: ${record.end}; ask for another` };
  if (record.notice !== undefined)
    return { reason: "LEASE_OVER", message: `lease ${record.lease} is ${record.notice} and ends soon; ask for another` };
  if (offer.withdrawn)
    return { reason: "OFFER_NOT_FOUND", message: `${offer.key} was withdrawn: its leases are not renewed; ask another owner` };
  if (absent) return { reason: "PEER_UNREACHABLE", message: `${offer.owner} is not there: its leases are not renewed; ask another owner` };
  const most = offer.offer.what.kind === "storage" ? policy.storage.retentionMs : policy.maxDurationMs;
  if (command.durationMs > most)
    return {
      reason: "LIMIT_EXCEEDED",
      field: "duration_ms",
      message: `${offer.owner} lends for at most ${most} ms at a time; ask for less`,
    };
  const longer = at.time + command.durationMs - record.endsAt;
  if (longer <= 0) {
    // Log time may have stood still meanwhile. The borrower measures from now on, so the owner does as well.
    state.tell("renewed", record);
    return leaseValue(at, record);
  }
  const cost = partOf(record.costMicro, longer, record.paidMs, true);
  if (record.costMicro + cost > MICRO_MAX || state.ledger.balance(author) - cost < -state.rules.creditMicro)
    return {
      reason: "QUOTA_EXCEEDED",
      message: `${author} owes as much as it may; lend something first, or let lease ${record.lease} end`,
    };
  state.ledger.hold(author, cost);
  record.costMicro += cost;
  record.paidMs += longer;
  record.endsAt += longer;
  state.deadlines.set(leaseDeadline(record.lease), record.endsAt);
  state.tell("renewed", record);
  return leaseValue(at, record);
}

/** onRelease ends a lease before its time. Its units are free when the owner says that nothing runs any more. */
export function onRelease(state: ResourceState, at: LogInstant, author: string, command: Command<"release">): Result {
  const record = heldBy(state, author, command.lease, command.fence);
  if ("reason" in record) return record;
  state.endLease(record, at.time, "released");
  return leaseValue(at, record);
}

/** onReclaim is the owner's notice that it wants something back; the grace is that of all notices at the least (RB9). */
export function onReclaim(state: ResourceState, at: LogInstant, author: string, command: Command<"reclaim">): Result {
  const record = state.leases.get(command.lease);
  if (record === undefined || record.state !== "live")
    return { reason: "LEASE_OVER", message: `lease ${command.lease} is not one that runs; list those of this hub` };
  if (record.offer.owner !== author)
    return { reason: "ACCESS_DENIED", message: `lease ${command.lease} is of ${record.offer.owner}; only its owner reclaims it` };
  state.shorten(record, at.time + Math.max(command.graceMs, state.rules.graceMs), "reclaimed");
  return leaseValue(at, record);
}

/**
 * onStopped is the owner's word that nothing runs under some leases any more: only this makes units free (RB11). What had not ended ends.
 * Leases that are not there any more have been said before.
 */
export function onStopped(state: ResourceState, at: LogInstant, author: string, command: Command<"stopped">): Result {
  const records = command.leases.map((lease) => state.leases.get(lease)).filter((record) => record !== undefined);
  const foreign = records.find((record) => record.offer.owner !== author);
  if (foreign !== undefined)
    return { reason: "ACCESS_DENIED", message: `lease ${foreign.lease} is of ${foreign.offer.owner}; only its owner says that it stopped` };
  const early = records.find((record) => record.state === "reserved");
  if (early !== undefined)
    return { reason: "LEASE_OVER", message: `lease ${early.lease} has not begun; withdraw the offer to take a reservation back` };
  for (const record of records) {
    state.endLease(record, at.time, "stopped");
    state.tell("freed", record);
    state.vacate(record);
  }
  return { kind: "done" };
}

/** onRefence gives each lease of an offer a new fence: who acts by an old one is refused from then on. */
export function onRefence(state: ResourceState, _at: LogInstant, author: string, command: Command<"refence">): Result {
  const offer = state.offers.get(offerKey(author, command.name));
  if (offer === undefined) return { reason: "OFFER_NOT_FOUND", message: `${author} has no offer ${command.name}; list those that it has` };
  for (const record of [...offer.leases].sort((a, b) => a.lease - b.lease)) {
    if (record.state !== "live") continue;
    record.fence = ++state.serial;
    state.tell("refenced", record);
  }
  return { kind: "done" };
}
