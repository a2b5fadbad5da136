import { assert } from "#kernel/assert.ts";
import { fieldLength, putField, putTag, putVarint, varintLength } from "./wire.ts";

/** Field numbers: UpdateStateRequest.batch; UpdateBatch.seq and .state; the columns of StateBlock. */
const BATCH = 2;
const STATE = 2;
const SEQ_TAG = 0x08;
const [REF, KEY, NUM, INT, LEN, DATA] = [1, 2, 3, 4, 5, 6] as const;

/** DEAD is the ref of a field that cannot be sent: its updates are left out. */
export const DEAD = 0xffff_ffff;

/**
 * UpdateColumns collects state changes by field (a number that the sender gives to each pair of node and key) in three sections
 * of flat arrays, and encodes them as one UpdateStateRequest. Nothing is allocated per change; the object is used again.
 */
export class UpdateColumns {
  readonly capacity: number;
  readonly maxData: number;
  /** Number that the sender gives to what is collected; it rises. */
  id = 0;
  /** Number on the stream; another one each time that it is sent. */
  seq = 0;
  /** Greatest field in it, -1 when empty. */
  maxField = -1;
  numCount = 0;
  intCount = 0;
  textCount = 0;
  dataLength = 0;
  readonly numField: Uint32Array;
  readonly num: Float64Array;
  #intField: Uint32Array | undefined;
  #int: BigInt64Array | undefined;
  #textField: Uint32Array | undefined;
  #len: Uint32Array | undefined;
  #data: Uint8Array = new Uint8Array(0);
  readonly #ref: Uint32Array;
  readonly #key: Uint32Array;

  constructor(capacity: number, maxData: number) {
    this.capacity = capacity;
    this.maxData = maxData;
    this.numField = new Uint32Array(capacity);
    this.num = new Float64Array(capacity);
    this.#ref = new Uint32Array(capacity);
    this.#key = new Uint32Array(capacity);
  }

  /** count is how many changes are in it. */
  get count(): number {
    return this.numCount + this.intCount + this.textCount;
  }

  /** addNumber appends a BOOL or DOUBLE. The batch must not be full. */
  addNumber(field: number, value: number): void {
    const at = this.numCount++;
    this.numField[at] = field;
    this.num[at] = value;
    if (field > this.maxField) this.maxField = field;
  }

  /** addInt appends a SINT64. */
  addInt(field: number, value: bigint): void {
    this.#intField ??= new Uint32Array(this.capacity);
    this.#int ??= new BigInt64Array(this.capacity);
    this.#intField[this.intCount] = field;
    this.#int[this.intCount++] = value;
    if (field > this.maxField) this.maxField = field;
  }

  /** fits tells whether a value of so many bytes has room. */
  fits(bytes: number): boolean {
    return this.dataLength + bytes <= this.maxData || this.textCount === 0;
  }

  /** addText appends a STRING, BYTES or JSON. */
  addText(field: number, value: Uint8Array): void {
    this.#textField ??= new Uint32Array(this.capacity);
    this.#len ??= new Uint32Array(this.capacity);
    this.#reserve(this.dataLength + value.length);
    this.#textField[this.textCount] = field;
    this.#len[this.textCount++] = value.length;
    this.#data.set(value, this.dataLength);
    this.dataLength += value.length;
    if (field > this.maxField) this.maxField = field;
  }

