import fc from "fast-check";
import { Registry } from "prom-client";
import { describe, expect, test } from "vitest";
import { LIMITS } from "#kernel/bounds/limits.ts";
import type { FoedusError } from "#kernel/error.ts";
import { restoring } from "#runtime/store/restoring.ts";
import { MemoryStore } from "../../test/fakes/memory-store.ts";
import { GATEWAY, Instants, nodeBytes, settleAll, TestHub, TestLink } from "../../test/fakes/registry-hub.ts";
import { segmentCodec } from "./codec/segment-codec.ts";
import type { Scope } from "./messages.ts";
import { RegistryMetrics } from "./metrics.ts";
import { nodeCost } from "./table/cost.ts";
import { Slots } from "./table/slots.ts";
import { FeedTable } from "./table/table.ts";

const long = (i: number) => nodeBytes(`n-${i}`, ["s:string"], { name: "y".repeat(4_000) });
/** A node like this takes so much. */
const LONG = nodeCost(segmentCodec.readNode(long(1))!, long(1));

const text = (nodeId: string, length: number) => ({ nodeId, key: "s", value: "x".repeat(length), type: 4 as const });

describe("S-7 what one caller's nodes may take", () => {
  const max = 8 * LONG + 5_000;
  const limits = { ...LIMITS, bytesPerCaller: max };

  test("is bounded for nodes and for texts, refused by the limit's name, and given back; others have their own part", () => {
    const hub = new TestHub("alpha", new Instants(), { limits });
    const other = { ...GATEWAY, name: "gateway/other" };
    hub.post({ kind: "stream_open", stream: 1, scope: GATEWAY });
    const call = hub.register(...Array.from({ length: 20 }, (_, i) => long(i)));
    hub.settle();
    const refused = hub.registered.get(call)!.filter(({ failure }) => failure !== undefined);
    expect(refused.length).toBeGreaterThan(8);
    expect(refused[0]!.failure).toMatchObject({
      reason: "LIMIT_EXCEEDED",
      facts: { limit: "bytes_per_caller", max: String(max), caller: "gateway/test" },
    });
    hub.post({ kind: "register", call: 99, scope: other, nodes: [long(50)] });
    hub.settle();
    expect(hub.registered.get(99)![0]!.failure).toBeUndefined();
    hub.update(1, 1, [text("n-0", 2_500)]);
    hub.update(1, 2, [text("n-1", 4_000)]);
    hub.settle();
    expect(hub.refused.map(({ seq, failure }) => [seq, failure.reason])).toEqual([[2, "LIMIT_EXCEEDED"]]);
    // What takes no more than before is taken, and what was given back can be used again.
    hub.update(1, 3, [text("n-0", 2_500)]);
    hub.deregister("n-1");
    hub.update(1, 4, [text("n-0", 4_000)]);
    hub.settle();
    expect([hub.refused.length, hub.acked.get(1)]).toEqual([1, 4]);
  });

  test("what is counted for each is what its nodes take, whoever spoke for them before, whatever went and whichever text they lost", () => {
    const scopes = ["gateway/a", "gateway/b"].map((name) => ({ ...GATEWAY, name }));
    const what = fc.constantFrom("put", "bare", "set", "del");
    const step = fc.record({ who: fc.nat(1), node: fc.nat(2), what, length: fc.nat(50) });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const hub = new TestHub("alpha", new Instants());
        const speaker = new Map<string, string>();
        for (const stream of [1, 2]) hub.post({ kind: "stream_open", stream, scope: scopes[stream - 1]! });
        for (const [i, { who, node, what, length }] of steps.entries()) {
          const scope = scopes[who]!;
          const id = `n-${node}`;
          const refused = hub.refused.length;
          const nodes = [nodeBytes(id, what === "put" ? ["s:string"] : [], { name: "x".repeat(length) })];
          if (what === "set") hub.update(who + 1, i + 1, [text(id, length)]);
          else if (what === "del") hub.post({ kind: "deregister", call: i, scope, nodeId: id });
          else hub.post({ kind: "register", call: i, scope, nodes });
          hub.settle();
          if (what === "del") speaker.delete(id);
          else if (hub.refused.length === refused) speaker.set(id, scope.name);
        }
        const { table } = hub.core.sources()[0]!;
        for (const { name, nodes, bytes } of hub.core.callers()) {
          const its = [...table.entries()].filter(({ info }) => speaker.get(info.nodeId) === name);
          expect([name, nodes, bytes]).toEqual([
            name,
            its.length,
            its.reduce((sum, entry) => sum + entry.cost + table.textCostOf(entry), 0),
          ]);
        }
        expect(hub.core.callers().reduce((sum, { bytes }) => sum + bytes, 0)).toBe(table.bytes);
      }),
    );
  });

  test("a text that goes with its capability is given back: a node may get and lose one for as long as it likes", () => {
    const hub = new TestHub("alpha", new Instants(), { limits: { ...LIMITS, bytesPerCaller: 40_000 } });
    hub.post({ kind: "stream_open", stream: 1, scope: GATEWAY });
    for (let seq = 1; seq <= 20; seq++) {
      hub.register(nodeBytes("n", ["s:string"]));
      hub.update(1, seq, [text("n", 4_000)]);
      hub.register(nodeBytes("n", []));
      hub.settle();
    }
    expect(hub.refused).toEqual([]);
    hub.deregister("n");
    hub.settle();
    expect(hub.core.callers().map(({ bytes }) => bytes)).toEqual([0]);
  });
});

