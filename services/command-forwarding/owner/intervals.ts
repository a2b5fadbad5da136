/** Up to so many ranges are added one by one, which moves those after each. */
const FEW = 16;

/**
 * Intervals is a set of numbers as sorted, disjoint ranges [from, to). Positions that a caller has done with form few of them.
 * Beyond `max` ranges the lowest two are joined: numbers between them then count as members, which is the safe mistake here.
 */
export class Intervals {
  readonly #max: number;
  readonly #from: number[] = [];
  readonly #to: number[] = [];

  constructor(max: number) {
    this.#max = max;
  }

  get size(): number {
    return this.#from.length;
  }

  has(n: number): boolean {
    const at = this.#after(n) - 1;
    return at >= 0 && n < (this.#to[at] as number);
  }

  /** add makes [from, to) members. */
  add(from: number, to: number): void {
    if (from >= to) return;
    let first = this.#after(from);
    if (first > 0 && (this.#to[first - 1] as number) >= from) first--;
    let last = first;
    let low = from;
    let high = to;
    while (last < this.#from.length && (this.#from[last] as number) <= to) {
      low = Math.min(low, this.#from[last] as number);
      high = Math.max(high, this.#to[last] as number);
      last++;
    }
    this.#from.splice(first, last - first, low);
    this.#to.splice(first, last - first, high);
    if (this.#from.length > this.#max) {
      this.#from.splice(1, 1);
      this.#to.splice(0, 1);
    }
  }

  /** addAll makes the members of `ranges`, pairs as `merged` answers them, members of this set in one pass over both. */
  addAll(ranges: readonly number[]): void {
    if (ranges.length <= 2 * FEW) {
      for (let i = 0; i < ranges.length; i += 2) this.add(ranges[i] as number, ranges[i + 1] as number);
      return;
    }
    const all = [...ranges];
    for (let i = 0; i < this.#from.length; i++) all.push(this.#from[i] as number, this.#to[i] as number);
    const joined = merged(all);
    const over = Math.max(0, joined.length / 2 - this.#max);
    this.#from.length = 0;
    this.#to.length = 0;
    for (let i = 2 * over; i < joined.length; i += 2) {
      this.#from.push(i === 2 * over ? (joined[0] as number) : (joined[i] as number));
      this.#to.push(joined[i + 1] as number);
    }
  }

  /** below drops every member below `floor`. */
  below(floor: number): void {
    let gone = 0;
    while (gone < this.#to.length && (this.#to[gone] as number) <= floor) gone++;
    this.#from.splice(0, gone);
    this.#to.splice(0, gone);
    if (this.#from.length > 0 && (this.#from[0] as number) < floor) this.#from[0] = floor;
  }

  /** after is the index of the first range that starts above n. */
  #after(n: number): number {
    let low = 0;
    let high = this.#from.length;
    if (high > 0 && n >= (this.#from[high - 1] as number)) return high;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#from[middle] as number) <= n) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** merged writes pairs [from, to) in order, with those that overlap or touch as one, and without empty ones. */
export function merged(pairs: readonly number[]): number[] {
  const order: number[] = [];
  let sorted = true;
  for (let i = 0; i + 1 < pairs.length; i += 2) {
    if ((pairs[i] as number) >= (pairs[i + 1] as number)) continue;
    sorted &&= order.length === 0 || (pairs[order.at(-1) as number] as number) <= (pairs[i] as number);
    order.push(i);
  }
  if (!sorted) order.sort((a, b) => (pairs[a] as number) - (pairs[b] as number));
  const ranges: number[] = [];
  for (const i of order) {
    const from = pairs[i] as number;
    const to = pairs[i + 1] as number;
    const last = ranges.length - 1;
    if (last < 0 || from > (ranges[last] as number)) ranges.push(from, to);
    else if (to > (ranges[last] as number)) ranges[last] = to;
  }
  return ranges;
}

/** rangesOf writes numbers as pairs [from, to); numbers must be distinct. */
export function rangesOf(numbers: number[]): number[] {
  numbers.sort((a, b) => a - b);
  const ranges: number[] = [];
  for (const n of numbers) {
    if (ranges.length > 0 && ranges[ranges.length - 1] === n) ranges[ranges.length - 1] = n + 1;
    else ranges.push(n, n + 1);
  }
  return ranges;
}
