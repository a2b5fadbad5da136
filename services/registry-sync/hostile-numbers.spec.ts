import { create, toBinary } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import { SegmentHeaderSchema } from "#gen/foedus/registry_sync/segment/v1/segment_pb.ts";
import { createCrypto } from "#runtime/crypto.ts";
import {
  ANY_NODE,
  GATEWAY,
  Instants,
  keyOf,
  type MemoryDisk,
  nodeBytes,
  settleAll,
  TestHub,
  TestLink,
} from "../../test/fakes/registry-hub.ts";
import { segmentCodec } from "./codec/segment-codec.ts";
import { concat, utf8 } from "./codec/wire.ts";
import { Payload, SEGMENT_DOMAIN } from "./feed/segment.ts";
import type { FeedPosition } from "./messages.ts";
import { CODEC } from "./ports.ts";

const LATIN1 = Uint8Array.of(0x4b, 0xfc, 0x63);

/** World is a hub that holds the feed of another, whose key the test has: it signs whatever it likes. */
class World {
  readonly clock = new Instants();
  owner = new TestHub("owner", this.clock);
  reader = new TestHub("reader", this.clock);
  link: TestLink;

  constructor() {
    this.owner.register(nodeBytes("lamp", ["on:bool", "watts:double", "label:string", "doc:json"]));
    for (const [hub, peer] of [
      [this.owner, "reader"],
      [this.reader, "owner"],
    ] as const)
      hub.post({ kind: "peers", peers: [{ hubId: peer, share: "full", level: 3 }], complete: true });
    this.link = this.connect();
  }

  connect(): TestLink {
    const link = new TestLink(this.owner, this.reader);
    settleAll([this.owner, this.reader], [link]);
    return link;
  }

  get held(): FeedPosition {
    return this.reader.core.feeds().find(({ head }) => head.hubId === "owner")?.head as FeedPosition;
  }

  /** segment is the next one of the feed, rightly signed. */
  segment(payload: Payload, numbers: { wallMs?: bigint; epoch?: bigint; seq?: bigint; beat?: bigint; share?: string } = {}): Uint8Array {
    const { hash, sign } = createCrypto(keyOf("owner"));
    const { held } = this;
    const body = payload.bytes();
    const header = toBinary(
      SegmentHeaderSchema,
      create(SegmentHeaderSchema, {
        hubId: "owner",
        share: numbers.share ?? "full",
        epoch: numbers.epoch ?? BigInt(held.epoch),
        seq: numbers.seq ?? BigInt(held.seq + 1),
        prev: held.digest,
        hlc: { wallMs: numbers.wallMs ?? BigInt(this.clock.wall), logical: 0 },
        beat: numbers.beat ?? 0n,
        count: payload.count,
        codec: CODEC.IDENTITY,
        payloadDigest: hash(body),
        rawLen: body.length,
        keySerial: 1,
      }),
    );
    const signature = sign(concat([SEGMENT_DOMAIN, header]));
    return concat([segmentCodec.encodeSigned(header, signature), Uint8Array.of(0x1a, body.length), body]);
  }

  /** send gives a segment to the reader and answers its refusal. */
  send(segment: Uint8Array) {
    this.clock.advance(1_000);
    this.reader.outbox.length = 0;
    this.reader.post({ kind: "frame", session: this.link.id, frame: { type: "segment", segment } });
    this.reader.settle();
    return this.reader.outbox.map(({ frame }) => (frame.type === "nack" ? frame.failure : frame.type));
  }
}

function payloadOf(...blocks: Parameters<typeof segmentCodec.encodeBlock>[0][]): Payload {
  const payload = new Payload();
  for (const block of blocks) payload.block(segmentCodec.encodeBlock(block));
  return payload;
}

const presence = (): Payload => payloadOf({ kind: "presence", online: [1], offline: [] });

