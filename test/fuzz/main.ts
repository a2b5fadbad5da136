// Gives hubs generated messages: `make fuzz MESSAGES= SEED= ONLY=`. Exit code: 0 all were refused with a reason or applied, 1 one was
// neither, 2 memory grew.
import { parseArgs } from "node:util";
import { systemEntropy } from "#channel/entropy.ts";
import { runCampaign, WORLD } from "./campaign.ts";
import { createTargets } from "./targets.ts";

/** Memory is measured first when everything is warm, and again at the end; it is told each so many messages. */
const WARM = 100_000;
const TOLD = 100_000;
const GROWTH_MAX = 0.1;

const text = { type: "string" } as const;
const { values } = parseArgs({ options: { seed: text, messages: text, only: text } });
const seed = Number(values.seed ?? systemEntropy.seed() % 1_000_000_000);
const messages = Number(values.messages ?? 1_000_000);
const targets = createTargets().filter(({ name }) => name.startsWith(values.only ?? ""));
process.stdout.write(`seed ${seed}, ${messages} messages\n`);

/** residentMb tells the memory that is left when all garbage is gone: what the heap holds, and what the process has of the machine. */
function residentMb(done: number): number {
  globalThis.gc?.();
  const { rss, heapUsed } = process.memoryUsage();
  process.stdout.write(`${done} messages: ${(rss / 2 ** 20).toFixed(0)} MiB, of which the heap holds ${(heapUsed / 2 ** 20).toFixed(1)}\n`);
  return rss / 2 ** 20;
}

let warm: number | undefined;
let next = WARM;
const started = process.hrtime.bigint();
const faults = await runCampaign({
  seed,
  messages,
  targets,
  faults: 10,
  each: (done) => {
    if (done < next) return;
    next += TOLD;
    const now = residentMb(done);
    warm ??= now;
  },
});
const seconds = Number(process.hrtime.bigint() - started) / 1e9;
const end = residentMb(messages);
for (const { target, at, error } of faults) {
  process.stdout.write(
    `FAULT in ${target}; SEED=${seed + at} MESSAGES=${WORLD} ONLY="${target}" gives it again: ${error instanceof Error ? error.stack : String(error)}\n`,
  );
}
for (const { name, applied, refused } of targets)
  process.stdout.write(`${name}: ${applied} applied, refused ${JSON.stringify(Object.fromEntries(refused))}\n`);
process.stdout.write(
  `${messages} messages in ${seconds.toFixed(0)} s, ${(messages / seconds).toFixed(0)}/s, ${end.toFixed(0)} MiB at the end\n`,
);
const grew = warm !== undefined && end > warm * (1 + GROWTH_MAX);
if (grew) process.stdout.write(`memory grew by more than ${GROWTH_MAX * 100} %\n`);
process.exitCode = faults.length > 0 ? 1 : grew ? 2 : 0;
