import { create, toBinary } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import { AttachExecutorRequestSchema } from "#gen/foedus/command_forwarding/v1alpha1/command_forwarding_service_pb.ts";
import { ANY, Bench } from "../../test/commands/bench.ts";
import { ManualClock } from "../../test/fakes/manual-clock.ts";
import { decodeAttach, FIELDS_MAX, PIECES_MAX, SLICE_NODES } from "./codec/attach-codec.ts";
import { decodeInvocations, decodeResults } from "./codec/codec.ts";
import { decodeReports, REPORTS_MAX } from "./codec/executor-codec.ts";
import { COMMANDS_MAX, decodeStreamRequest, OPENS_MAX } from "./codec/stream-codec.ts";
import { Reader } from "./codec/wire.ts";
import type { CommandEffect, Part, Scope } from "./messages.ts";
import { SHARERS_MAX, SWEEP_MAX } from "./owner/executor.ts";
import { ATTACH_RATE, AttachPace } from "./shell/attach-pace.ts";

const ids = (n: number, prefix = "x"): string[] => Array.from({ length: n }, (_, i) => `${prefix}${i}`);

class Offers {
  readonly bench: Bench;

  constructor(nodes: readonly string[] = ["lamp"]) {
    this.bench = new Bench({}, nodes);
  }

  /** attach offers nodes in slices, as the handler of the stream does. */
  attach(
    executor: number,
    nodeIds: readonly string[],
    more: { name?: string; scope?: Scope; shared?: boolean; capabilities?: string[]; replaces?: number } = {},
  ) {
    const { name = "evil", scope = ANY, shared = true, capabilities = [], replaces } = more;
    const effects: CommandEffect[] = [];
    for (let from = 0; from === 0 || from < nodeIds.length; from += SLICE_NODES) {
      const part: Part = { first: from === 0, last: from + SLICE_NODES >= nodeIds.length };
      const offer = { nodeIds: nodeIds.slice(from, from + SLICE_NODES), capabilities, maxInFlight: 1, shared };
      effects.push(
        ...this.bench.hub.give({
          kind: "attach",
          executor,
          name,
          scope,
          offer,
          part,
          ...(replaces === undefined ? {} : { replaces: [replaces] }),
        }),
      );
    }
    return effects;
  }

  /** attached is what an attach was answered: nodes that were taken and failures. */
  attached(...args: Parameters<Offers["attach"]>) {
    return this.attach(...args).flatMap((effect) => (effect.kind === "attached" ? [effect] : []))[0];
  }

  offered(): number {
    return this.bench.hub.core.rooms().find(({ limit }) => limit === "offered_nodes")?.used ?? -1;
  }

  gone(executor: number): CommandEffect[] {
    return this.bench.hub.give({ kind: "executor-gone", executor });
  }
}

const presence = (effects: readonly CommandEffect[], online: boolean): string[] =>
  effects.flatMap((effect) => (effect.kind === "presence" && effect.online === online ? effect.nodeIds : []));

