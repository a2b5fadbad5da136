/** How long nothing that a peer claims is believed after a claim that was: at first, and at most, twice as long each time, ms. */
const FIRST_PAUSE_MS = 10_000;
const LONGEST_PAUSE_MS = 3_600_000;

/**
 * Claims bounds how often each peer is believed that this hub's store fell back in time. An honest peer has to say so once after a
 * start of this hub: from then on it knows nothing that this hub does not know. Whoever says so again may be lying, and each time
 * something is written, or, where the word counts for all, commands of others lose their outcome.
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
