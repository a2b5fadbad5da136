import type { Now } from "#kernel/instant.ts";

/** VALID_MS is how long the word that something may act holds, at the most: well below the time after which what does not stop is stopped by force. */
export const VALID_MS = 5_000;

/** What the clock of who asks may be slower, and what is left beside that, before its word counts as run out here. */
const DRIFT_PER_MILLE = 5;
const MARGIN_MS = 250;

/**
 * FenceGuard knows until when somebody may believe that it may act under a lease of this hub. What runs is not this hub's to stop: it asks
 * again before its word runs out, is refused once the lease has ended, and so stops by itself.
 *
 * FG1 nothing counts as stopped before the last word that it may act has run out by this hub's monotonic clock, or it has said itself that it
 *    is done; of what was let in before a restart, that is a whole word after the stop.
 */
export class FenceGuard {
  readonly #until = new Map<number, number>();
  readonly #idleAt = new Map<number, number>();

  /** admitted notes that somebody was let in, and gives for how long it may act, ms: never longer than its lease. */
  admitted(now: Now, lease: number, forMs: number): number {
    const valid = Math.max(0, Math.min(VALID_MS, Math.floor(forMs)));
    this.#until.set(lease, now.mono + outlasting(valid));
    return valid;
  }

  /** done takes the word of what ran that nothing runs any more. */
  done(now: Now, lease: number): void {
    this.#until.set(lease, now.mono);
    if (this.#idleAt.has(lease)) this.#idleAt.set(lease, now.mono);
  }

  /** stop waits until nobody can believe any more that it may act. */
  stop(now: Now, lease: number): void {
    if (this.#idleAt.has(lease)) return;
    this.#idleAt.set(lease, this.#until.get(lease) ?? now.mono + outlasting(VALID_MS));
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
