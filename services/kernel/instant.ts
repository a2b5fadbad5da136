/**
 * Now is the only notion of time a core sees. `mono` orders and times things, `wall` dates them.
 *
 * `mono`: milliseconds of a monotonic clock with an arbitrary start; timers use it.
 * `wall`: milliseconds since the Unix epoch; HLC readings and expiry use it. It may jump.
 */
export interface Now {
  readonly mono: number;
  readonly wall: number;
}

/** BEAT_MS is the length of a beat in milliseconds: `floor(mono / BEAT_MS)` is computed, never ticked (DESIGN section 1). */
export const BEAT_MS = 100;

/** beatOf labels an instant. */
export function beatOf(now: Now): number {
  return Math.floor(now.mono / BEAT_MS);
}
