import { type DescField, type DescMessage, fromBinary, type Message, type MessageShape, ScalarType } from "@bufbuild/protobuf";
import { assert } from "#kernel/assert.ts";
import { FoedusError } from "#kernel/error.ts";
import { ProtoWalk } from "#kernel/wire/proto-walk.ts";
import { mostOf } from "./field-rules.ts";

/** DECODED_MAX is how many bytes of memory one message may take once it is decoded: 768 KiB of the smallest capabilities that are valid. */
export const DECODED_MAX = 32 * 1024 * 1024;
/** Up to this length a message is decoded unseen: what is densest takes some 300 bytes of memory for each byte, 20 MiB. */
const UNSEEN_BYTES = 64 * 1024;

/** Nesting at which the generated code gives up, too. */
const DEPTH_MAX = 100;
/** Bounded fields that one message type may have. */
const BOUNDED_MAX = 32;

/** What things take in memory, bytes; decoded-size.spec.ts measures them. */
const OBJECT = 64;
const SLOT = 8;
const LIST = 32;
const MAP = 64;
const ONEOF = 48;
const ENTRY = 64;
const TEXT = 32;
const BYTES = 208;
const UNKNOWN = 320;
const BIG = 40;
/** From so many fields on an object is kept as a table. */
const MANY_FIELDS = 18;
const TABLE_SLOT = 44;

/** Shape is what the scan has to know of a field. `list`: numbers of it may stand packed. */
type Shape =
  | { readonly kind: "message"; readonly cost: number; readonly message: DescMessage }
  | { readonly kind: "text" | "bytes"; readonly cost: number }
  | { readonly kind: "entry"; readonly cost: number; readonly parts: ReadonlyMap<number, Shape> }
  | { readonly kind: "number"; readonly cost: number; readonly width: 0 | 4 | 8; readonly list: boolean };

/** Bounded is a field that may come so often at most: a list or map whose rules say so, or a message that stands alone. */
interface Bounded {
  /** Its place among those of its message. */
  readonly no: number;
  readonly name: string;
  readonly most: number;
  readonly kind: "list" | "map" | "message";
}

interface Plan {
  readonly cost: number;
  readonly fields: ReadonlyMap<number, Shape>;
  readonly bounded: ReadonlyMap<number, Bounded>;
}

const plans = new WeakMap<DescMessage, Plan>();

function planOf(desc: DescMessage): Plan {
  let plan = plans.get(desc);
  if (plan === undefined) {
    plan = {
      cost: costOf(desc),
      fields: new Map(desc.fields.map((field) => [field.number, shapeOf(field)])),
      bounded: boundedOf(desc),
    };
    plans.set(desc, plan);
  }
  return plan;
}

function boundedOf(desc: DescMessage): ReadonlyMap<number, Bounded> {
  const bounded = new Map<number, Bounded>();
  for (const field of desc.fields) {
    const { fieldKind: kind } = field;
    // Parts of a message that comes twice are put together: its lists would be as long as somebody likes.
    const most = kind === "message" ? 1 : mostOf(field);
    if (most === Number.POSITIVE_INFINITY || (kind !== "message" && kind !== "list" && kind !== "map")) continue;
    bounded.set(field.number, { no: bounded.size, name: field.name, most, kind });
  }
  assert(bounded.size <= BOUNDED_MAX, "a message type has more bounded fields than are counted", { type: desc.typeName });
  return bounded;
}

/** costOf a message in which nothing is set. */
function costOf({ fields, oneofs }: DescMessage): number {
  const slot = fields.length < MANY_FIELDS ? SLOT : TABLE_SLOT;
  const inside = fields.map(({ fieldKind, oneof }) => {
    if (fieldKind === "list") return slot - SLOT + LIST;
    if (fieldKind === "map") return slot - SLOT + MAP;
    return oneof === undefined ? slot : 0;
  });
  return inside.reduce((sum, cost) => sum + cost, OBJECT + oneofs.length * ONEOF);
}

function shapeOf(field: DescField): Shape {
  // An entry of a map is a message of key and value on the wire; neither is counted by itself.
  if (field.fieldKind === "map") {
    const key = scalarShape(field.mapKey, 0, false);
    const value = field.message === undefined ? scalarShape(field.scalar, 0, false) : messageShape(field.message, 0);
    return { kind: "entry", cost: ENTRY + 2 * TEXT, parts: new Map([key, value].map((shape, i) => [i + 1, shape])) };
  }
  const around = SLOT + (field.oneof === undefined ? 0 : ONEOF);
  if (field.message !== undefined) return messageShape(field.message, around);
  const list = field.fieldKind === "list";
  // One that stands alone has its slot in the message already.
  return scalarShape(field.enum === undefined ? field.scalar : undefined, around, list, !list && field.oneof === undefined);
}

