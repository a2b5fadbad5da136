/** Pause, in ms, after a claim was believed, during which no further claim of that peer is: the first, and the longest. It doubles each time. */
const FIRST_PAUSE_MS = 10_000;
const LONGEST_PAUSE_MS = 3_600_000;

/**
 * Claims bounds how often this hub believes a peer that says that this hub's store was restored from a backup (PROTOCOL X15). An honest peer
 * has to say so once after a start of this hub, because afterwards it knows nothing that this hub does not. A peer that repeats the claim may
 * be lying, and every claim costs: this hub writes a new epoch, and if that is the epoch for all peers, their commands lose their outcomes.
 */
export class Claims {
  readonly #pauses = new Map<string, { until: number; ms: number }>();

  /** believe tells whether a peer's claim counts now (`mono`, ms). If it does, the next one has to wait. */
  believe(peer: string, mono: number): boolean {
    const pause = this.#pauses.get(peer) ?? { until: mono, ms: FIRST_PAUSE_MS };
    if (mono < pause.until) return false;
    this.#pauses.set(peer, { until: mono + pause.ms, ms: Math.min(pause.ms * 2, LONGEST_PAUSE_MS) });
    return true;
  }
}
