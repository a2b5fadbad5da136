import type { Now } from "#kernel/instant.ts";

/** VALID_MS is how long the word that something may act holds, at the most: well below the time after which what does not stop is stopped by force. */
export const VALID_MS = 5_000;

/** What the clock of who asks may be slower, and what is left beside that, before its word counts as run out here. */
const DRIFT_PER_MILLE = 5;
const MARGIN_MS = 250;

/** Programs that act under one lease and are told apart; those beyond count as one, which never says that it is done. */
const PROGRAMS_MAX = 16;
const OTHERS = "";

/**
 * FenceGuard knows until when somebody may believe that it may act under a lease of this hub. What runs is not this hub's to stop: it asks
 * again before its word runs out, is refused once the lease has ended, and so stops by itself.
 *
 * FG1 nothing counts as stopped before the last word that it may act has run out by this hub's monotonic clock, or it has said itself that it
 *    is done; of what was let in before a restart, that is a whole word after the stop.
 * FG2 a program speaks for itself: that it is done ends nobody else's word. This hub's operators speak for all.
 */
export class FenceGuard {
  /** Until when each program may believe that it may act, by lease. */
  readonly #until = new Map<number, Map<string, number>>();
  readonly #idleAt = new Map<number, number>();
  /** When the last word that was given before a restart has run out. */
  readonly #before: number;

  constructor(beganAt: number) {
    this.#before = beganAt + outlasting(VALID_MS);
  }

  /** admitted notes that a program was let in, and gives for how long it may act, ms: never longer than its lease. */
  admitted(now: Now, lease: number, by: string, forMs: number): number {
    const valid = Math.max(0, Math.min(VALID_MS, Math.floor(forMs)));
    let words = this.#until.get(lease);
    if (words === undefined) this.#until.set(lease, (words = new Map([[OTHERS, this.#before]])));
    const who = words.has(by) || words.size <= PROGRAMS_MAX ? by : OTHERS;
    words.set(who, Math.max(words.get(who) ?? 0, now.mono + outlasting(valid)));
    return valid;
  }

  /** done takes the word of a program that it does nothing any more under a lease; without one, that nothing does. */
  done(now: Now, lease: number, by: string | undefined): void {
    if (by === undefined) this.#until.set(lease, new Map());
    else if (by === OTHERS || this.#until.get(lease)?.delete(by) !== true) return;
    if (this.#idleAt.has(lease)) this.#idleAt.set(lease, this.#lastWord(now, lease));
  }

  /** stop waits until nobody can believe any more that it may act. */
  stop(now: Now, lease: number): void {
    if (!this.#idleAt.has(lease)) this.#idleAt.set(lease, this.#lastWord(now, lease));
  }

  #lastWord({ mono }: Now, lease: number): number {
    const words = this.#until.get(lease);
    return words === undefined ? mono + outlasting(VALID_MS) : Math.max(mono, ...words.values());
  }

  /** idle takes the leases under which nothing runs any more. */
  idle(now: Now): number[] {
    const idle = [...this.#idleAt].filter(([, at]) => at <= now.mono).map(([lease]) => lease);
    for (const lease of idle) {
      this.#idleAt.delete(lease);
      this.#until.delete(lease);
    }
    return idle;
  }

  deadline(): number | undefined {
    return this.#idleAt.size === 0 ? undefined : Math.min(...this.#idleAt.values());
  }
}

function outlasting(ms: number): number {
  return ms + Math.ceil((ms * DRIFT_PER_MILLE) / 1_000) + MARGIN_MS;
}
