import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { LIMITS } from "#kernel/bounds/limits.ts";
import type { StoreOp } from "#kernel/core.ts";
import { createCrypto } from "#runtime/crypto.ts";
import { Instants, keyOf, MemoryDisk, nodeBytes, settleAll, TestHub, TestLink } from "../../test/fakes/registry-hub.ts";
import { snapshotOf } from "../../test/fakes/snapshot-frame.ts";
import { segmentCodec } from "./codec/segment-codec.ts";
import { Payload } from "./feed/segment.ts";
import type { FeedPosition, PeerFrame } from "./messages.ts";
import { CODEC, type SnapshotPartInfo } from "./ports.ts";

const crypto = createCrypto(keyOf("alpha"));
const SECONDS = 20;
/** All parts of the snapshot, and steps that it takes to put them into a table. */
const PARTS = 12;
const PART_BYTES = 60_000;

class CountingDisk extends MemoryDisk {
  bytes = 0;
  override apply(ops: readonly StoreOp[]): void {
    for (const op of ops) if ("bytes" in op) this.bytes += op.bytes.length;
    super.apply(ops);
  }
}

/** reader is a hub that has asked alpha for its feed, and counts the steps in which it puts parts into a table. */
function reader(options: ConstructorParameters<typeof TestHub>[2] = {}) {
  const clock = new Instants();
  const done = { steps: 0 };
  const codec: typeof segmentCodec = {
    ...segmentCodec,
    decodePiece: (...args) => {
      done.steps++;
      return segmentCodec.decodePiece(...args);
    },
  };
  const disk = new CountingDisk();
  const a = new TestHub("alpha", clock);
  const limits = { ...LIMITS, snapshotBytes: 1024 * 1024 };
  const b = new TestHub("beta", clock, { limits, codec, checkpointMs: 1e9, ...options }, disk);
  a.post({ kind: "peers", peers: [{ hubId: "beta", share: "full", level: 3 }], complete: true });
  b.post({ kind: "peers", peers: [{ hubId: "alpha", share: "full", level: 3 }], complete: true });
  return { clock, a, b, disk, done };
}

/** parts are a snapshot of some long nodes, before the codec. */
function parts(): { readonly infos: SnapshotPartInfo[]; readonly data: Uint8Array[]; readonly nodes: number } {
  const name = "x".repeat(1_000);
  const data: Uint8Array[] = [];
  let ref = 0;
  for (let part = 0; part < PARTS; part++) {
    const payload = new Payload();
    while (payload.length < PART_BYTES) {
      const node = nodeBytes(`n-${++ref}`, [], { name });
      payload.block(segmentCodec.encodeBlock({ kind: "node_put", ref, node, online: false }));
    }
    data.push(payload.bytes());
  }
  const infos = data.map((bytes) => ({ sha256: crypto.hash(bytes), len: bytes.length, rawLen: bytes.length, codec: CODEC.IDENTITY }));
  return { infos, data, nodes: ref };
}

const snapshot = parts();

/** What an owner may do: announce its snapshot, send parts of it, all but the last or all, take it back, offer, connect again, wait. */
type Move = "announce" | "most" | "rest" | "higher" | "forget" | "offer" | "again" | "wait" | "restart";

/** attack repeats moves for some seconds; each takes 50 ms. */
function attack(moves: readonly Move[]) {
  const { clock, a, b: first, disk, done } = reader();
  let b = first;
  a.settle();
  let epoch = a.core.heads("beta")[0]!.epoch;
  const at = (): FeedPosition => ({ ...a.core.heads("beta")[0]!, epoch });
  let session = 800;
  const up = (): void => {
    b.post({
      kind: "feed_key",
      peer: "alpha",
      key: keyOf("alpha").publicKey,
      serial: 1,
      notAfterWall: Number.MAX_SAFE_INTEGER,
      revokesUpTo: 0,
    });
    b.post({ kind: "session_up", session: ++session, peer: "alpha", creditBytes: 1 << 24 });
    b.post({ kind: "frame", session, frame: { type: "feed_offer", head: at(), keyStatement: new Uint8Array(0) } });
  };
  const give = (frame: PeerFrame): void => b.post({ kind: "frame", session, frame });
  const parts = (from: number, to: number): void => {
    for (let index = from; index < to; index++) give({ type: "snapshot_part", index, data: snapshot.data[index]! });
  };
  let sent = 0;
  const move = (what: Move): void => {
    switch (what) {
      case "announce":
        sent += 100 * PARTS;
        return give(snapshotOf(at(), snapshot.infos, snapshot.nodes));
      case "most":
        sent += (PARTS - 1) * PART_BYTES;
        return parts(0, PARTS - 1);
      case "rest":
        sent += PART_BYTES;
        return parts(PARTS - 1, PARTS);
      case "higher":
        epoch++;
        return give({ type: "feed_offer", head: at(), keyStatement: new Uint8Array(0) });
      case "forget":
        return give({ type: "forget", share: "full" });
      case "offer":
        return give({ type: "feed_offer", head: at(), keyStatement: new Uint8Array(0) });
      case "again":
        b.post({ kind: "session_down", session });
        return up();
      case "restart":
        b = b.crash();
        b.post({ kind: "peers", peers: [{ hubId: "alpha", share: "full", level: 3 }], complete: true });
        return up();
      case "wait":
        return clock.advance(1_000);
    }
  };
  up();
  const before = { steps: done.steps, bytes: disk.bytes };
  const end = clock.mono + SECONDS * 1_000;
  for (let i = 0; clock.mono < end; i++) {
    move(moves[i % moves.length]!);
    b.settle();
    b.outbox.splice(0);
    clock.advance(50);
    b.settle();
  }
  return { steps: done.steps - before.steps, bytes: disk.bytes - before.bytes, sent };
}

