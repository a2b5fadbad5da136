import { Backoff, type BackoffConfig } from "#kernel/backoff.ts";
import type { Prng } from "#kernel/prng.ts";

/** How long an adapter that ended waits to be started again. */
const WAITS: BackoffConfig = { baseMs: 1_000, maxMs: 60_000, factor: 2, jitter: 0.25 };

/** An adapter that has run so long is sound: the next end counts as the first. */
const SOUND_MS = 60_000;

/** Restarts decides when a program that ended is started again. Times are `mono` ms. */
export class Restarts {
  readonly #backoff: Backoff;
  #startedAt = 0;

  constructor(prng: Prng) {
    this.#backoff = new Backoff(prng, WAITS);
  }

  started(mono: number): void {
    this.#startedAt = mono;
  }

  /** ended answers how long to wait, ms. */
  ended(mono: number): number {
    if (mono - this.#startedAt >= SOUND_MS) this.#backoff.succeeded();
    return this.#backoff.failed(mono);
  }

  /** reset: what ended it was somebody's wish. */
  reset(): void {
    this.#backoff.succeeded();
  }
}