function messageShape(message: DescMessage, around: number): Shape {
  return { kind: "message", cost: around + costOf(message), message };
}

/** scalarShape is that of a text, of bytes or of a number; without a type it is an enum. */
function scalarShape(scalar: ScalarType | undefined, around: number, list: boolean, alone = true): Shape {
  if (scalar === ScalarType.STRING) return { kind: "text", cost: around + TEXT };
  if (scalar === ScalarType.BYTES) return { kind: "bytes", cost: around + BYTES };
  const width = (scalar === undefined ? undefined : WIDTHS.get(scalar)) ?? 0;
  const big = scalar !== undefined && BIGS.has(scalar) ? BIG : 0;
  return { kind: "number", cost: alone ? big : around + big + SLOT, width, list };
}

const WIDTHS: ReadonlyMap<ScalarType, 4 | 8> = new Map([
  [ScalarType.FIXED32, 4],
  [ScalarType.SFIXED32, 4],
  [ScalarType.FLOAT, 4],
  [ScalarType.FIXED64, 8],
  [ScalarType.SFIXED64, 8],
  [ScalarType.DOUBLE, 8],
]);
const BIGS: ReadonlySet<ScalarType> = new Set([
  ScalarType.INT64,
  ScalarType.UINT64,
  ScalarType.SINT64,
  ScalarType.FIXED64,
  ScalarType.SFIXED64,
]);

/**
 * MessageScan walks over the bytes of a message as the decoder does, and adds up what they become. What is sound to the decoder must be sound here:
 * it reads a field by its type and not by the wire type of the tag, and lets a message end beyond the one that it is in. What is malformed
 * ends both; until then the decoder has made what was counted.
 */
export class MessageScan {
  readonly #walk: ProtoWalk;
  readonly #max: number;
  readonly #unknown: number;
  /** How often bounded fields came so far, of each message that the walk is inside of; nothing is counted without it. */
  #counts: Uint32Array | undefined;
  cost = 0;
  /** The first field that came more often than it may: its path from the message that was begun with. */
  tooMany: (Bounded & { path: string }) | undefined;

  /** It goes on where a walk is. An unknown field counts for so much. */
  constructor(walk: ProtoWalk, max: number, unknown: number) {
    this.#walk = walk;
    this.#max = max;
    this.#unknown = unknown;
  }

  /** bounded has the scan stop at a list that has too much in it. */
  bounded(): this {
    this.#counts = new Uint32Array((DEPTH_MAX + 2) * BOUNDED_MAX);
    return this;
  }

  /** message adds one that ends at `end`. */
  message(desc: DescMessage, end: number, depth: number): void {
    const walk = this.#walk;
    if (depth > DEPTH_MAX) walk.over = true;
    const { fields, bounded } = planOf(desc);
    if (this.#counts === undefined || bounded.size === 0) {
      while (walk.at < end && !walk.over) this.#field(fields, walk.varint(), this.#unknown, depth);
      return;
    }
    const base = Math.min(depth, DEPTH_MAX + 1) * BOUNDED_MAX;
    this.#counts.fill(0, base, base + BOUNDED_MAX);
    while (walk.at < end && !walk.over) {
      const tag = walk.varint();
      const list = bounded.get(tag >>> 3);
      this.#count = 1;
      this.#field(fields, tag, this.#unknown, depth);
      if (list !== undefined) this.#counted(list, base);
    }
  }

  /** How many elements the last field had: more than one if they stand packed. */
  #count = 1;

  #counted(list: Bounded, base: number): void {
    const counts = this.#counts as Uint32Array;
    const now = ((counts[base + list.no] as number) += this.#count);
    if (this.tooMany !== undefined) {
      const { path } = this.tooMany;
      this.tooMany.path = `${list.name}${list.kind === "list" ? `[${now - 1}]` : ""}.${path}`;
    } else if (now > list.most) {
      this.tooMany = { ...list, path: list.name };
      this.#walk.over = true;
    }
  }

  /** field adds the one behind a tag that was read, of a message. */
  field(desc: DescMessage, tag: number, depth: number): void {
    this.#field(planOf(desc).fields, tag, this.#unknown, depth);
  }

  #field(fields: ReadonlyMap<number, Shape>, tag: number, unknown: number, depth: number): void {
    const walk = this.#walk;
    const shape = fields.get(tag >>> 3);
    this.cost += shape?.cost ?? unknown;
    if (shape === undefined) walk.skip(tag);
    else this.#value(shape, tag & 7, depth);
    if (this.cost > this.#max || walk.at >= walk.bytes.length) walk.over = true;
  }

