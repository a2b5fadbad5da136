import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import { NodeSchema } from "#gen/foedus/common/v1/node_pb.ts";
import { LIMITS } from "#kernel/bounds/limits.ts";
import { createCrypto } from "#runtime/crypto.ts";
import { GATEWAY, Instants, keyOf, nodeBytes, settleAll, TestHub, TestLink } from "../../test/fakes/registry-hub.ts";
import { segmentCodec } from "./codec/segment-codec.ts";
import { Payload, sealSegment } from "./feed/segment.ts";
import type { FeedPosition, NamedUpdate, NodeRecord, PeerFrame } from "./messages.ts";

function double(nodeId: string, key: string, value: number): NamedUpdate {
  return { nodeId, key, value, type: 3 };
}

function seen(records: readonly NodeRecord[], hubId: string): string[] {
  return records
    .filter((record) => record.name.hubId === hubId)
    .map((r) =>
      `${r.name.nodeId} ${r.online ? "on" : "off"} ${r.freshness} ${r.state.map((s) => `${s.key}=${String(s.value)}`).join(" ")}`.trim(),
    );
}

function refusals(hub: TestHub): (string | undefined)[] {
  return hub.events.filter((event) => event.event === "segment_refused").map((event) => event.fields["reason"]);
}

function pair(optionsA = {}, optionsB = {}, share = "full") {
  const clock = new Instants();
  const a = new TestHub("alpha", clock, optionsA);
  const b = new TestHub("beta", clock, optionsB);
  a.post({ kind: "peers", peers: [{ hubId: "beta", share, level: 3 }], complete: true });
  b.post({ kind: "peers", peers: [{ hubId: "alpha", share: "full", level: 3 }], complete: true });
  return { clock, a, b };
}

