import { Room } from "#kernel/bounds/room.ts";
import type { Failure } from "#kernel/error.ts";
import type { Now } from "#kernel/instant.ts";
import { Writer } from "../codec/wire.ts";
import { DeadlineQueue } from "../deadline-queue.ts";
import type { Journal } from "../journal/journal.ts";
import { keptBytes, keptResult, writeResolved } from "../journal/records.ts";
import type { Command, Result } from "../messages.ts";
import { isOwn } from "../principals.ts";
import type { Settings } from "../settings.ts";
import { type Keyed, keyBytes, type Pending } from "./pending.ts";

/** No hub ran before 2020: an earlier date is that of a clock which was not set. */
const CLOCK_SET_AFTER_WALL = 1_577_836_800_000;

/**
 * leftOf is how long a stored key is still to be remembered, ms; 0 or less for one that is past its time. Never more than its
 * whole life, and that much again if the clock was not set when it was used: its date says nothing then (D-9).
 */
export function leftOf(expiresWall: number, nowWall: number, lifeMs: number): number {
  if (expiresWall - lifeMs < CLOCK_SET_AFTER_WALL) return lifeMs;
  return Math.min(expiresWall - nowWall, lifeMs);
}

/** keyId joins a principal and its key; a SPIFFE id has no line break. */
export function keyId(principal: string, key: string): string {
  return `${principal}\n${key}`;
}

const scratch = new Writer();

/** payloadOf is what a fingerprint is taken of: everything that makes it the same command. */
export function payloadOf(command: Command): Uint8Array {
  scratch.reset();
  scratch.string(command.hubId);
  scratch.string(command.nodeId);
  scratch.string(command.capability);
  scratch.bytes(command.value);
  return scratch.take();
}

/** Callers that may wait for one running command by its idempotency key, beside the one that sent it. */
const JOINED_MAX = 64;

/** Repetition is what a command gets whose idempotency key is in use: a refusal, the answer that was given before, or the one that is awaited. */
export type Repetition =
  | { readonly kind: "refused"; readonly failure: Failure }
  | { readonly kind: "replay"; readonly result: Result }
  | { readonly kind: "join"; readonly pending: Pending };

/** repetitionOf decides what a command gets whose key is in use, by the outcome so far (IK1). */
export function repetitionOf(keyed: Keyed, fingerprint: Uint8Array): Repetition {
  if (!sameBytes(keyed.fingerprint, fingerprint)) {
    const message = "the idempotency key was used with another payload";
    return { kind: "refused", failure: { reason: "IDEMPOTENCY_CONFLICT", message, field: "command.idempotency_key" } };
  }
  const result = keyed.result ?? (keyed.pending?.answered === true ? keyed.pending.result : undefined);
  if (result !== undefined) return { kind: "replay", result };
  const pending = keyed.pending as Pending;
  if ((pending.joined?.length ?? 0) >= JOINED_MAX) {
    const message = `${JOINED_MAX} callers wait for this idempotency key`;
    return { kind: "refused", failure: { reason: "OVERLOADED", message } };
  }
  return { kind: "join", pending };
}

/** Keys that are forgotten in one go, so that a day's worth does not hold the core up. */
const FORGOTTEN_AT_ONCE = 4_096;

/** Keys that are forgotten early for one that needs room, of one principal. */
const MADE_ROOM_AT_ONCE = 64;

/** When a key whose time is over is looked at again because its command still runs, ms. */
const LOOK_AGAIN_MS = 1_000;

/** Principals whose parts of the room differ by less than the 8th root of 2 count as having the same. */
const RANKS_PER_DOUBLING = 8;
/** Parts below 2^-32 of the room are the lowest rank. */
const DOUBLINGS = 32;

/** Settled are the keys of one principal that have an outcome. */
interface Settled {
  readonly principal: string;
  oldest: Keyed | undefined;
  newest: Keyed | undefined;
  /** Where it stands among those that may give something up, by how much of the room they have; undefined while it is too young for that. */
  rank: number | undefined;
  /** The note of the queue of those that are too young. */
  slot: number;
}

/**
 * Keys remembers idempotency keys per principal, for a day after their outcome (`keyLifeMs`) while there is room, and for
 * `keyLeastMs` after it in any case. Within a process that is measured by the monotonic clock, so that setting the date makes nobody
 * forget what was done.
 *
 * IK1 one key stands for one command; another payload under it is a conflict.
 * IK2 a key whose command provably did not start is free again: the same call may be tried anew.
 * IK3 there is room for so many keys and bytes, and a part of it for each caller. Who needs a new one beyond its part gives up its own
 *    oldest; if the whole room is full, whoever has most of it (within a tenth) gives up its oldest. A key whose command runs, or whose outcome is younger
 *    than `keyLeastMs`, is never given up: then the new one is refused.
 * IK4 a key whose time is over stands for nothing, whether or not it was forgotten already, unless its command still runs.
 * IK5 a key that was given up stays forgotten after a restart, so that keys never come back to a room that has no place for them.
 */
