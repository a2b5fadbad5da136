import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { LIMITS } from "#kernel/bounds/limits.ts";
import { Hlc } from "#kernel/crdt/hlc.ts";
import { createCrypto } from "#runtime/crypto.ts";
import { keyOf, nodeBytes } from "../../../test/fakes/registry-hub.ts";
import { segmentCodec } from "../codec/segment-codec.ts";
import { OpenSegment } from "../feed/open-segment.ts";
import type { Scope } from "../messages.ts";
import { renumbered } from "../table/renumber.ts";
import { FeedTable } from "../table/table.ts";
import { REGISTRY_DEFAULTS, World } from "../world.ts";
import { LocalRegistry } from "./local.ts";
import { PRESENCE_PART } from "./presence.ts";

const { leaseMs } = REGISTRY_DEFAULTS;
const EXECUTORS_MS = 60_000;
const NODES = ["a1", "a2", "b1", "b2", "ab"];
const CALLERS = ["gateway/a", "gateway/b", "node/a1"] as const;

/** scopeOf is what a caller's certificate says; after a renewal it speaks for others. */
function scopeOf(name: string, renewed = false): Scope {
  if (name === "node/a1") return { name, kind: "node", ids: [renewed ? "b1" : "a1"], prefixes: [] };
  return { name, kind: "gateway", ids: [], prefixes: [renewed ? "b" : name.slice(-1)] };
}

const speaksFor = (scope: Scope, nodeId: string): boolean =>
  scope.ids.includes(nodeId) || scope.prefixes.some((prefix) => nodeId.startsWith(prefix));

/** Desk is the local part of a hub, with nodes that were there before it started. */
class Desk {
  readonly world: World;
  readonly open: OpenSegment;
  readonly local: LocalRegistry;
  table = new FeedTable();
  stream = 0;
  call = 0;

  constructor(before: readonly { readonly nodeId: string; readonly online: boolean }[] = []) {
    const options = { ...REGISTRY_DEFAULTS, hubId: "home", codec: segmentCodec, crypto: createCrypto(keyOf("home")), limits: LIMITS };
    this.world = new World({ ...options, publicKey: keyOf("home").publicKey }, new Hlc(LIMITS.clockSkewMs));
    this.world.now = { mono: 1_000, wall: 1_700_000_000_000 };
    this.open = new OpenSegment(this.world, () => this.#count());
    for (const { nodeId, online } of before) {
      const bytes = nodeBytes(nodeId, []);
      this.table.put(this.table.nextRef, bytes, segmentCodec.readNode(bytes)!, online);
    }
    this.local = new LocalRegistry(this.world, this.table, this.open);
    this.local.start();
  }

  get presence() {
    return this.local.presence;
  }

  online(): string[] {
    return [...this.table.entries()].flatMap(({ info, online }) => (online ? [info.nodeId] : [])).sort();
  }

  register(scope: Scope, ...nodeIds: string[]): void {
    this.local.register(
      ++this.call,
      scope,
      nodeIds.map((nodeId) => nodeBytes(nodeId, [])),
    );
  }

  openStream(scope: Scope): number {
    this.local.streamOpen(++this.stream, scope);
    return this.stream;
  }

  renumber(): void {
    const { table, refs } = renumbered(this.table);
    this.table = table;
    this.local.renumber(table, refs);
  }

  #shown = 0;

  #count(): void {
    for (const change of this.open.take().changes)
      if (change.kind === "presence") this.#shown += change.online.length + change.offline.length;
  }

  /** shown is how many nodes what was done since the last call has marked online or offline. */
  shown(): number {
    this.#count();
    const shown = this.#shown;
    this.#shown = 0;
    return shown;
  }

  /** settle does what is due, step by step, and answers how many nodes each of them marked. */
  settle(): number[] {
    const steps: number[] = [];
    while (this.presence.deadline() <= this.world.now.mono) {
      this.presence.tick();
      steps.push(this.shown());
      if (steps.length > 1_000) throw new Error("it does not come to rest");
    }
    return steps;
  }

  advance(ms: number): number[] {
    const { mono, wall } = this.world.now;
    this.world.now = { mono: mono + ms, wall: wall + ms };
    return this.settle();
  }
}

interface Caller {
  scope: Scope;
  streams: { readonly id: number; numbered: boolean; ended: boolean }[];
  leaseUntil: number;
}

/** Model says which nodes are online by looking at everything each time. */
class Model {
  readonly callers = new Map<string, Caller>();
  /** Nodes, by whom they were spoken for last, and whether they were online when that was last looked at. */
  readonly nodes = new Map<string, { home: string | undefined; online: boolean }>();
  executors = new Set<string>();
  executorsUntil = Number.POSITIVE_INFINITY;
  graceUntil: number;
  mono: number;

