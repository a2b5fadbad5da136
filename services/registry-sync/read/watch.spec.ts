import { toBinary } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import { WatchResponseSchema } from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import { LIMITS } from "#kernel/bounds/limits.ts";
import { ANY_NODE, GATEWAY, Instants, nodeBytes, settleAll, TestHub, TestLink } from "../../../test/fakes/registry-hub.ts";
import { pushToProto } from "../codec/answer-codec.ts";
import { segmentCodec } from "../codec/segment-codec.ts";
import { textOf } from "../codec/wire.ts";
import type { FeedPosition, WatchOptions, WatchPush } from "../messages.ts";
import { TableScan } from "../table/scan.ts";

const ALL: WatchOptions = { filter: ANY_NODE, encoding: "events", nodesOnly: false, latestOnly: false, resume: [] };

function words(pushes: readonly WatchPush[]): string[] {
  return pushes.flatMap((push) => {
    if (push.kind === "bookmark") return [`bookmark ${push.positions.map((p) => `${p.hubId}:${p.epoch}/${p.seq}`).join(" ")}`];
    if (push.kind === "blocks") return [`blocks ${push.position.seq}${push.snapshot ? " snapshot" : ""}${push.last ? " last" : ""}`];
    if (push.kind !== "events") return [`${push.kind} ${push.position.hubId}`];
    return push.events.map(({ name, change }) => {
      const what =
        change.kind === "state"
          ? `${change.state.key}=${String(change.state.value)}`
          : change.kind === "online"
            ? `online=${change.online}`
            : change.kind;
      return `${name.hubId}/${name.nodeId} ${what}`;
    });
  });
}

function hubWithLamp(options = {}) {
  const hub = new TestHub("alpha", new Instants(), options);
  hub.register(nodeBytes("lamp", ["watts:double"], { type: "light" }), nodeBytes("door", ["open:bool"]));
  hub.post({ kind: "stream_open", stream: 1, scope: GATEWAY });
  hub.settle();
  let seq = 0;
  const watts = (value: number): void => {
    hub.update(1, ++seq, [{ nodeId: "lamp", key: "watts", value, type: 3 }]);
    hub.settle();
  };
  const take = (watch: number): string[] => {
    const pushes = hub.pushes.get(watch) ?? [];
    hub.pushes.delete(watch);
    return words(pushes);
  };
  return { hub, watts, take };
}