describe("what executors offer", () => {
  test("one caller's made-up nodes have a bound, on however many streams, and leave room for the nodes of others", () => {
    const own = ids(3_000, "own-");
    const offers = new Offers(own);
    for (let stream = 0; stream < 4; stream++) offers.attach(10 + stream, ids(60_000));
    expect(offers.offered()).toBeLessThan(140_000);
    for (const other of ["one", "two", "three"]) offers.attach(other.length + 20, ids(60_000, other), { name: other });
    expect(offers.attached(30, own, { name: "honest", shared: false })).toMatchObject({ nodes: 3_000, refused: [] });
    // Its next stream beside this one, as when the network was cut.
    expect(offers.attached(31, own, { name: "honest" })).toMatchObject({ nodes: 3_000, refused: [] });
    const room = offers.bench.hub.core.rooms().filter(({ limit }) => limit.startsWith("offered_nodes"));
    for (const { used, max } of room) expect(used).toBeLessThanOrEqual(max + 3_000);
  });

  test("who attaches again and again holds no more than once, and nothing when its streams have ended", () => {
    const offers = new Offers();
    for (let round = 0; round < 5; round++) offers.attach(10, ids(5_000, `${round % 2}-`), { capabilities: ids(50, "c") });
    for (let ticks = 0; ticks < 6; ticks++) offers.bench.tick();
    expect(offers.offered()).toBe(5_000 + 1 + 2);
    offers.gone(10);
    for (let ticks = 0; ticks < 6; ticks++) offers.bench.tick();
    expect(offers.offered()).toBe(1 + 1);
  });

  /** crowded is a hub with a gateway that has more than its part of the offered nodes, on stream 50, while another has half. */
  function crowded(own: readonly string[]): Offers {
    const offers = new Offers(own);
    offers.attach(50, own, { name: "honest" });
    offers.attach(60, ids(100_000), { name: "other" });
    return offers;
  }

  test("EX5 who has its part of the offered nodes comes back with them, and opens one stream more", () => {
    const own = ids(40_000, "own-");
    const offers = crowded(own);
    const steps = offers.attach(51, own, { name: "honest", replaces: 50 });
    while (offers.bench.hub.core.deadline() === 0) steps.push(...offers.bench.hub.tick());
    expect(steps.filter(({ kind }) => kind === "attached")).toMatchObject([{ nodes: 40_000, refused: [] }]);
    expect(presence(steps, false)).toEqual([]);
    expect(offers.attached(52, own.slice(0, 1), { name: "honest" })).toMatchObject({ nodes: 1, refused: [] });
  });

  test("EX5 what its nodes let it offer beyond its part is short, and no more than a few offers for each stream", () => {
    const own = ids(40_000, "own-");
    const offers = crowded(own);
    const before = offers.offered();
    expect(offers.attached(51, ["made-up"], { name: "honest" })).toBeUndefined();
    expect(offers.attached(52, own.slice(0, 1), { name: "honest", capabilities: ids(1_000, "c") })).toBeUndefined();
    expect(offers.offered()).toBe(before);
    const part = { first: true, last: false };
    const offer = (i: number) => ({ nodeIds: own.slice(i, i + 1), capabilities: [], maxInFlight: 1, shared: true });
    for (let i = 1; i <= 200; i++)
      offers.bench.hub.give({ kind: "attach", executor: 50 + i, name: "honest", scope: ANY, offer: offer(i), part, replaces: [49 + i] });
    expect(offers.offered() - before).toBeLessThan(8);
  });

  test("EX4 who has its part of the executors takes the place of its own older ones", () => {
    const own = ids(2_100, "own-");
    const offers = new Offers(own);
    for (let i = 0; i < 2_048; i++) offers.attach(1_000 + i, own.slice(i, i + 1), { name: "honest" });
    for (let i = 0; i < 8; i++) offers.attach(5_000 + i, ["lamp"], { name: `other-${i}` });
    expect(offers.attached(6_000, own.slice(0, 1), { name: "honest" })).toBeUndefined();
    expect(offers.attached(6_001, own.slice(0, 1), { name: "honest", replaces: 1_000 })).toMatchObject({ nodes: 1 });
    // Not that of somebody else.
    expect(offers.attached(6_002, own.slice(0, 1), { name: "honest", replaces: 5_000 })).toBeUndefined();
  });

  test("EX5 an executor whose place cannot be taken keeps it", () => {
    const own = ids(2 * SLICE_NODES, "own-");
    const offers = new Offers(own);
    offers.attach(50, own, { name: "honest" });
    const steps = offers.attach(51, own, { name: "honest", replaces: 50, capabilities: ids(500_000, "c") });
    expect(steps.filter(({ kind }) => kind === "detach")).toMatchObject([{ executor: 51, failure: { reason: "LIMIT_EXCEEDED" } }]);
    expect(presence([...steps, ...offers.bench.hub.tick()], false)).toEqual([]);
    offers.bench.send("spiffe://home/operator/admin", "own-1");
    expect(offers.bench.tasks).toHaveLength(1);
  });

  test("no step gives up more than a part of what is over, and its nodes go offline once nobody else serves them", () => {
    const own = ids(4_000, "own-");
    const offers = new Offers(own);
    offers.attach(10, own, { shared: false });
    offers.attach(11, own.slice(0, 1_500), { name: "other", shared: false });
    const steps = [offers.gone(10)];
    while (offers.bench.hub.core.deadline() === 0) steps.push(offers.bench.hub.tick());
    for (const effects of steps) expect(presence(effects, false).length).toBeLessThanOrEqual(SWEEP_MAX);
    expect(steps.flatMap((effects) => presence(effects, false)).sort()).toEqual(own.slice(1_500).sort());
  });

  test("EX6 a step that replaces many executors gives up a part of what is over once, and not once for each", () => {
    const own = ids(12_000, "own-");
    const offers = new Offers(own);
    offers.attach(10, own, { shared: false });
    offers.gone(10);
    for (let i = 0; i < 3; i++) offers.attach(20 + i, [`small-${i}`], { name: "other", shared: false });
    const replaced = offers.attach(30, ids(3, "small-"), { name: "other", shared: false });
    expect(replaced.filter(({ kind }) => kind === "detach")).toHaveLength(3);
    expect(presence(replaced, false).length).toBeLessThanOrEqual(SWEEP_MAX);
  });

  test("what is over is not given anything, also while it is still being given up", () => {
    const own = ids(4_000, "own-");
    const offers = new Offers(own);
    offers.attach(10, own, { shared: false });
    offers.gone(10);
    expect(offers.bench.send("spiffe://home/operator/admin", "own-3999")?.result.failure?.reason).toBe("NO_EXECUTOR");
    offers.attach(11, ["own-3999"], { name: "other" });
    while (offers.bench.hub.core.deadline() === 0) offers.bench.tick();
    offers.bench.send("spiffe://home/operator/admin", "own-3999");
    expect(offers.bench.tasks).toMatchObject([{ nodeId: "own-3999" }]);
  });

  test("refusals are told in a few failures, however many and long the nodes are", () => {
    const offers = new Offers();
    const { nodes, refused = [] } = offers.attached(10, ids(20_000), { scope: { kind: "node", nodeId: "evil" } }) ?? {};
    expect([nodes, refused.length]).toEqual([0, 64]);
    expect(refused[63]?.message).toMatch(/^19937 more nodes/);
    const long = offers.attached(
      11,
      [..."abc"].map((c) => c.repeat(200_000)),
    );
    expect(long?.nodes).toBe(0);
    expect(JSON.stringify(long?.refused).length).toBeLessThan(2_000);
  });

  test("only so many executors share one node", () => {
    const offers = new Offers();
    const taken = ids(SHARERS_MAX + 8).map((_, i) => offers.attached(10 + i, ["evil"])?.nodes);
    expect(taken.filter((nodes) => nodes === 1)).toHaveLength(SHARERS_MAX);
    offers.gone(10);
    expect(offers.attached(200, ["evil"])?.nodes).toBe(1);
  });

  test("long lists of capabilities count", () => {
    const offers = new Offers();
    const capabilities = ids(1_000, "c".repeat(1_000));
    const ended = ids(100).filter((_, i) => offers.attach(10 + i, ["x"], { capabilities }).some(({ kind }) => kind === "detach"));
    expect(ended.length).toBeGreaterThan(80);
  });

  test("only nodes of this hub become online by an executor: at once if they are there, else when they are registered", () => {
    const offers = new Offers(["lamp"]);
    const put = { kind: "put", hubId: "home", nodeId: "later", online: false, capabilities: [] } as const;
    const effects = offers.attach(10, ["lamp", "later", "made-up"]);
    expect(presence(effects, true)).toEqual(["lamp"]);
    expect(presence(offers.bench.hub.give({ kind: "directory", changes: [put] }), true)).toEqual(["later"]);
    expect(presence(offers.bench.hub.give({ kind: "directory", changes: [put] }), true)).toEqual([]);
  });

  test("the nodes of a stream that a newer one replaces are never without an executor while the newer offer comes in", () => {
    const own = ids(2_500, "own-");
    const offers = new Offers(own);
    offers.attach(10, own);
    const offline: string[] = [];
    const give = (nodeIds: readonly string[], part: Part): void => {
      const offer = { nodeIds, capabilities: [], maxInFlight: 1, shared: true };
      const { hub } = offers.bench;
      const effects = hub.give({ kind: "attach", executor: 11, name: "evil", scope: ANY, offer, part, replaces: [10] });
      offline.push(...presence(effects, false));
      while (hub.core.deadline() === 0) offline.push(...presence(hub.tick(), false));
    };
    give(own.slice(0, 1_000), { first: true, last: false });
    give(own.slice(1_000, 2_000), { first: false, last: false });
    expect(offline).toEqual([]);
    give(own.slice(2_000, 2_400), { first: false, last: true });
    expect(offline.sort()).toEqual(own.slice(2_400).sort());
  });
});

