// What a reader and an owner of feeds owe to a hub of another make: the rules of docs/PROTOCOL.md that no other test shows by itself.
import { describe, expect, test } from "vitest";
import { createCrypto } from "#runtime/crypto.ts";
import { Instants, keyOf, nodeBytes, settleAll, TestHub, TestLink } from "../../test/fakes/registry-hub.ts";
import { segmentCodec } from "./codec/segment-codec.ts";
import { concat } from "./codec/wire.ts";
import { stateHashOf } from "./export/snapshot.ts";
import { Payload, SEGMENT_DOMAIN, SNAPSHOT_DOMAIN, signedHeader } from "./feed/segment.ts";
import type { FeedPosition, PeerFrame, ShareRules } from "./messages.ts";
import { CODEC, type SegmentHeader, type SnapshotManifest } from "./ports.ts";

const { hash, sign } = createCrypto(keyOf("owner"));
type Nack = Extract<PeerFrame, { type: "nack" }>;

/** Reader holds the feed of `owner`, in whose name the test signs what it likes. */
class Reader {
  readonly clock = new Instants();
  readonly owner = new TestHub("owner", this.clock);
  readonly hub = new TestHub("reader", this.clock);
  link: TestLink;

  constructor() {
    this.owner.register(nodeBytes("lamp", ["on:bool", "label:string"]));
    this.owner.post({ kind: "peers", peers: [{ hubId: "reader", share: "full", level: 3 }], complete: true });
    this.hub.post({ kind: "peers", peers: [{ hubId: "owner", share: "full", level: 3 }], complete: true });
    this.link = new TestLink(this.owner, this.hub);
    settleAll([this.owner, this.hub], [this.link]);
  }

  get held(): FeedPosition {
    return this.hub.core.feeds().find(({ head }) => head.hubId === "owner")?.head as FeedPosition;
  }

  /** segment is the next one of the feed with fields of its header changed before it is signed. */
  segment(more: Partial<SegmentHeader> = {}, payload = empty(), spoil = 0): Uint8Array {
    const { epoch, seq, digest } = this.held;
    const body = payload.bytes();
    const header = segmentCodec.encodeHeader({
      hubId: "owner",
      share: "full",
      epoch,
      seq: seq + 1,
      prev: digest,
      hlc: { wallMs: this.clock.wall, logical: 0 },
      beat: 1,
      count: payload.count,
      codec: CODEC.IDENTITY,
      payloadDigest: hash(body),
      rawLen: body.length,
      keySerial: 1,
      ...more,
    });
    const signature = sign(concat([SEGMENT_DOMAIN, header]));
    signature[0] = (signature[0] as number) ^ spoil;
    return concat([signedHeader(header, signature), Uint8Array.of(0x1a, body.length), body]);
  }

  manifest(more: Partial<SnapshotManifest> = {}, spoil = 0): Uint8Array {
    const { epoch, seq, digest } = this.held;
    const body = segmentCodec.encodeManifest({
      hubId: "owner",
      share: "full",
      epoch,
      asOfSeq: seq,
      headDigest: digest,
      stateHash: stateHashOf({ hash }, []),
      parts: [],
      keySerial: 1,
      hlc: { wallMs: this.clock.wall, logical: 0 },
      nodes: 0,
      ...more,
    });
    const signature = sign(concat([SNAPSHOT_DOMAIN, body]));
    signature[0] = (signature[0] as number) ^ spoil;
    return segmentCodec.encodeSigned(body, signature);
  }

  /** answers gives a frame to the reader, a second after the last, and what it says to it. */
  answers(frame: PeerFrame, session = this.link.id): PeerFrame[] {
    this.clock.advance(1_000);
    return this.answersNow(frame, session);
  }

  answersNow(frame: PeerFrame, session = this.link.id): PeerFrame[] {
    this.hub.outbox.length = 0;
    this.hub.post({ kind: "frame", session, frame });
    this.hub.settle();
    return this.hub.outbox.map((item) => item.frame);
  }

  /** refusal is the one Nack to a frame: its reason, and whether a snapshot is wanted. */
  refusal(frame: PeerFrame, session?: number): [string, boolean] {
    const answers = this.answers(frame, session);
    expect(answers.map(({ type }) => type)).toEqual(["nack"]);
    const { failure, wantSnapshot, held } = answers[0] as Nack;
    expect(held.hubId).toBe("owner");
    return [failure.reason, wantSnapshot];
  }

