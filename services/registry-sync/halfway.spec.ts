import { zstdDecompressSync } from "node:zlib";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { LIMITS } from "#kernel/bounds/limits.ts";
import { Hlc } from "#kernel/crdt/hlc.ts";
import { createCrypto } from "#runtime/crypto.ts";
import { GATEWAY, Instants, keyOf, nodeBytes, settleAll, TestHub, TestLink } from "../../test/fakes/registry-hub.ts";
import { readNode } from "./codec/node-codec.ts";
import { segmentCodec } from "./codec/segment-codec.ts";
import { ImportFeed } from "./import/import-feed.ts";
import type { Effect, FeedPosition, NodeRule, PeerFrame } from "./messages.ts";
import { FeedTable } from "./table/table.ts";
import { REGISTRY_DEFAULTS, World } from "./world.ts";

const NAMES = ["n0", "n1", "n2", "n3"];
const RULE: NodeRule = { ids: ["n0", "n1"], types: [], kind: 0, labels: {}, allow: true, capabilities: ["*"], invoke: ["*"] };
/** A node is longer than a part, so that each snapshot has several. */
const PAD = "x".repeat(120);
const SMALL = { ringSegments: 3, tailSegments: 1, checkpointSegments: 4, partBytes: 100 };

type Op =
  | { op: "put" | "del" | "set"; node: number; value: number }
  | { op: "move"; frames: number }
  | { op: "unpack" | "commit" | "turn" | "crash" | "restart" | "relink" | "revoke" | "full" | "ping" | "peek" | "checkpoint"; n: number }
  | { op: "behind" | "rules" | "echo" | "deliver" | "settle"; n: number }
  | { op: "share"; to: string }
  | { op: "time"; ms: number };

const op = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({ op: fc.constantFrom("put" as const, "del" as const, "set" as const), node: fc.nat(3), value: fc.nat(9) }),
  },
  { weight: 16, arbitrary: fc.record({ op: fc.constant("move" as const), frames: fc.integer({ min: 1, max: 4 }) }) },
  { weight: 8, arbitrary: fc.record({ op: fc.constant("unpack" as const), n: fc.nat(3) }) },
  { weight: 8, arbitrary: fc.record({ op: fc.constantFrom("commit" as const, "turn" as const), n: fc.nat(3) }) },
  {
    weight: 4,
    arbitrary: fc.record({
      op: fc.constantFrom("crash" as const, "restart" as const, "relink" as const, "revoke" as const, "full" as const, "ping" as const),
      n: fc.nat(1),
    }),
  },
  { weight: 5, arbitrary: fc.record({ op: fc.constantFrom("checkpoint" as const, "peek" as const), n: fc.nat(3) }) },
  { weight: 3, arbitrary: fc.record({ op: fc.constant("share" as const), to: fc.constantFrom("full", "part", "") }) },
  { weight: 3, arbitrary: fc.record({ op: fc.constant("time" as const), ms: fc.constantFrom(50, 11_000, 61_000, 130_000) }) },
) as fc.Arbitrary<Op>;

const one = (what: Op["op"], n = 0) => fc.constant({ op: what, n } as Op);
const some = (what: "unpack" | "turn" | "put" | "move" | "echo", max: number): fc.Arbitrary<Op[]> => {
  if (what === "put")
    return fc.array(fc.record({ op: fc.constant("put" as const), node: fc.nat(3), value: fc.nat(9) }), { maxLength: max });
  if (what === "move") return fc.array(fc.record({ op: fc.constant("move" as const), frames: fc.constant(1) }), { maxLength: max });
  return fc.array(fc.record({ op: fc.constant(what), n: fc.nat(3) }), { maxLength: max });
};
const chain = (...parts: (fc.Arbitrary<Op> | fc.Arbitrary<Op[]>)[]): fc.Arbitrary<Op[]> => fc.tuple(...parts).map((list) => list.flat());

const withdrawn = fc.record({ op: fc.constant("share" as const), to: fc.constantFrom("part", "") });

/** So narrow rules that they keep something out of the checkpoint, and then wide ones. */
const rules = chain(one("rules"), some("put", 2), one("settle"), one("checkpoint", 3), one("checkpoint", 3), one("rules"));