describe("two hubs", () => {
  test("S0-13 S1-12 the whole feed comes on connect, then each change (B0-6)", () => {
    const { a, b } = pair();
    a.register(nodeBytes("lamp", ["power:bool!", "watts:double"]), nodeBytes("door", ["name:string"]));
    a.post({ kind: "stream_open", stream: 1, scope: GATEWAY });
    a.update(1, 1, [double("lamp", "watts", 4.5)]);
    a.settle();
    expect(a.acked.get(1)).toBe(1);
    const link = new TestLink(a, b);
    settleAll([a, b], [link]);
    expect(seen(b.ask(), "alpha")).toEqual(["door on FRESH", "lamp on FRESH watts=4.5"]);
    a.update(1, 2, [
      { nodeId: "lamp", key: "power", value: true, type: 1 },
      { nodeId: "door", key: "name", value: "front", type: 4 },
    ]);
    settleAll([a, b], [link]);
    expect(seen(b.ask(), "alpha")).toEqual(["door on FRESH name=front", "lamp on FRESH power=true watts=4.5"]);
    a.deregister("lamp");
    settleAll([a, b], [link]);
    expect(seen(b.ask(), "alpha")).toEqual(["door on FRESH name=front"]);
  });

  test("S0-14 a peer has of a node what its hub has: type, name, capabilities, state, and whether it is online", () => {
    const node = create(NodeSchema, {
      nodeId: "lamp",
      kind: 1,
      type: "light",
      name: "Kitchen",
      labels: { room: "kitchen" },
      capabilities: [{ name: "watts", type: 3, readable: true, unit: "W", max: 60 }],
    });
    // As a segment when the link is there first, as a snapshot when it comes later.
    for (const linked of [true, false]) {
      const { a, b } = pair();
      const links = linked ? [new TestLink(a, b)] : [];
      settleAll([a, b], links);
      a.post({ kind: "stream_open", stream: 1, scope: GATEWAY });
      a.register(toBinary(NodeSchema, node));
      a.update(1, 1, [double("lamp", "watts", 4.5)]);
      settleAll([a, b], links);
      if (!linked) settleAll([a, b], [new TestLink(a, b)]);
      const [record] = b.ask();
      expect(fromBinary(NodeSchema, record!.node)).toEqual(node);
      expect(record).toMatchObject({
        name: { hubId: "alpha", nodeId: "lamp" },
        online: true,
        state: [{ key: "watts", type: 3, value: 4.5 }],
      });
    }
  });

  test("S0-17 an acknowledgement, a reply and a segment leave only when durable", () => {
    const { a, b } = pair();
    const link = new TestLink(a, b);
    settleAll([a, b], [link]);
    a.post({ kind: "stream_open", stream: 1, scope: GATEWAY });
    const call = a.register(nodeBytes("lamp", ["watts:double"]));
    a.settle();
    expect(a.registered.get(call)?.[0]?.failure).toBeUndefined();
    link.deliver();
    a.settle();
    a.update(1, 1, [double("lamp", "watts", 1)]);
    a.post({ kind: "flush" });
    expect(a.acked.has(1)).toBe(false);
    expect(a.outbox.some((item) => item.frame.type === "segment")).toBe(false);
    a.commit();
    expect(a.acked.get(1)).toBe(1);
    expect(a.outbox.some((item) => item.frame.type === "segment")).toBe(true);
  });

  test("D-3 a node deleted while apart is gone after the link returns, by resume and by snapshot", () => {
    for (const ringSegments of [4_096, 2]) {
      const { a, b } = pair({ ringSegments });
      const link = new TestLink(a, b);
      a.register(nodeBytes("lamp", ["watts:double"]), nodeBytes("door", []));
      settleAll([a, b], [link]);
      link.down();
      a.deregister("lamp");
      a.settle();
      for (let i = 0; i < 5; i++) {
        a.register(nodeBytes(`extra-${i}`, []));
        a.settle();
      }
      const again = new TestLink(a, b);
      settleAll([a, b], [again]);
      expect(b.ask().map((record) => record.name.nodeId)).toEqual(["door", "extra-0", "extra-1", "extra-2", "extra-3", "extra-4"]);
    }
  });

  test("D-7 after a restart an imported feed is there, UNKNOWN and offline, until proven", () => {
    const { a, b } = pair();
    const link = new TestLink(a, b);
    a.register(nodeBytes("lamp", ["watts:double"]));
    settleAll([a, b], [link]);
    const b2 = b.crash();
    expect(seen(b2.ask(), "alpha")).toEqual(["lamp off UNKNOWN"]);
    b2.post({ kind: "peers", peers: [{ hubId: "alpha", share: "full", level: 3 }], complete: true });
    link.down();
    const again = new TestLink(a, b2);
    settleAll([a, b2], [again]);
    again.ping();
    expect(seen(b2.ask(), "alpha")).toEqual(["lamp on FRESH"]);
  });

  test("S0-6 B0-5 freshness decays without proof and remote nodes then count as offline", () => {
    const { clock, a, b } = pair();
    const link = new TestLink(a, b);
    a.register(nodeBytes("lamp", []));
    settleAll([a, b], [link]);
    link.ping();
    expect(seen(b.ask(), "alpha")).toEqual(["lamp on FRESH"]);
    clock.advance(31_000);
    expect(seen(b.ask(), "alpha")).toEqual(["lamp on STALE"]);
    clock.advance(60_000);
    expect(seen(b.ask(), "alpha")).toEqual(["lamp off UNKNOWN"]);
    a.post({ kind: "stream_open", stream: 1, scope: GATEWAY });
    settleAll([a, b], [link]);
    link.ping();
    expect(seen(b.ask(), "alpha")).toEqual(["lamp on FRESH"]);
  });

  test("S1-15 a hub whose heartbeats of 30 s stay out three times is suspect: UNKNOWN and offline until the next one", () => {
    const { clock, a, b } = pair();
    const link = new TestLink(a, b);
    a.post({ kind: "stream_open", stream: 1, scope: GATEWAY });
    a.register(nodeBytes("lamp", []));
    settleAll([a, b], [link]);
    // A proof is as old as half a round trip when it comes, which is 1 ms here.
    for (let beat = 0; beat < 4; beat++) {
      link.ping();
      expect(seen(b.ask(), "alpha")).toEqual(["lamp on FRESH"]);
      clock.advance(29_999);
      expect(seen(b.ask(), "alpha")).toEqual(["lamp on FRESH"]);
    }
    clock.advance(1);
    expect(seen(b.ask(), "alpha")).toEqual(["lamp on STALE"]);
    clock.advance(59_999);
    expect(seen(b.ask(), "alpha")).toEqual(["lamp on STALE"]);
    clock.advance(1);
    expect(seen(b.ask(), "alpha")).toEqual(["lamp off UNKNOWN"]);
    link.ping();
    expect(seen(b.ask(), "alpha")).toEqual(["lamp on FRESH"]);
  });

  test("B0-6 a peer that takes nothing holds up no other, and gets all of it later", () => {
    const { clock, a, b } = pair();
    const c = new TestHub("gamma", clock);
    c.post({ kind: "peers", peers: [{ hubId: "alpha", share: "full", level: 3 }], complete: true });
    a.post({
      kind: "peers",
      peers: [
        { hubId: "beta", share: "full", level: 3 },
        { hubId: "gamma", share: "full", level: 3 },
      ],
      complete: true,
    });
    a.register(nodeBytes("lamp", ["text:string"]));
    a.post({ kind: "stream_open", stream: 1, scope: GATEWAY });
    const credit = 4_096;
    const [quick, slow] = [new TestLink(a, b), new TestLink(a, c, credit)];
    settleAll([a, b, c], [quick, slow]);
    for (let i = 1; i <= 40; i++) {
      a.update(1, i, [{ nodeId: "lamp", key: "text", value: `${i} `.repeat(100), type: 4 }]);
      settleAll([a, b], [quick]);
    }
    const newest = `lamp on FRESH text=${"40 ".repeat(100)}`.trim();
    expect([seen(b.ask(), "alpha"), a.acked.get(1)]).toEqual([[newest], 40]);
    const waiting = a.outbox.filter(({ session }) => session === slow.id);
    expect(waiting.length).toBeGreaterThan(0);
    expect(waiting.length).toBeLessThan(credit / 200);
    settleAll([a, b, c], [quick, slow]);
    expect(seen(c.ask(), "alpha")).toEqual([newest]);
  });

  test("B0-7 a node that moved is not taken from its new hub when the old one removes it", () => {
    const { clock, a, b } = pair();
    const c = new TestHub("gamma", clock);
    c.post({ kind: "peers", peers: [{ hubId: "beta", share: "full", level: 3 }], complete: true });
    b.post({
      kind: "peers",
      peers: [
        { hubId: "alpha", share: "full", level: 3 },
        { hubId: "gamma", share: "full", level: 3 },
      ],
      complete: true,
    });
    const links = [new TestLink(a, b), new TestLink(c, b)];
    a.register(nodeBytes("robot", []));
    settleAll([a, b, c], links);
    c.register(nodeBytes("robot", []));
    settleAll([a, b, c], links);
    a.deregister("robot");
    settleAll([a, b, c], links);
    expect(b.ask().map(({ name }) => `${name.hubId}/${name.nodeId}`)).toEqual(["gamma/robot"]);
  });

  test("B0-2 a segment of another hub than the sender's is refused and changes nothing", () => {
    const { clock, a, b } = pair();
    const link = new TestLink(a, b);
    a.register(nodeBytes("lamp", []));
    settleAll([a, b], [link]);
    const c = new TestHub("gamma", clock);
    c.post({ kind: "peers", peers: [{ hubId: "beta", share: "full", level: 3 }], complete: true });
    b.post({
      kind: "peers",
      peers: [
        { hubId: "alpha", share: "full", level: 3 },
        { hubId: "gamma", share: "full", level: 3 },
      ],
      complete: true,
    });
    const side = new TestLink(c, b);
    settleAll([b, c], [side]);
    a.register(nodeBytes("door", []));
    a.settle();
    const stolen = a.outbox.find((item) => item.frame.type === "segment");
    expect(stolen).toBeDefined();
    b.post({ kind: "frame", session: side.id, frame: stolen!.frame });
    b.settle();
    expect(b.outbox.map((item) => item.frame.type)).toEqual(["nack"]);
    expect(seen(b.ask(), "alpha")).toEqual(["lamp on FRESH"]);
  });

  test("D-5 nothing imported is exported", () => {
    const { clock, a, b } = pair();
    const c = new TestHub("gamma", clock);
    c.post({ kind: "peers", peers: [{ hubId: "beta", share: "full", level: 3 }], complete: true });
    b.post({
      kind: "peers",
      peers: [
        { hubId: "alpha", share: "full", level: 3 },
        { hubId: "gamma", share: "full", level: 3 },
      ],
      complete: true,
    });
    a.register(nodeBytes("lamp", []));
    b.register(nodeBytes("own", []));
    const links = [new TestLink(a, b), new TestLink(b, c)];
    settleAll([a, b, c], links);
    expect(c.ask().map((record) => `${record.name.hubId}/${record.name.nodeId}`)).toEqual(["beta/own"]);
    expect(a.ask().map((record) => `${record.name.hubId}/${record.name.nodeId}`)).toEqual(["alpha/lamp", "beta/own"]);
  });

  test("a hub restored from an old backup opens a higher epoch and its peers follow", () => {
    const { a, b } = pair();
    const link = new TestLink(a, b);
    a.register(nodeBytes("lamp", []));
    settleAll([a, b], [link]);
    const backup = a.disk.copy();
    a.register(nodeBytes("door", []));
    settleAll([a, b], [link]);
    expect(b.ask()).toHaveLength(2);
    link.down();
    a.disk = backup;
    const a2 = a.crash();
    a2.post({ kind: "peers", peers: [{ hubId: "beta", share: "full", level: 3 }], complete: true });
    const again = new TestLink(a2, b);
    settleAll([a2, b], [again]);
    expect(a2.core.describe()).toContain("own full at=2/");
    expect(b.ask().map((record) => record.name.nodeId)).toEqual(["lamp"]);
  });

  test("a fork freezes the feed, is told, and heals by a new epoch", () => {
    const { a, b } = pair();
    const link = new TestLink(a, b);
    a.register(nodeBytes("lamp", []));
    settleAll([a, b], [link]);
    const backup = a.disk.copy();
    a.register(nodeBytes("door", []));
    settleAll([a, b], [link]);
    link.down();
    a.disk = backup;
    const a2 = a.crash();
    a2.post({ kind: "peers", peers: [{ hubId: "beta", share: "full", level: 3 }], complete: true });
    // The same number of segments as before, with other content: a head with another digest.
    a2.register(nodeBytes("window", []));
    a2.settle();
    const again = new TestLink(a2, b);
    settleAll([a2, b], [again]);
    expect(b.ask().map((record) => record.name.nodeId)).toEqual(["lamp", "window"]);
    expect(b.core.describe()).not.toContain("FROZEN");
  });

  test("an unclean stop without power-loss durability, on another boot, opens an epoch", () => {
    const clock = new Instants();
    const a = new TestHub("alpha", clock, {}, undefined, { bootId: "one", durability: "process" });
    a.register(nodeBytes("lamp", []));
    a.settle();
    const same = a.crash({}, { bootId: "one", durability: "process" });
    expect(same.core.describe()).toContain("own full at=1/");
    same.settle();
    const other = same.crash({}, { bootId: "two", durability: "process" });
    expect(other.core.describe()).toContain("own full at=2/1");
    other.post({ kind: "stop" });
    other.settle();
    expect(other.crash({}, { bootId: "three", durability: "process" }).core.describe()).toContain("own full at=2/1");
  });

  test("what counts of an unclean stop is the durability that was promised before it, and a start that failed changes nothing", () => {
    const clock = new Instants();
    for (const [before, after, epoch] of [
      ["process", "full", 2],
      ["full", "process", 1],
    ] as const) {
      const a = new TestHub("alpha", clock, {}, undefined, { bootId: "one", durability: before });
      a.register(nodeBytes("lamp", []));
      a.settle();
      // It starts, and is gone before anything of that is durable.
      a.crash({}, { bootId: "two", durability: after });
      const other = a.crash({}, { bootId: "two", durability: after });
      expect(other.core.describe()).toContain(`own full at=${epoch}/`);
      other.settle();
      expect(other.crash({}, { bootId: "two", durability: after }).core.describe()).toContain(`own full at=${epoch}/`);
    }
  });

  test("a feed key that is unknown, revoked or expired is refused, and the last good state kept", () => {
    const { a, b } = pair();
    const link = new TestLink(a, b);
    a.register(nodeBytes("lamp", []));
    settleAll([a, b], [link]);
    b.post({
      kind: "feed_key",
      peer: "alpha",
      key: keyOf("other").publicKey,
      serial: 2,
      notAfterWall: Number.MAX_SAFE_INTEGER,
      revokesUpTo: 1,
    });
    a.register(nodeBytes("door", []));
    a.settle();
    link.deliver();
    b.settle();
    expect(refusals(b)).toEqual(["FEED_KEY_INVALID"]);
    expect(refusals(a)).toEqual(["FEED_KEY_INVALID"]);
    expect(seen(b.ask(), "alpha")).toEqual(["lamp on FRESH"]);
  });

  test("a limit for peers that is lowered stops neither this hub's own nodes nor its start; what is held of a peer stays, and does not grow", () => {
    for (const ringSegments of [4_096, 1]) {
      const { clock, a, b } = pair({ ringSegments });
      const names = (hub: TestHub, origin: string) => seen(hub.ask(), origin).map((text) => text.split(" ")[0]);
      a.register(nodeBytes("one", ["watts:double"]), nodeBytes("two", []), nodeBytes("three", []));
      b.register(nodeBytes("own-1", []), nodeBytes("own-2", []), nodeBytes("own-3", []));
      settleAll([a, b], [new TestLink(a, b)]);
      clock.advance(61_000);
      b.settle();
      const low = b.crash({ limits: { ...LIMITS, nodesPerPeer: 2 } });
      expect([names(low, "beta"), names(low, "alpha")]).toEqual([
        ["own-1", "own-2", "own-3"],
        ["one", "three", "two"],
      ]);
      const limits = low.events.filter(({ event }) => event === "limit").map(({ hub, count, fields }) => [hub, count, fields]);
      expect(limits).toEqual([["alpha", 3, { limit: "nodes_per_peer", max: "2" }]]);
      low.register(nodeBytes("own-4", []));
      low.post({ kind: "peers", peers: [{ hubId: "alpha", share: "full", level: 3 }], complete: true });
      // What changes without growing is taken: by segments, and (with the small ring) by a snapshot.
      a.register(nodeBytes("two", [], { type: "light" }));
      a.settle();
      a.deregister("three");
      a.register(nodeBytes("four", []));
      const link = new TestLink(a, low);
      settleAll([a, low], [link]);
      expect([names(low, "beta").length, names(low, "alpha")]).toEqual([4, ["four", "one", "two"]]);
      a.register(nodeBytes("five", []));
      a.settle();
      link.deliver();
      low.settle();
      expect([refusals(low).at(-1), names(low, "alpha")]).toEqual(["LIMIT_EXCEEDED", ["four", "one", "two"]]);
    }
  });

  test("what a peer says of one node is bounded: its number, its length, and the names of its keys", () => {
    const { clock, a, b } = pair();
    const link = new TestLink(a, b);
    a.register(nodeBytes("lamp", []));
    settleAll([a, b], [link]);
    const { epoch, seq, digest } = a.core.heads("beta")[0] as FeedPosition;
    const place = {
      hubId: "alpha",
      share: "full",
      epoch,
      seq: seq + 1,
      prev: digest,
      hlc: { wallMs: 1, logical: 0 },
      beat: 1,
      keySerial: 1,
    };
    const watts = { kind: "key_def", kref: 0, name: "watts", type: 3 } as const;
    const far = nodeBytes("far", ["watts:double"]);
    const cases = [
      ["refs_per_feed", [watts, { kind: "node_put", ref: 4_294_967_294, node: far, online: false }]],
      ["refs_per_feed", [watts, { kind: "node_put", ref: LIMITS.refsPerFeed + 1, node: far, online: false }]],
      ["node_bytes", [{ kind: "node_put", ref: 2, node: nodeBytes("far", [], { name: "n".repeat(LIMITS.nodeBytes) }), online: false }]],
      ["name_length", [{ ...watts, name: "k".repeat(128) }]],
    ] as const;
    for (const [limit, blocks] of cases) {
      const payload = new Payload();
      for (const block of blocks) payload.block(segmentCodec.encodeBlock(block));
      clock.advance(1_000);
      const { segment } = sealSegment(segmentCodec, createCrypto(keyOf("alpha")), place, payload);
      b.post({ kind: "frame", session: link.id, frame: { type: "segment", segment } });
      b.settle();
      const nacks = b.outbox.splice(0).flatMap(({ frame }) => (frame.type === "nack" ? [frame.failure] : []));
      expect(nacks).toMatchObject([{ reason: "LIMIT_EXCEEDED", facts: { limit } }]);
    }
    expect(seen(b.ask(), "alpha")).toEqual(["lamp on FRESH"]);
  });

  test("more nodes than the limit are refused by the name of the limit", () => {
    const { a, b } = pair({}, { limits: { ...LIMITS, nodesPerPeer: 2 } });
    const link = new TestLink(a, b);
    a.register(nodeBytes("one", []), nodeBytes("two", []));
    settleAll([a, b], [link]);
    expect(b.ask()).toHaveLength(2);
    a.register(nodeBytes("three", []));
    a.settle();
    link.deliver();
    b.settle();
    expect(refusals(b)).toEqual(["LIMIT_EXCEEDED"]);
    expect(b.events.find((event) => event.event === "limit")?.fields).toEqual({ limit: "nodes_per_peer", max: "2" });
    expect(b.ask()).toHaveLength(2);
  });
});

describe("what an owner says of its head", () => {
  test("F-22 is taken from its newest offer: one that said too much, or lost its newest to a backup, is believed again", () => {
    const clock = new Instants();
    const [a, b] = [new TestHub("alpha", clock), new TestHub("beta", clock)];
    for (const [self, peer] of [
      [a, "beta"],
      [b, "alpha"],
    ] as const)
      self.post({ kind: "peers", peers: [{ hubId: peer, share: "full", level: 3 }], complete: true });
    a.register(nodeBytes("lamp", []));
    const first = new TestLink(a, b);
    settleAll([a, b], [first]);
    const head = a.core.heads("beta")[0] as FeedPosition;
    const lie: PeerFrame = { type: "feed_offer", head: { ...head, seq: head.seq + 5 }, keyStatement: new Uint8Array(0) };
    b.post({ kind: "frame", session: first.id, frame: lie });
    clock.advance(30_000);
    settleAll([a, b], [new TestLink(a, b)]);
    expect(b.ask()[0]?.ageMs).toBeLessThan(1_000);
  });
});
