/** HEALTH_MAX is the worst score, as in Lifeguard (arXiv 1707.00788). */
export const HEALTH_MAX = 8;

/**
 * LocalHealth says how far this hub distrusts itself: 0 when it keeps up, 8 at the worst (LV3). A probe waits `factor` times as long as
 * at full health, and the next one of the same member comes so many times later.
 */
export class LocalHealth {
  #score = 0;

  get score(): number {
    return this.#score;
  }

  /** factor is 1 to 9. */
  get factor(): number {
    return this.#score + 1;
  }

  /** worse notes reasons to distrust oneself: a missed acknowledgement, an own pause, a suspicion that had to be refuted. */
  worse(reasons = 1): void {
    this.#score = Math.min(HEALTH_MAX, this.#score + Math.max(0, reasons));
  }

  /** better notes a round in which everything that was expected came. */
  better(): void {
    this.#score = Math.max(0, this.#score - 1);
  }
}

/**
 * suspicionMs is how long a suspicion waits before it becomes an accusation: `maxMs` alone, `minMs` when `wanted` others found the
 * same, falling with the logarithm between (Lifeguard, section 4.2): each confirmation counts less than the one before. Where nobody
 * can confirm (`wanted` is 0) it is `maxMs`.
 */
export function suspicionMs(confirmations: number, wanted: number, minMs: number, maxMs: number): number {
  if (wanted <= 0) return maxMs;
  const share = Math.log(Math.min(confirmations, wanted) + 1) / Math.log(wanted + 1);
  return Math.max(minMs, maxMs - (maxMs - minMs) * share);
}
