import { promisify } from "node:util";
import { constants, zstdCompress, zstdDecompress } from "node:zlib";

const compressAsync = promisify(zstdCompress);
const decompressAsync = promisify(zstdDecompress);

/** Level 1: what is compressed is made while the hub works, and what stands in it repeats a lot (S1-25). */
const PARAMS = { [constants.ZSTD_c_compressionLevel]: 1 };

/** compress works on a thread of the pool; undefined for what does not get smaller. It never rejects. */
export async function compress(raw: Uint8Array): Promise<Uint8Array | undefined> {
  try {
    const bytes = await compressAsync(raw, { params: PARAMS });
    return bytes.length < raw.length ? bytes : undefined;
  } catch {
    return undefined;
  }
}

/**
 * decompress gives back exactly `rawLen` bytes, or undefined: for malformed data, and for data that is longer than was said, of which no
 * more than that is ever unpacked.
 */
export async function decompress(bytes: Uint8Array, rawLen: number): Promise<Uint8Array | undefined> {
  try {
    const raw = await decompressAsync(bytes, { maxOutputLength: Math.max(1, rawLen) });
    return raw.length === rawLen ? raw : undefined;
  } catch {
    return undefined;
  }
}
