/*
 * Protobuf's wire format for numbers that fit into a double: the hot frames and the journal are written and read with it.
 * Generated code reads 64-bit fields as bigint and makes an object per message; here they are plain numbers.
 * (https://protobuf.dev/programming-guides/encoding)
 */
import { copyOf } from "#kernel/wire/bytes.ts";

/** WireError says that bytes are not what they should be. */
export class WireError extends Error {}

/** FieldError says which field it is: its number is larger than anything that the field can mean. */
export class FieldError extends WireError {
  readonly field: string;

  constructor(field: string, end: number) {
    super(`${field} is not below ${end}`);
    this.field = field;
  }
}

/** CountError says which list is longer than it may be. */
export class CountError extends WireError {
  readonly field: string;
  readonly most: number;

  constructor(field: string, most: number) {
    super(`${field} has more than ${most} entries`);
    this.field = field;
    this.most = most;
  }
}

const HIGH = 0x1_0000_0000;
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const encoder = new TextEncoder();
/** Up to this length a loop over the characters is faster than a call of TextDecoder or TextEncoder. */
const SHORT = 48;
/** Up to this length a loop that only looks whether all of it is ASCII is, too: it makes no text. */
const SHORT_CHECK = 1_024;
/** Bytes kept for the length of an inner message: up to 2 MiB. */
const LENGTH_BYTES = 3;
const VARINT_BYTES = 10;
/** Weight of the last byte that a varint may have, the tenth. */
const LAST_SCALE = 2 ** 63;

/** Reader walks over one message. Lengths are checked; what is malformed throws WireError. */
export class Reader {
  readonly bytes: Uint8Array;
  pos: number;
  readonly end: number;

  constructor(bytes: Uint8Array, start = 0, end = bytes.length) {
    this.bytes = bytes;
    this.pos = start;
    this.end = end;
  }

  get done(): boolean {
    return this.pos >= this.end;
  }

  /** tag reads a field's tag: number << 3 | wire type. */
  tag(): number {
    return this.uint();
  }

  /** uint reads a varint up to 2^53 - 1. */
  uint(): number {
    const byte = this.bytes[this.pos] ?? 0x100;
    if (byte < 0x80) return this.#moved(this.pos + 1, byte);
    const value = this.#varint();
    if (value > Number.MAX_SAFE_INTEGER) throw new WireError("number is too large");
    return value;
  }

  /** below reads a varint that must be smaller than `end`; a larger one is a FieldError that names the field. */
  below(end: number, field: string): number {
    const value = this.#varint();
    if (value >= end) throw new FieldError(field, end);
    return value;
  }

