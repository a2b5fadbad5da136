import { assert } from "#kernel/assert.ts";
import { Retry } from "#kernel/backoff.ts";
import type { Core, Persist, StoreOp } from "#kernel/core.ts";
import type { Failure } from "#kernel/error.ts";
import type { Now } from "#kernel/instant.ts";
import type { LeaseView, ResourceCommand } from "./commands.ts";
import { BORROWER_SPACE, holdingBytes, type StoredHolding } from "./kept.ts";

/** BorrowerConfig is the times of a borrower, ms. */
export interface BorrowerConfig {
  /** The grace of notices (`Rules.graceMs`): what was not read for so long is not used. */
  readonly graceMs: number;
  /** By how much the monotonic clocks of two hubs may differ, per mille, and what is left beside that. */
  readonly driftPerMille: number;
  readonly marginMs: number;
}

/** BORROWER_DEFAULTS are the times where nothing else is configured. */
export const BORROWER_DEFAULTS: BorrowerConfig = { graceMs: 30_000, driftPerMille: 5, marginMs: 1_000 };

/** BorrowerInput is what a borrower takes. */
export type BorrowerInput =
  /**
   * A request was accepted: what is reserved is to be confirmed, and kept for so long at a time until it is given back; with a duration of 0
   * it is not renewed, and ends when its lease does.
   */
  | { readonly kind: "take"; readonly id: string; readonly durationMs: number }
  | { readonly kind: "give_back"; readonly id: string }
  /** The outcome of a command, with what is left of the lease at its log time. */
  | { readonly kind: "answered"; readonly call: number; readonly lease: LeaseView; readonly remainingMs: number }
  /** Somebody else at this hub renewed a lease: with what is left of it since `askedAt`, when that was asked for. */
  | { readonly kind: "renewed"; readonly askedAt: number; readonly lease: LeaseView; readonly remainingMs: number }
  /** It was decided that it does not happen. */
  | { readonly kind: "failed"; readonly call: number; readonly failure: Failure }
  /** It is not known whether it happened, or will. */
  | { readonly kind: "unknown"; readonly call: number }
  /** All leases of this hub by a linearizable read that began after it was asked for. */
  | { readonly kind: "read"; readonly call: number; readonly leases: readonly LeaseView[] }
  /** News of the book of a lease of this hub. */
  | { readonly kind: "news"; readonly what: string; readonly lease: LeaseView }
  /** Nothing is used of it any more. */
  | { readonly kind: "idle"; readonly id: string };

/** BorrowerEffect is what a borrower asks for. */
export type BorrowerEffect =
  | Persist
  | { readonly kind: "propose"; readonly call: number; readonly command: ResourceCommand }
  | { readonly kind: "read"; readonly call: number }
  /** It may be used under this fence, until it is said that it may not. */
  | { readonly kind: "usable"; readonly id: string; readonly lease: number; readonly fence: number; readonly agents: readonly string[] }
  /** It may not be used: for the moment (`ends` is false), or not any more. Answered by `idle`. */
  | { readonly kind: "stop"; readonly id: string; readonly ends: boolean; readonly why: string }
  /** It is over. */
  | { readonly kind: "gone"; readonly id: string; readonly why: string };

interface Holding {
  readonly id: string;
  readonly durationMs: number;
  lease: LeaseView | undefined;
  /** When the command began that was answered last, and what was left of the lease then. */
  anchorAt: number;
  remainingMs: number;
  /** When the last command or read began that was answered. */
  seenAt: number;
  usable: boolean;
  /** Something may still be used, until `idle`. */
  inUse: boolean;
  givingBack: boolean;
  /** The command on its way, with when it began. */
  call: number | undefined;
  askedAt: number;
  readonly asking: Retry;
}

const NEVER = Number.POSITIVE_INFINITY;
/** How a command is sent again whose outcome is not known, or that was refused: the log is not for what is refused. */
const ASKING = { baseMs: 1_000, maxMs: 30_000, factor: 2 };

