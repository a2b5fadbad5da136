import fc from "fast-check";
import { expect, test } from "vitest";
import { LIMITS } from "#kernel/bounds/limits.ts";
import { ANY_NODE, GATEWAY, Instants, MemoryDisk, nodeBytes, settleAll, TestHub, TestLink } from "../../test/fakes/registry-hub.ts";
import { segmentCodec } from "./codec/segment-codec.ts";
import { Applier } from "./import/apply.ts";
import type { FeedPosition, NodeRule, WatchPush } from "./messages.ts";
import { FeedTable } from "./table/table.ts";

const NAMES = ["n1", "n2", "n3"];
const TYPES = ["lamp", "camera"];
const SMALL = { ringSegments: 6, tailSegments: 3, checkpointSegments: 4 };
const only = (...types: string[]): NodeRule[] => [{ ids: [], types, kind: 0, labels: {}, allow: true, capabilities: ["*"], invoke: [] }];
/** What is taken in of a peer: all, what is a lamp, a camera, any of both, or nothing. */
const RULES = [undefined, only("lamp"), only("camera"), only("lamp", "camera"), only("none")];

type Op =
  | { readonly op: "put"; readonly node: number; readonly type: number }
  | { readonly op: "set"; readonly node: number; readonly value: number }
  | { readonly op: "del"; readonly node: number }
  | { readonly op: "sync" | "cut" | "checkpoint" | "backup" }
  | { readonly op: "start" | "restore"; readonly rules: number }
  | { readonly op: "watch"; readonly who: number; readonly pushes: number };

const OPS = fc.oneof(
  { weight: 4, arbitrary: fc.record({ op: fc.constant("put" as const), node: fc.nat(2), type: fc.nat(1) }) },
  { weight: 3, arbitrary: fc.record({ op: fc.constant("set" as const), node: fc.nat(2), value: fc.nat(99) }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant("del" as const), node: fc.nat(2) }) },
  { weight: 5, arbitrary: fc.record({ op: fc.constant("sync" as const) }) },
  { weight: 3, arbitrary: fc.record({ op: fc.constantFrom("cut" as const, "checkpoint" as const, "backup" as const) }) },
  { weight: 3, arbitrary: fc.record({ op: fc.constantFrom("start" as const, "restore" as const), rules: fc.nat(RULES.length - 1) }) },
  { weight: 6, arbitrary: fc.record({ op: fc.constant("watch" as const), who: fc.nat(1), pushes: fc.constantFrom(1, 2, 9, 9, 9) }) },
);

/** Follower is a client that keeps a copy of alpha's nodes by a watch, and goes on from where it was. */
abstract class Follower {
  positions: readonly FeedPosition[] = [];
  abstract readonly encoding: "events" | "blocks";
  abstract take(push: WatchPush): void;
  abstract copy(): string[];
  /** cut: the watch ended; what is not covered by a position does not count. */
  abstract cut(): void;
}

/** Events takes events, and goes on from bookmarks. */
class Events extends Follower {
  override readonly encoding = "events";
  #nodes = new Map<string, string>();
  #values = new Map<string, unknown>();
  #marked: readonly [Map<string, string>, Map<string, unknown>] = [new Map(), new Map()];

  override take(push: WatchPush): void {
    if (push.kind === "reset" || push.kind === "gone") {
      this.#nodes.clear();
      this.#values.clear();
      this.positions = [];
    } else if (push.kind === "bookmark") {
      this.positions = push.positions;
      this.#marked = [new Map(this.#nodes), new Map(this.#values)];
    } else if (push.kind === "events")
      for (const { name, change } of push.events) {
        if (change.kind === "put") this.#nodes.set(name.nodeId, segmentCodec.readNode(change.node)!.type);
        else if (change.kind === "state") this.#values.set(name.nodeId, change.state.value);
        else if (change.kind === "removed") {
          this.#nodes.delete(name.nodeId);
          this.#values.delete(name.nodeId);
        }
      }
  }

  override copy(): string[] {
    return [...this.#nodes].map(([nodeId, type]) => `${nodeId} ${type} ${String(this.#values.get(nodeId))}`).sort();
  }

  override cut(): void {
    const [nodes, values] = this.positions.length === 0 ? [new Map(), new Map()] : this.#marked;
    this.#nodes = new Map(nodes);
    this.#values = new Map(values);
  }
}

/** Blocks takes blocks, as mirrors do, and goes on from the last one. */
class Blocks extends Follower {
  override readonly encoding = "blocks";
  #table = new FeedTable();
  #whole = false;
  readonly #applier = new Applier(segmentCodec, undefined, LIMITS);

