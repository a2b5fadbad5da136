// `make pairs BASE=<commit>`: this checkout against an earlier one, in pairs of runs that take turns, so that a slow moment of the machine
// meets both. Prints, per row, the ratio of now to then with its 95 % interval. Exit code 1 when an interval does not reach 1 or the
// processor time per operation is more than 3 % up; 2 for wrong arguments.
import { execFileSync } from "node:child_process";
import { copyFileSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { ROOT } from "../support/federation.ts";
import type { Ask, Measured } from "./pairs-rig.ts";
import { interval, type Ratio } from "./ratio.ts";
import { type Part, startPart } from "./worker.ts";

const RIG = "test/bench/pairs-rig.ts";
/**
 * Each side starts anew so many times: V8 compiles and collects differently from process to process, by some percent. With four starts
 * the same two builds differed by 6 % in processor time one time, and by nothing the other.
 */
const STARTS = 10;
const WARM_RUNS = 8;

interface Row {
  readonly name: string;
  readonly ask: Ask;
}

const ROWS: readonly Row[] = [
  ...[16, 64, 256].map((inFlight) => ({ name: `commands, ${inFlight} in flight`, ask: { seconds: 1.5, inFlight } })),
  { name: "push of numbers", ask: { kind: "numeric", seconds: 2 } },
  { name: "push of opaque values", ask: { kind: "opaque", seconds: 2 } },
  { name: "10,000 updates/s", ask: { kind: "numeric", seconds: 3, rate: 10_000 } },
];

interface Pair {
  readonly now: Measured;
  readonly base: Measured;
}

/** side starts the hubs of a checkout. */
async function side(checkout: string): Promise<Part<Measured>> {
  return startPart<Measured>(join(checkout, RIG), "rig", null);
}

async function pairsOf(row: Row, base: string, count: number): Promise<Pair[]> {
  const pairs: Pair[] = [];
  for (let start = 0; start < STARTS; start++) {
    const [older, newer] = [await side(base), await side(ROOT)];
    try {
      const short = { ...row.ask, seconds: 1 };
      for (let i = 0; i < WARM_RUNS; i++) for (const one of [older, newer]) await one.go(short);
      for (let i = 0; i < Math.ceil(count / STARTS); i++) {
        // Who goes first changes, so that neither has always the warmer machine.
        const first = i % 2 === 0 ? older : newer;
        const one = await first.go(row.ask);
        const other = await (first === older ? newer : older).go(row.ask);
        pairs.push(first === older ? { base: one, now: other } : { base: other, now: one });
      }
    } finally {
      for (const one of [older, newer]) {
        await one.go("stop").catch(() => undefined);
        await one.stop();
      }
    }
  }
  return pairs;
}

/** checkout makes a folder with an earlier commit, ready to run. */
function checkout(commit: string): { readonly folder: string; remove(): void } {
  const folder = join(mkdtempSync(join(tmpdir(), "foedus-pairs-")), "base");
  const run = (command: string, args: readonly string[], cwd: string): string =>
    execFileSync(command, args, { cwd, encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] });
  run("git", ["worktree", "add", "--quiet", "--detach", folder, commit], ROOT);
  const lock = (at: string): string => readFileSync(join(at, "package-lock.json"), "utf8");
  if (lock(folder) === lock(ROOT)) symlinkSync(join(ROOT, "node_modules"), join(folder, "node_modules"));
  else run("npm", ["ci", "--no-audit", "--no-fund"], folder);
  copyFileSync(join(ROOT, RIG), join(folder, RIG));
  for (const at of [folder, ROOT]) run(process.execPath, [join(at, "cli/build.ts")], at);
  return {
    folder,
    remove: () => {
      run("git", ["worktree", "remove", "--force", folder], ROOT);
      rmSync(join(folder, ".."), { recursive: true, force: true });
    },
  };
}

const show = ({ mean, low, high }: Ratio): string => `${mean.toFixed(3)} [${low.toFixed(3)}, ${high.toFixed(3)}]`;

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: { base: { type: "string" }, pairs: { type: "string", default: "12" }, only: { type: "string" } },
  });
  const rows = ROWS.filter(({ name }) => values.only === undefined || name.includes(values.only));
  const count = Number(values.pairs);
  if (values.base === undefined || rows.length === 0 || !(count >= 4)) {
    console.error(
      `pairs: say --base <commit>; --pairs is at least 4; --only is a part of one of: ${ROWS.map(({ name }) => name).join("; ")}`,
    );
    return 2;
  }
  const { folder, remove } = checkout(values.base);
  let missed = 0;
  try {
    console.log(`| now against ${values.base}, ${count} pairs | rate | processor time per operation | p50 |\n|---|---|---|---|`);
    for (const row of rows) {
      const pairs = await pairsOf(row, folder, count);
      const of = (read: (one: Measured) => number): Ratio => interval(pairs.map(({ now, base }) => read(now) / read(base)));
      const [rate, cpu, p50] = [of((one) => one.perSecond), of((one) => one.cpuUs), of((one) => one.p50Ms)];
      if (rate.high < 1 || cpu.mean > 1.03) missed++;
      console.log(`| ${row.name} | ${show(rate)} | ${show(cpu)} | ${show(p50)} |`);
    }
  } finally {
    remove();
  }
  console.log(missed === 0 ? "\nevery interval reaches 1, and no operation costs over 3 % more" : `\n${missed} rows are slower or dearer`);
  return missed === 0 ? 0 : 1;
}

process.exitCode = await main();
