import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { placesOf, Runs, ToldCopies } from "./copies.ts";

const MINUTE_MS = 60_000;
const run = (id: string) => ({ run: id, incarnation: 0, address: `at-${id}` });

/** play notes runs, one a second, and tells after which ones copies were found. */
function play(runs: Runs, ids: string, startMs = 0): number[] {
  return [...ids].flatMap((id, i) => (runs.met(startMs + i * 1_000, run(id)) ? [i] : []));
}

describe("runs of one hub", () => {
  test("F-23 a run that is met twice after a later one runs beside it, and that is found once", () => {
    const runs = new Runs();
    expect(play(runs, "aabababab")).toEqual([5]);
    expect(runs.copies(9_000)).toEqual(["at-a", "at-b"]);
  });

  test("F-23 a copy that is seldom met is found too: the older one says Hello each minute, the newer one said it once", () => {
    const runs = new Runs();
    for (const [minute, id] of [..."abaa"].entries()) runs.met(minute * MINUTE_MS, run(id));
    expect(runs.copies(3 * MINUTE_MS)).toEqual(["at-a", "at-b"]);
  });

  test("F-23 starts one after the other are no copies, also if the last Hello of one arrives late", () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.integer({ min: 1, max: 4 }), fc.boolean()), { minLength: 1, maxLength: 12 }), (starts) => {
        const runs = new Runs();
        let mono = 0;
        let before: string | undefined;
        for (const [i, [hellos, late]] of starts.entries()) {
          for (let n = 0; n < hellos; n++) {
            expect(runs.met((mono += 1_000), run(`r${i}`))).toBe(false);
            if (n === 0 && late && before !== undefined) expect(runs.met((mono += 10), run(before))).toBe(false);
          }
          before = `r${i}`;
        }
        expect(runs.copies(mono)).toEqual([]);
      }),
    );
  });

  test("F-23 a start of which nothing but a late Hello is met, and one from a backup, are no copies", () => {
    const start = fc.record({ hellos: fc.integer({ min: 1, max: 4 }), late: fc.boolean(), restored: fc.boolean() });
    const property = fc.property(fc.array(start, { minLength: 1, maxLength: 12 }), (starts) => {
      const runs = new Runs();
      let [mono, incarnation] = [0, 10];
      const met = (i: number, number: number) =>
        expect(runs.met((mono += 1_000), { run: `r${i}`, incarnation: number, address: undefined })).toBe(false);
      let waiting: (() => void) | undefined;
      for (const [i, { hellos, late, restored }] of starts.entries()) {
        // All that is met of a start may come behind the first Hello of the next one. What comes so from before a backup was put back cannot
        // be told from a copy.
        const held = waiting;
        const number = (incarnation = restored && held === undefined ? Math.max(1, incarnation - 3) : incarnation + 1);
        waiting = late ? () => met(i, number) : undefined;
        for (let n = 0; n < (late ? 0 : hellos); n++) {
          met(i, number);
          if (n === 0) held?.();
        }
        if (late) held?.();
      }
      expect(runs.copies(mono)).toEqual([]);
    });
    fc.assert(property, { numRuns: 500 });
  });

  test("F-23 a copy whose starts have lower numbers is found, whoever begins", () => {
    for (const [first, second] of [
      [7, 3],
      [3, 7],
    ] as const) {
      const runs = new Runs();
      const met = (number: number, i: number) => runs.met(i * MINUTE_MS, { run: `r${number}`, incarnation: number, address: undefined });
      for (let i = 0; i < 8; i++) met(i % 2 === 0 ? first : second, i);
      expect(runs.copies(8 * MINUTE_MS)).toHaveLength(2);
    }
  });

  test("F-23 it is over five minutes after the other copy was last met, and found again if it comes back", () => {
    const runs = new Runs();
    play(runs, "abaa");
    expect(runs.copies(3_000 + 5 * MINUTE_MS)).toHaveLength(2);
    expect(runs.copies(3_001 + 5 * MINUTE_MS)).toEqual([]);
    expect(play(runs, "bbb", 10 * MINUTE_MS)).toEqual([]);
    expect(play(runs, "aab", 11 * MINUTE_MS)).toEqual([1]);
  });

  test("F-23 a peer that invents a run for each Hello costs four of them", () => {
    const runs = new Runs();
    for (let i = 0; i < 10_000; i++) runs.met(i, run(String(i)));
    expect(runs.copies(10_000)).toEqual([]);
    expect(play(runs, "aba", 10_000)).toEqual([]);
  });
});

describe("what a peer says of copies of this hub", () => {
  test("F-23 only places are taken, two or more, and not for ever", () => {
    expect(placesOf(["10.0.0.1 (start 4)", "::1 (start 5)"])).toEqual(["10.0.0.1 (start 4)", "::1 (start 5)"]);
    expect(placesOf(["10.0.0.1 (start 4)"])).toEqual([]);
    expect(placesOf(["\u001b[31m", "x".repeat(200), "a\nb"])).toEqual([]);
    const told = new ToldCopies();
    expect(told.told(0, ["one", "two"])).toBe(true);
    expect(told.told(10, ["one", "two"])).toBe(false);
    expect(told.places(20)).toEqual(["one", "two"]);
    expect(told.places(10 + 5 * MINUTE_MS)).toEqual([]);
    told.told(30, []);
    expect(told.places(40)).toEqual([]);
  });
});
