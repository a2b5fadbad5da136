import type { LivenessConfig } from "./settings.ts";

/** Longest is the longest of the times that it is given, of which each counts half after `halfLifeMs`. */
export class Longest {
  readonly #halfLifeMs: number;
  #ms = 0;
  #at = 0;

  constructor(halfLifeMs: number) {
    this.#halfLifeMs = halfLifeMs;
  }

  note(ms: number, at: number): void {
    if (ms < this.ms(at)) return;
    this.#ms = ms;
    this.#at = at;
  }

  ms(at: number): number {
    return this.#ms * 2 ** (-Math.max(0, at - this.#at) / this.#halfLifeMs);
  }
}

/**
 * Arrivals learns how long one member may be silent: from the times between its signs of life, and from what it says of its own pauses.
 * What it does or says changes no other member's bound (LV4, LV5).
 */
export class Arrivals {
  readonly #intervalMs: number;
  readonly #floorMs: number;
  readonly #ceilingMs: number;
  readonly #margin: number;
  readonly #longest: Longest;
  #saidMs = 0;

  constructor({ intervalMs, floor, ceiling, margin, memory }: LivenessConfig) {
    this.#intervalMs = intervalMs;
    this.#floorMs = floor * intervalMs;
    this.#ceilingMs = ceiling * intervalMs;
    this.#margin = margin;
    this.#longest = new Longest(memory * intervalMs);
  }

  /** learn notes a time between two signs of life. `at` is the own instant of the second. */
  learn(gapMs: number, at: number): void {
    if (gapMs <= this.#ceilingMs) this.#longest.note(gapMs, at);
  }

  /** said notes how long the member says that it may pause. */
  said(pauseMs: number): void {
    this.#saidMs = pauseMs === 0 ? 0 : pauseMs + this.#intervalMs / 2;
  }

  /** timeoutMs is the silence after which the member is suspected. */
  timeoutMs(at: number): number {
    const longestMs = Math.max(this.#longest.ms(at), this.#saidMs);
    return Math.min(this.#ceilingMs, Math.max(this.#floorMs, longestMs * this.#margin));
  }
}
