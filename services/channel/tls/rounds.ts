import type { Socket } from "node:net";
import type { Clock, Timer } from "../clock.ts";

/** Rounds look at something of each of many connections again and again, with one timer, while there are any. */
export class Rounds<T> {
  readonly #clock: Pick<Clock, "setTimer">;
  readonly #everyMs: number;
  readonly #look: (one: T) => void;
  readonly #all = new Set<T>();
  #timer: Timer | undefined;

  constructor(clock: Pick<Clock, "setTimer">, everyMs: number, look: (one: T) => void) {
    this.#clock = clock;
    this.#everyMs = everyMs;
    this.#look = look;
  }

  /** all that are looked at now. */
  get all(): readonly T[] {
    return [...this.#all];
  }

  /** add one, for as long as its socket is open. */
  add(one: T, socket: Socket): void {
    this.#all.add(one);
    this.#arm();
    socket.once("close", () => {
      this.#all.delete(one);
      if (this.#all.size > 0) return;
      this.#timer?.cancel();
      this.#timer = undefined;
    });
  }

  #arm(): void {
    this.#timer ??= this.#clock.setTimer(this.#everyMs, () => {
      this.#timer = undefined;
      for (const one of this.all) this.#look(one);
      if (this.#all.size > 0) this.#arm();
    });
  }
}
