import type { Now } from "#kernel/instant.ts";

/** ClockTrustConfig says what is too much. */
export interface ClockTrustConfig {
  /** A process that was called so much later than it asked for was paused, ms: another leader may have been elected meanwhile. */
  readonly pauseMs: number;
  /** The wall clock stepped if it ran so much further than the monotonic one, or less, between two calls, ms. */
  readonly stepMs: number;
}

/**
 * ClockTrust tells whether this hub may conclude from its own clock that nothing happened meanwhile, as the leader does that answers reads
 * from its lease.
 *
 * CT1 after a pause, or a step of the wall clock (a machine that slept may have stopped the monotonic clock too), the clock is not trusted
 *    from the first call on.
 * CT2 it is trusted again when a quorum has answered something that was asked after that.
 * CT3 what was known before a step forward may be older by that than the monotonic clock says.
 */
export class ClockTrust {
  readonly #config: ClockTrustConfig;
  #before: Now | undefined;
  /** Since when the clock is not trusted, mono ms; undefined while it is. */
  #lostAt: number | undefined;
  #stoodStillMs = 0;

  constructor(config: ClockTrustConfig) {
    this.#config = config;
  }

  /** isTrusted at the last call. */
  get isTrusted(): boolean {
    return this.#lostAt === undefined;
  }

  /** stoodStillMs is for how long the monotonic clock may have stood still before the last call that gave a reason for distrust, ms. */
  get stoodStillMs(): number {
    return this.#stoodStillMs;
  }

  /** enter notes a call; `due` is the mono instant at which one was wanted. It gives why the clock is not trusted from now on. */
  enter(now: Now, due: number | undefined): string | undefined {
    const { pauseMs, stepMs } = this.#config;
    const before = this.#before;
    this.#before = now;
    if (before === undefined) return undefined;
    const late = due === undefined ? 0 : now.mono - Math.max(due, before.mono);
    const step = now.wall - before.wall - (now.mono - before.mono);
    if (late < pauseMs && Math.abs(step) < stepMs) return undefined;
    this.#lostAt = now.mono;
    this.#stoodStillMs = step < stepMs ? 0 : step;
    return late >= pauseMs
      ? `this hub did not run for ${Math.round(late)} ms`
      : `the wall clock of this hub stepped by ${Math.round(step)} ms`;
  }

  /** heard takes how long ago a quorum answered, ms (undefined: never); true if the clock is trusted again by that. */
  heard(now: Now, ageMs: number | undefined): boolean {
    if (this.#lostAt === undefined || ageMs === undefined || now.mono - ageMs <= this.#lostAt) return false;
    this.#lostAt = undefined;
    return true;
  }

  describe(): string {
    return `clock=${this.isTrusted ? "trusted" : "untrusted"}`;
  }
}