  constructor(mono: number, before: readonly { readonly nodeId: string; readonly online: boolean }[]) {
    this.mono = mono;
    this.graceUntil = before.length > 0 ? mono + leaseMs : mono;
    for (const { nodeId, online } of before) this.nodes.set(nodeId, { home: undefined, online });
  }

  caller(scope: Scope): Caller {
    let caller = this.callers.get(scope.name);
    if (caller === undefined) this.callers.set(scope.name, (caller = { scope, streams: [], leaseUntil: Number.NEGATIVE_INFINITY }));
    caller.scope = scope;
    for (const [nodeId, node] of this.nodes)
      if (node.home === scope.name && !speaksFor(scope, nodeId))
        Object.assign(node, { home: undefined, online: this.executors.has(nodeId) });
    return caller;
  }

  /** serve takes the executors that there are now. Nodes that have lost theirs, and that nobody else speaks for, are offline. */
  serve(executors: Set<string>): void {
    for (const nodeId of this.executors) {
      const node = this.nodes.get(nodeId);
      if (!executors.has(nodeId) && node !== undefined && node.home === undefined) node.online = false;
    }
    this.executors = executors;
  }

  settle(): void {
    if (this.executorsUntil <= this.mono) this.serve(new Set());
    for (const [nodeId, node] of this.nodes) {
      const home = node.home === undefined ? undefined : this.callers.get(node.home);
      const spoken =
        home === undefined ? this.mono < this.graceUntil && node.online : home.streams.length > 0 || this.mono < home.leaseUntil;
      node.online = spoken || this.executors.has(nodeId);
    }
  }

  online(): string[] {
    return [...this.nodes].flatMap(([nodeId, { online }]) => (online ? [nodeId] : [])).sort();
  }
}

const who = { caller: fc.constantFrom(...CALLERS), renewed: fc.oneof({ weight: 4, arbitrary: fc.constant(false) }, fc.constant(true)) };
const some = fc.subarray(NODES);
const action = fc.oneof(
  { weight: 4, arbitrary: fc.record({ do: fc.constant("register" as const), ...who, nodeIds: some }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("deregister" as const), ...who, nodeId: fc.constantFrom(...NODES) }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant("open" as const), ...who }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("bind" as const), which: fc.nat(3), nodeIds: some }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant("close" as const), which: fc.nat(3) }) },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant("executors" as const), attached: some, detached: some, replace: fc.boolean() }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constant("advance" as const), ms: fc.constantFrom(1, 29_999, 30_000, 45_000, 90_000) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("renumber" as const) }) },
);
type Action = typeof action extends fc.Arbitrary<infer A> ? A : never;

/** take does the same to both. */
function take(desk: Desk, model: Model, act: Action): void {
  const streams = [...model.callers.values()].flatMap((caller) => caller.streams.map((stream) => ({ caller, stream })));
  const renew = (caller: Caller): void => void (caller.leaseUntil = model.mono + leaseMs);
  switch (act.do) {
    case "register": {
      const scope = scopeOf(act.caller, act.renewed);
      desk.register(scope, ...act.nodeIds);
      const caller = model.caller(scope);
      const mine = act.nodeIds.filter((nodeId) => speaksFor(scope, nodeId));
      for (const nodeId of mine) model.nodes.set(nodeId, { home: scope.name, online: true });
      if (mine.length > 0) renew(caller);
      return;
    }
    case "deregister": {
      const scope = scopeOf(act.caller, act.renewed);
      desk.local.deregister(++desk.call, scope, act.nodeId, 0);
      if (speaksFor(scope, act.nodeId)) model.nodes.delete(act.nodeId);
      return;
    }
    case "open": {
      const scope = scopeOf(act.caller, act.renewed);
      const caller = model.caller(scope);
      caller.streams.push({ id: desk.openStream(scope), numbered: false, ended: false });
      return renew(caller);
    }
    case "bind": {
      const found = streams[act.which];
      if (found === undefined || found.stream.ended || act.nodeIds.length === 0) return;
      desk.local.bind(found.stream.id, 1, act.nodeIds, []);
      found.stream.numbered = true;
      const { scope } = found.caller;
      // A bind counts as a whole or not at all.
      if (!act.nodeIds.every((nodeId) => model.nodes.has(nodeId) && speaksFor(scope, nodeId))) return;
      for (const nodeId of act.nodeIds) model.nodes.set(nodeId, { home: scope.name, online: true });
      return;
    }
    case "close": {
      const found = streams[act.which];
      if (found === undefined) return;
      const { caller, stream } = found;
      desk.local.streamClose(stream.id);
      caller.streams.splice(caller.streams.indexOf(stream), 1);
      if (caller.streams.length > 0) return;
      if (stream.ended) renew(caller);
      else if (caller.scope.kind === "node") caller.leaseUntil = model.mono;
      return;
    }
    case "executors": {
      desk.presence.executors(act.attached, act.detached, act.replace);
      model.executorsUntil = model.mono + EXECUTORS_MS;
      const kept = act.replace ? [] : [...model.executors].filter((nodeId) => !act.detached.includes(nodeId));
      model.serve(new Set([...kept, ...act.attached]));
      return;
    }
    case "advance":
      model.mono += act.ms;
      return void desk.advance(act.ms);
    case "renumber":
      desk.renumber();
      for (const { stream } of streams) stream.ended ||= stream.numbered;
  }
}