describe("watching", () => {
  test("PROTOCOL W6 the part of a peer has an age, however short, so that it can go on; this hub's own has none", () => {
    const clock = new Instants();
    const [owner, reader] = [new TestHub("owner", clock), new TestHub("reader", clock)];
    owner.register(nodeBytes("lamp", []));
    owner.post({ kind: "peers", peers: [{ hubId: "reader", share: "full", level: 3 }], complete: true });
    const link = new TestLink(owner, reader);
    reader.post({ kind: "watch_open", watch: 1, options: ALL });
    settleAll([owner, reader], [link]);
    const told = (reader.pushes.get(1) ?? []).flatMap((push) => (push.kind === "bookmark" ? push.hubs : []));
    const ages = new Map(told.map(({ hubId, ageMs }) => [hubId, ageMs]));
    expect(ages.get("reader")).toBe(0);
    expect(ages.get("owner")).toBeGreaterThanOrEqual(1);
  });

  test("what there is, then what changes, then where to resume", () => {
    const { hub, watts, take } = hubWithLamp();
    watts(1);
    hub.post({ kind: "watch_open", watch: 1, options: ALL });
    hub.settle();
    expect(take(1)).toEqual([
      "reset alpha",
      "alpha/lamp put",
      "alpha/lamp online=true",
      "alpha/lamp watts=1",
      "alpha/door put",
      "alpha/door online=true",
      "bookmark alpha:1/3",
    ]);
    watts(2);
    expect(take(1)).toEqual(["alpha/lamp watts=2", "bookmark alpha:1/4"]);
    hub.deregister("lamp");
    hub.settle();
    expect(take(1)).toEqual(["alpha/lamp removed", "bookmark alpha:1/5"]);
  });

  test("a watcher of nodes in blocks is spared the state, and learns now and then how far all is", () => {
    const { hub, watts, take } = hubWithLamp();
    hub.post({ kind: "watch_open", watch: 1, options: { ...ALL, encoding: "blocks", nodesOnly: true } });
    hub.settle();
    expect(take(1)).toEqual(["reset alpha", "blocks 2 snapshot last", "bookmark alpha:1/2"]);
    watts(1);
    expect(take(1)).toEqual([]);
    hub.deregister("lamp");
    hub.settle();
    expect(take(1)).toEqual(["blocks 4", "bookmark alpha:1/4"]);
  });

  test("a push leaves only when what it says is durable", () => {
    const { hub, take } = hubWithLamp();
    hub.post({ kind: "watch_open", watch: 1, options: ALL });
    hub.settle();
    take(1);
    hub.update(1, 50, [{ nodeId: "lamp", key: "watts", value: 9, type: 3 }]);
    hub.post({ kind: "flush" });
    expect(take(1)).toEqual([]);
    hub.commit();
    expect(take(1)).toEqual(["alpha/lamp watts=9", "bookmark alpha:1/3"]);
  });

  test("S1-12 resume goes on where a bookmark ended; a position that is gone gets a reset", () => {
    const { hub, watts, take } = hubWithLamp({ ringSegments: 3 });
    const from = hub.core.heads("nobody")[0] ?? (hub.core.feeds()[0]!.head as FeedPosition);
    watts(1);
    hub.post({ kind: "watch_open", watch: 1, options: { ...ALL, resume: [from] } });
    hub.settle();
    expect(take(1)).toEqual(["alpha/lamp watts=1", "bookmark alpha:1/3"]);
    for (let i = 2; i < 8; i++) watts(i);
    hub.post({ kind: "watch_open", watch: 2, options: { ...ALL, resume: [from] } });
    hub.settle();
    expect(take(2)[0]).toBe("reset alpha");
  });

  test("S1-12 a position of another history gets a reset, also the one just before the ring", () => {
    const { hub, watts, take } = hubWithLamp({ ringSegments: 3 });
    const from = hub.core.feeds()[0]!.head as FeedPosition;
    for (let i = 1; i <= 3; i++) watts(i);
    const resumes = [from, { ...from, digest: from.digest.map((byte) => byte ^ 1) }];
    const first = resumes.map((position, watch) => {
      hub.post({ kind: "watch_open", watch, options: { ...ALL, resume: [position] } });
      hub.settle();
      return take(watch)[0];
    });
    expect(first).toEqual(["alpha/lamp watts=1", "reset alpha"]);
  });

  test("a resume from before the checkpoint that a restart read gets a reset: nodes that were removed since have no name any more", () => {
    const { hub, watts, take } = hubWithLamp({ checkpointSegments: 4 });
    watts(1);
    const from = hub.core.feeds()[0]!.head as FeedPosition;
    hub.deregister("door");
    hub.settle();
    for (let i = 2; i < 6; i++) watts(i);
    const again = hub.crash();
    again.post({ kind: "watch_open", watch: 1, options: { ...ALL, resume: [from] } });
    again.settle();
    expect(words(again.pushes.get(1) ?? [])[0]).toBe("reset alpha");
    again.post({ kind: "watch_open", watch: 2, options: { ...ALL, encoding: "blocks", resume: [from] } });
    again.settle();
    expect(words(again.pushes.get(2) ?? [])[0]).toBe(`blocks ${from.seq + 1}`);
    expect(take(1)).toEqual([]);
  });

  test("a watcher that comes back is told of a feed that went, or that it gets another share of, while it was away", () => {
    const { hub, take } = hubWithLamp();
    const own = hub.core.feeds()[0]!.head as FeedPosition;
    const resume = [
      { ...own, hubId: "beta" },
      { ...own, share: "other" },
    ];
    hub.post({ kind: "watch_open", watch: 1, options: { ...ALL, resume } });
    hub.settle();
    expect(take(1).slice(0, 3)).toEqual(["gone beta", "gone alpha", "reset alpha"]);
  });

  test("and gets all of it when it comes back, even if that is the feed at the position which the watcher once had", () => {
    const clock = new Instants();
    const [a, b] = [new TestHub("alpha", clock), new TestHub("beta", clock)];
    for (const [self, peer] of [
      [a, "beta"],
      [b, "alpha"],
    ] as const)
      self.post({ kind: "peers", peers: [{ hubId: peer, share: "full", level: 3 }], complete: true });
    a.register(nodeBytes("lamp", []));
    a.settle();
    b.post({ kind: "watch_open", watch: 1, options: { ...ALL, resume: [a.core.heads("beta")[0] as FeedPosition] } });
    settleAll([a, b], [new TestLink(a, b)]);
    const all = ["gone alpha", "reset alpha", "alpha/lamp put", "alpha/lamp online=true", expect.stringContaining("alpha:1/")];
    const told = (watch: number): string[] => words(b.pushes.get(watch) ?? []).filter((word) => word.includes("alpha"));
    expect(told(1)).toEqual(all);
    // The same when it goes while the watcher is there, which had resumed.
    b.post({ kind: "watch_open", watch: 2, options: { ...ALL, resume: [a.core.heads("beta")[0] as FeedPosition] } });
    for (const peers of [[], [{ hubId: "alpha", share: "full", level: 3 }]]) {
      b.post({ kind: "peers", peers, complete: true });
      settleAll([a, b], [new TestLink(a, b)]);
    }
    expect(told(2).slice(-all.length)).toEqual(all);
  });

  test("a watcher that does not take costs nothing and gets a reset when it is too late", () => {
    const { hub, watts, take } = hubWithLamp({ ringSegments: 3 });
    hub.post({ kind: "watch_open", watch: 1, options: ALL });
    hub.settle();
    take(1);
    hub.eager = false;
    for (let i = 0; i < 10; i++) watts(i);
    expect(take(1)).toEqual(["alpha/lamp watts=0", "bookmark alpha:1/3"]);
    hub.post({ kind: "watch_ready", watch: 1 });
    expect(take(1)).toEqual([
      "reset alpha",
      "alpha/lamp put",
      "alpha/lamp online=true",
      "alpha/lamp watts=9",
      "alpha/door put",
      "alpha/door online=true",
      "bookmark alpha:1/12",
    ]);
  });

  test("WA2 a copy that ends after the ring has gone past where it began is followed by a new one", () => {
    for (const encoding of ["events", "blocks"] as const) {
      const hub = new TestHub("alpha", new Instants(), { ringSegments: 3, watchBytes: 300 });
      hub.post({ kind: "stream_open", stream: 1, scope: GATEWAY });
      hub.register(...Array.from({ length: 20 }, (_, i) => nodeBytes(`n-${i}`, ["watts:double"])));
      hub.settle();
      hub.eager = false;
      hub.post({ kind: "watch_open", watch: 1, options: { filter: ANY_NODE, encoding, nodesOnly: false, latestOnly: false, resume: [] } });
      hub.settle();
      for (let seq = 1; seq <= 8; seq++) {
        hub.update(1, seq, [{ nodeId: "n-1", key: "watts", value: seq, type: 3 }]);
        hub.settle();
      }
      hub.eager = true;
      hub.post({ kind: "watch_ready", watch: 1 });
      hub.settle();
      const pushes = hub.pushes.get(1)!;
      expect(pushes.filter(({ kind }) => kind === "reset")).toHaveLength(2);
      const last = pushes.at(-1)!;
      expect(last.kind === "bookmark" && last.positions[0]!.seq).toBe(hub.core.feeds()[0]!.head.seq);
    }
  });

  test("latest_only: the newest value per key when the watcher is slow", () => {
    const { hub, watts, take } = hubWithLamp();
    hub.post({ kind: "watch_open", watch: 1, options: { ...ALL, latestOnly: true } });
    hub.settle();
    take(1);
    hub.eager = false;
    watts(1);
    take(1);
    for (let i = 2; i < 9; i++) watts(i);
    hub.post({ kind: "watch_ready", watch: 1 });
    expect(take(1)).toEqual(["alpha/lamp watts=8", "bookmark alpha:1/10"]);
  });

  test("filters: what was removed, or stopped matching, while a watcher was away is removed for it", () => {
    const { hub, watts, take } = hubWithLamp();
    hub.register(nodeBytes("bulb", ["watts:double"], { type: "light" }));
    hub.settle();
    const options = { ...ALL, filter: { ...ANY_NODE, type: "light" } };
    const from = hub.core.feeds()[0]!.head as FeedPosition;
    const resumed = (watch: number, position: FeedPosition): string[] => {
      hub.post({ kind: "watch_open", watch, options: { ...options, resume: [position] } });
      hub.settle();
      return take(watch);
    };
    watts(1);
    expect(resumed(1, from)).toEqual(["alpha/lamp watts=1", "bookmark alpha:1/4"]);
    hub.deregister("bulb");
    hub.register(nodeBytes("lamp", ["watts:double"], { type: "heater" }));
    hub.settle();
    // Whether the watcher knew them cannot be told from here: it gets a copy.
    expect(resumed(2, from)).toEqual(["reset alpha", "bookmark alpha:1/5"]);
  });

  test("filters: a node that stops matching is removed, one that starts is put", () => {
    const { hub, take } = hubWithLamp();
    hub.post({ kind: "watch_open", watch: 1, options: { ...ALL, filter: { ...ANY_NODE, type: "light" } } });
    hub.settle();
    expect(take(1)).toEqual(["reset alpha", "alpha/lamp put", "alpha/lamp online=true", "bookmark alpha:1/2"]);
    hub.register(nodeBytes("lamp", ["watts:double"], { type: "heater" }));
    hub.register(nodeBytes("door", ["open:bool"], { type: "light" }));
    hub.settle();
    expect(take(1)).toEqual(["alpha/lamp removed", "alpha/door put", "alpha/door online=true", "bookmark alpha:1/3"]);
  });

  test("blocks are the payload of the segment, verbatim; the snapshot comes in pieces and shows one instant", () => {
    const { hub, watts, take } = hubWithLamp({ watchBytes: 40 });
    hub.eager = false;
    hub.post({ kind: "watch_open", watch: 1, options: { ...ALL, encoding: "blocks" } });
    hub.settle();
    watts(77);
    hub.deregister("door");
    hub.settle();
    const first = hub.pushes.get(1)!;
    expect(words(first)).toEqual(["reset alpha", "blocks 2 snapshot"]);
    hub.eager = true;
    hub.post({ kind: "watch_ready", watch: 1 });
    hub.settle();
    const pushes = hub.pushes.get(1)!;
    expect(words(pushes).slice(-3)).toEqual(["blocks 3", "blocks 4", "bookmark alpha:1/4"]);
    const states = pushes
      .flatMap((push) => (push.kind === "blocks" ? (segmentCodec.decodePayload(push.payload) ?? []) : []))
      .filter((block) => block.kind === "state");
    expect(states).toHaveLength(1);
    const puts = pushes
      .flatMap((push) => (push.kind === "blocks" && push.snapshot ? (segmentCodec.decodePayload(push.payload) ?? []) : []))
      .filter((block) => block.kind === "node_put");
    expect(puts.map((block) => block.ref)).toEqual([1, 2]);
    expect(take(1)).not.toEqual([]);
  });

  test("WA1 RC3 a watcher that stops reading its first copy loses it after 10 s, and gets a reset when it reads again", () => {
    const clock = new Instants();
    const hub = new TestHub("alpha", clock, { watchBytes: 40 });
    hub.register(...Array.from({ length: 20 }, (_, i) => nodeBytes(`n-${i}`, ["watts:double"])));
    hub.post({ kind: "stream_open", stream: 1, scope: GATEWAY });
    hub.settle();
    const scans = (): number => hub.core.sources()[0]!.table.scans.size;
    hub.eager = false;
    hub.post({ kind: "watch_open", watch: 1, options: ALL });
    hub.settle();
    expect([words(hub.pushes.get(1)!), scans()]).toEqual([["reset alpha", "alpha/n-0 put", "alpha/n-0 online=true"], 1]);
    // One that reads slowly, but reads, keeps it.
    clock.advance(9_000);
    hub.settle();
    hub.post({ kind: "watch_ready", watch: 1 });
    hub.settle();
    clock.advance(9_000);
    hub.settle();
    expect(scans()).toBe(1);
    clock.advance(1_000);
    hub.settle();
    expect(scans()).toBe(0);
    hub.update(1, 1, [{ nodeId: "n-3", key: "watts", value: 7, type: 3 }]);
    hub.settle();
    hub.pushes.delete(1);
    hub.eager = true;
    hub.post({ kind: "watch_ready", watch: 1 });
    hub.settle();
    const rest = words(hub.pushes.get(1)!);
    expect([rest[0], rest.at(-1), rest.filter((word) => word.endsWith(" put")).length]).toEqual(["reset alpha", "bookmark alpha:1/3", 20]);
    expect(rest).toContain("alpha/n-3 watts=7");
    expect(scans()).toBe(0);
    expect(hub.core.deadline()).toBeGreaterThan(clock.mono);
  });

  test("RC3 however many watchers have stopped reading, a node that changes is kept for all of them once", () => {
    const hub = new TestHub("alpha", new Instants());
    hub.register(nodeBytes("a", ["text:string"]), nodeBytes("b", ["text:string"]));
    hub.post({ kind: "stream_open", stream: 1, scope: GATEWAY });
    hub.update(1, 1, [{ nodeId: "b", key: "text", value: "before", type: 4 }]);
    hub.settle();
    const { table } = hub.core.sources()[0]!;
    const scans = Array.from({ length: 5 }, () => new TableScan(table));
    hub.update(1, 2, [{ nodeId: "b", key: "text", value: "after", type: 4 }]);
    hub.update(1, 3, [{ nodeId: "b", key: "text", value: "later", type: 4 }]);
    hub.settle();
    const images = scans.map((scan) => scan.pieces(10_000)[1]!.image);
    expect(textOf(images[0]!.values[0]!.text!)).toBe("before");
    expect(new Set(images).size).toBe(1);
    expect([table.images.size, table.scans.size]).toEqual([0, 0]);
    const again = new TableScan(table);
    expect(textOf(again.pieces(10_000)[1]!.image.values[0]!.text!)).toBe("later");
  });

  test("WA4 however long the values are, and however many changes a segment has, each push fits into a message and none is left out", () => {
    const hub = new TestHub("alpha", new Instants(), { limits: { ...LIMITS, segmentUpdates: 16_000 } });
    const keys = Array.from({ length: 300 }, (_, i) => `${"key".repeat(40)}${i}`);
    hub.register(nodeBytes("lamp", ["text:string", ...keys.map((key) => `${key}:bool`)]), nodeBytes("long", ["text:string"]));
    hub.post({ kind: "stream_open", stream: 1, scope: GATEWAY });
    hub.post({ kind: "watch_open", watch: 1, options: ALL });
    hub.settle();
    hub.pushes.delete(1);
    hub.eager = false;
    const sent: string[] = [];
    let seq = 0;
    const texts = (): void => {
      for (let i = 0; i < 2_500; i++) {
        const value = `${i}`.padEnd(1_000, "x");
        hub.update(1, ++seq, [{ nodeId: "long", key: "text", value, type: 4 }]);
        sent.push(`long ${value}`);
      }
    };
    const bools = (): void => {
      for (let i = 0; i < 30; i++) {
        const updates = keys.map((key) => ({ nodeId: "lamp", key, value: i % 2 === 0, type: 1 as const }));
        hub.update(1, ++seq, updates);
        for (const { key, value } of updates) sent.push(`${key} ${value}`);
      }
    };
    bools();
    hub.settle();
    texts();
    hub.settle();
    hub.eager = true;
    hub.post({ kind: "watch_ready", watch: 1 });
    hub.settle();
    const pushes = hub.pushes.get(1)!;
    const events = pushes.flatMap((push) => (push.kind === "events" ? push.events : []));
    const got = events.flatMap(({ change }) =>
      change.kind === "state" ? [`${change.state.key === "text" ? "long" : change.state.key} ${String(change.state.value)}`] : [],
    );
    expect(got).toEqual(sent);
    const longest = Math.max(
      ...pushes.map((push) => (push.kind === "blocks" ? 0 : toBinary(WatchResponseSchema, pushToProto(push)).length)),
    );
    expect(longest).toBeGreaterThan(100_000);
    expect(longest).toBeLessThan(1_114_112);
  });

  test("imported feeds are watched too, and a forgotten one is gone", () => {
    const clock = new Instants();
    const a = new TestHub("alpha", clock);
    const b = new TestHub("beta", clock);
    a.post({ kind: "peers", peers: [{ hubId: "beta", share: "full", level: 3 }], complete: true });
    b.post({ kind: "peers", peers: [{ hubId: "alpha", share: "full", level: 3 }], complete: true });
    a.register(nodeBytes("lamp", []));
    b.post({ kind: "watch_open", watch: 1, options: ALL });
    settleAll([a, b], [new TestLink(a, b)]);
    expect(words(b.pushes.get(1)!).filter((word) => word.startsWith("alpha"))).toEqual(["alpha/lamp put", "alpha/lamp online=true"]);
    b.post({ kind: "peers", peers: [], complete: true });
    b.settle();
    expect(words(b.pushes.get(1)!).slice(-2)).toEqual(["gone alpha", "bookmark beta:1/1"]);
  });

  test("who watches hubs of which nothing is here is told that this is all, once, and again when what came of them went", () => {
    const clock = new Instants();
    const [a, b] = [new TestHub("alpha", clock), new TestHub("beta", clock)];
    a.post({ kind: "peers", peers: [{ hubId: "beta", share: "full", level: 3 }], complete: true });
    a.register(nodeBytes("lamp", []));
    const ofAlpha = { ...ALL, filter: { ...ANY_NODE, hubIds: ["alpha"] } };
    const far = { hubId: "alpha", share: "full", epoch: 1, seq: 7, digest: new Uint8Array(32) };
    const watches: WatchOptions[] = [ofAlpha, { ...ofAlpha, encoding: "blocks", nodesOnly: true }, { ...ofAlpha, resume: [far] }];
    watches.forEach((options, watch) => {
      b.post({ kind: "watch_open", watch, options });
      b.settle();
    });
    const told = (): string[][] =>
      watches.map((_, watch) => {
        const pushes = b.pushes.get(watch) ?? [];
        b.pushes.delete(watch);
        return words(pushes);
      });
    expect(told()).toEqual([["bookmark "], ["bookmark "], ["gone alpha", "bookmark "]]);
    // What is new of others is no news for them.
    b.register(nodeBytes("door", []));
    b.settle();
    expect(told()).toEqual([[], [], []]);
    b.post({ kind: "peers", peers: [{ hubId: "alpha", share: "full", level: 3 }], complete: true });
    settleAll([a, b], [new TestLink(a, b)]);
    for (const pushes of told()) expect([pushes[0], pushes.at(-1)]).toEqual(["reset alpha", "bookmark alpha:1/2"]);
    b.post({ kind: "peers", peers: [], complete: true });
    b.settle();
    expect(told()).toEqual(watches.map(() => ["gone alpha", "bookmark "]));
  });

  test("F-22 a new watcher never sees a value go back, however many changes wait in the open segment", () => {
    for (const encoding of ["events", "blocks"] as const) {
      const clock = new Instants();
      const hub = new TestHub("alpha", clock);
      hub.register(nodeBytes("n", ["v:double"]));
      hub.post({ kind: "stream_open", stream: 1, scope: GATEWAY });
      hub.settle();
      for (const value of [1, 2, 3]) hub.update(1, value, [{ nodeId: "n", key: "v", value, type: 3 }]);
      hub.post({
        kind: "watch_open",
        watch: 1,
        options: { filter: ANY_NODE, encoding, nodesOnly: false, latestOnly: false, resume: [] },
      });
      hub.settle();
      const seen = (hub.pushes.get(1) ?? []).flatMap((push): number[] => {
        if (push.kind === "events")
          return push.events.flatMap(({ change }) => (change.kind === "state" ? [change.state.value as number] : []));
        if (push.kind !== "blocks") return [];
        return (segmentCodec.decodePayload(push.payload) ?? []).flatMap((block) =>
          block.kind === "state" ? [...new Float64Array(block.batch.bits.slice(0, 2 * block.batch.numCount).buffer)] : [],
        );
      });
      expect(seen).toEqual([3]);
    }
  });
});
