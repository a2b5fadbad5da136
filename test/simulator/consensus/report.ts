import type { Violation } from "../oracle.ts";
import type { RunResult } from "./run.ts";
import type { EngineName } from "./subject.ts";

/** EXIT are the exit codes: what was not kept. */
export const EXIT = { correctness: 1, liveness: 2, crash: 3 } as const;

/** Summary is what is told of a run; it can be sent between threads. */
export type Summary = Omit<RunResult, "counts" | "trace" | "description"> & { readonly counts: readonly (readonly [string, number])[] };

/** summarise leaves out what is only there to be read. */
export function summarise({ trace, description, counts, ...rest }: RunResult): Summary {
  void trace;
  void description;
  return { ...rest, counts: [...counts] };
}

const SHOWN = 5;
const LONGEST = 900;

/** explain says what a run broke, and how to see it again. */
export function explain(summary: Pick<Summary, "seed" | "violations">, engine: EngineName, voters: number | undefined): string {
  const lines = summary.violations
    .slice(0, SHOWN)
    .map(({ checker, kind, text, at }) => `  ${kind} (${checker}, at ${(at / 1_000).toFixed(2)} s): ${text.slice(0, LONGEST)}`);
  if (summary.violations.length > SHOWN) lines.push(`  and ${summary.violations.length - SHOWN} more`);
  const count = voters === undefined ? "" : ` REPLICAS=${voters}`;
  const repeat = `make simulate ENGINE=${engine} SEED=${summary.seed} RUNS=1${count}`;
  return `seed ${summary.seed} broke a promise\n${lines.join("\n")}\n  repeat with: ${repeat}    (TRACE=1 in front prints what happened)\n`;
}

/** exitCode is the worst of what was broken. */
export function exitCode(violations: readonly Violation[]): number {
  const kinds = new Set(violations.map(({ kind }) => kind));
  if (kinds.has("crash")) return EXIT.crash;
  if (kinds.has("correctness")) return EXIT.correctness;
  return kinds.has("liveness") ? EXIT.liveness : 0;
}
