/** Bytes that may be under way at least, at the start, and how many there must be before their delivery is timed. */
const LEAST_BYTES = 24 * 1024;
const START_BYTES = 32 * 1024;
/** PROMPT_BYTES: who consumed so many says so soon, so that the sender can tell how fast the way is. */
export const PROMPT_BYTES = 8 * 1024;
/** PROMPT_MS is how soon, at most: credit given in smaller steps than a window's costs a frame each. */
export const PROMPT_MS = 50;
/** What is under way should arrive within the first time; if it takes longer than the second, there is too much of it. */
const AIM_MS = 1_500;
const LATE_MS = 2_000;

/**
 * Flight bounds how much a sender has under way, by the rate at which it arrives: what is said behind it, such as a ping, waits as long as
 * all of it takes. A window that is right for a fast link holds minutes of a slow one.
 *
 * G1 what is under way arrives within about two seconds, or is no more than 24 KiB and a frame.
 * G2 the bound rises with the rate that was seen, and by nothing else: a sender that has little to say does not lower it.
 * G3 one measurement is under way at a time, so that a frame costs an addition and a comparison.
 */
export class Flight {
  readonly #max: number;
  #limit: number;
  #sent = 0;
  #arrived = 0;
  /** The measurement: all that was sent up to there, when, and how much was under way then. */
  #until = -1;
  #since = 0;
  #bytes = 0;

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
    return this.#until < 0 && this.#sent - this.#arrived >= PROMPT_BYTES;
  }

  /** begin begins to time what was sent up to now. */
  begin(mono: number): void {
    this.#until = this.#sent;
    this.#since = mono;
    this.#bytes = this.bytes;
  }

  /** arrived notes bytes that the other side has taken. */
  arrived(bytes: number, mono: number): void {
    this.#arrived = Math.min(this.#sent, this.#arrived + bytes);
    if (this.#until < 0 || this.#arrived < this.#until) return;
    const took = Math.max(1, mono - this.#since);
    const fits = Math.round((this.#bytes * AIM_MS) / took);
    this.#until = -1;
    if (took > LATE_MS) this.#limit = Math.max(Math.min(LEAST_BYTES, this.#max), Math.min(this.#limit, fits));
    else this.#limit = Math.min(this.#max, Math.max(this.#limit, fits));
  }
}