  /** later is a session on which nothing was offered yet. */
  later(): number {
    this.link.down();
    this.link = new TestLink(this.owner, this.hub);
    return this.link.id;
  }
}

const empty = (): Payload => {
  const payload = new Payload();
  payload.block(segmentCodec.encodeBlock({ kind: "presence", online: [1], offline: [] }));
  return payload;
};

const zeros = new Uint8Array(32);

describe("a reader", () => {
  test.each<[string, (reader: Reader) => Uint8Array, string, boolean]>([
    ["F3 a share of 64 bytes", (r) => r.segment({ share: "x".repeat(64) }), "SEGMENT_INVALID", true],
    ["F4 another hub", (r) => r.segment({ hubId: "other" }), "SEGMENT_INVALID", false],
    ["F5 another share", (r) => r.segment({ share: "limited" }), "FEED_GAP", true],
    ["F5 another epoch", (r) => r.segment({ epoch: r.held.epoch + 1 }), "FEED_GAP", true],
    ["F5 a gap", (r) => r.segment({ seq: r.held.seq + 2 }), "FEED_GAP", false],
    ["F7 a key that is not known", (r) => r.segment({ keySerial: 2 }), "FEED_KEY_INVALID", false],
    ["F8 a codec that is for snapshots", (r) => r.segment({ codec: CODEC.ZSTD }), "UPGRADE_NEEDED", false],
    ["F9 another length", (r) => r.segment({ rawLen: 1 }), "SEGMENT_INVALID", true],
    ["F9 another digest", (r) => r.segment({ payloadDigest: zeros }), "SEGMENT_INVALID", true],
    ["F9 another signature", (r) => r.segment({}, empty(), 1), "SEGMENT_INVALID", true],
    ["F11 another count", (r) => r.segment({ count: 2 }), "SEGMENT_INVALID", true],
  ])(
    "PROTOCOL F2, F3 to F11 and O9 refuses %s with its reason, keeps what it held, and then takes the right one",
    (_what, make, reason, wants) => {
      const reader = new Reader();
      const before = reader.held;
      expect(reader.refusal({ type: "segment", segment: make(reader) })).toEqual([reason, wants]);
      expect(reader.held).toEqual(before);
      expect(reader.answers({ type: "segment", segment: reader.segment() }).map(({ type }) => type)).toEqual(["ack"]);
    },
  );

  test("PROTOCOL F4 takes no segment on a session on which it did not open the feed", () => {
    const reader = new Reader();
    const segment = reader.segment();
    expect(reader.refusal({ type: "segment", segment }, reader.later())).toEqual(["SEGMENT_INVALID", false]);
  });

  test("PROTOCOL F6, F10 and F12 acknowledges the same again, and freezes at another history until a snapshot replaces it", () => {
    const reader = new Reader();
    const next = reader.segment();
    const twin = reader.segment({ beat: 2 });
    expect(reader.answers({ type: "segment", segment: next })).toMatchObject([{ type: "ack" }]);
    const { held } = reader;
    expect(reader.answers({ type: "segment", segment: next })).toMatchObject([{ type: "ack", position: { seq: held.seq } }]);
    expect(reader.refusal({ type: "segment", segment: twin })).toEqual(["FEED_FORK", false]);
    expect(reader.refusal({ type: "segment", segment: reader.segment() })).toEqual(["FEED_FORK", false]);
    expect(reader.held).toEqual(held);
    // PROTOCOL F10: another `prev`.
    const other = new Reader();
    expect(other.refusal({ type: "segment", segment: other.segment({ prev: zeros }) })).toEqual(["FEED_FORK", false]);
    // The snapshot of a higher epoch ends it.
    const answers = reader.answers({
      type: "snapshot",
      manifest: reader.manifest({ epoch: held.epoch + 1, asOfSeq: 1, headDigest: hash(zeros) }),
    });
    expect(answers).toMatchObject([{ type: "ack", position: { epoch: held.epoch + 1, seq: 1 } }]);
    expect(reader.answers({ type: "segment", segment: reader.segment() }).map(({ type }) => type)).toEqual(["nack"]);
    // PROTOCOL N6: one of an earlier epoch is too old, however far it goes.
    const older = reader.manifest({ epoch: held.epoch, asOfSeq: 1_000 });
    expect(reader.refusal({ type: "snapshot", manifest: older })).toEqual(["FEED_GAP", false]);
  });

  test("PROTOCOL O9 says no more than one Nack in 100 ms, but always that there is a fork", () => {
    const reader = new Reader();
    const gap = { type: "segment", segment: reader.segment({ seq: reader.held.seq + 2 }) } as const;
    expect(reader.answers(gap)).toHaveLength(1);
    expect(reader.answersNow(gap)).toHaveLength(0);
    reader.clock.advance(99);
    expect(reader.answersNow(gap)).toHaveLength(0);
    expect(reader.answersNow({ type: "segment", segment: reader.segment({ prev: zeros }) })).toHaveLength(1);
  });

  test.each<[string, (reader: Reader) => Uint8Array, string]>([
    ["N5 of another share than the offered one", (r) => r.manifest({ share: "limited" }), "SEGMENT_INVALID"],
    ["N5 of another hub", (r) => r.manifest({ hubId: "other" }), "SEGMENT_INVALID"],
    ["N5 with another signature", (r) => r.manifest({}, 1), "FEED_KEY_INVALID"],
    ["N5 under a key that is not known", (r) => r.manifest({ keySerial: 2 }), "FEED_KEY_INVALID"],
    ["N6 of an earlier position", (r) => r.manifest({ asOfSeq: r.held.seq - 1 }), "FEED_GAP"],
    ["V1 of epoch 0", (r) => r.manifest({ epoch: 0, asOfSeq: 1_000 }), "SEGMENT_INVALID"],
    ["V1 of a position that no store has", (r) => r.manifest({ asOfSeq: 2 ** 40 }), "SEGMENT_INVALID"],
    ["N3 whose state hash is another", (r) => r.manifest({ stateHash: zeros }), "SEGMENT_INVALID"],
  ])("PROTOCOL V1, N3, N5 and N6 refuses a snapshot %s, and keeps what it held", (_what, make, reason) => {
    const reader = new Reader();
    reader.answers({ type: "segment", segment: reader.segment() });
    const before = reader.held;
    expect(reader.refusal({ type: "snapshot", manifest: make(reader) })).toEqual([reason, false]);
    expect(reader.held).toEqual(before);
    expect(reader.hub.ask({ hubIds: ["owner"] })).toHaveLength(1);
  });

  test("PROTOCOL N3 holds a snapshot without parts, and what follows it, also after a restart", () => {
    const reader = new Reader();
    const epoch = reader.held.epoch + 1;
    const manifest = reader.manifest({ epoch, asOfSeq: 0, headDigest: zeros });
    expect(reader.answers({ type: "snapshot", manifest }).map(({ type }) => type)).toEqual(["ack"]);
    const payload = new Payload();
    payload.block(segmentCodec.encodeBlock({ kind: "node_put", ref: 1, node: nodeBytes("fan", []), online: false }));
    expect(reader.answers({ type: "segment", segment: reader.segment({}, payload) }).map(({ type }) => type)).toEqual(["ack"]);
    const again = reader.hub.crash();
    expect(again.ask({ hubIds: ["owner"] }).map(({ name }) => name.nodeId)).toEqual(["fan"]);
  });

  test("PROTOCOL V1 refuses what follows the last position that a store has, which would end the hub", () => {
    const reader = new Reader();
    const manifest = reader.manifest({ asOfSeq: 2 ** 40 - 1, headDigest: zeros });
    expect(reader.answers({ type: "snapshot", manifest }).map(({ type }) => type)).toEqual(["ack"]);
    const payload = new Payload();
    payload.block(segmentCodec.encodeBlock({ kind: "node_put", ref: 2, node: nodeBytes("fan", []), online: false }));
    expect(reader.refusal({ type: "segment", segment: reader.segment({}, payload) })).toEqual(["SEGMENT_INVALID", true]);
  });

  test("PROTOCOL N5 takes no snapshot on a session on which it did not open the feed", () => {
    const reader = new Reader();
    const manifest = reader.manifest();
    expect(reader.refusal({ type: "snapshot", manifest }, reader.later())).toEqual(["SEGMENT_INVALID", false]);
  });

  test("PROTOCOL O1 and O3 that shares and holds nothing says so first, and opens at 0.0 with the owner, the offered share and no digest", () => {
    const clock = new Instants();
    const [owner, hub] = [new TestHub("owner", clock), new TestHub("reader", clock)];
    const link = new TestLink(owner, hub);
    hub.outbox.length = 0;
    hub.post({ kind: "frame", session: link.id, frame: offer("full") });
    hub.settle();
    expect(hub.outbox.map(({ frame }) => frame)).toEqual([
      { type: "feed_offer", head: undefined, keyStatement: new Uint8Array(0) },
      {
        type: "feed_open",
        from: { hubId: "owner", share: "full", epoch: 0, seq: 0, digest: new Uint8Array(0) },
        heldParts: [],
      },
    ]);
  });

  test.each<[string, Partial<FeedPosition>]>([
    ["of epoch 0", { epoch: 0, seq: 0 }],
    ["without a share", { share: "" }],
    ["of nothing at all", { share: "", epoch: 0, seq: 0, digest: new Uint8Array(0) }],
  ])("PROTOCOL O2 refuses an offer %s, of which it would hold everything before anything has come", (_what, more) => {
    const clock = new Instants();
    const [owner, hub] = [new TestHub("owner", clock), new TestHub("reader", clock)];
    const link = new TestLink(owner, hub);
    hub.outbox.length = 0;
    const frame = offer("full") as Extract<PeerFrame, { type: "feed_offer" }>;
    hub.post({ kind: "frame", session: link.id, frame: { ...frame, head: { ...(frame.head as FeedPosition), ...more } } });
    hub.settle();
    const answers = hub.outbox.map((item) => item.frame).filter(({ type }) => type !== "feed_offer");
    expect(answers).toMatchObject([{ type: "nack", failure: { reason: "SEGMENT_INVALID" }, wantSnapshot: false }]);
  });

  test.each([[zeros], [new Uint8Array(0)]])(
    "PROTOCOL O2 and O10 hears nothing in a head of epoch 0 while a first snapshot comes",
    (digest) => {
      const { owner, clock } = new Reader();
      const hub = new TestHub("reader", clock);
      const link = new TestLink(owner, hub);
      settleAll([owner, hub], [link], ({ type }) => (type === "snapshot_part" ? 0 : 1));
      const coming = () => hub.core.feeds().find(({ own }) => !own);
      expect(coming()?.head.epoch).toBe(0);
      hub.outbox.length = 0;
      const heads = [{ hubId: "owner", share: "full", epoch: 0, seq: 0, digest }];
      hub.post({ kind: "heads", session: link.id, heads, rttMs: 1 });
      hub.settle();
      expect(hub.outbox).toEqual([]);
      expect(coming()).toMatchObject({ freshness: "UNKNOWN", frozen: false });
      expect(hub.events.filter(({ event }) => event === "fork")).toEqual([]);
    },
  );

  test("PROTOCOL B4 takes text that is none, as hubs did before, and shows U+FFFD", () => {
    const reader = new Reader();
    const label = segmentCodec.encodeState({
      count: 1,
      ref: Uint32Array.of(1),
      key: Uint32Array.of(1),
      numCount: 0,
      intCount: 0,
      bits: new Uint32Array(0),
      len: Uint32Array.of(3),
      data: Uint8Array.of(0x4b, 0xfc, 0x63),
    });
    const payload = new Payload();
    payload.state(label, 1);
    expect(reader.answers({ type: "segment", segment: reader.segment({}, payload) }).map(({ type }) => type)).toEqual(["ack"]);
    const [record] = reader.hub.ask({ hubIds: ["owner"] });
    expect(JSON.stringify(record)).toContain("K\uFFFDc");
  });
});

