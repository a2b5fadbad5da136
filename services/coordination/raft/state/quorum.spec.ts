import fc from "fast-check";
import { expect, test } from "vitest";
import { isQuorum, majorityOf, reached } from "./quorum.ts";

const IDS = ["a/1", "b/1", "c/1", "d/1", "e/1", "f/1", "g/1"];
const voters = fc.subarray(IDS, { minLength: 1 });
const membership = fc.record({ voters, outgoing: fc.oneof(fc.constant([]), voters), learners: fc.subarray(IDS) });

test("zoo 17: more than half are a majority, half are none", () => {
  expect([1, 2, 3, 4, 5, 6, 7].map(majorityOf)).toEqual([1, 2, 2, 3, 3, 4, 4]);
});

test("reached is the largest value that a quorum has; learners count for nothing", () => {
  fc.assert(
    fc.property(membership, fc.array(fc.nat({ max: 5 }), { minLength: 7, maxLength: 7 }), (of, values) => {
      const valueOf = (id: string): number => values[IDS.indexOf(id)] as number;
      const most = (list: readonly string[], value: number): boolean => 2 * list.filter((id) => valueOf(id) >= value).length > list.length;
      const expected = [5, 4, 3, 2, 1, 0].find((v) => most(of.voters, v) && (of.outgoing.length === 0 || most(of.outgoing, v)));
      expect(reached(of, valueOf)).toBe(expected);
      for (const v of [0, 1, 2, 3, 4, 5]) expect(isQuorum(of, (id) => valueOf(id) >= v)).toBe((expected as number) >= v);
    }),
  );
});

test("quorums of a membership, of the joint one, and of what follows it meet in someone", () => {
  fc.assert(
    fc.property(voters, voters, fc.subarray(IDS), fc.subarray(IDS), (before, after, one, two) => {
      const joint = { voters: after, outgoing: before, learners: [] };
      for (const simple of [before, after]) {
        const both =
          isQuorum({ voters: simple, outgoing: [], learners: [] }, (id) => one.includes(id)) && isQuorum(joint, (id) => two.includes(id));
        if (both) expect(one.some((id) => two.includes(id))).toBe(true);
      }
    }),
    { numRuns: 500 },
  );
});

test("nobody decides nothing", () => {
  const nobody = { voters: [], outgoing: [], learners: ["a/1"] };
  expect(reached(nobody, () => 9)).toBe(Number.NEGATIVE_INFINITY);
  expect(isQuorum(nobody, () => true)).toBe(false);
  expect(isQuorum({ ...nobody, outgoing: ["a/1"] }, () => true)).toBe(false);
});
