import { ZOO } from "./index.ts";
import { type Mutant, runMutant } from "./mutant.ts";

/** Found is what became of a mutant. */
interface Found {
  readonly seeds: number;
  readonly seed: number;
  readonly by: string;
  readonly text: string;
}

/**
 * find runs seeds until one of them finds a mutant by its checker; undefined if none of `most` did. What breaks otherwise does not count: a
 * mutant that merely throws, because an engine has changed under it, shows nothing of the checker.
 */
export async function find(mutant: Mutant, from: number, most: number): Promise<Found | undefined> {
  for (let i = 0; i < most; i++) {
    const { violations } = await runMutant(mutant, from + i);
    const found = violations.find(({ checker, text }) => checker === mutant.by && text.includes(mutant.says ?? ""));
    if (found !== undefined) return { seeds: i + 1, seed: from + i, by: found.checker, text: found.text };
  }
  return undefined;
}

/** zooTable prints for each mutant after how many seeds it is found, and by which checker. The answer is 1 if one was not found. */
export async function zooTable(from: number, most: number, row: string | undefined, say: (line: string) => void): Promise<number> {
  let missed = 0;
  say("| row | mutant | seeds until found | seed | by |");
  say("|---|---|---|---|---|");
  for (const mutant of ZOO) {
    if (row !== undefined && mutant.row !== row) continue;
    const found = await find(mutant, from, most);
    if (found === undefined) missed++;
    say(`| ${mutant.row} | ${mutant.what} | ${found?.seeds ?? `not in ${most}`} | ${found?.seed ?? ""} | ${found?.by ?? ""} |`);
    if (row !== undefined && found !== undefined) say(found.text);
  }
  return missed === 0 ? 0 : 1;
}
