import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { StoreOp } from "#kernel/core.ts";
import { createCrypto } from "#runtime/crypto.ts";
import { GATEWAY, Instants, keyOf, MemoryDisk, nodeBytes, settleAll, TestHub, TestLink } from "../../../test/fakes/registry-hub.ts";
import { segmentCodec } from "../codec/segment-codec.ts";
import type { FeedPosition, PeerFrame } from "../messages.ts";

const NODES = 120;
const MINUTES = 3;
const PEERS = [
  { hubId: "beta", share: "full", level: 2 },
  { hubId: "gamma", share: "full", level: 2 },
];
const REASONS = ["FEED_FORK", "FEED_GAP", "FEED_KEY_INVALID", "LIMIT_EXCEEDED", "SEGMENT_INVALID", "UPGRADE_NEEDED"] as const;

/** CountingDisk notes what is written. */
class CountingDisk extends MemoryDisk {
  ops = 0;
  bytes = 0;
  override apply(ops: readonly StoreOp[]): void {
    this.ops += ops.length;
    for (const op of ops) if ("bytes" in op) this.bytes += op.bytes.length;
    super.apply(ops);
  }
}

/** owner is a hub that counts what it does: nodes that it encodes for snapshots, signatures, and what it writes. */
function owner(options: ConstructorParameters<typeof TestHub>[2] = {}) {
  const clock = new Instants();
  const done = { rows: 0, signed: 0 };
  const crypto = createCrypto(keyOf("alpha"));
  const disk = new CountingDisk();
  const codec: typeof segmentCodec = {
    ...segmentCodec,
    encodeBlock: (block) => {
      done.rows += Number(block.kind === "node_put");
      return segmentCodec.encodeBlock(block);
    },
  };
  const signing: typeof crypto = {
    ...crypto,
    sign: (bytes) => {
      done.signed++;
      return crypto.sign(bytes);
    },
  };
  const hub = new TestHub("alpha", clock, { codec, crypto: signing, ringSegments: 64, leaseMs: 1e9, checkpointMs: 1e9, ...options }, disk);
  hub.post({ kind: "peers", peers: PEERS, complete: true });
  hub.register(...Array.from({ length: NODES }, (_, i) => nodeBytes(`n-${i}`, ["x:int"])));
  hub.settle();
  hub.post({ kind: "stream_open", stream: 1, scope: GATEWAY });
  return { clock, hub, disk, done };
}

/** What a peer may do next; each takes 50 ms, as the rate of frames allows no more for long (PROTOCOL S15). */
type Move =
  | { readonly do: "open"; readonly at: "zero" | "held" | "old" | "head" | "ahead" | "strange" | "other" }
  | { readonly do: "ack"; readonly at: "head" | "low" }
  | { readonly do: "nack"; readonly reason: (typeof REASONS)[number]; readonly at: "head" | "zero" | "low"; readonly wantSnapshot: boolean }
  | { readonly do: "forgot" | "ping" | "again" | "other" | "update" }
  | { readonly do: "credit"; readonly bytes: number }
  | { readonly do: "rest"; readonly ms: number };

const move: fc.Arbitrary<Move> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant("open" as const),
      at: fc.constantFrom("zero", "held", "old", "head", "ahead", "strange", "other"),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("ack" as const), at: fc.constantFrom("head", "low") }) },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant("nack" as const),
      reason: fc.constantFrom(...REASONS),
      at: fc.constantFrom("head", "zero", "low"),
      wantSnapshot: fc.boolean(),
    }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constantFrom("forgot", "ping", "again", "other", "update") }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("credit" as const), bytes: fc.constantFrom(0, 1, 300, 1 << 20) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("rest" as const), ms: fc.constantFrom(200, 1_000, 10_000) }) },
) as fc.Arbitrary<Move>;

/** Attacker is a peer, or two that work together, which repeats its moves over all sessions that it likes. */
class Attacker {
  readonly #hub: TestHub;
  #session = 900;
  #peer = "beta";
  #updates = 0;
  /** Digests of all parts that it was sent. */
  readonly #held = new Map<string, Uint8Array>();
  got = { snapshots: 0, bytes: 0, frames: 0 };

  constructor(hub: TestHub) {
    this.#hub = hub;
    this.#up(1 << 22);
  }

