import { describe, expect, test } from "vitest";
import { LIMITS } from "#kernel/limits.ts";
import { GATEWAY, Instants, keyOf, nodeBytes, settleAll, TestHub, TestLink } from "../../test/fakes/registry-hub.ts";
import type { NamedUpdate, NodeRecord } from "./messages.ts";

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
