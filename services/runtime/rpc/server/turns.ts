import type { Clock } from "#channel/clock.ts";

/**
 * Work for others that one turn of the event loop takes, in units: one is a frame, or a KiB, or the time below, whichever is most. So
 * a turn lasts about 3 ms, whatever frames come: some that are refused take a hundred times as long as others for the same bytes.
 */
const TURN_UNITS = 256;
/** What each lane may do per turn at least, however many there are. */
const LANE_UNITS_MIN = 8;
const UNIT_BYTES = 1_024;
const UNIT_MS = 3 / TURN_UNITS;

/**
 * Lane is one peer's part in the work of each turn of the event loop. What comes from peers is handled in microtasks, which Node runs
 * before it looks at any other socket; so a peer that sends fast enough would be the only one that is served. A lane that has used up
 * its part waits for the next turn, and not before everybody else, this hub's own callers among them, had theirs.
 */
export class Lane {
  readonly #turns: Turns;
  #turn = -1;
  #left = 0;

  constructor(turns: Turns) {
    this.#turns = turns;
  }

  /** spend counts the work of a frame, after it; a promise says to go on in the next turn. */
  spend(bytes: number): Promise<void> | undefined {
    const turns = this.#turns;
    const tookMs = turns.lap();
    let units = 1 + bytes / UNIT_BYTES;
    if (this.#turn === turns.turn) units = Math.max(units, tookMs / UNIT_MS);
    else {
      // Before a lane's first frame in a turn others were served: how long that one took is not known.
      this.#turn = turns.turn;
      this.#left = turns.enter();
    }
    this.#left -= units;
    return this.#left > 0 ? undefined : turns.next();
  }
}

/** Turns shares the turns of the event loop among the lanes that have work. */
export class Turns {
  readonly #clock: Clock;
  #turn = 0;
  /** The next turn is asked for. */
  #asked = false;
  /** Lanes of this turn and of the one before, and each one's part of this turn. */
  #lanes = 0;
  #part = TURN_UNITS;
  #next: PromiseWithResolvers<void> | undefined;
  /** When the last frame was done with. */
  #mark = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get turn(): number {
    return this.#turn;
  }

  lane(): Lane {
    return new Lane(this);
  }

  /** lap is how long ago the last frame was done with: in the microtasks that handle what has arrived, the time that this one took. */
  lap(): number {
    const now = this.#clock.mono();
    const tookMs = now - this.#mark;
    this.#mark = now;
    return tookMs;
  }

  /** enter gives a lane its part of this turn. */
  enter(): number {
    this.#lanes++;
    this.ask();
    return this.#part;
  }

  /** ask has the next turn begin after the I/O that waits. */
  ask(): void {
    if (this.#asked) return;
    this.#asked = true;
    this.#clock.setImmediate(() => this.#begin());
  }

  /** next resolves when the next turn begins. */
  next(): Promise<void> {
    this.#next ??= Promise.withResolvers();
    return this.#next.promise;
  }

  #begin(): void {
    this.#turn++;
    this.#asked = false;
    this.#part = Math.max(LANE_UNITS_MIN, TURN_UNITS / Math.max(1, this.#lanes));
    this.#lanes = 0;
    const next = this.#next;
    this.#next = undefined;
    next?.resolve();
  }
}

const byClock = new WeakMap<Clock, Turns>();

/** turnsOf is the Turns of everything that goes by one clock, which is one process: its services share one event loop. */
export function turnsOf(clock: Clock): Turns {
  let turns = byClock.get(clock);
  if (turns === undefined) byClock.set(clock, (turns = new Turns(clock)));
  return turns;
}
