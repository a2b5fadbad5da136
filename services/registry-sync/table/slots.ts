import { assert } from "#kernel/assert.ts";
import { copyInto, copyOf } from "#kernel/wire/bytes.ts";
import { COST } from "./cost.ts";

/** NO_SLOT is the answer for what is not there. */
export const NO_SLOT = 0xffff_ffff;

/** Key number in a slot that nobody owns: key numbers have 16 bits. */
const NO_KEY = 0xffff_ffff;

/** Slots are put together anew when so many times those that are held, and at least so many, were given out. */
const SPARSE = 2;
const SPARSE_LEAST = 4_096;

/** Refs up to so many times the nodes that have slots, and at least up to NEAR_LEAST, are found in an array. */
const NEAR = 8;
const NEAR_LEAST = 65_536;

/**
 * Slots keep the value of every (node, key) of one feed in flat arrays. The slots of a node lie side by side, in the order of its
 * keys; where a key was found last is where it is looked for first, which is right whenever nodes of one kind report. Nothing is
 * allocated and no object is touched per numeric update.
 *
 * SL1 a slot exists exactly for the keys of live nodes; an update without a slot is invalid.
 * SL2 fixed-width values are raw 64-bit words, low word first; others are bytes in `text`.
 * SL3 refs that lie close together are found in an array; it is never longer than what is held asks for.
 * SL4 memory follows the slots that are held, not how often the keys of nodes changed. A slot stays where it is until the next `assign`
 *    or `remove` of any node.
 */
export class Slots {
  /** Per ref: first slot, number of slots. */
  #ranges = new Uint32Array(2 * 64);
  /** The same of refs that are far above what is held, so that memory is that of the nodes and not of the greatest ref (SL3). */
  readonly #far = new Map<number, { first: number; length: number }>();
  /** Key number of each slot. */
  #keys = new Uint32Array(64).fill(NO_KEY);
  /** Per key that any node ever had: its index within the node where it was found last. */
  #hint = new Uint16Array(64);
  /** Freed ranges, by length. */
  readonly #free = new Map<number, number[]>();
  #next = 0;
  live = 0;
  /** How many there is memory for. */
  get capacity(): number {
    return this.has.length;
  }
  /** Raw words, two per slot. */
  bits = new Uint32Array(2 * 64);
  /** 1 when the slot has a value. */
  has = new Uint8Array(64);
  /** Value type of the slot. */
  type = new Uint8Array(64);
  text: (Uint8Array | undefined)[] = [];
  /** Bytes of all texts, and how many there are. */
  textBytes = 0;
  texts = 0;
  /** Nodes that have slots. */
  #nodes = 0;

  /** textCost is the memory that all texts take. */
  get textCost(): number {
    return this.textBytes + COST.text * this.texts;
  }

  /** costOf is the memory that the text of a slot takes. */
  costOf(slot: number): number {
    const text = this.text[slot];
    return text === undefined ? 0 : text.length + COST.text;
  }

  /** find answers the slot of (ref, key) or NO_SLOT. Any 32-bit numbers may be asked for. */
  find(ref: number, key: number): number {
    const ranges = this.#ranges;
    if (2 * ref >= ranges.length || key >= this.#hint.length) return this.#far.size === 0 ? NO_SLOT : this.#findFar(ref, key);
    const first = ranges[2 * ref] as number;
    const length = ranges[2 * ref + 1] as number;
    const keys = this.#keys;
    const hint = this.#hint[key] as number;
    if (hint < length && keys[first + hint] === key) return first + hint;
    for (let i = 0; i < length; i++) {
      if (keys[first + i] !== key) continue;
      this.#hint[key] = i;
      return first + i;
    }
    return NO_SLOT;
  }

  #findFar(ref: number, key: number): number {
    const range = this.#far.get(ref);
    if (range === undefined) return NO_SLOT;
    const at = this.#keys.subarray(range.first, range.first + range.length).indexOf(key);
    return at < 0 ? NO_SLOT : range.first + at;
  }