export class Keys {
  /** Those that expire first are first. */
  readonly #byId = new Map<string, Keyed>();
  readonly #journal: Journal;
  readonly room: Room;
  readonly #settled = new Map<string, Settled>();
  readonly #lifeMs: number;
  readonly #leastMs: number;
  /** No key is past its time before this instant, mono ms. */
  #nextAt = Number.POSITIVE_INFINITY;
  /** Principals whose oldest outcome is too young, until it is old enough; those with an old one by their rank, the fullest last. */
  readonly #young = new DeadlineQueue<Settled>();
  readonly #ranks: Set<Settled>[] = [];

  constructor(bounds: Pick<Settings, "keys" | "keyBytes" | "keyLifeMs" | "keyLeastMs">, journal: Journal) {
    this.#lifeMs = bounds.keyLifeMs;
    this.#leastMs = Math.min(bounds.keyLeastMs, bounds.keyLifeMs);
    this.room = new Room({
      limit: "idempotency_keys",
      max: bounds.keys,
      maxBytes: bounds.keyBytes,
      field: "command.idempotency_key",
      // Many hubs have one caller that commands a lot; keys it may not have would be of use to nobody.
      lends: true,
    });
    this.#journal = journal;
  }

  get size(): number {
    return this.#byId.size;
  }

  /** nextAt is when something may be forgotten, mono ms; undefined for never. */
  get nextAt(): number | undefined {
    return this.#nextAt === Number.POSITIVE_INFINITY ? undefined : this.#nextAt;
  }

  /** get finds the key that stands for something now (IK4). */
  get(id: string, nowMono: number): Keyed | undefined {
    const keyed = this.#byId.get(id);
    if (keyed === undefined || keyed.pending !== undefined || keyed.expiresMono > nowMono) return keyed;
    this.remove(keyed);
    return undefined;
  }

  /** admit makes room for a new key, and tells why it may not be used if there is none (IK3). */
  admit(keyed: Keyed, nowMono: number): Failure | undefined {
    this.expire(nowMono);
    this.#ripen(nowMono);
    const { principal, bytes } = keyed;
    const own = isOwn(principal);
    for (let given = 0; ; ) {
      const failure = this.room.refusal(principal, bytes, own);
      if (failure === undefined || given >= FORGOTTEN_AT_ONCE) return failure;
      const mine = this.room.overPart(principal, bytes, own);
      const count = mine ? this.#giveUp(principal, 1, nowMono) : this.#giveUp(this.#fullest(nowMono), MADE_ROOM_AT_ONCE, nowMono);
      if (count === 0) return failure;
      given += count;
    }
  }

  /** add remembers a key. Those that were stored are added from the one that expires first to the last. */
  add(keyed: Keyed): void {
    this.#byId.set(keyed.id, keyed);
    this.room.add(keyed.principal, keyed.bytes);
    this.#nextAt = Math.min(this.#nextAt, keyed.expiresMono);
    if (keyed.pending === undefined && keyed.result !== undefined) this.#link(keyed);
  }

  /** begin lets a new key stand for the command that was accepted with it (IK1). */
  begin(keyed: Keyed, pending: Pending): void {
    keyed.epoch = pending.epoch;
    keyed.seq = pending.seq;
    keyed.pending = pending;
    pending.keyed = keyed;
    this.add(keyed);
  }