  #value(shape: Shape, wireType: number, depth: number): void {
    const walk = this.#walk;
    if (shape.kind === "number" && !(shape.list && wireType === 2)) {
      if (shape.width === 0) walk.varint();
      else walk.at += shape.width;
      return;
    }
    const length = walk.varint();
    const end = walk.at + length;
    if (shape.kind === "message") {
      this.message(shape.message, end, depth + 1);
      this.#count = 1;
      return;
    }
    if (shape.kind === "entry") {
      // The decoder keeps no unknown fields of these.
      while (walk.at < end && !walk.over) this.#field(shape.parts, walk.varint(), 0, depth);
      return;
    }
    if (shape.kind === "number") {
      const packed = this.#packed(shape.width, end);
      this.#count = packed;
      this.cost += shape.cost * packed;
    }
    if (shape.kind === "text") this.cost += 2 * Math.min(length, walk.bytes.length);
    walk.at = end;
  }

  /** packed is how many numbers there are up to `end`. */
  #packed(width: 0 | 4 | 8, end: number): number {
    const { at, bytes } = this.#walk;
    const last = Math.min(end, bytes.length);
    if (width !== 0) return Math.max(0, last - at) / width;
    let count = 0;
    for (let i = at; i < last; i++) if ((bytes[i] as number) < 0x80) count++;
    return count;
  }
}

/**
 * decodedSize is about how many bytes of memory a message takes when it is decoded, or more than `max` when that is more. Without
 * `unknownFields` it is what the decoder makes of it when it leaves those out.
 */
export function decodedSize(desc: DescMessage, bytes: Uint8Array, max: number = DECODED_MAX, unknownFields = true): number {
  const scan = new MessageScan(new ProtoWalk(bytes), max, unknownFields ? UNKNOWN : 0);
  scan.cost = planOf(desc).cost;
  scan.message(desc, bytes.length, 1);
  return scan.cost;
}

/**
 * checkDecoded throws LIMIT_EXCEEDED for a message that takes too much memory when it is decoded: two bytes of an empty message inside
 * another become an object of hundreds, so that what is bounded in bytes is not bounded by that. Short messages are not looked at.
 */
export function checkDecoded(desc: DescMessage, bytes: Uint8Array): void {
  if (bytes.length <= UNSEEN_BYTES || decodedSize(desc, bytes) <= DECODED_MAX) return;
  throw tooMuch(desc, bytes, DECODED_MAX);
}

function tooMuch(desc: DescMessage, bytes: Uint8Array, max: number): FoedusError {
  return new FoedusError({
    reason: "LIMIT_EXCEEDED",
    message: `the ${desc.typeName} has ${bytes.length} bytes, and what is in them takes more than ${max} bytes of memory; send less at once`,
    facts: { limit: "decoded_bytes", max: String(max) },
  });
}

/** decodeChecked is `fromBinary` of bytes that came from elsewhere. */
export function decodeChecked<D extends DescMessage>(desc: D, bytes: Uint8Array): MessageShape<D> {
  checkDecoded(desc, bytes);
  return fromBinary(desc, bytes);
}

const sizes = new WeakMap<Message, number>();
/** From this length on a request is worth its scan, some ten microseconds per KiB of the densest. */
const SCANNED_BYTES = 1024;
/** Requests of these types may take less than DECODED_MAX. */
const decodedMax = new WeakMap<DescMessage, number>();

/** boundDecoded sets how many bytes of memory a request of a type may take: what each byte of it costs makes less than DECODED_MAX right. */
export function boundDecoded(desc: DescMessage, max: number): void {
  decodedMax.set(desc, max);
}

/**
 * scanRequest looks at the bytes of a request before anything is made of them: it answers what it will take, 0 for a small one, or throws
 * INVALID_FIELD for a list that has too much in it and LIMIT_EXCEEDED for too much memory. Two bytes of an empty message cost a microsecond
 * to decode and to judge, so what is too long must not come that far.
 */
export function scanRequest(desc: DescMessage, bytes: Uint8Array): number {
  if (bytes.length <= SCANNED_BYTES) return 0;
  const max = decodedMax.get(desc) ?? DECODED_MAX;
  const scan = new MessageScan(new ProtoWalk(bytes), max, UNKNOWN).bounded();
  scan.cost = planOf(desc).cost;
  scan.message(desc, bytes.length, 1);
  const { tooMany, cost } = scan;
  if (tooMany !== undefined) {
    const { path, most, kind } = tooMany;
    const rule = kind === "message" ? "must come once" : `must have at most ${most} ${kind === "map" ? "entries" : "items"}`;
    throw new FoedusError({ reason: "INVALID_FIELD", message: `${path}: ${rule}`, field: path });
  }
  if (cost > max) throw tooMuch(desc, bytes, max);
  return cost;
}

/** noteDecoded remembers what a request takes, as scanRequest found it. */
export function noteDecoded(message: Message, size: number): void {
  if (size > 0) sizes.set(message, size);
}

/** decodedSizeOf a request, 0 for a small one. */
export function decodedSizeOf(message: Message): number {
  return sizes.get(message) ?? 0;
}
