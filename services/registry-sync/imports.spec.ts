import { zstdDecompressSync } from "node:zlib";
import { create, toBinary } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import { decodeAnswer, Malformed } from "#channel/messages.ts";
import { ListNodesResponseSchema, RegistrySyncService } from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import { LIMITS } from "#kernel/bounds/limits.ts";
import { ANY_NODE, GATEWAY, Instants, nodeBytes, settleAll, TestHub, TestLink } from "../../test/fakes/registry-hub.ts";
import { recordToProto } from "./codec/answer-codec.ts";
import { segmentCodec } from "./codec/segment-codec.ts";
import { Payload } from "./feed/segment.ts";
import { Applier, type Skipped } from "./import/apply.ts";
import type { FeedPosition, NodeRule, PeerFrame } from "./messages.ts";
import { FeedTable } from "./table/table.ts";

const RULE: NodeRule = { ids: [], types: ["lamp"], kind: 0, labels: {}, allow: true, capabilities: ["*"], invoke: [] };

function pair(importRules: readonly NodeRule[] | undefined = [RULE]) {
  const clock = new Instants();
  const a = new TestHub("alpha", clock);
  const b = new TestHub("beta", clock, { importRules });
  a.post({ kind: "peers", peers: [{ hubId: "beta", share: "full", level: 3 }], complete: true });
  b.post({ kind: "peers", peers: [{ hubId: "alpha", share: "full", level: 3 }], complete: true });
  a.post({ kind: "stream_open", stream: 1, scope: GATEWAY });
  let seq = 0;
  const set = (nodeId: string, value: number): void => a.update(1, ++seq, [{ nodeId, key: "p", value, type: 3 }]);
  const put = (nodeId: string, type: string): void => void a.register(nodeBytes(nodeId, ["p:double"], { type }));
  return { clock, a, b, set, put };
}

/** linked connects two hubs and lets them come to rest. */
function linked(a: TestHub, b: TestHub): TestLink {
  const link = new TestLink(a, b);
  settleAll([a, b], [link]);
  return link;
}

/** known is a hub that knows alpha. */
function known(hub: TestHub): TestHub {
  hub.post({ kind: "peers", peers: [{ hubId: "alpha", share: "full", level: 3 }], complete: true });
  return hub;
}

/** everything is what a hub has given a watcher of blocks, as bytes: names that are nowhere in it were not let out. */
function everything(hub: TestHub): string {
  const pushes = hub.pushes.get(1) ?? [];
  return pushes.map((push) => (push.kind === "blocks" ? Buffer.from(push.payload).toString("latin1") : "")).join();
}

function watch(hub: TestHub): void {
  hub.post({
    kind: "watch_open",
    watch: 1,
    options: { filter: { ...ANY_NODE, hubIds: ["alpha"] }, encoding: "blocks", nodesOnly: false, latestOnly: false, resume: [] },
  });
}

/** mirrored applies what a watcher was given to a table, as mirrors do. */
function mirrored(hub: TestHub): string[] {
  let table = new FeedTable();
  const applier = new Applier(segmentCodec, undefined, LIMITS);
  for (const push of hub.pushes.get(1) ?? []) {
    if (push.kind === "reset") table = new FeedTable();
    if (push.kind !== "blocks") continue;
    const blocks = segmentCodec.decodePayload(push.payload)!;
    expect(applier.check(table, new Map(), blocks, undefined, true)).toBeUndefined();
    applier.apply(table, new Map(), blocks, 0);
  }
  return [...table.entries()].map(({ info, ref }) => `${info.nodeId} ${String(table.state(table.node(ref)!)[0]?.value)}`).sort();
}

