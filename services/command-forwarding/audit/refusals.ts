import { TokenBucket } from "#kernel/bounds/token-bucket.ts";
import { TokenBuckets } from "#kernel/bounds/token-buckets.ts";
import { WAY, type Way } from "./batch.ts";

/** Callers whose left out refusals are counted apart; what is left out of others is counted together. */
const COUNTED_MAX = 64;
/** OTHERS stands for those. */
const OTHERS = "(others)";
/** Longest time until what was left out is told, ms. */
const TELL_MS = 1_000;
/** All callers together have so many times what one has. */
const ALL = 10;

/** LeftOut is how many refusals of a caller have no record. */
export interface LeftOut {
  readonly way: Way;
  readonly caller: string;
  count: number;
}

/**
 * Refusals bounds what of commands that were refused, and left no trace in the journal, is kept in the audit: so many a second of each
 * caller, and ten times as many of all. What is left out is counted, and told once a second.
 */
export class Refusals {
  readonly #rate: { readonly perSecond: number; readonly burst: number };
  readonly #all: { readonly perSecond: number; readonly burst: number };
  readonly #buckets = new TokenBuckets();
  #total: TokenBucket | undefined;
  readonly #leftOut = new Map<string, LeftOut>();
  #tellAt: number | undefined;

  constructor(perSecond: number, burst: number) {
    this.#rate = { perSecond, burst };
    this.#all = { perSecond: ALL * perSecond, burst: ALL * burst };
  }

  /** tellAt is when what was left out is to be told, mono ms. */
  get tellAt(): number | undefined {
    return this.#tellAt;
  }

  /** admit tells whether a refusal gets a record. */
  admit(caller: string, nowMono: number): boolean {
    this.#total ??= new TokenBucket(this.#all, nowMono);
    return this.#buckets.take(caller, this.#rate, nowMono) === 0 && this.#total.take(this.#all, nowMono) === 0;
  }

  /** leaveOut counts refusals without a record. */
  leaveOut(way: Way, caller: string, nowMono: number, count = 1): void {
    // A hub may have the name of a caller.
    const own = `${way === WAY.RECEIVED ? "hub" : "own"} ${caller}`;
    const fits = this.#leftOut.has(own) || this.#leftOut.size < COUNTED_MAX;
    const key = fits ? own : OTHERS;
    const known = this.#leftOut.get(key);
    if (known !== undefined) known.count += count;
    else this.#leftOut.set(key, { way: fits && way === WAY.RECEIVED ? way : WAY.NONE, caller: fits ? caller : OTHERS, count });
    this.#tellAt ??= nowMono + TELL_MS;
  }

  /** take gives what was left out so far. */
  take(): LeftOut[] {
    const all = [...this.#leftOut.values()];
    this.#leftOut.clear();
    this.#tellAt = undefined;
    return all;
  }
}
