import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { StateBlockSchema } from "#gen/foedus/registry_sync/segment/v1/segment_pb.ts";
import { UpdateStateRequestSchema, WatchResponseSchema } from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import { SessionRequestSchema, SessionResponseSchema } from "#gen/foedus/registry_sync/v1alpha1/session_pb.ts";
import type { Caller } from "#runtime/rpc/call.ts";
import type { FeedPosition, PeerFrame } from "../messages.ts";
import { BlocksCache, blocksMessage } from "./answer-codec.ts";
import { decodeUpdateFrame, scopeOf } from "./codec.ts";
import { frameFromProto, frameToProto, segmentMessage } from "./frame-codec.ts";
import { segmentCodec } from "./segment-codec.ts";
import { UpdateColumns } from "./update-columns.ts";

type Change =
  | { readonly kind: "num"; readonly field: number; readonly value: number }
  | { readonly kind: "int"; readonly field: number; readonly value: bigint }
  | { readonly kind: "text"; readonly field: number; readonly value: Uint8Array };

const FIELDS = 50;
const field = fc.integer({ min: 0, max: FIELDS - 1 });
const change: fc.Arbitrary<Change> = fc.oneof(
  fc.record({ kind: fc.constant("num" as const), field, value: fc.double({ noNaN: true }) }),
  fc.record({ kind: fc.constant("int" as const), field, value: fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }) }),
  fc.record({ kind: fc.constant("text" as const), field, value: fc.uint8Array({ maxLength: 40 }) }),
);
const refs = Uint32Array.from({ length: FIELDS }, (_, i) => i * 7 + 1);
const keys = Uint32Array.from({ length: FIELDS }, (_, i) => i % 5);

function fill(changes: readonly Change[]): UpdateColumns {
  const columns = new UpdateColumns(64, 4_096);
  for (const { kind, field: at, value } of changes) {
    if (kind === "num") columns.addNumber(at, value);
    else if (kind === "int") columns.addInt(at, value);
    else columns.addText(at, value);
  }
  return columns;
}

/** The same changes as a plain message, written down without any of our encoders. */
function plain(seq: number, changes: readonly Change[]) {
  const sections = ["num", "int", "text"].flatMap((kind) => changes.filter((one) => one.kind === kind));
  const texts = sections.filter((one) => one.kind === "text");
  const state = create(StateBlockSchema, {
    ref: sections.map((one) => refs[one.field] as number),
    key: sections.map((one) => keys[one.field] as number),
    num: sections.filter((one) => one.kind === "num").map((one) => one.value),
    int: sections.filter((one) => one.kind === "int").map((one) => one.value),
    len: texts.map((one) => one.value.length),
    data: Buffer.concat(texts.map((one) => one.value)),
  });
  return create(UpdateStateRequestSchema, { frame: { case: "batch", value: { seq: BigInt(seq), state } } });
}

describe("batches of updates", () => {
  test("the sender's encoder writes what protobuf writes, byte for byte", () => {
    fc.assert(
      fc.property(fc.array(change, { maxLength: 60 }), fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }), (changes, seq) => {
        const columns = fill(changes);
        columns.seq = seq;
        const ours = columns.encode(refs, keys);
        expect(ours.equals(Buffer.from(toBinary(UpdateStateRequestSchema, plain(seq, changes))))).toBe(true);
      }),
    );
  });

  test("the hub reads it without protobuf, and gives the state's bytes verbatim", () => {
    fc.assert(
      fc.property(fc.array(change, { maxLength: 60 }), fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }), (changes, seq) => {
        const message = plain(seq, changes);
        const frame = decodeUpdateFrame(toBinary(UpdateStateRequestSchema, message));
        if (frame.kind !== "batch" || message.frame.case !== "batch") throw new Error("not a batch");
        expect(frame.seq).toBe(seq);
        expect(Buffer.from(frame.state).equals(Buffer.from(toBinary(StateBlockSchema, message.frame.value.state!)))).toBe(true);
        const batch = segmentCodec.decodeState(frame.state)!;
        expect(batch.count).toBe(changes.length);
        expect([...batch.ref]).toEqual([...message.frame.value.state!.ref]);
      }),
    );
  });

  test("what is written in another order, or with unknown fields, is read all the same", () => {
    const message = plain(9, [{ kind: "num", field: 3, value: 1.5 }]);
    if (message.frame.case !== "batch") throw new Error("not a batch");
    const state = toBinary(StateBlockSchema, message.frame.value.state!);
    // UpdateBatch with state (2) before seq (1), then an unknown field 9.
    const batch = Buffer.concat([Buffer.of(0x12, state.length), state, Buffer.of(0x08, 9), Buffer.of(0x48, 1)]);
    const frame = decodeUpdateFrame(Buffer.concat([Buffer.of(0x12, batch.length), batch]));
    expect(frame).toMatchObject({ kind: "batch", seq: 9 });
    expect(frame.kind === "batch" && segmentCodec.decodeState(frame.state)?.count).toBe(1);
  });

  test("garbage is malformed, and never an exception", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        const frame = decodeUpdateFrame(bytes);
        expect(["batch", "bind", "named", "malformed"]).toContain(frame.kind);
        if (frame.kind === "malformed") expect(frame.failure.reason).toBe("INVALID_FIELD");
      }),
    );
    expect(decodeUpdateFrame(new Uint8Array(0))).toMatchObject({ kind: "malformed", failure: { field: "frame" } });
  });

  test("retain keeps order and values of what is kept", () => {
    fc.assert(
      fc.property(fc.array(change, { maxLength: 60 }), fc.func(fc.boolean()), (changes, keep) => {
        const sections = ["num", "int", "text"].flatMap((kind) => changes.filter((one) => one.kind === kind));
        const columns = fill(changes);
        const gone = columns.retain((_field, index) => keep(index));
        const kept = sections.filter((_one, index) => keep(index));
        columns.seq = 1;
        expect(gone).toBe(changes.length - kept.length);
        expect(columns.encode(refs, keys).equals(Buffer.from(toBinary(UpdateStateRequestSchema, plain(1, kept))))).toBe(true);
        for (const [index, one] of kept.entries()) expect(columns.fieldAt(index)).toBe(one.field);
      }),
    );
  });
});

