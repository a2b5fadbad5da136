/**
 * CallerLines have the changes of one caller reach the core in the order in which they arrived, also when one of them goes there in parts
 * that wait for their turns: what came later would else be overtaken by the rest of what came before.
 */
export class CallerLines {
  /** The end of each line: whoever waits for it is next. */
  readonly #ends = new Map<string, Promise<void>>();

  /** enter waits for those before, if there are any. `leave` must be called when all of it is with the core, or it failed. */
  enter(caller: string): { readonly turn: Promise<void> | undefined; readonly leave: () => void } {
    const turn = this.#ends.get(caller);
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#ends.set(caller, promise);
    const leave = (): void => {
      if (this.#ends.get(caller) === promise) this.#ends.delete(caller);
      resolve();
    };
    return { turn, leave };
  }

  /** size is how many callers have something under way. */
  get size(): number {
    return this.#ends.size;
  }
}
