import fc from "fast-check";
import { expect, test } from "vitest";
import { Intervals, merged } from "./intervals.ts";

const pairs = fc
  .array(fc.tuple(fc.nat(300), fc.nat(9)), { maxLength: 60 })
  .map((all) => all.flatMap(([from, length]) => [from, from + length - 2]));

const membersOf = (ranges: readonly number[]): Set<number> => {
  const members = new Set<number>();
  for (let i = 0; i < ranges.length; i += 2) for (let n = ranges[i] as number; n < (ranges[i + 1] as number); n++) members.add(n);
  return members;
};

test("pairs are merged into the same members, in order, disjoint and not touching", () => {
  fc.assert(
    fc.property(pairs, (all) => {
      const ranges = merged(all);
      expect(membersOf(ranges)).toEqual(membersOf(all));
      for (let i = 1; i < ranges.length; i++) expect(ranges[i]).toBeGreaterThan(ranges[i - 1] as number);
    }),
  );
});

test("many ranges at once leave the members that they leave one by one; beyond the most there are, only more", () => {
  fc.assert(
    fc.property(fc.array(pairs, { maxLength: 4 }), fc.constantFrom(5, 1_000), (lots, max) => {
      const set = new Intervals(max);
      const members = new Set<number>();
      for (const all of lots) {
        set.addAll(merged(all));
        for (const n of membersOf(all)) members.add(n);
        expect(set.size).toBeLessThanOrEqual(max);
      }
      for (let n = -5; n < 320; n++) if (max > 5 || members.has(n)) expect(set.has(n), String(n)).toBe(members.has(n));
    }),
  );
});
