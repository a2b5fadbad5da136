import { ACTIVITIES, nameOfPair, PAIRS } from "./activities.ts";
import { FAULTS, type Fault } from "./options.ts";
import type { Violation } from "./oracle.ts";
import type { RunResult } from "./run.ts";

/** Summary is what is told of a run; it can be sent between threads. */
export interface Summary {
  readonly seed: number;
  readonly violations: readonly Violation[];
  readonly hash: string;
  readonly steps: number;
  readonly commands: number;
  readonly writes: number;
  readonly commits: number;
  /** How often each pair of activities overlapped, in the order of PAIRS. */
  readonly overlaps: readonly number[];
}

const SHOWN = 5;
const LONGEST = 600;

/** summarise leaves out what is only there to be read. */
export function summarise({ seed, violations, hash, steps, commands, writes, commits, counts }: RunResult): Summary {
  return { seed, violations, hash, steps, commands, writes, commits, overlaps: PAIRS.map((pair) => counts.get(pair) ?? 0) };
}

/** repeat is the command that runs a seed again. */
export function repeat(seed: number, hubs: number, faults: readonly Fault[]): string {
  if (faults.length === FAULTS.length) return `make simulate SEED=${seed} RUNS=1 HUBS=${hubs}`;
  return `node test/simulator/main.ts --seed ${seed} --runs 1 --hubs ${hubs} --faults ${faults.join(",") || "none"}`;
}

/** explain says what a run broke, and how to see it again. */
export function explain(summary: Summary, hubs: number, faults: readonly Fault[]): string {
  const lines = summary.violations
    .slice(0, SHOWN)
    .map(({ checker, kind, text, at }) => `  ${kind} (${checker}, at ${(at / 1_000).toFixed(1)} s): ${text.slice(0, LONGEST)}`);
  if (summary.violations.length > SHOWN) lines.push(`  and ${summary.violations.length - SHOWN} more`);
  return `seed ${summary.seed} broke a promise\n${lines.join("\n")}\n  repeat with: ${repeat(summary.seed, hubs, faults)}    (TRACE=1 in front prints what happened)\n`;
}

/** overlapTable prints how often each pair of activities overlapped at a hub. */
export function overlapTable(overlaps: readonly number[]): string {
  const width = Math.max(...ACTIVITIES.map((name) => name.length));
  const cells = ACTIVITIES.map((row, i) =>
    ACTIVITIES.slice(0, i)
      .map((column) => String(overlaps[PAIRS.indexOf(nameOfPair(row, column))] ?? 0).padStart(Math.max(7, column.length)))
      .join(" "),
  );
  const head = ACTIVITIES.slice(0, -1).map((name) => name.padStart(7));
  const lines = ACTIVITIES.map((name, i) => `  ${name.padEnd(width)} ${cells[i]}`.trimEnd());
  const never = PAIRS.filter((_, i) => overlaps[i] === 0).map((pair) => pair.replace("overlap ", ""));
  return [
    "overlaps at one hub:",
    `  ${"".padEnd(width)} ${head.join(" ")}`,
    ...lines.slice(1),
    never.length === 0 ? "  every pair overlapped" : `  never overlapped: ${never.join(", ")}`,
  ].join("\n");
}
