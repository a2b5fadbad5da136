import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { LIMITS } from "#kernel/bounds/limits.ts";
import { ANY_NODE, GATEWAY, Instants, nodeBytes, settleAll, TestHub, TestLink } from "../../../test/fakes/registry-hub.ts";
import { segmentCodec } from "../codec/segment-codec.ts";
import type { NodeRule, PeerFrame, Scope } from "../messages.ts";
import type { RegistryOptions } from "../world.ts";
import { changesOf } from "./changes.ts";

const NAMES = ["n0", "n1", "n2"];
const RULE: NodeRule = { ids: [], types: [], kind: 0, labels: {}, allow: true, capabilities: ["*"], invoke: ["*"] };
const RULES: readonly (readonly NodeRule[])[] = [[{ ...RULE, ids: ["n0", "n1"] }], [{ ...RULE, capabilities: ["p", "k*1"] }], [RULE]];
/**
 * Three nodes with three capabilities each, of which they share one: at most 3 and 7 numbers stand for something, and 2 more come at a
 * time. One caller may take half of the numbers.
 */
const LIMIT = { ...LIMITS, refsPerFeed: 12, keysPerFeed: 20 };
const SMALL: Partial<RegistryOptions> = {
  limits: LIMIT,
  renumberMs: 0,
  ringSegments: 4,
  tailSegments: 1,
  checkpointSegments: 5,
  partBytes: 40,
};

type Op =
  | { op: "put"; hub: number; node: number; names: number }
  | { op: "del" | "set" | "send"; hub: number; node: number; key: number }
  | { op: "turn" | "commit" | "bind" | "crash" | "full" | "rules" | "share" | "watch"; hub: number; n: number }
  | { op: "deliver" | "relink" | "ping" | "down"; n: number }
  | { op: "time"; ms: number };

const hub = fc.constantFrom(0, 0, 1);
const op = fc.oneof(
  { weight: 10, arbitrary: fc.record({ op: fc.constant("put" as const), hub, node: fc.nat(2), names: fc.nat(30) }) },
  { weight: 3, arbitrary: fc.record({ op: fc.constant("del" as const), hub, node: fc.nat(2), key: fc.constant(0) }) },
  { weight: 8, arbitrary: fc.record({ op: fc.constantFrom("set" as const, "send" as const), hub, node: fc.nat(2), key: fc.nat(2) }) },
  { weight: 10, arbitrary: fc.record({ op: fc.constantFrom("turn" as const, "commit" as const), hub, n: fc.nat(2) }) },
  { weight: 8, arbitrary: fc.record({ op: fc.constant("deliver" as const), n: fc.nat(2) }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constantFrom("bind" as const, "crash" as const, "full" as const), hub, n: fc.nat(2) }) },
  {
    weight: 2,
    arbitrary: fc.record({ op: fc.constantFrom("rules" as const, "share" as const, "watch" as const), hub, n: fc.nat(2) }),
  },
  { weight: 2, arbitrary: fc.record({ op: fc.constantFrom("relink" as const, "ping" as const, "down" as const), n: fc.nat(2) }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant("time" as const), ms: fc.constantFrom(50, 200, 61_000) }) },
) as fc.Arbitrary<Op>;

const capsOf = (names: number): string[] => ["p", `k${names}0`, `k${names}1`];

/** Model is what an owner has taken: nodes with their capabilities, and values. */
type Model = ReadonlyMap<string, ReadonlyMap<string, number | undefined>>;

function textOf(model: Model, shows: (node: string, key: string) => boolean = () => true): string {
  const lines = [...model]
    .filter(([node]) => shows(node, ""))
    .map(([node, values]) => {
      const shown = [...values].filter(([key]) => shows(node, key)).map(([key, value]) => `${key}=${String(value ?? "-")}`);
      return `${node} ${shown.sort().join(" ")}`;
    });
  return lines.sort().join("; ");
}

