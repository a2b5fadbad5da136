import { assert } from "../assert.ts";
import { compareBytes, compareText } from "../wire/bytes.ts";
import { ProtoReader, WireError } from "../wire/proto-reader.ts";
import { ProtoWriter } from "../wire/proto-writer.ts";

/** VersionCount says how much of a writer is known: everything up to the count, which begins with 1. */
export interface VersionCount {
  readonly writer: string;
  readonly count: number;
}

/** Causality is how two vectors stand to each other: `before` has seen less of what the other has seen, `concurrent` each something else. */
export type Causality = "equal" | "before" | "after" | "concurrent";

/** VECTOR_WRITERS is how many writers a vector has at most, unless it is told otherwise: a hundred hubs, and some that left. */
export const VECTOR_WRITERS = 128;

const encoder = new TextEncoder();

/** Bytes of a writer's name. */
const WRITER_BYTES = 128;
/** Bytes of one count with its framing. */
const COUNT_BYTES = WRITER_BYTES + 16;

/**
 * VersionVector says how much is known of each of some writers.
 *
 * VV1 merging is commutative, associative and idempotent: of each writer the greater count.
 * VV2 nothing but `forget` makes a count smaller; a merged vector is never before either of the two.
 * VV3 there are at most `maxWriters`: what would bring more is refused and changes nothing.
 * VV4 equal vectors are the same bytes, and only those bytes are read.
 */
export class VersionVector {
  readonly #maxWriters: number;
  readonly #counts: Map<string, number>;

  constructor(maxWriters: number = VECTOR_WRITERS, counts: Iterable<VersionCount> = []) {
    this.#maxWriters = maxWriters;
    this.#counts = new Map();
    for (const { writer, count } of counts) assert(this.raise(writer, count), "no such vector", { writer, count });
  }

  get size(): number {
    return this.#counts.size;
  }

  /** get is the count of a writer; 0 if nothing of it is known. */
  get(writer: string): number {
    return this.#counts.get(writer) ?? 0;
  }

  /** covers tells whether what a writer did at a count is known. */
  covers({ writer, count }: VersionCount): boolean {
    return count <= this.get(writer);
  }

  /** raise makes a count at least as great. False, and no change, if it is none, or the writer is one too many (VV3). */
  raise(writer: string, count: number): boolean {
    if (!isWriter(writer) || !Number.isSafeInteger(count) || count < 1) return false;
    if (!this.#counts.has(writer) && this.#counts.size >= this.#maxWriters) return false;
    if (count > this.get(writer)) this.#counts.set(writer, count);
    return true;
  }

  /** compare tells what this vector is to another. */
  compare(other: VersionVector): Causality {
    const more = this.#sawMoreThan(other);
    const less = other.#sawMoreThan(this);
    if (more) return less ? "concurrent" : "after";
    return less ? "before" : "equal";
  }

  /** merge takes in all of another vector. False, and no change, if that made too many writers (VV3). */
  merge(other: VersionVector): boolean {
    let writers = this.#counts.size;
    for (const writer of other.#counts.keys()) if (!this.#counts.has(writer)) writers++;
    if (writers > this.#maxWriters) return false;
    for (const [writer, count] of other.#counts) if (count > this.get(writer)) this.#counts.set(writer, count);
    return true;
  }

  /** forget drops a writer that never writes again under that name. All vectors have to, or it comes back with the next merge. */
  forget(writer: string): void {
    this.#counts.delete(writer);
  }

  /** counts lists what is known, sorted by writer. */
  counts(): VersionCount[] {
    return [...this.#counts].map(([writer, count]) => ({ writer, count })).sort((a, b) => compareText(a.writer, b.writer));
  }

  copy(): VersionVector {
    const copy = new VersionVector(this.#maxWriters);
    for (const [writer, count] of this.#counts) copy.#counts.set(writer, count);
    return copy;
  }

  /** encode gives the bytes: a repeated field 1 of {1: writer, 2: count}, sorted (VV4). */
  encode(): Uint8Array {
    const writer = new ProtoWriter();
    for (const one of this.counts()) writer.message(1, (inner) => inner.text(1, one.writer).uint(2, one.count));
    return writer.finish();
  }

  /** decode reads what `encode` wrote, and nothing else. Throws WireError. */
  static decode(bytes: Uint8Array, maxWriters: number = VECTOR_WRITERS): VersionVector {
    const vector = new VersionVector(maxWriters);
    const reader = new ProtoReader(bytes);
    for (let field = reader.next(); field !== 0; field = reader.next()) {
      if (field !== 1) reader.unknown();
      const { writer, count } = reader.message(COUNT_BYTES, readCount);
      if (!vector.raise(writer, count)) throw new WireError("a count of the vector is none, or its writer is one too many");
    }
    if (compareBytes(vector.encode(), bytes) !== 0) throw new WireError("the vector is not written as vectors are");
    return vector;
  }

  #sawMoreThan(other: VersionVector): boolean {
    for (const [writer, count] of this.#counts) if (count > other.get(writer)) return true;
    return false;
  }
}

/** isWriter tells whether a text can be the name of a writer: 1 to 128 bytes. */
export function isWriter(text: string): boolean {
  return text !== "" && text.length <= WRITER_BYTES && encoder.encode(text).length <= WRITER_BYTES;
}

function readCount(reader: ProtoReader): VersionCount {
  let writer = "";
  let count = 0;
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) writer = reader.text(WRITER_BYTES);
    else if (field === 2) count = reader.uint();
    else reader.unknown();
  }
  return { writer, count };
}