describe("F-16 what import rules keep out", () => {
  test("is in nothing that readers get: snapshot, live segments, and what a restart replays", () => {
    const { a, b, set, put } = pair();
    put("spy-1", "camera");
    put("lamp-1", "lamp");
    const link = linked(a, b);
    watch(b);
    put("spy-2", "camera");
    put("lamp-2", "lamp");
    for (const id of ["spy-1", "lamp-1", "spy-2", "lamp-2"]) set(id, 7);
    settleAll([a, b], [link]);
    // One that was let in changes so that it no longer is, and one the other way round.
    put("lamp-2", "camera");
    put("spy-2", "lamp");
    set("spy-2", 9);
    set("lamp-2", 9);
    a.deregister("spy-1");
    settleAll([a, b], [link]);
    const now = ["lamp-1 7", "spy-2 9"];
    expect(mirrored(b)).toEqual(now);
    expect(everything(b)).not.toContain("spy-1");
    expect(b.ask({ hubIds: ["alpha"] }).map(({ name }) => name.nodeId)).toEqual(["lamp-1", "spy-2"]);
    const after = b.crash();
    watch(after);
    after.settle();
    expect(mirrored(after)).toEqual(now);
  });

  test("a ref that is kept out may not get a second meaning", () => {
    const applier = new Applier(segmentCodec, [RULE], LIMITS);
    const table = new FeedTable();
    const skipped: Skipped = new Map();
    const put = (id: string, type: string) => {
      const payload = new Payload();
      payload.block(segmentCodec.encodeBlock({ kind: "node_put", ref: 5, node: nodeBytes(id, [], { type }), online: true }));
      const blocks = segmentCodec.decodePayload(payload.bytes())!;
      const problem = applier.check(table, skipped, blocks, undefined, false);
      if (problem === undefined) applier.apply(table, skipped, blocks, 0);
      return problem?.message;
    };
    expect([put("bad-a", "camera"), put("bad-b", "camera"), put("lamp-b", "lamp"), put("bad-a", "lamp")]).toEqual([
      undefined,
      "a ref got a second meaning",
      "a ref got a second meaning",
      undefined,
    ]);
  });

  test("other rules after a restart hold for what is held, and what they let in comes", () => {
    const { clock, a, b, put } = pair();
    put("lamp-1", "lamp");
    put("cam-1", "camera");
    const link = linked(a, b);
    clock.advance(61_000);
    settleAll([a, b], [link]);
    link.down();
    const ids = (hub: TestHub): string[] => hub.ask({ hubIds: ["alpha"] }).map(({ name }) => name.nodeId);
    const tighter = b.crash({ importRules: [{ ...RULE, types: ["none"] }] });
    expect(ids(tighter)).toEqual([]);
    const wider = tighter.crash({ importRules: [{ ...RULE, types: ["lamp", "camera"] }] });
    wider.post({ kind: "peers", peers: [{ hubId: "alpha", share: "full", level: 3 }], complete: true });
    settleAll([a, wider], [new TestLink(a, wider)]);
    expect(ids(wider)).toEqual(["cam-1", "lamp-1"]);
  });
});

