import { readFileSync } from "node:fs";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  BlockSchema,
  FeedKeyStatementSchema,
  SegmentHeaderSchema,
  SegmentPayloadSchema,
  SegmentSchema,
  SignedManifestSchema,
  SnapshotManifestSchema,
  StateBlockSchema,
} from "#gen/foedus/registry_sync/segment/v1/segment_pb.ts";
import { SessionRequestSchema, SessionResponseSchema } from "#gen/foedus/registry_sync/v1alpha1/session_pb.ts";
import { createCrypto, importFeedKey } from "#runtime/crypto.ts";
import { nodeBytes } from "../../../test/fakes/registry-hub.ts";
import { stateHashOf } from "../export/snapshot.ts";
import { Payload, SEGMENT_DOMAIN, SNAPSHOT_DOMAIN, sealSegment, ZERO_DIGEST } from "../feed/segment.ts";
import type { Columns } from "../ports.ts";
import { decodeState, LITTLE_ENDIAN, segmentCodec } from "./segment-codec.ts";
import { concat, hex, utf8 } from "./wire.ts";

const SEED = Uint8Array.from({ length: 32 }, (_, i) => i);
const key = importFeedKey(SEED);
const crypto = createCrypto(key);

function columns(
  nums: readonly (readonly [number, number, number])[],
  ints: readonly (readonly [number, number, bigint])[],
  texts: readonly (readonly [number, number, Uint8Array])[],
): Columns {
  const all = [...nums, ...ints, ...texts];
  const words = new ArrayBuffer(8 * (nums.length + ints.length));
  new Float64Array(words, 0, nums.length).set(nums.map((item) => item[2]));
  new BigInt64Array(words, 8 * nums.length).set(ints.map((item) => item[2]));
  return {
    count: all.length,
    numCount: nums.length,
    intCount: ints.length,
    ref: Uint32Array.from(all, (item) => item[0]),
    key: Uint32Array.from(all, (item) => item[1]),
    bits: new Uint32Array(words),
    len: Uint32Array.from(texts, (item) => item[2].length),
    data: concat(texts.map((item) => item[2])),
  };
}

/** vectors are the examples of docs/PROTOCOL.md. Everything in them follows from the seed; Ed25519 has no randomness. */
function vectors() {
  const node = nodeBytes("lamp-1", ["power:bool!", "watts:double", "count:int", "label:string"], { type: "light" });
  const place = { hubId: "alpha", share: "full", epoch: 1, hlc: { wallMs: 1_700_000_000_000, logical: 0 }, beat: 42, keySerial: 1 };
  const first = new Payload();
  first.block(segmentCodec.encodeBlock({ kind: "epoch_open", reason: 1, continuesEpoch: 0, continuesSeq: 0 }));
  const one = sealSegment(segmentCodec, crypto, { ...place, seq: 1, prev: ZERO_DIGEST }, first);
  const second = new Payload();
  const names = [
    ["power", 1],
    ["watts", 3],
    ["count", 2],
    ["label", 4],
  ] as const;
  for (const [kref, [name, type]] of names.entries()) second.block(segmentCodec.encodeBlock({ kind: "key_def", kref, name, type }));
  second.block(segmentCodec.encodeBlock({ kind: "node_put", ref: 1, node, online: true }));
  const state = segmentCodec.encodeState(
    columns(
      [
        [1, 0, 1],
        [1, 1, 4.5],
      ],
      [[1, 2, -7n]],
      [[1, 3, utf8("hall")]],
    ),
  );
  second.state(state, 4);
  second.block(segmentCodec.encodeBlock({ kind: "presence", online: [], offline: [1] }), 1);
  second.block(segmentCodec.encodeBlock({ kind: "node_del", ref: 1 }));
  const two = sealSegment(
    segmentCodec,
    crypto,
    { ...place, seq: 2, prev: one.digest, hlc: { wallMs: 1_700_000_000_000, logical: 1 } },
    second,
  );
  const part = new Payload();
  part.block(segmentCodec.encodeBlock({ kind: "key_def", kref: 1, name: "watts", type: 3 }));
  part.block(segmentCodec.encodeBlock({ kind: "node_put", ref: 1, node, online: true }));
  const raw = part.bytes();
  const parts = [{ sha256: crypto.hash(raw), len: raw.length, rawLen: raw.length, codec: 1 }];
  const manifest = segmentCodec.encodeManifest({
    hubId: "alpha",
    share: "full",
    epoch: 1,
    asOfSeq: 2,
    headDigest: two.digest,
    stateHash: stateHashOf(crypto, parts),
    parts,
    keySerial: 1,
    hlc: { wallMs: 1_700_000_000_000, logical: 1 },
    nodes: 1,
  });
  const manifestSignature = crypto.sign(concat([SNAPSHOT_DOMAIN, manifest]));
  const statement = toBinary(
    FeedKeyStatementSchema,
    create(FeedKeyStatementSchema, {
      hubId: "alpha",
      key: key.publicKey,
      serial: 1,
      notBeforeMs: 1_700_000_000_000n,
      notAfterMs: 1_731_536_000_000n,
      revokesUpTo: 0,
    }),
  );
  const segment = (item: typeof one) => ({
    header: hex(segmentCodec.encodeHeader(item.header)),
    digest: hex(item.digest),
    payload: hex(item.payload),
    segment: hex(item.segment),
  });
  return {
    seed: hex(SEED),
    public_key: hex(key.publicKey),
    node: hex(node),
    state_block: hex(state),
    segments: [segment(one), segment(two)],
    session_request_with_segment_2: hex(two.message!),
    snapshot: { part: hex(raw), manifest: hex(manifest), signed_manifest: hex(segmentCodec.encodeSigned(manifest, manifestSignature)) },
    feed_key_statement: hex(statement),
  };
}

