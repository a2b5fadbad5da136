import { assert } from "../assert.ts";
import { compareBytes, compareText } from "../wire/bytes.ts";
import { ProtoReader, WireError } from "../wire/proto-reader.ts";
import { ProtoWriter } from "../wire/proto-writer.ts";
import { isWriter, type VersionCount, VersionVector } from "./version-vector.ts";

/** OrSetLimits bound a set. All replicas of it have the same. */
export interface OrSetLimits {
  /** Writers that it has ever had, those that were forgotten left out. */
  readonly writers: number;
  /** Elements that one writer has put in and that are there. */
  readonly perWriter: number;
  /** UTF-8 bytes of an element. */
  readonly elementBytes: number;
}

const encoder = new TextEncoder();

const DEFAULTS: OrSetLimits = { writers: 128, perWriter: 512, elementBytes: 256 };

/**
 * OrSet is a set that several replicas change without asking each other: an element is in it while an addition stands that no removal has
 * seen (Bieniusa et al., "An optimized conflict-free replicated set", arXiv 1210.3368). There are no tombstones: what was removed is what
 * the vector covers and no element has.
 *
 * OR1 merging is commutative, associative and idempotent, and whoever has merged the same has the same elements.
 * OR2 a removal wins over the additions that it has seen, and over no other: one that was made at the same time elsewhere stays.
 * OR3 memory is bounded: a writer has at most `perWriter` elements, which merging keeps: of what a writer has in a merged set, the replica
 *    that knows more of the writer had all. There are at most `writers`; a merge that would bring more is refused and changes nothing.
 * OR4 the vector grows with each merge and each addition.
 * OR5 equal sets are the same bytes, and only those bytes are read; what is read keeps the bounds.
 *
 * A replica believes what another merged: this is for replicas of one owner, or behind a signature of each writer.
 */
export class OrSet {
  readonly #limits: OrSetLimits;
  readonly #seen: VersionVector;
  /** Element to the additions that stand: per writer the last. */
  readonly #additions = new Map<string, Map<string, number>>();

  constructor(limits: OrSetLimits = DEFAULTS) {
    this.#limits = limits;
    this.#seen = new VersionVector(limits.writers);
  }

  get size(): number {
    return this.#additions.size;
  }

  has(element: string): boolean {
    return this.#additions.has(element);
  }

