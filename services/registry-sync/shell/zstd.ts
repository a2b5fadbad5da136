import { promisify } from "node:util";
import { constants, zstdCompress, zstdDecompress } from "node:zlib";
import { CODEC, type Codec } from "../ports.ts";

const compressAsync = promisify(zstdCompress);
const decompressAsync = promisify(zstdDecompress);

/** Level 1: snapshots are built while the hub works, and what stands in them repeats a lot (S1-25). */
const PARAMS = { [constants.ZSTD_c_compressionLevel]: 1 };

/** compressPart compresses on a thread of the pool; what does not get smaller stays as it is. It never rejects. */
export async function compressPart(raw: Uint8Array): Promise<{ readonly codec: Codec; readonly bytes: Uint8Array }> {
  try {
    const bytes = await compressAsync(raw, { params: PARAMS });
    return bytes.length < raw.length ? { codec: CODEC.ZSTD, bytes } : { codec: CODEC.IDENTITY, bytes: raw };
  } catch {
    return { codec: CODEC.IDENTITY, bytes: raw };
  }
}

/**
 * decompressPart gives back exactly `rawLen` bytes, or undefined: for malformed data, and for data that is longer than was said,
 * of which no more than that is ever unpacked.
 */
export async function decompressPart(codec: Codec, bytes: Uint8Array, rawLen: number): Promise<Uint8Array | undefined> {
  if (codec === CODEC.IDENTITY) return bytes.length === rawLen ? bytes : undefined;
  try {
    const raw = await decompressAsync(bytes, { maxOutputLength: Math.max(1, rawLen) });
    return raw.length === rawLen ? raw : undefined;
  } catch {
    return undefined;
  }
}
