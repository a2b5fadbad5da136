import type { Clock, Timer } from "#channel/clock.ts";
import { PROMPT_BYTES, PROMPT_MS } from "#kernel/bounds/flight.ts";

/**
 * Allowance is how many bytes of frames the other side may still send in a session. It is told of what was consumed when that is a
 * quarter of the window; and sooner if it wants to be, but not all the time.
 */
export class Allowance {
  readonly #window: number;
  readonly #clock: Clock;
  readonly #give: (bytes: number) => void;
  #left = 0;
  /** What was consumed since the other side was last told. */
  #consumed = 0;
  /** The other side wants to be told soon; when it was told last, and when it is next. */
  #prompt = false;
  #givenAt = Number.NEGATIVE_INFINITY;
  #timer: Timer | undefined;
  #closed = false;

  /** `give` tells the other side that it may send so many bytes more. */
  constructor(window: number, clock: Clock, give: (bytes: number) => void) {
    this.#window = window;
    this.#clock = clock;
    this.#give = give;
  }

  /** open allows a window, as our open says. */
  open(): void {
    this.#left = this.#window;
  }

  /** promptly: the other side wants to be told soon. */
  promptly(wanted: boolean): void {
    this.#prompt = wanted;
  }

  /** take counts a frame that arrived. False if nothing was allowed. */
  take(bytes: number): boolean {
    if (this.#left <= 0) return false;
    this.#left -= bytes;
    return true;
  }

  /** consumed counts a frame that was dealt with, and allows as much again. */
  consumed(bytes: number): void {
    this.#consumed += bytes;
    if (this.#consumed >= this.#window / 4) return this.#tell();
    if (!this.#prompt || this.#consumed < PROMPT_BYTES || this.#timer !== undefined || this.#closed) return;
    const wait = this.#givenAt + PROMPT_MS - this.#clock.mono();
    if (wait <= 0) return this.#tell();
    this.#timer = this.#clock.setTimer(wait, () => {
      this.#timer = undefined;
      if (this.#consumed > 0) this.#tell();
    });
  }

  /** close tells nothing any more. */
  close(): void {
    this.#closed = true;
  }

  /** stop is close, when nothing is to happen later either. */
  stop(): void {
    this.#closed = true;
    this.#timer?.cancel();
  }

  #tell(): void {
    if (this.#closed) return;
    const bytes = this.#consumed;
    this.#consumed = 0;
    this.#left += bytes;
    if (this.#prompt) this.#givenAt = this.#clock.mono();
    this.#give(bytes);
  }
}