/** What hardly ever happens by chance, with something random in between: each comes from a mend that nothing random would have missed. */
const chains = fc.oneof(
  // A snapshot of where the feed stands already comes in, because the peer sent it once more or because of other rules, and the feed
  // goes on meanwhile.
  chain(one("behind"), one("settle"), one("echo"), some("put", 3), one("deliver", 2), one("settle")),
  chain(rules, one("deliver"), some("put", 3), one("deliver", 2), one("commit"), some("unpack", 8), one("peek")),
  // The hub ends before what other rules let in has come.
  chain(rules, one("checkpoint", 3), one("checkpoint", 3), one("crash")),
  // A checkpoint is half written when the snapshot is whole.
  chain(one("behind"), one("deliver"), one("checkpoint"), some("unpack", 6), some("turn", 6), one("commit"), one("peek")),
  // Of a snapshot only the manifest is there at a crash; a checkpoint is written before the rest is given up.
  chain(
    one("behind", 1),
    one("commit"),
    one("crash"),
    one("checkpoint", 3),
    one("checkpoint", 3),
    one("relink"),
    one("deliver", 1),
    one("commit"),
    one("peek"),
  ),
  // A share is withdrawn, also in the middle of its checkpoint; what was sent of it before comes once more.
  chain(one("behind"), some("move", 3), one("checkpoint"), withdrawn, some("move", 4), some("echo", 2), some("unpack", 4), one("peek")),
  chain(one("behind"), one("deliver", 2), withdrawn, some("move", 2), one("echo"), one("turn"), some("unpack", 8), one("peek")),
);
const history = fc
  .array(fc.oneof({ weight: 8, arbitrary: op.map((step) => [step]) }, { weight: 1, arbitrary: chains }), { minLength: 5, maxLength: 24 })
  .map((steps) => steps.flat());

type Decompress = Extract<Effect, { kind: "decompress" }>;

/**
 * Half is one history of an owner (alpha) and a receiver (beta), frame by frame and part by part, with what beta must and must not hold:
 * what it acknowledged last, and nothing of a share that it said it has forgotten.
 */
class Half {
  readonly clock = new Instants();
  a = new TestHub("alpha", this.clock, { ...SMALL, shares: [{ name: "part", rules: [RULE] }] }, undefined, {
    bootId: "0",
    durability: "process",
  });
  b = new TestHub("beta", this.clock, SMALL);
  link: TestLink;
  share = "full";
  serial = 1;
  boots = 0;
  stream = 1;
  seq = 0;
  /** Beta takes only some nodes, or did so: what it holds may be less than what the owner said. */
  narrow = false;
  ruled = false;
  /** Frames with what alpha's feed says, as they went to beta. */
  readonly #sent: PeerFrame[] = [];
  /** What alpha's feeds said, by position. */
  readonly history = new Map<string, string>();
  readonly #seen = new WeakSet<object>();
  acked: FeedPosition | undefined;
  readonly forgotten = new Set<string>();
  /** Shares that beta was told to forget: until it says so they may be there or not. */
  readonly #withdrawn = new Map<string, "forget" | "offered again">();

  constructor() {
    this.a.zstd = true;
    this.a.post({ kind: "stream_open", stream: this.stream, scope: GATEWAY });
    this.peers();
    this.b.post({ kind: "peers", peers: [{ hubId: "alpha", share: "", level: 3 }], complete: true });
    for (const name of NAMES) this.a.register(nodeBytes(name, ["p:double"], { name: PAD }));
    this.link = this.#connect();
    this.note();
  }

  peers(): void {
    this.a.post({ kind: "peers", peers: [{ hubId: "beta", share: this.share, level: 3 }], complete: true });
  }