describe("F-16 what other rules let in", () => {
  const wide: NodeRule = { ...RULE, types: ["lamp", "camera"] };
  const ids = (hub: TestHub): string[] => hub.ask({ hubIds: ["alpha"] }).map(({ name }) => name.nodeId);

  /** kept is a hub with a checkpoint under narrow rules, which starts with wide ones. */
  function kept() {
    const world = pair();
    const { clock, a, b, put } = world;
    put("lamp-1", "lamp");
    put("cam-1", "camera");
    let link = linked(a, b);
    link.down();
    const narrow = known(b.crash());
    link = new TestLink(a, narrow);
    put("lamp-1", "lamp");
    for (let i = 0; i < 3; i++) {
      put("lamp-2", "lamp");
      a.deregister("lamp-2");
      clock.advance(61_000);
      settleAll([a, narrow], [link]);
    }
    link.down();
    return { ...world, narrow, wide: known(narrow.crash({ importRules: [wide] })) };
  }

  test("comes also if the hub ended once more, after a checkpoint, before it had come", () => {
    const { a, clock, wide: first, put } = kept();
    expect(ids(first)).toEqual(["lamp-1"]);
    clock.advance(61_000);
    first.settle();
    put("lamp-3", "lamp");
    const again = known(first.crash());
    settleAll([a, again], [new TestLink(a, again)]);
    expect(ids(again)).toEqual(["cam-1", "lamp-1", "lamp-3"]);
  });

  test("F-16 the values of a node that changes so that rules let it in come too, live and after a restart", () => {
    for (const restart of [false, true]) {
      const { clock, a, b, put, set } = pair();
      put("lamp-1", "lamp");
      put("cam-1", "camera");
      set("cam-1", 7);
      let link = linked(a, b);
      put("cam-1", "lamp");
      settleAll([a, b], [link]);
      let hub = b;
      if (restart) {
        clock.advance(61_000);
        b.settle();
        link.down();
        hub = known(b.crash());
        link = new TestLink(a, hub);
      }
      link.ping();
      settleAll([a, hub], [link]);
      const cam = hub.ask({ hubIds: ["alpha"] }).find(({ name }) => name.nodeId === "cam-1");
      expect(cam?.state.map(({ value }) => value)).toEqual([7]);
    }
  });

  test("F-16 a node that is let in and kept out all the time makes a peer ask for snapshots ever more seldom", () => {
    const { clock, a, b, put } = pair();
    put("lamp-1", "lamp");
    put("cam-1", "camera");
    const link = linked(a, b);
    const fetchedAt: number[] = [];
    const start = clock.mono;
    const flap = (minutes: number): void => {
      for (let i = 0; i < 4 * minutes; i++) {
        put("cam-1", i % 2 === 0 ? "lamp" : "camera");
        settleAll([a, b], [link]);
        clock.advance(15_000);
        link.ping();
        settleAll([a, b], [link], (frame) => {
          if (frame.type === "feed_open") fetchedAt.push(Math.round((clock.mono - start) / 60_000));
          return 1;
        });
      }
    };
    flap(240);
    expect(fetchedAt).toEqual([0, 1, 3, 7, 15, 31, 63, 123, 183]);
    // After a long rest the next one comes at once.
    put("cam-1", "camera");
    clock.advance(3 * 3_600_000);
    settleAll([a, b], [link]);
    fetchedAt.length = 0;
    flap(1);
    expect(fetchedAt).toEqual([420]);
  });

  test("F-16 what was to be fetched is not asked for of a share that the owner has replaced meanwhile", () => {
    const { clock, a, b, put, set } = pair();
    put("cam-1", "camera");
    set("cam-1", 7);
    const link = linked(a, b);
    put("cam-1", "lamp");
    settleAll([a, b], [link]);
    const share = { name: "few", rules: [{ ...RULE, types: ["lamp"] }] };
    a.post({ kind: "shares", shares: [share] });
    a.post({ kind: "peers", peers: [{ hubId: "beta", share: "few", level: 3 }], complete: true });
    a.settle();
    const opened: string[] = [];
    const seen = (frame: PeerFrame): number => {
      if (frame.type === "feed_open") opened.push(frame.from.share);
      return 1;
    };
    // The head that asks for it was said before, and comes first.
    b.post({ kind: "heads", session: link.id, heads: b.core.feeds().map(({ head }) => head), rttMs: 2 });
    settleAll([a, b], [link], seen);
    for (let i = 0; i < 10; i++) {
      clock.advance(15_000);
      link.ping();
      settleAll([a, b], [link], seen);
    }
    expect(opened).toEqual(["full", "few"]);
    expect(b.ask({ hubIds: ["alpha"] }).map(({ name, state }) => `${name.nodeId} ${String(state[0]?.value)}`)).toEqual(["cam-1 7"]);
  });

  test("comes also while its owner goes on: what is after the snapshot waits, and follows", () => {
    const { a, clock, wide: b, put } = kept();
    a.zstd = true;
    const link = new TestLink(a, b);
    for (let i = 0; i < 30; i++) {
      // The snapshot is where the feed stands here: what follows would be the next segment.
      if (i >= 10) put(`lamp-${i - 10}`, "lamp");
      a.settle();
      link.deliver();
      b.settle();
    }
    // The snapshot is unpacked only now, behind all of them.
    for (let i = 0; i < 20; i++) {
      for (const effect of b.others.splice(0))
        if (effect.kind === "decompress")
          b.post({ kind: "decompressed", job: effect.job, bytes: new Uint8Array(zstdDecompressSync(effect.bytes)) });
      clock.advance(1_000);
      settleAll([a, b], [link]);
    }
    expect(ids(b)).toContain("cam-1");
    expect(ids(b)).toContain("lamp-19");
  });
});

