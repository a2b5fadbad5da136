import { assert } from "../assert.ts";

/** HlcReading is one reading of a hybrid logical clock. Readings are ordered by wallMs, then logical. */
export interface HlcReading {
  /** Milliseconds since the Unix epoch. */
  readonly wallMs: number;
  /** Counts readings within the same millisecond: 0 to 65,535. */
  readonly logical: number;
}

/** MAX_LOGICAL is the largest logical part; the next reading then moves to the next millisecond. */
export const MAX_LOGICAL = 0xffff;

/** compareHlc orders readings: negative, zero or positive. */
export function compareHlc(a: HlcReading, b: HlcReading): number {
  return a.wallMs - b.wallMs || a.logical - b.logical;
}

/** validHlc tells whether a reading that came from outside has sane numbers. */
export function validHlc(reading: HlcReading): boolean {
  const { wallMs, logical } = reading;
  return Number.isSafeInteger(wallMs) && wallMs >= 0 && Number.isInteger(logical) && logical >= 0 && logical <= MAX_LOGICAL;
}

/** tooFarAhead tells whether a reading lies more than `maxSkewMs` in the future of the given wall clock. */
export function tooFarAhead(reading: HlcReading, wall: number, maxSkewMs: number): boolean {
  return reading.wallMs > wall + maxSkewMs;
}

/**
 * Hlc is a hybrid logical clock: close to wall time, yet it never repeats and never goes back, and what happened after a
 * message was received reads later than the message (Kulkarni et al., "Logical Physical Clocks", 2014).
 *
 * HL1 each reading of `tick` is greater than every earlier one and than every accepted remote one.
 * HL2 a remote reading further than `maxSkewMs` in the future is refused and changes nothing, so that one broken clock
 *    cannot drag the others along (D-9).
 */
export class Hlc {
  readonly #maxSkewMs: number;
  #wallMs: number;
  #logical: number;

  /** `last` is the greatest reading that was given out before a restart, if any. */
  constructor(maxSkewMs: number, last: HlcReading = { wallMs: 0, logical: 0 }) {
    assert(maxSkewMs >= 0, "negative clock skew", { maxSkewMs });
    this.#maxSkewMs = maxSkewMs;
    this.#wallMs = last.wallMs;
    this.#logical = last.logical;
  }

  /** last is the greatest reading seen or given out. */
  get last(): HlcReading {
    return { wallMs: this.#wallMs, logical: this.#logical };
  }

  /** tick gives a new reading for something that happens now. */
  tick(wall: number): HlcReading {
    const floor = Math.floor(wall);
    if (floor > this.#wallMs) this.#set(floor, 0);
    else this.#bump();
    return this.last;
  }

  /** receive takes in the reading of a message from another hub. False, and no change, if it is malformed or too far ahead (HL2). */
  receive(remote: HlcReading, wall: number): boolean {
    if (!validHlc(remote) || tooFarAhead(remote, wall, this.#maxSkewMs)) return false;
    if (compareHlc(remote, this.last) > 0) this.#set(remote.wallMs, remote.logical);
    return true;
  }

  #bump(): void {
    if (this.#logical === MAX_LOGICAL) this.#set(this.#wallMs + 1, 0);
    else this.#logical++;
  }

  #set(wallMs: number, logical: number): void {
    this.#wallMs = wallMs;
    this.#logical = logical;
  }
}