  /** varint reads any varint of at most ten bytes; what is larger than 2^53 - 1 comes rounded. */
  #varint(): number {
    const { bytes } = this;
    let pos = this.pos;
    let byte = bytes[pos++] ?? 0x100;
    if (byte < 0x80) return this.#moved(pos, byte);
    let low = byte & 0x7f;
    for (let shift = 7; shift < 28; shift += 7) {
      byte = bytes[pos++] ?? 0x100;
      low |= (byte & 0x7f) << shift;
      if (byte < 0x80) return this.#moved(pos, low);
    }
    byte = bytes[pos++] ?? 0x100;
    let value = low + (byte & 0x7f) * 0x1000_0000;
    for (let scale = 0x8_0000_0000; byte >= 0x80; scale *= 0x80) {
      byte = bytes[pos++] ?? 0x100;
      if (byte > 0xff) break;
      if (scale > LAST_SCALE) throw new WireError("number has more than ten bytes");
      value += (byte & 0x7f) * scale;
    }
    return this.#moved(pos, value);
  }

  bool(): boolean {
    return this.#varint() !== 0;
  }

  /** enumeration reads the number of an enum: negative ones, which no enum of ours has, count as 2^31 - 1. */
  enumeration(): number {
    return Math.min(this.#varint(), 0x7fff_ffff);
  }

  /** zigzag reads a sint64; beyond 2^53 it comes rounded. */
  zigzag(): number {
    const { pos } = this;
    const byte = this.bytes[pos] ?? 0x100;
    if (byte < 0x80 && pos < this.end) return this.#moved(pos + 1, (byte >>> 1) ^ -(byte & 1));
    this.#varint();
    let raw = 0n;
    for (let at = this.pos - 1; at >= pos; at--) raw = (raw << 7n) | BigInt((this.bytes[at] as number) & 0x7f);
    raw = BigInt.asUintN(64, raw);
    return Number((raw >> 1n) ^ -(raw & 1n));
  }

  double(): number {
    const at = this.pos;
    this.#moved(at + 8, 0);
    return new DataView(this.bytes.buffer, this.bytes.byteOffset + at, 8).getFloat64(0, true);
  }

  /** sub reads a length and gives a reader over that many bytes. */
  sub(): Reader {
    const length = this.uint();
    const start = this.pos;
    this.#moved(start + length, 0);
    return new Reader(this.bytes, start, start + length);
  }

  /** view reads bytes without copying them; it pins the whole message in memory. */
  view(): Uint8Array {
    const length = this.uint();
    const start = this.pos;
    this.#moved(start + length, 0);
    return this.bytes.subarray(start, start + length);
  }

  string(): string {
    const length = this.uint();
    const start = this.pos;
    const end = start + length;
    this.#moved(end, 0);
    if (length > SHORT) return this.#decode(start, end);
    let text = "";
    for (let i = start; i < end; i++) {
      const byte = this.bytes[i] as number;
      if (byte >= 0x80) return this.#decode(start, end);
      text += String.fromCharCode(byte);
    }
    return text;
  }

  /** text reads a string as its bytes, a view of the message, and checks that they are text. */
  text(): Uint8Array {
    const view = this.view();
    const start = this.pos - view.length;
    if (view.length > SHORT_CHECK || !isAscii(this.bytes, start, this.pos)) this.#decode(start, this.pos);
    return view;
  }

  /** skip passes over a field of the given tag. */
  skip(tag: number): void {
    const type = tag & 7;
    if (tag < 8 || tag > 0xffff_ffff) throw new WireError("there is no such field");
    if (type === 0) this.#skipVarint();
    else if (type === 1) this.#moved(this.pos + 8, 0);
    else if (type === 2) this.sub();
    else if (type === 5) this.#moved(this.pos + 4, 0);
    else throw new WireError("unknown wire type");
  }

  /** Any varint may be skipped, also a negative one of ten bytes. */
  #skipVarint(): void {
    let pos = this.pos;
    while ((this.bytes[pos] ?? 0) >= 0x80) pos++;
    if (pos - this.pos >= VARINT_BYTES) throw new WireError("number has more than ten bytes");
    this.#moved(pos + 1, 0);
  }

  #decode(start: number, end: number): string {
    try {
      return decoder.decode(this.bytes.subarray(start, end));
    } catch {
      throw new WireError("text is not UTF-8");
    }
  }

  #moved(pos: number, value: number): number {
    if (pos > this.end) throw new WireError("message is cut short");
    this.pos = pos;
    return value;
  }
}

function isAscii(bytes: Uint8Array, from: number, to: number): boolean {
  for (let i = from; i < to; i++) if ((bytes[i] as number) >= 0x80) return false;
  return true;
}

/** Writer builds one message in a buffer that it keeps between uses. */
export class Writer {
  #bytes: Uint8Array;
  #view: DataView;
  length = 0;

  constructor(capacity = 1024) {
    this.#bytes = new Uint8Array(capacity);
    this.#view = new DataView(this.#bytes.buffer);
  }

  /** reset starts a new message. */
  reset(): void {
    this.length = 0;
  }