describe("S-7 what is held of one peer", () => {
  test("is bounded, live and as a snapshot: the segment is refused by the limit's name, and what changes in place goes on", async () => {
    const clock = new Instants();
    const max = 8 * LONG + 5_000;
    const limits = { ...LIMITS, bytesPerPeer: max };
    const a = new TestHub("alpha", clock);
    const b = new TestHub("beta", clock, { limits });
    a.post({ kind: "peers", peers: [{ hubId: "beta", share: "full", level: 2 }], complete: true });
    b.post({ kind: "peers", peers: [{ hubId: "alpha", share: "full", level: 2 }], complete: true });
    a.post({ kind: "stream_open", stream: 1, scope: GATEWAY });
    let link = new TestLink(a, b);
    settleAll([a, b], [link]);
    const held = () => b.core.feeds().find(({ own }) => !own);
    for (let i = 0; i < 20; i++) {
      a.register(nodeBytes(`n-${i}`, ["s:string"], { name: "y".repeat(4_000) }));
      a.update(1, i + 1, [text("n-0", 100)]);
      settleAll([a, b], [link]);
      expect(held()?.bytes ?? 0).toBeLessThanOrEqual(max);
    }
    expect(held()!.nodes).toBeGreaterThan(6);
    const limit = { reason: "LIMIT_EXCEEDED" };
    expect(b.events.filter(({ event }) => event === "segment_refused").map(({ fields }) => fields)).toContainEqual(limit);
    // What the alert FoedusSegmentsRefused asks for: from 0, by the peer's name.
    const registry = new Registry();
    const gauges = { feeds: () => [], watchers: () => 0, streams: () => 0, callers: () => [], numbers: () => b.core.numbers() };
    const metrics = new RegistryMetrics("beta", registry, { report: () => undefined }, gauges);
    metrics.follow(["alpha"]);
    const counted = async () => /^foedus_registry_sync_refused_total\{peer="alpha"\} (\d+)$/m.exec(await registry.metrics())?.[1];
    expect(await counted()).toBe("0");
    for (const event of b.events) metrics.observe(event);
    expect(Number(await counted())).toBeGreaterThan(0);
    metrics.stop();
    link.down();
    const c = new TestHub("gamma", clock, { limits });
    a.post({ kind: "peers", peers: [{ hubId: "gamma", share: "full", level: 2 }], complete: true });
    c.post({ kind: "peers", peers: [{ hubId: "alpha", share: "full", level: 2 }], complete: true });
    link = new TestLink(a, c);
    settleAll([a, c], [link]);
    expect(c.core.feeds().find(({ own }) => !own)?.nodes ?? 0).toBe(0);
    expect(c.events.filter(({ event }) => event === "segment_refused").map(({ fields }) => fields)).toContainEqual(limit);
  });
});

