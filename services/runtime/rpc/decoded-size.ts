import { type DescField, type DescMessage, fromBinary, type Message, type MessageShape, ScalarType } from "@bufbuild/protobuf";
import { FoedusError } from "#kernel/error.ts";
import { ProtoWalk } from "#kernel/wire/proto-walk.ts";

/** DECODED_MAX is how many bytes of memory one message may take once it is decoded: 768 KiB of the smallest capabilities that are valid. */
export const DECODED_MAX = 32 * 1024 * 1024;
/** Up to this length a message is decoded unseen: what is densest takes some 300 bytes of memory for each byte, 20 MiB. */
const UNSEEN_BYTES = 64 * 1024;

/** Nesting at which the generated code gives up, too. */
const DEPTH_MAX = 100;

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

interface Plan {
  readonly cost: number;
  readonly fields: ReadonlyMap<number, Shape>;
}

const plans = new WeakMap<DescMessage, Plan>();

function planOf(desc: DescMessage): Plan {
  let plan = plans.get(desc);
  if (plan === undefined) {
    plan = { cost: costOf(desc), fields: new Map(desc.fields.map((field) => [field.number, shapeOf(field)])) };
    plans.set(desc, plan);
  }
  return plan;
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
  cost = 0;

  /** It goes on where a walk is. An unknown field counts for so much. */
  constructor(walk: ProtoWalk, max: number, unknown: number) {
    this.#walk = walk;
    this.#max = max;
    this.#unknown = unknown;
  }

  /** message adds one that ends at `end`. */
  message(desc: DescMessage, end: number, depth: number): void {
    const walk = this.#walk;
    if (depth > DEPTH_MAX) walk.over = true;
    const { fields } = planOf(desc);
    while (walk.at < end && !walk.over) this.#field(fields, walk.varint(), this.#unknown, depth);
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
    if (shape.kind === "message") return this.message(shape.message, end, depth + 1);
    if (shape.kind === "entry") {
      // The decoder keeps no unknown fields of these.
      while (walk.at < end && !walk.over) this.#field(shape.parts, walk.varint(), 0, depth);
      return;
    }
    if (shape.kind === "number") this.cost += shape.cost * this.#packed(shape.width, end);
    else if (shape.kind !== "bytes") this.cost += 2 * Math.min(length, walk.bytes.length);
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
  throw new FoedusError({
    reason: "LIMIT_EXCEEDED",
    message: `the ${desc.typeName} has ${bytes.length} bytes, and what is in them takes more than ${DECODED_MAX} bytes of memory; send less at once`,
    facts: { limit: "decoded_bytes", max: String(DECODED_MAX) },
  });
}

/** decodeChecked is `fromBinary` of bytes that came from elsewhere. */
export function decodeChecked<D extends DescMessage>(desc: D, bytes: Uint8Array): MessageShape<D> {
  checkDecoded(desc, bytes);
  return fromBinary(desc, bytes);
}

const sizes = new WeakMap<Message, number>();
/** From this length on what a request takes is worth its scan, a few microseconds. */
const CHARGED_BYTES = 1024;

/** noteDecoded remembers what a request takes. */
export function noteDecoded(desc: DescMessage, message: Message, bytes: Uint8Array): void {
  if (bytes.length > CHARGED_BYTES) sizes.set(message, decodedSize(desc, bytes));
}

/** decodedSizeOf a request, 0 for a small one. */
export function decodedSizeOf(message: Message): number {
  return sizes.get(message) ?? 0;
}