const position = fc.record<FeedPosition>({
  hubId: fc.constantFrom("alpha", "beta"),
  share: fc.constantFrom("full", "limited"),
  epoch: fc.integer({ min: 0, max: 2 ** 40 }),
  seq: fc.integer({ min: 0, max: 2 ** 40 }),
  digest: fc.uint8Array({ minLength: 32, maxLength: 32 }),
});
const failure = fc.constantFrom(
  { reason: "FEED_GAP" as const, message: "a gap" },
  { reason: "SEGMENT_INVALID" as const, message: "bad", field: "segment" },
);
const bytes = fc.uint8Array({ minLength: 1, maxLength: 300 });
const peerFrame: fc.Arbitrary<PeerFrame> = fc.oneof(
  fc.record({
    type: fc.constant("feed_offer" as const),
    head: fc.option(position, { nil: undefined }),
    keyStatement: fc.constant(Uint8Array.of(1, 2)),
  }),
  fc.record({ type: fc.constant("feed_open" as const), from: position, heldParts: fc.array(bytes, { maxLength: 4 }) }),
  fc.record({
    type: fc.constant("feed_open" as const),
    from: position,
    heldParts: fc.constant([]),
    proof: fc.record({ segment: bytes.filter(({ length }) => length > 0), manifest: bytes }),
  }),
  fc.record({ type: fc.constant("segment" as const), segment: bytes }),
  fc.record({ type: fc.constant("ack" as const), position }),
  fc.record({ type: fc.constant("nack" as const), held: position, failure, wantSnapshot: fc.boolean() }),
  fc.record({ type: fc.constant("snapshot" as const), manifest: bytes }),
  fc.record({ type: fc.constant("snapshot_part" as const), index: fc.nat(), data: bytes }),
  fc.record({ type: fc.constant("forget" as const), share: fc.constant("limited") }),
  fc.record({ type: fc.constant("forget_done" as const), share: fc.constant("limited") }),
);

describe("frames between registries", () => {
  test("every frame survives the way over the wire", () => {
    fc.assert(
      fc.property(peerFrame, (frame) => {
        const wire = toBinary(SessionRequestSchema, create(SessionRequestSchema, { frame: frameToProto(frame, Uint8Array.of(1, 2)) }));
        expect(frameFromProto(fromBinary(SessionRequestSchema, wire).frame!)).toEqual(frame);
      }),
    );
  });

  test("a segment's message is the same bytes in both directions, as protobuf writes them", () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 70_000, size: "max" }), (segment) => {
        const frame = { frame: { case: "segment" as const, value: { segment } } };
        const ours = segmentMessage(segment);
        expect(ours.equals(Buffer.from(toBinary(SessionRequestSchema, create(SessionRequestSchema, { frame }))))).toBe(true);
        expect(ours.equals(Buffer.from(toBinary(SessionResponseSchema, create(SessionResponseSchema, { frame }))))).toBe(true);
      }),
      { numRuns: 30 },
    );
  });

  test("blocks for watchers are read back by protobuf, and made once per payload", () => {
    const push = {
      kind: "blocks" as const,
      position: { hubId: "alpha", share: "full", epoch: 2, seq: 7, digest: new Uint8Array(32) },
      hlc: { wallMs: 1_800_000_000_000, logical: 3 },
      payload: new Uint8Array(300).fill(7),
      snapshot: false,
      last: false,
    };
    const read = fromBinary(WatchResponseSchema, blocksMessage(push).bytes).push;
    if (read.case !== "blocks") throw new Error("not blocks");
    expect(read.value.position).toMatchObject({ hubId: "alpha", share: "full", epoch: 2n, seq: 7n });
    expect(read.value.hlc).toMatchObject({ wallMs: 1_800_000_000_000n, logical: 3 });
    expect(Buffer.from(read.value.payload).equals(Buffer.from(push.payload))).toBe(true);
    const cache = new BlocksCache();
    expect(cache.of({ ...push })).toBe(cache.of({ ...push }));
    expect(cache.of({ ...push, last: true, snapshot: true })).not.toBe(cache.of(push));
  });
});

describe("scopes", () => {
  const caller: Caller = {
    kind: "node",
    hubId: "alpha",
    name: "lamp-1",
    spiffeId: "",
    thumbprint: "",
    notAfterWall: 0,
    level: 0,
    role: 0,
    prefixes: [],
  };

  test("a node speaks for itself, a gateway for its prefixes, others for nobody", () => {
    expect(scopeOf(caller)).toEqual({ name: "node/lamp-1", kind: "node", ids: ["lamp-1"], prefixes: [] });
    expect(scopeOf({ ...caller, kind: "gateway", name: "zigbee", prefixes: ["zb-"] })).toEqual({
      name: "gateway/zigbee",
      kind: "gateway",
      ids: [],
      prefixes: ["zb-"],
    });
    expect(scopeOf({ ...caller, kind: "gateway", name: "all" }).prefixes).toEqual([""]);
    expect(scopeOf({ ...caller, kind: "operator", name: "o" })).toMatchObject({ ids: [], prefixes: [] });
  });
});
