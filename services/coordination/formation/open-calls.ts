import type { Failure } from "#kernel/error.ts";
import type { Effect } from "../messages.ts";

/**
 * OpenCalls are those that wait for the log of a federation, or for what other members say, so that none is left when the hub's part in it ends.
 *
 * OC1 each gets one answer: that of the federation, or why there will be none.
 */
export class OpenCalls {
  readonly #open = new Set<number>();

  add(call: number): void {
    this.#open.add(call);
  }

  /** cancel notes that nobody waits for a call any more. */
  cancel(call: number): void {
    this.#open.delete(call);
  }

  /** answered takes the effects of a step: whom they answer waits no longer. */
  answered(effects: readonly Effect[]): void {
    if (this.#open.size === 0) return;
    for (const effect of effects) if ("call" in effect) this.#open.delete(effect.call);
  }

  /** end refuses all that wait. */
  end(failure: Failure, out: Effect[]): void {
    this.answered(out);
    for (const call of this.#open) out.push({ kind: "refused", call, failure });
    this.#open.clear();
  }
}
