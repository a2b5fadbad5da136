import type { Registry } from "prom-client";
import type { Clock, Timer } from "#channel/clock.ts";
import type { StoreOp } from "#kernel/core.ts";
import type { Failure } from "#kernel/error.ts";
import { COUNT_BUCKETS, counter, histogram } from "../metrics/declare.ts";
import type { CommitOutcome, Store } from "../store/port.ts";

/** CommitterOptions are what a committer works with; see DriverOptions for the meaning of the numbers. */
export interface CommitterOptions {
  readonly store: Store;
  readonly clock: Clock;
  readonly mode: "turn" | "now";
  readonly paceMs: number;
  readonly paceBelowOps: number;
  readonly retryMs: number;
  /** Off if absent. */
  readonly poison?: boolean | undefined;
  readonly service: string;
  readonly metrics: Registry;
  /** onDurable: every ticket up to this one is durable. `recovered` after one or more refusals. */
  readonly onDurable: (ticket: number, recovered: boolean) => void;
  /**
   * onRefused: the store refused a batch. It is kept, and tried again. `first` tells a new refusal from a retry that failed. `ops` are all
   * operations that are not durable, only to be looked at during the call.
   */
  readonly onRefused: (failure: Failure, first: boolean, ops: readonly StoreOp[]) => void;
  /** onFatal: the store broke its contract, or another writer owns the log. */
  readonly onFatal: (error: unknown) => void;
}

/** StorePoisoned means that a write or fsync failed half-way: what this process believes to be stored may not be. Only a restart tells. */
export class StorePoisoned extends Error {
  constructor(message: string) {
    super(`a write to the store failed, so nothing is believed of it before it was read again: ${message}`);
    this.name = "StorePoisoned";
  }
}

/**
 * Committer makes operations durable in groups: one commit in flight, and what arrives meanwhile is the next batch.
 *
 * CM1 operations are applied in the order in which they were added, each exactly once.
 * CM2 a ticket is durable when every operation added under it, or before it, is.
 * CM3 a refused batch ("full", "io") is kept in front of what came later and tried again as one transaction every `retryMs`;
 *    meanwhile nothing else is tried.
 *    With `poison`, an "io" refusal that may have left something behind is fatal instead: after a failed fsync the system may have
 *    dropped the pages, and a retry that succeeds proves nothing. The file has to be opened and read again.
 * CM4 a conflict, or a store that throws, is fatal: another writer owns the log.
 */
export class Committer {
  readonly #o: CommitterOptions;
  readonly #seconds;
  readonly #batch;
  readonly #failures;
  #ops: StoreOp[] = [];
  #spare: StoreOp[] = [];
  #open = 1;
  #durable = 0;
  #inFlight = false;
  #refusing = false;
  #stopped = false;
  #startedAt = Number.NEGATIVE_INFINITY;
  #timer: Timer | undefined;
  #waiters: (() => void)[] = [];

  constructor(options: CommitterOptions) {
    this.#o = options;
    const labels = ["service"] as const;
    const own = { service: options.service };
    const seconds = { name: "foedus_commit_seconds", help: "Time to make one batch durable.", labels };
    this.#seconds = histogram(options.metrics, seconds).labels(own);
    const batch = { name: "foedus_commit_batch_ops", help: "Operations in one batch.", labels };
    this.#batch = histogram(options.metrics, batch, COUNT_BUCKETS).labels(own);
    const failed = {
      name: "foedus_commit_failures_total",
      help: "Batches that the store refused.",
      labels: ["service", "reason"] as const,
    };
    this.#failures = counter(options.metrics, failed);
    // A counter that appears with its first event hides that event from rate() and increase().
    for (const reason of ["full", "io"]) this.#failures.inc({ ...own, reason }, 0);
  }

  /** open is the ticket under which operations are collected now. */
  get open(): number {
    return this.#open;
  }

  /** durable is the newest ticket that is durable. */
  get durable(): number {
    return this.#durable;
  }

  /** refusing: the store refused the last batch, which waits to be tried again. */
  get refusing(): boolean {
    return this.#refusing;
  }

  /** waiting is how many operations are not yet handed to the store. */
  get waiting(): number {
    return this.#ops.length;
  }

  /** idle: nothing waits and nothing is in flight. */
  get idle(): boolean {
    return this.#ops.length === 0 && !this.#inFlight;
  }

