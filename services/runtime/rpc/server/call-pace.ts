import type { Clock } from "#channel/clock.ts";
import { type Turns, turnsOf } from "./turns.ts";

/** How long one turn of the event loop makes answers for one caller, ms, before it serves the others. */
const CALLER_MS = 10;

/**
 * CallPace holds back the unary calls of one caller. One read of a socket brings hundreds of them; answered in a row they would be all
 * that this hub does for seconds, and be answered before it shows that nobody reads the answers.
 */
export class CallPace {
  readonly #clock: Clock;
  readonly #turns: Turns;
  #turn = -1;
  #since = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#turns = turnsOf(clock);
  }

  /** next says to begin with a call now, or, by a promise, to ask again in the next turn. */
  next(): Promise<void> | undefined {
    const turns = this.#turns;
    const now = this.#clock.mono();
    if (turns.turn === this.#turn) return now - this.#since < CALLER_MS ? undefined : turns.next();
    turns.ask();
    this.#turn = turns.turn;
    this.#since = now;
    return undefined;
  }
}