describe("A2 what all together may take", () => {
  const ROOM = 41 * LONG;
  const failuresOf = (hub: TestHub, scope: Scope, from: number, count: number) => {
    const call = 10_000 + from;
    hub.post({ kind: "register", call, scope, nodes: Array.from({ length: count }, (_, i) => long(from + i)) });
    hub.settle();
    return hub.registered.get(call)!.flatMap(({ failure }) => failure ?? []);
  };

  test("is bounded for the callers of this hub: most for one, a part for each of the others, never more than there is", () => {
    const limits = { ...LIMITS, ownBytes: ROOM };
    const hub = new TestHub("alpha", new Instants(), { limits });
    const others = Array.from({ length: 9 }, (_, i) => ({ ...GATEWAY, name: `gateway/${i}` }));
    const failures = failuresOf(hub, GATEWAY, 0, 60);
    expect(failures[0]).toMatchObject({
      reason: "LIMIT_EXCEEDED",
      field: "node",
      facts: { limit: "memory_bytes", caller: "gateway/test" },
    });
    expect(failures[0]!.message).toContain("larger heap");
    const held = () => hub.core.callers().map(({ nodes }) => nodes);
    expect(held()[0]).toBeGreaterThanOrEqual(28);
    others.forEach((scope, i) => void failuresOf(hub, scope, 100 + 20 * i, 10));
    // An eighth is five nodes; two find it.
    expect(held().slice(0, 4)).toEqual([held()[0], 5, expect.any(Number), expect.any(Number)]);
    expect(hub.core.feeds()[0]!.bytes).toBeLessThanOrEqual(ROOM);
    // Texts count too, and what was given back can be used by the others.
    hub.post({ kind: "stream_open", stream: 1, scope: GATEWAY });
    for (let i = 0; i < 28; i++) hub.update(1, i + 1, [text(`n-${i}`, 4_000)]);
    hub.settle();
    expect(hub.refused.map(({ failure }) => failure.facts?.["limit"])).toContain("memory_bytes");
    for (let i = 0; i < 20; i++) hub.deregister(`n-${i}`);
    hub.settle();
    expect(failuresOf(hub, others[8]!, 1_000, 4)).toEqual([]);
    // With a smaller heap what is stored is kept, said, and does not grow; with one that is much too small the start says so.
    const smaller = hub.crash({ limits: { ...limits, ownBytes: ROOM / 4 } });
    expect(smaller.events.filter(({ event }) => event === "limit").map(({ fields }) => fields["limit"])).toEqual(["memory_bytes"]);
    expect(failuresOf(smaller, others[7]!, 2_000, 1)).toHaveLength(1);
    expect(() => hub.crash({ limits: { ...limits, ownBytes: LONG } })).toThrow("heap of this process is too small");
  });

  test("is bounded for all peers, live, as snapshots and after a restart with less", () => {
    const clock = new Instants();
    const limits = { ...LIMITS, peersBytes: ROOM };
    const b = new TestHub("beta", clock, { limits });
    const peers = ["alpha", "gamma"].map((id) => new TestHub(id, clock));
    b.post({ kind: "peers", peers: peers.map(({ id }) => ({ hubId: id, share: "full", level: 3 })), complete: true });
    const links: TestLink[] = [];
    const held = (hub = b) =>
      hub.core
        .feeds()
        .filter(({ own, nodes }) => !own && nodes > 0)
        .map(({ nodes }) => nodes);
    for (const peer of peers) {
      peer.post({ kind: "peers", peers: [{ hubId: "beta", share: "full", level: 3 }], complete: true });
      for (let n = 0; n < 24; n++) peer.register(long(n));
      peer.settle();
      links.push(new TestLink(peer, b));
      settleAll([...peers, b], links);
      expect(held()).toEqual([24]);
    }
    // The second is refused as a whole: a snapshot is taken in, or it is not.
    expect(b.events.filter(({ event }) => event === "limit").map(({ hub, fields }) => [hub, fields["limit"]])).toEqual([
      ["gamma", "memory_bytes"],
    ]);
    const refused = b.events.find(({ event }) => event === "limit");
    expect(refused?.text).toContain("larger heap");
    for (let n = 0; n < 20; n++) {
      peers[0]!.register(long(100 + n));
      settleAll([...peers, b], links);
    }
    expect(held()[0]).toBeGreaterThan(24);
    expect(b.core.feeds().find(({ own }) => !own)!.bytes).toBeLessThanOrEqual(ROOM);
    const kept = b.crash();
    expect(held(kept)).toEqual(held());
    const smaller = b.crash({ limits: { ...LIMITS, peersBytes: ROOM / 4 } });
    expect(held(smaller)).toEqual([]);
    expect(smaller.events.find(({ severity }) => severity === "ERROR")).toMatchObject({
      hub: "alpha",
      fields: { problem: expect.stringContaining("larger heap") },
    });
  });

  test("names of nodes that came and went, and segments however small, count for what is kept for those who are behind", () => {
    const hub = new TestHub("alpha", new Instants(), { ringBytes: 200_000 });
    for (let i = 0; i < 600; i++) {
      hub.register(nodeBytes(`n-${i}`, []));
      hub.deregister(`n-${i}`);
      hub.settle();
    }
    const [source] = hub.core.sources();
    expect(source!.ring.size).toBeLessThan(120);
    expect(source!.table.named(1)).toBeUndefined();
    expect(source!.table.named(600)).toBeDefined();
  });
});

