interface Lease<T> {
  readonly at: number;
  readonly item: T;
}

/**
 * Leases finds whose lease ends next. An item stands in it for the instant that was known when it was added; whoever takes it out looks
 * whether it was renewed since, and adds it again then, so that a renewal costs nothing.
 */
export class Leases<T> {
  /** Binary heap, by instant. */
  readonly #heap: Lease<T>[] = [];

  /** next is the first instant at which something may end. */
  get next(): number {
    return this.#heap[0]?.at ?? Number.POSITIVE_INFINITY;
  }

  add(item: T, at: number): void {
    const heap = this.#heap;
    const lease = { at, item };
    let hole = heap.length;
    heap.push(lease);
    while (hole > 0) {
      const above = (hole - 1) >> 1;
      const parent = heap[above] as Lease<T>;
      if (parent.at <= at) break;
      heap[hole] = parent;
      hole = above;
    }
    heap[hole] = lease;
  }

  /** take takes out one whose instant has come. */
  take(now: number): T | undefined {
    const heap = this.#heap;
    const [first] = heap;
    if (first === undefined || first.at > now) return undefined;
    const last = heap.pop() as Lease<T>;
    if (heap.length > 0) this.#sink(last);
    return first.item;
  }

  #sink(lease: Lease<T>): void {
    const heap = this.#heap;
    let hole = 0;
    for (;;) {
      let below = 2 * hole + 1;
      if (below >= heap.length) break;
      if (below + 1 < heap.length && (heap[below + 1] as Lease<T>).at < (heap[below] as Lease<T>).at) below++;
      const child = heap[below] as Lease<T>;
      if (child.at >= lease.at) break;
      heap[hole] = child;
      hole = below;
    }
    heap[hole] = lease;
  }
}
