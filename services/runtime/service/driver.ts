import type { Registry } from "prom-client";
import type { Clock, Timer } from "#channel/clock.ts";
import { assert } from "#kernel/assert.ts";
import { BoundedQueue } from "#kernel/bounds/bounded-queue.ts";
import { LIMITS } from "#kernel/bounds/limits.ts";
import type { Core, Effect, Observe, Persist, StoreOp } from "#kernel/core.ts";
import type { Failure } from "#kernel/error.ts";
import type { Now } from "#kernel/instant.ts";
import type { Logger } from "../log/log.ts";
import type { Store } from "../store/port.ts";
import { Committer } from "./committer.ts";
import { sampleDriver } from "./driver-metrics.ts";
import { OutputGate } from "./output-gate.ts";

/*
 * The driver runs one core. Besides the contract DC1 to DC6 of `kernel/core.ts`:
 *
 * DR1 outputs leave in the order in which the core gave them; DR7 is the only exception.
 * DR2 an output leaves when every `persist` before it is durable, and at once if there is none that is not.
 * DR3 operations become durable in the order in which the core gave them, each exactly once (CM1 to CM4).
 * When the store refuses a batch (disk full, I/O error):
 * DR4 what was persisted is kept and tried again every `storeRetryMs` until it succeeds, because the core already counts on it.
 * DR5 every output that waits is offered to `reject`, oldest first: "drop" for what is answered with the failure (a caller gets
 *    STORE_UNAVAILABLE), "keep" for what stays in line until it is true (an acknowledgement, an announcement to peers).
 * DR6 the core learns of it by `onStored` before it does anything else, so that it can refuse writes while it lasts, and knows what of
 *    all that it has persisted is not stored.
 * DR7 meanwhile steps go on. Outputs of a step that persists nothing leave at once (reads, pings), overtaking what was kept, unless
 *    `overtakes` says that they may speak of something that is not durable; those wait in line. Outputs of a step that follow its
 *    own `persist` are offered to `reject` as in DR5.
 * DR8 when a retry succeeds, kept outputs leave in order, and the core learns of that by `onStored` as well.
 * DR9 nothing grows without bound: when `maxWaiting` outputs or operations wait for the store, inputs stay in the mailbox; it
 *    fills up, and `post` answers false. A core that refuses writes once it was told (DR6) does not get there. The mailbox is bounded
 *    in bytes as well, so that a peer cannot fill it with its longest frames; when those are too many, there is room again when all
 *    of it was taken.
 * DR10 what is due is done before an input is taken, however late the timer is.
 * DR11 an output that is `early` waits only for persists that are hard, and may overtake outputs that wait for others; among
 *    themselves early outputs keep their order. A leader's entries are on their way to others while its own disk writes them.
 * DR12 with `poison` a write that failed half-way is fatal (`StorePoisoned`): nothing that waits leaves any more.
 */

/** StoreReport is the outcome of one commit, for the core (DC5). `unstored`: everything that was persisted and is not durable. */
export type StoreReport =
  | { readonly ok: true; readonly recovered: boolean }
  | { readonly ok: false; readonly failure: Failure; readonly unstored: readonly StoreOp[] };

/** Output is an effect that leaves through the gate. */
export type Output<E extends Effect> = Exclude<E, { readonly kind: "persist" | "observe" }>;

/** Measurement is an effect that bypasses the gate. */
export type Measurement<E extends Effect> = Extract<E, { readonly kind: "observe" }>;

/** DriverOptions join a core to its world. */
export interface DriverOptions<I, E extends Effect> {
  /** Name of the service, label of the metrics. */
  readonly service: string;
  readonly core: Core<I, E>;
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Logger;
  readonly metrics: Registry;
  /** execute does what an output asks for. It does not throw and does not wait; outcomes come back by `post` (DC5). */
  readonly execute: (effect: Output<E>) => void;
  readonly observe: (effect: Measurement<E>) => void;
  /** reject is told of an output whose `persist` the store refused (DR5). */
  readonly reject: (effect: Output<E>, failure: Failure) => "drop" | "keep";
  /** overtakes tells whether an output may leave while something older waits for the store (DR7); every one by default. */
  readonly overtakes?: (effect: Output<E>) => boolean;
  /** early tells which outputs wait for hard persists only (DR11); none by default. */
  readonly early?: (effect: Output<E>) => boolean;
  /** poison: a store that failed half-way through a write is not believed again (DR12); it is tried again by default (DR4). */
  readonly poison?: boolean | undefined;
  /** urgent tells whether somebody waits for an output; every one by default. It decides in mode "now" when to commit, nothing else. */
  readonly urgent?: (effect: Output<E>) => boolean;
  /** onStored makes the input that tells the core how a commit ended; undefined for nothing to tell. Called after each commit. */
  readonly onStored?: (report: StoreReport) => I | undefined;
  /** onFatal is called once, when the core failed an assertion or threw (DC6). The driver has stopped. */
  readonly onFatal: (error: unknown) => void;
  /**
   * "turn": one commit per turn of the event loop, for throughput. "now": as soon as the mailbox is empty, for latency; in the next
   * turn if no output waits for it, or none that is urgent.
   */
  readonly commit: "turn" | "now";
  /** Inputs that may wait before `post` refuses more (DC3). */
  readonly mailboxCapacity?: number;
  /** Bytes of inputs that may wait; another one finds room below that, however long it is. */
  readonly mailboxBytes?: number;
  /** Shortest time between commits while fewer than `paceBelowOps` operations wait, ms. 0 (no pacing) by default. */
  readonly paceMs?: number;
  readonly paceBelowOps?: number;
  /** Time between tries while the store refuses, ms. 5,000 by default. */
  readonly storeRetryMs?: number;
  /** Outputs, or operations, that may wait for the store before inputs are held back (DR9). 65,536 by default. */
  readonly maxWaiting?: number;
}

