import { describe, expect, test } from "vitest";
import { hunt, MUTANTS } from "./mutants.ts";
import { EXHAUSTIVE, runScenario, SETS, sample } from "./scenario.ts";
import { both, runBatch, type Tally, tallyOf } from "./worker.ts";

/** Each scheduled partition was in force while honest copies voted, and in this share of the scenarios they got further in it. */
function expectPlayed({ outcomes, runs }: Tally, rounds: number, share: number): void {
  expect(outcomes).toHaveLength(rounds);
  for (const [decided = 0, left = 0, _stuck, unplayed] of outcomes) {
    expect(unplayed).toBeLessThan(runs / 20);
    expect(decided + left).toBeGreaterThan(share * runs);
  }
}

describe("twins", () => {
  test("BF2 BE1 BC3 scenarios of one twin among four, out of all 65,536: agreement, proofs, decisions after it heals, blame on the twin only", () => {
    expect([new Set(SETS.map(String)).size, EXHAUSTIVE]).toEqual([16, 65_536]);
    // A stride that has no factor in common with the number of scenarios visits different ones, spread over all.
    const tally = Array.from({ length: 250 }, (_, k) => tallyOf("exhaustive", (k * 40_503) % EXHAUSTIVE)).reduce(both);
    expect(tally.broken).toEqual([]);
    expect(tally.accused).toBeGreaterThan(200);
    expectPlayed(tally, 4, 0.7);
    // Heights go on into later rounds, in some scenarios through all four.
    expect(tally.reached.slice(1).reduce((a, b) => a + b)).toBeGreaterThan(200);
    expect(tally.reached.slice(3).reduce((a, b) => a + b, 0)).toBeGreaterThan(10);
  });

  test.each(["free", "seven", "lossy", "restarts", "corrupt", "forged", "shameless"] as const)(
    "BF1 BF2 BE1 BC1 samples with %s",
    (kind) => {
      const tally = runBatch({ kind, from: 1, to: kind === "seven" ? 25 : 60 });
      expect(tally.broken).toEqual([]);
      expect(tally.accused).toBeGreaterThan(5);
      if (kind !== "lossy" && kind !== "restarts") expectPlayed(tally, 6, 0.35);
    },
  );

  test("BF5 with f hubs silent, what made others leave a round reaches who missed it, and decisions follow", () => {
    expect(runBatch({ kind: "silent", from: 1, to: 60 }).broken).toEqual([]);
  });

  test("BE2 f + 1 twins break agreement, and are named, they alone", () => {
    const tally = runBatch({ kind: "hopeless", from: 1, to: 30 });
    expect(tally.broken).toEqual([]);
    expect(tally.forked).toBeGreaterThan(15);
    expect(tally.accused).toBeGreaterThanOrEqual(tally.forked);
  });

  test.each(MUTANTS.map((mutant) => [mutant.name, mutant] as const))("a log with a fault is found: %s", (_name, mutant) => {
    expect(hunt(mutant, 400)).toBeDefined();
  });

  test("a fault that is taken out is gone", () => {
    expect(runScenario(sample("lossy", 1)).problems).toEqual([]);
  });
});
