import { describe, expect, test } from "vitest";
import { GATEWAY, Instants, nodeBytes, settleAll, TestHub, TestLink } from "../../../test/fakes/registry-hub.ts";
import { segmentCodec } from "../codec/segment-codec.ts";
import type { Effect, Scope } from "../messages.ts";

const NODE: Scope = { name: "node/lamp", kind: "node", ids: ["lamp"], prefixes: [] };

function batchOf(ref: number, key: number, value: number) {
  const bits = new Uint32Array(new Float64Array([value]).buffer);
  const bytes = segmentCodec.encodeState({
    count: 1,
    numCount: 1,
    intCount: 0,
    ref: Uint32Array.of(ref),
    key: Uint32Array.of(key),
    bits,
    len: new Uint32Array(0),
    data: new Uint8Array(0),
  });
  return segmentCodec.decodeState(bytes)!;
}

function online(hub: TestHub): string[] {
  return hub.ask().map((record) => `${record.name.nodeId} ${record.online ? "on" : "off"}`);
}

describe("local nodes", () => {
  test("a batch is refused whole, with the index and the reason; a later one is taken", () => {
    const hub = new TestHub("alpha", new Instants());
    hub.register(nodeBytes("lamp", ["watts:double", "on:bool", "name:string"]), nodeBytes("other", ["watts:double"]));
    hub.post({ kind: "stream_open", stream: 1, scope: NODE });
    hub.post({
      kind: "bind",
      stream: 1,
      id: 9,
      nodeIds: ["lamp"],
      keys: [
        { name: "watts", type: 3 },
        { name: "on", type: 1 },
      ],
    });
    hub.settle();
    expect(hub.bound[0]).toMatchObject({ id: 9, epoch: 1, refs: [1], krefs: [0, 1], failure: undefined });
    const tries = [batchOf(1, 0, Number.NaN), batchOf(1, 1, 2), batchOf(7, 0, 1), batchOf(1, 9, 1), batchOf(2, 0, 1), batchOf(1, 2, 1)];
    for (const [index, batch] of tries.entries()) hub.post({ kind: "updates", stream: 1, seq: index + 1, batch });
    hub.post({ kind: "updates", stream: 1, seq: 20, batch: batchOf(1, 0, 4) });
    hub.settle();
    expect(hub.refused.map(({ seq, failure }) => `${seq} ${failure.reason}`)).toEqual([
      "1 INVALID_FIELD",
      "2 INVALID_FIELD",
      "3 NODE_NOT_FOUND",
      "4 CAPABILITY_NOT_FOUND",
      "5 OUT_OF_SCOPE",
      "6 INVALID_FIELD",
    ]);
    expect(hub.acked.get(1)).toBe(20);
    expect(hub.ask()[0]?.state).toEqual([{ key: "watts", type: 3, value: 4 }]);
    hub.update(1, 21, [{ nodeId: "lamp", key: "name", value: "x".repeat(5_000), type: 4 }]);
    hub.update(1, 22, [{ nodeId: "lamp", key: "watts", value: true, type: 1 }]);
    hub.settle();
    expect(hub.refused.slice(6).map(({ failure }) => failure.reason)).toEqual(["LIMIT_EXCEEDED", "INVALID_FIELD"]);
  });

  test("S0-17 a caller speaks only for the nodes of its scope", () => {
    const hub = new TestHub("alpha", new Instants());
    hub.post({ kind: "register", call: 1, scope: NODE, nodes: [nodeBytes("lamp", []), nodeBytes("door", [])] });
    hub.post({ kind: "deregister", call: 2, scope: NODE, nodeId: "door" });
    hub.settle();
    expect(hub.registered.get(1)?.map((result) => result.failure?.reason)).toEqual([undefined, "OUT_OF_SCOPE"]);
    expect(
      hub.others.find((effect): effect is Extract<Effect, { kind: "deregistered" }> => effect.kind === "deregistered")?.failure?.reason,
    ).toBe("OUT_OF_SCOPE");
  });

  test("a renewed certificate changes what a gateway may speak for: fewer prefixes, or more, from its next stream or registration on", () => {
    const gateway = (...prefixes: string[]): Scope => ({ name: "gateway/zigbee", kind: "gateway", ids: [], prefixes });
    const hub = new TestHub("alpha", new Instants());
    const refusedBy = (seq: number): string | undefined => hub.refused.find((refusal) => refusal.seq === seq)?.failure.reason;
    const bind = (id: number, nodeId: string): string | undefined => {
      hub.post({ kind: "bind", stream: 2, id, nodeIds: [nodeId], keys: [] });
      hub.settle();
      return hub.bound.find((bound) => bound.id === id)?.failure?.reason;
    };
    const nodes = ["zb-1", "zw-1", "kn-1"].map((nodeId) => nodeBytes(nodeId, ["x:double"]));
    hub.post({ kind: "register", call: 1, scope: gateway("zb-", "zw-"), nodes: nodes.slice(0, 2) });
    hub.register(nodes[2]!);
    hub.post({ kind: "stream_open", stream: 1, scope: gateway("zb-", "zw-") });
    hub.post({ kind: "updates", stream: 1, seq: 1, batch: batchOf(2, 0, 1) });
    expect([refusedBy(1), online(hub)]).toEqual([undefined, ["kn-1 on", "zb-1 on", "zw-1 on"]]);

    hub.post({ kind: "stream_open", stream: 2, scope: gateway("zb-") });
    expect(online(hub)).toEqual(["kn-1 on", "zb-1 on", "zw-1 off"]);
    expect([bind(1, "zw-1"), bind(2, "zb-1")]).toEqual(["OUT_OF_SCOPE", undefined]);
    hub.post({ kind: "updates", stream: 2, seq: 2, batch: batchOf(2, 0, 2) });
    hub.post({ kind: "updates", stream: 1, seq: 3, batch: batchOf(2, 0, 3) });
    hub.post({ kind: "updates", stream: 2, seq: 4, batch: batchOf(1, 0, 4) });
    hub.settle();
    expect([refusedBy(2), refusedBy(3), refusedBy(4)]).toEqual(["OUT_OF_SCOPE", "OUT_OF_SCOPE", undefined]);

    hub.post({ kind: "register", call: 2, scope: gateway("zb-", "kn-"), nodes: [nodes[2]!] });
    expect(bind(3, "kn-1")).toBeUndefined();
    hub.post({ kind: "updates", stream: 2, seq: 5, batch: batchOf(3, 0, 5) });
    hub.settle();
    expect(refusedBy(5)).toBeUndefined();
  });

  test("values of capabilities that stay survive a new registration, others go", () => {
    const hub = new TestHub("alpha", new Instants());
    hub.register(nodeBytes("lamp", ["a:double", "b:double", "c:double"]));
    hub.post({ kind: "stream_open", stream: 1, scope: GATEWAY });
    hub.update(
      1,
      1,
      ["a", "b", "c"].map((key, value) => ({ nodeId: "lamp", key, value, type: 3 as const })),
    );
    hub.register(nodeBytes("lamp", ["c:double", "b:string", "a:double"]));
    hub.settle();
    expect(hub.ask()[0]?.state.map(({ key, value }) => `${key}=${String(value)}`)).toEqual(["a=0", "c=2"]);
    expect(
      hub
        .crash()
        .ask()[0]
        ?.state.map(({ key, value }) => `${key}=${String(value)}`),
    ).toEqual(["a=0", "c=2"]);
  });

  test("presence: a node by its stream, a gateway's by a lease of 3 x 30 s, and by an executor, as long as executors are told of", () => {
    const clock = new Instants();
    const hub = new TestHub("alpha", clock);
    hub.register(nodeBytes("gated", ["x:double"]));
    hub.post({ kind: "register", call: 90, scope: NODE, nodes: [nodeBytes("lamp", [])] });
    hub.settle();
    hub.post({ kind: "stream_open", stream: 1, scope: NODE });
    expect(online(hub)).toEqual(["gated on", "lamp on"]);
    hub.post({ kind: "stream_close", stream: 1 });
    expect(online(hub)).toEqual(["gated on", "lamp off"]);
    hub.post({ kind: "presence", call: 91, attached: ["lamp"], detached: [], replace: true });
    expect(online(hub)).toEqual(["gated on", "lamp on"]);
    clock.advance(55_000);
    hub.post({ kind: "presence", call: 92, attached: [], detached: ["other"], replace: false });
    clock.advance(34_000);
    hub.settle();
    expect(online(hub)).toEqual(["gated on", "lamp on"]);
    clock.advance(2_000);
    hub.settle();
    expect(online(hub)).toEqual(["gated off", "lamp on"]);
    clock.advance(23_000);
    hub.settle();
    expect(online(hub)).toEqual(["gated off", "lamp on"]);
    clock.advance(2_000);
    hub.settle();
    expect(online(hub)).toEqual(["gated off", "lamp off"]);
    hub.post({ kind: "presence", call: 93, attached: ["lamp"], detached: [], replace: true });
    expect(online(hub)).toEqual(["gated off", "lamp on"]);
    hub.post({ kind: "presence", call: 94, attached: [], detached: [], replace: true });
    expect(online(hub)).toEqual(["gated off", "lamp off"]);
  });

  test("a restart changes nobody's presence for one lease", () => {
    const clock = new Instants();
    const hub = new TestHub("alpha", clock);
    hub.register(nodeBytes("lamp", []));
    hub.settle();
    const after = hub.crash();
    expect(online(after)).toEqual(["lamp on"]);
    expect(after.core.describe()).toContain("own full at=1/2");
    clock.advance(91_000);
    after.settle();
    expect(online(after)).toEqual(["lamp off"]);
  });

  test("S1-24 the open segment is closed after 100 ms at the latest, and when it is full", () => {
    const clock = new Instants();
    const hub = new TestHub("alpha", clock);
    hub.register(nodeBytes("lamp", ["watts:double"]));
    hub.settle();
    expect(hub.core.deadline()).toBeGreaterThan(clock.mono + 1_000);
    hub.post({ kind: "stream_open", stream: 1, scope: GATEWAY });
    hub.post({ kind: "updates", stream: 1, seq: 1, batch: batchOf(1, 0, 1) });
    expect(hub.core.deadline()).toBe(clock.mono + 100);
    const full = /own full at=1\/2/;
    expect(hub.core.describe()).toMatch(full);
    for (let seq = 2; seq <= 4_001; seq++) hub.post({ kind: "updates", stream: 1, seq, batch: batchOf(1, 0, seq) });
    expect(hub.core.describe()).toMatch(/own full at=1\/3/);
  });

  test("while the fastest live peer is far behind, a stream gets one acknowledgement every 20 ms", () => {
    const clock = new Instants();
    const a = new TestHub("alpha", clock);
    const b = new TestHub("beta", clock);
    a.post({ kind: "peers", peers: [{ hubId: "beta", share: "full", level: 3 }], complete: true });
    const link = new TestLink(a, b);
    a.register(nodeBytes("lamp", ["watts:double"]));
    settleAll([a, b], [link]);
    a.post({ kind: "stream_open", stream: 1, scope: GATEWAY });
    for (let seq = 1; seq <= 6; seq++) {
      a.post({ kind: "updates", stream: 1, seq, batch: batchOf(1, 0, seq) });
      a.turn();
      a.turn();
    }
    expect(a.acked.get(1)).toBe(4);
    for (const [ms, acked] of [
      [19, 4],
      [1, 5],
      [19, 5],
      [1, 6],
    ] as const) {
      clock.advance(ms);
      a.settle();
      expect(a.acked.get(1)).toBe(acked);
    }
    a.post({ kind: "updates", stream: 1, seq: 7, batch: batchOf(1, 0, 7) });
    a.turn();
    a.turn();
    expect(a.acked.get(1)).toBe(6);
    settleAll([a, b], [link]);
    expect(a.acked.get(1)).toBe(7);
  });

  test("a sender at full speed does not push a slower peer off the ring", () => {
    const clock = new Instants();
    const a = new TestHub("alpha", clock, { ringSegments: 64 });
    const b = new TestHub("beta", clock);
    a.post({ kind: "peers", peers: [{ hubId: "beta", share: "full", level: 3 }], complete: true });
    const link = new TestLink(a, b);
    a.register(nodeBytes("lamp", ["watts:double"]));
    settleAll([a, b], [link]);
    a.post({ kind: "stream_open", stream: 1, scope: GATEWAY });
    const kinds = new Map<string, number>();
    let seq = 0;
    // The sender has 16 batches under way, each a segment; the peer takes one in 2 ms.
    for (let ms = 0; ms < 1_000; ms++) {
      clock.advance(1);
      while (seq - (a.acked.get(1) ?? 0) < 16) {
        a.post({ kind: "updates", stream: 1, seq: ++seq, batch: batchOf(1, 0, seq) });
        a.settle();
      }
      a.settle();
      const sent = ms % 2 === 0 ? a.outbox.shift() : undefined;
      if (sent === undefined) continue;
      kinds.set(sent.frame.type, (kinds.get(sent.frame.type) ?? 0) + 1);
      b.post({ kind: "frame", session: link.id, frame: sent.frame });
      b.settle();
      for (const { frame } of b.outbox.splice(0)) a.post({ kind: "frame", session: link.id, frame });
    }
    expect([...kinds.keys()]).toEqual(["segment"]);
    expect(kinds.get("segment")).toBeGreaterThan(450);
    expect(a.outbox.length).toBeLessThan(32);
  });

  test("S0-25 S0-26 automation hears of a change before the feed does, with its origin", () => {
    const clock = new Instants();
    const a = new TestHub("alpha", clock);
    a.register(nodeBytes("lamp", ["watts:double"]));
    a.settle();
    a.post({ kind: "automation", enabled: true });
    a.post({ kind: "stream_open", stream: 1, scope: GATEWAY });
    const out: Effect[] = [];
    a.core.step({ mono: clock.mono, wall: clock.wall }, { kind: "updates", stream: 1, seq: 1, batch: batchOf(1, 0, 5) }, out);
    a.core.step({ mono: clock.mono, wall: clock.wall }, { kind: "flush" }, out);
    expect(out.map((effect) => effect.kind)).toEqual(["automate", "want_flush", "persist", "observe", "advanced", "acked"]);
    expect(out[0]).toMatchObject({ hub: "alpha" });
    const [heard] = out.filter((effect) => effect.kind === "automate");
    expect([heard?.names.named(1)?.info.nodeId, heard?.names.key(0)?.name]).toEqual(["lamp", "watts"]);
  });

  test("while the store refuses, writes are refused and reads go on", () => {
    const hub = new TestHub("alpha", new Instants());
    hub.register(nodeBytes("lamp", []));
    hub.settle();
    hub.post({ kind: "stored", ok: false });
    const call = hub.register(nodeBytes("door", []));
    expect(hub.registered.get(call)?.[0]?.failure?.reason).toBe("STORE_UNAVAILABLE");
    expect(online(hub)).toEqual(["lamp on"]);
    // A removal that may not be durable is not confirmed to who asks again: a crash would bring the node back.
    const out: Effect[] = [];
    hub.core.step({ mono: 1, wall: 1 }, { kind: "deregister", call: 77, scope: GATEWAY, nodeId: "gone" }, out);
    expect(out).toContainEqual(
      expect.objectContaining({ kind: "deregistered", call: 77, failure: expect.objectContaining({ reason: "STORE_UNAVAILABLE" }) }),
    );
    hub.post({ kind: "stored", ok: true });
    const again = hub.register(nodeBytes("door", []));
    hub.settle();
    expect(hub.registered.get(again)?.[0]?.failure).toBeUndefined();
  });
});
