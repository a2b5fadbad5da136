import type { Clock } from "#channel/clock.ts";
import { type Rate, TokenBucket } from "#kernel/bounds/token-bucket.ts";
import { sleep } from "#runtime/clock.ts";
import type { Cost } from "../rpc/access.ts";
import { type Lane, turnsOf } from "../rpc/server/turns.ts";

/**
 * FRAME_RATES per peer and type of frame (PROTOCOL S15), by the cost class that its `frame_access` states. `cheap` are the frames that carry data: their
 * credit bounds them in bytes, and they go by their lane alone. No honest hub comes near the others: offers, openings and announcements
 * come with a session or a change of the federation.
 */
export const FRAME_RATES: Readonly<Record<Cost, Rate | undefined>> = {
  cheap: undefined,
  normal: { perSecond: 100, burst: 1_000 },
  expensive: { perSecond: 20, burst: 200 },
};

/**
 * FRAME_UNIT_BYTES is how many bytes of a frame its rate pays for; each such part more counts as another frame. What makes a frame expensive
 * comes several times in a long one (certificates of a chain, parts of a snapshot), and its length is known before anything is done with it.
 */
export const FRAME_UNIT_BYTES = 4 * 1024;

/**
 * FramePace holds back what one peer sends to one service. Who is too fast is read more slowly, so that HTTP/2 pushes back: nothing is
 * lost, and a burst of an honest peer is only late. It outlives sessions, so that a new one does not begin anew.
 */
export class FramePace {
  readonly #clock: Clock;
  readonly #lane: Lane;
  readonly #onLimited: (type: string) => void;
  /** By type of frame: as many as the schema has. */
  readonly #buckets = new Map<string, TokenBucket>();
  /** Frames that were held back by their rate. */
  limited = 0;

  constructor(clock: Clock, onLimited: (type: string) => void) {
    this.#clock = clock;
    this.#lane = turnsOf(clock).lane();
    this.#onLimited = onLimited;
  }

  /** took counts a frame; while a promise is pending the next one is not read. `type` is undefined for common frames, which have a bound of their own. */
  took(type: string | undefined, cost: Cost, bytes: number): Promise<void> | undefined {
    const rate = type === undefined ? undefined : FRAME_RATES[cost];
    if (type !== undefined && rate !== undefined) {
      const bucket = this.#bucket(type, rate);
      const tokens = Math.max(1, Math.ceil(bytes / FRAME_UNIT_BYTES));
      const waitMs = bucket.take(rate, this.#clock.mono(), tokens);
      if (waitMs > 0) {
        this.limited++;
        this.#onLimited(type);
        return this.#pay(bucket, rate, waitMs, tokens);
      }
    }
    return this.#lane.spend(bytes);
  }

  /** pay waits until the frame has its tokens. */
  async #pay(bucket: TokenBucket, rate: Rate, waitMs: number, tokens: number): Promise<void> {
    for (let wait = waitMs; wait > 0; wait = bucket.take(rate, this.#clock.mono(), tokens)) await sleep(this.#clock, wait);
  }

  #bucket(type: string, rate: Rate): TokenBucket {
    let bucket = this.#buckets.get(type);
    if (bucket === undefined) this.#buckets.set(type, (bucket = new TokenBucket(rate, this.#clock.mono())));
    return bucket;
  }
}
