import { describe, expect, test } from "vitest";
import { FAULTS } from "./options.ts";
import { explain, summarise } from "./report.ts";
import { optionsFor, simulate } from "./subjects.ts";

/** broke runs seeds of an engine and answers what they broke, with the commands that repeat them. */
async function broke(engine: "raft" | "bft", from: number, count: number, counts = new Map<string, number>()): Promise<string> {
  let text = "";
  for (let seed = from; seed < from + count; seed++) {
    const result = await simulate(engine, seed);
    for (const [what, times] of result.counts) counts.set(what, (counts.get(what) ?? 0) + times);
    for (const fault of optionsFor(engine, seed).faults) counts.set(`with ${fault}`, (counts.get(`with ${fault}`) ?? 0) + 1);
    if (result.violations.length > 0) text += explain(summarise(result), engine, undefined);
  }
  return text;
}

/** Faults that are noted when they strike; the others are properties of a whole run. */
const STRUCK = [
  "crash",
  "power",
  "sync",
  "full",
  "pause",
  "suspend",
  "clock",
  "wipe",
  "restore",
  "hints",
  "partition",
  "oneway",
  "partial",
];

describe("replicas in trouble keep one log", () => {
  test("Raft: twenty-eight seeds that were run before", { timeout: 240_000 }, async () => {
    const counts = new Map<string, number>();
    expect(await broke("raft", 1, 28, counts)).toBe("");
    const events = [
      ...FAULTS.map((fault) => `with ${fault}`),
      ...STRUCK.map((fault) => `fault ${fault}`),
      "ask change",
      "change done",
      "ask transfer",
      "install",
      "role leader",
      "role learner",
      "role outside",
      "wiped",
      "restored",
      "observe quorum_lost",
      "observe snapshot_installed",
      "observe frame_of_replaced",
      "shape chained",
    ];
    // The runs are about something.
    expect(events.filter((event) => (counts.get(event) ?? 0) === 0)).toEqual([]);
  });

  test("BFT: four seeds that were run before", { timeout: 240_000 }, async () => {
    const counts = new Map<string, number>();
    expect(await broke("bft", 50, 4, counts)).toBe("");
    expect(["install", "observe decided", "fault crash"].filter((event) => (counts.get(event) ?? 0) === 0)).toEqual([]);
  });

  test("the same seed is the same run", { timeout: 60_000 }, async () => {
    const [first, second, other] = [await simulate("raft", 5), await simulate("raft", 5), await simulate("raft", 6)];
    expect(second.hash).toBe(first.hash);
    expect(other.hash).not.toBe(first.hash);
  });
});
