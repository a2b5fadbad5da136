import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { Registry } from "prom-client";
import { afterEach, beforeEach, expect, test } from "vitest";
import { systemClock } from "#channel/clock.ts";
import { systemEntropy } from "#channel/entropy.ts";
import { printable } from "#kernel/printable.ts";
import { Prng } from "#kernel/prng.ts";
import { memoryLogger } from "../../../test/fakes/memory-logger.ts";
import { until } from "../../../test/support/until.ts";
import { Adapters } from "./adapters.ts";
import { Restarts } from "./restarts.ts";
import { lines, said } from "./said.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "foedus-adapters-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** Characters that terminals, readers of JSON and people take for more than they are. */
const HOSTILE = ["a", "{", '"', "\\", ":", "\u0000", "\u001b", "\u202e", "\ud800", "é", "💡"];

/** PROGRAM stands for `foedus`: it notes what it is given, says how it fares, and ends when its stdin does, or at once if it is told to. */
const PROGRAM = `
import { appendFileSync } from "node:fs";
let text = "";
process.stdin.on("data", (part) => {
  text += part;
  if (!text.includes("\\n")) return;
  const { config, folder } = JSON.parse(text);
  text = "";
  appendFileSync(folder + "/runs", process.argv.slice(2).join(" ") + " " + JSON.stringify(config) + "\\n");
  process.stdout.write(JSON.stringify({ status: { hub: true, other: true, nodes: 3, counts: { received: 5 }, problem: "" } }) + "\\n");
  process.stdout.write("no JSON \\u001b[31m at all\\n" + JSON.stringify({ level: "warn", message: "not taken", about: "x" }) + "\\n");
  if (config.breaks) { process.stderr.write("it broke\\n"); process.exit(7); }
});
process.stdin.on("end", () => { appendFileSync(process.argv[1] + ".ended", "x"); process.exit(0); });
`;

function hub(config: { enabled: boolean; breaks?: boolean }) {
  const program = join(folder, "program.mjs");
  writeFileSync(program, PROGRAM);
  const log = memoryLogger();
  const metrics = new Registry();
  const adapters = new Adapters({
    clock: systemClock,
    entropy: systemEntropy,
    log,
    events: { report: () => undefined },
    metrics,
    command: [process.execPath, program],
    given: () => JSON.stringify({ folder, config }),
    settings: () => config,
  });
  const runs = (): string[] => {
    try {
      return readFileSync(join(folder, "runs"), "utf8").trim().split("\n");
    } catch {
      return [];
    }
  };
  return { adapters, config, logged: log.lines, metrics, runs };
}

test("AD1 AD3 an adapter is started with its configuration, shows how it fares, is stopped when it is switched off, and never keeps the hub from being ready", async () => {
  const { adapters, config, metrics, runs } = hub({ enabled: false });
  await adapters.start();
  expect(adapters.describe()).toBe("mqtt off ends=0");
  config.enabled = true;
  adapters.look();
  await until("its status", () => adapters.describe().includes("hub=up other=up nodes=3"));
  expect(runs()).toEqual(['adapter mqtt --supervised {"enabled":true}']);
  expect(await metrics.metrics()).toMatch(
    /foedus_adapter_up\{adapter="mqtt"\} 1[\s\S]*foedus_adapter_messages_total\{adapter="mqtt",what="received"\} 5/,
  );
  expect(adapters.readiness()).toEqual({ ready: true });
  config.enabled = false;
  adapters.look();
  await until("its end", () => adapters.describe() === "mqtt off ends=0");
  config.enabled = true;
  adapters.look();
  await until("its second run", () => runs().length === 2);
  await until("its status again", () => adapters.describe().includes("nodes=3"));
  // What it counted before is not forgotten.
  expect(await metrics.metrics()).toContain('what="received"} 10');
  await adapters.stop(1_000);
  expect(adapters.readiness()).toEqual({ ready: true });
});

test("AD2 one that breaks is started again after a while, and its last words are told", async () => {
  const { adapters, logged, metrics, runs } = hub({ enabled: true, breaks: true });
  await adapters.start();
  await until("its second run", () => runs().length >= 2);
  expect(await metrics.metrics()).toMatch(/foedus_adapter_ends_total\{adapter="mqtt"\} [12]/);
  await adapters.stop(1_000);
  expect(JSON.stringify(logged)).toContain("it ended with 7: it broke");
});

test("waits grow while it breaks, and begin anew after it was sound", () => {
  const restarts = new Restarts(new Prng(1));
  const waits = [0, 1, 2, 3, 4, 5, 6, 7, 8].map(() => {
    restarts.started(0);
    return restarts.ended(10);
  });
  expect(waits[0]).toBeLessThanOrEqual(1_000);
  expect(waits.at(-1)).toBeGreaterThanOrEqual(45_000);
  restarts.started(0);
  expect(restarts.ended(60_000)).toBeLessThanOrEqual(1_000);
});

test("whatever an adapter writes, it is a line or a status (property)", () => {
  fc.assert(
    fc.property(fc.oneof(fc.string({ unit: fc.constantFrom(...HOSTILE) }), fc.json()), (text) => {
      const read = said(text);
      expect(["log", "status"]).toContain(read.kind);
      if (read.kind === "log") expect(read.message).toBe(printable(read.message));
    }),
  );
  const all: string[] = [];
  const take = lines((line) => void all.push(line));
  for (const part of ["a", "b\nc", "\n\n", "x".repeat(40_000), "\nend\n"]) take(part);
  expect(all.map((line) => line.length)).toEqual([2, 1, 16_384, 3]);
  expect(said('{"status":{"nodes":-1,"counts":{"a":"x","b":2},"problem":5}}')).toMatchObject({
    status: { nodes: 0, counts: { a: 0, b: 2 }, problem: "" },
  });
});
