import { inDomain } from "#kernel/wire/bytes.ts";
import { ProtoWriter } from "#kernel/wire/proto-writer.ts";
import { PARCEL_BYTES, PARCEL_CHUNKS } from "../frames.ts";
import type { Chunk, Manifest } from "./checkpoint.ts";

/** Sealing is some chunks of a round that are to be sealed together. */
export interface Sealing {
  readonly round: number;
  readonly numbers: readonly number[];
  readonly key: Uint8Array;
  readonly info: Uint8Array;
  readonly aad: Uint8Array;
  readonly raw: Uint8Array;
}

/** Sealed are such chunks, sealed. */
export interface Sealed {
  readonly round: number;
  readonly numbers: readonly number[];
  readonly enc: Uint8Array;
  readonly sealed: Uint8Array;
}

/** Opening is what is to be opened of them: exactly `rawLength` bytes come out, and no more are ever unpacked. */
export interface Opening extends Sealed {
  readonly rawLength: number;
  readonly info: Uint8Array;
  readonly aad: Uint8Array;
}

/** Opened is what they held; `raw` is undefined if they did not open. */
export interface Opened {
  readonly round: number;
  readonly numbers: readonly number[];
  readonly raw: Uint8Array | undefined;
}

/** sealInfo binds what is sealed to one transfer and fence (`info` of HPKE): nothing of another move opens. */
export function sealInfo(transfer: number, fence: number): Uint8Array {
  return inDomain("foedus.migration.v1", new ProtoWriter().uint(1, transfer).uint(2, fence).finish());
}

/** sealAad binds a parcel to its place (`aad` of HPKE): the round, and the numbers of its chunks. */
export function sealAad(round: number, numbers: readonly number[]): Uint8Array {
  return new ProtoWriter().uint(1, round).uints(2, numbers).finish();
}

/** parcelsOf packs chunks into parcels, in order. */
export function parcelsOf(manifest: Manifest, numbers: readonly number[]): number[][] {
  const parcels: number[][] = [];
  let bytes = 0;
  for (const number of numbers) {
    const { length } = manifest.chunks[number] as Chunk;
    const last = parcels.at(-1);
    if (last !== undefined && last.length < PARCEL_CHUNKS && bytes + length <= PARCEL_BYTES) {
      last.push(number);
      bytes += length;
    } else {
      parcels.push([number]);
      bytes = length;
    }
  }
  return parcels;
}
