const encoder = new TextEncoder();

/** EMPTY is no bytes. */
export const EMPTY = new Uint8Array(0);

/** inContext puts a context before what is signed, so that no signature made for another purpose passes for it. */
export function inContext(context: string, bytes: Uint8Array): Uint8Array {
  const head = encoder.encode(`${context}\0`);
  const whole = new Uint8Array(head.length + bytes.length);
  whole.set(head);
  whole.set(bytes, head.length);
  return whole;
}
