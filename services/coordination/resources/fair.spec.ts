import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Amounts } from "./amounts.ts";
import { compareExact, compareRatios, type Demand, dominantShare, type Exact, exact, fairShares } from "./fair.ts";

const TOTALS: Amounts = [9, 18, 0, 0, 0, 0];
const show = ({ num, den }: Exact): string => `${num}/${den}`;
const times = (a: Exact, by: number): Exact => exact(a.num * BigInt(by), a.den);

/** tasksIn is how many tasks of a demand a bundle of resources is good for. */
function tasksIn(bundle: readonly Exact[], task: Amounts): Exact {
  let most: Exact | undefined;
  for (const [i, amount] of task.entries()) {
    if (amount === 0) continue;
    const have = bundle[i] as Exact;
    const tasks = exact(have.num, have.den * BigInt(amount));
    if (most === undefined || compareExact(tasks, most) < 0) most = tasks;
  }
  return most ?? exact(0n);
}

const bundleOf = (tasks: Exact, task: Amounts): Exact[] => task.map((amount) => times(tasks, amount));

const amount = fc.integer({ min: 0, max: 20 });
const totals = fc.array(fc.integer({ min: 1, max: 500 }), { minLength: 3, maxLength: 3 });
const task = fc.array(amount, { minLength: 3, maxLength: 3 }).filter((amounts) => amounts.some((one) => one > 0));
const users = fc.array(task, { minLength: 1, maxLength: 6 });
const capped = fc.array(fc.record({ task, tasks: fc.integer({ min: 0, max: 60 }) }), { minLength: 1, maxLength: 6 });
const demands = (tasks: readonly Amounts[]): Demand[] => tasks.map((one) => ({ task: one }));

type Mechanism = (totals: Amounts, demands: readonly Demand[]) => Exact[];
interface Property {
  readonly holds: (divide: Mechanism) => fc.IPropertyWithHooks<never>;
  /** A mechanism that has it not. */
  readonly broken: Mechanism;
}

/** alike gives all the same number of tasks, however large theirs are. */
const alike: Mechanism = (all, wants) => {
  const sum = all.map((_, i) => wants.reduce((most, want) => most + (want.task[i] as number), 0));
  return wants.map(() =>
    tasksIn(
      all.map((total) => exact(BigInt(total))),
      sum,
    ),
  );
};

/** inOrder gives the first all that it can use, and the next what is left. */
const inOrder: Mechanism = (all, wants) => {
  let left = all.map((total) => exact(BigInt(total)));
  return wants.map(({ task: one }) => {
    const tasks = tasksIn(left, one);
    left = left.map((room, i) => minus(room, times(tasks, one[i] as number)));
    return tasks;
  });
};

const halved: Mechanism = (all, wants) => fairShares(all, wants).map(({ num, den }) => exact(num, den * 2n));
const property = (one: unknown): fc.IPropertyWithHooks<never> => one as fc.IPropertyWithHooks<never>;
const minus = (a: Exact, b: Exact): Exact => exact(a.num * b.den - b.num * a.den, a.den * b.den);

const PROPERTIES: Readonly<Record<string, Property>> = {
  "sharing incentive (nobody has less than by an equal part of everything)": {
    broken: alike,
    holds: (divide) =>
      property(
        fc.property(totals, users, (all, tasks) => {
          const shares = divide(all, demands(tasks));
          return tasks.every((one, i) => {
            const equal = tasksIn(
              all.map((total) => exact(BigInt(total), BigInt(tasks.length))),
              one,
            );
            return compareExact(shares[i] as Exact, equal) >= 0;
          });
        }),
      ),
  },
  "strategy-proofness (who says that it needs something else has no more of what it needs)": {
    broken: alike,
    holds: (divide) =>
      property(
        fc.property(totals, users, task, fc.nat(), (all, tasks, lie, pick) => {
          const liar = pick % tasks.length;
          const truth = tasks[liar] as Amounts;
          const honest = divide(all, demands(tasks))[liar] as Exact;
          const lying = divide(all, demands(tasks.map((one, i) => (i === liar ? lie : one))))[liar] as Exact;
          return compareExact(tasksIn(bundleOf(lying, lie), truth), honest) <= 0;
        }),
      ),
  },
  "envy-freeness (nobody would rather have what another has)": {
    broken: inOrder,
    holds: (divide) =>
      property(
        fc.property(totals, users, (all, tasks) => {
          const shares = divide(all, demands(tasks));
          return tasks.every((mine, i) =>
            tasks.every((theirs, j) => compareExact(tasksIn(bundleOf(shares[j] as Exact, theirs), mine), shares[i] as Exact) <= 0),
          );
        }),
      ),
  },
  "Pareto efficiency (nobody can have more without another having less, and nothing is given twice)": {
    broken: halved,
    holds: (divide) =>
      property(
        fc.property(totals, capped, (all, wants) => {
          const shares = divide(all, wants);
          const left = all.map((total, i) =>
            wants.reduce((room, want, user) => minus(room, times(shares[user] as Exact, want.task[i] as number)), exact(BigInt(total))),
          );
          const within = left.every(({ num }) => num >= 0n);
          return (
            within &&
            wants.every((want, i) => {
              const full = compareExact(shares[i] as Exact, exact(BigInt(want.tasks))) >= 0;
              return full || want.task.some((one, at) => one > 0 && (left[at] as Exact).num === 0n);
            })
          );
        }),
      ),
  },
};

