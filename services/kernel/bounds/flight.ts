/** Bytes that may be under way at least, at the start, and how many there must be before their delivery is timed. */
const LEAST_BYTES = 24 * 1024;
const START_BYTES = 32 * 1024;
/** PROMPT_BYTES: who consumed so many says so soon, so that the sender can tell how fast the way is. */
export const PROMPT_BYTES = 8 * 1024;
/** PROMPT_MS is how soon, at most: credit given in smaller steps than a window's costs a frame each. */
export const PROMPT_MS = 50;
/** What is under way should wait for the first time at most; if it waits longer than the second, there is too much of it. */
const AIM_MS = 1_500;
const LATE_MS = 2_000;
/** So much of the time that bytes take may be the distance: a satellite is far away and not slow. */
const FAR_MS = 2_000;

/**
 * Flight bounds how much a sender has under way, by the rate at which it arrives: what is said behind it, such as a ping, waits as long as
 * all of it takes. A window that is right for a fast link holds minutes of a slow one.
 *
 * FT1 what is under way waits about two seconds at most, or is no more than 24 KiB and a frame. The way itself does not count: the least
 *    time that was seen is that of the way, up to two seconds.
 * FT2 the bound rises with the rate that was seen, and while the bound stops the sender also twofold each time, as a little that was under
 *    way says little about the rate; it is lowered by what came late. A sender that has little to say does not lower it.
 * FT3 one measurement is under way at a time, so that a frame costs an addition and two comparisons. One of a little gives way to one of
 *    a flight that is full.
 */
export class Flight {
  readonly #max: number;
  #limit: number;
  #sent = 0;
  #arrived = 0;
  /** The measurement: all that was sent up to there, when, how much was under way then, and whether that was all that may be. */
  #until = -1;
  #since = 0;
  #bytes = 0;
  #full = false;
  #leastMs = FAR_MS;

  /** `maxBytes` is what may be under way at most, however fast it arrives. */
  constructor(maxBytes: number) {
    this.#max = maxBytes;
    this.#limit = Math.min(START_BYTES, maxBytes);
  }

  /** limit is how many bytes may be under way now. */
  get limit(): number {
    return this.#limit;
  }

  /** bytes are under way: sent, and not known to have arrived. */
  get bytes(): number {
    return this.#sent - this.#arrived;
  }

  /** room: another frame may go. */
  get room(): boolean {
    return this.#sent - this.#arrived < this.#limit;
  }

  /** sent notes bytes that leave; true asks for `begin`. */
  sent(bytes: number): boolean {
    this.#sent += bytes;
    const underWay = this.#sent - this.#arrived;
    return this.#until < 0 ? underWay >= PROMPT_BYTES : !this.#full && underWay >= this.#limit && underWay < this.#max;
  }

  /** begin begins to time what was sent up to now. */
  begin(mono: number): void {
    this.#until = this.#sent;
    this.#since = mono;
    this.#bytes = this.bytes;
    this.#full = this.#bytes >= this.#limit;
  }

  /** arrived notes bytes that the other side has taken. */
  arrived(bytes: number, mono: number): void {
    this.#arrived = Math.min(this.#sent, this.#arrived + bytes);
    if (this.#until < 0 || this.#arrived < this.#until) return;
    const took = Math.max(1, mono - this.#since);
    this.#leastMs = Math.min(this.#leastMs, took);
    const waited = Math.max(1, took - this.#leastMs);
    const fits = Math.round((this.#bytes * AIM_MS) / took);
    this.#until = -1;
    if (waited > LATE_MS) this.#limit = Math.max(Math.min(LEAST_BYTES, this.#max), Math.min(this.#limit, fits));
    else if (waited <= AIM_MS) this.#limit = Math.min(this.#max, Math.max(this.#limit * (this.#full ? 2 : 1), fits));
  }
}