/**
 * LeaseBorrower keeps what this hub has of others: it confirms, renews and gives back, and says when something may be used.
 *
 * RK1 nothing is used before the book was seen to say that it is this hub's, and no fence but the last one seen is.
 * RK2 use ends earlier than the owner gives the units to somebody else. A lease is measured from before it was asked for, and shorter by the
 *    drift of clocks and a margin; and what the book was not asked about for as long as a grace is not used, since there may be a notice.
 * RK3 renewal begins when half is left, and is tried until nothing is.
 * RK4 an outcome that is not known counts as held: the same command is sent again, which the book answers as the first time; nothing else is
 *    asked for in its place.
 * RK5 after a restart all that was confirmed, or may have been, is known, and none of it is used before the book has said what is left of it.
 *    What the book says is this hub's and the hub does not know of, as after a restored backup, is given back.
 */
export class LeaseBorrower implements Core<BorrowerInput, BorrowerEffect> {
  readonly #config: BorrowerConfig;
  readonly #held = new Map<string, Holding>();
  #lastCall = 0;
  #read: { readonly call: number; readonly askedAt: number } | undefined;
  /** When the book is read: at the start, too, whatever the store has. */
  #readAt = Number.NEGATIVE_INFINITY;
  #begun = false;

  constructor(config: BorrowerConfig, stored: readonly StoredHolding[]) {
    this.#config = config;
    for (const { id, durationMs } of stored) this.#held.set(id, holding(id, durationMs));
  }