describe("attach messages", () => {
  const encode = (nodeIds: readonly string[], more = {}) =>
    toBinary(
      AttachExecutorRequestSchema,
      create(AttachExecutorRequestSchema, { frame: { case: "attach", value: { nodeIds: [...nodeIds], ...more } } }),
    );

  test("are read in slices, with all that is beside the nodes", () => {
    const nodeIds = ids(12_345, "node-");
    const { head, nodes } = decodeAttach(encode(nodeIds, { capabilities: ["on", "off"], maxInFlight: 7, shared: true }));
    expect(head).toMatchObject({ nodeIds: [], capabilities: ["on", "off"], maxInFlight: 7, shared: true });
    const slices = [...nodes()];
    expect(slices.flatMap((slice) => slice.nodeIds)).toEqual(nodeIds);
    expect(Math.max(...slices.map((slice) => slice.nodeIds.length))).toBe(SLICE_NODES);
    expect(slices.map(({ last }) => last)).toEqual([...Array(12).fill(false), true]);
  });

  test("are read as the generated code does when they are in several pieces, and one that is over is none", () => {
    const two = Buffer.concat([encode(["a", "b"], { maxInFlight: 3 }), encode(["c"], { shared: true })]);
    const { head, nodes } = decodeAttach(two);
    expect(head).toMatchObject({ maxInFlight: 3, shared: true });
    expect([...nodes()]).toEqual([{ nodeIds: ["a", "b", "c"], last: true }]);
    const over = Buffer.concat([encode(["a"]), Uint8Array.of(0x12, 0), encode(["b"])]);
    expect([...decodeAttach(over).nodes()]).toEqual([{ nodeIds: ["b"], last: true }]);
    expect([...decodeAttach(encode([])).nodes()]).toEqual([{ nodeIds: [], last: true }]);
  });

  const repeated = (count: number, ...part: number[]) => Buffer.alloc(count * part.length, Uint8Array.from(part));
  /** within is a message with an attach of these bytes. */
  const within = (body: Uint8Array) => {
    const length = [body.length & 0x7f, (body.length >> 7) & 0x7f, body.length >> 14];
    return Buffer.concat([Uint8Array.of(0x0a, (length[0] as number) | 0x80, (length[1] as number) | 0x80, length[2] as number), body]);
  };

  test("of as many pieces and fields as there may be are read", () => {
    expect([...decodeAttach(repeated(PIECES_MAX, 0x0a, 3, 0x0a, 1, 0x61)).nodes()]).toEqual([
      { nodeIds: ids(64, "").fill("a"), last: true },
    ]);
    expect(decodeAttach(within(repeated(FIELDS_MAX, 0x20, 1))).head.shared).toBe(true);
  });

  test.each([
    ["more pieces than anybody sends", repeated(PIECES_MAX + 1, 0x0a, 0), "frame"],
    ["half a million pieces", repeated(500_000, 0x0a, 0), "frame"],
    ["half a million other fields", repeated(500_000, 0x78, 0), "attach"],
    ["a fifth of a million other fields between nodes", within(repeated(99_000, 0x0a, 0, 0x78, 0, 0x78, 0)), "attach"],
    ["half a million capabilities", within(repeated(500_000, 0x12, 0)), "attach"],
    ["a hundred thousand nodes and one", encode(ids(100_001, "")), "attach.node_ids"],
    [
      "half a million empty ones",
      Buffer.concat([Uint8Array.of(0x0a, 0xc0, 0x84, 0x3d), Buffer.alloc(1_000_000, Uint8Array.of(0x0a, 0))]),
      "attach.node_ids",
    ],
    ["too many tasks in flight", encode(["a"], { maxInFlight: 4_097 }), "attach.max_in_flight"],
    ["results", Uint8Array.of(0x12, 0), "frame"],
    ["nothing", Uint8Array.of(), "frame"],
    ["a message that is cut short", encode(["abc"]).subarray(0, 4), undefined],
  ])("of %s are refused", (_, bytes, field) => {
    expect(() => decodeAttach(bytes)).toThrow(expect.objectContaining({ failure: expect.objectContaining({ reason: "INVALID_FIELD" }) }));
    try {
      decodeAttach(bytes);
    } catch (error) {
      expect((error as { failure: { field?: string } }).failure.field).toBe(field);
    }
  });
});

