import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { ZOO } from "./index.ts";
import { runMutant } from "./mutant.ts";
import { find } from "./table.ts";

/** Seeds that are tried from the recorded one on. */
const MORE = 60;

describe("the zoo of COORDINATION.md: what is wrong on purpose is found", () => {
  test.each(ZOO.map((mutant) => [mutant.row, mutant.what, mutant] as const))(
    "row %s: %s",
    { timeout: 60_000 },
    async (_row, _what, mutant) => {
      // A change of an engine deals the cards anew: then another seed finds it, and is to be recorded.
      const found = await find(mutant, mutant.seed, MORE);
      expect(found).toBeDefined();
    },
  );

  test.each(ZOO.map((mutant) => [mutant.row, mutant] as const))(
    "row %s: nothing is found in the same run without it",
    { timeout: 60_000 },
    async (_row, mutant) => {
      expect((await runMutant(mutant, mutant.seed, true)).violations).toEqual([]);
    },
  );

  test("every row of the Raft list is there", () => {
    const rows = new Set(ZOO.map(({ row }) => Number.parseInt(row, 10)));
    expect(Array.from({ length: 29 }, (_, i) => i + 1).filter((row) => !rows.has(row))).toEqual([]);
  });

  test("README.md shows what is recorded", () => {
    const page = readFileSync(join(import.meta.dirname, "../README.md"), "utf8");
    const shown = [...page.matchAll(/^\| (\d+[a-z]?) +\| (.+?) +\| (\d+) +\| (.+?) +\|$/gm)].map(([, ...cells]) => cells);
    expect(shown).toEqual(ZOO.map(({ row, what, seed, by }) => [row, what, `${seed}`, by]));
  });
});
