import { describe, expect, test } from "vitest";
import { hunt, MUTANTS } from "./mutants.ts";
import { EXHAUSTIVE, exhaustive, runScenario, SETS, sample } from "./scenario.ts";
import { runBatch } from "./worker.ts";

describe("twins", () => {
  test("BF2 BE1 BC3 scenarios of one twin among four, out of all 65,536: agreement, proofs, decisions after it heals, blame on the twin only", () => {
    expect([new Set(SETS.map(String)).size, EXHAUSTIVE]).toEqual([16, 65_536]);
    // A stride that has no factor in common with the number of scenarios visits different ones, spread over all.
    const results = Array.from({ length: 250 }, (_, k) => runScenario(exhaustive((k * 40_503) % EXHAUSTIVE)));
    expect(results.flatMap(({ problems }) => problems)).toEqual([]);
    expect(results.filter(({ accused }) => accused > 0).length).toBeGreaterThan(50);
  });

  test.each(["free", "seven", "lossy", "restarts", "corrupt", "forged"] as const)("BF1 BF2 BE1 BC1 samples with %s", (kind) => {
    const tally = runBatch({ kind, from: 1, to: kind === "seven" ? 25 : 60 });
    expect(tally.broken).toEqual([]);
    expect(tally.accused).toBeGreaterThan(5);
  });

  test("BE2 f + 1 twins break agreement, and are named, they alone", () => {
    const tally = runBatch({ kind: "hopeless", from: 1, to: 60 });
    expect(tally.broken).toEqual([]);
    expect(tally.forked).toBeGreaterThan(30);
    expect(tally.accused).toBeGreaterThanOrEqual(tally.forked);
  });

  test.each(MUTANTS.map((mutant) => [mutant.name, mutant] as const))("a log with a fault is found: %s", (_name, mutant) => {
    expect(hunt(mutant, 400)).toBeDefined();
  });

  test("a fault that is taken out is gone", () => {
    expect(runScenario(sample("lossy", 1)).problems).toEqual([]);
  });
});
