import fc from "fast-check";
import { expect, test } from "vitest";
import type { Committed } from "../../log/engine.ts";
import { entryBytes, LogView } from "./log-view.ts";

const entry = (index: number, term: number, bytes = 1): Committed => ({ index, term, time: index, payloads: [new Uint8Array(bytes)] });

/** A dumb second log: all entries there ever were, and where it begins. */
class Dumb {
  all: Committed[] = [];
  base = 0;

  here(): Committed[] {
    return this.all.slice(this.base);
  }
}

type Act = readonly ["append" | "cut" | "trim", number];
const act: fc.Arbitrary<Act> = fc.tuple(fc.constantFrom("append", "append", "cut", "trim"), fc.nat({ max: 9 }));

test("a log is what was appended, without what was cut and trimmed", () => {
  fc.assert(
    fc.property(fc.array(act, { maxLength: 60 }), (acts) => {
      const log = new LogView({ index: 0, term: 0, time: 0 });
      const dumb = new Dumb();
      for (const [what, n] of acts) {
        if (what === "append") {
          const next = entry(log.last + 1, Math.max(1, log.lastTerm + (n > 7 ? 1 : 0)), n);
          log.append(next);
          dumb.all.push(next);
        } else if (what === "cut") {
          const from = Math.max(log.base + 1, log.last - n + 1);
          log.cut(from);
          dumb.all.splice(from - 1);
        } else {
          const to = Math.min(log.last, log.base + n);
          log.trim(to);
          dumb.base = to;
        }
        const here = dumb.here();
        expect([log.base, log.last, log.lastTerm]).toEqual([dumb.base, dumb.all.length, dumb.all.at(-1)?.term ?? 0]);
        expect(log.range(log.base + 1, log.last)).toEqual(here);
        expect(log.bytes).toBe(here.reduce((sum, one) => sum + entryBytes(one), 0));
        for (let index = 0; index <= log.last + 1; index++)
          expect(log.termAt(index)).toBe(index === 0 && dumb.base === 0 ? 0 : index < dumb.base ? undefined : dumb.all[index - 1]?.term);
      }
    }),
  );
});

test("a batch has at least one entry, and no more than is said", () => {
  const log = new LogView({ index: 4, term: 1, time: 4 });
  for (let index = 5; index < 15; index++) log.append(entry(index, 1, 100));
  const lengths = (most: number, bytes: number): number => log.batch(6, most, bytes).length;
  expect([lengths(3, 1e9), lengths(99, 300), lengths(99, 1), lengths(99, 1e9)]).toEqual([3, 2, 1, 9]);
  expect(log.batch(6, 1, 1)[0]?.index).toBe(6);
  expect(log.batch(15, 9, 9)).toEqual([]);
  // What comes before is no longer here: a snapshot has it.
  expect(log.batch(4, 9, 9)).toEqual([]);
});

test("two logs agree at the most where the term of one is not above that of the other", () => {
  const log = new LogView({ index: 2, term: 1, time: 2 });
  for (const [index, term] of [
    [3, 2],
    [4, 2],
    [5, 5],
    [6, 5],
  ] as const)
    log.append(entry(index, term));
  expect([9, 6, 5, 4].map((index) => log.mayAgree(index, 5))).toEqual([
    { index: 6, term: 5 },
    { index: 6, term: 5 },
    { index: 5, term: 5 },
    { index: 4, term: 2 },
  ]);
  expect(log.mayAgree(9, 4)).toEqual({ index: 4, term: 2 });
  expect(log.mayAgree(9, 1)).toEqual({ index: 2, term: 1 });
  expect(log.mayAgree(9, 0)).toEqual({ index: 0, term: 0 });
});

test("gaps, terms and times that go back, and cuts into a snapshot are bugs", () => {
  const log = new LogView({ index: 2, term: 3, time: 9 });
  expect(() => log.append({ ...entry(4, 3), time: 9 })).toThrow("gaps");
  expect(() => log.append({ ...entry(3, 2), time: 9 })).toThrow("never go back");
  expect(() => log.append({ ...entry(3, 3), time: 8 })).toThrow("never go back");
  expect(() => log.cut(2)).toThrow("never cut");
});
