import { randomBytes } from "node:crypto";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { createCrypto, generateFeedKey } from "#runtime/crypto.ts";
import { feedKeyOf, simCrypto } from "../../../../test/simulator/crypto.ts";
import { PARCEL_BYTES, PARCEL_CHUNKS } from "../frames.ts";
import { BOUNDS } from "../messages.ts";
import {
  type Checkpoint,
  checkpointProblem,
  joinChunks,
  layOut,
  type Manifest,
  missingIn,
  openManifest,
  readManifest,
  signCheckpoint,
  splitChunks,
  wholeOf,
  windowOf,
  writeManifest,
} from "./checkpoint.ts";
import { CHUNK_MAX, CHUNK_MIN, chunkLengths } from "./chunker.ts";
import { parcelsOf } from "./parcel.ts";

const HEAD = { agent: "counter", fence: 3, transfer: 7, from: "home", to: "factory", round: 1, final: true } as const;
const MIB = 1024 * 1024;
const crypto = simCrypto("home");
const KEY = feedKeyOf("home");

const checkpointOf = (memory: Uint8Array, context = Buffer.from("busy")): Checkpoint => ({
  memory,
  context,
  progress: 750_000,
  dependencies: ["a", "b"],
});

describe("S1-14 a checkpoint", () => {
  test("MK1 comes back from its chunks as it was, whatever is in it", () => {
    fc.assert(
      fc.property(fc.nat(300_000), fc.nat(40_000), fc.integer(), (length, context, seed) => {
        const memory = Uint8Array.from({ length }, (_none, at) => (Math.imul(at ^ seed, 0x9e3779b1) >>> 11) & 0xff);
        const checkpoint = checkpointOf(memory, Buffer.alloc(context, 7));
        const { manifest, content } = signCheckpoint(crypto, HEAD, checkpoint);
        expect(missingIn(manifest, content)).toEqual([]);
        const again = wholeOf(layOut(manifest, content)!);
        expect(Buffer.compare(again.memory, memory) || Buffer.compare(again.context, checkpoint.context)).toBe(0);
        expect(again).toMatchObject({ progress: 750_000, dependencies: ["a", "b"] });
      }),
      { numRuns: 30 },
    );
  });

  test("of nothing has no chunks", () => {
    const { manifest, content } = signCheckpoint(crypto, HEAD, checkpointOf(new Uint8Array(0), Buffer.alloc(0)));
    expect(manifest.chunks).toEqual([]);
    expect(wholeOf(layOut(manifest, content)!).memory).toHaveLength(0);
    expect("reason" in readManifest(writeManifest(manifest))).toBe(false);
  });

  test("chunks have their bounds, and an insertion changes those around it only", () => {
    const before = randomBytes(4 * MIB);
    const lengths = chunkLengths(before);
    expect(lengths.slice(0, -1).every((length) => length >= CHUNK_MIN && length <= CHUNK_MAX)).toBe(true);
    const after = Buffer.concat([before.subarray(0, 100_000), Buffer.from("inserted"), before.subarray(100_000)]);
    const old = signCheckpoint(crypto, HEAD, checkpointOf(before));
    const fresh = signCheckpoint(crypto, { ...HEAD, round: 2 }, checkpointOf(after));
    expect(missingIn(fresh.manifest, old.content).length).toBeLessThanOrEqual(4);
  });

  test("that is too large, or says what cannot be, is refused where it is made", () => {
    const fine = checkpointOf(new Uint8Array(10));
    expect(checkpointProblem(fine, 14)).toBeUndefined();
    expect(checkpointProblem(fine, 13)).toMatchObject({ reason: "LIMIT_EXCEEDED" });
    for (const progress of [-1, 0.5, 1_000_001, Number.NaN])
      expect(checkpointProblem({ ...fine, progress }, 99)).toMatchObject({ reason: "VALUE_OUT_OF_RANGE" });
    for (const dependencies of [["b", "a"], ["a", "a"], [""], ["x".repeat(257)], ["\ud800"]])
      expect(checkpointProblem({ ...fine, dependencies }, 99)).toMatchObject({ reason: "INVALID_FIELD" });
  });
});