  #reserve(length: number): void {
    if (length <= this.#data.length) return;
    const next = new Uint8Array(Math.max(length, this.#data.length * 2, 4_096));
    next.set(this.#data.subarray(0, this.dataLength));
    this.#data = next;
  }

  /** clear empties it for the next batch. */
  clear(): void {
    this.id = 0;
    this.seq = 0;
    this.maxField = -1;
    this.numCount = 0;
    this.intCount = 0;
    this.textCount = 0;
    this.dataLength = 0;
  }

  /** fieldAt is the field of a change, counted as encoded: numbers, then integers, then texts. */
  fieldAt(index: number): number {
    if (index < this.numCount) return this.numField[index] as number;
    const second = index - this.numCount;
    if (second < this.intCount) return this.#intField?.[second] as number;
    return this.#textField?.[second - this.intCount] as number;
  }

  /** retain keeps only the changes for which `keep` is true (`index` as in fieldAt, before the change), in order. Answers how many went. */
  retain(keep: (field: number, index: number) => boolean): number {
    const before = this.count;
    const { numCount, intCount } = this;
    let kept = 0;
    for (let i = 0; i < numCount; i++) {
      if (!keep(this.numField[i] as number, i)) continue;
      this.numField[kept] = this.numField[i] as number;
      this.num[kept++] = this.num[i] as number;
    }
    this.numCount = kept;
    this.#retainInts(keep, numCount);
    this.#retainTexts(keep, numCount + intCount);
    return before - this.count;
  }

  #retainInts(keep: (field: number, index: number) => boolean, from: number): void {
    const [fields, values] = [this.#intField, this.#int];
    if (fields === undefined || values === undefined) return;
    let kept = 0;
    for (let i = 0; i < this.intCount; i++) {
      if (!keep(fields[i] as number, from + i)) continue;
      fields[kept] = fields[i] as number;
      values[kept++] = values[i] as bigint;
    }
    this.intCount = kept;
  }

  #retainTexts(keep: (field: number, index: number) => boolean, from: number): void {
    const [fields, lengths] = [this.#textField, this.#len];
    if (fields === undefined || lengths === undefined) return;
    let [kept, at, end] = [0, 0, 0];
    for (let i = 0; i < this.textCount; i++) {
      const length = lengths[i] as number;
      if (keep(fields[i] as number, from + i)) {
        this.#data.copyWithin(end, at, at + length);
        fields[kept] = fields[i] as number;
        lengths[kept++] = length;
        end += length;
      }
      at += length;
    }
    this.textCount = kept;
    this.dataLength = end;
  }

  /**
   * encode writes the changes as an UpdateStateRequest; `refOf` and `keyOf` translate fields into the numbers of the stream.
   * Changes of DEAD fields must have been retained away.
   */
  encode(refOf: Uint32Array, keyOf: Uint32Array): Buffer {
    const { count, numCount, intCount, textCount } = this;
    this.#translate(refOf, keyOf);
    const columns =
      (4 * count > 0 ? 2 * fieldLength(4 * count) : 0) +
      sized(8 * numCount) +
      sized(8 * intCount) +
      sized(4 * textCount) +
      sized(this.dataLength);
    const inner = 1 + varint53Length(this.seq) + fieldLength(columns);
    const bytes = Buffer.allocUnsafeSlow(fieldLength(inner));
    let at = putTag(bytes, 0, BATCH, inner);
    bytes[at] = SEQ_TAG;
    at = putVarint53(bytes, at + 1, this.seq);
    at = putTag(bytes, at, STATE, columns);
    at = putColumn(bytes, at, REF, this.#ref, 4 * count);
    at = putColumn(bytes, at, KEY, this.#key, 4 * count);
    at = putColumn(bytes, at, NUM, this.num, 8 * numCount);
    at = putColumn(bytes, at, INT, this.#int, 8 * intCount);
    at = putColumn(bytes, at, LEN, this.#len, 4 * textCount);
    at = putColumn(bytes, at, DATA, this.#data, this.dataLength);
    assert(at === bytes.length, "batch has another length than computed", { at, length: bytes.length });
    return bytes;
  }

  #translate(refOf: Uint32Array, keyOf: Uint32Array): void {
    const [ref, key] = [this.#ref, this.#key];
    const { numField, numCount, intCount } = this;
    for (let i = 0; i < numCount; i++) {
      const field = numField[i] as number;
      ref[i] = refOf[field] as number;
      key[i] = keyOf[field] as number;
    }
    for (let i = numCount; i < this.count; i++) {
      const field =
        i - numCount < intCount ? (this.#intField?.[i - numCount] as number) : (this.#textField?.[i - numCount - intCount] as number);
      ref[i] = refOf[field] as number;
      key[i] = keyOf[field] as number;
    }
  }
}

function sized(length: number): number {
  return length === 0 ? 0 : fieldLength(length);
}

function putColumn(
  into: Buffer,
  at: number,
  field: number,
  column: { readonly buffer: ArrayBufferLike; readonly byteOffset: number } | undefined,
  length: number,
): number {
  return length === 0 || column === undefined ? at : putField(into, at, field, new Uint8Array(column.buffer, column.byteOffset, length));
}

function varint53Length(value: number): number {
  return value < 0x1000_0000 ? varintLength(value) : 4 + varintLength(Math.floor(value / 0x1000_0000));
}

function putVarint53(into: Uint8Array, at: number, value: number): number {
  if (value < 0x1000_0000) return putVarint(into, at, value);
  let rest = value;
  let next = at;
  while (rest > 0x7f) {
    into[next++] = (rest % 128) | 0x80;
    rest = Math.floor(rest / 128);
  }
  into[next++] = rest;
  return next;
}