  step(now: Now, input: BorrowerInput, out: BorrowerEffect[]): void {
    switch (input.kind) {
      case "take":
        if (this.#held.has(input.id)) break;
        this.#held.set(input.id, holding(input.id, input.durationMs));
        out.push(persist({ op: "put", space: BORROWER_SPACE, key: input.id, bytes: holdingBytes(input.durationMs) }));
        break;
      case "give_back": {
        const item = this.#held.get(input.id);
        if (item === undefined) break;
        item.givingBack = true;
        this.#stop(item, true, "it is given back", out);
        break;
      }
      case "renewed": {
        const item = this.#held.get(input.lease.id);
        if (item?.lease?.lease === input.lease.lease) this.#anchor(item, input.lease, input.askedAt, input.remainingMs, out);
        break;
      }
      case "answered":
      case "failed":
      case "unknown":
        this.#outcome(now, input, out);
        break;
      case "read":
        this.#seen(input, out);
        break;
      case "news":
        this.#news(input.what, input.lease, out);
        break;
      case "idle": {
        const item = this.#held.get(input.id);
        if (item !== undefined && !item.usable) item.inUse = false;
        break;
      }
    }
    this.tick(now, out);
  }

  tick(now: Now, out: BorrowerEffect[]): void {
    for (const item of [...this.#held.values()]) {
      if (item.usable && now.mono >= this.#safeUntil(item)) this.#stop(item, false, "it may not be this hub's any more", out);
      else if (!item.usable && !item.givingBack && item.lease !== undefined && now.mono < this.#safeUntil(item)) use(item, out);
      this.#advance(now, item, out);
    }
    if (this.#held.size === 0 && this.#begun) this.#readAt = NEVER;
    else if (this.#readAt === NEVER) this.#readAt = now.mono + this.#config.graceMs / 3;
    if (now.mono < this.#readAt) return;
    // An answer that does not come is not waited for: another is asked for.
    this.#readAt = now.mono + this.#config.graceMs / 6;
    this.#read = { call: ++this.#lastCall, askedAt: now.mono };
    out.push({ kind: "read", call: this.#read.call });
  }

  deadline(): number | undefined {
    let due = this.#readAt;
    for (const item of this.#held.values()) {
      if (item.usable) due = Math.min(due, this.#safeUntil(item));
      due = Math.min(due, this.#dueOf(item));
    }
    return due === NEVER ? undefined : due;
  }

  describe(): string {
    const rows = [...this.#held.values()]
      .sort((a, b) => (a.id < b.id ? -1 : 1))
      .map(
        ({ id, lease, usable, givingBack }) =>
          `  ${id} ${lease === undefined ? "unknown" : `lease=${lease.lease} fence=${lease.fence}`}${usable ? " usable" : ""}${givingBack ? " giving back" : ""}`,
      );
    return ["held", ...rows].join("\n");
  }

  /** usableMs is for how much longer a lease may be used as things are; 0 for not now. */
  usableMs(now: Now, lease: number): number {
    const item = [...this.#held.values()].find((one) => one.usable && one.lease?.lease === lease);
    return item === undefined ? 0 : Math.max(0, Math.floor(this.#safeUntil(item) - now.mono));
  }

  /** has tells whether this hub holds what a request was for, or is about to. */
  has(id: string): boolean {
    return this.#held.has(id);
  }

  /** report is what this hub uses, or holds without using it, for the audit (RB12). */
  report(): { readonly id: string; readonly lease: number; readonly fence: number; readonly usable: boolean; readonly inUse: boolean }[] {
    return [...this.#held.values()]
      .map(({ id, lease, usable, inUse }) => ({ id, lease: lease?.lease ?? 0, fence: lease?.fence ?? 0, usable, inUse }))
      .sort((a, b) => (a.id < b.id ? -1 : 1));
  }

  /** safeUntil is how long something may be used by what was last seen of it (RK2). */
  #safeUntil(item: Holding): number {
    const { driftPerMille, marginMs, graceMs } = this.#config;
    const shorter = (ms: number): number => ms - Math.ceil((ms * driftPerMille) / 1_000) - marginMs;
    return Math.min(item.anchorAt + shorter(item.remainingMs), item.seenAt + shorter(graceMs));
  }

  #dueOf(item: Holding): number {
    if (item.call !== undefined) return NEVER;
    if (item.lease === undefined) return item.givingBack && item.inUse ? NEVER : item.asking.dueAt;
    if (item.givingBack) return item.inUse ? NEVER : item.asking.dueAt;
    if (item.lease.notice !== undefined || item.durationMs === 0) return NEVER;
    return Math.max(item.asking.dueAt, item.anchorAt + item.remainingMs / 2);
  }

  /** advance sends the command that is due: confirm, renew or release. */
  #advance(now: Now, item: Holding, out: BorrowerEffect[]): void {
    if (now.mono < this.#dueOf(item)) return;
    const { lease } = item;
    item.call = ++this.#lastCall;
    item.askedAt = now.mono;
    const command: ResourceCommand =
      lease === undefined
        ? { kind: "confirm", id: item.id }
        : item.givingBack
          ? { kind: "release", lease: lease.lease, fence: lease.fence }
          : { kind: "renew", lease: lease.lease, fence: lease.fence, durationMs: item.durationMs };
    out.push({ kind: "propose", call: item.call, command });
  }

  #outcome(now: Now, input: Extract<BorrowerInput, { kind: "answered" | "failed" | "unknown" }>, out: BorrowerEffect[]): void {
    const item = [...this.#held.values()].find(({ call }) => call === input.call);
    if (item === undefined) return;
    item.call = undefined;
    if (input.kind === "answered") {
      item.asking.reset();
      if (input.lease.state === "ended") this.#gone(item, `its lease has ended: ${input.lease.end}`, out);
      else this.#anchor(item, input.lease, item.askedAt, input.remainingMs, out);
    } else if (input.kind === "failed") this.#failed(item, input.failure, out);
    if (input.kind === "answered") return;
    item.asking.failed(now.mono);
    // Whatever was decided is seen by reading.
    this.#readAt = Math.min(this.#readAt, now.mono);
  }

  #failed(item: Holding, failure: Failure, out: BorrowerEffect[]): void {
    // A refused confirmation says that there is no lease, and a lease that is over has none to renew.
    const over =
      failure.reason === "NEGOTIATION_OVER" || (failure.reason === "LEASE_OVER" && (item.givingBack || item.lease === undefined));
    if (over) this.#gone(item, failure.message, out);
  }

  /** anchor takes an answer to a command: its entry has a log time, so that what is left is known from when it was sent. */
  #anchor(item: Holding, lease: LeaseView, askedAt: number, remainingMs: number, out: BorrowerEffect[]): void {
    if (item.lease !== undefined && lease.fence < item.lease.fence) return;
    this.#refence(item, lease, out);
    item.lease = lease;
    item.anchorAt = askedAt;
    item.remainingMs = remainingMs;
    if (lease.notice === undefined) item.seenAt = Math.max(item.seenAt, askedAt);
  }

  /**
   * look takes a view that a read or news gave. When it ends is not taken from there, since log time may have been set meanwhile; and once
   * there is a notice nothing counts as seen any more: it was written after the last look that did not show it, so a grace after that is safe.
   */
  #look(item: Holding, lease: LeaseView, out: BorrowerEffect[]): void {
    this.#refence(item, lease, out);
    item.lease = lease;
  }

  #refence(item: Holding, lease: LeaseView, out: BorrowerEffect[]): void {
    if (item.lease !== undefined && item.lease.fence !== lease.fence) this.#stop(item, false, "it has another fence", out);
  }

  #seen(input: Extract<BorrowerInput, { kind: "read" }>, out: BorrowerEffect[]): void {
    const read = this.#read;
    if (read === undefined || read.call !== input.call) return;
    this.#read = undefined;
    this.#begun = true;
    this.#readAt = read.askedAt + this.#config.graceMs / 3;
    const byId = new Map(input.leases.map((lease) => [lease.id, lease]));
    const byNumber = new Map(input.leases.map((lease) => [lease.lease, lease]));
    for (const item of [...this.#held.values()]) {
      // What was asked for after the read began may not be in it.
      if (read.askedAt < item.anchorAt) continue;
      const lease = item.lease === undefined ? byId.get(item.id) : byNumber.get(item.lease.lease);
      // What is not known yet is confirmed once more: the answer says how long it is there.
      if (item.lease === undefined && lease?.state !== "ended") continue;
      // The read may be of a position before the confirmation that was answered meanwhile.
      if (lease?.state === "reserved") continue;
      if (lease?.state === "live") {
        this.#look(item, lease, out);
        if (lease.notice === undefined) item.seenAt = read.askedAt;
      } else this.#gone(item, `its lease has ended: ${lease?.end ?? "it is not there"}`, out);
    }
    for (const lease of input.leases) this.#forgotten(lease, out);
  }

  /** forgotten gives a lease back that this hub does not know of: whoever confirmed it was restored from a backup since. */
  #forgotten(lease: LeaseView, out: BorrowerEffect[]): void {
    if (lease.state !== "live" || this.#held.has(lease.id)) return;
    const item = holding(lease.id, 0);
    this.#held.set(lease.id, item);
    item.lease = lease;
    item.givingBack = true;
    out.push(persist({ op: "put", space: BORROWER_SPACE, key: lease.id, bytes: holdingBytes(0) }));
  }

  #news(what: string, lease: LeaseView, out: BorrowerEffect[]): void {
    if (what === "live") this.#forgotten(lease, out);
    const item = this.#held.get(lease.id);
    if (item === undefined || (item.lease !== undefined && item.lease.lease !== lease.lease)) return;
    if (what === "ended" || what === "freed" || what === "cancelled") this.#gone(item, `its lease has ended: ${lease.end ?? what}`, out);
    else if (item.lease !== undefined && (what === "noticed" || what === "refenced")) this.#look(item, lease, out);
  }

  #stop(item: Holding, ends: boolean, why: string, out: BorrowerEffect[]): void {
    if (!item.usable) return;
    item.usable = false;
    out.push({ kind: "stop", id: item.id, ends, why });
  }

  #gone(item: Holding, why: string, out: BorrowerEffect[]): void {
    this.#stop(item, true, why, out);
    this.#held.delete(item.id);
    out.push(persist({ op: "delete", space: BORROWER_SPACE, key: item.id }), { kind: "gone", id: item.id, why });
  }
}

function use(item: Holding, out: BorrowerEffect[]): void {
  const { lease } = item;
  assert(lease !== undefined, "only a lease that was seen is used", { id: item.id });
  item.usable = true;
  item.inUse = true;
  out.push({ kind: "usable", id: item.id, lease: lease.lease, fence: lease.fence, agents: lease.agents });
}

function holding(id: string, durationMs: number): Holding {
  return {
    ...{ id, durationMs, lease: undefined, anchorAt: 0, remainingMs: 0, seenAt: Number.NEGATIVE_INFINITY, usable: false, inUse: false },
    ...{ givingBack: false, call: undefined, askedAt: 0, asking: new Retry(ASKING) },
  };
}

function persist(op: StoreOp): Persist {
  return { kind: "persist", ops: [op] };
}
