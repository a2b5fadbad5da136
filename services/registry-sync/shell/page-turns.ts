import { whenAborted } from "#channel/abort.ts";
import type { Clock } from "#channel/clock.ts";
import { FoedusError } from "#kernel/error.ts";
import { CANCELLED } from "./shell.ts";

/**
 * PageTurns let pages of lists be made one in a turn of the event loop, callers taking turns. The core answers most of them at once, with up
 * to a thousand records, and their bytes count for who asked only when they are written: whoever asked for hundreds at once else had this hub
 * make them all before anything else. A call that is over leaves its line.
 */
export class PageTurns {
  readonly #clock: Pick<Clock, "setImmediate">;
  /** Those who wait, by caller; whose turn is next first. */
  readonly #waiting = new Map<string, Set<() => void>>();
  /** One has begun, and the next turn of the loop has not. */
  #begun = false;

  constructor(clock: Pick<Clock, "setImmediate">) {
    this.#clock = clock;
  }

  /** turn resolves when a caller may have a page made: at once if nobody else has in this turn of the loop. It rejects if the call is over. */
  turn(caller: string, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const leave = (): void => {
        this.#leave(caller, go);
        reject(new FoedusError(CANCELLED));
      };
      const go = (): void => {
        signal.removeEventListener("abort", leave);
        resolve();
      };
      if (signal.aborted) return leave();
      if (!this.#begun) {
        this.#begin();
        return resolve();
      }
      const line = this.#waiting.get(caller);
      if (line === undefined) this.#waiting.set(caller, new Set([go]));
      else line.add(go);
      whenAborted(signal, leave);
    });
  }

  #leave(caller: string, go: () => void): void {
    const line = this.#waiting.get(caller);
    line?.delete(go);
    if (line?.size === 0) this.#waiting.delete(caller);
  }

  #begin(): void {
    this.#begun = true;
    this.#clock.setImmediate(() => this.#next());
  }

  #next(): void {
    this.#begun = false;
    for (const [caller, line] of this.#waiting)
      for (const go of line) {
        line.delete(go);
        this.#waiting.delete(caller);
        // Behind the others.
        if (line.size > 0) this.#waiting.set(caller, line);
        this.#begin();
        return go();
      }
  }
}