  /** assign gives a node slots for these keys, ascending and at most 65,536; values of keys that it had before are kept. */
  assign(ref: number, keys: readonly number[], typeOf: (key: number) => number): void {
    assert(keys.length <= 65_536, "too many keys for a node", { ref, keys: keys.length });
    for (const key of keys) if (key >= this.#hint.length) this.#widenHint(key);
    const [oldFirst, oldLength] = this.#rangeOf(ref);
    const first = keys.length === 0 ? 0 : this.#take(keys.length);
    const oldEnd = oldFirst + oldLength;
    let old = oldFirst;
    for (let i = 0; i < keys.length; i++) {
      const slot = first + i;
      const key = keys[i] as number;
      assert(i === 0 || key > (keys[i - 1] as number), "the keys of a node ascend", { ref, key });
      this.#keys[slot] = key;
      this.type[slot] = typeOf(key);
      this.has[slot] = 0;
      this.text[slot] = undefined;
      while (old < oldEnd && (this.#keys[old] as number) < key) old++;
      if (old < oldEnd && this.#keys[old] === key) this.moveFrom(this, old, slot);
    }
    this.#release(oldFirst, oldLength);
    this.#setRange(ref, first, keys.length);
    this.#nodes += Number(keys.length > 0) - Number(oldLength > 0);
    this.live += keys.length;
    this.#compact();
  }

  /**
   * compact puts the slots of all nodes side by side when most of what was given out is free: freed ranges are used again only by nodes
   * with exactly as many keys. As many slots were given out since the last time as are moved now, so that it costs an update nothing.
   */
  #compact(): void {
    if (this.#next <= SPARSE_LEAST || this.#next <= SPARSE * this.live) return;
    const size = Math.max(64, Math.ceil(this.live * 1.25));
    const from = { bits: this.bits, has: this.has, type: this.type, text: this.text, keys: this.#keys };
    this.bits = new Uint32Array(2 * size);
    this.has = new Uint8Array(size);
    this.type = new Uint8Array(size);
    this.text = [];
    this.#keys = new Uint32Array(size).fill(NO_KEY);
    this.#free.clear();
    this.#next = 0;
    const move = (first: number, length: number): number => {
      const to = this.#next;
      const end = first + length;
      this.bits.set(from.bits.subarray(2 * first, 2 * end), 2 * to);
      this.has.set(from.has.subarray(first, end), to);
      this.type.set(from.type.subarray(first, end), to);
      this.#keys.set(from.keys.subarray(first, end), to);
      for (let slot = first; slot < end; slot++) this.text[to + slot - first] = from.text[slot];
      this.#next += length;
      return to;
    };
    const ranges = this.#ranges;
    for (let at = 0; at < ranges.length; at += 2)
      if (ranges[at + 1] !== 0) ranges[at] = move(ranges[at] as number, ranges[at + 1] as number);
    for (const range of this.#far.values()) range.first = move(range.first, range.length);
  }

  #rangeOf(ref: number): readonly [number, number] {
    if (2 * ref < this.#ranges.length) return [this.#ranges[2 * ref] as number, this.#ranges[2 * ref + 1] as number];
    const range = this.#far.get(ref);
    return range === undefined ? [0, 0] : [range.first, range.length];
  }

  #setRange(ref: number, first: number, length: number): void {
    if (2 * ref >= this.#ranges.length && length > 0 && ref < NEAR * (this.#nodes + 1) + NEAR_LEAST) this.#widenRanges(ref);
    if (2 * ref < this.#ranges.length) {
      this.#ranges[2 * ref] = first;
      this.#ranges[2 * ref + 1] = length;
    } else if (length > 0) this.#far.set(ref, { first, length });
    else this.#far.delete(ref);
  }

  #widenRanges(ref: number): void {
    this.#ranges = grown(this.#ranges, 2 * (ref + 1));
    for (const [other, { first, length }] of this.#far) {
      if (2 * other >= this.#ranges.length) continue;
      this.#ranges[2 * other] = first;
      this.#ranges[2 * other + 1] = length;
      this.#far.delete(other);
    }
  }

  /** remove frees the slots of a node. */
  remove(ref: number): void {
    const [first, length] = this.#rangeOf(ref);
    if (length === 0) return;
    this.#release(first, length);
    this.#setRange(ref, 0, 0);
    this.#nodes--;
    this.#compact();
  }

  /** setText keeps a copy of the bytes; the old array is reused if it has the right length. */
  setText(slot: number, data: Uint8Array, start: number, end: number): void {
    const old = this.text[slot];
    this.has[slot] = 1;
    this.textBytes += end - start - (old === undefined ? 0 : old.length);
    if (old !== undefined && old.length === end - start) copyInto(old, data, start);
    else {
      if (old === undefined) this.texts++;
      this.text[slot] = copyOf(data, start, end);
    }
  }

  #widenHint(key: number): void {
    assert(key <= 0xffff, "key numbers have 16 bits", { key });
    const next = new Uint16Array(Math.min(65_536, Math.max(key + 1, 2 * this.#hint.length)));
    next.set(this.#hint);
    this.#hint = next;
  }

  /** moveFrom takes the value of a slot of another table that is not used any more. */
  moveFrom(other: Slots, from: number, to: number): void {
    this.bits[2 * to] = other.bits[2 * from] as number;
    this.bits[2 * to + 1] = other.bits[2 * from + 1] as number;
    this.has[to] = other.has[from] as number;
    const text = other.text[from];
    this.text[to] = text;
    if (text === undefined) return;
    this.textBytes += text.length;
    this.texts++;
  }

  #take(length: number): number {
    const free = this.#free.get(length)?.pop();
    if (free !== undefined) return free;
    const first = this.#next;
    this.#next += length;
    if (this.#next > this.has.length) {
      const size = Math.max(2 * this.has.length, this.#next);
      this.bits = grown(this.bits, 2 * size);
      this.#keys = grown(this.#keys, size);
      const has = new Uint8Array(size);
      const type = new Uint8Array(size);
      has.set(this.has);
      type.set(this.type);
      this.has = has;
      this.type = type;
    }
    return first;
  }

  #release(first: number, length: number): void {
    if (length === 0) return;
    this.#keys.fill(NO_KEY, first, first + length);
    for (let slot = first; slot < first + length; slot++) {
      const text = this.text[slot];
      if (text === undefined) continue;
      this.textBytes -= text.length;
      this.texts--;
      this.text[slot] = undefined;
    }
    this.live -= length;
    const free = this.#free.get(length);
    if (free === undefined) this.#free.set(length, [first]);
    else free.push(first);
  }
}

function grown(array: Uint32Array<ArrayBuffer>, length: number): Uint32Array<ArrayBuffer> {
  const next = new Uint32Array(Math.max(length, 2 * array.length));
  next.set(array);
  return next;
}
