// Twins: two copies of a hub with one key, `make twins` (SAMPLES= THREADS= ONLY=exhaustive,free,...). All 65,536 scenarios of four hubs with
// one twin in four rounds, samples of the other kinds, and the mutants. Exit code: 0 all is well, 1 a promise was broken or a mutant lives.
import { availableParallelism } from "node:os";
import { parseArgs } from "node:util";
import { Worker } from "node:worker_threads";
import { hunt, MUTANTS } from "./mutants.ts";
import { EXHAUSTIVE, SAMPLE_KINDS } from "./scenario.ts";
import { OUTCOMES } from "./schedule.ts";
import { type Batch, both, noTally, type Tally } from "./worker.ts";

/** Scenarios that a thread is given at a time. */
const AT_A_TIME = 128;
/** Seeds within which a mutant must be found. */
const HUNT_MAX = 2_000;
/** Broken scenarios that are printed. */
const SHOWN = 10;

type Kind = Batch["kind"];

function number(text: string | undefined, fallback: number): number {
  const value = Number(text ?? fallback);
  if (!Number.isInteger(value) || value < 1) throw new Error(`${text} is no number of at least 1`);
  return value;
}

/** Runs scenarios [from, to) of a kind on all threads, and adds up what became of them. */
async function runAll(kind: Kind, from: number, to: number, threads: number): Promise<Tally> {
  let total = noTally();
  let next = from;
  const one = (): Promise<void> =>
    new Promise((resolve, reject) => {
      const worker = new Worker(new URL("./worker.ts", import.meta.url));
      const more = (): void => {
        if (next >= to) return void worker.terminate().then(() => resolve());
        const batch: Batch = { kind, from: next, to: Math.min(to, next + AT_A_TIME) };
        next = batch.to;
        worker.postMessage(batch);
      };
      worker.on("message", (tally: Tally) => {
        total = both(total, tally);
        more();
      });
      worker.on("error", reject);
      more();
    });
  await Promise.all(Array.from({ length: threads }, one));
  return total;
}

/** How far heights came before the network healed, and what became of each scheduled partition while it was in force. */
function histograms({ reached, outcomes }: Tally): string {
  const lines = [`  scenarios by highest round: ${reached.map((count, round) => `${round}: ${count}`).join("  ")}`];
  for (const [i, counts] of outcomes.entries())
    lines.push(`  scheduled round ${i}: ${OUTCOMES.map((outcome, j) => `${outcome} ${counts[j]}`).join("  ")}`);
  return `${lines.join("\n")}\n`;
}

async function main(): Promise<number> {
  const text = { type: "string" } as const;
  const { values } = parseArgs({ options: { samples: text, threads: text, only: text } });
  const samples = number(values.samples, 2_000);
  const threads = number(values.threads, availableParallelism());
  const only = (values.only ?? "").split(",").filter((word) => word !== "");
  const known: readonly string[] = ["exhaustive", ...SAMPLE_KINDS, "mutants"];
  const unknown = only.filter((word) => !known.includes(word));
  if (unknown.length > 0) throw new Error(`unknown kinds ${unknown.join(", ")}; there are ${known.join(", ")}`);
  const wanted = (kind: string): boolean => only.length === 0 || only.includes(kind);
  let broken = 0;
  for (const kind of ["exhaustive", ...SAMPLE_KINDS] as const) {
    if (!wanted(kind)) continue;
    const startedAt = process.hrtime.bigint();
    const tally = await runAll(kind, kind === "exhaustive" ? 0 : 1, kind === "exhaustive" ? EXHAUSTIVE : samples + 1, threads);
    const seconds = Number(process.hrtime.bigint() - startedAt) / 1e9;
    broken += tally.broken.length;
    process.stdout.write(
      `${kind.padEnd(11)} ${tally.runs} scenarios in ${seconds.toFixed(0)} s, ${tally.decided} heights decided, a twin named in ${tally.accused}, ` +
        `forked ${tally.forked}, broken promises ${tally.broken.length}\n${histograms(tally)}`,
    );
    for (const line of tally.broken.slice(0, SHOWN)) process.stdout.write(`  ${line}\n`);
  }
  if (!wanted("mutants")) return broken > 0 ? 1 : 0;
  process.stdout.write("mutant                             seeds until found\n");
  for (const mutant of MUTANTS) {
    const found = hunt(mutant, HUNT_MAX);
    if (found === undefined) broken++;
    const what = found === undefined ? `not in ${HUNT_MAX}: Twins are blind` : `${found.seed} (${found.problem.kind})`;
    process.stdout.write(`${mutant.name.padEnd(34)} ${what}\n`);
  }
  return broken > 0 ? 1 : 0;
}

process.exitCode = await main();