/** contentOf is what a hub holds of another, or has itself. */
function contentOf(at: TestHub, of: string): Model {
  const table = at.core.sources().find(({ hubId }) => hubId === of)?.table;
  const model = new Map<string, Map<string, number | undefined>>();
  for (const entry of table?.entries() ?? []) {
    const values = new Map<string, number | undefined>(
      segmentCodec.readNode(entry.bytes)!.capabilities.map(({ name }) => [name, undefined]),
    );
    for (const { key, value } of table?.state(entry) ?? []) values.set(key, value as number);
    model.set(entry.info.nodeId, values);
  }
  return model;
}

function batchOf(ref: number, key: number, value: number) {
  const fixed = { count: 1, numCount: 1, intCount: 0, len: new Uint32Array(0), data: new Uint8Array(0) };
  const bits = new Uint32Array(new Float64Array([value]).buffer);
  return segmentCodec.decodeState(segmentCodec.encodeState({ ...fixed, ref: Uint32Array.of(ref), key: Uint32Array.of(key), bits }))!;
}

let values = 0;

/** Owner is one hub, what it has taken, and a caller that writes by names on one stream and by numbers on another. */
class Owner {
  readonly id: string;
  readonly peer: string;
  hub: TestHub;
  share = "full";
  rules = 0;
  /** All that it was one after the other; what was confirmed is in that of `confirmed` and all later ones. */
  history: Model[] = [new Map()];
  confirmed = 0;
  readonly #calls = new Map<number, number>();
  readonly #batches = new Map<string, number>();
  #stream = 0;
  #seq = 0;
  #open = { names: 0, numbers: 0 };
  #bound: { readonly epoch: number; readonly refs: ReadonlyMap<string, number>; readonly keys: ReadonlyMap<string, number> } | undefined;
  /** Newest value that its watcher was shown, per hub, node and key: F-29. */
  readonly #shown = new Map<string, number>();
  #binds = 0;
  #watch = 0;
  #seen = 0;
  renumberings = 0;
  readonly events: TestHub["events"] = [];

  constructor(id: string, peer: string, clock: Instants) {
    this.id = id;
    this.peer = peer;
    this.hub = new TestHub(id, clock, { ...SMALL, shares: [{ name: "part", rules: RULES[0]! }] });
    this.started();
  }

  get model(): Model {
    return this.history.at(-1)!;
  }

