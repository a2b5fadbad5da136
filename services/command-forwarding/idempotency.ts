import type { Entry, Journal } from "./journal.ts";
import type { Command, Result } from "./messages.ts";
import type { Pending } from "./pending.ts";
import { RECORD, writeResult } from "./records.ts";
import { Writer } from "./wire.ts";

/** Keyed is an idempotency key in use: the name it stands for, the payload that it was used with, and the outcome if there is one. */
export class Keyed implements Entry {
  blob = 0;
  /** Principal and key as one text. */
  readonly id: string;
  readonly fingerprint: Uint8Array;
  readonly expiresWall: number;
  /** When this process forgets it, mono ms: the date may be set meanwhile. */
  readonly expiresMono: number;
  epoch = 0;
  seq = 0;
  /** Set until there is an outcome. */
  pending: Pending | undefined;
  result: Result | undefined;
  durationMs = 0;

  constructor(id: string, fingerprint: Uint8Array, expires: { readonly wall: number; readonly mono: number }) {
    this.id = id;
    this.fingerprint = fingerprint;
    this.expiresWall = Math.ceil(expires.wall);
    this.expiresMono = expires.mono;
  }

  write(writer: Writer): void {
    if (this.result === undefined) return;
    writer.uint(RECORD.KEYED);
    writer.uint(this.epoch);
    writer.uint(this.seq);
    writer.string(this.id);
    writer.bytes(this.fingerprint);
    writer.uint(this.expiresWall);
    writeResult(writer, this.result);
  }
}

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

/**
 * Keys remembers idempotency keys for their lifetime (24 h), per principal. Within a process that is measured by the monotonic
 * clock, so that setting the date makes nobody forget what was done.
 *
 * K1 one key stands for one command; another payload under it is a conflict.
 * K2 a key whose command provably did not start is free again: the same call may be tried anew.
 * K3 at most `max` keys; beyond it new ones are refused, never old ones forgotten early.
 */
export class Keys {
  readonly #byId = new Map<string, Keyed>();
  readonly #max: number;
  readonly #journal: Journal;

  constructor(max: number, journal: Journal) {
    this.#max = max;
    this.#journal = journal;
  }

  get size(): number {
    return this.#byId.size;
  }

  get full(): boolean {
    return this.#byId.size >= this.#max;
  }

  get(id: string): Keyed | undefined {
    return this.#byId.get(id);
  }

  add(keyed: Keyed): void {
    this.#byId.set(keyed.id, keyed);
  }

  /** remove forgets a key. */
  remove(keyed: Keyed): void {
    if (this.#byId.get(keyed.id) === keyed) this.#byId.delete(keyed.id);
    this.#journal.drop(keyed);
  }

  /** expire forgets what is past its time. Keys live equally long, so the oldest come first; at most a few per call. */
  expire(nowMono: number): void {
    for (const keyed of this.#byId.values()) {
      if (keyed.expiresMono > nowMono || keyed.pending !== undefined) return;
      this.remove(keyed);
    }
  }

  all(): Iterable<Keyed> {
    return this.#byId.values();
  }
}

/** sameBytes compares fingerprints. */
export function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}
