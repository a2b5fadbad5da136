import { assert } from "./assert.ts";

/** NumericArray is any typed array of numbers. */
export type NumericArray = Uint8Array | Uint16Array | Uint32Array | Int32Array | Float64Array;

/**
 * Growable is a typed array with a length: push is amortised O(1), memory is one flat buffer, and `clear` keeps the buffer for
 * the next batch. `data` changes when it grows; do not keep it.
 */
export class Growable<A extends NumericArray> {
  readonly #make: new (
    length: number,
  ) => A;
  readonly #maxLength: number;
  /** data is the buffer; only [0, length) has meaning. */
  data: A;
  length = 0;

  /** maxLength: more is a bug of the caller, which checks its own limits first. */
  constructor(make: new (length: number) => A, capacity = 16, maxLength = 0x4000_0000) {
    this.#make = make;
    this.#maxLength = maxLength;
    this.data = new make(capacity);
  }

  /** push appends one number. */
  push(value: number): void {
    if (this.length === this.data.length) this.reserve(this.length + 1);
    this.data[this.length++] = value;
  }

  /** append adds all numbers of another array. */
  append(values: A): void {
    this.reserve(this.length + values.length);
    this.data.set(values, this.length);
    this.length += values.length;
  }

  /** at reads one number; the index must be below `length`. */
  at(index: number): number {
    assert(index >= 0 && index < this.length, "growable index out of range", { index, length: this.length });
    return this.data[index] as number;
  }

  /** set writes one number and grows with zeroes up to it if needed: for tables that are addressed by a slot. */
  set(index: number, value: number): void {
    if (index >= this.length) {
      this.reserve(index + 1);
      this.data.fill(0, this.length, index + 1);
      this.length = index + 1;
    }
    this.data[index] = value;
  }

  /** view is the used part, sharing memory; it is only good until the next change. */
  view(): A {
    return this.data.subarray(0, this.length) as A;
  }

  /** clear forgets the numbers and keeps the memory. */
  clear(): void {
    this.length = 0;
  }

  /** reserve makes room for `length` numbers at least. */
  reserve(length: number): void {
    assert(length <= this.#maxLength, "growable beyond its bound", { length, max: this.#maxLength });
    if (length <= this.data.length) return;
    const next = new this.#make(Math.min(this.#maxLength, Math.max(length, this.data.length * 2, 16)));
    next.set(this.data.subarray(0, this.length));
    this.data = next;
  }
}
