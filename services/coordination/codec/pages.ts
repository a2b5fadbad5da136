/** Bytes of a page: with all that may stand beside it, and one more item, it fits into a message. */
const PAGE_BYTES = 512 * 1024;

/** Page is some of a list, and where what is behind them begins; empty if nothing is. */
export interface Page<M> {
  readonly items: M[];
  readonly next: string;
}

/** Listed is how a list is read in pages. */
export interface Listed<T, M> {
  /** Places are texts, of which no two items have the same; the list is in their order. What is put in or goes meanwhile moves no other item. */
  readonly placeOf: (item: T, i: number) => string;
  readonly write: (item: T) => M;
  /** Bytes of what was written. */
  readonly sizeOf: (written: M) => number;
}

/** pageOf gives as many items as fit into a message, one at least, from behind `after` on: the `next` of the page before, or empty. */
export function pageOf<T, M>(all: readonly T[], after: string, { placeOf, write, sizeOf }: Listed<T, M>): Page<M> {
  const rest = all
    .map((item, i) => ({ item, place: placeOf(item, i) }))
    .filter(({ place }) => place > after)
    .sort((a, b) => (a.place < b.place ? -1 : 1));
  const items: M[] = [];
  let bytes = 0;
  for (const [i, { item }] of rest.entries()) {
    const written = write(item);
    bytes += sizeOf(written);
    if (bytes > PAGE_BYTES && i > 0) return { items, next: rest[i - 1]?.place ?? "" };
    items.push(written);
  }
  return { items, next: "" };
}

/** numberPlace puts numbers below 2^53 in their order: sixteen characters. */
export function numberPlace(number: number): string {
  return String(number).padStart(16, "0");
}

/** newestFirst is a place that puts a later position of the log first: ten characters. */
export function newestFirst(index: number): string {
  return (2 ** 48 - index).toString(36).padStart(10, "0");
}
