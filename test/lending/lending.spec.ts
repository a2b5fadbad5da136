import { describe, expect, test } from "vitest";
import { Violation } from "./checker.ts";
import { Drive } from "./drive.ts";
import { MUTANTS } from "./mutants.ts";

const SEEDS = Number(process.env["SEEDS"] ?? 12);
const FIRST = Number(process.env["FIRST"] ?? 1);
const STEPS = 150;

/** found runs a seed and gives the rule that was broken, if any. */
function found(seed: number, mutant = {}): { rule: number; message: string } | undefined {
  const drive = new Drive(seed, mutant);
  try {
    drive.run(STEPS);
    return undefined;
  } catch (error) {
    if (!(error instanceof Violation))
      throw new Error(`seed ${seed}: ${String(error)}\n${drive.world.trace.slice(-40).join("\n")}`, { cause: error });
    return {
      rule: error.rule,
      message: `seed ${seed}: ${error.message}\n${drive.world.trace.slice(-Number(process.env["TRACE"] ?? 40)).join("\n")}`,
    };
  }
}

describe("the twelve rules of lending", () => {
  test("RB1 RB2 RB3 RB4 RB5 RB6 RB7 RB8 RB9 RB10 RB11 RB12 hold after every step, whatever fails", () => {
    for (let seed = FIRST; seed < FIRST + SEEDS; seed++) expect(found(seed)?.message).toBeUndefined();
  });

  test.each(Object.entries(MUTANTS))("rule %s: its checker finds a core that is broken on purpose", (rule, { what, mutant }) => {
    const rules = new Set<number>();
    for (let seed = 1; seed <= 60 && !rules.has(Number(rule)); seed++) {
      const broken = found(seed, mutant);
      if (broken !== undefined) rules.add(broken.rule);
    }
    expect([...rules], what).toContain(Number(rule));
  });
});
