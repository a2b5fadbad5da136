import { compress, decompress } from "#runtime/zstd.ts";
import { CODEC, type Codec } from "../ports.ts";

/** compressPart compresses on a thread of the pool; what does not get smaller stays as it is. It never rejects. */
export async function compressPart(raw: Uint8Array): Promise<{ readonly codec: Codec; readonly bytes: Uint8Array }> {
  const bytes = await compress(raw);
  return bytes === undefined ? { codec: CODEC.IDENTITY, bytes: raw } : { codec: CODEC.ZSTD, bytes };
}

/**
 * decompressPart gives back exactly `rawLen` bytes, or undefined: for malformed data, and for data that is longer than was said,
 * of which no more than that is ever unpacked.
 */
export async function decompressPart(codec: Codec, bytes: Uint8Array, rawLen: number): Promise<Uint8Array | undefined> {
  if (codec === CODEC.IDENTITY) return bytes.length === rawLen ? bytes : undefined;
  return decompress(bytes, rawLen);
}
