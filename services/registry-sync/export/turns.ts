import { Retry } from "#kernel/backoff.ts";
import { type Rate, TokenBucket } from "#kernel/bounds/token-bucket.ts";
import type { FeedPosition } from "../messages.ts";

/** Pause after a refusal, longer with each. What a peer acknowledges afterwards is only what it says, so nothing but time ends that. */
const REFUSED = { baseMs: 100, maxMs: 60_000, factor: 2, forgetMs: 60_000 };
/** Pause after a snapshot was built for a peer, before another one is. Whoever loses its disk four times in a minute is served at once. */
const BUILT = { baseMs: 500, maxMs: 60_000, factor: 2, forgetMs: 60_000, free: 4 };
/** Bytes that a peer is sent although it was sent them before, on whatever session: links break, and what was under way comes again. */
const AGAIN: Rate = { perSecond: 1024 * 1024, burst: 64 * 1024 * 1024 };

/**
 * Turns are what one peer has made this hub do for it. They outlive its sessions: whoever is slowed down here gains nothing by connecting
 * again (EP6).
 */
export class Turns {
  /** When what was refused, or did not fit, is tried again: nothing is sent before that, and no offer is repeated. */
  readonly retry = new Retry(REFUSED);
  /** When the next snapshot may be built for it of an epoch of which one was built for it before. */
  readonly #built = new Retry(BUILT);
  #builtOf = "";
  /** What it refused last, so that the same is told once. */
  toldFor = "";
  /** Snapshots below that number were begun before it had all that it was sent. */
  leastJob: number;
  /** The share that it was offered last. */
  offered: string | undefined;
  readonly #again: TokenBucket;
  /** Until when nothing is sent once more (mono). */
  waitsUntil = Number.NEGATIVE_INFINITY;
  /** What it was sent of the feed that it gets, over all sessions. */
  #share = "";
  #epoch = 0;
  #seq = 0;

  constructor(mono: number, leastJob: number) {
    this.leastJob = leastJob;
    this.#again = new TokenBucket(AGAIN, mono);
  }

  /** buildsAt is when a snapshot of a feed may be built for it. The first one of an epoch, which this hub opened, costs it no turn. */
  buildsAt({ share, epoch }: Pick<FeedPosition, "share" | "epoch">): number {
    return this.#builtOf === `${epoch} ${share}` ? this.#built.dueAt : Number.NEGATIVE_INFINITY;
  }

  /** builds notes that one is. */
  builds({ share, epoch }: Pick<FeedPosition, "share" | "epoch">, mono: number): void {
    const of = `${epoch} ${share}`;
    if (this.#builtOf === of) this.#built.failed(mono);
    this.#builtOf = of;
  }

  /** sentUpTo is the last segment of a feed that it was sent, by itself or in a snapshot: it must not be shown what is older. */
  sentUpTo({ share, epoch }: Pick<FeedPosition, "share" | "epoch">): number {
    return share === this.#share && epoch === this.#epoch ? this.#seq : 0;
  }

  /** sent notes what it was sent. */
  sent({ share, epoch }: Pick<FeedPosition, "share" | "epoch">, seq: number): void {
    if (seq <= this.sentUpTo({ share, epoch })) return;
    this.#share = share;
    this.#epoch = epoch;
    this.#seq = seq;
  }

  /** mayRepeat tells whether bytes that it was sent before may be sent once more now, and counts them if so. */
  mayRepeat(mono: number, bytes: number): boolean {
    const waitMs = this.#again.take(AGAIN, mono, bytes);
    if (waitMs > 0) this.waitsUntil = mono + waitMs;
    return waitMs === 0;
  }
}