describe("presence of this hub's own nodes", () => {
  test("whatever callers, executors, clocks and numbers do: who is online, and what is counted for whom", () => {
    fc.assert(
      fc.property(fc.array(fc.boolean(), { maxLength: 3 }), fc.array(action, { maxLength: 40 }), (states, actions) => {
        const before = states.map((online, i) => ({ nodeId: NODES[i]!, online }));
        const desk = new Desk(before);
        const model = new Model(desk.world.now.mono, before);
        for (const act of actions) {
          take(desk, model, act);
          model.settle();
          desk.settle();
          expect(desk.online(), JSON.stringify(act)).toEqual(model.online());
          const counted = desk.presence.callers().filter(({ nodes }) => nodes > 0);
          const homes = [...model.nodes.values()].map(({ home }) => home);
          for (const { name, nodes } of counted) expect(nodes, name).toBe(homes.filter((home) => home === name).length);
          expect(counted.reduce((sum, { nodes }) => sum + nodes, 0)).toBe(homes.filter((home) => home !== undefined).length);
          if (homes.every((home) => home !== undefined))
            expect(
              counted.reduce((sum, { bytes }) => sum + bytes, 0),
              "all that is there counts for somebody",
            ).toBe(desk.table.bytes);
        }
      }),
      { numRuns: 200 },
    );
  });
});

