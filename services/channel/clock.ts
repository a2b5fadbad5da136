import type { Now } from "#kernel/instant.ts";

/** Timer is a pending call of a clock. */
export interface Timer {
  /** cancel makes sure that the call does not happen any more. It may be called again, or late. */
  cancel(): void;
}

/**
 * Clock is the only source of time and of delayed calls. This file is the only one that reads the machine's clocks;
 * everything else is given a Clock, so that tests and the simulator decide what time it is.
 */
export interface Clock {
  /** mono is milliseconds with an arbitrary start; it never goes back. */
  mono(): number;
  /** wall is milliseconds since the Unix epoch; it may jump and, on machines without a battery clock, start in 1970. */
  wall(): number;
  /** now reads both. */
  now(): Now;
  /** setTimer calls `fn` once, `delayMs` or a little more from now, never less by `mono`. Any length is allowed; below 0 counts as 0. */
  setTimer(delayMs: number, fn: () => void): Timer;
  /** setImmediate calls `fn` once, after the I/O that is already waiting in this turn of the event loop. */
  setImmediate(fn: () => void): Timer;
}

/** Longest delay that Node's timers hold; beyond it they fire at once. */
const LONGEST_TIMER_MS = 0x7fff_ffff;

class SystemTimer implements Timer {
  readonly #fn: () => void;
  /** Mono ms. */
  readonly #dueAt: number;
  #handle: NodeJS.Timeout | undefined;

  constructor(delayMs: number, fn: () => void) {
    this.#fn = fn;
    const mono = performance.now();
    this.#dueAt = mono + (Number.isNaN(delayMs) ? 0 : Math.max(0, delayMs));
    this.#arm(mono);
  }

  cancel(): void {
    clearTimeout(this.#handle);
    this.#handle = undefined;
  }

  #arm(mono: number): void {
    const step = Math.min(Math.max(0, this.#dueAt - mono), LONGEST_TIMER_MS);
    this.#handle = setTimeout(() => {
      // Node counts in whole milliseconds and fires up to one too early, when whoever asks whether it is time yet is told no.
      const late = performance.now();
      if (late < this.#dueAt) this.#arm(late);
      else this.#fn();
    }, step);
  }
}

/** systemClock reads the machine. */
export const systemClock: Clock = {
  mono: () => performance.now(),
  wall: () => Date.now(),
  now: () => ({ mono: performance.now(), wall: Date.now() }),
  setTimer: (delayMs, fn) => new SystemTimer(delayMs, fn),
  setImmediate: (fn) => {
    const handle = setImmediate(fn);
    return { cancel: () => clearImmediate(handle) };
  },
};