describe("messages of many small parts", () => {
  const repeated = (count: number, ...part: number[]) => Buffer.alloc(count * part.length, Uint8Array.from(part));

  test("with more results than an executor has tasks are refused", () => {
    const body = repeated(REPORTS_MAX + 1, 0x0a, 0);
    const message = (results: Buffer) => Buffer.concat([Uint8Array.of(0x12, 0x80 | (results.length & 0x7f), results.length >> 7), results]);
    expect(decodeReports(message(body.subarray(2)))).toHaveLength(REPORTS_MAX);
    expect(() => decodeReports(message(body))).toThrow("more results");
  });

  test("with more commands or cancels than a stream may have are refused", () => {
    expect(decodeStreamRequest(repeated(COMMANDS_MAX, 0x0a, 0)).commands).toHaveLength(COMMANDS_MAX);
    expect(() => decodeStreamRequest(repeated(COMMANDS_MAX + 1, 0x0a, 0))).toThrow("more commands");
    expect(() => decodeStreamRequest(repeated(COMMANDS_MAX + 1, 0x10, 1))).toThrow("more commands");
  });

  test("with one number of the stream after another are refused", () => {
    expect(decodeStreamRequest(repeated(OPENS_MAX, 0x1a, 2, 0x18, 1)).open?.n).toBe(1n);
    expect(() => decodeStreamRequest(repeated(OPENS_MAX + 1, 0x1a, 0))).toThrow("again and again");
  });
});

