// `make soak`: fifteen minutes of load and faults. SECONDS= and SEED= change that; the seed repeats the faults, not the race between them.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "#channel/clock.ts";
import { systemEntropy } from "#channel/entropy.ts";
import { bundle, INSTALLED } from "../../cli/build.ts";
import { floors, growth, soak } from "./soak.ts";

const argument = (name: string): string | undefined => process.argv.find((text) => text.startsWith(`--${name}=`))?.split("=")[1];
const seconds = Number(argument("seconds") ?? 900);
const seed = Number(argument("seed") ?? systemEntropy.seed());
// Keys are remembered for a day, up to 48 MiB and more for one caller. So that this does not hide what else grows, few commands have one.
const KEYED_EVERY = 20;
const folder = mkdtempSync(join(tmpdir(), "foedus-soak-build-"));
const file = join(folder, "foedus.mjs");
// As the installed command does: else each thread of the pool has memory of its own that it does not give back.
const entry = [...INSTALLED.flags, file];
const started = systemClock.mono();
const say = (line: string): void =>
  void process.stdout.write(`${((systemClock.mono() - started) / 1_000).toFixed(0).padStart(5)} s  ${line}\n`);
const mib = (bytes: number): string => `${(bytes / (1 << 20)).toFixed(0)} MiB`;

try {
  await bundle(file);
  say(`seed ${seed}, ${seconds} s`);
  const { wrong, counts, faults, errors, memory } = await soak({ seed, ms: seconds * 1_000, keyedEvery: KEYED_EVERY, entry, say });
  say(`counted: ${JSON.stringify(counts)}`);
  say(`faults: ${[...faults].map(([name, times]) => `${name} ${times}`).join(", ")}`);
  for (const { atMs, rss, heap, external } of memory.filter((_, i) => i % Math.ceil(memory.length / 12) === 0))
    say(`memory of the steady hub after ${(atMs / 1_000).toFixed(0)} s: ${mib(rss)}, heap ${mib(heap)}, outside of it ${mib(external)}`);
  const grown = { rss: growth(memory, "rss"), external: growth(memory, "external") };
  for (const kind of ["rss", "heap", "external"] as const)
    say(`least ${kind} in each quarter: ${floors(memory, kind).map(mib).join(", ")}`);
  say(`second half: resident x ${grown.rss.toFixed(3)}, outside of the heap x ${grown.external.toFixed(3)}`);
  for (const [line, times] of errors) say(`ERROR ${times} x ${line}`);
  for (const line of wrong) say(`WRONG ${line}`);
  const failed = wrong.length > 0 || errors.size > 0 || (seconds >= 600 && (grown.rss > 1.05 || grown.external > 1.05));
  say(failed ? `failed; to repeat the faults: make soak SEED=${seed} SECONDS=${seconds}` : "passed");
  process.exitCode = failed ? 1 : 0;
} finally {
  rmSync(folder, { recursive: true, force: true });
}
