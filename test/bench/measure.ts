// What benches share: rows of the result, alternation, processor time of other processes.
import { readFileSync } from "node:fs";
import { median } from "./worker.ts";

/** Row is one line of the result. Without a floor it is context; "not measured" never counts as held. */
export interface Row {
  readonly family: string;
  readonly name: string;
  /** As a person reads it. */
  readonly floor: string;
  readonly measured: string;
  readonly held: "held" | "missed" | "not measured" | "context";
  readonly note?: string;
}

/** Spread is a median with the extremes beside it. */
export interface Spread {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

export function spread(values: readonly number[]): Spread {
  return { median: median(values), min: Math.min(...values), max: Math.max(...values) };
}

/** showSpread writes it as "2.1 (1.9 to 2.3)". */
export function showSpread({ median: mid, min, max }: Spread, unit = "", digits = 2): string {
  return `${mid.toFixed(digits)}${unit} (${min.toFixed(digits)} to ${max.toFixed(digits)})`;
}

/** showRate writes 1234567 as "1.23M/s". */
export function showRate(perSecond: number): string {
  if (perSecond >= 1e6) return `${(perSecond / 1e6).toFixed(2)}M/s`;
  return perSecond >= 1e3 ? `${(perSecond / 1e3).toFixed(1)}k/s` : `${perSecond.toFixed(0)}/s`;
}

/** ratioRow holds when the median ratio is at least the floor. */
export function ratioRow(family: string, name: string, floor: number, ratios: readonly number[], note: string): Row {
  const ratio = spread(ratios);
  return { family, name, floor: `>= ${floor} x`, measured: showSpread(ratio, " x"), held: ratio.median >= floor ? "held" : "missed", note };
}

/** belowRow holds when a value is below the floor. */
export function belowRow(family: string, name: string, limit: number, unit: string, value: number, note: string, digits = 2): Row {
  return {
    family,
    name,
    floor: `< ${limit} ${unit}`,
    measured: `${value.toFixed(digits)} ${unit}`,
    held: value < limit ? "held" : "missed",
    note,
  };
}

export function notMeasured(family: string, name: string, floor: string, why: string): Row {
  return { family, name, floor, measured: "-", held: "not measured", note: why };
}

export function context(family: string, name: string, measured: string, note = ""): Row {
  return { family, name, floor: "", measured, held: "context", note };
}

/** alternate measures A and B in turn, so that a slow moment of the machine meets both. */
export async function alternate<A, B>(
  times: number,
  a: () => Promise<A>,
  b: () => Promise<B>,
): Promise<{ readonly a: A; readonly b: B }[]> {
  const results: { a: A; b: B }[] = [];
  for (let i = 0; i < times; i++) results.push({ a: await a(), b: await b() });
  return results;
}

/** Clock ticks per second of /proc; the kernel's ABI fixes it. */
const TICKS = 100;

/** cpuOf is the processor time of a process so far, in seconds (10 ms steps); 0 when it is gone. */
export function cpuOf(pid: number): number {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return (Number(fields[11]) + Number(fields[12])) / TICKS;
  } catch {
    return 0;
  }
}

/** rssMiBOf is the resident memory of a process. */
export function rssMiBOf(pid: number): number {
  return Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, "latin1"))?.[1] ?? Number.NaN) / 1_024;
}

/** cpuDuring runs some work and says what processor time each process spent on it, in seconds. */
export async function cpuDuring<R>(
  pids: Readonly<Record<string, readonly number[]>>,
  work: () => Promise<R>,
): Promise<{ readonly result: R; readonly cpu: Readonly<Record<string, number>> }> {
  const read = (): Record<string, number> =>
    Object.fromEntries(Object.entries(pids).map(([name, list]) => [name, list.reduce((sum, pid) => sum + cpuOf(pid), 0)]));
  const before = read();
  const result = await work();
  const after = read();
  return { result, cpu: Object.fromEntries(Object.keys(before).map((name) => [name, (after[name] as number) - (before[name] as number)])) };
}
