/** A set is kept by number if the numbers are at most so many times those that are in it, and so many anyway. */
const SPARSE = 8;
const SPARSE_LEAST = 1_024;
/** Memory of an entry of a Set, with what is spare. */
const ENTRY_BYTES = 40;

/**
 * RefSet is a set of refs below `end`, `count` at most, in memory that grows with their number: refs may lie far apart. With `all` it has
 * every one at first, if it is kept by number.
 */
export class RefSet {
  readonly #dense: Uint8Array | undefined;
  readonly #sparse = new Set<number>();
  /** bytes is about how much memory it takes. */
  readonly bytes: number;
  /** full: every ref was in it at first. */
  readonly full: boolean;

  constructor(end: number, count: number, all = false) {
    const dense = end <= SPARSE * count + SPARSE_LEAST;
    this.#dense = dense ? new Uint8Array(end) : undefined;
    this.full = dense && all;
    if (this.full) this.#dense?.fill(1);
    this.bytes = dense ? end : ENTRY_BYTES * count;
  }

  add(ref: number): void {
    if (this.#dense === undefined) this.#sparse.add(ref);
    else this.#dense[ref] = 1;
  }

  /** delete tells whether it was there. */
  delete(ref: number): boolean {
    if (this.#dense === undefined) return this.#sparse.delete(ref);
    if (this.#dense[ref] !== 1) return false;
    this.#dense[ref] = 0;
    return true;
  }
}
