import type { Clock, Timer } from "#channel/clock.ts";
import type { Now } from "#kernel/instant.ts";
import type { Prng } from "#kernel/prng.ts";
import { LEAST_LATE_MS } from "../clock.ts";
import type { Scheduler } from "../scheduler.ts";

/** HubClock is the clock of one machine: its oscillator may be off, its date may be set, and both stand still while the machine is suspended. */
export class HubClock {
  readonly #scheduler: Scheduler;
  readonly rate: number;
  #bootedAt = 0;
  #bootWall: number;
  /** Virtual ms that it was suspended since it booted, and since when it is. */
  #asleepMs = 0;
  #asleepSince: number | undefined;

  constructor(scheduler: Scheduler, rate: number, wall: number) {
    this.#scheduler = scheduler;
    this.rate = rate;
    this.#bootWall = wall;
  }

  mono(): number {
    const asleep = this.#asleepMs + (this.#asleepSince === undefined ? 0 : this.#scheduler.now - this.#asleepSince);
    return (this.#scheduler.now - this.#bootedAt - asleep) * this.rate;
  }

  /** wall is a whole number, as that of a machine; it goes on while the machine is suspended: it is read from a chip of its own when it wakes. */
  wall(): number {
    return Math.floor(this.#bootWall + (this.#scheduler.now - this.#bootedAt) * this.rate);
  }

  step(ms: number): void {
    this.#bootWall += ms;
  }

  reboot(): void {
    this.#bootWall = this.wall();
    this.#bootedAt = this.#scheduler.now;
    this.#asleepMs = 0;
    this.#asleepSince = undefined;
  }

  suspend(): void {
    this.#asleepSince ??= this.#scheduler.now;
  }

  /** wake ends a suspension; false if there was none. */
  wake(): boolean {
    if (this.#asleepSince === undefined) return false;
    this.#asleepMs += this.#scheduler.now - this.#asleepSince;
    this.#asleepSince = undefined;
    return true;
  }
}

/** Most calls that wait for a process that is paused; sockets have no more room than that. */
const BACKLOG = 512;

/** PausableClock is the clock of one process. What is due while it is paused happens when it goes on, in any order: old timers and frames. */
export class PausableClock implements Clock {
  readonly #scheduler: Scheduler;
  readonly #hub: HubClock;
  alive = true;
  #paused = false;
  #backlog: (() => void)[] = [];
  #urgent: (() => void)[] = [];

  constructor(scheduler: Scheduler, hub: HubClock) {
    this.#scheduler = scheduler;
    this.#hub = hub;
  }

  get paused(): boolean {
    return this.#paused;
  }

  mono(): number {
    return this.#hub.mono();
  }

  wall(): number {
    return this.#hub.wall();
  }

  now(): Now {
    return { mono: this.mono(), wall: this.wall() };
  }

  setTimer(delayMs: number, fn: () => void): Timer {
    return this.#later(Math.max(0, delayMs) / this.#hub.rate + LEAST_LATE_MS, fn);
  }

  setImmediate(fn: () => void): Timer {
    return this.#later(0, fn);
  }

  /** run calls `fn` now, when the process goes on, or never when it is dead. `room` is false for what may be dropped. */
  run(fn: () => void, droppable = false): void {
    if (!this.alive) return;
    if (!this.#paused) fn();
    else if (!droppable || this.#backlog.length < BACKLOG) this.#backlog.push(fn);
  }

  /** first is `run` for what happens before all else when the process goes on. */
  first(fn: () => void): void {
    if (this.#paused) this.#urgent.push(fn);
    else this.run(fn);
  }

  pause(): void {
    this.#paused = true;
  }

  resume(prng: Prng): void {
    this.#paused = false;
    const due = this.#backlog;
    this.#backlog = [];
    for (let i = due.length - 1; i > 0; i--) {
      const j = prng.below(i + 1);
      const one = due[i] as () => void;
      due[i] = due[j] as () => void;
      due[j] = one;
    }
    for (const fn of this.#urgent.splice(0)) this.run(fn);
    for (const fn of due) this.#scheduler.after(0, () => this.run(fn));
  }

  #later(delayMs: number, fn: () => void): Timer {
    let cancelled = false;
    const task = this.#scheduler.after(delayMs, () => this.run(() => void (cancelled || fn())));
    return {
      cancel: () => {
        cancelled = true;
        this.#scheduler.cancel(task);
      },
    };
  }
}
