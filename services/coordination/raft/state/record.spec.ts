import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  RaftCommitHintSchema,
  RaftEntrySchema,
  RaftHardStateSchema,
  RaftManifestSchema,
  RaftRecordSchema,
} from "#gen/foedus/coordination/v1alpha1/raft_pb.ts";
import { entry } from "../../../../test/support/raft-arbitrary.ts";
import {
  manifestBytes,
  parseManifest,
  readCommit,
  readEntry,
  readHard,
  readStoredManifest,
  signedBytes,
  writeCommit,
  writeEntry,
  writeHard,
  writeManifest,
} from "./record.ts";

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");
const MEMBERSHIP = { voters: ["a/1", "b/1"], outgoing: ["a/1"], learners: ["c/2"] };
const MANIFEST = { sender: "a/1", index: 7, term: 3, time: 1_800_000_000_000, membership: MEMBERSHIP, length: 5, partBytes: 4 };
const DIGESTS = [new Uint8Array(32).fill(1), new Uint8Array(32).fill(2)];

describe("records", () => {
  test("have the bytes that they always had", () => {
    expect(hex(writeHard({ replica: "a/1", term: 300, vote: "b/1" }))).toMatchInlineSnapshot(
      `"0a0d0a03612f3110ac021a03622f3110a4d1b9aa09"`,
    );
    expect(hex(writeCommit(9))).toMatchInlineSnapshot(`"0a020809109aeca9c404"`);
    const payloads = [Uint8Array.of(1, 2), new Uint8Array(0)];
    expect(hex(writeEntry({ index: 7, term: 3, time: 1_800_000_000_000, payloads, membership: MEMBERSHIP }))).toMatchInlineSnapshot(
      `"0a27080710031880a0f1c2b1342202010222002a140a03612f310a03622f311203612f311a03632f3210f083ed8d05"`,
    );
    expect(hex(signedBytes(manifestBytes({ ...MANIFEST, digests: DIGESTS })))).toMatchInlineSnapshot(
      `"666f65647573207261667420736e617073686f74206d616e6966657374207631000a03612f31100718032080a0f1c2b1342a140a03612f310a03622f311203612f311a03632f32300538044220010101010101010101010101010101010101010101010101010101010101010142200202020202020202020202020202020202020202020202020202020202020202"`,
    );
  });

  test("are what the schema says", () => {
    const body = (bytes: Uint8Array): Uint8Array => fromBinary(RaftRecordSchema, bytes).body;
    expect(fromBinary(RaftHardStateSchema, body(writeHard({ replica: "a/1", term: 300, vote: "b/1" })))).toMatchObject({
      replica: "a/1",
      term: 300n,
      vote: "b/1",
    });
    expect(fromBinary(RaftCommitHintSchema, body(writeCommit(9))).commit).toBe(9n);
    const payloads = [Uint8Array.of(1, 2), new Uint8Array(0)];
    const written = writeEntry({ index: 7, term: 3, time: 4, payloads, membership: MEMBERSHIP });
    const message = create(RaftEntrySchema, { index: 7n, term: 3n, time: 4n, payloads, membership: MEMBERSHIP });
    expect(hex(body(written))).toBe(hex(toBinary(RaftEntrySchema, message)));
    const { length, ...rest } = MANIFEST;
    const manifest = create(RaftManifestSchema, {
      ...rest,
      index: 7n,
      term: 3n,
      time: 1_800_000_000_000n,
      length: BigInt(length),
      digests: DIGESTS,
    });
    expect(hex(manifestBytes({ ...MANIFEST, digests: DIGESTS }))).toBe(hex(toBinary(RaftManifestSchema, manifest)));
  });

  test("are read as they were written", () => {
    fc.assert(
      fc.property(entry, (one) => {
        expect(readEntry("r", writeEntry(one))).toEqual(one);
      }),
    );
    for (const vote of [undefined, "b/1"]) {
      const state = { replica: "a/1", term: 2 ** 48 - 1, vote };
      expect(readHard("r", writeHard(state))).toEqual(state);
    }
    expect(readCommit("r", writeCommit(0))).toBe(0);
    const manifest = { ...MANIFEST, digests: DIGESTS };
    expect(readStoredManifest("r", writeManifest(manifest))).toEqual(manifest);
    expect(parseManifest(manifestBytes(manifest))).toEqual(manifest);
  });

  test("are told when a byte of them is another one, or some are missing", () => {
    const bytes = writeEntry({ index: 7, term: 3, time: 4, payloads: [Uint8Array.of(1, 2, 3)] });
    for (let at = 0; at < bytes.length; at++) {
      const other = bytes.slice();
      other[at] = (other[at] as number) ^ 0x10;
      expect(() => readEntry("raft/7", other), `byte ${at}`).toThrow("record raft/7");
      expect(() => readEntry("raft/7", bytes.subarray(0, at)), `cut at ${at}`).toThrow("record raft/7");
    }
  });

  test("that contradict themselves are no manifests", () => {
    const broken = [
      { ...MANIFEST, digests: DIGESTS.slice(1) },
      { ...MANIFEST, digests: [...DIGESTS, DIGESTS[0] as Uint8Array] },
      { ...MANIFEST, digests: [DIGESTS[0] as Uint8Array, new Uint8Array(31)] },
      { ...MANIFEST, digests: DIGESTS, partBytes: 0 },
      { ...MANIFEST, digests: DIGESTS, membership: { ...MEMBERSHIP, voters: [] } },
      { ...MANIFEST, digests: DIGESTS, membership: { ...MEMBERSHIP, voters: ["b/1", "a/1"] } },
    ];
    for (const manifest of broken) {
      expect(parseManifest(manifestBytes(manifest))).toBeUndefined();
      expect(() => readStoredManifest("raft/snapshot", writeManifest(manifest))).toThrow("record raft/snapshot");
    }
    expect(parseManifest(Uint8Array.of(1, 2, 3))).toBeUndefined();
  });
});