  #connect(): TestLink {
    const link = new TestLink(this.a, this.b, 600);
    this.#withdrawn.clear();
    this.key();
    return link;
  }

  key(): void {
    const { publicKey } = keyOf("alpha");
    const key = { kind: "feed_key", peer: "alpha", key: publicKey, serial: this.serial, revokesUpTo: this.serial - 1 } as const;
    this.b.post({ ...key, notAfterWall: Number.MAX_SAFE_INTEGER });
  }

  /** note writes down what alpha's feeds say now, and what beta has let out. */
  note(): void {
    this.a.settle();
    const places = this.a.core
      .feeds()
      .flatMap(({ own, head }) => (own ? [[head.share, `${head.share}/${head.epoch}/${head.seq}`] as const] : []));
    if (places.some(([, place]) => !this.history.has(place))) {
      const nodes = this.a.ask({ hubIds: ["alpha"] });
      for (const [share, place] of places)
        this.history.set(place, said(nodes.filter(({ name }) => share === "full" || RULE.ids.includes(name.nodeId))));
    }
    this.#see();
    this.holds();
  }

  /** see takes down what beta has let out; not only between steps, for in a step it goes on its way. */
  #see(): void {
    for (const item of this.b.outbox) {
      // What a session lets out after its end reaches nobody.
      if (this.#seen.has(item) || item.session !== this.link.id) continue;
      this.#seen.add(item);
      if (item.frame.type === "ack" && !this.#withdrawn.has(item.frame.position.share)) this.acked = later(this.acked, item.frame.position);
      if (item.frame.type !== "forget_done") continue;
      if (this.#withdrawn.get(item.frame.share) !== "offered again") this.forgotten.add(item.frame.share);
      this.#withdrawn.delete(item.frame.share);
    }
  }

  /** holds is what must be true at any time. */
  holds(b = this.b): void {
    const feed = b.core.feeds().find(({ own, head }) => !own && head.epoch > 0);
    const { acked } = this;
    if (feed !== undefined) expect(this.forgotten, "a share that was forgotten").not.toContain(feed.head.share);
    if (acked !== undefined) {
      expect(feed?.head.share, "what was acknowledged").toBe(acked.share);
      const { epoch = 0, seq = 0 } = feed?.head ?? {};
      expect(
        epoch > acked.epoch || (epoch === acked.epoch && seq >= acked.seq),
        `${epoch}/${seq} held, ${acked.epoch}/${acked.seq} acknowledged`,
      ).toBe(true);
    }
  }

  /** same: what beta holds is what the owner said at that place. */
  same(b = this.b, settled = false): void {
    const feed = b.core.feeds().find(({ own, head }) => !own && head.epoch > 0);
    const text = feed === undefined ? undefined : this.history.get(`${feed.head.share}/${feed.head.epoch}/${feed.head.seq}`);
    if (text === undefined) return;
    const held = said(b.ask({ hubIds: ["alpha"] }));
    if (!this.ruled) expect(held).toBe(text);
    else if (this.narrow) expect(held).toBe(taken(text));
    else if (settled) expect(held).toBe(text);
    else expect(taken(held)).toBe(taken(text));
  }

  #reboot(options: { importRules?: readonly NodeRule[] | undefined } = {}): void {
    this.link.down();
    this.b = this.b.crash(options);
    this.b.post({ kind: "peers", peers: [{ hubId: "alpha", share: "", level: 3 }], complete: true });
    this.holds();
    this.same();
    this.link = this.#connect();
  }

  #next(from: TestHub): PeerFrame | undefined {
    return from.outbox.find(({ session }) => session === this.link.id)?.frame;
  }

  #move(from: TestHub, to: TestHub): boolean {
    if (from === this.b) this.#see();
    const at = from.outbox.findIndex(({ session }) => session === this.link.id);
    const [item] = at < 0 ? [] : from.outbox.splice(at, 1);
    if (item === undefined) return false;
    const { frame } = item;
    if (to === this.b && frame.type === "feed_offer" && frame.head !== undefined) {
      this.forgotten.delete(frame.head.share);
      if (this.#withdrawn.has(frame.head.share)) this.#withdrawn.set(frame.head.share, "offered again");
    }
    if (to === this.b && frame.type === "forget") {
      this.#withdrawn.set(frame.share, "forget");
      if (this.acked?.share === frame.share) this.acked = undefined;
    }
    if (to === this.b && (frame.type === "segment" || frame.type === "snapshot" || frame.type === "snapshot_part")) this.#sent.push(frame);
    to.post({ kind: "frame", session: this.link.id, frame });
    from.post({ kind: "credit", session: this.link.id, bytes: 256 + lengthOf(frame) });
    return true;
  }

  unpack(n = 0): boolean {
    const jobs = this.b.others.filter((effect): effect is Decompress => effect.kind === "decompress");
    const job = jobs[n % Math.max(1, jobs.length)];
    if (job === undefined) return false;
    this.b.others.splice(this.b.others.indexOf(job), 1);
    this.b.post({ kind: "decompressed", job: job.job, bytes: new Uint8Array(zstdDecompressSync(job.bytes)) });
    return true;
  }

  step(step: Op): void {
    const { a, b } = this;
    switch (step.op) {
      case "put":
        a.register(nodeBytes(NAMES[step.node]!, ["p:double"], { name: PAD, type: `t${step.value}` }));
        break;
      case "del":
        a.deregister(NAMES[step.node]!);
        break;
      case "set":
        a.update(this.stream, ++this.seq, [{ nodeId: NAMES[step.node]!, key: "p", value: step.value, type: 3 }]);
        break;
      case "move":
        for (let i = 0; i < step.frames; i++) {
          this.#move(a, b);
          this.#move(b, a);
        }
        break;
      case "unpack":
        this.unpack(step.n);
        break;
      case "commit":
        b.commit();
        break;
      case "turn":
        b.turn();
        break;
      case "ping":
        if (a.core.heads("beta").length > 0) b.post({ kind: "heads", session: this.link.id, heads: a.core.heads("beta"), rttMs: 2 });
        break;
      case "full":
        b.stuck = !b.stuck;
        b.post({ kind: "stored", ok: !b.stuck });
        break;
      case "peek": {
        // What a crash now would leave.
        const after = new TestHub("beta", this.clock, { ...SMALL, importRules: this.narrow ? [RULE] : undefined }, b.disk.copy());
        this.holds(after);
        this.same(after);
        break;
      }
      case "checkpoint":
        this.clock.advance(61_000);
        for (let i = 0; i <= step.n; i++) b.turn();
        break;
      case "crash":
        this.#reboot();
        break;
      case "rules":
        // Other rules need a start, and what is let in now has to come.
        this.narrow = !this.narrow;
        this.ruled = true;
        this.#reboot({ importRules: this.narrow ? [RULE] : undefined });
        break;
      case "behind":
        // So far that only a snapshot helps; with n, up to its manifest and no further.
        this.link.down();
        for (let i = 0; i < SMALL.ringSegments + 2; i++) {
          a.register(nodeBytes(NAMES[i % NAMES.length]!, ["p:double"], { name: PAD, type: `b${this.history.size}` }));
          this.note();
        }
        this.link = this.#connect();
        for (let i = 0; i < 20; i++) {
          a.settle();
          if (step.n > 0 && this.#next(a)?.type === "snapshot_part") break;
          this.#move(a, b);
          b.turn();
          this.#move(b, a);
        }
        break;
      case "deliver":
        // All that is under way, without what has to be decompressed; n times there and back.
        for (let i = 0; i <= step.n; i++) {
          a.settle();
          while (this.#move(a, b));
          b.turn();
          while (this.#move(b, a));
        }
        break;
      case "settle":
        for (let i = 0, busy = true; busy && i < 500; i++) {
          a.settle();
          busy = b.turn();
          while (this.#move(a, b)) busy = true;
          while (this.#move(b, a)) busy = true;
          while (this.unpack()) busy = true;
        }
        break;
      case "echo": {
        // The last snapshot, or what alpha sent last, comes once more, as from a peer that lies.
        const from = step.n === 0 ? this.#sent.findLastIndex(({ type }) => type === "snapshot") : this.#sent.length - step.n;
        for (const frame of this.#sent.slice(Math.max(0, from))) b.post({ kind: "frame", session: this.link.id, frame });
        break;
      }
      case "restart":
        // Without a clean stop and another boot: every feed opens an epoch.
        this.link.down();
        this.a = a.crash({ keySerial: this.serial }, { bootId: String(++this.boots), durability: "process" });
        this.a.zstd = true;
        this.peers();
        this.a.post({ kind: "stream_open", stream: ++this.stream, scope: GATEWAY });
        this.seq = 0;
        this.link = this.#connect();
        break;
      case "relink":
        this.link.down();
        this.link = this.#connect();
        break;
      case "revoke":
        a.post({ kind: "own_key", serial: ++this.serial, revoked: true });
        this.key();
        break;
      case "share":
        this.share = step.to;
        this.peers();
        break;
      case "time":
        this.clock.advance(step.ms);
        break;
    }
    this.note();
  }

  /** heal lets everything come to rest. */
  heal(): void {
    const { b } = this;
    if (b.stuck) this.step({ op: "full", n: 0 });
    if (this.share === "") this.share = "full";
    this.peers();
    this.step({ op: "relink", n: 0 });
    for (let i = 0, busy = true; busy || i < 40; i++) {
      busy = b.turn();
      while (this.#move(this.a, b)) busy = true;
      while (this.#move(b, this.a)) busy = true;
      while (this.unpack()) busy = true;
      this.note();
      if (!busy) this.clock.advance(5_000);
      if (!busy && i % 4 === 0) this.step({ op: "ping", n: 0 });
      if (i > 2_000) throw new Error("does not come to rest");
    }
  }
}

function lengthOf(frame: PeerFrame): number {
  if (frame.type === "segment") return frame.segment.length;
  if (frame.type === "snapshot") return frame.manifest.length;
  return frame.type === "snapshot_part" ? frame.data.length : 0;
}

function said(records: ReturnType<TestHub["ask"]>): string {
  return records
    .map((r) => `${r.name.nodeId} ${String(r.node.length)} ${r.node.join("").slice(-20)} ${r.state.map((s) => String(s.value)).join()}`)
    .join("; ");
}

/** later is the position that was acknowledged last, or before, if that was further: an acknowledgement cannot be taken back. */
function later(before: FeedPosition | undefined, now: FeedPosition): FeedPosition {
  if (before === undefined || before.share !== now.share) return now;
  return before.epoch > now.epoch || (before.epoch === now.epoch && before.seq > now.seq) ? before : now;
}

/** taken is what the narrow rules let in. */
function taken(text: string): string {
  return text
    .split("; ")
    .filter((line) => RULE.ids.includes(line.split(" ")[0]!))
    .join("; ");
}

describe("F-14 F-15 half-way states", () => {
  test("whatever comes while a snapshot comes in, what was acknowledged is there after a restart, and nothing that was forgotten", () => {
    fc.assert(
      fc.property(fc.boolean(), history, (synced, steps) => {
        const half = new Half();
        if (synced) half.heal();
        for (const step of steps) half.step(step);
        half.heal();
        half.same(half.b, true);
        const { a, b } = half;
        const head = a.core.heads("beta")[0];
        const held = b.core.feeds().find(({ own }) => !own)?.head;
        expect({ ...held, digest: "" }).toEqual({ ...head, digest: "" });
        b.commit();
        expect(b.disk.logs().filter((log) => log.startsWith("ckpt/alpha/"))).toHaveLength(1);
        expect(b.disk.get("meta", "stage/alpha")).toBeUndefined();
        half.step({ op: "crash", n: 0 });
      }),
      { numRuns: 400, interruptAfterTimeLimit: 110_000, markInterruptAsFailure: true },
    );
  }, 120_000);

  test("F-14 a checkpoint begun during a snapshot does not outlive it", () => {
    const key = keyOf("beta");
    const own = { crypto: createCrypto(key), publicKey: key.publicKey };
    const options = { ...REGISTRY_DEFAULTS, ...own, hubId: "beta", codec: segmentCodec, limits: LIMITS, partBytes: 100 };
    const world = new World(options, new Hlc(60_000));
    const feed = new ImportFeed(world, "alpha");
    const put = (table: FeedTable, ref: number, id: string): void => {
      const bytes = nodeBytes(id, []);
      table.put(ref, bytes, readNode(bytes)!, true);
    };
    for (let ref = 1; ref <= 50; ref++) put(feed.table, ref, `old-${ref}`);
    Object.assign(feed, { share: "full", epoch: 1, seq: 100 });
    feed.checkpoint.segment(1);
    const gen = feed.checkpoint.nextGen();
    world.now = { mono: 61_000, wall: 1_700_000_000_000 };
    feed.checkpointStep();
    expect(feed.checkpoint.running).toBe(true);
    const table = new FeedTable();
    put(table, 1, "new");
    const position = { hubId: "alpha", share: "limited", epoch: 2, seq: 5, digest: new Uint8Array(32) };
    feed.replace(table, new Map(), position, { wallMs: 1, logical: 0 }, gen);
    expect(feed.checkpoint.running).toBe(false);
    world.out = [];
    world.now = { mono: 62_000, wall: 1_700_000_000_000 };
    for (let i = 0; i < 100; i++) feed.checkpointStep();
    expect(world.out).toEqual([]);
  });
});

test("S0-7 a first snapshot that was given up on a link that lives is asked for again, though its owner has nothing new to say", () => {
  const clock = new Instants();
  const [a, b] = [new TestHub("alpha", clock, SMALL), new TestHub("beta", clock, SMALL)];
  a.post({ kind: "peers", peers: [{ hubId: "beta", share: "full", level: 3 }], complete: true });
  b.post({ kind: "peers", peers: [{ hubId: "alpha", share: "", level: 3 }], complete: true });
  a.post({ kind: "stream_open", stream: 1, scope: GATEWAY });
  for (const name of NAMES) a.register(nodeBytes(name, [], { name: PAD }));
  const link = new TestLink(a, b);
  // One part takes longer than this hub waits for it.
  const late: PeerFrame[] = [];
  settleAll([a, b], [link], (frame) => {
    if (frame.type !== "snapshot_part" || frame.index !== 1) return 1;
    late.push(frame);
    return 0;
  });
  const minute = (): void => {
    for (let i = 0; i < 4; i++) {
      clock.advance(15_000);
      link.ping();
      settleAll([a, b], [link]);
    }
  };
  minute();
  minute();
  for (const frame of late) b.post({ kind: "frame", session: link.id, frame });
  minute();
  expect(b.ask({ hubIds: ["alpha"] }).map(({ name }) => name.nodeId)).toEqual(NAMES);
});
