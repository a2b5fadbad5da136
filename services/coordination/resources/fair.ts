import type { Amounts } from "./amounts.ts";

/** Ratio is an exact fraction of two whole numbers, neither below zero. A denominator of zero is more than any other. */
export interface Ratio {
  readonly num: number;
  readonly den: number;
}

/** compareRatios is below zero if `a` is the smaller fraction, and zero if they are the same; exact whatever their size. */
export function compareRatios(a: Ratio, b: Ratio): number {
  const [left, right] = [a.num * b.den, b.num * a.den];
  if (left <= Number.MAX_SAFE_INTEGER && right <= Number.MAX_SAFE_INTEGER) return left - right;
  const [x, y] = [BigInt(a.num) * BigInt(b.den), BigInt(b.num) * BigInt(a.den)];
  return x < y ? -1 : x > y ? 1 : 0;
}

/** dominantShare is the largest part that a use has of any total (Ghodsi et al., NSDI 2011). */
export function dominantShare(use: Amounts, totals: Amounts): Ratio {
  let share: Ratio = { num: 0, den: 1 };
  for (let i = 0; i < totals.length; i++) {
    const part = { num: use[i] as number, den: totals[i] as number };
    if (part.num > 0 && compareRatios(share, part) < 0) share = part;
  }
  return share;
}

/** Exact is a fraction without bounds, for what is computed once and compared. Its denominator is above zero. */
export interface Exact {
  readonly num: bigint;
  readonly den: bigint;
}

/** exact makes a fraction in its lowest terms. */
export function exact(num: bigint, den: bigint = 1n): Exact {
  let [a, b] = [num < 0n ? -num : num, den];
  while (b !== 0n) [a, b] = [b, a % b];
  return a === 0n ? { num: 0n, den: 1n } : { num: num / a, den: den / a };
}

/** compareExact is below zero if `a` is the smaller. */
export function compareExact(a: Exact, b: Exact): number {
  const [x, y] = [a.num * b.den, b.num * a.den];
  return x < y ? -1 : x > y ? 1 : 0;
}

const times = (a: Exact, b: Exact): Exact => exact(a.num * b.num, a.den * b.den);
const over = (a: Exact, b: Exact): Exact => exact(a.num * b.den, a.den * b.num);
const sum = (a: Exact, b: Exact): Exact => exact(a.num * b.den + b.num * a.den, a.den * b.den);
const less = (a: Exact, b: Exact): Exact => exact(a.num * b.den - b.num * a.den, a.den * b.den);
const ZERO = exact(0n);

/** Demand is what one task of a user takes, and how many tasks it has at the most; undefined for as many as there is room for. */
export interface Demand {
  readonly task: Amounts;
  readonly tasks?: number;
}

interface Filling {
  readonly task: readonly Exact[];
  /** The dominant share of one task. */
  readonly weight: Exact;
  readonly cap: Exact | undefined;
  tasks: Exact;
  active: boolean;
}

/**
 * fairShares is how many tasks each user has when dominant shares rise alike until something is used up for each (DRF with tasks that can be
 * divided): exactly, as what the federation's allocations are compared with. A user that wants nothing, or what nobody has, gets nothing.
 */
export function fairShares(totals: Amounts, demands: readonly Demand[]): Exact[] {
  const room = totals.map((total) => exact(BigInt(total)));
  const users = demands.map((demand) => fillingOf(demand, totals));
  for (let level = ZERO; ; ) {
    const active = users.filter((user) => user.active);
    if (active.length === 0) return users.map((user) => user.tasks);
    const rates = totals.map((_, i) => active.reduce((rate, user) => sum(rate, over(user.task[i] as Exact, user.weight)), ZERO));
    const steps = [
      ...rates.flatMap((rate, i) => (rate.num === 0n ? [] : [over(room[i] as Exact, rate)])),
      ...active.flatMap((user) => (user.cap === undefined ? [] : [less(times(user.cap, user.weight), level)])),
    ];
    const step = steps.reduce((least, other) => (compareExact(other, least) < 0 ? other : least));
    level = sum(level, step);
    for (const [i, rate] of rates.entries()) room[i] = less(room[i] as Exact, times(rate, step));
    for (const user of active) {
      user.tasks = over(level, user.weight);
      const starved = user.task.some((amount, i) => amount.num > 0n && (room[i] as Exact).num === 0n);
      const full = user.cap !== undefined && compareExact(user.tasks, user.cap) >= 0;
      user.active = !starved && !full;
    }
  }
}

function fillingOf({ task, tasks }: Demand, totals: Amounts): Filling {
  const amounts = task.map((amount) => exact(BigInt(amount)));
  let weight = ZERO;
  let possible = tasks !== 0;
  for (const [i, amount] of amounts.entries()) {
    if (amount.num === 0n) continue;
    if (totals[i] === 0) possible = false;
    else {
      const part = over(amount, exact(BigInt(totals[i] as number)));
      if (compareExact(part, weight) > 0) weight = part;
    }
  }
  const cap = tasks === undefined ? undefined : exact(BigInt(tasks));
  return { task: amounts, weight, cap, tasks: ZERO, active: possible && weight.num > 0n };
}
