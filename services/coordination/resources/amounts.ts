/**
 * DIMENSIONS are what amounts are counted in, in the order of a vector: agents, thousandths of a CPU and of a GPU, megabytes (10^6 bytes) of
 * memory and of storage, kilobits per second. The order is part of what is stored.
 */
export const DIMENSIONS = ["agents", "cpuMilli", "gpuMilli", "memoryMb", "storageMb", "networkKbps"] as const;

/** Dimension is one thing that amounts are counted in. */
export type Dimension = (typeof DIMENSIONS)[number];

/** Amounts is a vector over DIMENSIONS of whole numbers of at most AMOUNT_MAX, none below zero. */
export type Amounts = readonly number[];

/** AMOUNT_MAX bounds each amount: a thousand times it is still a safe integer, so that ceilings are computed exactly. */
export const AMOUNT_MAX = 1_000_000_000_000;

/** NOTHING is the vector of zeros. */
export const NOTHING: Amounts = DIMENSIONS.map(() => 0);

/** amountsOf makes a vector from the amounts that are not zero. */
export function amountsOf(some: Partial<Record<Dimension, number>>): Amounts {
  return DIMENSIONS.map((dimension) => some[dimension] ?? 0);
}

/** isAmount tells whether a number can be an amount. */
export function isAmount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0 && (value as number) <= AMOUNT_MAX;
}

/** amountsProblem says what is wrong with a vector, or nothing. */
export function amountsProblem(amounts: unknown): string | undefined {
  if (!Array.isArray(amounts) || amounts.length !== DIMENSIONS.length) return `amounts are ${DIMENSIONS.length} numbers`;
  const at = DIMENSIONS.findIndex((_, index) => !isAmount(amounts[index]));
  return at < 0 ? undefined : `${DIMENSIONS[at]} is not a whole number from 0 to ${AMOUNT_MAX}; correct the amount`;
}

/** plus is the sum of two vectors, and minus their difference, which may be below zero. */
export function plus(a: Amounts, b: Amounts): Amounts {
  return a.map((amount, index) => amount + (b[index] as number));
}

export function minus(a: Amounts, b: Amounts): Amounts {
  return a.map((amount, index) => amount - (b[index] as number));
}

/** add adds to a vector in place, and take takes from it. */
export function add(to: number[], amounts: Amounts): void {
  for (let i = 0; i < to.length; i++) to[i] = (to[i] as number) + (amounts[i] as number);
}

export function take(from: number[], amounts: Amounts): void {
  for (let i = 0; i < from.length; i++) from[i] = (from[i] as number) - (amounts[i] as number);
}

/** covers tells whether each amount of `a` is at least that of `b`. */
export function covers(a: Amounts, b: Amounts): boolean {
  for (let i = 0; i < b.length; i++) if ((a[i] as number) < (b[i] as number)) return false;
  return true;
}

/** fits tells whether `more` has room beside what is used, below a limit. */
export function fits(limit: Amounts, used: Amounts, more: Amounts): boolean {
  for (let i = 0; i < more.length; i++)
    if ((more[i] as number) > 0 && (used[i] as number) + (more[i] as number) > (limit[i] as number)) return false;
  return true;
}

/** isNothing tells whether all amounts are zero. */
export function isNothing(amounts: Amounts): boolean {
  return amounts.every((amount) => amount === 0);
}

/** ceilingOf is as much of a capacity as may be lent, rounded down. */
export function ceilingOf(capacity: Amounts, perMille: number): Amounts {
  return capacity.map((amount) => Math.floor((amount * perMille) / 1_000));
}

/** loadOf is how much of a limit is used in its fullest dimension, per mille, rounded up; 0 of an empty limit. */
export function loadOf(limit: Amounts, used: Amounts): number {
  let load = 0;
  for (let i = 0; i < limit.length; i++) {
    const [most, now] = [limit[i] as number, used[i] as number];
    if (most > 0) load = Math.max(load, Math.ceil((now * 1_000) / most));
    else if (now > 0) load = 1_000;
  }
  return load;
}

/** amountsText writes amounts for people: those that are not zero. */
export function amountsText(amounts: Amounts): string {
  const some = DIMENSIONS.flatMap((dimension, index) => (amounts[index] === 0 ? [] : [`${dimension}=${amounts[index]}`]));
  return some.length === 0 ? "-" : some.join(",");
}