describe("parts of a message of which the last one counts", () => {
  const repeated = (count: number, ...part: number[]) => Buffer.alloc(count * part.length, Uint8Array.from(part));
  const inside = (tag: number, body: Uint8Array) =>
    Buffer.concat([Uint8Array.of(tag, (body.length & 0x7f) | 0x80, ((body.length >> 7) & 0x7f) | 0x80, body.length >> 14), body]);
  const [failure, trace] = [repeated(10_000, 0x1a, 2, 0x08, 1), repeated(10_000, 0x3a, 2, 0x0a, 0)];

  /** Node and capability, without which an invocation is none. */
  const names = Uint8Array.of(0x12, 1, 0x61, 0x1a, 1, 0x62);
  const traces = Buffer.concat([names, repeated(10_000, 0x42, 2, 0x0a, 0)]);

  test.each<readonly [string, number, () => unknown]>([
    ["failures of a task", 1, () => decodeReports(inside(0x12, inside(0x0a, failure)))],
    ["traces of a command", 1, () => decodeStreamRequest(inside(0x0a, inside(0x12, trace)))],
    ["traces of an invocation", 3, () => decodeInvocations(new Reader(inside(0x1a, traces)))],
    ["failures of an outcome", 1, () => decodeResults(new Reader(inside(0x1a, repeated(10_000, 0x22, 2, 0x08, 1))))],
  ])("are passed over and not read: %s", (_, wanted, decode) => {
    const { string, enumeration } = Reader.prototype;
    let reads = 0;
    const counted = <R>(method: () => R) =>
      function (this: Reader): R {
        reads++;
        return method.apply(this);
      };
    Object.assign(Reader.prototype, { string: counted(string), enumeration: counted(enumeration) });
    try {
      decode();
    } finally {
      Object.assign(Reader.prototype, { string, enumeration });
    }
    expect(reads).toBe(wanted);
  });
});

