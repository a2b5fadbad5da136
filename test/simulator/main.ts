// Runs seeds of the simulator: `make simulate SEED= RUNS= HUBS= THREADS=`, TRACE=1 for a transcript. Exit code: 0 all is well,
// 1 a promise was broken, 2 something did not happen in time, 3 a core failed or threw.
import { availableParallelism } from "node:os";
import { parseArgs } from "node:util";
import { Worker } from "node:worker_threads";
import { systemEntropy } from "#channel/entropy.ts";
import { drawOptions, FAULTS, type FaultChoice, faultsOf } from "./options.ts";
import { explain, overlapTable, type Summary, summarise } from "./report.ts";
import { runSeed } from "./run.ts";

const EXIT = { correctness: 1, liveness: 2, crash: 3 } as const;
/** Fewer runs than this are not worth a second thread. */
const SPREAD_FROM = 20;
const MOST_THREADS = 16;

interface Arguments {
  readonly seed: number;
  readonly runs: number;
  readonly hubs: number;
  readonly threads: number;
  readonly faults: FaultChoice;
  readonly trace: boolean;
}

function number(text: string | undefined, fallback: number, min: number, max: number, name: string): number {
  if (text === undefined) return fallback;
  const value = Number(text);
  if (!Number.isInteger(value) || value < min || value > max) throw new Error(`--${name} is a whole number from ${min} to ${max}`);
  return value;
}

function readFaults(text: string): FaultChoice {
  if (text === "few") return text;
  const words = text.split(",").filter((word) => word !== "" && word !== "none");
  const unknown = words.filter((word) => !FAULTS.some((fault) => fault === word));
  if (unknown.length > 0) throw new Error(`unknown faults ${unknown.join(", ")}; there are ${FAULTS.join(", ")}, few and none`);
  return FAULTS.filter((fault) => words.includes(fault));
}

function readArguments(): Arguments {
  const text = { type: "string" } as const;
  const options = { seed: text, runs: text, hubs: text, threads: text, faults: text, trace: { type: "boolean" } } as const;
  const { values } = parseArgs({ options });
  const faults = values.faults === undefined ? FAULTS : readFaults(values.faults);
  const seed = number(values.seed, systemEntropy.seed() % 1_000_000_000, 0, 0xffff_ffff, "seed");
  const runs = number(values.runs, values.seed === undefined ? 200 : 1, 1, 10_000_000, "runs");
  const hubs = number(values.hubs, 5, 2, 16, "hubs");
  const threads = number(values.threads, Math.min(availableParallelism(), MOST_THREADS), 1, MOST_THREADS, "threads");
  return { seed, runs, hubs, threads, faults, trace: values.trace ?? process.env["TRACE"] === "1" };
}

function listed(faults: FaultChoice): string {
  return faults === "few" ? "two to four kinds, by seed" : faults.join(" ") || "none";
}

/** inline runs seeds one after the other in this thread. */
async function inline({ seed, runs, hubs, faults, trace }: Arguments, each: (summary: Summary) => void): Promise<void> {
  for (let i = 0; i < runs; i++) {
    const result = await runSeed(drawOptions(seed + i, hubs, new Set(faultsOf(seed + i, faults))), { trace });
    if (trace) process.stdout.write(`${result.trace.join("\n")}\n\n${result.description}\n`);
    each(summarise(result));
  }
}

/** spread runs seeds on several threads. Which thread runs a seed changes nothing in it. */
async function spread(all: Arguments, each: (summary: Summary) => void): Promise<void> {
  let next = 0;
  const one = (): Promise<void> =>
    new Promise((resolve, reject) => {
      const worker = new Worker(new URL("./worker.ts", import.meta.url), { workerData: { hubs: all.hubs, faults: all.faults } });
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
  process.stdout.write(`simulating seeds ${all.seed} to ${all.seed + all.runs - 1}, ${all.hubs} hubs, faults: ${listed(all.faults)}\n`);
  const startedAt = process.hrtime.bigint();
  const failed: Summary[] = [];
  const totals = { steps: 0, commands: 0, writes: 0, commits: 0 };
  const overlaps: number[] = [];
  let hash = "";
  await (all.threads > 1 && all.runs >= SPREAD_FROM && !all.trace ? spread : inline)(all, (summary) => {
    for (const key of ["steps", "commands", "writes", "commits"] as const) totals[key] += summary[key];
    for (const [i, count] of summary.overlaps.entries()) overlaps[i] = (overlaps[i] ?? 0) + count;
    hash = summary.hash;
    if (summary.violations.length === 0) return;
    failed.push(summary);
    process.stdout.write(explain(summary, all.hubs, faultsOf(summary.seed, all.faults)));
  });
  const seconds = Number(process.hrtime.bigint() - startedAt) / 1e9;
  const { steps, commands, writes, commits } = totals;
  const rate = `${seconds.toFixed(1)} s, ${(all.runs / seconds).toFixed(1)} runs/s`;
  const traced = all.runs === 1 ? `, trace ${hash}` : "";
  process.stdout.write(
    `${all.runs - failed.length} of ${all.runs} runs kept every promise (${rate}; ${steps} steps, ${writes} writes, ${commands} commands, ${commits} commits${traced})\n`,
  );
  process.stdout.write(`${overlapTable(overlaps)}\n`);
  const kinds = new Set(failed.flatMap(({ violations }) => violations.map(({ kind }) => kind)));
  if (kinds.has("crash")) return EXIT.crash;
  if (kinds.has("correctness")) return EXIT.correctness;
  return kinds.has("liveness") ? EXIT.liveness : 0;
}

process.exitCode = await main();