describe("F-11 SL3 slots", () => {
  test("one high ref costs a receiver what a node costs, not what all refs below it would", () => {
    const before = process.memoryUsage().arrayBuffers;
    const slots = new Slots();
    for (const ref of [2 ** 24, 2 ** 24 - 1_000, 5_000_000]) slots.assign(ref, [1, 2], () => 3);
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(1_000_000);
    expect(slots.find(2 ** 24, 2)).not.toBe(0xffff_ffff);
  });

  test("any refs and keys are found as a map would find them", () => {
    const ref = fc.oneof(fc.nat(40), fc.integer({ min: 65_500, max: 65_600 }), fc.integer({ min: 70_000, max: 2 ** 24 }));
    const step = fc.record({ ref, keys: fc.subarray([0, 1, 2, 3, 4, 5, 6]), remove: fc.boolean() });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const slots = new Slots();
        const model = new Map<number, readonly number[]>();
        for (const { ref, keys, remove } of steps) {
          if (remove) slots.remove(ref);
          else slots.assign(ref, keys, () => 3);
          model.set(ref, remove ? [] : keys);
        }
        const used = new Set<number>();
        for (const [ref, keys] of model)
          for (let key = 0; key < 8; key++) {
            const slot = slots.find(ref, key);
            expect(slot !== 0xffff_ffff).toBe(keys.includes(key));
            if (slot !== 0xffff_ffff) used.add(slot);
          }
        expect(used.size).toBe(slots.live);
      }),
    );
  });
});

describe("H2-4 SL4 memory of values follows what is held", () => {
  test("not how often nodes got other keys", () => {
    const table = new FeedTable();
    const keys = 128;
    for (let key = 0; key < keys; key++) table.defineKey(key, `c${key}`, 3);
    for (let count = 1; count <= keys; count++) {
      const capabilities = Array.from({ length: count }, (_, i) => `c${i}:double`);
      for (let ref = 1; ref <= 100; ref++) {
        const bytes = nodeBytes(`n-${ref}`, capabilities);
        table.put(ref, bytes, segmentCodec.readNode(bytes)!, true);
        expect(table.slots.capacity).toBeLessThanOrEqual(Math.max(8_192, 4 * table.slots.live));
      }
    }
    for (let ref = 1; ref < 100; ref++) table.remove(ref, 0);
    expect(table.slots.capacity).toBeLessThanOrEqual(8_192);
  });

  test("values stay those of their keys, however slots move", () => {
    const ref = fc.oneof(fc.nat(30), fc.constantFrom(70_000, 9_000_000));
    const shape = fc.record({ from: fc.nat(300), count: fc.nat(400) });
    fc.assert(
      fc.property(fc.array(fc.record({ ref, shape }), { minLength: 20, maxLength: 60 }), (steps) => {
        const slots = new Slots();
        const model = new Map<string, number>();
        const held = new Map<number, readonly number[]>();
        for (const [i, { ref, shape }] of steps.entries()) {
          const keys = Array.from({ length: shape.count }, (_, at) => shape.from + at);
          for (const key of held.get(ref) ?? []) if (!keys.includes(key)) model.delete(`${ref} ${key}`);
          if (keys.length === 0) slots.remove(ref);
          else slots.assign(ref, keys, () => 3);
          held.set(ref, keys);
          for (const key of keys.filter((key) => key % 3 === i % 3)) {
            const slot = slots.find(ref, key);
            slots.bits[2 * slot + 1] = i + 1;
            slots.setText(slot, Uint8Array.of(i), 0, 1);
            model.set(`${ref} ${key}`, i + 1);
          }
        }
        for (const [ref, keys] of held)
          for (const key of keys) {
            const slot = slots.find(ref, key);
            const value = model.get(`${ref} ${key}`);
            const found = slots.has[slot] === 1 ? [slots.bits[2 * slot + 1], slots.text[slot]?.[0]] : undefined;
            expect(found).toEqual(value === undefined ? undefined : [value, value - 1]);
          }
        expect(slots.textBytes).toBe(model.size);
      }),
      { numRuns: 20 },
    );
  });

  test("H2-4b a node with many keys is taken again in one walk over them", () => {
    const keys = Array.from({ length: 32_768 }, (_, key) => key);
    const slots = new Slots();
    let asked = 0;
    const type = () => {
      asked++;
      return 3;
    };
    slots.assign(1, keys, type);
    const began = process.cpuUsage();
    slots.assign(1, keys, type);
    const { user, system } = process.cpuUsage(began);
    // Each with each would be a thousand million comparisons: about a second.
    expect([asked, user + system < 300_000]).toEqual([65_536, true]);
  });
});

test("S-7 own nodes that do not fit into a heap that was made much smaller are told as that, and not as a damaged store", async () => {
  const hub = new TestHub("alpha", new Instants());
  hub.register(...Array.from({ length: 200 }, (_, i) => nodeBytes(`n-${i}`, ["watts:double"])));
  hub.settle();
  const limits = { ...LIMITS, ownBytes: 10_000 };
  const begin = async () => restoring("registry-sync", new MemoryStore(), () => hub.crash({ limits }));
  const failed = await begin().then(
    () => expect.fail("it began"),
    (error: FoedusError) => error,
  );
  expect(failed.failure).toMatchObject({ reason: "NOT_CONFIGURED", facts: { limit: "memory_bytes", max: "80000" } });
  expect(failed.message).toMatch(/heap of this process is too small; .*--max-old-space-size/);
  expect(failed.message).not.toMatch(/damaged|move/);
});
