import type { Clock, Timer } from "../../clients/typescript/index.ts";

/** Latest hands on the newest of many values: the first at once, then one in `everyMs` at most, and the last one always. */
export class Latest<T> {
  readonly #clock: Pick<Clock, "setTimer">;
  readonly #everyMs: number;
  readonly #hand: (value: T) => void;
  #waiting: { readonly value: T } | undefined;
  #timer: Timer | undefined;

  constructor(clock: Pick<Clock, "setTimer">, everyMs: number, hand: (value: T) => void) {
    this.#clock = clock;
    this.#everyMs = everyMs;
    this.#hand = hand;
  }

  /** put takes a value. */
  put(value: T): void {
    this.#waiting = { value };
    if (this.#timer === undefined) this.#next();
  }

  /** close hands on what waits, and nothing later. */
  close(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    if (this.#waiting !== undefined) this.#hand(this.#waiting.value);
    this.#waiting = undefined;
  }

  #next(): void {
    this.#timer = undefined;
    if (this.#waiting === undefined) return;
    const { value } = this.#waiting;
    this.#waiting = undefined;
    this.#timer = this.#clock.setTimer(this.#everyMs, () => this.#next());
    this.#hand(value);
  }
}
