import { create, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { CapabilitySchema, NodeSchema } from "#gen/foedus/common/v1/node_pb.ts";
import { RegistrySyncService } from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import { LIMITS } from "#kernel/bounds/limits.ts";
import { sessionCodec } from "#runtime/sessions/session-codec.ts";
import { GATEWAY, Instants, nodeBytes, settleAll, TestHub, TestLink } from "../../test/fakes/registry-hub.ts";
import { frameToProto } from "./codec/frame-codec.ts";
import { segmentCodec } from "./codec/segment-codec.ts";
import { EMPTY } from "./codec/wire.ts";
import type { NodeRule, PeerFrame, Scope, StateValue } from "./messages.ts";

const wire = sessionCodec(RegistrySyncService.method.session);
const SHOWN: NodeRule = { ids: [], types: [], kind: 0, labels: { shown: "yes" }, allow: true, capabilities: ["*"], invoke: [] };

interface NodeShape {
  readonly id: string;
  readonly capabilities: number;
  readonly type: 4 | 6;
  /** Characters of each capability's name at least, and of its schema. */
  readonly nameLength?: number;
  readonly schemaLength?: number;
  readonly shown?: boolean;
}

function bigNode({ id, capabilities, type, nameLength = 1, schemaLength = 0, shown = true }: NodeShape): Uint8Array {
  const all = Array.from({ length: capabilities }, (_, i) =>
    create(CapabilitySchema, { name: `c${type}-${i}`.padEnd(nameLength, "x"), type, readable: true, schema: "s".repeat(schemaLength) }),
  );
  return toBinary(NodeSchema, create(NodeSchema, { nodeId: id, kind: 1, labels: { shown: shown ? "yes" : "no" }, capabilities: all }));
}

/** World is two hubs that share through frames which are measured as a session measures them. */
class World {
  readonly clock = new Instants();
  a: TestHub;
  readonly b: TestHub;
  link: TestLink | undefined;
  readonly tooLong: string[] = [];
  readonly frames: string[] = [];
  longestSegment = 0;
  #seq = 0;

  constructor(share: string, options: ConstructorParameters<typeof TestHub>[2] = {}) {
    this.a = new TestHub("alpha", this.clock, { shares: [{ name: "part", rules: [SHOWN] }], ...options });
    this.b = new TestHub("beta", this.clock, {});
    this.peers(share);
    this.b.post({ kind: "peers", peers: [{ hubId: "alpha", share: "full", level: 3 }], complete: true });
    this.a.post({ kind: "stream_open", stream: 1, scope: GATEWAY });
  }

  peers(share: string): void {
    this.a.post({ kind: "peers", peers: [{ hubId: "beta", share, level: 3 }], complete: true });
  }

  connect(): void {
    this.link?.down();
    this.link = new TestLink(this.a, this.b);
    this.settle();
  }

  settle(): void {
    settleAll([this.a, this.b], this.link === undefined ? [] : [this.link], (frame) => this.#measure(frame));
  }

  /** measure loses what the other end of a session would end the session for. */
  #measure(frame: PeerFrame): number {
    this.frames.push(frame.type);
    const proto = frameToProto(frame, EMPTY);
    const bytes = wire.encode(proto).length;
    if (frame.type === "segment") this.longestSegment = Math.max(this.longestSegment, bytes);
    let wrong = bytes > wire.maxBytes(proto) ? `${frame.type} of ${bytes} bytes` : "";
    if (frame.type === "snapshot") {
      const manifest = segmentCodec.decodeManifest(segmentCodec.decodeSigned(frame.manifest)!.body)!;
      const longest = Math.max(...manifest.parts.map((part) => Math.max(part.rawLen, part.len)));
      if (longest > LIMITS.snapshotPartBytes) wrong = `part of ${longest} bytes`;
    }
    if (wrong !== "") this.tooLong.push(wrong);
    return wrong === "" ? 1 : 0;
  }

  /** fill sets the first `count` values of a node to texts of so many bytes. */
  fill(id: string, type: 4 | 6, count: number, length: number, nameLength = 1): void {
    for (let i = 0; i < count; i++) {
      const key = `c${type}-${i}`.padEnd(nameLength, "x");
      const text = `${i}`.padEnd(length - (type === 6 ? 2 : 0), "v");
      this.a.update(1, ++this.#seq, [{ nodeId: id, key, value: type === 6 ? JSON.stringify(text) : text, type }]);
    }
  }

  /** held is what a hub has of alpha's nodes that the share shows, as words that are short. */
  held(hub: TestHub, share: string): string[] {
    const digest = ({ key, value }: StateValue): string => `${key}=${String(value).length}:${String(value).slice(0, 4)}`;
    const records = hub.ask({ hubIds: ["alpha"], ...(share === "full" ? {} : { labels: { shown: "yes" } }) });
    return records.map((r) => `${r.name.nodeId} ${r.online} ${r.omitted} ${r.node.length} ${r.state.map(digest).join(",")}`);
  }

  check(share: string): void {
    expect(this.tooLong).toEqual([]);
    expect(this.held(this.b, share)).toEqual(this.held(this.a, share));
  }
}

describe("what a peer takes", () => {
  test("a node that is longer than a segment can carry is refused by the name of the limit and of the field", () => {
    const world = new World("full");
    const call = world.a.register(bigNode({ id: "long", capabilities: 20, type: 6, schemaLength: 16_000 }), nodeBytes("lamp", []));
    world.a.settle();
    expect(world.a.registered.get(call)?.map(({ failure }) => failure)).toMatchObject([
      { reason: "LIMIT_EXCEEDED", field: "node", facts: { limit: "node_bytes", max: String(LIMITS.nodeBytes) } },
      undefined,
    ]);
    world.connect();
    world.check("full");
  });

  test("the longest node goes as a segment and as a snapshot, with the longest names that it may have", () => {
    const longest = (id: string): Uint8Array => {
      const bytes = (schemaLength: number) => bigNode({ id, capabilities: 512, type: 4, nameLength: 127, schemaLength });
      const spare = (LIMITS.nodeBytes - bytes(0).length) / 512;
      let schemaLength = Math.floor(spare) - 16;
      while (bytes(schemaLength + 1).length <= LIMITS.nodeBytes) schemaLength++;
      return bytes(schemaLength);
    };
    for (const share of ["full", "part"]) {
      const world = new World(share);
      world.a.register(longest("one"));
      world.connect();
      world.frames.length = 0;
      world.a.register(longest("two"));
      world.settle();
      expect([...new Set(world.frames)]).toEqual(["segment", "ack"]);
      world.check(share);
      expect(world.b.ask({ hubIds: ["alpha"] })).toHaveLength(2);
    }
  });

  test.each(["full", "part"])(
    "F-7 many nodes that are registered at once go in segments that a slow link carries in seconds: %s",
    (share) => {
      const world = new World(share);
      world.connect();
      const nodes = Array.from({ length: 100 }, (_, i) => bigNode({ id: `n${i}`, capabilities: 4, type: 4, schemaLength: 600 }));
      world.a.register(...nodes);
      world.settle();
      world.check(share);
      expect(world.b.ask().length).toBe(100);
      expect(world.longestSegment).toBeGreaterThan(LIMITS.segmentNodeBytes / 2);
      expect(world.longestSegment).toBeLessThan(LIMITS.segmentNodeBytes + 1_024);
    },
  );

  test("presence of many nodes goes in as many segments as it takes, also behind one that is nearly full", () => {
    const world = new World("full");
    const ids = Array.from({ length: 9_000 }, (_, i) => `n-${i}`);
    world.a.register(...ids.map((id) => nodeBytes(id, [])));
    world.connect();
    world.a.post({ kind: "stream_close", stream: 1 });
    world.clock.advance(91_000);
    world.settle();
    // The rest is another gateway's: what it says does not bring the nodes of the first one back.
    const scope: Scope = { ...GATEWAY, name: "gateway/other" };
    world.a.post({ kind: "register", call: 998, scope, nodes: [bigNode({ id: "text", capabilities: 60, type: 4 })] });
    world.a.post({ kind: "stream_open", stream: 1, scope });
    world.settle();
    expect(world.b.ask({ hubIds: ["alpha"], onlineOnly: true })).toHaveLength(1);
    world.fill("text", 4, 58, 4_096);
    world.a.post({ kind: "presence", call: 999, attached: ids, detached: [], replace: true });
    world.settle();
    world.check("full");
    expect(world.b.ask({ hubIds: ["alpha"], onlineOnly: true, nodeIdPrefix: "n-" })).toHaveLength(1_000);
    world.a.post({ kind: "stream_close", stream: 1 });
    world.a.post({ kind: "presence", call: 999, attached: [], detached: [], replace: true });
    world.settle();
    world.check("full");
  });

  test("the list of executors may come in parts: what is in none of them goes offline with the last one, and not before", () => {
    const world = new World("full");
    const ids = ["p-1", "p-2", "p-3", "p-4"];
    world.a.register(...ids.map((id) => nodeBytes(id, [])));
    world.connect();
    world.a.post({ kind: "stream_close", stream: 1 });
    world.clock.advance(91_000);
    world.settle();
    const online = (attached: string[], round: number, replace: boolean): string[] => {
      world.a.post({ kind: "presence", call: 999, attached, detached: [], replace, round });
      world.settle();
      return world.b
        .ask({ hubIds: ["alpha"], onlineOnly: true })
        .map(({ name }) => name.nodeId)
        .sort();
    };
    expect(online(["p-1", "p-2", "p-3"], 0, true)).toEqual(["p-1", "p-2", "p-3"]);
    expect(online(["p-1"], 7, false)).toEqual(["p-1", "p-2", "p-3"]);
    expect(online(["p-4"], 0, false), "what comes meanwhile stays").toEqual(ids);
    expect(online(["p-2"], 7, true)).toEqual(["p-1", "p-2", "p-4"]);
    online(["p-2"], 8, false);
    expect(online(["p-1"], 8, true)).toEqual(["p-1", "p-2"]);
    expect(online(["p-4"], 0, true)).toEqual(["p-4"]);
  });

  test("a node that a share did not show comes with all its values, in as many segments as it takes", () => {
    const world = new World("part");
    world.a.register(bigNode({ id: "long", capabilities: 100, type: 4, shown: false }));
    world.fill("long", 4, 100, 4_096);
    world.connect();
    expect(world.held(world.b, "part")).toEqual([]);
    world.a.register(bigNode({ id: "long", capabilities: 100, type: 4, shown: true }));
    world.settle();
    world.check("part");
    expect(world.b.ask({ hubIds: ["alpha"] })[0]?.state).toHaveLength(100);
    const hidden = [{ name: "part", rules: [{ ...SHOWN, capabilities: ["none"] }] }];
    world.a.post({ kind: "shares", shares: hidden });
    world.settle();
    world.a.post({ kind: "shares", shares: [{ name: "part", rules: [SHOWN] }] });
    world.settle();
    world.check("part");
  });

  test("a node with more state than fits into a part, and more keys than fit, go as a snapshot", () => {
    const world = new World("full");
    world.a.register(bigNode({ id: "json", capabilities: 150, type: 6 }));
    world.fill("json", 6, 150, 16_384);
    for (let i = 0; i < 20; i++) world.a.register(bigNode({ id: `keys-${i}`, capabilities: 512, type: 4, nameLength: 100 + i }));
    world.a.settle();
    world.connect();
    world.check("full");
    expect(world.b.crash().ask({ hubIds: ["alpha"], nodeIdPrefix: "json" })[0]?.omitted).toBeGreaterThan(50);
  });

  test("a segment that is too long, written before there was a bound, is passed over with a snapshot", () => {
    const limits = { ...LIMITS, nodeBytes: 1_000_000 };
    const world = new World("full", { limits });
    world.a.register(nodeBytes("lamp", []));
    world.connect();
    world.link?.down();
    world.link = undefined;
    world.a.register(bigNode({ id: "long", capabilities: 20, type: 6, schemaLength: 14_000 }));
    world.a.settle();
    world.a = world.a.crash({ limits: LIMITS });
    world.peers("full");
    world.a.deregister("long");
    world.connect();
    expect(world.tooLong).toEqual([]);
    expect(world.b.ask({ hubIds: ["alpha"] }).map((record) => record.name.nodeId)).toEqual(["lamp"]);
  });

  test("any registry that was taken in gives only segments and parts that a session carries", () => {
    let frames = 0;
    const node = fc.record({
      op: fc.constant("node" as const),
      id: fc.constantFrom("n0", "n1", "n2"),
      capabilities: fc.constantFrom(0, 3, 40, 120, 400),
      type: fc.constantFrom(4 as const, 6 as const),
      schemaLength: fc.constantFrom(0, 0, 400, 1_500, 16_000),
      shown: fc.boolean(),
    });
    const fill = fc.record({
      op: fc.constant("fill" as const),
      id: fc.constantFrom("n0", "n1", "n2"),
      type: fc.constantFrom(4 as const, 6 as const),
      count: fc.constantFrom(2, 40, 120),
      length: fc.constantFrom(10, 2_000, 4_096, 16_384),
    });
    const other = fc.record({
      op: fc.constantFrom("settle" as const, "connect" as const, "presence" as const, "part" as const, "full" as const),
    });
    fc.assert(
      fc.property(
        fc.array(fc.oneof({ weight: 3, arbitrary: node }, { weight: 4, arbitrary: fill }, { weight: 3, arbitrary: other }), {
          minLength: 8,
          maxLength: 20,
          size: "max",
        }),
        (ops) => {
          let share = "part";
          const world = new World(share);
          for (const op of ops) {
            if (op.op === "node") world.a.register(bigNode(op));
            else if (op.op === "fill") world.fill(op.id, op.type, op.count, op.length);
            else if (op.op === "settle") world.settle();
            else if (op.op === "connect") world.connect();
            else if (op.op === "presence") {
              world.a.post({ kind: "presence", call: 9, attached: ["n0", "n1"], detached: [], replace: true });
              world.a.post({ kind: "presence", call: 9, attached: [], detached: ["n1"], replace: false });
            } else {
              share = op.op;
              world.peers(share);
            }
          }
          world.a.settle();
          world.connect();
          world.check(share);
          frames += world.frames.length;
        },
      ),
      { numRuns: 40, seed: 4_711 },
    );
    expect(frames).toBeGreaterThan(400);
  }, 60_000);
});