/** Inlet is the way into a core. Handlers do not use it themselves: `calls.ts` gives it its guarantees. */
export interface Inlet<I> {
  /**
   * post gives the core an input, at once if it is idle. False, and nothing happens, when the mailbox is full or the driver stopped.
   * `bytes` is about what it holds while it waits, where others decide how much that is.
   */
  post(input: I, bytes?: number): boolean;
  /**
   * tell gives the core an input that must not be lost: a full mailbox does not refuse it, and it keeps its place among all that is
   * posted and told after it. While it waits beyond the mailbox, a newer one with the same `key` takes its place at the end, so that
   * repeated news of one thing costs the memory of one; `merge` says what then stands for both. False only when the driver stopped.
   */
  tell(input: I, key?: string, merge?: (older: I, newer: I) => I): boolean;
  /** drainSpace resolves with true when `post` has room again, with false when the driver takes nothing any more: it stops or has failed. */
  drainSpace(): Promise<boolean>;
}

/** Driver is the running core. */
export interface Driver<I> extends Inlet<I> {
  /** cork holds inputs back until `uncork` in the same turn, so that those of one frame share one commit in mode "now". Calls nest. */
  cork(): void;
  uncork(): void;
  readonly state: "running" | "refusing" | "stopped" | "failed";
  /** stop takes no more inputs and commits what waits; true when all of it is durable and every output left. */
  stop(): Promise<boolean>;
}

/** createDriver starts to drive a core; its timer is armed at once. */
export function createDriver<I, E extends Effect>(options: DriverOptions<I, E>): Driver<I> {
  return new CoreDriver(options);
}

class CoreDriver<I, E extends Effect> implements Driver<I> {
  readonly #o: DriverOptions<I, E>;
  readonly #core: Core<I, E>;
  readonly #committer: Committer;
  readonly #gate: OutputGate<Output<E>>;
  readonly #mailbox: BoundedQueue<I>;
  readonly #mailboxBytes: number;
  /** Bytes of all inputs since the mailbox was last empty. */
  #waitingBytes = 0;
  /** What was told while the mailbox was full, oldest first; it moves up as the mailbox empties, and `post` finds no room before. */
  readonly #told = new Map<string | number, I>();
  #nextTold = 0;
  readonly #maxWaiting: number;
  readonly #out: E[] = [];
  /** Reports of the store: they go before the mailbox (DR6). */
  readonly #reports: I[] = [];
  readonly #unsample: (() => void)[];
  #state: "running" | "stopped" | "failed" = "running";
  #closing = false;
  #busy = false;
  #corks = 0;
  /** An urgent output waits for the next commit. */
  #urgent = false;
  /** Inputs that found the mailbox full. */
  #turnedAway = 0;
  #failure: Failure | undefined;
  #timer: Timer | undefined;
  #armedFor = Number.POSITIVE_INFINITY;
  #spaceWaiters: (() => void)[] = [];

