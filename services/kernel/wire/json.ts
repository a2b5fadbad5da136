import { LIMITS } from "../bounds/limits.ts";

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;
const COLON = 0x3a;
const MINUS = 0x2d;
const ZERO = 0x30;
const LOWER_U = 0x75;
const OPEN_LIST = 0x5b;
const CLOSE_LIST = 0x5d;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;

const ascii = (text: string): readonly number[] => Array.from(text, (char) => char.charCodeAt(0));
/** What may follow a backslash, besides u. */
const ESCAPES: ReadonlySet<number> = new Set(ascii('"\\/bfnrt'));
const WORDS: ReadonlyMap<number | undefined, readonly number[]> = new Map(
  ["true", "false", "null"].map((word) => [word.charCodeAt(0), ascii(word)]),
);

/** 1 for each byte that stands in a string for itself. */
const PLAIN = Uint8Array.from({ length: 256 }, (_, byte) => Number(byte >= 0x20 && byte !== QUOTE && byte !== BACKSLASH));

/** What ends each list and object that is open. A value of the longest kind has no room for more of them. */
const ends = new Uint8Array(LIMITS.jsonBytes);

/**
 * isJson tells whether bytes that are UTF-8 are one JSON value (RFC 8259), of `LIMITS.jsonBytes` at the most, from `from` to `to`: every
 * reader of it has a parser that insists. It says what JSON.parse says, without the text and the objects that JSON.parse makes, because
 * all state in JSON that callers write goes through here.
 */
export function isJson(bytes: Uint8Array, from = 0, to = bytes.length): boolean {
  let depth = 0;
  let at = afterSpace(bytes, from, to);
  while (at < to) {
    const start = bytes[at];
    if (start === OPEN_OBJECT || start === OPEN_LIST) {
      const end = start === OPEN_OBJECT ? CLOSE_OBJECT : CLOSE_LIST;
      at = afterSpace(bytes, at + 1, to);
      if (bytes[at] !== end) {
        if (depth === ends.length) return false;
        ends[depth++] = end;
        if (end === CLOSE_OBJECT) at = afterKey(bytes, at, to);
        continue;
      }
      at++;
    } else at = afterScalar(bytes, at, to);
    // A value is over: what is around it goes on, or is over too.
    for (; ; at++) {
      at = afterSpace(bytes, at, to);
      if (depth === 0 || at >= to) return depth === 0 && at === to;
      if (bytes[at] !== ends[depth - 1]) break;
      depth--;
    }
    if (bytes[at] !== COMMA) return false;
    at = afterSpace(bytes, at + 1, to);
    if (ends[depth - 1] === CLOSE_OBJECT) at = afterKey(bytes, at, to);
  }
  return false;
}

/** afterSpace is where the next token begins. What is beyond `to` is none of this value, so each of these functions stops there. */
function afterSpace(bytes: Uint8Array, from: number, to: number): number {
  let at = from;
  for (; at < to; at++) {
    const byte = bytes[at];
    if (byte !== 0x20 && byte !== 0x0a && byte !== 0x0d && byte !== 0x09) break;
  }
  return at;
}

/** afterKey is where the value of a key begins; beyond `to` if there is no key. */
function afterKey(bytes: Uint8Array, from: number, to: number): number {
  if (from >= to || bytes[from] !== QUOTE) return to + 1;
  const at = afterSpace(bytes, afterString(bytes, from + 1, to), to);
  return at < to && bytes[at] === COLON ? afterSpace(bytes, at + 1, to) : to + 1;
}

/** afterScalar is where a string, number or word ends; beyond `to` if it is none. */
function afterScalar(bytes: Uint8Array, from: number, to: number): number {
  const start = bytes[from] as number;
  if (start === QUOTE) return afterString(bytes, from + 1, to);
  if (start === MINUS || isDigit(start)) return afterNumber(bytes, from, to);
  const word = WORDS.get(start);
  if (word === undefined || from + word.length > to) return to + 1;
  for (let i = 1; i < word.length; i++) if (bytes[from + i] !== word[i]) return to + 1;
  return from + word.length;
}

function afterString(bytes: Uint8Array, from: number, to: number): number {
  for (let at = from; at < to; at++) {
    const byte = bytes[at] as number;
    if (PLAIN[byte] === 1) continue;
    if (byte === QUOTE) return at + 1;
    if (byte !== BACKSLASH) return to + 1;
    const escaped = bytes[++at] as number;
    if (escaped === LOWER_U) {
      for (const end = at + 4; at < end; ) if (!isHex(bytes[++at] as number)) return to + 1;
    } else if (!ESCAPES.has(escaped)) return to + 1;
  }
  return to + 1;
}

function afterNumber(bytes: Uint8Array, from: number, to: number): number {
  let at = bytes[from] === MINUS ? from + 1 : from;
  at = at < to && bytes[at] === ZERO ? at + 1 : afterDigits(bytes, at, to);
  if (at < to && bytes[at] === 0x2e) at = afterDigits(bytes, at + 1, to);
  if (at >= to || ((bytes[at] as number) | 0x20) !== 0x65) return at;
  const sign = bytes[at + 1];
  return afterDigits(bytes, sign === 0x2b || sign === MINUS ? at + 2 : at + 1, to);
}

/** afterDigits takes one digit or more. */
function afterDigits(bytes: Uint8Array, from: number, to: number): number {
  let at = from;
  while (at < to && isDigit(bytes[at] as number)) at++;
  return at === from ? to + 1 : at;
}

function isDigit(byte: number): boolean {
  return byte >= ZERO && byte <= 0x39;
}

function isHex(byte: number): boolean {
  return isDigit(byte) || ((byte | 0x20) >= 0x61 && (byte | 0x20) <= 0x66);
}
