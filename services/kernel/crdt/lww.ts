import { compareBytes, compareText } from "../wire/bytes.ts";
import { compareHlc, type HlcReading, tooFarAhead, validHlc } from "./hlc.ts";

/** Lww is one write of a register whose last writer wins: what it was set to, when and by whom. */
export interface Lww {
  readonly at: HlcReading;
  /** Who wrote it: of two writes at the same reading, the greater name wins. */
  readonly writer: string;
  /** The value, or undefined for "removed". */
  readonly value: Uint8Array | undefined;
}

/** LwwProblem is what is wrong with a write from outside. */
export type LwwProblem = "MALFORMED" | "TOO_FAR_AHEAD";

/**
 * compareLww orders writes, whatever they are: by reading, then by writer, then, for a writer that used a reading twice, "removed" before
 * values, and those by their bytes. Zero for equal writes only. A register is the last of the writes that it was given:
 *
 * LW1 the last of some writes is the same in whatever order, grouping and number they come.
 * LW2 a register never goes back: what it takes is later than what it had.
 * LW3 a write that is malformed, or further ahead of the wall clock than allowed, is told by `lwwProblem` and must not be taken: it would
 *    win over every honest write until then (D-9).
 * LW4 a write at the next reading of an `Hlc` that has received the readings of all taken writes is later than each of them, also where
 *    the wall clock is behind: an edit is not undone by a clock.
 */
export function compareLww(a: Lww, b: Lww): number {
  return compareHlc(a.at, b.at) || compareText(a.writer, b.writer) || compareValues(a.value, b.value);
}

/** laterLww gives the later of two writes; a register that is empty yet is undefined (LW1, LW2). */
export function laterLww<W extends Lww>(a: W | undefined, b: W | undefined): W | undefined {
  if (a === undefined || b === undefined) return a ?? b;
  return compareLww(a, b) >= 0 ? a : b;
}

/** lwwProblem tells what is wrong with a write from outside at a wall time (LW3); undefined if nothing is. */
export function lwwProblem(write: Lww, wall: number, maxSkewMs: number): LwwProblem | undefined {
  if (!validHlc(write.at)) return "MALFORMED";
  return tooFarAhead(write.at, wall, maxSkewMs) ? "TOO_FAR_AHEAD" : undefined;
}

function compareValues(a: Uint8Array | undefined, b: Uint8Array | undefined): number {
  if (a === undefined || b === undefined) return (a === undefined ? 0 : 1) - (b === undefined ? 0 : 1);
  return compareBytes(a, b);
}
