import type { Clock, Timer } from "#channel/clock.ts";
import type { Now } from "#kernel/instant.ts";

interface Pending {
  readonly at: number;
  readonly order: number;
  readonly fn: () => void;
}

/** ManualClock is a Clock that moves only when a test says so. Calls happen in the order of their instants. */
export class ManualClock implements Clock {
  #mono = 0;
  #offset: number;
  #order = 0;
  readonly #timers = new Set<Pending>();
  readonly #immediates = new Set<{ readonly fn: () => void }>();

  /** wall: wall-clock ms at mono 0. */
  constructor(wall = 1_800_000_000_000) {
    this.#offset = wall;
  }

  mono(): number {
    return this.#mono;
  }

  wall(): number {
    return this.#mono + this.#offset;
  }

  now(): Now {
    return { mono: this.#mono, wall: this.wall() };
  }

  /** pending is how many timers are set. */
  get pending(): number {
    return this.#timers.size;
  }

  setTimer(delayMs: number, fn: () => void): Timer {
    const entry = { at: this.#mono + Math.max(0, delayMs), order: this.#order++, fn };
    this.#timers.add(entry);
    return { cancel: () => void this.#timers.delete(entry) };
  }

  setImmediate(fn: () => void): Timer {
    const entry = { fn };
    this.#immediates.add(entry);
    return { cancel: () => void this.#immediates.delete(entry) };
  }

  /** turn runs the immediates that are waiting now, not those that they add. Answers how many ran. */
  turn(): number {
    const waiting = [...this.#immediates];
    let ran = 0;
    for (const entry of waiting) {
      if (!this.#immediates.delete(entry)) continue;
      ran++;
      entry.fn();
    }
    return ran;
  }

  /** advance moves time on by `ms`, calling what falls due, with a turn after each call. */
  advance(ms: number): void {
    const end = this.#mono + ms;
    for (;;) {
      const next = [...this.#timers].filter((t) => t.at <= end).sort((a, b) => a.at - b.at || a.order - b.order)[0];
      if (next === undefined) break;
      this.#timers.delete(next);
      this.#mono = Math.max(this.#mono, next.at);
      next.fn();
      this.turn();
    }
    this.#mono = end;
  }

  /** pass lets time go by without any timer firing: the process was stopped. What fell due meanwhile fires with the next `advance`. */
  pass(ms: number): void {
    this.#mono += ms;
  }

  /** jump sets the wall clock forward or back by `ms`. */
  jump(ms: number): void {
    this.#offset += ms;
  }
}
