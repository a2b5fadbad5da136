import { assert } from "../assert.ts";
import { copyOf } from "./bytes.ts";
import { ProtoReader, WireError } from "./proto-reader.ts";
import { ProtoWriter } from "./proto-writer.ts";
import { formOf, TEXT_FORMS } from "./text-forms.ts";

/**
 * Shape is what is known of a message: its fields with their numbers and bounds. One table of fields checks a plain object of whatever
 * origin, writes it as protobuf, and reads it back, so that the three cannot differ. It is for what is signed, hashed, or must be the same
 * at every hub; a test compares each with the schema that describes it to others.
 *
 * WS1 `check` accepts what `encode` writes and `decode` reads back alike, and nothing else: no NaN, no fraction, no text that is not
 *    well-formed, no list that is too long.
 * WS2 one value has one encoding: fields in ascending order, those without a value left out, the shortest numbers. `decode` refuses
 *    every other one.
 */
export interface Shape<T> {
  readonly fields: Readonly<Record<string, Field<unknown>>>;
  /** A choice has exactly one of its fields, whose name is the value's `kind`. */
  readonly choice: boolean;
  /** check says what is wrong with a value, with the path of the field, or undefined. */
  check(value: unknown, path: string): Problem | undefined;
  put(out: ProtoWriter, value: T): void;
  /** take throws a WireError for what is no such message. */
  take(from: ProtoReader): T;
}

/** Of is the type of the values of a shape. */
export type Of<S> = S extends Shape<infer T> ? T : never;

/** Problem is what is wrong with a value, and where. */
export interface Problem {
  readonly path: string;
  /** Continues a sentence that begins with the path: "must be …". */
  readonly message: string;
}

/** FieldKind is how a field stands in a schema. */
export type FieldKind = "uint" | "text" | "bytes" | "flag" | "word" | "message";

/** Field is one field of a Shape. */
export interface Field<T> {
  readonly no: number;
  readonly kind: FieldKind;
  /** Most items of a list; undefined for a single field. */
  readonly items: number | undefined;
  /** Largest number, or most bytes. */
  readonly max: number;
  /** Names of an enum's values, from number 1 on. */
  readonly words?: readonly string[];
  readonly shape?: Shape<unknown>;
  check(value: unknown, path: string): Problem | undefined;
  put(out: ProtoWriter, value: T): void;
  /** take reads one occurrence; `before` is what earlier ones gave. */
  take(from: ProtoReader, before: T | undefined): T;
  /** absent is the value of a field that does not occur. */
  absent(): T;
}

const encoder = new TextEncoder();

/** Single is what one kind of field does with one value. `put` leaves out what protobuf leaves out, `item` does not. */
interface Single<T> {
  readonly kind: FieldKind;
  readonly max: number;
  readonly words?: readonly string[];
  readonly shape?: Shape<unknown>;
  check(value: unknown, path: string): Problem | undefined;
  put(out: ProtoWriter, no: number, value: T): void;
  item?(out: ProtoWriter, no: number, value: T): void;
  take(from: ProtoReader): T;
  absent(): T;
}

const wrong = (path: string, message: string): Problem => ({ path, message });

function missing(what: string): never {
  throw new WireError(`${what} is missing`);
}

function singleUint(max: number, min: number): Single<number> {
  return {
    kind: "uint",
    max,
    check: (value, path) =>
      typeof value === "number" && Number.isSafeInteger(value) && value >= min && value <= max && !Object.is(value, -0)
        ? undefined
        : wrong(path, `must be a whole number from ${min} to ${max}`),
    put: (out, no, value) => out.uint(no, value),
    take: (from) => from.uint(max),
    absent: () => 0,
  };
}

function singleText(max: number, pattern: RegExp | undefined, min: number): Single<string> {
  assert(pattern === undefined || TEXT_FORMS.has(pattern.source), "a pattern is also put into words", { pattern: pattern?.source ?? "" });
  return {
    kind: "text",
    max,
    check: (value, path) => {
      if (typeof value !== "string" || !value.isWellFormed()) return wrong(path, "must be well-formed text");
      if (value.length > max || (3 * value.length > max && encoder.encode(value).length > max))
        return wrong(path, `must have at most ${max} bytes of UTF-8`);
      if (value.length < min) return wrong(path, "must not be empty");
      return pattern === undefined || pattern.test(value) ? undefined : wrong(path, formOf(pattern.source));
    },
    put: (out, no, value) => out.text(no, value),
    item: (out, no, value) => out.textItem(no, value),
    take: (from) => from.text(max),
    absent: () => "",
  };
}

function singleBytes(max: number, min: number): Single<Uint8Array> {
  return {
    kind: "bytes",
    max,
    check: (value, path) => {
      if (!(value instanceof Uint8Array)) return wrong(path, "must be bytes");
      if (value.length >= min && value.length <= max) return undefined;
      return wrong(path, min === max ? `must have ${max} bytes` : `must have ${min} to ${max} bytes`);
    },
    put: (out, no, value) => out.bytes(no, value),
    take: (from) => copyOf(from.bytes(max)),
    absent: () => new Uint8Array(0),
  };
}