  /** add collects operations under the open ticket, which is answered. */
  add(ops: readonly StoreOp[]): number {
    for (let i = 0; i < ops.length; i++) this.#ops.push(ops[i] as StoreOp);
    return this.#open;
  }

  /** commitNow starts a commit if one may start; true if it also ended (a synchronous store). Only in mode "now". */
  commitNow(): boolean {
    if (this.#o.mode !== "now" || !this.#mayStart() || this.#refusing || this.#pace() > 0) return false;
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#start();
    return !this.#inFlight;
  }

  /** schedule makes sure that what waits will be committed: in the next turn, or when the pace or the retry allows it. */
  schedule(): void {
    if (this.#timer !== undefined || !this.#mayStart()) return;
    const wait = this.#refusing ? this.#o.retryMs : this.#pace();
    const run = (): void => {
      this.#timer = undefined;
      if (this.#mayStart()) this.#start();
    };
    this.#timer = wait > 0 ? this.#o.clock.setTimer(wait, run) : this.#o.clock.setImmediate(run);
  }

  /** flush commits what waits without regard to pace or retry; true when all is durable, false when the store refuses. */
  async flush(): Promise<boolean> {
    while (!this.#stopped && !this.idle) {
      const settled = this.#settled();
      if (!this.#inFlight) {
        this.#timer?.cancel();
        this.#timer = undefined;
        this.#start();
      }
      await settled;
      if (this.#refusing) return false;
    }
    return this.idle;
  }

  /** stop ends the retries; a commit in flight still ends, but nobody is told. */
  stop(): void {
    this.#stopped = true;
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#wake();
  }

  #mayStart(): boolean {
    return !this.#stopped && !this.#inFlight && this.#ops.length > 0;
  }

  #pace(): number {
    if (this.#o.paceMs === 0 || this.#ops.length >= this.#o.paceBelowOps) return 0;
    return this.#startedAt + this.#o.paceMs - this.#o.clock.mono();
  }

  #start(): void {
    const batch = this.#ops;
    this.#ops = this.#spare;
    const ticket = this.#open++;
    this.#inFlight = true;
    this.#startedAt = this.#o.clock.mono();
    try {
      const outcome = this.#o.store.commit(batch);
      if (outcome instanceof Promise) outcome.then((o) => this.#end(batch, ticket, o)).catch((error) => this.#fatal(error));
      else this.#end(batch, ticket, outcome);
    } catch (error) {
      this.#fatal(error);
    }
  }

  #end(batch: StoreOp[], ticket: number, outcome: CommitOutcome): void {
    this.#inFlight = false;
    if (this.#stopped) {
      this.#wake();
      return;
    }
    this.#seconds.observe((this.#o.clock.mono() - this.#startedAt) / 1_000);
    this.#batch.observe(batch.length);
    if (outcome.ok) this.#done(batch, ticket);
    else if (outcome.reason === "conflict") this.#fatal(new Error(`store conflict: ${outcome.message}`));
    else if (outcome.reason === "io" && this.#o.poison === true && outcome.untouched !== true) {
      this.#failures.inc({ service: this.#o.service, reason: "io" });
      this.#fatal(new StorePoisoned(outcome.message));
    } else this.#refused(batch, outcome.reason, outcome.message);
    this.#wake();
  }

  #done(batch: StoreOp[], ticket: number): void {
    batch.length = 0;
    this.#spare = batch;
    this.#durable = ticket;
    const recovered = this.#refusing;
    this.#refusing = false;
    this.#o.onDurable(ticket, recovered);
    this.schedule();
  }

  #refused(batch: StoreOp[], reason: "full" | "io", message: string): void {
    this.#failures.inc({ service: this.#o.service, reason });
    for (const op of this.#ops) batch.push(op);
    this.#ops.length = 0;
    this.#spare = this.#ops;
    this.#ops = batch;
    const first = !this.#refusing;
    this.#refusing = true;
    this.#o.onRefused({ reason: "STORE_UNAVAILABLE", message, facts: { cause: reason, service: this.#o.service } }, first, batch);
    this.schedule();
  }

  #fatal(error: unknown): void {
    this.#inFlight = false;
    this.stop();
    this.#o.onFatal(error);
  }

  #settled(): Promise<void> {
    return new Promise((resolve) => this.#waiters.push(resolve));
  }

  #wake(): void {
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const wake of waiters) wake();
  }
}
