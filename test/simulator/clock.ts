import type { Clock, Timer } from "#channel/clock.ts";
import type { Now } from "#kernel/instant.ts";
import type { Scheduler } from "./scheduler.ts";

/** LEAST_LATE_MS: a timer of a real clock fires a little late, never early; this also keeps rounding from making a timer fire twice. */
export const LEAST_LATE_MS = 0.01;

/** MachineClock is the hardware of one hub: how fast its oscillator runs, and what it believes the date is. It outlives processes. */
export class MachineClock {
  readonly #scheduler: Scheduler;
  /** Ms that its monotonic clock counts per virtual ms: 0.99 to 1.01. */
  readonly rate: number;
  /** Its wall clock when its monotonic one reads 0. */
  #wallOffset: number;
  #bootedAt = 0;

  constructor(scheduler: Scheduler, rate: number, wallOffset: number) {
    this.#scheduler = scheduler;
    this.rate = rate;
    this.#wallOffset = wallOffset;
  }

  mono(): number {
    return (this.#scheduler.now - this.#bootedAt) * this.rate;
  }

  wall(): number {
    return this.mono() + this.#wallOffset;
  }

  /** step moves the wall clock, forward or back. */
  step(ms: number): void {
    this.#wallOffset += ms;
  }

  /** setWall sets the wall clock. */
  setWall(wall: number): void {
    this.#wallOffset = wall - this.mono();
  }

  /** reboot starts the monotonic clock anew. The date goes on, or begins in 1970 on a machine without a battery. */
  reboot(battery: boolean): void {
    const wall = battery ? this.wall() : 0;
    this.#bootedAt = this.#scheduler.now;
    this.#wallOffset = wall;
  }
}

/** ProcessClock is the clock of one process: when that dies, none of its calls happens any more. */
export class ProcessClock implements Clock {
  readonly #scheduler: Scheduler;
  readonly #machine: MachineClock;
  readonly #lateMs: number;
  alive = true;

  constructor(scheduler: Scheduler, machine: MachineClock, lateMs = LEAST_LATE_MS) {
    this.#scheduler = scheduler;
    this.#lateMs = lateMs;
    this.#machine = machine;
  }

  mono(): number {
    return this.#machine.mono();
  }

  wall(): number {
    return this.#machine.wall();
  }

  now(): Now {
    return { mono: this.mono(), wall: this.wall() };
  }

  setTimer(delayMs: number, fn: () => void): Timer {
    return this.#later(Math.max(0, delayMs) / this.#machine.rate + this.#lateMs, fn);
  }

  setImmediate(fn: () => void): Timer {
    return this.#later(0, fn);
  }

  #later(delayMs: number, fn: () => void): Timer {
    const task = this.#scheduler.after(delayMs, () => {
      if (this.alive) fn();
    });
    return { cancel: () => this.#scheduler.cancel(task) };
  }
}
