import { parentPort } from "node:worker_threads";
import { exhaustive, runScenario, type SampleKind, sample } from "./scenario.ts";
import { OUTCOMES } from "./schedule.ts";

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
  /** How many scenarios got how far before the network healed: by the highest round of a height that an honest copy was in. */
  readonly reached: readonly number[];
  /** By scheduled partition, how many scenarios had which outcome in it, in the order of OUTCOMES. */
  readonly outcomes: readonly (readonly number[])[];
  readonly broken: readonly string[];
}

/** sumOf adds lists up, place by place; a shorter one has zeros. */
export function sumOf(a: readonly number[], b: readonly number[]): number[] {
  return Array.from({ length: Math.max(a.length, b.length) }, (_, i) => (a[i] ?? 0) + (b[i] ?? 0));
}

/** noTally is that of no scenario. */
export function noTally(): Tally {
  return { runs: 0, accused: 0, forked: 0, decided: 0, reached: [], outcomes: [], broken: [] };
}

/** both is the tally of two batches together. */
export function both(a: Tally, b: Tally): Tally {
  return {
    runs: a.runs + b.runs,
    accused: a.accused + b.accused,
    forked: a.forked + b.forked,
    decided: a.decided + b.decided,
    reached: sumOf(a.reached, b.reached),
    outcomes: Array.from({ length: Math.max(a.outcomes.length, b.outcomes.length) }, (_, i) =>
      sumOf(a.outcomes[i] ?? [], b.outcomes[i] ?? []),
    ),
    broken: [...a.broken, ...b.broken],
  };
}

/** runBatch runs scenarios one after the other. */
export function runBatch({ kind, from, to }: Batch): Tally {
  let tally = noTally();
  for (let i = from; i < to; i++) tally = both(tally, tallyOf(kind, i));
  return tally;
}

/** tallyOf runs one scenario. */
export function tallyOf(kind: Batch["kind"], i: number): Tally {
  const { problems, accused, forked, decided, played } = runScenario(kind === "exhaustive" ? exhaustive(i) : sample(kind, i));
  return {
    runs: 1,
    accused: accused > 0 ? 1 : 0,
    forked: forked ? 1 : 0,
    decided,
    reached: Array.from({ length: played.reached + 1 }, (_, round) => (round === played.reached ? 1 : 0)),
    outcomes: played.outcomes.map((outcome) => OUTCOMES.map((other) => (other === outcome ? 1 : 0))),
    broken: problems.map(({ kind: what, text }) => `${kind} ${i}: ${what}: ${text}`),
  };
}

// One thread of `main.ts`.
parentPort?.on("message", (batch: Batch) => parentPort?.postMessage(runBatch(batch)));
