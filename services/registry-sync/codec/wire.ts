/**
 * The few bytes of protobuf framing that stand around blocks which are copied verbatim (protobuf wire format, "varint" and
 * length-delimited fields). Everything with structure is encoded by the SegmentCodec.
 */

/** EMPTY is no bytes. */
export const EMPTY = new Uint8Array(0);

/** varintLength is how many bytes a number below 2^32 takes. */
export function varintLength(value: number): number {
  return value < 0x80 ? 1 : value < 0x4000 ? 2 : value < 0x20_0000 ? 3 : value < 0x1000_0000 ? 4 : 5;
}

/** putVarint writes a number below 2^32 at `at` and answers where it ends. */
export function putVarint(into: Uint8Array, at: number, value: number): number {
  let rest = value;
  let next = at;
  while (rest > 0x7f) {
    into[next++] = (rest & 0x7f) | 0x80;
    rest >>>= 7;
  }
  into[next++] = rest;
  return next;
}

/** fieldLength is the length of a length-delimited field (number below 16) with `length` bytes inside. */
export function fieldLength(length: number): number {
  return 1 + varintLength(length) + length;
}

/** putTag writes tag and length of a length-delimited field below 16; its bytes follow. */
export function putTag(into: Uint8Array, at: number, field: number, length: number): number {
  into[at] = (field << 3) | 2;
  return putVarint(into, at + 1, length);
}

/** putField writes a whole length-delimited field and answers where it ends. */
export function putField(into: Uint8Array, at: number, field: number, bytes: Uint8Array): number {
  const start = putTag(into, at, field, bytes.length);
  into.set(bytes, start);
  return start + bytes.length;
}

/** equalBytes compares. */
export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

/** hex writes bytes as text. */
export function hex(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) text += byte.toString(16).padStart(2, "0");
  return text;
}

/** fromHex reads bytes written by `hex`. */
export function fromHex(text: string): Uint8Array {
  return Uint8Array.from({ length: text.length / 2 }, (_, i) => Number.parseInt(text.slice(2 * i, 2 * i + 2), 16));
}

/** concat joins arrays into one. */
export function concat(parts: readonly Uint8Array[]): Uint8Array {
  let length = 0;
  for (const part of parts) length += part.length;
  const all = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

/** utf8 writes text as bytes. */
export function utf8(text: string): Uint8Array {
  return encoder.encode(text);
}

/** utf8Length is how many bytes a text takes, without encoding it. */
export function utf8Length(text: string): number {
  let length = text.length;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    // Half of a surrogate pair stands for two of its four bytes.
    if (code >= 0x80) length += code < 0x800 || (code >= 0xd800 && code < 0xe000) ? 1 : 2;
  }
  return length;
}

/** textOf reads UTF-8; malformed sequences become U+FFFD. */
export function textOf(bytes: Uint8Array): string {
  return decoder.decode(bytes);
}