describe("MK2 a manifest or a chunk that is another one is refused", () => {
  const memory = randomBytes(500_000);
  const signed = signCheckpoint(crypto, HEAD, checkpointOf(memory));
  const open = (bytes: Uint8Array, signature = signed.signature, most = MIB) => openManifest(crypto, KEY, { bytes, signature }, most);

  test("with any bit of it changed, with the key of another hub, or larger than agreed", () => {
    expect(open(signed.bytes)).toMatchObject({ digest: signed.digest });
    for (let at = 0; at < signed.bytes.length; at += 7) {
      const changed = signed.bytes.slice();
      changed[at]! ^= 1 << (at % 8);
      expect(open(changed)).toMatchObject({ reason: "CHECKPOINT_INVALID" });
    }
    expect(openManifest(crypto, feedKeyOf("mallory"), signed, MIB)).toMatchObject({ reason: "CHECKPOINT_INVALID" });
    expect(open(signed.bytes, signed.signature, 500_003)).toMatchObject({ reason: "LIMIT_EXCEEDED" });
    expect(open(new Uint8Array(BOUNDS.manifestBytes + 1))).toMatchObject({ reason: "LIMIT_EXCEEDED" });
  });

  test("with real signatures as well", () => {
    const key = generateFeedKey();
    const real = createCrypto(key);
    const made = signCheckpoint(real, HEAD, checkpointOf(memory));
    expect(openManifest(real, key.publicKey, made, MIB)).toMatchObject({ digest: made.digest });
    const changed = made.bytes.slice();
    changed[30]! ^= 1;
    expect(openManifest(real, key.publicKey, { ...made, bytes: changed }, MIB)).toMatchObject({ reason: "CHECKPOINT_INVALID" });
  });

  const chunk = (length: number, digit = "0") => ({ digest: digit.repeat(64), length });
  test.each<[string, Partial<Manifest>]>([
    ["chunks do not add up", { chunks: [chunk(9)] }],
    ["the memory ends within a chunk", { memoryBytes: 5, contextBytes: 5, chunks: [chunk(4), chunk(6, "1")] }],
    ["a chunk is empty", { chunks: [chunk(10), chunk(0, "1")] }],
    ["a chunk is too long", { memoryBytes: CHUNK_MAX + 1, chunks: [chunk(CHUNK_MAX + 1)] }],
    ["one content has two lengths", { memoryBytes: 9, chunks: [chunk(4), chunk(5)] }],
    ["the round is none", { round: 0 }],
    ["the fence is none", { fence: 0 }],
    ["the progress is too far", { progress: 1_000_001 }],
    ["the agent has no name", { agent: "a/b" }],
    ["a hub has no name", { to: "Factory" }],
    ["dependencies are not sorted", { dependencies: ["b", "a"] }],
  ])("also when its source signed it: %s", (_what, more) => {
    const manifest: Manifest = { ...HEAD, memoryBytes: 10, contextBytes: 0, progress: 0, dependencies: [], chunks: [chunk(10)], ...more };
    const bytes = writeManifest(manifest);
    expect("reason" in readManifest(bytes)).toBe(true);
  });

  test("a chunk in the place of another one, cut short, or with something behind it", () => {
    const { manifest, content } = signed;
    const raw = joinChunks(manifest, [0, 1], content)!;
    expect(splitChunks(crypto, manifest, [0, 1], raw)?.size).toBe(2);
    expect(splitChunks(crypto, manifest, [1, 0], raw)).toBeUndefined();
    expect(splitChunks(crypto, manifest, [0, 1], raw.subarray(1))).toBeUndefined();
    expect(splitChunks(crypto, manifest, [0, 1], Buffer.concat([raw, Buffer.from("x")]))).toBeUndefined();
    expect(splitChunks(crypto, manifest, [0, 999], raw)).toBeUndefined();
    const changed = raw.slice();
    changed[5]! ^= 1;
    expect(splitChunks(crypto, manifest, [0, 1], changed)).toBeUndefined();
  });
});

test("parcels hold every chunk once, in order, and none is too long for a frame", () => {
  const { manifest, content } = signCheckpoint(crypto, HEAD, checkpointOf(randomBytes(3 * MIB)));
  const missing = missingIn(manifest, new Map());
  const parcels = parcelsOf(manifest, missing);
  expect(parcels.flat()).toEqual(missing);
  for (const parcel of parcels) {
    expect(joinChunks(manifest, parcel, content)!.length).toBeLessThanOrEqual(PARCEL_BYTES);
    expect(parcel.length).toBeLessThanOrEqual(PARCEL_CHUNKS);
  }
  const window = windowOf(manifest, missing, MIB);
  expect(joinChunks(manifest, window, content)!.length).toBeLessThanOrEqual(MIB);
  expect(windowOf(manifest, missing, 1)).toEqual([0]);
});