function singleWord<W extends string>(words: readonly W[]): Single<W> {
  return {
    kind: "word",
    max: words.length,
    words,
    check: (value, path) => (words.includes(value as W) ? undefined : wrong(path, `must be one of ${words.join(", ")}`)),
    put: (out, no, value) => out.uint(no, words.indexOf(value) + 1),
    take: (from) => words[from.uint(words.length) - 1] ?? missing(`one of ${words.join(", ")}`),
    absent: () => missing(`one of ${words.join(", ")}`),
  };
}

function singleFlag(): Single<boolean> {
  return {
    kind: "flag",
    max: 1,
    check: (value, path) => (typeof value === "boolean" ? undefined : wrong(path, "must be true or false")),
    put: (out, no, value) => out.bool(no, value),
    take: (from) => from.bool(),
    absent: () => false,
  };
}

function singleMessage<T>(shape: Shape<T>): Single<T> {
  return {
    kind: "message",
    max: 0,
    shape: shape as Shape<unknown>,
    check: (value, path) => shape.check(value, path),
    put: (out, no, value) => out.message(no, (inner) => shape.put(inner, value)),
    take: (from) => from.message(Number.MAX_SAFE_INTEGER, (inner) => shape.take(inner)),
    absent: () => missing("a message"),
  };
}

function one<T>(no: number, single: Single<T>): Field<T> {
  const { kind, max, words, shape } = single;
  return {
    no,
    kind,
    max,
    items: undefined,
    ...(words === undefined ? {} : { words }),
    ...(shape === undefined ? {} : { shape }),
    check: single.check,
    put: (out, value) => single.put(out, no, value),
    take: (from, before) => {
      if (before !== undefined) throw new WireError(`field ${no} is there twice`);
      return single.take(from);
    },
    absent: single.absent,
  };
}

function optional<T>(no: number, single: Single<T>): Field<T | undefined> {
  return {
    ...(one(no, single) as Field<T | undefined>),
    check: (value, path) => (value === undefined ? undefined : single.check(value, path)),
    put: (out, value) => {
      if (value !== undefined) single.put(out, no, value);
    },
    absent: () => undefined,
  };
}

function many<T>(no: number, items: number, single: Single<T>): Field<readonly T[]> {
  const put = single.item ?? single.put;
  return {
    ...(one(no, single) as unknown as Field<readonly T[]>),
    items,
    check: (value, path) => {
      if (!Array.isArray(value)) return wrong(path, "must be a list");
      if (value.length > items) return wrong(path, `must have at most ${items} items`);
      for (let i = 0; i < value.length; i++) {
        const problem = single.check(value[i], `${path}[${i}]`);
        if (problem !== undefined) return problem;
      }
      return undefined;
    },
    put: (out, value) => {
      for (const item of value) put(out, no, item);
    },
    take: (from, before) => {
      const list = (before ?? []) as T[];
      if (list.length === items) throw new WireError(`field ${no} has more than ${items} items`);
      list.push(single.take(from));
      return list;
    },
    absent: () => [],
  };
}

/** uint is a whole number of up to 53 bits, from `min` (0 unless said) to `max`. */
export const uint = (no: number, max: number = Number.MAX_SAFE_INTEGER, min = 0): Field<number> => one(no, singleUint(max, min));
/** text has at most so many bytes of UTF-8; at least one character if `pattern` or `min` says so. */
export const text = (no: number, max: number, pattern?: RegExp, min = 0): Field<string> => one(no, singleText(max, pattern, min));
/** bytes have a length from `min` (0 unless said) to `max`. */
export const bytes = (no: number, max: number, min = 0): Field<Uint8Array> => one(no, singleBytes(max, min));
/** flag is true or false. */
export const flag = (no: number): Field<boolean> => one(no, singleFlag());
/** word is an enum, whose numbers are those of its words from 1 on. It has to be there. */
export const word = <W extends string>(no: number, words: readonly W[]): Field<W> => one(no, singleWord(words));
/** maybeWord is a `word` that may be missing. */
export const maybeWord = <W extends string>(no: number, words: readonly W[]): Field<W | undefined> => optional(no, singleWord(words));
/** part is a message that has to be there. */
export const part = <T>(no: number, shape: Shape<T>): Field<T> => one(no, singleMessage(shape));
/** maybe is a message that may be missing. */
export const maybe = <T>(no: number, shape: Shape<T>): Field<T | undefined> => optional(no, singleMessage(shape));
/** list is a list of messages. */
export const list = <T>(no: number, items: number, shape: Shape<T>): Field<readonly T[]> => many(no, items, singleMessage(shape));
/** texts is a list of texts that are not empty. */
export const texts = (no: number, items: number, max: number, pattern?: RegExp): Field<readonly string[]> =>
  many(no, items, singleText(max, pattern, 1));

/** ValueOf is what a table of fields describes. */
type ValueOf<F> = { readonly [K in keyof F]: F[K] extends Field<infer T> ? T : never };

