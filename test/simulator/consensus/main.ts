// Runs seeds of the simulator of consensus: `make simulate ENGINE=raft SEED= RUNS= REPLICAS= THREADS=`, TRACE=1 for a transcript;
// `make simulate ZOO=1` for the table of broken cores. Exit code: 0 all is well, 1 a promise was broken, 2 something did not happen in
// time, 3 a core failed or threw.
import { availableParallelism } from "node:os";
import { parseArgs } from "node:util";
import { Worker } from "node:worker_threads";
import { systemEntropy } from "#channel/entropy.ts";
import { exitCode, explain, type Summary, summarise } from "./report.ts";
import { simulate, subjectOf } from "./subjects.ts";
import { zooTable } from "./zoo/table.ts";

/** Fewer runs than this are not worth a second thread. */
const SPREAD_FROM = 20;
const MOST_THREADS = 16;

interface Arguments {
  readonly engine: string;
  readonly seed: number;
  readonly runs: number;
  readonly voters: number | undefined;
  readonly threads: number;
  readonly trace: boolean;
  readonly zoo: boolean;
  readonly row: string | undefined;
}

function number(text: string | undefined, fallback: number, min: number, max: number, name: string): number {
  if (text === undefined) return fallback;
  const value = Number(text);
  if (!Number.isInteger(value) || value < min || value > max) throw new Error(`--${name} is a whole number from ${min} to ${max}`);
  return value;
}

function readArguments(): Arguments {
  const text = { type: "string" } as const;
  const flag = { type: "boolean" } as const;
  const options = { engine: text, seed: text, runs: text, replicas: text, threads: text, trace: flag, zoo: flag, row: text } as const;
  const { values } = parseArgs({ options });
  const engine = values.engine ?? "raft";
  const [fewest, most] = subjectOf(engine).voters;
  return {
    engine,
    seed: number(values.seed, values.zoo === true ? 1 : systemEntropy.seed() % 1_000_000_000, 0, 0xffff_ffff, "seed"),
    runs: number(values.runs, values.zoo === true ? 2_000 : values.seed === undefined ? 200 : 1, 1, 10_000_000, "runs"),
    voters: values.replicas === undefined ? undefined : number(values.replicas, 0, fewest, most, "replicas"),
    threads: number(values.threads, Math.min(availableParallelism(), MOST_THREADS), 1, MOST_THREADS, "threads"),
    trace: values.trace ?? process.env["TRACE"] === "1",
    zoo: values.zoo ?? false,
    row: values.row,
  };
}

/** inline runs seeds one after the other in this thread. */
async function inline({ engine, seed, runs, voters, trace }: Arguments, each: (summary: Summary) => void): Promise<void> {
  for (let i = 0; i < runs; i++) {
    const result = await simulate(engine, seed + i, voters, trace);
    if (trace) process.stdout.write(`${result.trace.join("\n")}\n\n${result.description}\n`);
    each(summarise(result));
  }
}

/** spread runs seeds on several threads. Which thread runs a seed changes nothing in it. */
async function spread(all: Arguments, each: (summary: Summary) => void): Promise<void> {
  let next = 0;
  const one = (): Promise<void> =>
    new Promise((resolve, reject) => {
      const worker = new Worker(new URL("./worker.ts", import.meta.url), { workerData: { engine: all.engine, voters: all.voters } });
      const more = (): void => {
        if (next < all.runs) worker.postMessage(all.seed + next++);
        else void worker.terminate().then(() => resolve());
      };
      worker.on("message", (summary: Summary) => {
        each(summary);
        more();
      });
      worker.on("error", reject);
      more();
    });
  await Promise.all(Array.from({ length: all.threads }, one));
}

async function main(): Promise<number> {
  const all = readArguments();
  if (all.zoo) return zooTable(all.seed, all.runs, all.row, (line) => process.stdout.write(`${line}\n`));
  const count = all.voters === undefined ? "as many replicas as the seed says" : `${all.voters} replicas`;
  process.stdout.write(`simulating ${all.engine}, seeds ${all.seed} to ${all.seed + all.runs - 1}, ${count}\n`);
  const startedAt = process.hrtime.bigint();
  const failed: Summary[] = [];
  const totals = { steps: 0, delivered: 0, commits: 0, decided: 0, answered: 0, leaders: 0 };
  const counts = new Map<string, number>();
  let hash = "";
  await (all.threads > 1 && all.runs >= SPREAD_FROM && !all.trace ? spread : inline)(all, (summary) => {
    for (const key of Object.keys(totals) as (keyof typeof totals)[]) totals[key] += summary[key];
    for (const [what, times] of summary.counts) counts.set(what, (counts.get(what) ?? 0) + times);
    hash = summary.hash;
    if (summary.violations.length === 0) return;
    failed.push(summary);
    process.stdout.write(explain(summary, subjectOf(all.engine).name, all.voters));
  });
  const seconds = Number(process.hrtime.bigint() - startedAt) / 1e9;
  const rate = `${seconds.toFixed(1)} s, ${(all.runs / seconds).toFixed(1)} runs/s`;
  const { steps, delivered, commits, decided, answered, leaders } = totals;
  const sums = `${steps} steps, ${delivered} frames, ${commits} commits, ${decided} positions, ${answered} answers, ${leaders} leaders`;
  process.stdout.write(
    `${all.runs - failed.length} of ${all.runs} runs kept every promise (${rate}; ${sums}${all.runs === 1 ? `, trace ${hash}` : ""})\n`,
  );
  process.stdout.write(`${eventTable(counts)}\n`);
  return exitCode(failed.flatMap(({ violations }) => violations));
}

/** eventTable shows how often what happened: runs are about something. */
function eventTable(counts: ReadonlyMap<string, number>): string {
  const shown = [...counts].filter(([what]) => what !== "send").sort(([a], [b]) => (a < b ? -1 : 1));
  return shown.map(([what, times]) => `  ${what}: ${times}`).join("\n");
}

process.exitCode = await main();