  /** restored says when a stored key may go. Its age is that at the newest stored outcome: the date of this start may be ahead. */
  restored(keyed: Keyed, newestWall: number, nowMono: number): void {
    const age = keyed.outcomeWall < CLOCK_SET_AFTER_WALL ? 0 : Math.max(0, newestWall - keyed.outcomeWall);
    keyed.mayGoAt = nowMono + Math.max(0, this.#leastMs - age);
  }

  /** holds tells whether a key is still remembered. */
  holds(keyed: Keyed): boolean {
    return this.#byId.get(keyed.id) === keyed;
  }

  /** settle keeps the outcome of a key's command; its life begins anew. */
  settle(now: Now, keyed: Keyed, result: Result): void {
    this.keep(keyed, result);
    keyed.expiresWall = Math.ceil(now.wall + this.#lifeMs);
    keyed.expiresMono = now.mono + this.#lifeMs;
    keyed.outcomeWall = Math.max(0, Math.ceil(now.wall));
    keyed.mayGoAt = now.mono + this.#leastMs;
    if (!this.holds(keyed)) return;
    // It expires after all others now.
    this.#byId.delete(keyed.id);
    this.#byId.set(keyed.id, keyed);
    this.#unlink(keyed);
    this.#link(keyed);
  }

  /** keep takes over an outcome and counts its bytes. */
  keep(keyed: Keyed, result: Result): void {
    keyed.result = keptResult(result);
    const bytes = keyBytes(keyed.id) + keptBytes(keyed.result);
    if (this.holds(keyed)) this.room.resize(keyed.principal, bytes - keyed.bytes);
    keyed.bytes = bytes;
  }

  /** remove forgets a key. */
  remove(keyed: Keyed): void {
    if (this.holds(keyed)) {
      this.#byId.delete(keyed.id);
      this.room.give(keyed.principal, keyed.bytes);
      this.#unlink(keyed);
    }
    this.#journal.drop(keyed);
  }

  /** giveUp forgets up to `most` of a principal's keys whose outcomes are old enough, the oldest first, for good (IK5). */
  #giveUp(principal: string | undefined, most: number, nowMono: number): number {
    let given = 0;
    for (; principal !== undefined && given < most; given++) {
      const oldest = this.#settled.get(principal)?.oldest;
      if (oldest === undefined || oldest.mayGoAt > nowMono) break;
      const { epoch, seq } = oldest;
      this.remove(oldest);
      this.#journal.note((writer) => writeResolved(writer, epoch, [seq, seq + 1]));
    }
    return given;
  }

  /**
   * fullest is the principal with most of the room among those that can give something up. What it looks at was moved there by a key that
   * came, went or grew old enough, so that it costs no more the more principals there are.
   */
  #fullest(nowMono: number): string | undefined {
    for (let top = this.#ranks.at(-1); top !== undefined; top = this.#ranks.at(-1)) {
      const settled: Settled | undefined = top.values().next().value;
      if (settled === undefined) this.#ranks.pop();
      else if ((settled.oldest as Keyed).mayGoAt > nowMono || this.#rankOf(settled) !== settled.rank) this.#place(settled, nowMono);
      else return settled.principal;
    }
    return undefined;
  }

  /** ripen places those whose oldest outcome is old enough by now. */
  #ripen(nowMono: number): void {
    for (const settled of this.#young.take(nowMono)) this.#place(settled, nowMono);
  }

  /** place puts a principal where it belongs: its oldest outcome may have gone, and its part of the room changed. */
  #place(settled: Settled, nowMono: number): void {
    this.#displace(settled);
    const at = (settled.oldest as Keyed).mayGoAt;
    if (at > nowMono) return this.#young.add(settled, at);
    const rank = this.#rankOf(settled);
    settled.rank = rank;
    while (this.#ranks.length <= rank) this.#ranks.push(new Set());
    (this.#ranks[rank] as Set<Settled>).add(settled);
  }

  #displace(settled: Settled): void {
    this.#young.remove(settled);
    if (settled.rank !== undefined) this.#ranks[settled.rank]?.delete(settled);
    settled.rank = undefined;
  }

  #rankOf({ principal }: Settled): number {
    return Math.max(0, Math.floor(RANKS_PER_DOUBLING * (DOUBLINGS + Math.log2(this.room.usedBy(principal)))));
  }

  #link(keyed: Keyed): void {
    const { principal } = keyed;
    let settled = this.#settled.get(principal);
    if (settled === undefined) {
      settled = { principal, oldest: undefined, newest: undefined, rank: undefined, slot: 0 };
      this.#settled.set(principal, settled);
    }
    keyed.older = settled.newest;
    if (settled.newest === undefined) {
      settled.oldest = keyed;
      this.#young.add(settled, keyed.mayGoAt);
    } else settled.newest.newer = keyed;
    settled.newest = keyed;
    // It may have more now than when it was placed; one with less is found out when it is looked at.
    if (settled.rank !== undefined && this.#rankOf(settled) > settled.rank) this.#place(settled, Number.POSITIVE_INFINITY);
  }

  #unlink(keyed: Keyed): void {
    const { older, newer, principal } = keyed;
    const settled = this.#settled.get(principal);
    if (settled === undefined || (older === undefined && settled.oldest !== keyed)) return;
    if (older === undefined) settled.oldest = newer;
    else older.newer = newer;
    if (newer === undefined) settled.newest = older;
    else newer.older = older;
    keyed.older = undefined;
    keyed.newer = undefined;
    if (settled.oldest !== undefined) return;
    this.#settled.delete(principal);
    this.#displace(settled);
  }

  /** expire forgets what is past its time, some of it at a time, and plans the next look. */
  expire(nowMono: number): void {
    if (nowMono < this.#nextAt) return;
    let forgotten = 0;
    let again = Number.POSITIVE_INFINITY;
    for (const keyed of this.#byId.values()) {
      if (keyed.expiresMono > nowMono) {
        again = Math.min(again, keyed.expiresMono);
        break;
      }
      if (keyed.pending !== undefined) again = nowMono + LOOK_AGAIN_MS;
      else if (forgotten++ < FORGOTTEN_AT_ONCE) this.remove(keyed);
      else {
        again = nowMono;
        break;
      }
    }
    this.#nextAt = again;
  }

  all(): Iterable<Keyed> {
    return this.#byId.values();
  }
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}