  get #taking(): boolean {
    return !this.hub.stuck;
  }

  started(): void {
    this.peers();
    this.#open.names = ++this.#stream;
    this.hub.post({ kind: "stream_open", stream: this.#open.names, scope: GATEWAY });
    this.openNumbers();
    this.watch();
  }

  openNumbers(): void {
    this.#open.numbers = ++this.#stream;
    this.#bound = undefined;
    this.hub.post({ kind: "stream_open", stream: this.#open.numbers, scope: GATEWAY });
    this.bind();
  }

  watch(): void {
    if (this.#watch > 0) this.hub.post({ kind: "watch_close", watch: this.#watch });
    this.#seen = 0;
    const options = { filter: ANY_NODE, encoding: "events", nodesOnly: false, latestOnly: false, resume: [] } as const;
    this.hub.post({ kind: "watch_open", watch: ++this.#watch, options });
  }

  peers(): void {
    const complete = this.share === "" ? [] : [{ hubId: this.peer, share: this.share, level: 3 }];
    const none = { hubId: this.peer, share: "", level: 3 };
    this.hub.post({ kind: "peers", peers: complete.length > 0 ? complete : [none], complete: true });
  }

  /** put must work: there is room for what is there after it, however much has been there. */
  put(node: string, names: number): void {
    const call = this.hub.register(
      nodeBytes(
        node,
        capsOf(names).map((name) => `${name}:double`),
      ),
    );
    if (!this.#taking) return;
    const next = new Map(this.model);
    next.set(node, new Map(capsOf(names).map((name) => [name, this.model.get(node)?.get(name)])));
    this.#changed(next);
    this.#calls.set(call, this.history.length - 1);
  }

  del(node: string): void {
    this.hub.deregister(node);
    if (!this.#taking) return;
    const next = new Map(this.model);
    next.delete(node);
    this.#changed(next);
    this.#calls.set(this.hub.call, this.history.length - 1);
  }

  /** set writes by name. */
  set(node: string, key: string): void {
    this.hub.update(this.#open.names, ++this.#seq, [{ nodeId: node, key, value: ++values, type: 3 }]);
    if (this.#taking && this.model.get(node)?.has(key) === true) this.#wrote(this.#open.names, node, key);
  }

  bind(): void {
    const nodeIds = [...this.model.keys()];
    const keys = [...new Set([...this.model.values()].flatMap((node) => [...node.keys()]))];
    const list = keys.map((name) => ({ name, type: 3 as const }));
    const id = ++this.#binds;
    this.hub.post({ kind: "bind", stream: this.#open.numbers, id, nodeIds, keys: list });
    this.hub.commit();
    const bound = this.hub.bound.find((answer) => answer.stream === this.#open.numbers && answer.id === id);
    if (bound === undefined || bound.failure !== undefined) return;
    this.#bound = {
      epoch: bound.epoch,
      refs: new Map(nodeIds.map((node, i) => [node, bound.refs[i]!])),
      keys: new Map(keys.map((name, i) => [name, bound.krefs[i]!])),
    };
  }

  /** send writes by the numbers that the caller has, which may mean something else by now. */
  send(node: string, key: string): void {
    const ref = this.#bound?.refs.get(node);
    const kref = this.#bound?.keys.get(key);
    if (ref === undefined || kref === undefined) return this.bind();
    const own = this.hub.core.sources()[0]!;
    const good = this.#bound?.epoch === own.head.epoch && own.table.byId(node)?.ref === ref && this.model.get(node)?.has(key) === true;
    this.hub.post({ kind: "updates", stream: this.#open.numbers, seq: ++this.#seq, batch: batchOf(ref, kref, ++values) });
    if (good && this.#taking) this.#wrote(this.#open.numbers, node, key);
  }

  #wrote(stream: number, node: string, key: string): void {
    const next = new Map(this.model);
    next.set(node, new Map(this.model.get(node)).set(key, values));
    this.#changed(next);
    this.#batches.set(`${stream}/${this.#seq}`, this.history.length - 1);
  }

  #changed(next: Model): void {
    this.history.push(next);
  }

  /** look notes what the hub has let out, and says what must be true at any time. */
  look(): void {
    const { hub } = this;
    for (const [call, results] of hub.registered)
      if (results.every(({ failure }) => failure === undefined)) this.#confirm(this.#calls.get(call));
    for (const effect of hub.others.splice(0)) {
      if (effect.kind === "deregistered" && effect.failure === undefined) this.#confirm(this.#calls.get(effect.call));
      if (effect.kind !== "stream_ended" || effect.stream !== this.#open.numbers) continue;
      hub.post({ kind: "stream_close", stream: this.#open.numbers });
      this.openNumbers();
    }
    for (const [stream, seq] of hub.acked) {
      for (const [batch, index] of this.#batches) {
        const [of, no] = batch.split("/").map(Number);
        if (of === stream && no! <= seq) this.#confirm(index);
      }
    }
    expect(textOf(contentOf(hub, this.id)), "what was taken").toBe(textOf(this.model));
    const { refs, keys } = hub.core.numbers();
    expect([refs.used <= refs.max, keys.used <= keys.max, refs.held, keys.held]).toEqual([true, true, this.model.size, this.#names()]);
    this.#watched();
  }

  #names(): number {
    return new Set([...this.model.values()].flatMap((node) => [...node.keys()])).size;
  }

  #confirm(index: number | undefined): void {
    if (index !== undefined) this.confirmed = Math.max(this.confirmed, index);
  }

  #watched(): void {
    const pushes = this.hub.pushes.get(this.#watch) ?? [];
    for (; this.#seen < pushes.length; this.#seen++) {
      const push = pushes[this.#seen]!;
      for (const { name, change } of push.kind === "events" ? push.events : []) {
        if (change.kind !== "state") continue;
        const place = `${name.hubId}/${name.nodeId}/${change.state.key}`;
        expect(change.state.value, `${place} at ${this.id}`).toBeGreaterThanOrEqual(this.#shown.get(place) ?? 0);
        this.#shown.set(place, change.state.value as number);
      }
    }
  }

  crash(): void {
    this.renumberings += this.hub.core.numbers().renumberings;
    this.events.push(...this.hub.events);
    this.hub = this.hub.crash({ shares: [{ name: "part", rules: RULES[this.rules]! }] });
    const found = textOf(contentOf(this.hub, this.id));
    const at = this.history.findLastIndex((model) => textOf(model) === found);
    expect(at, `what was confirmed is there: ${found}, not ${textOf(this.history[this.confirmed]!)}`).toBeGreaterThanOrEqual(
      this.confirmed,
    );
    this.history = this.history.slice(0, at + 1);
    this.#calls.clear();
    this.#batches.clear();
    this.hub.call = 0;
    this.#watch = 0;
    this.started();
  }

  /** shares is what its peer is to hold. */
  shares(): string {
    if (this.share !== "part") return this.share === "" ? "" : textOf(this.model);
    const rule = RULES[this.rules]![0]!;
    const matches = (key: string): boolean => rule.capabilities.includes("*") || key === "p" || key.endsWith("1");
    return textOf(this.model, (node, key) => (rule.ids.length === 0 || rule.ids.includes(node)) && (key === "" || matches(key)));
  }
}

/** Run is one history of two hubs that each have nodes, and hold those of the other. */
class Run {
  readonly clock = new Instants();
  readonly owners = [new Owner("alpha", "beta", this.clock), new Owner("beta", "alpha", this.clock)] as const;
  link: TestLink | undefined;

  constructor(share: string) {
    for (const owner of this.owners) {
      owner.share = share;
      owner.peers();
    }
  }

  get hubs(): TestHub[] {
    return this.owners.map(({ hub: at }) => at);
  }

  relink(credit = 1 << 20): void {
    this.link?.down();
    const [a, b] = this.hubs;
    this.link = new TestLink(a!, b!, credit);
  }

  step(item: Op, fate: () => number): void {
    const owner = this.owners["hub" in item ? item.hub : 0]!;
    const { hub: at } = owner;
    const keyOf = (node: string, key: number): string => [...(owner.model.get(node)?.keys() ?? ["p"])][key] ?? "p";
    switch (item.op) {
      case "put":
        owner.put(NAMES[item.node]!, item.names);
        break;
      case "del":
        owner.del(NAMES[item.node]!);
        break;
      case "set":
        owner.set(NAMES[item.node]!, keyOf(NAMES[item.node]!, item.key));
        break;
      case "send":
        owner.send(NAMES[item.node]!, keyOf(NAMES[item.node]!, item.key));
        break;
      case "bind":
        owner.bind();
        break;
      case "turn":
        at.turn();
        break;
      case "commit":
        at.commit();
        break;
      case "crash":
        this.link?.down();
        this.link = undefined;
        owner.crash();
        break;
      case "full":
        at.stuck = !at.stuck;
        at.post({ kind: "stored", ok: !at.stuck });
        break;
      case "rules":
        owner.rules = item.n;
        at.post({ kind: "shares", shares: [{ name: "part", rules: RULES[item.n]! }] });
        break;
      case "share":
        owner.share = ["full", "part", ""][item.n]!;
        owner.peers();
        break;
      case "watch":
        owner.watch();
        break;
      case "deliver":
        this.link?.deliver(fate);
        break;
      case "relink":
        this.relink(item.n === 0 ? 600 : 1 << 20);
        break;
      case "down":
        this.link?.down();
        this.link = undefined;
        break;
      case "ping":
        this.link?.ping();
        break;
      case "time":
        this.clock.advance(item.ms);
        break;
    }
    for (const each of this.owners) each.look();
  }

  heal(): void {
    for (const owner of this.owners) {
      if (owner.hub.stuck) {
        owner.hub.stuck = false;
        owner.hub.post({ kind: "stored", ok: true });
      }
    }
    this.relink();
    for (let i = 0; i < 2; i++) {
      settleAll(this.hubs, [this.link!]);
      this.clock.advance(16_000);
      this.link!.ping();
    }
    settleAll(this.hubs, [this.link!]);
    for (const owner of this.owners) owner.look();
  }

  same(): void {
    for (const [index, owner] of this.owners.entries())
      expect(textOf(contentOf(this.owners[1 - index]!.hub, owner.id)), `what is held of ${owner.id}`).toBe(owner.shares());
  }

  alarms(): string[] {
    const bad = new Set(["SEGMENT_INVALID", "LIMIT_EXCEEDED"]);
    const all = this.owners.flatMap(({ hub: at, events }) => [...events, ...at.events]);
    // What a peer sends of a feed that was not opened, because a frame was lost, is refused without harm.
    return all
      .filter(({ text, fields }) => !`${text}${fields["message"] ?? ""}`.includes("was not asked for"))
      .filter(
        ({ event, text, fields }) =>
          event === "fork" || event === "limit" || text.includes("knows more") || bad.has(fields["reason"] ?? ""),
      )
      .map(({ event, text, fields }) => `${event}: ${text} ${fields["message"] ?? ""}`);
  }
}

describe("F-11 numbers run out", () => {
  test("nodes and names come and go for far more than the numbers: nothing confirmed is lost, peers come to the same, nothing steps back", () => {
    let renumberings = 0;
    fc.assert(
      fc.property(
        fc.array(op, { minLength: 30, maxLength: 100, size: "max" }),
        fc.array(fc.constantFrom(1, 1, 1, 1, 0, 2), { minLength: 7, maxLength: 7 }),
        fc.constantFrom("full", "part"),
        (ops, fates, share) => {
          const run = new Run(share);
          let turn = 0;
          run.relink();
          for (const item of ops) run.step(item, () => fates[turn++ % 7]!);
          run.heal();
          run.same();
          for (const owner of run.owners) owner.crash();
          run.heal();
          run.same();
          expect(run.alarms()).toEqual([]);
          for (const owner of run.owners) renumberings += owner.renumberings;
        },
      ),
      { numRuns: 20 },
    );
    expect(renumberings).toBeGreaterThan(5);
  }, 60_000);

  /** churn registers nodes and takes them away again, each with names that nobody had before. */
  function churn(at: TestHub, times: number, from = 0): (string | undefined)[] {
    const failures: (string | undefined)[] = [];
    for (let i = from; i < from + times; i++) {
      const call = at.register(nodeBytes(`c${i}`, [`c${i}a:double`, `c${i}b:double`]));
      at.deregister(`c${i}`);
      at.settle();
      failures.push(at.registered.get(call)?.[0]?.failure?.reason);
    }
    return failures;
  }

  const lamp = nodeBytes("lamp", ["watts:double"]);
  const open = (at: TestHub, stream: number, scope: Scope = GATEWAY): void => at.post({ kind: "stream_open", stream, scope });
  const bind = (at: TestHub, stream: number): void =>
    at.post({ kind: "bind", stream, id: stream, nodeIds: ["lamp"], keys: [{ name: "watts", type: 3 }] });

  test("a peer follows through fifty times as many nodes and names as there are numbers, with ordinary epochs and snapshots", () => {
    const clock = new Instants();
    const [a, b] = [new TestHub("alpha", clock, SMALL), new TestHub("beta", clock, SMALL)];
    a.post({ kind: "peers", peers: [{ hubId: "beta", share: "full", level: 3 }], complete: true });
    b.post({ kind: "peers", peers: [{ hubId: "alpha", share: "", level: 3 }], complete: true });
    const link = new TestLink(a, b);
    a.register(lamp);
    open(a, 1);
    const kinds = new Set<string>();
    const note = ({ type }: PeerFrame): number => Number(kinds.add(type) !== undefined);
    for (let i = 0; i < 30; i++) {
      expect(churn(a, 10, 10 * i).filter((failure) => failure !== undefined)).toEqual([]);
      a.update(1, i + 1, [{ nodeId: "lamp", key: "watts", value: i, type: 3 }]);
      settleAll([a, b], [link], note);
      expect(contentOf(b, "alpha").get("lamp")?.get("watts")).toBe(i);
    }
    expect(a.core.numbers().renumberings).toBeGreaterThan(60);
    expect([...kinds].sort()).toEqual(["ack", "feed_offer", "feed_open", "segment", "snapshot", "snapshot_part"]);
    expect(b.events.filter(({ event }) => event === "segment_refused")).toEqual([]);
  });

  test("a crash finds the epoch before or after it, whole; what an older version would read wrongly it cannot read, until a checkpoint", () => {
    const clock = new Instants();
    const a = new TestHub("alpha", clock, SMALL);
    a.register(lamp);
    open(a, 1);
    a.update(1, 1, [{ nodeId: "lamp", key: "watts", value: 7, type: 3 }]);
    a.settle();
    for (let i = 0; i < 20 && a.core.numbers().renumberings === 0; i++) {
      a.register(nodeBytes(`m${i}`, [`m${i}:double`]));
      a.deregister(`m${i}`);
    }
    expect(a.core.numbers().renumberings).toBe(1);
    // The numbers are new here, and nothing of it is on disk yet.
    const { epoch } = a.core.sources()[0]!.head;
    const before = new TestHub("alpha", clock, SMALL, a.disk.copy());
    expect([before.core.sources()[0]!.head.epoch, contentOf(before, "alpha").get("lamp")?.get("watts")]).toEqual([epoch - 1, 7]);
    a.commit();
    const seqs = (at: TestHub): number[] => [...at.disk.read(`own/full/${epoch}`, 0)].map(({ seq }) => seq);
    expect(seqs(a)[0]).toBe(0);
    const after = new TestHub("alpha", clock, SMALL, a.disk.copy());
    expect(after.core.sources()[0]!.head.epoch).toBe(epoch);
    expect(after.core.numbers()).toMatchObject({ refs: { used: 1, held: 1 }, renumberings: 0 });
    for (const at of [a, after]) {
      clock.advance(61_000);
      at.settle();
      expect(seqs(at)).not.toContain(0);
      const last = new TestHub("alpha", clock, SMALL, at.disk.copy());
      expect(textOf(contentOf(last, "alpha"))).toBe(textOf(contentOf(at, "alpha")));
    }
  });

  test("who uses numbers has to bind again and stays online; who writes by name notices nothing", () => {
    const clock = new Instants();
    const a = new TestHub("alpha", clock, SMALL);
    const scope: Scope = { name: "node/lamp", kind: "node", ids: ["lamp"], prefixes: [] };
    a.post({ kind: "register", call: ++a.call, scope, nodes: [lamp] });
    a.register(nodeBytes("other", ["watts:double"]));
    open(a, 1, scope);
    open(a, 2);
    a.settle();
    bind(a, 1);
    a.settle();
    churn(a, 10);
    const ended = a.others.flatMap((effect) => (effect.kind === "stream_ended" ? [[effect.stream, effect.failure.reason]] : []));
    expect(ended).toEqual([[1, "POSITION_EXPIRED"]]);
    // What still comes on it means something else now.
    a.post({ kind: "updates", stream: 1, seq: 1, batch: batchOf(a.bound[0]!.refs[0]!, a.bound[0]!.krefs[0]!, 3) });
    a.update(2, 1, [{ nodeId: "other", key: "watts", value: 4, type: 3 }]);
    a.settle();
    expect([a.acked.get(1), a.acked.get(2), a.refused]).toEqual([undefined, 1, []]);
    expect(textOf(contentOf(a, "alpha"))).toBe("lamp watts=-; other watts=4");
    clock.advance(89_000);
    a.settle();
    a.post({ kind: "stream_close", stream: 1 });
    a.settle();
    expect(a.ask()[0]).toMatchObject({ name: { nodeId: "lamp" }, online: true });
    clock.advance(91_000);
    a.settle();
    expect(a.ask()[0]?.online).toBe(false);
  });

  test("automation that hears of a change late is told the names of then", () => {
    const a = new TestHub("alpha", new Instants(), SMALL);
    a.post({ kind: "automation", enabled: true });
    a.register(nodeBytes("first", ["a:double", "b:double"]));
    a.register(lamp);
    open(a, 1);
    a.settle();
    a.update(1, 1, [{ nodeId: "lamp", key: "watts", value: 5, type: 3 }]);
    a.deregister("first");
    churn(a, 10);
    const [heard] = a.others.filter((effect) => effect.kind === "automate");
    expect(a.core.numbers().renumberings).toBeGreaterThan(0);
    expect([...changesOf(heard!.hub, heard!.batch, heard!.names)]).toEqual([
      { hubId: "alpha", nodeId: "lamp", key: "watts", type: 3, value: 5 },
    ]);
  });

  test("not for nothing, and not more often than it may: then a new name is refused with the limit, and taken when the time has come", () => {
    const clock = new Instants();
    const a = new TestHub("alpha", clock, { ...SMALL, renumberMs: 600_000 });
    const names = Array.from({ length: 9 }, (_, i) => `k${i}:double`);
    a.register(nodeBytes("wide", names));
    a.settle();
    // Nothing would be given back.
    a.register(nodeBytes("other", ["k1:double", "k9:double"]));
    const refused = a.register(nodeBytes("more", ["k10:double"]));
    a.settle();
    expect([a.registered.get(refused)?.[0]?.failure?.facts, a.core.numbers().renumberings]).toEqual([
      { limit: "keys_per_feed_per_caller", max: "10", caller: "gateway/test" },
      0,
    ]);
    a.register(nodeBytes("wide", names.slice(0, 3)));
    expect(churn(a, 3)).toEqual([undefined, undefined, undefined]);
    expect(churn(a, 3, 10)).toEqual(["LIMIT_EXCEEDED", "LIMIT_EXCEEDED", "LIMIT_EXCEEDED"]);
    expect(a.core.numbers().renumberings).toBe(1);
    clock.advance(600_000);
    expect(churn(a, 1, 20)).toEqual([undefined]);
    expect(a.core.numbers().renumberings).toBe(2);
  });

  test("a store of a hub that has come to the end of its numbers already begins with new ones", () => {
    const clock = new Instants();
    const a = new TestHub("alpha", clock, { ...SMALL, limits: { ...LIMIT, refsPerFeed: 1_000, keysPerFeed: 1_000 } });
    a.register(lamp);
    churn(a, 40);
    const after = a.crash({ limits: { ...LIMIT, keysPerFeed: 1_000 } });
    expect(after.core.numbers()).toEqual({ refs: { used: 1, held: 1, max: 12 }, keys: { used: 1, held: 1, max: 1_000 }, renumberings: 1 });
  });
});