describe("numbers of a rightly signed feed", () => {
  test.each([
    ["header.hlc.wall_ms", { wallMs: 2n ** 64n - 1n }],
    ["header.hlc.wall_ms", { wallMs: 2n ** 48n }],
    ["header.epoch", { epoch: 2n ** 63n }],
    ["header.epoch", { epoch: 0n }],
    ["header.seq", { seq: 0n }],
    ["header.seq", { seq: 2n ** 40n }],
    ["header.beat", { beat: 2n ** 53n + 1n }],
    ["header.share", { share: "x".repeat(64) }],
  ])("F-1 F-4 %s out of bounds is refused by its name, and the hub shows what it had, also after a restart", (field, numbers) => {
    const world = new World();
    const before = world.held;
    const [refusal] = world.send(world.segment(presence(), numbers));
    expect(refusal).toMatchObject({ reason: "SEGMENT_INVALID", message: expect.stringContaining(field) });
    expect(world.held).toEqual(before);
    const again = world.reader.crash();
    again.post({
      kind: "watch_open",
      watch: 1,
      options: { filter: ANY_NODE, encoding: "blocks", nodesOnly: false, latestOnly: false, resume: [] },
    });
    again.settle();
    expect(again.ask({ hubIds: ["owner"] })).toHaveLength(1);
  });

  test("a segment without a clock reading is taken as the oldest reading that there is", () => {
    const world = new World();
    const segment = world.segment(presence(), { wallMs: 0n });
    expect(world.send(segment)).toEqual(["ack"]);
  });

  test.each([7, 8, 0x7fff_ffff, -1])("F-2 a key of the unknown value type %i asks for an upgrade, and what is held stays", (type) => {
    const world = new World();
    const before = world.held;
    const key = { kind: "key_def", kref: 9, name: "level", type: type as never } as const;
    expect(world.send(world.segment(payloadOf(key)))).toMatchObject([
      { reason: "UPGRADE_NEEDED", facts: { key: "level", type: String(type) } },
    ]);
    expect(world.held).toEqual(before);
    expect(world.reader.crash().ask({ hubIds: ["owner"] })).toHaveLength(1);
  });

  test("a key that gets a second number, which a restart would read otherwise, is refused", () => {
    const world = new World();
    const twice = payloadOf({ kind: "key_def", kref: 9, name: "watts", type: 3 });
    expect(world.send(world.segment(twice))).toMatchObject([{ reason: "SEGMENT_INVALID" }]);
  });

  test.each([
    ["a segment", (world: World, disk: MemoryDisk) => poisonLog(world, disk)],
    ["a checkpoint", (_world: World, disk: MemoryDisk) => poisonMeta(disk, { hlc: { wallMs: 2 ** 64, logical: 0 } })],
    ["a checkpoint of a position that no store has", (_world: World, disk: MemoryDisk) => poisonMeta(disk, { seq: 2 ** 40 })],
    ["a checkpoint of epoch 0", (_world: World, disk: MemoryDisk) => poisonMeta(disk, { epoch: 0 })],
  ])("F-1 %s that a version before has stored does not end the hub: it says so, and asks for the feed anew", (_what, poison) => {
    const world = new World();
    const { disk } = world.reader;
    world.link.down();
    poison(world, disk);
    world.reader = world.reader.crash();
    world.reader.settle();
    const told = world.reader.events.filter(({ severity, hub }) => severity === "ERROR" && hub === "owner");
    expect(told.map(({ text }) => text)).toEqual(["what is stored of a peer's feed cannot be used; it is asked for anew"]);
    world.reader.post({ kind: "peers", peers: [{ hubId: "owner", share: "full", level: 3 }], complete: true });
    world.link = world.connect();
    expect(world.reader.ask({ hubIds: ["owner"] }).map(({ name }) => name.nodeId)).toEqual(["lamp"]);
    const own = world.owner.core.feeds().find((feed) => feed.own)?.head;
    expect([world.held.epoch, world.held.seq]).toEqual([own?.epoch, own?.seq]);
    const after = world.reader.crash();
    after.settle();
    expect(after.ask({ hubIds: ["owner"] })).toHaveLength(1);
    expect(after.events.filter(({ severity }) => severity === "ERROR")).toEqual([]);
  });
});

function poisonLog(world: World, disk: MemoryDisk): void {
  const { epoch, seq } = world.held;
  const bytes = world.segment(presence(), { wallMs: 2n ** 64n - 1n });
  disk.apply([{ op: "append", log: `import/owner/full/${epoch}`, seq: seq + 1, bytes }]);
}

function poisonMeta(disk: MemoryDisk, numbers: object): void {
  const meta = JSON.parse(new TextDecoder().decode(disk.get("meta", "table/owner"))) as Record<string, unknown>;
  disk.apply([{ op: "put", space: "meta", key: "table/owner", bytes: utf8(JSON.stringify({ ...meta, ...numbers })) }]);
}

describe("state of callers", () => {
  const open = (hub: TestHub): void => {
    hub.post({ kind: "stream_open", stream: 1, scope: GATEWAY });
    hub.post({
      kind: "bind",
      stream: 1,
      id: 1,
      nodeIds: ["lamp"],
      keys: [
        { name: "label", type: 4 },
        { name: "doc", type: 6 },
      ],
    });
    hub.settle();
  };
  const batch = (hub: TestHub, texts: readonly (readonly [number, Uint8Array])[]) => {
    const [bound] = hub.bound;
    const columns = {
      count: texts.length,
      numCount: 0,
      intCount: 0,
      ref: Uint32Array.from(texts, () => bound?.refs[0] as number),
      key: Uint32Array.from(texts, ([key]) => bound?.krefs[key] as number),
      bits: new Uint32Array(0),
      len: Uint32Array.from(texts, ([, { length }]) => length),
      data: concat(texts.map(([, bytes]) => bytes)),
    };
    return segmentCodec.decodeState(segmentCodec.encodeState(columns)) as never;
  };

  test("F-20 one text that is none is refused by its index, and the batches around it are taken", () => {
    const { owner } = new World();
    open(owner);
    const send = (seq: number, ...texts: (readonly [number, Uint8Array])[]): void => {
      owner.post({ kind: "updates", stream: 1, seq, batch: batch(owner, texts) });
      owner.settle();
    };
    send(1, [0, utf8("Küche")], [1, utf8('{"a":1}')]);
    send(2, [1, utf8("[1]")], [0, LATIN1]);
    send(3, [0, utf8("a")], [1, utf8("{nope")]);
    // The pieces of one character in two values: all of the column is UTF-8, and neither of the values.
    send(4, [0, Uint8Array.of(0xc3)], [0, Uint8Array.of(0xbc)]);
    send(5, [0, utf8("ok")]);
    expect(owner.refused.map(({ seq, index, failure }) => [seq, index, failure.message])).toEqual([
      [2, 1, "the text is not UTF-8"],
      [3, 1, "the value is not JSON (RFC 8259)"],
      [4, 0, "the text is not UTF-8"],
    ]);
    expect(
      owner
        .ask()[0]
        ?.state.filter(({ key }) => key === "label" || key === "doc")
        .map(({ value }) => value),
    ).toEqual(["ok", '{"a":1}']);
  });
});
