// F-31: the owner goes on while a snapshot is unpacked. What follows the snapshot then comes before it is whole, which is no gap.
import { zstdDecompressSync } from "node:zlib";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { GATEWAY, Instants, nodeBytes, settleAll, TestHub, TestLink } from "../../test/fakes/registry-hub.ts";
import { KEPT_PER_STEP } from "./feed/after-snapshot.ts";
import type { NodeRule, PeerFrame } from "./messages.ts";
import type { Boot } from "./ports.ts";

const EVERYTHING: NodeRule = { ids: ["*"], types: [], kind: 0, labels: {}, allow: true, capabilities: ["*"], invoke: ["*"] };
/** boot is a start of the machine after which what was not synced may be lost, so that the owner opens a new epoch. */
const boot = (bootId: string): Boot => ({ bootId, durability: "process" });

/** Pair is an owner (alpha) whose snapshots are compressed, and a reader (beta) that unpacks them when the test says so. */
class Pair {
  readonly clock = new Instants();
  a: TestHub;
  b = new TestHub("beta", this.clock, { ringSegments: 200 });
  link: TestLink;
  value = 0;
  stream = 1;
  /** Types of the frames that went either way, and what beta refused. */
  readonly went: string[] = [];
  readonly refused: string[] = [];

  constructor(share: string, ringSegments = 200) {
    this.a = new TestHub("alpha", this.clock, { ringSegments, shares: [{ name: "part", rules: [EVERYTHING] }] }, undefined, boot("0"));
    this.#begin(share);
    this.#meet();
    this.a.register(nodeBytes("meter", ["count:double", "text:string"]));
    this.a.settle();
    this.link = new TestLink(this.a, this.b);
  }

  #begin(share: string): void {
    this.a.zstd = true;
    this.share(share);
    this.a.post({ kind: "stream_open", stream: this.stream, scope: GATEWAY });
  }

  #meet(): void {
    this.b.post({ kind: "peers", peers: [{ hubId: "alpha", share: "", level: 3 }], complete: true });
  }

  /** crash ends the reader, which keeps what is durable. */
  crash(): void {
    this.link.down();
    this.b = this.b.crash();
    this.#meet();
    this.relink();
  }

  /** reboot ends the owner's machine and starts it again. */
  reboot(): void {
    this.link.down();
    this.a = this.a.crash({}, boot("1"));
    this.stream++;
    this.#begin("full");
    this.relink();
  }

  relink(): void {
    this.link.down();
    this.link = new TestLink(this.a, this.b);
  }

  share(share: string): void {
    this.a.post({ kind: "peers", peers: [{ hubId: "beta", share, level: 3 }], complete: true });
  }

  write(more = ""): void {
    const seq = ++this.value;
    this.a.update(this.stream, seq, [
      { nodeId: "meter", key: "count", value: seq, type: 3 },
      { nodeId: "meter", key: "text", value: more, type: 4 },
    ]);
    this.a.settle();
  }

  /** move lets everything go its way but what is compressed: that waits. */
  move(): void {
    settleAll([this.a, this.b], [this.link], (frame) => this.#note(frame));
  }

  #note(frame: PeerFrame): number {
    this.went.push(frame.type);
    if (frame.type === "nack") this.refused.push(frame.failure.message);
    return 1;
  }

  unpack(): number {
    const jobs = this.b.others.splice(0).flatMap((effect) => (effect.kind === "decompress" ? [effect] : []));
    for (const { job, bytes } of jobs) this.b.post({ kind: "decompressed", job, bytes: new Uint8Array(zstdDecompressSync(bytes)) });
    return jobs.length;
  }

  /** whole lets everything happen, with all the time that it takes. */
  whole(): void {
    for (let i = 0; i < 5; i++) {
      this.move();
      while (this.unpack() > 0) this.move();
      this.clock.advance(1_000);
    }
  }

  /** held is the newest value that beta has of alpha. */
  held(): unknown {
    return this.b.ask({ hubIds: ["alpha"] })[0]?.state.find(({ key }) => key === "count")?.value;
  }

  /** shown is the same without letting anything happen. */
  shown(): unknown {
    const table = this.b.core.sources().find(({ hubId }) => hubId === "alpha")?.table;
    const meter = table?.byId("meter");
    return meter && table?.state(meter).find(({ key }) => key === "count")?.value;
  }

  snapshots(): number {
    return this.went.filter((type) => type === "snapshot").length;
  }
}

/** Ways to a snapshot, each with what is held before it. */
const WAYS: Readonly<Record<string, (pair: Pair) => void>> = {
  "nothing is held": () => undefined,
  "another share is held": (pair) => {
    pair.whole();
    pair.share("part");
  },
  "an older epoch is held": (pair) => {
    pair.whole();
    pair.reboot();
  },
  "the owner has not kept what is missing": (pair) => {
    pair.whole();
    pair.link.down();
    for (let i = 0; i < 250; i++) pair.write();
    pair.relink();
  },
};