/** offer is what an owner says first. */
function offer(share: string): PeerFrame {
  return { type: "feed_offer", head: { hubId: "owner", share, epoch: 1, seq: 1, digest: zeros }, keyStatement: new Uint8Array(0) };
}

/** LAMPS is a share that shows lamps whole. */
const LAMPS: ShareRules = {
  name: "lamps",
  rules: [{ ids: ["lamp*"], types: [], kind: 0, labels: {}, allow: true, capabilities: ["*"], invoke: [] }],
};

describe("an owner", () => {
  const stage = () => {
    const reader = new Reader();
    const { owner, link } = reader;
    const say = (frame: PeerFrame): PeerFrame[] => {
      reader.clock.advance(1_000);
      owner.settle();
      owner.outbox.length = 0;
      owner.post({ kind: "frame", session: link.id, frame });
      owner.settle();
      return owner.outbox.map((item) => item.frame);
    };
    return { reader, owner, link, say };
  };
  const nothing: FeedPosition = { hubId: "owner", share: "full", epoch: 0, seq: 0, digest: new Uint8Array(0) };

  test("PROTOCOL O3 and O7 sends a snapshot to who holds nothing, and to who holds the end of an earlier epoch", () => {
    const { reader, say } = stage();
    const types = (frames: readonly PeerFrame[]) => frames.map(({ type }) => type);
    expect(types(say({ type: "feed_open", from: nothing, heldParts: [] }))).toEqual(["snapshot", "snapshot_part"]);
    const { held } = reader;
    expect(types(say({ type: "feed_open", from: held, heldParts: [] }))).toEqual([]);
    expect(held.epoch).toBe(1);
    expect(types(say({ type: "feed_open", from: { ...held, epoch: 0 }, heldParts: [] }))).toEqual(["snapshot", "snapshot_part"]);
  });

  test("PROTOCOL O8 acts after a Nack as it asks: a snapshot, what follows, or an offer", () => {
    const { reader, say, owner } = stage();
    const { held } = reader;
    const failure = { reason: "SEGMENT_INVALID", message: "no" } as const;
    const nack = (position: FeedPosition, wantSnapshot: boolean, reason: Nack["failure"]["reason"] = failure.reason): PeerFrame[] => {
      const at = say({ type: "nack", held: position, failure: { ...failure, reason }, wantSnapshot });
      reader.clock.advance(5_000);
      owner.settle();
      return [...at, ...owner.outbox.map((item) => item.frame).slice(at.length)];
    };
    const types = (frames: readonly PeerFrame[]) => frames.map(({ type }) => type);
    expect(types(nack(held, true))).toEqual(["snapshot", "snapshot_part"]);
    expect(types(nack({ ...held, seq: held.seq - 1 }, false))).toEqual(["segment"]);
    expect(types(nack({ ...held, epoch: 7 }, false))).toEqual(["feed_offer"]);
    say({ type: "feed_open", from: held, heldParts: [] });
    expect(types(nack(held, false, "FEED_FORK"))).toEqual(["feed_offer"]);
  });

  test("PROTOCOL O12 passes over what is acknowledged beyond its head or in another epoch, and an opening while something is to be forgotten", () => {
    const { reader, say, owner, link } = stage();
    const { held } = reader;
    const lag = (): string => /acked=\S+/.exec(owner.core.describe())?.[0] ?? owner.core.describe();
    const before = lag();
    for (const position of [
      { ...held, seq: held.seq + 1_000 },
      { ...held, epoch: held.epoch + 1 },
    ])
      expect([say({ type: "ack", position }), lag()]).toEqual([[], before]);
    owner.post({ kind: "peers", peers: [{ hubId: "reader", share: "", level: 1 }], complete: true });
    owner.settle();
    expect(owner.outbox.at(-1)?.frame).toMatchObject({ type: "forget", share: "full" });
    expect(say({ type: "feed_open", from: nothing, heldParts: [] })).toEqual([]);
    expect(link.up).toBe(true);
    expect(say({ type: "forget_done", share: "full" })).toMatchObject([{ type: "feed_offer", head: undefined }]);
  });

  test("PROTOCOL B6 gives nodes and keys the same numbers in every feed", () => {
    const clock = new Instants();
    const owner = new TestHub("owner", clock, { shares: [LAMPS] });
    owner.post({
      kind: "peers",
      peers: [
        { hubId: "all", share: "full", level: 3 },
        { hubId: "some", share: "lamps", level: 3 },
      ],
      complete: true,
    });
    const [all, some] = [new TestHub("all", clock), new TestHub("some", clock)];
    const links = [new TestLink(owner, all), new TestLink(owner, some)];
    owner.register(nodeBytes("door", ["open:bool"]), nodeBytes("lamp", ["level:double", "on:bool"]));
    settleAll([owner, all, some], links);
    owner.register(nodeBytes("lamp", ["level:double", "on:bool", "hue:int"]));
    owner.settle();
    const puts = owner.outbox.flatMap(({ session, frame }) => {
      if (frame.type !== "segment") return [];
      const parts = segmentCodec.decodeSegment(frame.segment);
      const blocks = (parts && segmentCodec.decodePayload(parts.payload)) ?? [];
      return blocks.flatMap((block) =>
        block.kind === "node_put" ? [[session, "ref", block.ref]] : block.kind === "key_def" ? [[session, block.name, block.kref]] : [],
      );
    });
    const of = (link: TestLink) => puts.filter(([session]) => session === link.id).map(([, what, number]) => [what, number]);
    expect(of(links[0] as TestLink)).toEqual(
      expect.arrayContaining([
        ["ref", 2],
        ["hue", expect.any(Number)],
      ]),
    );
    expect(of(links[1] as TestLink)).toEqual(of(links[0] as TestLink));
  });
});
