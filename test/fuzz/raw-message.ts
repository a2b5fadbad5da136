import { type DescEnum, type DescField, type DescMessage, ScalarType } from "@bufbuild/protobuf";
import type { Prng } from "#kernel/prng.ts";

/** Hint gives a field the value that the world of a target would have there; undefined leaves it to chance. */
export type Hint = (field: DescField, prng: Prng) => bigint | number | string | Uint8Array | undefined;

/** Inner writes what a target knows better: messages of a type, by its name, and bytes fields that hold messages, by `type.field`. */
export type Inner = ReadonlyMap<string, (generator: Generator, depth: number) => Uint8Array>;

/** Ends of the number fields, and the numbers right beside them. Negative ones are written as ten bytes, as protobuf does. */
const NUMBERS: readonly bigint[] = [
  0n,
  1n,
  2n,
  127n,
  128n,
  65_535n,
  65_536n,
  (1n << 24n) + 1n,
  (1n << 31n) - 1n,
  1n << 31n,
  (1n << 32n) - 1n,
  1n << 32n,
  (1n << 48n) - 1n,
  1n << 48n,
  (1n << 53n) - 1n,
  1n << 53n,
  (1n << 53n) + 1n,
  (1n << 63n) - 1n,
  1n << 63n,
  (1n << 64n) - 1n,
];
const DOUBLES = [
  0,
  -0,
  1,
  -1,
  0.1,
  Number.NaN,
  Number.POSITIVE_INFINITY,
  Number.NEGATIVE_INFINITY,
  Number.MAX_VALUE,
  Number.MIN_VALUE,
  2 ** 53,
  2 ** 53 + 2,
  2 ** 63,
  -(2 ** 63),
];
const TEXTS = [
  "",
  "a",
  "full",
  "x".repeat(63),
  "x".repeat(64),
  "x".repeat(256),
  "é🧀",
  "\u0000",
  "\u001b[2J",
  "../../x",
  "__proto__",
  "{}",
  "[1,",
];
const NOT_UTF8 = [Uint8Array.of(0xff), Uint8Array.of(0xc3), Uint8Array.of(0x4b, 0xfc, 0x63), Uint8Array.of(0xed, 0xa0, 0x80)];
const LENGTHS = [0, 1, 16, 31, 32, 33, 64, 300];
const encoder = new TextEncoder();
const MAX_DEPTH = 7;

/** Bytes collects what is written. */
export class Bytes {
  #bytes = new Uint8Array(64);
  length = 0;