  constructor(options: DriverOptions<I, E>) {
    this.#o = options;
    this.#core = options.core;
    this.#mailbox = new BoundedQueue(options.mailboxCapacity ?? LIMITS.mailbox);
    this.#mailboxBytes = options.mailboxBytes ?? LIMITS.mailboxBytes;
    this.#maxWaiting = options.maxWaiting ?? 65_536;
    this.#gate = new OutputGate((effect) => options.execute(effect));
    this.#committer = new Committer({
      store: options.store,
      clock: options.clock,
      mode: options.commit,
      paceMs: options.paceMs ?? 0,
      paceBelowOps: options.paceBelowOps ?? 400,
      retryMs: options.storeRetryMs ?? LIMITS.storeRetryMs,
      poison: options.poison,
      service: options.service,
      metrics: options.metrics,
      onDurable: (ticket, recovered) => this.#onDurable(ticket, recovered),
      onRefused: (failure, first, ops) => this.#onRefused(failure, first, ops),
      onFatal: (error) => this.#fatal(error),
    });
    this.#unsample = sampleDriver(options.metrics, options.service, {
      depth: () => this.#mailbox.size + this.#told.size,
      capacity: () => this.#mailbox.capacity,
      refused: () => this.#turnedAway,
      gated: () => this.#gate.size,
      waiting: () => this.#committer.waiting,
      refusing: () => (this.#committer.refusing ? 1 : 0),
    });
    this.#arm();
  }

  get state(): "running" | "refusing" | "stopped" | "failed" {
    return this.#state === "running" && this.#committer.refusing ? "refusing" : this.#state;
  }

  /** takes: there will be room for another input, if there is none now. */
  get #takes(): boolean {
    return this.#state === "running" && !this.#closing;
  }

  /** crowded: another input finds no room. */
  get #crowded(): boolean {
    return this.#waitingBytes >= this.#mailboxBytes || this.#mailbox.size === this.#mailbox.capacity;
  }

  post(input: I, bytes = 0): boolean {
    if (!this.#takes) return false;
    if (this.#waitingBytes >= this.#mailboxBytes || !this.#mailbox.push(input)) {
      this.#turnedAway++;
      return false;
    }
    this.#waitingBytes += bytes;
    if (!this.#busy && this.#corks === 0) this.#pump();
    return true;
  }

  tell(input: I, key?: string, merge?: (older: I, newer: I) => I): boolean {
    if (!this.#takes) return false;
    if (!this.#mailbox.push(input)) {
      const at = key ?? this.#nextTold++;
      const older = this.#told.get(at);
      this.#told.delete(at);
      this.#told.set(at, older === undefined || merge === undefined ? input : merge(older, input));
    } else if (!this.#busy && this.#corks === 0) this.#pump();
    return true;
  }

  cork(): void {
    this.#corks++;
  }

  uncork(): void {
    this.#corks--;
    if (this.#corks === 0) this.#pump();
  }

  async drainSpace(): Promise<boolean> {
    if (this.#takes && this.#crowded) await new Promise<void>((resolve) => this.#spaceWaiters.push(resolve));
    return this.#takes;
  }

  async stop(): Promise<boolean> {
    if (this.#closing || this.#state !== "running") return this.#state !== "failed" && this.#committer.idle;
    this.#closing = true;
    this.#corks = 0;
    this.#pump();
    if (this.#committer.refusing) this.#o.store.freeReserve?.();
    const durable = await this.#committer.flush();
    if (this.#state !== "running") return false;
    this.#end("stopped");
    return durable && this.#gate.size === 0;
  }

  /** pump runs the core until nothing is left to do now. It never runs inside itself (DC1). */
  #pump(): void {
    if (this.#busy || this.#state !== "running") return;
    this.#busy = true;
    try {
      // What no urgent output waits for is committed in the next turn, when that which has left is on its way.
      do this.#drain();
      while (this.#urgent && this.#committer.commitNow());
      this.#committer.schedule();
      this.#arm();
    } catch (error) {
      this.#fatal(error);
    } finally {
      this.#busy = false;
    }
    if (this.#spaceWaiters.length > 0 && !this.#crowded) this.#wakeWaiters();
  }

  #drain(): void {
    if (this.#reports.length === 0 && this.#mailbox.size === 0) return;
    const now = this.#o.clock.now();
    // Reports first: what is done because it is due would already count on what the store has refused (DR6).
    for (let report = this.#reports.shift(); report !== undefined; report = this.#reports.shift()) this.#step(now, report);
    if (now.mono >= this.#armedFor) this.#tick(now);
    while (this.#mailbox.size > 0 && !this.#full()) {
      const input = this.#mailbox.take() as I;
      if (this.#told.size > 0) this.#moveUp();
      this.#step(now, input);
      if (this.#state !== "running") return;
    }
    if (this.#mailbox.size === 0) this.#waitingBytes = 0;
  }

  /** moveUp lets the oldest of what was told beyond the mailbox into the place that became free. */
  #moveUp(): void {
    for (const [at, input] of this.#told) {
      this.#told.delete(at);
      this.#mailbox.push(input);
      return;
    }
  }

  /** full holds inputs back while too much waits for the store (DR9). */
  #full(): boolean {
    return this.#gate.size >= this.#maxWaiting || this.#committer.waiting >= this.#maxWaiting;
  }

  #step(now: Now, input: I): void {
    this.#core.step(now, input, this.#out);
    this.#route();
  }

  /** route sends the effects of one step on their ways. */
  #route(): void {
    const out = this.#out;
    let persisted = false;
    for (let i = 0; i < out.length; i++) {
      const effect = out[i] as E;
      if (effect.kind === "persist") {
        const { ops, hard } = effect as unknown as Persist;
        this.#gate.raise(this.#committer.add(ops), hard !== false);
        persisted = true;
      } else if (effect.kind === "observe") this.#o.observe(effect as unknown as Measurement<E> & Observe);
      else if (this.#failure === undefined) this.#put(effect as unknown as Output<E>);
      else this.#putRefusing(effect as unknown as Output<E>, persisted, this.#failure);
    }
    out.length = 0;
  }

  #put(effect: Output<E>): void {
    const waited = this.#gate.size;
    this.#gate.put(effect, this.#o.early?.(effect));
    if (!this.#urgent && this.#gate.size > waited) this.#urgent = this.#o.urgent?.(effect) ?? true;
  }

  #putRefusing(effect: Output<E>, persisted: boolean, failure: Failure): void {
    if (!persisted) {
      const early = this.#o.early?.(effect);
      if (early === true || this.#o.overtakes?.(effect) === false) this.#gate.put(effect, early);
      else this.#o.execute(effect);
    } else if (this.#o.reject(effect, failure) === "keep") this.#gate.put(effect);
  }

  #onDurable(ticket: number, recovered: boolean): void {
    if (recovered) {
      this.#failure = undefined;
      this.#o.log.info({ service: this.#o.service }, "store accepts writes again");
    }
    const open = (): void => {
      this.#gate.open(ticket);
      this.#urgent = this.#gate.size > 0;
    };
    this.#settle(open, recovered ? RECOVERED : STORED);
  }

  #onRefused(failure: Failure, first: boolean, ops: readonly StoreOp[]): void {
    this.#failure = failure;
    if (!first) return;
    this.#o.log.error({ service: this.#o.service, failure }, "store refuses writes");
    this.#settle(() => this.#gate.filter((effect) => this.#o.reject(effect, failure) === "keep"), {
      ok: false,
      failure,
      unstored: [...ops],
    });
  }

  /** settle moves outputs after a commit; what they post waits until it is done (DC1). */
  #settle(move: () => void, report: StoreReport): void {
    if (this.#state !== "running") return;
    const inside = this.#busy;
    this.#busy = true;
    try {
      move();
      const input = this.#o.onStored?.(report);
      if (input !== undefined) this.#reports.push(input);
    } catch (error) {
      this.#fatal(error);
    } finally {
      this.#busy = inside;
    }
    if (!inside) this.#pump();
  }

  /** arm keeps one timer for `deadline()` (DC4). A deadline that moves later keeps the earlier timer, which then arms again. */
  #arm(): void {
    const deadline = this.#core.deadline();
    if (deadline === undefined || deadline >= this.#armedFor) return;
    // No comparison with it holds: the timer would fire all the time, and the core not find that anything is due.
    assert(!Number.isNaN(deadline), "a core wants to be called at an instant that is no number");
    this.#timer?.cancel();
    this.#armedFor = deadline;
    this.#timer = this.#o.clock.setTimer(Math.max(0, deadline - this.#o.clock.mono()), () => this.#onTimer());
  }

  #onTimer(): void {
    this.#armedFor = Number.POSITIVE_INFINITY;
    this.#timer = undefined;
    if (this.#busy || this.#state !== "running") return;
    this.#busy = true;
    try {
      this.#tick(this.#o.clock.now());
    } catch (error) {
      this.#fatal(error);
    } finally {
      this.#busy = false;
    }
    this.#pump();
  }

  /**
   * tick lets the core do what is due. It comes before any input of the same or a later instant: after a pause of the process (a
   * suspended machine, a long collection) timers and sockets fire in any order, and what has expired must not be used by then (DR10).
   */
  #tick(now: Now): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#armedFor = Number.POSITIVE_INFINITY;
    const deadline = this.#core.deadline();
    if (deadline === undefined || deadline > now.mono) return;
    this.#core.tick(now, this.#out);
    this.#route();
  }

  /** fatal stops everything (DC6). */
  #fatal(error: unknown): void {
    if (this.#state !== "running") return;
    this.#end("failed");
    this.#o.log.error({ service: this.#o.service, error }, "core failed");
    this.#o.onFatal(error);
  }

  #end(state: "stopped" | "failed"): void {
    this.#state = state;
    this.#timer?.cancel();
    this.#committer.stop();
    this.#mailbox.clear();
    this.#told.clear();
    for (const remove of this.#unsample) remove();
    this.#wakeWaiters();
  }

  #wakeWaiters(): void {
    const waiters = this.#spaceWaiters;
    this.#spaceWaiters = [];
    for (const wake of waiters) wake();
  }
}

const STORED: StoreReport = { ok: true, recovered: false };
const RECOVERED: StoreReport = { ok: true, recovered: true };
