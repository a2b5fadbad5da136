import type { Rate } from "#kernel/bounds/token-bucket.ts";
import { TokenBuckets } from "#kernel/bounds/token-buckets.ts";
import type { Account } from "./accounts.ts";

/** Streams of one own caller that are refused, with how long to wait, before its connection is closed: a refusal costs as much as a call. */
const REFUSED_STREAMS: Rate = { perSecond: 100, burst: 1_000 };

/** StreamRates know who begins streams, or calls of another protocol, too fast. By caller, and longer than its account: who connects again does not begin anew. */
export class StreamRates {
  readonly #streams = new TokenBuckets();
  readonly #refusals = new TokenBuckets();
  /** Streams that began too soon, and by how many ms. */
  readonly #tooSoon = new WeakMap<object, number>();

  /** begun counts a stream; false if its connection is to be closed. Own callers who are too fast are told so for a while. */
  begun(stream: object, account: Account, rate: Rate, now: number): boolean {
    const waitMs = this.#streams.take(account.key, rate, now);
    if (waitMs === 0) return true;
    if (account.foreign || this.#refusals.take(account.key, REFUSED_STREAMS, now) > 0) return false;
    this.#tooSoon.set(stream, waitMs);
    return true;
  }

  tooSoonMs(stream: object): number {
    return this.#tooSoon.get(stream) ?? 0;
  }
}
