// Two hubs on a hostile network: `make hostile-network`, and in its short form a part of the tests. Needs root, iproute2 and iptables.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { systemClock } from "#channel/clock.ts";
import { withTimeout } from "#runtime/clock.ts";
import { bundle } from "../../cli/build.ts";
import { previous } from "../upgrade/previous.ts";
import { inside, startInside, whyNot } from "./net.ts";
import { SCENARIOS, type Scenario } from "./scenarios.ts";
import { type Entries, Stage } from "./stage.ts";

/** Told is the line per scenario that this program prints as JSON with `--json`. */
export interface Told {
  readonly name: string;
  readonly ok: boolean;
  readonly text: string;
}

const { values } = parseArgs({
  options: {
    short: { type: "boolean", default: false },
    json: { type: "boolean", default: false },
    only: { type: "string", default: "" },
    entry: { type: "string", default: "" },
  },
});

/** Longest time for a scenario, once its hubs stand: what hangs is a failure as well. */
const LONGEST_MS = 180_000;

/** play runs one scenario on a stage of its own. */
async function play(scenario: Scenario, entries: Entries): Promise<Told> {
  const { name } = scenario;
  let stage: Stage | undefined;
  try {
    stage = await Stage.make(scenario, entries, values.short);
    const made = stage;
    return { name, ok: true, text: await withTimeout(systemClock, LONGEST_MS, () => scenario.run(made)) };
  } catch (error) {
    return { name, ok: false, text: error instanceof Error ? error.message : String(error) };
  } finally {
    await stage?.close();
  }
}

/** skipped says why a scenario cannot be played here, as other tests of upgrades do. */
function skipped({ name }: Scenario, reason: string): Told {
  return { name, ok: true, text: `skipped: ${reason}` };
}

async function runAll(): Promise<number> {
  const folder = mkdtempSync(join(tmpdir(), "foedus-hostile-"));
  try {
    // What ships, made once: no edit of a source changes it half-way.
    const entry = values.entry === "" ? [join(folder, "foedus.mjs")] : values.entry.split(" ");
    if (values.entry === "") await bundle(entry[0]!);
    const old = previous();
    let failed = 0;
    for (const scenario of SCENARIOS) {
      if ((values.short && !scenario.short) || !scenario.name.includes(values.only)) continue;
      const reason = scenario.old === undefined ? undefined : old.reason;
      const told = reason === undefined ? await play(scenario, { present: entry, previous: [old.entry ?? ""] }) : skipped(scenario, reason);
      if (!told.ok) failed++;
      process.stdout.write(values.json ? `${JSON.stringify(told)}\n` : `${told.ok ? "ok    " : "FAILED"} ${told.name}: ${told.text}\n`);
    }
    return failed === 0 ? 0 : 1;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function start(): Promise<number> {
  const reason = whyNot();
  if (reason !== undefined) {
    process.stderr.write(`skipped: ${reason}\n`);
    return 0;
  }
  const child = startInside([import.meta.filename, ...process.argv.slice(2)], "inherit");
  return new Promise((resolve) => child.on("close", (code) => resolve(code ?? 1)));
}

if (process.argv[1] === import.meta.filename) process.exitCode = inside() ? await runAll() : await start();
