/** Width of a slot in ms: things fall due up to this much late, and never early. */
const SLOT_MS = 10;

/** Timed is what a DeadlineQueue holds; `slot` is the queue's own note, 0 for "not queued". */
export interface Timed {
  slot: number;
}

/**
 * DeadlineQueue finds what is due. Adding and removing are O(1): things of the same 10 ms share a slot, and only slots are
 * ordered. Most commands end long before their deadline, so removal must be cheap and leave nothing behind.
 */
export class DeadlineQueue<T extends Timed> {
  readonly #slots = new Map<number, Set<T>>();
  /** Binary heap of the slots' numbers; emptied slots leave it when they come to the top. */
  readonly #heap: number[] = [];

  /** add queues an item for the instant `at` (mono ms); an item that is queued already moves. */
  add(item: T, at: number): void {
    if (item.slot !== 0) this.remove(item);
    const slot = Math.max(1, Math.ceil(at / SLOT_MS));
    item.slot = slot;
    const items = this.#slots.get(slot);
    if (items !== undefined) items.add(item);
    else {
      this.#slots.set(slot, new Set([item]));
      this.#push(slot);
    }
  }

  /** remove forgets an item; nothing happens if it is not queued. */
  remove(item: T): void {
    if (item.slot === 0) return;
    this.#slots.get(item.slot)?.delete(item);
    item.slot = 0;
  }

  /** next is the instant at which something falls due, or undefined. */
  next(): number | undefined {
    for (;;) {
      const slot = this.#heap[0];
      if (slot === undefined) return undefined;
      if ((this.#slots.get(slot)?.size ?? 0) > 0) return slot * SLOT_MS;
      this.#slots.delete(slot);
      this.#pop();
    }
  }

  /** take removes and answers everything that is due at `mono`, oldest first. */
  take(mono: number): T[] {
    const due: T[] = [];
    for (let next = this.next(); next !== undefined && next <= mono; next = this.next()) {
      const slot = this.#heap[0] as number;
      for (const item of this.#slots.get(slot) as Set<T>) {
        item.slot = 0;
        due.push(item);
      }
      this.#slots.delete(slot);
      this.#pop();
    }
    return due;
  }

  #push(slot: number): void {
    const heap = this.#heap;
    let at = heap.push(slot) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if ((heap[parent] as number) <= slot) break;
      heap[at] = heap[parent] as number;
      at = parent;
    }
    heap[at] = slot;
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop() as number;
    if (heap.length === 0) return;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && (heap[child + 1] as number) < (heap[child] as number)) child++;
      if ((heap[child] as number) >= last) break;
      heap[at] = heap[child] as number;
      at = child;
    }
    heap[at] = last;
  }
}
