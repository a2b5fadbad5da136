/**
 * copyOf gives bytes [from, to) an array of their own. Not so `slice`: what comes from the network is a Buffer, whose `slice` is a view of
 * the same memory, which then stays as long as the copy does and changes with it.
 */
export function copyOf(bytes: Uint8Array, from = 0, to = bytes.length): Uint8Array {
  const { length } = bytes;
  if (from < 0 || to > length || to - from > FEW) return new Uint8Array(bytes.subarray(from, to));
  const copy = new Uint8Array(Math.max(0, to - from));
  copyInto(copy, bytes, from);
  return copy;
}

/** Bytes that are copied faster one by one than through a view, which is an object more. */
const FEW = 48;

/** copyInto fills an array from the bytes at `from` on. */
export function copyInto(target: Uint8Array, bytes: Uint8Array, from: number): void {
  const { length } = target;
  if (length > FEW) target.set(bytes.subarray(from, from + length));
  else for (let i = 0; i < length; i++) target[i] = bytes[from + i] as number;
}

/** PINNED_BYTES is what something that is kept may pin beside itself without a copy. */
export const PINNED_BYTES = 16 * 1024;

/**
 * messageOf gives a message, parts of which are kept for a moment, memory of its own if it came in a much larger buffer, as the network
 * reads into pieces of 64 KiB: one copy of a message with many parts, instead of one of each part. What is kept for long may pin less.
 */
export function messageOf(bytes: Uint8Array, pinnedBytes = PINNED_BYTES): Uint8Array {
  const whole = bytes.buffer.byteLength;
  return whole > pinnedBytes && whole > 2 * bytes.length ? copyOf(bytes) : bytes;
}

/** compareBytes orders bytes as unsigned numbers, from the first on; a beginning comes before what goes on. Negative, zero or positive. */
export function compareBytes(a: Uint8Array, b: Uint8Array): number {
  const shorter = Math.min(a.length, b.length);
  for (let i = 0; i < shorter; i++) if (a[i] !== b[i]) return (a[i] as number) - (b[i] as number);
  return a.length - b.length;
}

/** compareText orders texts by their code units, as `sort` does. */
export function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

const encoder = new TextEncoder();

/** inDomain puts the name of a purpose, and a zero, before what is signed or hashed: what is made for one purpose passes for no other. */
export function inDomain(domain: string, body: Uint8Array): Uint8Array {
  const head = encoder.encode(`${domain}\0`);
  const whole = new Uint8Array(head.length + body.length);
  whole.set(head);
  whole.set(body, head.length);
  return whole;
}

/** clipText is as much of a text, from its start, as fits into so many bytes of UTF-8; no character is cut. */
export function clipText(text: string, maxBytes: number): string {
  if (3 * text.length <= maxBytes) return text;
  const { read } = encoder.encodeInto(text, new Uint8Array(maxBytes));
  return text.slice(0, read);
}
