import type { Now } from "#kernel/instant.ts";

/** A delay of this length is no pause: timers of a healthy event loop are late by as much. */
const JITTER_MS = 20;

/**
 * OwnTime is the time in which this process was running: `mono` less its own pauses (a busy event loop, SIGSTOP, a sleeping machine).
 * It never passes an instant that the core asked to be called at before the core was called (LV1), so that the silence of others is not
 * measured with a clock that ran while nobody listened. After a pause of `wakeMs` or longer nobody is suspected for `quietMs`, and after
 * a shorter one for twice as long as it was (LV2): what came meanwhile is read first.
 */
export class OwnTime {
  readonly #wakeMs: number;
  readonly #quietMs: number;
  #paused = 0;
  #mono = Number.NEGATIVE_INFINITY;
  #now = Number.NEGATIVE_INFINITY;
  /** Own instant up to which nobody is suspected. */
  #quietUntil = Number.NEGATIVE_INFINITY;

  constructor(wakeMs: number, quietMs: number) {
    this.#wakeMs = wakeMs;
    this.#quietMs = quietMs;
  }

  /** enter notes that the core is called; `due` is the own instant that it asked for. It answers the pause that ended now, ms, or 0. */
  enter(now: Now, due: number | undefined): number {
    this.#mono = Math.max(this.#mono, now.mono);
    if (due === undefined || this.#mono < this.monoOf(due)) {
      this.#now = Math.max(this.#now, this.#mono - this.#paused);
      return 0;
    }
    const late = this.#mono - this.monoOf(due);
    // Exactly the instant that was asked for, whatever rounding did to the difference.
    this.#now = due;
    this.#paused = this.#mono - due;
    if (late <= JITTER_MS) return 0;
    this.#quietUntil = Math.max(this.#quietUntil, this.#now + (late >= this.#wakeMs ? this.#quietMs : 2 * late));
    return late;
  }

  /** now is the own instant of the last call, ms. */
  get now(): number {
    return this.#now;
  }

  /** paused is how long this process has not run since it started, ms. */
  get paused(): number {
    return this.#paused;
  }

  /** quietUntil is the own instant from which on others may be suspected. */
  get quietUntil(): number {
    return this.#quietUntil;
  }

  /** woke tells whether a pause of this length is one that frames were waiting behind. */
  woke(lateMs: number): boolean {
    return lateMs >= this.#wakeMs;
  }

  /** monoOf converts an own instant to the `mono` instant at which it comes if there is no pause until then. */
  monoOf(own: number): number {
    return own + this.#paused;
  }
}
