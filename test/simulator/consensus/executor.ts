import type { Invariants } from "./invariants.ts";

/** Executor is something outside of the log that works for whoever holds a lock: it takes nothing with a fence older than one it has seen. */
export class Executor {
  readonly #invariants: Pick<Invariants<unknown>, "violate">;
  readonly #ignores: boolean;
  readonly #newest = new Map<string, number>();
  readonly #checked = new Map<string, number>();

  constructor(invariants: Pick<Invariants<unknown>, "violate">, ignoresFences: boolean) {
    this.#invariants = invariants;
    this.#ignores = ignoresFences;
  }

  /** act does something under a lock; true if it was taken. */
  act(lock: string, client: string, fence: number): boolean {
    if (!this.#ignores && fence < (this.#newest.get(lock) ?? 0)) return false;
    this.#newest.set(lock, fence);
    const newest = this.#checked.get(lock) ?? 0;
    if (fence < newest)
      this.#invariants.violate("fence", `${client} acted under fence ${fence} of lock ${lock} after somebody did under ${newest}`);
    this.#checked.set(lock, Math.max(newest, fence));
    return true;
  }
}
