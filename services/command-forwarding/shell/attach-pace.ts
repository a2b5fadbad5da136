import type { Clock } from "#channel/clock.ts";
import { type Rate, TokenBucket } from "#kernel/bounds/token-bucket.ts";
import { sleep } from "#runtime/clock.ts";

/**
 * ATTACH_RATE is how many nodes one caller may attach. A gateway with as many nodes as a hub may have attaches them four times at once,
 * also if it does it anew with every stream.
 */
export const ATTACH_RATE: Rate = { perSecond: 50_000, burst: 400_000 };

/** What an attach costs beside its nodes, in nodes. */
const FRAME_COST = 32;
/** Nodes of all callers that one turn of the event loop takes, about: some milliseconds of work. */
const TURN_NODES = 1_024;
/** Callers whose rate is remembered; the one that was quiet longest goes. */
const CALLERS_MAX = 1_024;

interface Waiting {
  readonly cost: number;
  readonly go: () => void;
}

/**
 * AttachPace holds back executors that attach: a long attach is taken in slices, a few in each turn of the event loop, and callers take
 * turns. Who attaches too much waits, and is read more slowly.
 */
export class AttachPace {
  readonly #clock: Clock;
  readonly #buckets = new Map<string, TokenBucket>();
  /** The last one of each caller that waits for its rate. */
  readonly #lasts = new Map<string, Promise<void>>();
  /** Slices that wait, by caller; whose turn is next first. */
  readonly #waiting = new Map<string, Waiting[]>();
  #asked = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** turn resolves when so many nodes of a caller may be taken; `first` of an attach. What does not stand any more is let through for nothing. */
  async turn(caller: string, nodes: number, first: boolean, stands = (): boolean => true): Promise<void> {
    const cost = nodes + (first ? FRAME_COST : 0);
    // In their order: if all of them looked at the clock, each slice would wake as many as wait.
    const before = this.#lasts.get(caller);
    if (before !== undefined || this.#take(caller, cost) > 0) {
      const passed = this.#pass(caller, cost, before, stands);
      this.#lasts.set(caller, passed);
      await passed;
      if (this.#lasts.get(caller) === passed) this.#lasts.delete(caller);
    }
    const { promise, resolve } = Promise.withResolvers<void>();
    const line = this.#waiting.get(caller);
    if (line === undefined) this.#waiting.set(caller, [{ cost, go: resolve }]);
    else line.push({ cost, go: resolve });
    this.#ask();
    return promise;
  }

  /** pass resolves when a caller's rate has room behind who waits for it already. */
  async #pass(caller: string, cost: number, before: Promise<void> | undefined, stands: () => boolean): Promise<void> {
    await before;
    for (let waitMs = 1; waitMs > 0 && stands(); ) {
      waitMs = this.#take(caller, cost);
      if (waitMs > 0) await sleep(this.#clock, waitMs);
    }
  }

  #take(caller: string, cost: number): number {
    const mono = this.#clock.mono();
    const bucket = this.#buckets.get(caller) ?? new TokenBucket(ATTACH_RATE, mono);
    this.#buckets.delete(caller);
    this.#buckets.set(caller, bucket);
    const [quietest] = this.#buckets.keys();
    if (this.#buckets.size > CALLERS_MAX && quietest !== undefined) this.#buckets.delete(quietest);
    return bucket.take(ATTACH_RATE, mono, cost);
  }

  #ask(): void {
    if (this.#asked) return;
    this.#asked = true;
    this.#clock.setImmediate(() => this.#go());
  }

  #go(): void {
    this.#asked = false;
    let left = TURN_NODES;
    for (const [caller, line] of this.#waiting) {
      if (left <= 0) break;
      const { cost, go } = line.shift() as Waiting;
      this.#waiting.delete(caller);
      // Behind the others; a Map comes to it again in this same loop.
      if (line.length > 0) this.#waiting.set(caller, line);
      left -= cost;
      go();
    }
    if (this.#waiting.size > 0) this.#ask();
  }
}
