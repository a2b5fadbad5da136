import type { Clock } from "#channel/clock.ts";
import type { Calls } from "#runtime/service/calls.ts";
import type { Driver, Inlet } from "#runtime/service/driver.ts";
import type { Input, Reply } from "../messages.ts";

/** CommandCalls are the calls of this service: a reply answers a question by its `corr`. */
export type CommandCalls = Calls<Input, Reply>;

/**
 * Turn makes everything that one turn of the event loop brings one transaction, and everything that it gives one message per
 * peer, stream and executor.
 *
 * TU1 inputs of a turn are held until its end; then the core takes them all, and they are committed together.
 * TU2 what the core lets out is gathered and leaves by `flush`, once.
 */
export class Turn<I> implements Inlet<I> {
  readonly #clock: Clock;
  readonly #driver: Driver<I>;
  readonly #flush: () => void;
  readonly #before: (() => void)[] = [];
  #open = false;
  #flushing = false;

  constructor(clock: Clock, driver: Driver<I>, flush: () => void) {
    this.#clock = clock;
    this.#driver = driver;
    this.#flush = flush;
  }

  post(input: I, bytes?: number): boolean {
    this.#begin();
    return this.#driver.post(input, bytes);
  }

  tell(input: I, key?: string, merge?: (older: I, newer: I) => I): boolean {
    this.#begin();
    return this.#driver.tell(input, key, merge);
  }

  drainSpace(): Promise<boolean> {
    return this.#driver.drainSpace();
  }

  /** atEnd calls back at the end of this turn, before the core takes its inputs. */
  atEnd(run: () => void): void {
    this.#begin();
    this.#before.push(run);
  }

  /** wrote says that something waits to be flushed. */
  wrote(): void {
    if (this.#open || this.#flushing) return;
    this.#flushing = true;
    queueMicrotask(() => this.#flushNow());
  }

  #begin(): void {
    if (this.#open) return;
    this.#open = true;
    this.#driver.cork();
    this.#clock.setImmediate(() => this.#end());
  }

  #end(): void {
    for (const run of this.#before.splice(0)) run();
    this.#driver.uncork();
    this.#open = false;
    this.#flushNow();
  }

  #flushNow(): void {
    this.#flushing = false;
    this.#flush();
  }
}