  override take(push: WatchPush): void {
    if (push.kind === "reset" || push.kind === "gone") {
      this.#table = new FeedTable();
      this.#whole = false;
      this.positions = [];
    } else if (push.kind === "bookmark") this.positions = push.positions;
    else if (push.kind === "blocks") {
      const blocks = segmentCodec.decodePayload(push.payload)!;
      expect(this.#applier.check(this.#table, new Map(), blocks, undefined, true)).toBeUndefined();
      this.#applier.apply(this.#table, new Map(), blocks, 0);
      this.#whole ||= !push.snapshot || push.last;
      if (this.#whole) this.positions = [push.position];
    }
  }

  override copy(): string[] {
    const table = this.#table;
    return [...table.entries()].map((entry) => `${entry.info.nodeId} ${entry.info.type} ${String(table.state(entry)[0]?.value)}`).sort();
  }

  override cut(): void {
    if (this.positions.length === 0) this.#table = new FeedTable();
  }
}

class World {
  readonly clock = new Instants();
  readonly a = new TestHub("alpha", this.clock, SMALL);
  b = new TestHub("beta", this.clock, SMALL);
  link: TestLink | undefined;
  #backup = new MemoryDisk();
  #seq = 0;
  readonly followers: readonly Follower[] = [new Events(), new Blocks()];
  readonly resets = new Map<string, number>();

  constructor() {
    this.a.post({ kind: "peers", peers: [{ hubId: "beta", share: "full", level: 3 }], complete: true });
    this.a.post({ kind: "stream_open", stream: 1, scope: GATEWAY });
    this.#known();
    this.sync();
  }

  #known(): void {
    this.b.post({ kind: "peers", peers: [{ hubId: "alpha", share: "full", level: 3 }], complete: true });
    this.b.settle();
  }

  sync(): void {
    this.link ??= new TestLink(this.a, this.b);
    settleAll([this.a, this.b], [this.link]);
    this.link.ping();
    settleAll([this.a, this.b], [this.link]);
  }

  cut(): void {
    this.link?.down();
    this.link = undefined;
  }

  start(rules: number, disk: MemoryDisk): void {
    this.cut();
    this.b = new TestHub("beta", this.clock, { ...SMALL, importRules: RULES[rules] }, disk);
    this.#known();
  }

  step(step: Op): void {
    switch (step.op) {
      case "put":
        this.a.register(nodeBytes(NAMES[step.node]!, ["p:double"], { type: TYPES[step.type]! }));
        return this.a.settle();
      case "set":
        this.a.update(1, ++this.#seq, [{ nodeId: NAMES[step.node]!, key: "p", value: step.value, type: 3 }]);
        return this.a.settle();
      case "del":
        this.a.deregister(NAMES[step.node]!);
        return this.a.settle();
      case "sync":
        return this.sync();
      case "cut":
        return this.cut();
      case "checkpoint":
        this.clock.advance(61_000);
        return this.b.settle();
      case "backup":
        this.#backup = this.b.disk.copy();
        return;
      case "start":
        return this.start(step.rules, this.b.disk);
      case "restore":
        return this.start(step.rules, this.#backup.copy());
      case "watch":
        return this.watch(this.followers[step.who]!, step.pushes);
    }
  }

  /** watch lets a client follow until it has all, and has as much as a listing shows, or so many pushes, and is cut. */
  watch(who: Follower, most: number): void {
    const { b } = this;
    const { encoding, positions } = who;
    const options = { filter: { ...ANY_NODE, hubIds: ["alpha"] }, nodesOnly: false, latestOnly: false, encoding, resume: positions };
    b.pushes.delete(9);
    b.post({ kind: "watch_open", watch: 9, options });
    b.settle();
    b.post({ kind: "watch_close", watch: 9 });
    const pushes = b.pushes.get(9) ?? [];
    const what = positions.length === 0 ? "first" : pushes.some(({ kind }) => kind === "reset") ? "reset" : "resumed";
    this.resets.set(what, (this.resets.get(what) ?? 0) + 1);
    for (const push of pushes.slice(0, most)) who.take(push);
    if (pushes.length > most) return who.cut();
    const listed = b.ask({ hubIds: ["alpha"] }).map(({ name, node, state }) => {
      const type = segmentCodec.readNode(node)?.type ?? "";
      return `${name.nodeId} ${type} ${String(state[0]?.value)}`;
    });
    expect(who.copy(), encoding).toEqual(listed.sort());
  }
}

test("F-16 a watcher that comes back has what a listing shows, whatever rules there were before, and whatever the store has lost of them", () => {
  const counts = new Map<string, number>();
  fc.assert(
    fc.property(fc.array(OPS, { minLength: 20, maxLength: 60, size: "max" }), (ops) => {
      const world = new World();
      for (const op of ops) world.step(op);
      world.sync();
      for (const who of world.followers) world.watch(who, Number.POSITIVE_INFINITY);
      for (const [what, count] of world.resets) counts.set(what, (counts.get(what) ?? 0) + count);
    }),
    { numRuns: 60, seed: 16 },
  );
  expect(counts.get("resumed")).toBeGreaterThan(100);
  expect(counts.get("reset")).toBeGreaterThan(20);
}, 60_000);