  byte(value: number): void {
    if (this.length === this.#bytes.length) this.#grow(1);
    this.#bytes[this.length++] = value;
  }

  raw(bytes: Uint8Array): void {
    if (this.length + bytes.length > this.#bytes.length) this.#grow(bytes.length);
    this.#bytes.set(bytes, this.length);
    this.length += bytes.length;
  }

  varint(value: bigint): void {
    let rest = BigInt.asUintN(64, value);
    while (rest > 0x7fn) {
      this.byte(Number(rest & 0x7fn) | 0x80);
      rest >>= 7n;
    }
    this.byte(Number(rest));
  }

  tag(field: number, wire: number): void {
    this.varint(BigInt(field) * 8n + BigInt(wire));
  }

  delimited(field: number, bytes: Uint8Array): void {
    this.tag(field, 2);
    this.varint(BigInt(bytes.length));
    this.raw(bytes);
  }

  take(): Uint8Array {
    return this.#bytes.slice(0, this.length);
  }

  #grow(more: number): void {
    const next = new Uint8Array(Math.max(this.#bytes.length * 2, this.length + more));
    next.set(this.#bytes.subarray(0, this.length));
    this.#bytes = next;
  }
}

const WIRE: Readonly<Partial<Record<ScalarType, number>>> = {
  [ScalarType.DOUBLE]: 1,
  [ScalarType.FIXED64]: 1,
  [ScalarType.SFIXED64]: 1,
  [ScalarType.FLOAT]: 5,
  [ScalarType.FIXED32]: 5,
  [ScalarType.SFIXED32]: 5,
  [ScalarType.STRING]: 2,
  [ScalarType.BYTES]: 2,
};

/**
 * Generator writes messages of any type of the schema, byte by byte, so that they hold what no encoder of ours would write: numbers
 * beyond their meaning, texts that are not UTF-8, types and fields of later versions, packed fields in pieces, fields twice, and
 * now and then bytes that are cut off. `wild` is how likely a field leaves what the hints say.
 */
export class Generator {
  readonly prng: Prng;
  readonly #hint: Hint;
  readonly #inner: Inner;
  wild = 0.05;

  constructor(prng: Prng, hint: Hint = () => undefined, inner: Inner = new Map()) {
    this.prng = prng;
    this.#hint = hint;
    this.#inner = inner;
  }

  /** pick chooses one of a list. */
  pick<T>(list: readonly T[]): T {
    return list[this.prng.below(list.length)] as T;
  }

  /** mood decides anew how wild the next message is: most are nearly sound, so that they get past the first check. */
  mood(): void {
    this.wild = this.pick([0, 0, 0.003, 0.01, 0.02, 0.05, 0.3]);
  }

  /** odd is true as often as the message is wild. */
  odd(): boolean {
    return this.prng.chance(this.wild);
  }

  /** number is one of the ends. */
  number(): bigint {
    return this.pick(NUMBERS);
  }

  /** message writes one. `only` chooses the member of the oneofs of this level, by name. */
  message(desc: DescMessage, depth = 0, only?: string): Uint8Array {
    const own = depth === 0 ? undefined : this.#inner.get(desc.typeName);
    if (own !== undefined && !this.prng.chance(this.wild)) return own(this, depth);
    const out = new Bytes();
    const { prng } = this;
    for (const oneof of desc.oneofs) {
      const named = oneof.fields.find(({ name }) => name === only);
      const field = named ?? this.pick(oneof.fields);
      if (!prng.chance(this.wild)) this.#field(out, field, depth);
      if (prng.chance(this.wild)) this.#field(out, this.pick(oneof.fields), depth);
    }
    for (const field of desc.fields) {
      if (field.oneof !== undefined || this.#leftOut(field, depth)) continue;
      this.#field(out, field, depth);
      if (prng.chance(this.wild / 2)) this.#field(out, field, depth);
    }
    if (prng.chance(this.wild)) this.#unknown(out, desc);
    return this.#damage(out.take());
  }

  #leftOut(field: DescField, depth: number): boolean {
    if (depth >= MAX_DEPTH && field.message !== undefined) return true;
    const known = field.message !== undefined || this.#inner.has(`${field.parent.typeName}.${field.name}`);
    return this.prng.chance(known || this.#hint(field, this.prng) !== undefined ? this.wild : 0.4);
  }

  #field(out: Bytes, field: DescField, depth: number): void {
    if (field.fieldKind === "map") return this.#map(out, field);
    if (field.fieldKind !== "list") return this.#one(out, field, depth);
    const count = this.prng.chance(this.wild / 4) ? 300 : this.prng.below(4);
    const wire = field.listKind === "scalar" ? (WIRE[field.scalar] ?? 0) : field.listKind === "enum" ? 0 : 2;
    if (wire === 2) for (let i = 0; i < count; i++) this.#one(out, field, depth);
    else this.#numbers(out, field, count, wire);
  }

  /** numbers writes a list packed, in pieces, or one by one: all three are the same to a reader. */
  #numbers(out: Bytes, field: DescField, count: number, wire: number): void {
    const pieces = this.prng.chance(this.wild) ? 3 : 1;
    for (let piece = 0; piece < pieces; piece++) {
      if (this.prng.chance(this.wild)) {
        for (let i = 0; i < count; i++) this.#one(out, field, 0);
        continue;
      }
      const inner = new Bytes();
      for (let i = 0; i < count; i++) this.#value(inner, field, wire);
      out.delimited(field.number, inner.take());
    }
  }

  #map(out: Bytes, field: DescField): void {
    const count = this.prng.chance(this.wild / 4) ? 200 : this.prng.below(3);
    for (let i = 0; i < count; i++) {
      const entry = new Bytes();
      if (!this.prng.chance(this.wild)) entry.delimited(1, this.#text(field, true));
      if (!this.prng.chance(this.wild)) entry.delimited(2, this.#text(field, true));
      out.delimited(field.number, entry.take());
    }
  }

  #one(out: Bytes, field: DescField, depth: number): void {
    if (field.message !== undefined) return out.delimited(field.number, this.message(field.message, depth + 1));
    if (field.scalar === ScalarType.STRING) return out.delimited(field.number, this.#text(field));
    if (field.scalar === ScalarType.BYTES) return out.delimited(field.number, this.#bytes(field, depth));
    const wire = field.enum === undefined ? (WIRE[field.scalar as ScalarType] ?? 0) : 0;
    out.tag(field.number, wire);
    this.#value(out, field, wire);
  }

  #value(out: Bytes, field: DescField, wire: number): void {
    if (field.scalar === ScalarType.DOUBLE || field.scalar === ScalarType.FLOAT) return out.raw(this.#double(field, wire));
    const number = field.enum === undefined ? this.#number(field) : this.#member(field, field.enum);
    if (wire === 0) return out.varint(number);
    const bytes = new DataView(new ArrayBuffer(8));
    bytes.setBigUint64(0, BigInt.asUintN(64, number), true);
    out.raw(new Uint8Array(bytes.buffer, 0, wire === 1 ? 8 : 4));
  }

  #double(field: DescField, wire: number): Uint8Array {
    const hint = this.prng.chance(this.wild) ? undefined : this.#hint(field, this.prng);
    const value = typeof hint === "number" ? hint : this.pick(DOUBLES);
    return new Uint8Array(wire === 1 ? Float64Array.of(value).buffer : Float32Array.of(value).buffer);
  }

  #number(field: DescField): bigint {
    const hint = this.prng.chance(this.wild) ? undefined : this.#hint(field, this.prng);
    if (typeof hint === "bigint") return hint;
    if (typeof hint === "number") return BigInt(hint);
    if (field.scalar === ScalarType.BOOL && !this.prng.chance(this.wild)) return BigInt(this.prng.below(2));
    return this.prng.chance(0.5) ? BigInt(this.prng.below(100)) : this.pick(NUMBERS);
  }

  #member(field: DescField, desc: DescEnum): bigint {
    const hint = this.#hint(field, this.prng);
    if (typeof hint === "number" && !this.prng.chance(this.wild)) return BigInt(hint);
    if (this.prng.chance(this.wild)) return this.pick([7n, 100n, (1n << 31n) - 1n, -1n, (1n << 63n) - 1n]);
    return BigInt(this.pick(desc.values).number);
  }

  #text(field: DescField, free = false): Uint8Array {
    const hint = free || this.prng.chance(this.wild) ? undefined : this.#hint(field, this.prng);
    if (typeof hint === "string") return encoder.encode(hint);
    return this.prng.chance(this.wild / 2) ? this.pick(NOT_UTF8) : encoder.encode(this.pick(TEXTS));
  }

  #bytes(field: DescField, depth: number): Uint8Array {
    const inner = this.#inner.get(`${field.parent.typeName}.${field.name}`);
    if (inner !== undefined && !this.prng.chance(this.wild)) return inner(this, depth + 1);
    const hint = this.prng.chance(this.wild) ? undefined : this.#hint(field, this.prng);
    if (hint instanceof Uint8Array) return hint;
    return Uint8Array.from({ length: this.pick(LENGTHS) }, () => this.prng.below(256));
  }

  #unknown(out: Bytes, desc: DescMessage): void {
    const numbers = new Set(desc.fields.map(({ number }) => number));
    const number = this.pick([99, 100, 101, 2_047, 536_870_911].filter((n) => !numbers.has(n)));
    const wire = this.pick([0, 1, 2, 5]);
    out.tag(number, wire);
    if (wire === 0) out.varint(this.pick(NUMBERS));
    else if (wire === 2) out.delimited(0, new Uint8Array(0));
    else out.raw(new Uint8Array(wire === 1 ? 8 : 4));
  }

  /** damage cuts a message off or turns a bit, rarely: what is no protobuf at all must be refused too. */
  #damage(bytes: Uint8Array): Uint8Array {
    if (bytes.length === 0 || !this.prng.chance(this.wild / 20)) return bytes;
    if (this.prng.chance(0.5)) return bytes.subarray(0, this.prng.below(bytes.length));
    const at = this.prng.below(bytes.length);
    bytes[at] = (bytes[at] as number) ^ (1 << this.prng.below(8));
    return bytes;
  }
}