  #up(creditBytes: number): void {
    this.#hub.post({ kind: "session_up", session: ++this.#session, peer: this.#peer, creditBytes });
  }

  #send(frame: PeerFrame): void {
    this.#hub.post({ kind: "frame", session: this.#session, frame });
  }

  #at(where: string): FeedPosition {
    const head = this.#hub.core.heads("beta")[0]!;
    const zero = { ...head, epoch: 0, seq: 0, digest: new Uint8Array(0) };
    if (where === "zero" || where === "held") return zero;
    if (where === "old" || where === "low") return { ...head, seq: 1, digest: new Uint8Array(32) };
    if (where === "ahead") return { ...head, epoch: head.epoch + 1 };
    if (where === "strange") return { ...head, digest: new Uint8Array(32).fill(7) };
    return where === "other" ? { ...head, share: "no-such" } : head;
  }

  move(move: Move, clock: Instants): void {
    switch (move.do) {
      case "open":
        return this.#send({ type: "feed_open", from: this.#at(move.at), heldParts: move.at === "held" ? [...this.#held.values()] : [] });
      case "ack":
        return this.#send({ type: "ack", position: this.#at(move.at) });
      case "nack":
        return this.#send({
          type: "nack",
          held: this.#at(move.at),
          failure: { reason: move.reason, message: "no" },
          wantSnapshot: move.wantSnapshot,
        });
      case "forgot":
        return this.#send({ type: "forget_done", share: "full" });
      case "ping":
        return this.#hub.post({ kind: "heads", session: this.#session, heads: [this.#at("strange")], rttMs: 1 });
      case "credit":
        return this.#hub.post({ kind: "credit", session: this.#session, bytes: move.bytes });
      case "again":
      case "other":
        if (move.do === "other") this.#peer = this.#peer === "beta" ? "gamma" : "beta";
        this.#hub.post({ kind: "session_down", session: this.#session });
        return this.#up(1 << 22);
      case "update":
        return this.#hub.update(1, ++this.#updates, [{ nodeId: "n-1", key: "x", value: BigInt(this.#updates), type: 2 }]);
      case "rest":
        return clock.advance(move.ms);
    }
  }

  /** take reads what was sent to it. */
  take(): void {
    for (const { frame } of this.#hub.outbox.splice(0)) {
      this.got.frames++;
      if (frame.type === "segment") this.got.bytes += frame.segment.length;
      if (frame.type === "snapshot_part") this.got.bytes += frame.data.length;
      if (frame.type !== "snapshot") continue;
      this.got.snapshots++;
      this.got.bytes += frame.manifest.length;
      const manifest = segmentCodec.decodeManifest(segmentCodec.decodeSigned(frame.manifest)!.body)!;
      for (const { sha256 } of manifest.parts) this.#held.set(sha256.join(), sha256);
    }
  }
}

/** attack repeats moves for some minutes and answers what they cost. */
function attack(moves: readonly Move[], options: Parameters<typeof owner>[0] = {}) {
  const { clock, hub, disk, done } = owner(options);
  const attacker = new Attacker(hub);
  const before = { ...done, ops: disk.ops };
  const { seq } = hub.core.heads("beta")[0]!;
  const end = clock.mono + MINUTES * 60_000;
  for (let i = 0; clock.mono < end; i++) {
    attacker.move(moves[i % moves.length]!, clock);
    hub.settle();
    attacker.take();
    clock.advance(50);
    hub.settle();
    attacker.take();
  }
  const own = hub.core.heads("beta")[0]!.seq - seq;
  return {
    rows: done.rows - before.rows,
    signed: done.signed - before.signed - own,
    ops: disk.ops - before.ops - own,
    warnings: hub.events.filter(({ severity }) => severity === "WARNING" || severity === "ERROR").length,
    got: attacker.got,
    epoch: hub.core.heads("beta")[0]!.epoch,
  };
}

/** What two peers can make it do in so many minutes: a dozen snapshots each at first, then one or two a minute. */
const SNAPSHOTS = 2 * (12 + 2 * MINUTES);

const LEADS: [string, Move[]][] = [
  ["asks for all of it, and has all parts already", [{ do: "open", at: "held" }]],
  ["asks for all of it and takes it", [{ do: "open", at: "zero" }]],
  [
    "calls a fork and acknowledges the head",
    [
      { do: "nack", reason: "FEED_FORK", at: "head", wantSnapshot: true },
      { do: "open", at: "zero" },
      { do: "ack", at: "head" },
    ],
  ],
  ["begins anew with each session", [{ do: "again" }, { do: "open", at: "zero" }]],
  [
    "is two peers in turn",
    [
      { do: "open", at: "held" },
      { do: "other" },
      { do: "open", at: "zero" },
      { do: "update" },
      { do: "nack", reason: "FEED_GAP", at: "head", wantSnapshot: true },
    ],
  ],
  ["opens and says that it has forgotten", [{ do: "open", at: "zero" }, { do: "forgot" }]],
  [
    "claims more, forgets, and acknowledges",
    [{ do: "open", at: "ahead" }, { do: "forgot" }, { do: "open", at: "zero" }, { do: "ack", at: "head" }],
  ],
  [
    "refuses for another reason each time",
    REASONS.map((reason) => ({ do: "nack", reason, at: "low", wantSnapshot: reason === "FEED_GAP" })),
  ],
];

function bounded(cost: ReturnType<typeof attack>): void {
  expect(cost.rows).toBeLessThanOrEqual(SNAPSHOTS * NODES);
  expect(cost.signed).toBeLessThanOrEqual(SNAPSHOTS);
  // Besides segments of this hub: what each peer may hold is noted, and forgotten, as often as it is told to forget.
  expect(cost.ops).toBeLessThanOrEqual(2 * SNAPSHOTS + 20);
  expect(cost.warnings).toBeLessThanOrEqual(2 * SNAPSHOTS + 20);
  expect(cost.epoch).toBe(1);
}