describe("F-12 what presence costs", () => {
  const many = (count: number, prefix = "n"): string[] => Array.from({ length: count }, (_, i) => `${prefix}${i}`);
  const GATEWAY: Scope = { name: "gateway/many", kind: "gateway", ids: [], prefixes: ["n"] };

  test("who comes and goes is looked for among its own nodes, not among all numbers that were ever given out", () => {
    const desk = new Desk();
    desk.register(GATEWAY, ...many(3_000));
    desk.settle();
    const { home } = desk.presence;
    let reads = 0;
    home.data = new Proxy(home.data, {
      get: (data, index) => {
        reads++;
        return Reflect.get(data, index);
      },
    });
    const lamp: Scope = { name: "node/n7", kind: "node", ids: ["n7"], prefixes: [] };
    desk.register(lamp, "n7");
    const stream = desk.openStream(lamp);
    desk.local.streamClose(stream);
    desk.settle();
    expect(desk.online()).toHaveLength(2_999);
    expect(reads).toBeLessThan(30);
  });

  test("no step marks more than a part: many nodes of one caller, nodes of many callers, of no caller, and of executors", () => {
    const ids = many(PRESENCE_PART + 600);
    const old = many(PRESENCE_PART + 600, "old");
    const desk = new Desk(old.map((nodeId) => ({ nodeId, online: true })));
    const first = (act: () => void): number => {
      desk.shown();
      act();
      return desk.shown();
    };
    const steps: number[] = [];
    for (let from = 0; from < ids.length; from += 1_000) steps.push(first(() => desk.register(GATEWAY, ...ids.slice(from, from + 1_000))));
    for (let i = 0; i < 4_500; i++) desk.register({ name: `node/x${i}`, kind: "node", ids: [`x${i}`], prefixes: [] }, `x${i}`);
    expect(desk.online()).toHaveLength(ids.length + old.length + 4_500);
    desk.shown();
    steps.push(...desk.advance(leaseMs));
    expect(desk.online()).toEqual([]);
    steps.push(
      first(() => desk.register(GATEWAY, "n0")),
      ...desk.settle(),
    );
    expect(desk.online()).toHaveLength(ids.length);
    steps.push(
      first(() => desk.presence.executors([...ids, ...old], [], true)),
      ...desk.settle(),
    );
    expect(desk.online()).toHaveLength(ids.length + old.length);
    steps.push(...desk.advance(leaseMs));
    expect(desk.online()).toEqual([]);
    expect(Math.max(...steps)).toBeLessThanOrEqual(PRESENCE_PART);
  });

  test("a node that was offline before a restart is offline again when its executor has gone", () => {
    const desk = new Desk([{ nodeId: "a1", online: false }]);
    desk.presence.executors(["a1"], [], false);
    expect(desk.online()).toEqual(["a1"]);
    desk.presence.executors([], ["a1"], false);
    expect(desk.online()).toEqual([]);
  });

  test("PS1 no step compares more than a part of a caller's nodes with its renewed certificate, and the last one holds", () => {
    const desk = new Desk();
    const ids = many(2 * PRESENCE_PART + 600);
    for (let from = 0; from < ids.length; from += 1_000) desk.register(GATEWAY, ...ids.slice(from, from + 1_000));
    desk.settle();
    const without: Scope = { ...GATEWAY, prefixes: ["m"] };
    const { table } = desk;
    const node = table.node.bind(table);
    let looks = 0;
    table.node = (ref) => {
      looks++;
      return node(ref);
    };
    const step = (act: () => void): number => {
      looks = 0;
      act();
      return looks;
    };
    const held = (): number => desk.presence.callers().find(({ name }) => name === GATEWAY.name)?.nodes ?? 0;
    // Each node is looked at once to compare it, and a few times more to take it away.
    for (let i = 0; i < 20; i++)
      expect(step(() => desk.openStream({ ...GATEWAY, prefixes: i % 2 === 0 ? ["m", "n"] : ["n"] }))).toBeLessThanOrEqual(
        2 * PRESENCE_PART,
      );
    while (desk.presence.deadline() <= desk.world.now.mono) expect(step(() => desk.presence.tick())).toBeLessThanOrEqual(2 * PRESENCE_PART);
    expect([held(), desk.online().length]).toEqual([ids.length, ids.length]);
    expect(step(() => desk.openStream(without))).toBeLessThanOrEqual(5 * PRESENCE_PART);
    expect(held()).toBe(ids.length - PRESENCE_PART);
    // What was gone through counts for the last certificate, too, and numbers given out anew change nothing of it.
    desk.openStream({ ...GATEWAY, prefixes: ["n1", "m"] });
    desk.presence.tick();
    desk.renumber();
    desk.settle();
    const left = desk.online();
    expect(left.length).toBe(held());
    expect(left.every((nodeId) => nodeId.startsWith("n1"))).toBe(true);
    desk.openStream(without);
    desk.settle();
    expect([held(), desk.online()]).toEqual([0, []]);
  });

  test("a caller that changes its mind in the middle ends as it said last, and holds nobody else up", () => {
    const desk = new Desk();
    const ids = many(PRESENCE_PART + 600);
    const wide: Scope = { ...GATEWAY, kind: "node" };
    desk.register(wide, ...ids);
    desk.settle();
    const lamp: Scope = { name: "node/lamp", kind: "node", ids: ["lamp"], prefixes: [] };
    desk.register(lamp, "lamp");
    for (let i = 0; i < 9; i++) desk.local.streamClose(desk.openStream(wide));
    desk.local.streamClose(desk.openStream(lamp));
    desk.presence.tick();
    desk.presence.tick();
    desk.presence.tick();
    expect(desk.online()).not.toContain("lamp");
    const stream = desk.openStream(wide);
    desk.renumber();
    desk.settle();
    expect(desk.online()).toHaveLength(ids.length);
    desk.local.streamClose(stream);
    desk.presence.tick();
    desk.renumber();
    desk.settle();
    expect(desk.online()).toEqual([]);
  });

  test("names that hold nothing are forgotten, and their numbers are given out again", () => {
    const desk = new Desk();
    desk.register(GATEWAY, "n0", "n1");
    const names = many(2_000, "node/y");
    for (const name of names) {
      const scope: Scope = { name, kind: "node", ids: [name.slice(5)], prefixes: [] };
      desk.local.streamClose(desk.openStream(scope));
      desk.register(scope, "somebody-elses");
      desk.settle();
    }
    desk.advance(leaseMs);
    expect(desk.presence.callers().map(({ name }) => name)).toEqual([GATEWAY.name]);
    desk.register(scopeOf("gateway/a"), "a1");
    const ref = desk.table.byId("a1")!.ref;
    expect(desk.presence.homeOf(ref)).toBe(2);
    expect(desk.presence.callers()).toMatchObject([{ nodes: 2 }, { name: "gateway/a", nodes: 1 }]);
    // Whoever has used numbers up is remembered until they are given out anew.
    desk.local.deregister(1, scopeOf("gateway/a"), "a1", 0);
    desk.advance(leaseMs);
    expect(desk.presence.callers()).toHaveLength(2);
    desk.renumber();
    expect(desk.presence.callers()).toHaveLength(1);
  });
});