/** message is a Shape with all of some fields, which stand in the order of their numbers. */
export function message<F extends Readonly<Record<string, Field<unknown>>>>(fields: F): Shape<ValueOf<F>> {
  const all = Object.entries(fields) as [string, Field<unknown>][];
  const byNumber = new Map(all.map((entry) => [entry[1].no, entry]));
  return {
    fields,
    choice: false,
    check: (value, path) => {
      if (typeof value !== "object" || value === null) return wrong(path, "must be a message");
      for (const [name, field] of all) {
        const problem = field.check((value as Record<string, unknown>)[name], path === "" ? name : `${path}.${name}`);
        if (problem !== undefined) return problem;
      }
      return undefined;
    },
    put: (out, value) => {
      for (const [name, field] of all) field.put(out, (value as Record<string, unknown>)[name]);
    },
    take: (from) => {
      const value: Record<string, unknown> = {};
      for (let no = from.next(); no !== 0; no = from.next()) {
        const [name, field] = byNumber.get(no) ?? from.unknown();
        value[name] = field.take(from, value[name]);
      }
      for (const [name, field] of all) if (!Object.hasOwn(value, name)) value[name] = field.absent();
      return value as ValueOf<F>;
    },
  };
}

/** ChoiceOf is a union of messages, told apart by `kind`. */
type ChoiceOf<F> = { readonly [K in keyof F]: F[K] extends Shape<infer T> ? { readonly kind: K } & T : never }[keyof F];

/** choice is exactly one of several messages: a `oneof` whose fields are numbered as listed, from 1 on. */
export function choice<F extends Readonly<Record<string, Shape<unknown>>>>(shapes: F): Shape<ChoiceOf<F>> {
  const entries = Object.entries(shapes) as [string, Shape<unknown>][];
  const fields = Object.fromEntries(entries.map(([name, shape], i) => [name, part(i + 1, shape)]));
  const fieldOf = (kind: unknown): Field<unknown> | undefined =>
    typeof kind === "string" && Object.hasOwn(fields, kind) ? fields[kind] : undefined;
  return {
    fields,
    choice: true,
    check: (value, path) => {
      const kind = typeof value === "object" && value !== null ? (value as { kind?: unknown }).kind : undefined;
      const field = fieldOf(kind);
      if (field === undefined) return wrong(path === "" ? "kind" : `${path}.kind`, `must be one of ${Object.keys(fields).join(", ")}`);
      return field.check(value, path);
    },
    put: (out, value) => fieldOf((value as { kind: string }).kind)?.put(out, value),
    take: (from) => {
      const no = from.next();
      const [name, field] = Object.entries(fields).find(([, one]) => one.no === no) ?? missing("one of a choice that is known here");
      const value = { kind: name, ...(field.take(from, undefined) as object) } as ChoiceOf<F>;
      if (from.next() !== 0) throw new WireError("more than one of a choice is set");
      return value;
    },
  };
}

/** problemOf says what is wrong with a value of whatever origin, or undefined: then it is a `T`. */
export function problemOf<T>(shape: Shape<T>, value: unknown): Problem | undefined {
  return shape.check(value, "");
}

/** encode writes a value that `problemOf` finds nothing wrong with. */
export function encode<T>(shape: Shape<T>, value: T): Uint8Array {
  const out = new ProtoWriter();
  shape.put(out, value);
  return out.finish();
}

/** Decoded is a value, or the sentence that says why bytes are none. */
export type Decoded<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly problem: string };

/** decode reads what `encode` wrote, and nothing else (WS2). */
export function decode<T>(shape: Shape<T>, bytes: Uint8Array): Decoded<T> {
  let value: T;
  try {
    value = shape.take(new ProtoReader(bytes));
  } catch (error) {
    if (error instanceof WireError) return { ok: false, problem: error.message };
    throw error;
  }
  const problem = problemOf(shape, value);
  if (problem !== undefined) return { ok: false, problem: `${problem.path} ${problem.message}` };
  return sameBytes(encode(shape, value), bytes)
    ? { ok: true, value }
    : { ok: false, problem: "it is not written in the one way that counts" };
}

/** Bytes of a word, and how many bytes are compared by words. */
const WORD = 4;
const LONG = 1_024;

/** sameBytes compares; not for secrets. */
export function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  let from = 0;
  if (a.length >= LONG && (a.byteOffset - b.byteOffset) % WORD === 0) {
    from = (WORD - (a.byteOffset % WORD)) % WORD;
    // What lies before the first whole word.
    for (let i = 0; i < from; i++) if (a[i] !== b[i]) return false;
    const words = Math.floor((a.length - from) / WORD);
    const [left, right] = [a, b].map((bytes) => new Uint32Array(bytes.buffer, bytes.byteOffset + from, words)) as [
      Uint32Array,
      Uint32Array,
    ];
    for (let i = 0; i < words; i++) if (left[i] !== right[i]) return false;
    from += words * WORD;
  }
  for (let i = from; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}
