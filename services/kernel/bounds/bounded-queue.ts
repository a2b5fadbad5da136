import { assert } from "../assert.ts";

/**
 * BoundedQueue is a first-in first-out queue that holds at most `capacity` items and never grows beyond it. Pushing and
 * taking are O(1) and allocate nothing: it is a ring over one array, which starts small and doubles when it must.
 */
export class BoundedQueue<T> {
  readonly capacity: number;
  #items: (T | undefined)[];
  #head = 0;
  #size = 0;

  constructor(capacity: number) {
    assert(Number.isInteger(capacity) && capacity > 0, "queue needs a positive capacity", { capacity });
    this.capacity = capacity;
    this.#items = new Array<T | undefined>(Math.min(16, capacity)).fill(undefined);
  }

  /** size is how many items wait. */
  get size(): number {
    return this.#size;
  }

  /** push appends; false, and nothing happens, when the queue is full. */
  push(item: T): boolean {
    if (this.#size === this.capacity) return false;
    if (this.#size === this.#items.length) this.#grow();
    let at = this.#head + this.#size;
    if (at >= this.#items.length) at -= this.#items.length;
    this.#items[at] = item;
    this.#size++;
    return true;
  }

  /** take removes the oldest item; undefined when there is none. */
  take(): T | undefined {
    if (this.#size === 0) return undefined;
    const item = this.#items[this.#head];
    this.#items[this.#head] = undefined;
    this.#head = this.#head + 1 === this.#items.length ? 0 : this.#head + 1;
    this.#size--;
    return item;
  }

  /** peek is the oldest item; undefined when there is none. */
  peek(): T | undefined {
    return this.#size === 0 ? undefined : this.#items[this.#head];
  }

  /** clear drops everything. */
  clear(): void {
    this.#items = new Array<T | undefined>(Math.min(16, this.capacity)).fill(undefined);
    this.#head = 0;
    this.#size = 0;
  }

  #grow(): void {
    const old = this.#items;
    const next = new Array<T | undefined>(Math.min(this.capacity, old.length * 2)).fill(undefined);
    for (let i = 0; i < this.#size; i++) next[i] = old[(this.#head + i) % old.length];
    this.#items = next;
    this.#head = 0;
  }
}
