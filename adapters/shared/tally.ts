import type { OnRefused, Refused } from "./port.ts";

/** Refusals of which each is told; those that come faster are counted. */
const BURST = 10;
const PERIOD_MS = 10_000;

/** Tally counts what an adapter does and refuses, and tells a few of the refusals: what others send, however often, costs few lines. */
export class Tally {
  readonly #counts: Record<string, number> = {};
  readonly #tell: OnRefused;
  readonly #now: () => number;
  #period = Number.NEGATIVE_INFINITY;
  #told = 0;

  constructor(now: () => number, tell: OnRefused) {
    this.#now = now;
    this.#tell = tell;
  }

  /** count adds to what has happened. `what` is a word of this program's. */
  count(what: string, by = 1): void {
    this.#counts[what] = (this.#counts[what] ?? 0) + by;
  }

  /** refused counts a refusal, and tells it if few were told lately. */
  refused(refused: Refused): void {
    this.count("refused");
    const now = this.#now();
    if (now - this.#period >= PERIOD_MS) {
      this.#period = now;
      this.#told = 0;
    }
    if (this.#told++ < BURST) this.#tell(refused);
  }

  /** counts are all so far. */
  counts(): Readonly<Record<string, number>> {
    return { ...this.#counts };
  }
}