const bytes = (text: string): Uint8Array => Buffer.from(text, "hex");

describe("the signed bytes", () => {
  test("are those of the test vectors", async () => {
    await expect(`${JSON.stringify(vectors(), null, 2)}\n`).toMatchFileSnapshot("testdata/vectors.json");
  });

  test("golden segments are read by the plain schema, chained and signed as the protocol says", () => {
    const golden = JSON.parse(readFileSync(new URL("testdata/vectors.json", import.meta.url), "utf8")) as ReturnType<typeof vectors>;
    let prev = ZERO_DIGEST;
    for (const item of golden.segments) {
      const segment = fromBinary(SegmentSchema, bytes(item.segment));
      const header = fromBinary(SegmentHeaderSchema, segment.header);
      expect(crypto.verify(bytes(golden.public_key), concat([SEGMENT_DOMAIN, segment.header]), segment.signature)).toBe(true);
      expect(hex(header.prev)).toBe(hex(prev));
      expect(hex(header.payloadDigest)).toBe(hex(crypto.hash(segment.payload)));
      expect(header.rawLen).toBe(segment.payload.length);
      prev = crypto.hash(segment.header) as typeof prev;
      expect(hex(prev)).toBe(item.digest);
    }
    const last = fromBinary(SegmentSchema, bytes(golden.segments[1]!.segment));
    expect(fromBinary(SegmentPayloadSchema, last.payload).blocks.map((block) => block.kind.case)).toEqual([
      "keyDef",
      "keyDef",
      "keyDef",
      "keyDef",
      "nodePut",
      "state",
      "presence",
      "nodeDel",
    ]);
    for (const schema of [SessionRequestSchema, SessionResponseSchema]) {
      const frame = fromBinary(schema, bytes(golden.session_request_with_segment_2)).frame?.frame;
      expect(frame?.case === "segment" && hex(frame.value.segment)).toBe(golden.segments[1]!.segment);
    }
    const signed = fromBinary(SignedManifestSchema, bytes(golden.snapshot.signed_manifest));
    expect(crypto.verify(bytes(golden.public_key), concat([SNAPSHOT_DOMAIN, signed.manifest]), signed.signature)).toBe(true);
    expect(fromBinary(SnapshotManifestSchema, signed.manifest).asOfSeq).toBe(2n);
  });
});

const u32 = fc.integer({ min: 0, max: 0xffff_ffff });
const block = fc.record({
  nums: fc.array(fc.tuple(u32, u32, fc.double()), { maxLength: 20 }),
  ints: fc.array(fc.tuple(u32, u32, fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n })), { maxLength: 20 }),
  texts: fc.array(fc.tuple(u32, u32, fc.uint8Array({ maxLength: 30 })), { maxLength: 20 }),
});