/** 64 steps of 64 KiB, which is four times the longest snapshot, and 16 more each second. */
const STEPS = 64 + 16 * SECONDS;

const LEADS: [string, Move[], Move[]][] = [
  ["announces a snapshot again that is here but for a part", ["announce", "most"], ["announce"]],
  ["sends the whole of it again and again, in higher epochs", [], ["announce", "most", "rest", "higher"]],
  ["takes it back each time", [], ["announce", "most", "forget", "offer"]],
  ["does so on a new session each time", ["announce", "most"], ["again", "announce"]],
];

describe("what an owner makes a reader do", () => {
  test.each(LEADS)("F-8 PROTOCOL O14 IR5 is bounded per peer and second if it %s", (_what, once, moves) => {
    const repeated = Array.from({ length: 2_000 }, (_, i) => moves[i % moves.length]!);
    const { steps, bytes } = attack([...once, ...repeated]);
    expect(steps).toBeLessThanOrEqual(STEPS);
    expect(bytes).toBeLessThanOrEqual(STEPS * 70_000);
  });

  test("F-8 PROTOCOL O14 IR5 what a restart found of a snapshot is not written again each time that it is announced", () => {
    const { bytes, sent } = attack(["announce", "most", "restart", ...Array.from({ length: 2_000 }, (): Move => "announce")]);
    // The restart begins with a budget of its own.
    expect(bytes).toBeLessThanOrEqual(2 * STEPS * 70_000);
    expect(sent).toBeLessThan(2_000_000);
  });

  test("F-8 PROTOCOL O14 IR5 is bounded whatever it sends", () => {
    const moves = fc.array(fc.constantFrom<Move>("announce", "most", "rest", "higher", "forget", "offer", "again", "wait"), {
      minLength: 1,
      maxLength: 8,
    });
    fc.assert(
      fc.property(moves, (list) => {
        const { steps, bytes, sent } = attack(list);
        expect(steps).toBeLessThanOrEqual(STEPS);
        expect(bytes).toBeLessThanOrEqual(STEPS * 70_000 + sent);
      }),
      { numRuns: 15 },
    );
  });
});

describe("checkpoints of a feed", () => {
  test("F-8 small segments do not have a large table written again for each thousand of them", () => {
    const { clock, a, b, disk } = reader({ checkpointSegments: 64 });
    a.register(...Array.from({ length: 2_000 }, (_, i) => nodeBytes(`n-${i}`, ["x:int"], { name: "x".repeat(200) })));
    const link = new TestLink(a, b);
    settleAll([a, b], [link]);
    a.post({ kind: "stream_open", stream: 1, scope: { name: "g", kind: "gateway", ids: [], prefixes: [""] } });
    const update = (from: number, to: number): number => {
      const before = disk.bytes;
      for (let i = from; i < to; i++) {
        a.update(1, i, [{ nodeId: "n-1", key: "x", value: BigInt(i), type: 2 }]);
        settleAll([a, b], [link]);
        clock.advance(1);
      }
      return disk.bytes - before;
    };
    const table = 2_000 * 250;
    update(1, 100);
    // 600 segments of 200 bytes or so, and at most one table.
    expect(update(100, 700)).toBeLessThan(600 * 1_000 + table * 2);
    expect(b.crash().ask({ hubIds: ["alpha"] })).toHaveLength(1_000);
  });
});