  /** take copies what was written and starts a new message. */
  take(): Uint8Array {
    const copy = copyOf(this.#bytes, 0, this.length);
    this.length = 0;
    return copy;
  }

  uint(value: number): void {
    this.#reserve(10);
    const bytes = this.#bytes;
    let rest = value;
    let at = this.length;
    while (rest >= HIGH) {
      bytes[at++] = (rest % 0x80) | 0x80;
      rest = Math.floor(rest / 0x80);
    }
    rest = rest >>> 0;
    while (rest >= 0x80) {
      bytes[at++] = (rest & 0x7f) | 0x80;
      rest >>>= 7;
    }
    bytes[at++] = rest;
    this.length = at;
  }

  /** uintField writes a number under a tag, unless it is zero. */
  uintField(tag: number, value: number): void {
    if (value === 0) return;
    this.uint(tag);
    this.uint(value);
  }

  doubleField(tag: number, value: number): void {
    if (Object.is(value, 0)) return;
    this.uint(tag);
    this.#reserve(8);
    this.#view.setFloat64(this.length, value, true);
    this.length += 8;
  }

  /** raw appends bytes as they are. */
  raw(bytes: Uint8Array): void {
    this.#reserve(bytes.length);
    this.#bytes.set(bytes, this.length);
    this.length += bytes.length;
  }

  /** bytes writes a length and the bytes. */
  bytes(bytes: Uint8Array): void {
    this.uint(bytes.length);
    this.raw(bytes);
  }

  /** string writes a length and the text in UTF-8. */
  string(text: string): void {
    const length = text.length;
    if (length > SHORT) return this.bytes(encoder.encode(text));
    this.#reserve(length + 1);
    const start = this.length;
    const bytes = this.#bytes;
    bytes[start] = length;
    for (let i = 0; i < length; i++) {
      const code = text.charCodeAt(i);
      if (code >= 0x80) return this.bytes(encoder.encode(text));
      bytes[start + 1 + i] = code;
    }
    this.length = start + 1 + length;
  }

  /** stringField writes a text under a tag, unless it is empty. */
  stringField(tag: number, text: string): void {
    if (text === "") return;
    this.uint(tag);
    this.string(text);
  }

  /** packed writes numbers as a packed repeated field, unless there are none. */
  packed(tag: number, numbers: readonly number[]): void {
    if (numbers.length === 0) return;
    const start = this.open(tag);
    for (const n of numbers) this.uint(n);
    this.close(start);
  }

  /**
   * packedUpTo is `packed` from one index on, in groups of `group` numbers, until the message is `limit` bytes long. It answers the index
   * at which it stopped.
   */
  packedUpTo(tag: number, numbers: readonly number[], from: number, group: number, limit: number): number {
    if (from >= numbers.length || this.length >= limit) return from;
    const start = this.open(tag);
    let next = from;
    while (next < numbers.length && this.length < limit) {
      const end = Math.min(next + group, numbers.length);
      while (next < end) this.uint(numbers[next++] as number);
    }
    this.close(start);
    return next;
  }

  /** open begins a message inside this one and keeps room for its length; `close` with the answer ends it. */
  open(tag: number): number {
    this.uint(tag);
    this.#reserve(LENGTH_BYTES);
    this.length += LENGTH_BYTES;
    return this.length;
  }

  /** close writes the length of the inner message, padded to a fixed width, which every reader of varints accepts. */
  close(start: number): void {
    let size = this.length - start;
    const bytes = this.#bytes;
    for (let at = start - LENGTH_BYTES; at < start - 1; at++) {
      bytes[at] = (size & 0x7f) | 0x80;
      size >>>= 7;
    }
    if (size > 0x7f) throw new WireError("message is too long");
    bytes[start - 1] = size;
  }

  #reserve(more: number): void {
    const needed = this.length + more;
    if (needed <= this.#bytes.length) return;
    const next = new Uint8Array(Math.max(needed, this.#bytes.length * 2));
    next.set(this.#bytes.subarray(0, this.length));
    this.#bytes = next;
    this.#view = new DataView(next.buffer);
  }
}
