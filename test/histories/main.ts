// `make histories`: hubs as real processes under faults, and an outside checker that judges what their clients saw. Exit code 1 when a history
// is not linearizable or hubs do not recover, 2 for wrong arguments.
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { bundle } from "../../cli/build.ts";
import { inside, startInside, whyNot } from "../hostile-network/net.ts";
import { ROOT } from "../support/federation.ts";
import { PORCUPINE } from "../support/porcupine.ts";
import { FAULTS, type Fault } from "./nemesis.ts";
import { type RunReport, runHistory } from "./run.ts";

const { values } = parseArgs({
  options: {
    runs: { type: "string", default: "20" },
    seconds: { type: "string", default: "60" },
    hubs: { type: "string", default: "3" },
    clients: { type: "string", default: "6" },
    seed: { type: "string", default: "1" },
    faults: { type: "string", default: FAULTS.join(",") },
    /** Hubs that answer linearizable reads with what they have: the checker has to refuse what comes of it. */
    broken: { type: "boolean", default: false },
  },
});

interface Plan {
  readonly runs: number;
  readonly seconds: number;
  readonly hubs: 3 | 5;
  readonly clients: number;
  readonly seed: number;
  readonly faults: readonly Fault[];
}

function whole(name: "runs" | "seconds" | "clients" | "seed", min: number, max: number): number {
  const number = Number(values[name]);
  if (Number.isInteger(number) && number >= min && number <= max) return number;
  throw new RangeError(`--${name} is a whole number from ${min} to ${max}`);
}

function plan(): Plan {
  if (values.hubs !== "3" && values.hubs !== "5") throw new RangeError("--hubs is 3 or 5");
  const faults = values.faults.split(",") as Fault[];
  const unknown = faults.filter((fault) => !FAULTS.includes(fault));
  if (unknown.length > 0) throw new RangeError(`there is no fault ${unknown.join(", ")}; there are ${FAULTS.join(", ")}`);
  return {
    runs: whole("runs", 1, 10_000),
    seconds: whole("seconds", 1, 3_600),
    hubs: values.hubs === "3" ? 3 : 5,
    clients: whole("clients", 1, 8),
    seed: whole("seed", 0, 2 ** 31),
    faults,
  };
}

function line({ verdict, tally, recoveryMs, deeds }: RunReport): string {
  const { operations, unknown_outcomes, ms } = verdict;
  const why = [...tally.why].map(([reason, count]) => `${reason} ${count}`).join(", ");
  const said = `${operations} operations of ${verdict.keys} keys, ${unknown_outcomes} with an unknown outcome (${why}), judged in ${ms} ms`;
  const also = `${tally.refused} refused, ${tally.lostReads} reads failed`;
  const faults = deeds.filter(({ deed }) => !/^(started|went on|healed|.* is back)/.test(deed)).length;
  return `${verdict.verdict}: ${said}; ${also}; ${faults} faults; all answered ${recoveryMs} ms after the last; load ${loadavg()[0]!.toFixed(1)}`;
}

async function one(seed: number, { seconds, hubs, clients, faults }: Plan, entry: readonly string[], root: string): Promise<boolean> {
  const dir = join(root, `seed-${seed}`);
  mkdirSync(dir, { recursive: true });
  const head = `seed ${seed}, ${hubs} hubs, ${seconds} s`;
  try {
    const report = await runHistory({ seed, hubs, clients, seconds, faults, entry, dir, parted: inside() });
    const good = report.verdict.verdict === "linearizable";
    process.stdout.write(`${head}: ${line(report)}${good ? "" : `; kept: ${dir}`}\n`);
    if (good) rmSync(dir, { recursive: true, force: true });
    return good;
  } catch (error) {
    process.stdout.write(`${head}: failed: ${error instanceof Error ? error.message : String(error)}; kept: ${dir}\n`);
    return false;
  }
}

async function all(chosen: Plan): Promise<number> {
  const root = mkdtempSync(join(tmpdir(), "foedus-histories-"));
  // What ships, made once; what is broken on purpose is not in it.
  const entry = values.broken
    ? ["--import", join(ROOT, "test/histories/broken-reads.ts"), join(ROOT, "cli/main.ts")]
    : [join(root, "foedus.mjs")];
  if (!values.broken) await bundle(entry[0]!);
  let good = 0;
  for (let run = 0; run < chosen.runs; run++) if (await one(chosen.seed + run, chosen, entry, root)) good++;
  process.stdout.write(`${good} of ${chosen.runs} runs are linearizable\n`);
  if (good === chosen.runs) rmSync(root, { recursive: true, force: true });
  return good === chosen.runs ? 0 : 1;
}

async function main(): Promise<number> {
  let chosen: Plan;
  try {
    chosen = plan();
  } catch (error) {
    process.stderr.write(`histories: ${error instanceof Error ? error.message : String(error)}\n`);
    return 2;
  }
  if (PORCUPINE.reason !== undefined) {
    process.stderr.write(`histories: ${PORCUPINE.reason}\n`);
    return 2;
  }
  if (inside() || !chosen.faults.includes("part")) return all(chosen);
  const why = whyNot();
  if (why === undefined) {
    const child = startInside([import.meta.filename, ...process.argv.slice(2)], "inherit");
    return new Promise((resolve) => child.on("close", (status) => resolve(status ?? 1)));
  }
  process.stderr.write(`histories: without partitions, because ${why}\n`);
  return all({ ...chosen, faults: chosen.faults.filter((fault) => fault !== "part") });
}

process.exitCode = await main();
