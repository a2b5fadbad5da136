import { assert } from "./assert.ts";

/**
 * Ring keeps the newest items of a sequence, each under its number: the tail that cursors read from. Items are never changed.
 * It is bounded by a count and by bytes; the oldest give way. A reader that finds its number gone must take a snapshot.
 *
 * RI1 the numbers held are consecutive: first() .. next() - 1.
 * RI2 count and bytes never exceed their bounds, except that the newest item is always held.
 */
export class Ring<T extends { readonly byteLength: number } = Uint8Array> {
  readonly #maxItems: number;
  readonly #maxBytes: number;
  readonly #items: (T | undefined)[];
  readonly #weights: number[] = [];
  #first: number;
  #next: number;
  #bytes = 0;

  /** `next` is the number that the first pushed item will have. */
  constructor(maxItems: number, maxBytes: number, next: number) {
    assert(Number.isInteger(maxItems) && maxItems > 0, "ring needs a positive size", { maxItems });
    this.#maxItems = maxItems;
    this.#maxBytes = maxBytes;
    this.#items = [];
    this.#first = next;
    this.#next = next;
  }

  /** first is the number of the oldest item held; equal to `next` when the ring is empty. */
  get first(): number {
    return this.#first;
  }

  /** next is the number of the item to come. */
  get next(): number {
    return this.#next;
  }

  /** size is how many items are held. */
  get size(): number {
    return this.#next - this.#first;
  }

  /** bytes is what all of them take. */
  get bytes(): number {
    return this.#bytes;
  }

  /** push adds the next item; `seq` must be `next`. `bytes` is what it takes in memory with all that is kept because of it. */
  push(seq: number, item: T, bytes = item.byteLength): void {
    assert(seq === this.#next, "ring items must be consecutive", { seq, next: this.#next });
    if (this.size === this.#maxItems) this.trim(this.#first + 1);
    this.#items[seq % this.#maxItems] = item;
    this.#weights[seq % this.#maxItems] = bytes;
    this.#next++;
    this.#bytes += bytes;
    while (this.#bytes > this.#maxBytes && this.size > 1) this.trim(this.#first + 1);
  }

  /** get is the item of that number; undefined if it is gone or still to come. */
  get(seq: number): T | undefined {
    return seq >= this.#first && seq < this.#next ? this.#items[seq % this.#maxItems] : undefined;
  }

  /** trim drops all items numbered below `below`. */
  trim(below: number): void {
    const end = Math.min(below, this.#next);
    for (; this.#first < end; this.#first++) {
      const slot = this.#first % this.#maxItems;
      this.#bytes -= this.#weights[slot] ?? 0;
      this.#items[slot] = undefined;
    }
  }

  /** reset empties the ring and continues at `next`: a new epoch, or a snapshot was loaded. */
  reset(next: number): void {
    this.trim(this.#next);
    this.#first = next;
    this.#next = next;
  }
}