describe("what a peer makes its owner do", () => {
  test.each(LEADS)("F-8 PROTOCOL O14 EP6 is bounded per peer and minute if it %s", (_what, moves) => {
    bounded(attack(moves));
  });

  test("F-8 PROTOCOL O14 EP6 is bounded per peer and minute whatever it sends, over however many sessions", () => {
    fc.assert(
      fc.property(fc.array(move, { minLength: 1, maxLength: 8 }), fc.constantFrom(4, 64), (moves, ringSegments) => {
        bounded(attack(moves, { ringSegments }));
      }),
      { numRuns: 25 },
    );
  });
});

/** What happens to a peer that behaves. */
type Fate = { readonly do: "flap" | "restart" | "update"; readonly after: number; readonly turns: number };

describe("a peer that behaves", () => {
  const fate: fc.Arbitrary<Fate> = fc.record({
    do: fc.constantFrom("flap", "flap", "flap", "update", "update"),
    after: fc.integer({ min: 50, max: 4_000 }),
    turns: fc.nat(12),
  });

  test("F-8 PROTOCOL O14 EP6 is brought in sync within a second, after its disk was lost, three restarts and any flaps of its link in a minute", () => {
    fc.assert(
      fc.property(fc.array(fate, { minLength: 5, maxLength: 24 }), fc.constantFrom(4, 64), (fates, ringSegments) => {
        const { clock, hub: a } = owner({ ringSegments });
        const peers = [{ hubId: "alpha", share: "full", level: 3 }];
        let b = new TestHub("beta", clock);
        b.post({ kind: "peers", peers, complete: true });
        let link = new TestLink(a, b);
        let value = 0;
        const again = (): void => {
          b.post({ kind: "peers", peers, complete: true });
          link = new TestLink(a, b);
        };
        const steps = fates.flatMap((it, i): (Fate | "lose")[] =>
          i % 5 === 2 && i < 15 ? [it, { ...it, do: "restart" }] : i === 3 ? [it, "lose"] : [it],
        );
        for (const step of steps) {
          const { after, turns, do: what } = step === "lose" ? { after: 100, turns: 3, do: "lose" as const } : step;
          clock.advance(after);
          if (what === "update") a.update(1, ++value, [{ nodeId: "n-1", key: "x", value: BigInt(value), type: 2 }]);
          // It goes so far until the link breaks.
          for (let i = 0; i < turns; i++) if (!a.turn() && !b.turn() && link.deliver() === 0) break;
          if (what === "update") continue;
          link.down();
          if (what === "restart") b = b.crash();
          if (what === "lose") b = new TestHub("beta", clock);
          again();
        }
        for (let ms = 0; ms <= 1_000; ms += 100) {
          settleAll([a, b], [link]);
          clock.advance(100);
        }
        const held = b.ask({ hubIds: ["alpha"] });
        expect(held).toHaveLength(NODES);
        if (value > 0) expect(held.find(({ name }) => name.nodeId === "n-1")?.state[0]?.value).toBe(BigInt(value));
        expect(b.core.feeds().find(({ own }) => !own)?.head.seq).toBe(a.core.heads("beta")[0]!.seq);
      }),
      { numRuns: 25 },
    );
  });
});

describe("what a peer was sent before", () => {
  test("F-8 PROTOCOL O14 EP6 is sent once more as far as links break, and no faster than a megabyte a second beyond that, over any sessions", () => {
    const { clock, hub } = owner({ ringSegments: 64 });
    const ids = Array.from({ length: 30 }, (_, i) => `long-${i}`);
    hub.register(...ids.map((id) => nodeBytes(id, ["t:string"])));
    hub.settle();
    for (let i = 1; i <= 40; i++) {
      hub.update(
        1,
        i,
        ids.map((nodeId) => ({ nodeId, key: "t", value: `${"x".repeat(4_000)}${i}`, type: 4 })),
      );
      hub.settle();
    }
    expect(hub.refused).toEqual([]);
    const from = { ...hub.core.heads("beta")[0]!, seq: 0, digest: new Uint8Array(32) };
    let session = 700;
    let sent = 0;
    const seconds = 30;
    const end = clock.mono + seconds * 1_000;
    for (; clock.mono < end; clock.advance(50)) {
      hub.post({ kind: "session_up", session: ++session, peer: "beta", creditBytes: 1 << 26 });
      hub.post({ kind: "frame", session, frame: { type: "feed_open", from, heldParts: [] } });
      hub.settle();
      for (const { frame } of hub.outbox.splice(0)) if (frame.type === "segment") sent += frame.segment.length;
      hub.post({ kind: "session_down", session });
    }
    expect(sent).toBeGreaterThan(64 << 20);
    expect(sent).toBeLessThan((5 + 64 + seconds + 1) << 20);
  });
});
