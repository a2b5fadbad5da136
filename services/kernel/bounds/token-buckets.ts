import { type Rate, TokenBucket } from "./token-bucket.ts";

/** Callers remembered at once; beyond it the one that was quiet longest is forgotten and starts with a full bucket. */
const BUCKETS_MAX = 10_000;

/** TokenBuckets are the rates of many callers. */
export class TokenBuckets {
  readonly #buckets = new Map<string, TokenBucket>();

  /** take uses up tokens, one by default; 0 if there were as many, else the ms until there are. */
  take(key: string, rate: Rate, nowMono: number, tokens = 1): number {
    const bucket = this.#buckets.get(key) ?? new TokenBucket(rate, nowMono);
    // Delete and set keeps the Map in order of last use.
    this.#buckets.delete(key);
    this.#buckets.set(key, bucket);
    if (this.#buckets.size > BUCKETS_MAX) this.#buckets.delete(this.#buckets.keys().next().value as string);
    return bucket.take(rate, nowMono, tokens);
  }
}