  /** elements are sorted. */
  elements(): string[] {
    return [...this.#additions.keys()].sort(compareText);
  }

  /** seen is how much of each writer this replica knows. */
  seen(): VersionVector {
    return this.#seen.copy();
  }

  /** add puts an element in, by a writer that only this replica writes as. False, and no change, where a bound forbids it (OR3). */
  add(writer: string, element: string): boolean {
    if (!this.#fits(element)) return false;
    const own = this.#additions.get(element)?.has(writer) === true;
    if (!own && this.#of(writer) >= this.#limits.perWriter) return false;
    const count = this.#seen.get(writer) + 1;
    if (!this.#seen.raise(writer, count)) return false;
    // The new addition has seen the others of this element and stands for them.
    this.#additions.set(element, new Map([[writer, count]]));
    return true;
  }

  /** remove takes an element out, as far as this replica has seen it (OR2). False if it is not in. */
  remove(element: string): boolean {
    return this.#additions.delete(element);
  }

  /** merge takes in all that another replica knows. False, and no change, where that made too many writers (OR3). */
  merge(other: OrSet): boolean {
    const before = this.#seen.copy();
    if (!this.#seen.merge(other.#seen)) return false;
    const kept = new Map<string, Map<string, number>>();
    for (const element of new Set([...this.#additions.keys(), ...other.#additions.keys()])) {
      const here = this.#additions.get(element) ?? NONE;
      const there = other.#additions.get(element) ?? NONE;
      const stand = new Map([...standing(here, there, other.#seen), ...standing(there, here, before)]);
      if (stand.size > 0) kept.set(element, stand);
    }
    this.#additions.clear();
    for (const [element, stand] of kept) this.#additions.set(element, stand);
    return true;
  }

  copy(): OrSet {
    const copy = new OrSet(this.#limits);
    assert(copy.merge(this), "a copy has as many writers", {});
    return copy;
  }

  /** encode gives the bytes: 1 the vector, and a repeated 2 of {1: element, repeated 2: {1: writer, 2: count}}, all sorted (OR5). */
  encode(): Uint8Array {
    const bytes = new ProtoWriter().bytes(1, this.#seen.encode());
    for (const element of this.elements()) {
      const additions = new VersionVector(this.#limits.writers, countsOf(this.#additions.get(element)!));
      bytes.message(2, (inner) => inner.text(1, element).bytes(2, additions.encode()));
    }
    return bytes.finish();
  }

  /** decode reads what `encode` wrote within these limits, and nothing else. Throws WireError. */
  static decode(bytes: Uint8Array, limits: OrSetLimits = DEFAULTS): OrSet {
    const set = new OrSet(limits);
    const reader = new ProtoReader(bytes);
    for (let field = reader.next(); field !== 0; field = reader.next()) {
      if (field === 1) set.#seen.merge(VersionVector.decode(reader.bytes(bytes.length), limits.writers));
      else if (field === 2) reader.message(bytes.length, (inner) => set.#read(inner));
      else reader.unknown();
    }
    set.#check();
    if (compareBytes(set.encode(), bytes) !== 0) throw new WireError("the set is not written as sets are");
    return set;
  }

  #read(reader: ProtoReader): void {
    let element = "";
    const additions = new Map<string, number>();
    for (let field = reader.next(); field !== 0; field = reader.next()) {
      if (field === 1) element = reader.text(this.#limits.elementBytes);
      else if (field === 2) {
        const vector = VersionVector.decode(reader.bytes(1 << 20), this.#limits.writers);
        for (const { writer, count } of vector.counts()) additions.set(writer, count);
      } else reader.unknown();
    }
    this.#additions.set(element, additions);
  }

  /** #check throws unless each addition was seen, is the addition of one element, and nobody has too many. */
  #check(): void {
    const taken = new Set<string>();
    const perWriter = new Map<string, number>();
    for (const additions of this.#additions.values()) {
      if (additions.size === 0) throw new WireError("an element of the set has no addition");
      for (const [writer, count] of additions) {
        const name = `${count} ${writer}`;
        if (!this.#seen.covers({ writer, count })) throw new WireError("an addition is beyond what the set has seen");
        if (taken.has(name)) throw new WireError("an addition is of two elements");
        taken.add(name);
        perWriter.set(writer, (perWriter.get(writer) ?? 0) + 1);
        if (perWriter.get(writer)! > this.#limits.perWriter) throw new WireError("a writer has too many elements in the set");
      }
    }
  }

  #fits(element: string): boolean {
    const { elementBytes } = this.#limits;
    return element.length <= elementBytes && encoder.encode(element).length <= elementBytes;
  }

  #of(writer: string): number {
    assert(isWriter(writer), "no such writer", { writer });
    let count = 0;
    for (const additions of this.#additions.values()) if (additions.has(writer)) count++;
    return count;
  }
}

const NONE: ReadonlyMap<string, number> = new Map();

/** standing are the additions of one side that the other side has too, or has not seen: one that it has seen and not has was removed. */
function* standing(
  mine: ReadonlyMap<string, number>,
  theirs: ReadonlyMap<string, number>,
  theySaw: VersionVector,
): Generator<readonly [string, number]> {
  for (const [writer, count] of mine) if (theirs.get(writer) === count || !theySaw.covers({ writer, count })) yield [writer, count];
}

function countsOf(additions: ReadonlyMap<string, number>): VersionCount[] {
  return [...additions].map(([writer, count]) => ({ writer, count }));
}
