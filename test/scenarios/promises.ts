// What scenarios promise, what was measured, and how both are shown.
import { systemClock } from "#channel/clock.ts";

/** Scale is how long a scenario is played: a part of the suite, in which nothing is timed, or all of it. */
export type Scale = "short" | "whole";

/** How a scenario is played: in virtual time, on the shipping cores; or by processes that talk over mutual TLS. */
export type How = "simulated" | "processes";

/** Line is one promise, with what was measured. Without a verdict it is for the reader's understanding. */
export interface Line {
  readonly promised: string;
  readonly measured: string;
  readonly held?: boolean;
  /** What the verdict depends on is time: the suite, which shares the machine, does not judge it. */
  readonly timed?: boolean;
}

/** Play is how a scenario is played. */
export interface Play {
  readonly scale: Scale;
  /** Arguments of node before the verb of a hub, and its environment. */
  readonly entry: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}

/** Scenario is one of the five of the plan, or the numbers of the plan. */
export interface Scenario {
  readonly id: string;
  readonly title: string;
  /** Requirement that it shows. */
  readonly shows: string;
  readonly ways: Readonly<Partial<Record<How, (play: Play) => Promise<readonly Line[]>>>>;
}

/** holds is a promise that is kept or not. */
export function holds(promised: string, held: boolean, measured: string): Line {
  return { promised, measured, held };
}

/** below is a promise that a number stays under a limit. What was not measured (of no values there is no largest one) is not under it. */
export function below(what: string, limit: number, unit: string, value: number, note = "", digits = 1): Line {
  const also = note === "" ? "" : ` (${note})`;
  const isMeasured = Number.isFinite(value);
  const measured = `${value.toFixed(digits)} ${unit}${also}`;
  return { promised: `${what} < ${limit} ${unit}`, measured, held: isMeasured && value < limit, timed: isMeasured };
}

/** said is what a reader should know beside the promises. */
export function said(what: string, measured: string): Line {
  return { promised: what, measured };
}

/** quantile of some values; NaN if there are none. */
export function quantile(values: readonly number[], q: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] ?? Number.NaN;
}

/** timed gives how long something took, ms. */
export async function timed(act: () => Promise<unknown>): Promise<number> {
  const began = systemClock.mono();
  await act();
  return systemClock.mono() - began;
}

/** Columns of the table that `make scenarios` prints; what is longer moves the rest to the right. */
const WIDTHS = [9, 86, 70] as const;

function cells(...texts: readonly string[]): string {
  return texts.map((text, i) => text.padEnd(WIDTHS[i] ?? 0)).join(" | ");
}

/** HEAD is the first line of a table. */
export const HEAD = cells("played", "promised", "measured", "ok");

/** show writes a line of a table. */
export function show(how: How, { promised, measured, held }: Line): string {
  return cells(how, promised, measured, held === undefined ? "-" : held ? "yes" : "MISSED");
}

/** brokenIn are the promises that were not kept; in the short form what depends on time is not judged. */
export function brokenIn(lines: readonly Line[], scale: Scale): Line[] {
  return lines.filter(({ held, timed }) => held === false && !(timed === true && scale === "short"));
}
