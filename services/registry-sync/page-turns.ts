import type { Clock } from "#runtime/clock.ts";

/** Pages that are made at a time: a long list of one caller does not hold up the short ones of others. */
const AT_ONCE = 8;

/**
 * PageTurns let pages of nodes be made a few at a time and one in a turn of the event loop, callers taking turns. Each takes milliseconds and
 * up to a hundred times its request, and its bytes count for who asked only when it is written: whoever asked for hundreds at once else had
 * this hub make them all before anything else.
 */
export class PageTurns {
  readonly #clock: Pick<Clock, "setImmediate">;
  /** Those who wait, by caller; whose turn is next first. */
  readonly #waiting = new Map<string, (() => void)[]>();
  #running = 0;
  /** One has begun, and the next turn of the loop has not. */
  #begun = false;

  constructor(clock: Pick<Clock, "setImmediate">) {
    this.#clock = clock;
  }

  /** run makes a page when it is the turn of its caller: at once if nobody else makes one. */
  async run<T>(caller: string, work: () => Promise<T>): Promise<T> {
    if (this.#begun || this.#running >= AT_ONCE || this.#waiting.size > 0) await this.#wait(caller);
    this.#begin();
    this.#running++;
    try {
      return await work();
    } finally {
      this.#running--;
      this.#next();
    }
  }

  #wait(caller: string): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const line = this.#waiting.get(caller);
    if (line === undefined) this.#waiting.set(caller, [resolve]);
    else line.push(resolve);
    return promise;
  }

  #begin(): void {
    this.#begun = true;
    this.#clock.setImmediate(() => {
      this.#begun = false;
      this.#next();
    });
  }

  #next(): void {
    if (this.#begun || this.#running >= AT_ONCE) return;
    for (const [caller, line] of this.#waiting) {
      this.#waiting.delete(caller);
      const go = line.shift();
      // Behind the others.
      if (line.length > 0) this.#waiting.set(caller, line);
      // Whoever goes says so itself, but not before this turn of the loop is over.
      this.#begun = true;
      go?.();
      return;
    }
  }
}
