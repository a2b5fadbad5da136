/** A snapshot that is wanted is asked for again no sooner than this; and no later, however often it was. */
const FIRST_MS = 60_000;
const MOST_MS = 3_600_000;

/**
 * Refetch says whether a feed is wanted as a whole although what is held of it could go on: import rules let in nodes now that they kept
 * out before, whose values are not here.
 *
 * Its owner decides how often a node changes, and whoever reads the feed gets it anew each time: the pause between two snapshots doubles
 * while there is always another one to fetch. An ask that had no answer, or an older one than what is held, is no fetch: it is made
 * again after the shortest pause.
 */
export class Refetch {
  wanted = false;
  #askedAt = Number.NEGATIVE_INFINITY;
  #fetchedAt = Number.NEGATIVE_INFINITY;
  #pauseMs = 0;

  /** due tells whether to ask now. */
  due(mono: number): boolean {
    return this.wanted && mono - this.#fetchedAt >= this.#pauseMs && mono - this.#askedAt >= FIRST_MS;
  }

  /** asks tells, when a feed is asked for, whether that is for all of it. A snapshot that is half here goes on without a pause. */
  asks(mono: number, halfHere: boolean): boolean {
    if (!this.due(mono)) return this.wanted && halfHere;
    this.#askedAt = mono;
    return true;
  }

  /** answered notes that a snapshot came, whether or not it could be taken in. One that nobody had asked for because of this is none. */
  answered(mono: number): void {
    if (!this.wanted || this.#askedAt <= this.#fetchedAt) return;
    this.#pauseMs = this.#askedAt - this.#fetchedAt > 2 * this.#pauseMs ? FIRST_MS : Math.min(2 * this.#pauseMs, MOST_MS);
    this.#fetchedAt = mono;
  }
}
