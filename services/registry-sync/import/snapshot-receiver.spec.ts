import { zstdCompressSync, zstdDecompressSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { LIMITS } from "#kernel/bounds/limits.ts";
import { createCrypto } from "#runtime/crypto.ts";
import { Instants, keyOf, nodeBytes, settleAll, TestHub, TestLink } from "../../../test/fakes/registry-hub.ts";
import { snapshotOf } from "../../../test/fakes/snapshot-frame.ts";
import { segmentCodec } from "../codec/segment-codec.ts";
import { hex } from "../codec/wire.ts";
import { Payload } from "../feed/segment.ts";
import type { Effect, FeedPosition, PeerFrame } from "../messages.ts";
import { type Block, CODEC, type SnapshotPartInfo } from "../ports.ts";

const crypto = createCrypto(keyOf("alpha"));
const MIB = 1024 * 1024;

/** transfer is a hub that has asked alpha for its feed, and the parts of alpha's snapshot as they are before the codec. */
function transfer(limits = LIMITS, codec = segmentCodec) {
  const clock = new Instants();
  const a = new TestHub("alpha", clock, { partBytes: 2_000 });
  const b = new TestHub("beta", clock, { limits, codec });
  a.post({ kind: "peers", peers: [{ hubId: "beta", share: "full", level: 3 }], complete: true });
  b.post({ kind: "peers", peers: [{ hubId: "alpha", share: "full", level: 3 }], complete: true });
  a.register(...Array.from({ length: 500 }, (_, i) => nodeBytes(`n-${i}`, ["watts:double"])));
  a.settle();
  const link = new TestLink(a, b);
  const raws: Uint8Array[] = [];
  settleAll([a, b], [link], (frame) => {
    // Alpha's come first.
    if (frame.type === "snapshot_part") raws[frame.index] ??= frame.data;
    return frame.type === "snapshot" || frame.type === "snapshot_part" ? 0 : 1;
  });
  const head = a.core.heads("beta")[0] as FeedPosition;
  const take = (frame: PeerFrame): void => {
    b.post({ kind: "frame", session: link.id, frame });
    b.settle();
  };
  const asked = (): Extract<Effect, { kind: "decompress" }>[] =>
    b.others.splice(0).filter((effect): effect is Extract<Effect, { kind: "decompress" }> => effect.kind === "decompress");
  const refusals = (): unknown[] =>
    b.outbox.splice(0).flatMap(({ frame }) => (frame.type === "nack" ? [{ ...frame.failure, wantSnapshot: frame.wantSnapshot }] : []));
  b.outbox.splice(0);
  b.others.splice(0);
  return { clock, a, b, link, raws, head, take, asked, refusals };
}

function put(ref: number, node: Uint8Array): Extract<Block, { kind: "node_put" }> {
  return { kind: "node_put", ref, node, online: false };
}

function zstdParts(raws: readonly Uint8Array[]): { readonly infos: SnapshotPartInfo[]; readonly data: Uint8Array[] } {
  const data = raws.map((raw) => zstdCompressSync(raw) as Uint8Array);
  const infos = data.map((bytes, i) => ({ sha256: crypto.hash(bytes), len: bytes.length, rawLen: raws[i]!.length, codec: CODEC.ZSTD }));
  return { infos, data };
}

const stored = (hub: TestHub): number =>
  hub.disk
    .logs()
    .filter((log) => log.startsWith("ckpt/alpha/"))
    .reduce((sum, log) => sum + [...hub.disk.read(log, 0)].length, 0);

describe("a snapshot that comes in", () => {
  test("is refused by the limit's name when its parts together are too long, however long each is", () => {
    const { b, head, take, refusals, clock } = transfer();
    const part = (i: number, more: Partial<SnapshotPartInfo> = {}) => ({
      sha256: crypto.hash(Uint8Array.of(i >> 8, i)),
      len: 100,
      rawLen: MIB,
      codec: CODEC.ZSTD,
      ...more,
    });
    const parts = (count: number, more: Partial<SnapshotPartInfo> = {}) => Array.from({ length: count }, (_, i) => part(i, more));
    const cases = [
      [parts(257), { limit: "snapshot_bytes", max: String(LIMITS.snapshotBytes) }],
      [parts(5_000), { limit: "snapshot_bytes", max: String(LIMITS.snapshotBytes) }],
      [parts(300, { len: MIB, rawLen: 0, codec: CODEC.IDENTITY }), { limit: "snapshot_bytes", max: String(LIMITS.snapshotBytes) }],
      [parts(1, { rawLen: MIB + 1 }), { limit: "snapshot_part_bytes", max: String(MIB) }],
    ] as const;
    for (const [infos, facts] of cases) {
      clock.advance(1_000);
      take(snapshotOf(head, infos, 10));
      expect(refusals()).toMatchObject([{ reason: "LIMIT_EXCEEDED", facts, wantSnapshot: false }]);
    }
    clock.advance(1_000);
    take(snapshotOf(head, parts(256), 10));
    expect(refusals()).toEqual([]);
    expect(b.ask({ hubIds: ["alpha"] })).toEqual([]);
  });

  test("F-1 is refused when it is of epoch 0, which says that nothing is held; the next one is taken in", () => {
    const { b, head, raws, take, refusals, clock } = transfer();
    const infos = raws.map((raw) => ({ sha256: crypto.hash(raw), len: raw.length, rawLen: raw.length, codec: CODEC.IDENTITY }));
    for (const epoch of [0, head.epoch]) {
      clock.advance(1_000);
      take(snapshotOf({ ...head, epoch }, infos, 500));
      for (const [index, data] of raws.entries()) take({ type: "snapshot_part", index, data });
      if (epoch === 0)
        expect(refusals()).toMatchObject([{ reason: "SEGMENT_INVALID", message: expect.stringContaining("manifest.epoch") }]);
    }
    expect(refusals()).toEqual([]);
    expect(b.ask({ hubIds: ["alpha"] })).toHaveLength(500);
  });

  test("RV4 A3 parts that come last first, uncompressed, are put in piece by piece: no step does the work of all of them", () => {
    let reads = 0;
    const codec = {
      ...segmentCodec,
      readNode: (bytes: Uint8Array) => {
        reads++;
        return segmentCodec.readNode(bytes);
      },
    };
    const nodes = 6_000;
    const { b, head, link } = transfer(LIMITS, codec);
    const names = Array.from({ length: nodes }, (_, i) => segmentCodec.encodeBlock(put(i + 1, nodeBytes(`n-${i}`, []))));
    // Few bytes and many blocks, in one part; then many parts.
    for (const perPart of [nodes, 200]) {
      const raws: Uint8Array[] = [];
      for (let from = 0; from < nodes; from += perPart) {
        const payload = new Payload();
        for (const block of names.slice(from, from + perPart)) payload.block(block);
        raws.push(payload.bytes());
      }
      const infos = raws.map((raw) => ({ sha256: crypto.hash(raw), len: raw.length, rawLen: raw.length, codec: CODEC.IDENTITY }));
      let most = 0;
      const measured = (work: () => unknown): unknown => {
        reads = 0;
        const done = work();
        most = Math.max(most, reads);
        return done;
      };
      const at = { ...head, seq: head.seq + perPart };
      measured(() => b.post({ kind: "frame", session: link.id, frame: snapshotOf(at, infos, nodes) }));
      for (let index = raws.length - 1; index >= 0; index--)
        measured(() => b.post({ kind: "frame", session: link.id, frame: { type: "snapshot_part", index, data: raws[index]! } }));
      while (measured(() => b.turn()) === true);
      expect([b.ask({ hubIds: ["alpha"] }).length, b.core.feeds().find(({ own }) => !own)?.nodes]).toEqual([1_000, nodes]);
      expect(most).toBeLessThanOrEqual(512);
    }
  });

  test("RV2 keeps what comes as it was sent, and decompresses a few parts in order, whichever is missing", () => {
    const { b, head, take, asked, raws, refusals } = transfer();
    const { infos, data } = zstdParts(raws);
    expect(raws.length).toBeGreaterThan(8);
    take(snapshotOf(head, infos, 500));
    for (let index = data.length - 1; index > 0; index--) take({ type: "snapshot_part", index, data: data[index]! });
    expect([asked(), stored(b)]).toEqual([[], 0]);
    take({ type: "snapshot_part", index: 0, data: data[0]! });
    let open = asked();
    for (let applied = 0; applied < data.length; applied++) {
      expect([stored(b), open.length <= 4]).toEqual([applied, true]);
      const [next, ...rest] = open;
      b.post({ kind: "decompressed", job: next!.job, bytes: zstdDecompressSync(next!.bytes) });
      b.settle();
      open = [...rest, ...asked()];
    }
    expect(refusals()).toEqual([]);
    expect(b.ask({ hubIds: ["alpha"] })).toHaveLength(500);
    expect(b.crash().ask({ hubIds: ["alpha"] })).toHaveLength(500);
  });

  test("a part that does not become what the manifest says is refused", () => {
    const { b, head, take, asked, raws, refusals, clock } = transfer();
    const lying = raws.map((bytes) => ({ sha256: crypto.hash(bytes), len: bytes.length, rawLen: bytes.length - 1, codec: CODEC.IDENTITY }));
    take(snapshotOf(head, lying, 500));
    take({ type: "snapshot_part", index: 0, data: raws[0]! });
    expect(refusals()).toMatchObject([{ reason: "SEGMENT_INVALID" }]);
    clock.advance(1_000);
    const { infos, data } = zstdParts(raws);
    take(snapshotOf(head, infos, 500));
    take({ type: "snapshot_part", index: 0, data: data[0]! });
    b.post({ kind: "decompressed", job: asked()[0]!.job, bytes: undefined });
    b.settle();
    expect(refusals()).toMatchObject([{ reason: "SEGMENT_INVALID" }]);
    expect([b.ask({ hubIds: ["alpha"] }), stored(b)]).toEqual([[], 0]);
  });

  test("RV1 what came before the link was cut, or this hub stopped, is not sent again", () => {
    for (const restart of [false, true]) {
      const { a, b, link, head, take, asked, raws } = transfer();
      const { infos, data } = zstdParts(raws);
      take(snapshotOf(head, infos, 500));
      // The first three are decompressed and applied, two more wait behind a gap.
      for (const index of [0, 1, 2, 4, 5]) take({ type: "snapshot_part", index, data: data[index]! });
      for (const { job, bytes } of asked()) b.post({ kind: "decompressed", job, bytes: zstdDecompressSync(bytes) });
      b.settle();
      link.down();
      const b2 = restart ? b.crash() : b;
      if (restart) b2.post({ kind: "peers", peers: [{ hubId: "alpha", share: "full", level: 3 }], complete: true });
      b2.outbox.splice(0);
      const again = new TestLink(a, b2);
      b2.post({ kind: "frame", session: again.id, frame: { type: "feed_offer", head, keyStatement: new Uint8Array(0) } });
      b2.settle();
      const [open] = b2.outbox.flatMap(({ frame }) => (frame.type === "feed_open" ? [frame] : []));
      const held = restart ? [0, 1, 2] : [0, 1, 2, 4, 5];
      expect(open?.heldParts.map(hex)).toEqual(held.map((index) => hex(infos[index]!.sha256)));
      b2.post({ kind: "frame", session: again.id, frame: snapshotOf(head, infos, 500) });
      const missing = infos.map((_, index) => index).filter((index) => !held.includes(index));
      for (const index of missing)
        b2.post({ kind: "frame", session: again.id, frame: { type: "snapshot_part", index, data: data[index]! } });
      for (let jobs = 1; jobs > 0; ) {
        b2.settle();
        const due = b2.others.splice(0).filter((effect) => effect.kind === "decompress");
        jobs = due.length;
        for (const { job, bytes } of due) b2.post({ kind: "decompressed", job, bytes: zstdDecompressSync(bytes) });
      }
      expect(b2.ask({ hubIds: ["alpha"] })).toHaveLength(500);
    }
  });
});

describe("A3 what one step may be asked to do", () => {
  test("a segment of very many small blocks is refused by the limit's name and comes as a snapshot; no hub writes one", () => {
    const clock = new Instants();
    const tiny = Array.from({ length: 6_000 }, (_, i) => nodeBytes(`n${i}`, []));
    const many = { ...LIMITS, segmentUpdates: 16_000, segmentBlocks: 10_000, segmentNodeBytes: LIMITS.segmentPayloadBytes };
    const blocksOf = (hub: TestHub): number[] =>
      [...[1, 2, 3, 4].flatMap((seq) => hub.core.sources()[0]!.ring.get(seq) ?? [])].map(
        ({ payload }) => segmentCodec.decodePayload(payload)!.length,
      );
    for (const [limits, longest, refused] of [
      // The nodes, and the first part of them online.
      [many, 6_001, ["segment_blocks"]],
      [{ ...many, segmentBlocks: LIMITS.segmentBlocks }, LIMITS.segmentBlocks, []],
    ] as const) {
      const a = new TestHub("alpha", clock, { limits });
      const b = new TestHub("beta", clock);
      a.post({ kind: "peers", peers: [{ hubId: "beta", share: "full", level: 3 }], complete: true });
      b.post({ kind: "peers", peers: [{ hubId: "alpha", share: "full", level: 3 }], complete: true });
      const link = new TestLink(a, b);
      settleAll([a, b], [link]);
      a.register(...tiny);
      for (let i = 0; i < 3; i++) {
        settleAll([a, b], [link]);
        clock.advance(2_000);
      }
      expect(Math.max(...blocksOf(a))).toBe(longest);
      expect(b.events.filter(({ event }) => event === "limit").map(({ fields }) => fields["limit"])).toEqual(refused);
      expect(b.core.feeds().find(({ own }) => !own)?.nodes).toBe(6_000);
    }
  });
});

describe("F-7 a snapshot that never becomes whole", () => {
  const logs = (hub: TestHub): string[] => hub.disk.logs().filter((log) => log.startsWith("ckpt/alpha/"));
  const bytes = (hub: TestHub): number | undefined => hub.core.feeds().find(({ own }) => !own)?.incoming;

  test.each(["on its session", "after its session", "over a restart"])(
    "is given up after a while %s, and nothing is left of it",
    (when) => {
      const { b, link, head, take, asked, raws, clock } = transfer();
      const { infos, data } = zstdParts(raws);
      take(snapshotOf(head, infos, 500));
      take({ type: "snapshot_part", index: 0, data: data[0]! });
      for (const { job, bytes: part } of asked()) b.post({ kind: "decompressed", job, bytes: zstdDecompressSync(part) });
      b.settle();
      expect(logs(b)).toHaveLength(1);
      // The part, and the nodes that were read out of it.
      expect(bytes(b)).toBeGreaterThan(data[0]!.length);
      if (when === "after its session") link.down();
      const b2 = when === "over a restart" ? b.crash() : b;
      clock.advance(119_000);
      b2.settle();
      expect(logs(b2)).toHaveLength(1);
      clock.advance(2_000);
      b2.settle();
      expect([logs(b2), b2.disk.get("meta", "stage/alpha"), bytes(b2)]).toEqual([[], undefined, undefined]);
      expect(b2.core.deadline() ?? clock.mono + 1).toBeGreaterThan(clock.mono);
    },
  );

  test("has a bound in bytes over all peers: the one that holds most gives way, by the limit's name", () => {
    const { b, head, take, raws, refusals } = transfer({ ...LIMITS, incomingBytes: 600 });
    const { infos, data } = zstdParts(raws);
    take(snapshotOf(head, infos, 500));
    let held = 0;
    for (let index = 1; held <= 600; index++) {
      take({ type: "snapshot_part", index, data: data[index]! });
      held += data[index]!.length;
      expect(bytes(b) ?? 0).toBeLessThanOrEqual(600);
    }
    expect(refusals()).toMatchObject([{ reason: "LIMIT_EXCEEDED", facts: { limit: "incoming_bytes", max: "600" } }]);
    expect(b.disk.get("meta", "stage/alpha")).toBeUndefined();
  });
});

describe("a snapshot that is whole here, and not yet in its table", () => {
  /** whole is a hub that has all parts of alpha's snapshot and has put some of them into the table. */
  function whole() {
    const clock = new Instants();
    const [a, b] = [new TestHub("alpha", clock), new TestHub("beta", clock)];
    a.post({ kind: "peers", peers: [{ hubId: "beta", share: "full", level: 3 }], complete: true });
    b.post({ kind: "peers", peers: [{ hubId: "alpha", share: "full", level: 3 }], complete: true });
    a.register(...Array.from({ length: 6_000 }, (_, i) => nodeBytes(`n-${i}`, ["watts:double"])));
    a.settle();
    const link = new TestLink(a, b);
    for (let i = 0; i < 50; i++) {
      a.settle();
      b.commit();
      link.deliver();
    }
    const nodes = (): number | undefined => b.core.feeds().find(({ own, head }) => !own && head.epoch > 0)?.nodes;
    expect([nodes(), b.core.feeds().find(({ own }) => !own)?.incoming]).toEqual([undefined, expect.any(Number)]);
    return { clock, a, b, link, nodes };
  }

  test("becomes the feed after a session that was cut, and the feed goes on at once on the next one", () => {
    const { clock, a, b, link, nodes } = whole();
    link.down();
    a.register(nodeBytes("n-1", ["watts:double"], { name: "changed" }), nodeBytes("meanwhile", []));
    a.settle();
    clock.advance(500);
    const next = new TestLink(a, b);
    a.settle();
    next.deliver();
    // It has told its owner which parts it holds, and puts them in before the answer comes.
    b.settle();
    expect(nodes()).toBe(6_000);
    settleAll([a, b], [next]);
    a.register(nodeBytes("afterwards", []));
    settleAll([a, b], [next]);
    expect([nodes(), b.core.feeds().find(({ own }) => !own)?.incoming]).toEqual([6_002, 0]);
  });

  test("is not given up when the store has refused writes for longer than a snapshot may stand still", () => {
    const { clock, b, nodes } = whole();
    b.post({ kind: "stored", ok: false });
    clock.advance(130_000);
    b.settle();
    b.post({ kind: "stored", ok: true });
    b.settle();
    expect(nodes()).toBe(6_000);
  });
});

test("a snapshot that fails is refused also right after another refusal: its owner would else wait for ever", () => {
  const { b, head, take, asked, raws, refusals } = transfer();
  const lying = raws.map((bytes) => ({ sha256: crypto.hash(bytes), len: bytes.length, rawLen: bytes.length - 1, codec: CODEC.IDENTITY }));
  const { infos, data } = zstdParts(raws);
  take(snapshotOf(head, lying, 500));
  take({ type: "snapshot_part", index: 0, data: raws[0]! });
  take(snapshotOf(head, infos, 500));
  take({ type: "snapshot_part", index: 0, data: data[0]! });
  b.post({ kind: "decompressed", job: asked()[0]!.job, bytes: undefined });
  b.settle();
  take(snapshotOf(head, infos, LIMITS.nodesPerPeer + 1));
  expect(refusals()).toMatchObject([{ reason: "SEGMENT_INVALID" }, { reason: "SEGMENT_INVALID" }, { reason: "LIMIT_EXCEEDED" }]);
});

test("A10 a damaged record of an interrupted snapshot keeps no hub from starting: it is told, removed, and sent again", () => {
  const { b, head, take, asked, raws } = transfer();
  const { infos, data } = zstdParts(raws);
  take(snapshotOf(head, infos, 500));
  take({ type: "snapshot_part", index: 0, data: data[0]! });
  for (const { job, bytes } of asked()) b.post({ kind: "decompressed", job, bytes: zstdDecompressSync(bytes) });
  b.settle();
  expect(stored(b)).toBe(1);
  b.disk.apply([{ op: "put", space: "meta", key: "stage/alpha", bytes: Uint8Array.of(0x7b) }]);
  const again = b.crash();
  again.settle();
  expect(again.events.filter(({ severity }) => severity === "WARNING").map(({ fields }) => fields)).toMatchObject([
    { problem: "record meta/stage/alpha is not JSON" },
  ]);
  expect([stored(again), again.disk.get("meta", "stage/alpha")]).toEqual([0, undefined]);
});

describe("a feed that is longer than a snapshot may be", () => {
  test("is not sent, is told of once, and goes when it is shorter", () => {
    const clock = new Instants();
    const limits = { ...LIMITS, snapshotBytes: 10_000 };
    const a = new TestHub("alpha", clock, { limits, partBytes: 2_000, ringSegments: 2 });
    const b = new TestHub("beta", clock);
    a.post({ kind: "peers", peers: [{ hubId: "beta", share: "full", level: 3 }], complete: true });
    b.post({ kind: "peers", peers: [{ hubId: "alpha", share: "full", level: 3 }], complete: true });
    const ids = Array.from({ length: 1_000 }, (_, i) => `n-${i}`);
    a.register(...ids.map((id) => nodeBytes(id, [])));
    const link = new TestLink(a, b);
    const told = (): unknown[] =>
      a.events.filter(({ event }) => event === "limit").map(({ severity, fields }) => [severity, fields["limit"]]);
    for (let i = 0; i < 5; i++) {
      settleAll([a, b], [link]);
      clock.advance(15_000);
      link.ping();
    }
    expect([b.ask({ hubIds: ["alpha"] }), told()]).toEqual([[], [["ERROR", "snapshot_bytes"]]]);
    for (const id of ids.slice(50)) a.deregister(id);
    clock.advance(600_000);
    settleAll([a, b], [link]);
    expect(b.ask({ hubIds: ["alpha"] })).toHaveLength(50);
  });
});
