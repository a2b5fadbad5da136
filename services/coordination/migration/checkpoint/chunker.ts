import { Prng } from "#kernel/prng.ts";

/*
 * Content-defined chunks (a gear hash, as FastCDC has it: Xia et al., USENIX ATC 2016): a boundary depends on the bytes before it, so that
 * what is inserted or taken out changes the chunks around it and no others. With chunks of one size everything behind an insertion is sent
 * anew: of 10 MiB with four bytes inserted 6.2 MiB instead of 0.16 (twenty scattered bytes: 1.3 instead of 1.8). Where a chunk ends is the sender's choice: receivers take the lengths from the manifest.
 */

/** CHUNK_MIN and CHUNK_MAX are the fewest and most bytes of a chunk; only the last one of a part may have fewer. */
export const CHUNK_MIN = 16 * 1024;
export const CHUNK_MAX = 128 * 1024;
/** Boundaries come on average so many bytes after the minimum. The upper bits of the hash know the last 32 bytes. */
const MASK = (64 * 1024 - 1) << 16;
/** The hash forgets a byte after so many. */
const MEMORY = 32;

const GEAR = makeGear();

function makeGear(): Int32Array {
  const prng = new Prng(0x6765_6172);
  return Int32Array.from({ length: 256 }, () => prng.u32());
}

/** chunkLengths are the lengths of the chunks of some bytes, in order; none for none. */
export function chunkLengths(bytes: Uint8Array): number[] {
  const lengths: number[] = [];
  for (let from = 0; from < bytes.length; ) {
    const to = cutAfter(bytes, from);
    lengths.push(to - from);
    from = to;
  }
  return lengths;
}

/** chunkAfter is the length of the chunk that begins at a place; there must be a byte. */
export function chunkAfter(bytes: Uint8Array, from: number): number {
  return cutAfter(bytes, from) - from;
}

function cutAfter(bytes: Uint8Array, from: number): number {
  const end = Math.min(bytes.length, from + CHUNK_MAX);
  let hash = 0;
  for (let at = Math.min(end, from + CHUNK_MIN - MEMORY); at < end; at++) {
    hash = ((hash << 1) + (GEAR[bytes[at] as number] as number)) | 0;
    if ((hash & MASK) === 0 && at >= from + CHUNK_MIN) return at + 1;
  }
  return end;
}