describe("F-31 what follows a snapshot that is not unpacked yet is no gap", () => {
  test.each(Object.keys(WAYS))("%s", (way) => {
    const pair = new Pair("full");
    WAYS[way]!(pair);
    const before = pair.snapshots();
    pair.move();
    for (let i = 0; i < 20; i++) {
      pair.write();
      pair.move();
    }
    pair.whole();
    expect(pair.refused).toEqual([]);
    expect([pair.snapshots() - before, pair.held()]).toEqual([1, pair.value]);
    pair.write();
    pair.move();
    expect(pair.held()).toBe(pair.value);
  });

  test("what there is no room for is asked for again when the snapshot is whole, and what was under way then is no gap either", () => {
    const pair = new Pair("full");
    pair.move();
    for (let i = 0; i < 30; i++) {
      pair.write("x".repeat(60_000));
      pair.move();
    }
    expect(pair.unpack()).toBe(1);
    // The owner has not heard of it yet.
    pair.write();
    pair.whole();
    expect(pair.refused).toEqual([]);
    expect([pair.snapshots(), pair.held()]).toEqual([1, pair.value]);
    const opened = pair.went.filter((type) => type === "feed_open").length;
    for (let i = 0; i < 30; i++) pair.write();
    pair.whole();
    expect([pair.went.filter((type) => type === "feed_open").length - opened, pair.held()]).toEqual([0, pair.value]);
  });
});

test("a feed that forks while a snapshot of that epoch comes in stays frozen", () => {
  const pair = new Pair("full");
  WAYS["the owner has not kept what is missing"]!(pair);
  pair.move();
  const [held] = pair.b.core.feeds().filter(({ own }) => !own);
  pair.b.post({ kind: "heads", session: pair.link.id, heads: [{ ...held!.head, digest: new Uint8Array(32) }], rttMs: 1 });
  pair.b.settle();
  while (pair.unpack() > 0) pair.b.settle();
  expect(pair.b.core.feeds().filter(({ own }) => !own)).toMatchObject([{ frozen: true, head: { seq: held!.head.seq } }]);
});

/** seqAt is how far beta is with alpha's feed, and in which epoch. */
function seqAt(pair: Pair): { epoch: number; seq: number } {
  const head = pair.b.core.feeds().find(({ own }) => !own)?.head;
  return { epoch: head?.epoch ?? 0, seq: head?.seq ?? 0 };
}

/** turns lets beta do what is due, one step after the other, and answers the most segments that one of them applied. */
function turns(pair: Pair): number {
  let most = 0;
  for (let before = seqAt(pair), busy = true; busy; ) {
    busy = pair.b.turn();
    const after = seqAt(pair);
    most = Math.max(most, after.seq - before.seq);
    before = after;
  }
  return most;
}

/** HALF is what may happen half-way. */
const HALF: Readonly<Record<string, (pair: Pair) => void>> = {
  write: (pair) => pair.write(),
  burst: (pair) => {
    for (let i = 0; i < 20; i++) pair.write();
  },
  deliver: (pair) => pair.link.deliver(),
  turn: (pair) => pair.b.turn(),
  unpack: (pair) => pair.unpack(),
  relink: (pair) => pair.relink(),
  part: (pair) => pair.share("part"),
  full: (pair) => pair.share("full"),
  reboot: (pair) => pair.reboot(),
  crash: (pair) => pair.crash(),
};

describe("H2-5 what was kept behind a snapshot is applied in slices", () => {
  test("no step applies more than a few, and what comes meanwhile waits behind them", () => {
    const pair = new Pair("full");
    pair.move();
    for (let i = 0; i < 100; i++) {
      pair.write();
      pair.move();
    }
    const taken = () => pair.b.events.filter(({ event }) => event === "segment_applied").length;
    expect(pair.unpack()).toBe(1);
    expect(taken()).toBe(0);
    pair.b.turn();
    expect(taken()).toBe(KEPT_PER_STEP);
    for (let i = 0; i < 20; i++) pair.write();
    pair.link.deliver();
    expect(taken()).toBe(KEPT_PER_STEP);
    expect([turns(pair), taken(), pair.held()]).toEqual([KEPT_PER_STEP, 120, 120]);
    expect(pair.refused).toEqual([]);
  });

  test("their number is bounded: what is beyond comes again", () => {
    const pair = new Pair("full", 8_000);
    pair.move();
    for (let i = 0; i < 2_100; i++) pair.write();
    pair.link.deliver();
    expect(pair.unpack()).toBe(1);
    expect(turns(pair)).toBe(KEPT_PER_STEP);
    expect(seqAt(pair).seq).toBeLessThan(2_100);
    pair.whole();
    expect([pair.snapshots(), pair.refused, pair.held()]).toEqual([1, [], 2_100]);
  });

  const step = fc.oneof(
    { weight: 6, arbitrary: fc.constant("write") },
    { weight: 6, arbitrary: fc.constant("burst") },
    { weight: 6, arbitrary: fc.constant("deliver") },
    { weight: 6, arbitrary: fc.constant("turn") },
    { weight: 3, arbitrary: fc.constant("unpack") },
    { weight: 1, arbitrary: fc.constantFrom("relink", "part", "full", "reboot", "crash") },
  );
  test("whatever happens half-way, the order holds and nothing is lost", () => {
    fc.assert(
      fc.property(fc.array(step, { minLength: 10, maxLength: 60 }), (steps) => {
        const pair = new Pair("full", 8_000);
        pair.move();
        for (const what of steps) {
          const before = { ...seqAt(pair), value: Number(pair.shown() ?? 0) };
          HALF[what]!(pair);
          const after = { ...seqAt(pair), value: Number(pair.shown() ?? 0) };
          if (what === "turn") expect(after.seq - before.seq).toBeLessThanOrEqual(KEPT_PER_STEP);
          if (after.epoch === before.epoch && after.seq > before.seq && after.value > 0)
            expect(after.value).toBeGreaterThanOrEqual(before.value);
        }
        for (let i = 0; i < 3; i++) pair.whole();
        pair.write();
        pair.whole();
        expect(pair.held()).toBe(pair.value);
      }),
      { numRuns: 60 },
    );
  });
});