describe("F-16 a watcher that comes back to what other rules made of a feed", () => {
  const ALL = { filter: { ...ANY_NODE, hubIds: ["alpha"] }, nodesOnly: false, latestOnly: false } as const;

  /** follow watches on from a position, and answers what comes first, the names in it, and where it ends. */
  function follow(hub: TestHub, encoding: "events" | "blocks", resume: readonly FeedPosition[]) {
    hub.pushes.delete(9);
    hub.post({ kind: "watch_open", watch: 9, options: { ...ALL, encoding, resume } });
    hub.settle();
    hub.post({ kind: "watch_close", watch: 9 });
    const pushes = hub.pushes.get(9) ?? [];
    const text = pushes.map((push) => JSON.stringify(push) + (push.kind === "blocks" ? Buffer.from(push.payload).toString("latin1") : ""));
    const positions = pushes.flatMap((push) => (push.kind === "bookmark" ? push.positions : []));
    return { first: pushes[0]?.kind, text: text.join(), positions };
  }

  test("gets it anew from the position at which a snapshot brought what was let in, also after a restart", () => {
    for (const encoding of ["events", "blocks"] as const) {
      const { a, b, put, set } = pair();
      put("cam-1", "camera");
      set("cam-1", 7);
      const link = linked(a, b);
      put("cam-1", "lamp");
      settleAll([a, b], [link]);
      const { positions } = follow(b, encoding, []);
      link.ping();
      settleAll([a, b], [link]);
      expect(follow(b, encoding, positions).first).toBe("reset");
      put("lamp-2", "lamp");
      settleAll([a, b], [link]);
      expect(follow(b, encoding, positions).first).toBe("reset");
      expect(follow(b.crash(), encoding, positions).first).toBe("reset");
      const after = follow(b, encoding, []).positions;
      expect(follow(b.crash(), encoding, after).first).not.toBe("reset");
    }
  });

  test("gets it anew after a restart with rules that keep more out, and after the next one too", () => {
    const { clock, a, b, put } = pair();
    put("lamp-1", "lamp");
    const link = linked(a, b);
    const { positions } = follow(b, "events", []);
    link.down();
    const tighter = known(b.crash({ importRules: [{ ...RULE, types: ["none"] }] }));
    expect(follow(tighter, "events", positions).first).toBe("reset");
    const again = new TestLink(a, tighter);
    for (let i = 0; i < 3; i++) {
      put("lamp-2", "lamp");
      clock.advance(61_000);
      settleAll([a, tighter], [again]);
    }
    expect(follow(tighter.crash(), "events", positions).first).toBe("reset");
  });

  test("gets it anew also from beyond what a loss of power left, if the rules are others then", () => {
    const { clock, a, b: before, put } = pair();
    const lax = { bootId: "one", durability: "process" } as const;
    const b = known(before.crash({}, lax));
    put("lamp-1", "lamp");
    let link = linked(a, b);
    const left = b.disk.copy();
    put("lamp-2", "lamp");
    settleAll([a, b], [link]);
    const { positions } = follow(b, "events", []);
    link.down();
    const after = new TestHub("beta", clock, { importRules: [{ ...RULE, types: ["none"] }] }, left, { ...lax, bootId: "two" });
    known(after);
    link = new TestLink(a, after);
    put("lamp-3", "lamp");
    settleAll([a, after], [link]);
    expect(follow(after, "events", positions).first).toBe("reset");
  });

  test("gets it anew also if the rules have been others meanwhile, and are the same again", () => {
    const { a, b, put } = pair();
    put("lamp-1", "lamp");
    linked(a, b);
    const tighter = known(b.crash({ importRules: [{ ...RULE, types: ["none"] }] }));
    tighter.settle();
    const { positions } = follow(tighter, "events", []);
    const again = known(tighter.crash({ importRules: [RULE] }));
    expect(follow(again, "events", positions).first).toBe("reset");
    expect(follow(again, "events", []).text).toContain("lamp-1");
  });

  test("is not shown what the segments before a checkpoint say of nodes that are kept out", () => {
    const { clock, a, b, put } = pair();
    put("lamp-1", "lamp");
    const link = linked(a, b);
    const { positions } = follow(b, "blocks", []);
    put("spy-1", "camera");
    put("lamp-2", "lamp");
    settleAll([a, b], [link]);
    clock.advance(61_000);
    settleAll([a, b], [link]);
    expect(follow(b, "blocks", positions).text).not.toContain("spy-1");
    const { text } = follow(b.crash(), "blocks", positions);
    expect(text).toContain("lamp-2");
    expect(text).not.toContain("spy-1");
  });
});