describe("the pace of attaches", () => {
  test("a turn of the event loop takes about one slice, callers take turns, and many small ones go together", async () => {
    const clock = new ManualClock();
    const pace = new AttachPace(clock);
    const order: string[] = [];
    const ask = (caller: string, nodes: number) => void pace.turn(caller, nodes, true).then(() => order.push(caller));
    for (let i = 0; i < 3; i++) ask("evil", SLICE_NODES);
    ask("honest", SLICE_NODES);
    for (let i = 0; i < 20; i++) ask("small", 1);
    const turns: string[][] = [];
    while (order.length < 24 && turns.length < 100) {
      const before = order.length;
      clock.turn();
      await new Promise(process.nextTick);
      turns.push(order.slice(before));
    }
    expect(turns[0]).toEqual(["evil"]);
    expect(turns[1]).toEqual(["honest"]);
    expect(turns[2]?.[0]).toBe("small");
    expect(turns.length).toBeLessThan(8);
  });

  test("EX6 of the streams of one caller that wait for its rate one looks at the clock, in their order", async () => {
    const clock = new ManualClock();
    const pace = new AttachPace(clock);
    const order: number[] = [];
    const streams = ATTACH_RATE.burst / SLICE_NODES + 300;
    for (let i = 0; i < streams; i++) void pace.turn("evil", SLICE_NODES, false).then(() => order.push(i));
    let timers = 0;
    const { setTimer } = clock;
    clock.setTimer = (ms, fn) => {
      timers++;
      return setTimer.call(clock, ms, fn);
    };
    for (let rounds = 0; order.length < streams && rounds < 5_000; rounds++) {
      clock.advance(rounds % 4 === 0 ? 5 : 0);
      clock.turn();
      await new Promise(process.nextTick);
      expect(clock.pending).toBeLessThanOrEqual(1);
    }
    expect(order).toEqual(Array.from({ length: streams }, (_, i) => i));
    expect(timers).toBeLessThan(2 * 300);
  });

  test("EX6 a stream that has ended while it waits takes nothing from the next one", async () => {
    const clock = new ManualClock();
    const pace = new AttachPace(clock);
    let passed = 0;
    for (let i = 0; i < ATTACH_RATE.burst / SLICE_NODES; i++) void pace.turn("gw", SLICE_NODES, false);
    for (let i = 0; i < 300; i++) void pace.turn("gw", SLICE_NODES, false, () => i === 0);
    void pace.turn("gw", SLICE_NODES, false).then(() => passed++);
    const waitMs = (2 * SLICE_NODES * 1_000) / ATTACH_RATE.perSecond;
    for (let i = 0; i < 3_000; i++) {
      if (i < waitMs) clock.advance(1);
      clock.turn();
      await new Promise(process.nextTick);
    }
    expect(passed).toBe(1);
  });

  test("who attaches more than its rate waits, and nobody else does", async () => {
    const clock = new ManualClock();
    const pace = new AttachPace(clock);
    let taken = 0;
    const flood = async (): Promise<void> => {
      for (;;) {
        await pace.turn("evil", SLICE_NODES, false);
        taken += SLICE_NODES;
      }
    };
    void flood();
    const settle = async (ms: number): Promise<void> => {
      for (let i = 0; i < 500; i++) {
        if (i === 0) clock.advance(ms);
        clock.turn();
        await new Promise(process.nextTick);
      }
    };
    await settle(0);
    expect(taken).toBe(ATTACH_RATE.burst);
    await settle(1_000);
    expect(taken).toBeLessThanOrEqual(ATTACH_RATE.burst + ATTACH_RATE.perSecond);
    let honest = false;
    void pace.turn("honest", SLICE_NODES, true).then(() => (honest = true));
    await settle(0);
    expect(honest).toBe(true);
  });
});
