import type { Prng } from "./prng.ts";

/** BackoffConfig shapes how long a dialer waits between attempts. */
export interface BackoffConfig {
  /** First wait, ms. S0-7: 2 s. */
  readonly baseMs: number;
  /** Longest wait, ms. S0-7: 60 s. */
  readonly maxMs: number;
  /** Each wait is this many times the one before. */
  readonly factor: number;
  /** Part of a wait that is random, 0 to 1: the wait lies in [(1 - jitter) * d, d], so that the bounds above still hold. */
  readonly jitter: number;
}

/** DEFAULT_BACKOFF waits 2 s to 60 s (S0-7). A quarter of jitter spreads the hubs that lost the same peer at the same moment. */
export const DEFAULT_BACKOFF: BackoffConfig = { baseMs: 2_000, maxMs: 60_000, factor: 2, jitter: 0.25 };

/**
 * Backoff decides when to dial again. Times are `mono` ms.
 *
 * BO1 only a finished handshake resets it (`succeeded`): a peer that accepts and drops at once is not dialled in a tight loop.
 * BO2 a wake (the peer was heard from) makes one dial due at once and resets nothing; the next failure waits longer still.
 * BO3 two wakes are at least `baseMs` apart, so that a chatty peer cannot turn wakes into a tight loop.
 */
export class Backoff {
  readonly #config: BackoffConfig;
  readonly #prng: Prng;
  #failures = 0;
  #dueAt = Number.NEGATIVE_INFINITY;
  #wokenAt = Number.NEGATIVE_INFINITY;

  constructor(prng: Prng, config: BackoffConfig = DEFAULT_BACKOFF) {
    this.#prng = prng;
    this.#config = config;
  }

  /** dueAt is when the next dial may start; negative infinity before the first failure. */
  get dueAt(): number {
    return this.#dueAt;
  }

  /** failures counts the attempts that failed since the last finished handshake. */
  get failures(): number {
    return this.#failures;
  }

  /** due tells whether a dial may start. */
  due(mono: number): boolean {
    return mono >= this.#dueAt;
  }

  /** failed notes a failed attempt or a lost link, and answers the wait in ms. */
  failed(mono: number): number {
    const { baseMs, maxMs, factor, jitter } = this.#config;
    const full = Math.min(maxMs, baseMs * factor ** this.#failures);
    const wait = full * (1 - jitter * this.#prng.unit());
    this.#failures++;
    this.#dueAt = mono + wait;
    return wait;
  }

  /** succeeded notes a finished handshake, and nothing less (BO1). */
  succeeded(): void {
    this.#failures = 0;
    this.#dueAt = Number.NEGATIVE_INFINITY;
  }

  /** wake makes one dial due now (BO2); false when the last wake was too recent (BO3) or a dial is due anyway. */
  wake(mono: number): boolean {
    if (this.due(mono) || mono - this.#wokenAt < this.#config.baseMs) return false;
    this.#wokenAt = mono;
    this.#dueAt = mono;
    return true;
  }
}

/** RetryConfig shapes how long a core waits. */
export interface RetryConfig extends Omit<BackoffConfig, "jitter"> {
  /** One failure is forgotten in each such time, ms; none by itself if this is absent. */
  readonly forgetMs?: number;
  /** So many failures in a row make nothing wait; 0 if this is absent. */
  readonly free?: number;
}

/**
 * Retry is the same for what a core tries again: the wait after a failure, without jitter. Times are `mono` ms.
 *
 * BO4 between two tries that failed lies at least the wait after the first of them; only success, or a change of what is tried, ends that.
 * BO5 where it is the other side that says what succeeded, only time makes the waits shorter again, one failure after the other: whoever
 *    says anything, however fast, has about one try in each `forgetMs`, besides the first few.
 */
export class Retry {
  readonly #config: RetryConfig;
  #dueAt = Number.NEGATIVE_INFINITY;
  #failures = 0;
  /** From when on failures are forgotten: the next one goes `forgetMs` later. */
  #forgetFrom = 0;

  constructor(config: RetryConfig) {
    this.#config = config;
  }

  /** dueAt is when the next try may start; negative infinity when nothing has failed. */
  get dueAt(): number {
    return this.#dueAt;
  }

  /** failures counts those in a row. */
  get failures(): number {
    return this.#failures;
  }

  due(mono: number): boolean {
    return mono >= this.#dueAt;
  }

  /** failed notes a failure and answers when to try again. One that comes before that is a part of the same. */
  failed(mono: number): number {
    if (!this.due(mono)) return this.#dueAt;
    this.#forget(mono);
    const { baseMs, maxMs, factor, free = 0 } = this.#config;
    const waits = Math.min(this.#failures - free, 64);
    this.#dueAt = mono + (waits < 0 ? 0 : Math.min(maxMs, baseMs * factor ** waits));
    this.#failures++;
    return this.#dueAt;
  }

  #forget(mono: number): void {
    const { forgetMs = Number.POSITIVE_INFINITY } = this.#config;
    if (this.#failures === 0) this.#forgetFrom = mono;
    const gone = Math.floor((mono - this.#forgetFrom) / forgetMs);
    if (gone <= 0) return;
    this.#failures = Math.max(0, this.#failures - gone);
    this.#forgetFrom = this.#failures === 0 ? mono : this.#forgetFrom + gone * forgetMs;
  }

  /** reset notes success, or that what is tried has changed: the next try may start at once. */
  reset(): void {
    this.#failures = 0;
    this.#dueAt = Number.NEGATIVE_INFINITY;
  }
}