describe("F-22 how old what is held is", () => {
  test("a feed behind a backlog is as old as the head that it has reached, not as the moment when it came", () => {
    const { clock, a, b, set, put } = pair(undefined);
    put("lamp-1", "lamp");
    const link = linked(a, b);
    const age = (): number => b.core.feeds().find(({ own }) => !own)!.ageMs;
    expect(age()).toBeLessThan(1_000);
    // Segments are made, and wait on the way.
    for (let i = 0; i < 5; i++) {
      clock.advance(20_000);
      set("lamp-1", i);
      a.settle();
    }
    link.deliver();
    b.settle();
    expect(b.core.feeds().find(({ own }) => !own)!.head.seq).toBe(a.core.heads("beta")[0]!.seq);
    // The newest was made just now, those before it long ago.
    expect(age()).toBeLessThan(1_000);
    clock.advance(1_000);
    set("lamp-1", 9);
    a.settle();
    clock.advance(60_000);
    link.deliver();
    b.settle();
    expect(age()).toBeGreaterThanOrEqual(60_000);
    expect(b.ask({ hubIds: ["alpha"] })[0]!.freshness).toBe("STALE");
    link.ping();
    expect(age()).toBeLessThan(1_000);
  });

  test("a snapshot is as old as the head that its owner offered, and not FRESH while its owner is known to be ahead", () => {
    const { clock, a, b, set, put } = pair(undefined);
    a.zstd = true;
    put("lamp-1", "lamp");
    const link = linked(a, b);
    expect(b.ask({ hubIds: ["alpha"] })).toEqual([]);
    set("lamp-1", 1);
    a.settle();
    link.ping();
    clock.advance(40_000);
    for (const effect of b.others.splice(0))
      if (effect.kind === "decompress") {
        const { bytes, job } = effect;
        b.post({ kind: "decompressed", job, bytes: new Uint8Array(zstdDecompressSync(bytes)) });
      }
    b.settle();
    const feed = b.core.feeds().find(({ own }) => !own)!;
    expect([feed.head.epoch > 0, feed.freshness]).toEqual([true, "UNKNOWN"]);
    settleAll([a, b], [link]);
    link.ping();
    expect(b.core.feeds().find(({ own }) => !own)!.freshness).toBe("FRESH");
  });
});

test("S0-24 what a peer says of a node beyond what a registration may say keeps nobody from reading the listing that it is in", () => {
  const { a, b } = pair(undefined);
  a.register(nodeBytes("loud", ["note:string"], { name: "x".repeat(300), labels: { a: "1" } }), nodeBytes("quiet", []));
  settleAll([a, b], [new TestLink(a, b)]);
  const records = b.ask({ hubIds: ["alpha"] }).map((record) => {
    // A text of a hub that took what is no UTF-8 becomes longer where it is read.
    const state = record.name.nodeId === "loud" ? [{ key: "note", type: 4 as const, value: "\ufffd".repeat(4_000) }] : [];
    return recordToProto({ ...record, state });
  });
  const bytes = toBinary(ListNodesResponseSchema, create(ListNodesResponseSchema, { records }));
  const answer = decodeAnswer(RegistrySyncService.method.listNodes, bytes);
  expect(answer instanceof Malformed ? answer.error.message : "").toBe("");
});
