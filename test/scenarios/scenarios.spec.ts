// The scenarios of `make scenarios`, short: what holds whatever the machine does. Times are printed there, and not judged here.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { bundle } from "../../cli/build.ts";
import { ROOT } from "../support/federation.ts";
import { run } from "../support/grpcurl.ts";
import { BYZANTINE } from "./byzantine.ts";
import { HAPPY } from "./happy.ts";
import { LOAD } from "./load.ts";
import { NUMBERS } from "./numbers.ts";
import { PARTITION } from "./partition.ts";
import { below, brokenIn, HEAD, type How, holds, type Scenario, said, show } from "./promises.ts";
import { RECOVERY } from "./recovery.ts";
import { SCENARIOS } from "./scenarios.ts";

const DIR = mkdtempSync(join(tmpdir(), "foedus-scenarios-"));
const PROGRAM = join(DIR, "foedus.mjs");
const SHORT = { scale: "short", entry: [PROGRAM], env: {} } as const;

// Bundled once, hubs start with a third of the work.
beforeAll(async () => void (await bundle(PROGRAM)));
afterAll(() => rmSync(DIR, { recursive: true, force: true }));

/** broken plays a scenario, and gives the promises that were missed. */
async function broken(scenario: Scenario, ...ways: readonly How[]): Promise<string[]> {
  const missed: string[] = [];
  for (const how of ways) {
    const lines = await scenario.ways[how]!(SHORT);
    expect(lines.filter(({ held }) => held !== undefined).length).toBeGreaterThan(0);
    missed.push(...brokenIn(lines, "short").map((line) => show(how, line)));
  }
  return missed;
}

test("S1-31 three swarms exchange resources", async () => {
  expect(await broken(HAPPY, "simulated", "processes")).toEqual([]);
}, 240_000);

test("S1-32 one is cut off, then each: who has a majority decides, who has none says so, and afterwards all have the same", async () => {
  expect(await broken(PARTITION, "simulated")).toEqual([]);
}, 240_000);

test("S1-33 one of four lies: the others decide, believe nothing of it, prove what can be proved, and trust it no more", async () => {
  expect(await broken(BYZANTINE, "simulated", "processes")).toEqual([]);
}, 240_000);

test("S1-34 S1-38 S1-40 S1-41 under more requests than there is room for none is lost, and each swarm has its fair share", async () => {
  expect(await broken(LOAD, "simulated", "processes")).toEqual([]);
}, 240_000);

test("S1-36 S1-37 S1-39 what is measured by numbers gets across whole: messages, a registry, an agent", async () => {
  expect(await broken(NUMBERS, "processes")).toEqual([]);
}, 240_000);

test("S1-35 all die at once and come back with what was decided, lent and counted", async () => {
  expect(await broken(RECOVERY, "simulated", "processes")).toEqual([]);
}, 240_000);

test.each([
  ["--how", "real", "HOW=real is no way to play them; say HOW=simulated or HOW=processes, or leave it out for both"],
  ["--only", "T9", "there is no scenario T9; say ONLY= with some of T1,T2,T3,T4,T5,numbers"],
])("what is mistyped is answered in the words of `make scenarios`: %s %s", async (option, value, says) => {
  expect(await run(process.execPath, [join(ROOT, "test/scenarios/main.ts"), option, value])).toMatchObject({
    code: 2,
    stderr: `scenarios: ${says}\n`,
  });
});

test("each scenario has a name of its own, and shows a requirement", () => {
  expect(new Set(SCENARIOS.map(({ id }) => id)).size).toBe(SCENARIOS.length);
  for (const { shows } of SCENARIOS) expect(shows).toMatch(/^S1-\d+(?:, S1-\d+)*$/);
});

test("a line says what was promised, what was measured, and whether it is so; in the suite time is not judged, save that there is one", () => {
  const numbers = [below("e", 1, "ms", 2), below("f", 1, "ms", Number.NaN), below("i", 1, "ms", Math.max())];
  const lines = [holds("a", true, "b"), holds("c", false, "d"), ...numbers, said("g", "h")];
  const cells = [HEAD, ...lines.map((line) => show("simulated", line))].map((text) => text.split("|").map((cell) => cell.trim()));
  expect(cells).toEqual([
    ["played", "promised", "measured", "ok"],
    ["simulated", "a", "b", "yes"],
    ["simulated", "c", "d", "MISSED"],
    ["simulated", "e < 1 ms", "2.0 ms", "MISSED"],
    ["simulated", "f < 1 ms", "NaN ms", "MISSED"],
    ["simulated", "i < 1 ms", "-Infinity ms", "MISSED"],
    ["simulated", "g", "h", "-"],
  ]);
  expect(brokenIn(lines, "whole").map(({ promised }) => promised)).toEqual(["c", "e < 1 ms", "f < 1 ms", "i < 1 ms"]);
  expect(brokenIn(lines, "short").map(({ promised }) => promised)).toEqual(["c", "f < 1 ms", "i < 1 ms"]);
});