describe("S4-21 dominant resource fairness", () => {
  test("the example of the paper: 3 tasks of 1 CPU and 4 GB, 2 of 3 CPUs and 1 GB", () => {
    const shares = fairShares(
      TOTALS,
      demands([
        [1, 4, 0, 0, 0, 0],
        [3, 1, 0, 0, 0, 0],
      ]),
    );
    expect(shares.map(show)).toEqual(["3/1", "2/1"]);
  });

  test.each(Object.keys(PROPERTIES))("%s holds for any demands", (name) => {
    fc.assert(PROPERTIES[name]!.holds(fairShares), { seed: 21 });
  });

  test.each(Object.entries(PROPERTIES))("%s is not there by chance: another way to divide breaks it", (_name, { holds, broken }) => {
    expect(fc.check(holds(broken), { seed: 21 }).failed).toBe(true);
  });

  test("a single user has all that it can use, and equal users have equal shares", () => {
    expect(fairShares(TOTALS, demands([[2, 1, 0, 0, 0, 0]])).map(show)).toEqual(["9/2"]);
    expect(fairShares(TOTALS, demands(Array.from({ length: 4 }, () => [1, 1, 0, 0, 0, 0]))).map(show)).toEqual(Array(4).fill("9/4"));
  });

  test("who wants nothing, no task, or what nobody has, has nothing and is in nobody's way", () => {
    const shares = fairShares(TOTALS, [
      { task: [0, 0, 0, 0, 0, 0] },
      { task: [1, 0, 0, 0, 0, 0], tasks: 0 },
      { task: [1, 0, 1, 0, 0, 0] },
      { task: [1, 1, 0, 0, 0, 0] },
    ]);
    expect(shares.map(show)).toEqual(["0/1", "0/1", "0/1", "9/1"]);
  });

  test("shares are compared exactly where floating point is not", () => {
    const a = { num: 999_999_999_999, den: 1_000_000_000_000 };
    const b = { num: 999_999_999_998, den: 999_999_999_999 };
    expect(compareRatios(a, b)).toBeGreaterThan(0);
    expect(compareRatios(b, a)).toBeLessThan(0);
    expect(compareRatios(a, { ...a })).toBe(0);
    expect(dominantShare([1, 4, 0, 0, 0, 0], TOTALS)).toEqual({ num: 4, den: 18 });
    expect(dominantShare([0, 0, 0, 0, 0, 0], TOTALS)).toEqual({ num: 0, den: 1 });
    expect(compareRatios(dominantShare([0, 0, 1, 0, 0, 0], TOTALS), { num: 1, den: 1 })).toBeGreaterThan(0);
  });

  test("compareRatios agrees with exact fractions of any size", () => {
    const whole = fc.integer({ min: 0, max: 1_000_000_000_000 });
    const part = fc.integer({ min: 1, max: 1_000_000_000_000 });
    fc.assert(
      fc.property(whole, part, whole, part, (a, b, c, d) => {
        const sign = compareExact(exact(BigInt(a), BigInt(b)), exact(BigInt(c), BigInt(d)));
        expect(Math.sign(compareRatios({ num: a, den: b }, { num: c, den: d }))).toBe(sign);
      }),
      { seed: 5 },
    );
  });
});
