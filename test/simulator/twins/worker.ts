import { parentPort } from "node:worker_threads";
import { exhaustive, runScenario, type SampleKind, sample } from "./scenario.ts";

/** Batch is what a thread is given: some scenarios of a kind. */
export interface Batch {
  readonly kind: SampleKind | "exhaustive";
  readonly from: number;
  readonly to: number;
}

/** Tally is what became of them. */
export interface Tally {
  readonly runs: number;
  readonly accused: number;
  readonly forked: number;
  readonly decided: number;
  readonly rounds: number;
  readonly broken: readonly string[];
}

/** runBatch runs scenarios one after the other. */
export function runBatch({ kind, from, to }: Batch): Tally {
  const tally = { runs: 0, accused: 0, forked: 0, decided: 0, rounds: 0, broken: [] as string[] };
  for (let i = from; i < to; i++) {
    const result = runScenario(kind === "exhaustive" ? exhaustive(i) : sample(kind, i));
    tally.runs++;
    tally.accused += result.accused > 0 ? 1 : 0;
    tally.forked += result.forked ? 1 : 0;
    tally.decided += result.decided;
    tally.rounds = Math.max(tally.rounds, result.rounds);
    for (const { kind: what, text } of result.problems) tally.broken.push(`${kind} ${i}: ${what}: ${text}`);
  }
  return tally;
}

// One thread of `main.ts`.
parentPort?.on("message", (batch: Batch) => parentPort?.postMessage(runBatch(batch)));
