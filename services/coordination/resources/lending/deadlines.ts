interface Due {
  readonly time: number;
  readonly key: string;
}

/** Stale entries that the heap keeps before it is made anew. */
const STALE_MAX = 64;

/**
 * Deadlines is a set of keys with a log time each, of which the first is found at once: by time, then by key, whatever the order in which
 * they were set.
 */
export class Deadlines {
  readonly #times = new Map<string, number>();
  #heap: Due[] = [];

  set(key: string, time: number): void {
    if (this.#times.get(key) === time) return;
    this.#times.set(key, time);
    this.#push({ time, key });
    if (this.#heap.length > 2 * this.#times.size + STALE_MAX) this.#renew();
  }

  delete(key: string): void {
    this.#times.delete(key);
  }

  clear(): void {
    this.#times.clear();
    this.#heap = [];
  }

  /** first is the time of the first deadline. */
  first(): number | undefined {
    return this.#top()?.time;
  }

  /** take removes the first key that is due, and gives it. */
  take(time: number): string | undefined {
    const top = this.#top();
    if (top === undefined || top.time > time) return undefined;
    this.#pop();
    this.#times.delete(top.key);
    return top.key;
  }

  #top(): Due | undefined {
    for (let top = this.#heap[0]; top !== undefined; top = this.#heap[0]) {
      if (this.#times.get(top.key) === top.time) return top;
      this.#pop();
    }
    return undefined;
  }

  #renew(): void {
    this.#heap = [];
    for (const [key, time] of this.#times) this.#push({ key, time });
  }

  #push(due: Due): void {
    const heap = this.#heap;
    let at = heap.push(due) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!before(due, heap[parent] as Due)) break;
      heap[at] = heap[parent] as Due;
      at = parent;
    }
    heap[at] = due;
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && before(heap[child + 1] as Due, heap[child] as Due)) child++;
      if (!before(heap[child] as Due, last)) break;
      heap[at] = heap[child] as Due;
      at = child;
    }
    heap[at] = last;
  }
}

function before(a: Due, b: Due): boolean {
  return a.time !== b.time ? a.time < b.time : a.key < b.key;
}
