import type { ReplicaId } from "../log/engine.ts";
import type { Batch } from "./record.ts";

/** Payloads whose hashes are remembered after their decision, so that a late copy is not proposed again. */
const RECENT = 16_384;

/** Waiting is a payload, or the marker of a read, that is not decided. */
export interface Waiting {
  readonly marker: boolean;
  readonly bytes: Uint8Array;
  readonly from: ReplicaId;
  /** Who of this hub waits for it. */
  readonly calls: number[];
}

/** PoolLimits bound what waits of one replica. */
export interface PoolLimits {
  readonly count: number;
  readonly bytes: number;
}

/**
 * Pool holds what waits to be proposed: of this hub, and what others told. Each replica has a part of its own, so that one that floods
 * fills its own only. Keys are hashes.
 */
export class Pool {
  readonly #waiting = new Map<string, Waiting>();
  readonly #used = new Map<ReplicaId, { count: number; bytes: number }>();
  readonly #recent = new Set<string>();

  get size(): number {
    return this.#waiting.size;
  }

  /** add takes something in. "known": it waits already, and calls of this hub wait with it; "over": it was decided lately. */
  add(key: string, what: Waiting, limits: PoolLimits): "new" | "known" | "over" | "full" {
    if (this.#recent.has(key)) return "over";
    const known = this.#waiting.get(key);
    if (known !== undefined) {
      known.calls.push(...what.calls);
      return "known";
    }
    const used = this.#used.get(what.from) ?? { count: 0, bytes: 0 };
    if (used.count >= limits.count || used.bytes + what.bytes.length > limits.bytes) return "full";
    used.count++;
    used.bytes += what.bytes.length;
    this.#used.set(what.from, used);
    this.#waiting.set(key, what);
    return "new";
  }

  /** take lists what fits into a batch, what came first first. It stays until it is decided. */
  take(most: number, bytes: number): { payloads: Uint8Array[]; markers: Uint8Array[] } {
    const taken = { payloads: [] as Uint8Array[], markers: [] as Uint8Array[] };
    let left = bytes;
    for (const { marker, bytes } of this.#waiting.values()) {
      if (taken.payloads.length + taken.markers.length >= most || bytes.length > left) break;
      left -= bytes.length;
      taken[marker ? "markers" : "payloads"].push(bytes);
    }
    return taken;
  }

  /** decided removes what a batch has, and answers the calls that waited: for a position, and for a read. */
  decided({ payloads, markers }: Batch, keyOf: (marker: boolean, bytes: Uint8Array) => string): { proposed: number[]; read: number[] } {
    const calls = { proposed: [] as number[], read: [] as number[] };
    for (const bytes of payloads) calls.proposed.push(...this.#remove(keyOf(false, bytes)));
    for (const bytes of markers) calls.read.push(...this.#remove(keyOf(true, bytes)));
    return calls;
  }

  /** of lists those of a replica, to tell them again. */
  *of(replica: ReplicaId): Iterable<Waiting> {
    for (const waiting of this.#waiting.values()) if (waiting.from === replica) yield waiting;
  }

  /** forget drops what replicas left behind that are no members any more. */
  forget(isMember: (replica: ReplicaId) => boolean): void {
    for (const [key, { from }] of this.#waiting) if (!isMember(from)) this.#waiting.delete(key);
    for (const replica of this.#used.keys()) if (!isMember(replica)) this.#used.delete(replica);
  }

  #remove(key: string): readonly number[] {
    this.#recent.add(key);
    if (this.#recent.size > RECENT) this.#recent.delete(this.#recent.values().next().value as string);
    const waiting = this.#waiting.get(key);
    if (waiting === undefined) return [];
    this.#waiting.delete(key);
    const used = this.#used.get(waiting.from);
    if (used !== undefined) {
      used.count--;
      used.bytes -= waiting.bytes.length;
    }
    return waiting.calls;
  }
}