describe("columns", () => {
  test("this machine is little-endian, like the wire", () => {
    expect(LITTLE_ENDIAN).toBe(true);
  });

  test("the fast decoder reads what the generated one reads", () => {
    fc.assert(
      fc.property(block, ({ nums, ints, texts }) => {
        const wire = segmentCodec.encodeState(columns(nums, ints, texts));
        const plain = fromBinary(StateBlockSchema, wire);
        const fast = decodeState(wire)!;
        const fixed = fast.bits.buffer.slice(fast.bits.byteOffset, fast.bits.byteOffset + fast.bits.byteLength) as ArrayBuffer;
        expect([...fast.ref]).toEqual(plain.ref);
        expect([...fast.key]).toEqual(plain.key);
        expect([...new Float64Array(fixed, 0, fast.numCount)]).toEqual(plain.num);
        expect([...new BigInt64Array(fixed, 8 * fast.numCount)]).toEqual(plain.int);
        expect([...fast.len]).toEqual(plain.len);
        expect(hex(fast.data)).toBe(hex(plain.data));
      }),
      { numRuns: 300 },
    );
  });

  test("unpacked, split and unknown fields are read as protobuf demands", () => {
    const writer = new BinaryWriter();
    writer.tag(1, WireType.Bit32).fixed32(1).tag(2, WireType.LengthDelimited).fork().fixed32(7).join();
    writer.tag(3, WireType.Bit64).double(1.5).tag(1, WireType.LengthDelimited).fork().fixed32(2).join();
    writer.tag(2, WireType.Bit32).fixed32(8).tag(99, WireType.Varint).uint32(5).tag(4, WireType.Bit64).sfixed64(-3n);
    const batch = decodeState(writer.finish())!;
    expect([[...batch.ref], [...batch.key], batch.numCount, batch.intCount]).toEqual([[1, 2], [7, 8], 1, 1]);
    expect(new BigInt64Array(batch.bits.buffer, 8, 1)[0]).toBe(-3n);
  });

  test("malformed bytes are answered, never thrown", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 60 }), (noise) => {
        for (const read of [
          decodeState,
          segmentCodec.decodeSegment,
          segmentCodec.decodeHeader,
          segmentCodec.decodePayload,
          segmentCodec.decodeManifest,
          segmentCodec.decodeSigned,
          segmentCodec.readNode,
        ]) {
          expect(() => read(noise)).not.toThrow();
        }
      }),
      { numRuns: 2_000 },
    );
    const wire = segmentCodec.encodeState(columns([[1, 1, 1]], [], []));
    for (let cut = 1; cut < wire.length; cut++) expect(decodeState(wire.subarray(0, cut))).toBeUndefined();
  });
});

describe("a node's entry, which a snapshot has by the thousand", () => {
  const generated = (ref: number, node: Uint8Array, online: boolean): Uint8Array =>
    toBinary(BlockSchema, create(BlockSchema, { kind: { case: "nodePut", value: { ref, node, online } } }));

  test.each([1, 127, 128, 16_384, 4_294_967_295])("ref %i is written as the generated code writes it, and read back", (ref) => {
    for (const length of [1, 127, 128, 20_000]) {
      for (const online of [true, false]) {
        const node = new Uint8Array(length).fill(7);
        const bytes = segmentCodec.encodeBlock({ kind: "node_put", ref, node, online });
        expect(Buffer.from(bytes).equals(generated(ref, node, online))).toBe(true);
        const payload = new Payload();
        payload.block(bytes);
        expect(segmentCodec.decodePayload(payload.bytes())).toEqual([{ kind: "node_put", ref, node, online }]);
      }
    }
  });

  test("fields in another order, or a default that is spelled out, are read all the same", () => {
    const put = (fields: string): Uint8Array =>
      concat([Uint8Array.of(0x0a, fields.length / 2 + 2, 0x0a, fields.length / 2), Uint8Array.from(Buffer.from(fields, "hex"))]);
    expect(segmentCodec.decodePayload(put("1202010208051801"))).toEqual([
      { kind: "node_put", ref: 5, node: Uint8Array.of(1, 2), online: true },
    ]);
    expect(segmentCodec.decodePayload(put("0805120201021800"))).toEqual([
      { kind: "node_put", ref: 5, node: Uint8Array.of(1, 2), online: false },
    ]);
    expect(segmentCodec.decodePayload(put("08051205"))).toBeUndefined();
  });
});
