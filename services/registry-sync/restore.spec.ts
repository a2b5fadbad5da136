import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Node } from "#gen/foedus/common/v1/node_pb.ts";
import { StoredError } from "#kernel/wire/stored-json.ts";
import { ANY_NODE, GATEWAY, Instants, type MemoryDisk, nodeBytes, settleAll, TestHub, TestLink } from "../../test/fakes/registry-hub.ts";
import { recordToProto } from "./codec/answer-codec.ts";
import { segmentCodec } from "./codec/segment-codec.ts";
import type { NodeRecord } from "./messages.ts";
import { VALUE_TYPE } from "./ports.ts";

const OPTIONS = { ringSegments: 3, tailSegments: 1, checkpointSegments: 4, partBytes: 400 };
const NODES = 12;
const clock = new Instants();

/** written is the disk of a hub that has a feed of its own and one of a peer, with checkpoints and tails. */
function written(): MemoryDisk {
  const made = (id: string): TestHub => new TestHub(id, clock, OPTIONS, undefined, { bootId: "0", durability: "process" });
  const [a, b] = [made("alpha"), made("beta")];
  for (const [hub, peer] of [[a, "beta"] as const, [b, "alpha"] as const])
    hub.post({ kind: "peers", peers: [{ hubId: peer, share: "full", level: 3 }], complete: true });
  for (const hub of [a, b]) {
    hub.register(...Array.from({ length: NODES }, (_, i) => nodeBytes(`n${i}`, ["x:double", "t:string", "o:string!"])));
    hub.settle();
    hub.post({ kind: "stream_open", stream: 1, scope: GATEWAY });
    for (let i = 0; i < 20; i++) {
      hub.update(1, i + 1, [{ nodeId: `n${i % NODES}`, key: "t", value: `text ${i}`, type: VALUE_TYPE.STRING }]);
      clock.advance(120);
      hub.settle();
    }
  }
  const link = new TestLink(a, b);
  settleAll([a, b], [link]);
  for (let i = 0; i < 10; i++) {
    a.update(1, 100 + i, [{ nodeId: "n1", key: "x", value: i * 7, type: VALUE_TYPE.DOUBLE }]);
    clock.advance(120);
    settleAll([a, b], [link]);
  }
  return b.disk;
}

interface Value {
  readonly place: { readonly log: string; readonly seq: number } | { readonly space: string; readonly key: string };
  readonly bytes: Uint8Array;
}

function valuesOf(disk: MemoryDisk): Value[] {
  const found: Value[] = [];
  for (const log of disk.logs()) for (const { seq, bytes } of disk.read(log, 0)) found.push({ place: { log, seq }, bytes });
  for (const space of ["meta", "holds", "proofs"])
    for (const { key, bytes } of disk.space(space)) found.push({ place: { space, key }, bytes });
  return found;
}

function replaced(disk: MemoryDisk, { place }: Value, bytes: Uint8Array): MemoryDisk {
  const copy = disk.copy();
  if ("space" in place) copy.apply([{ op: "put", ...place, bytes }]);
  else {
    const all = [...disk.read(place.log, 0)];
    copy.apply([
      { op: "drop", log: place.log },
      ...all.map(({ seq, bytes: old }) => ({ op: "append" as const, log: place.log, seq, bytes: seq === place.seq ? bytes : old })),
    ]);
  }
  return copy;
}

/** begun starts a hub on a disk and lets it work; the nodes that it shows, or why it refused. */
function begun(disk: MemoryDisk): { readonly nodes: readonly string[]; readonly told: boolean } | StoredError {
  let hub: TestHub;
  try {
    hub = new TestHub("beta", clock, OPTIONS, disk, { bootId: "1", durability: "process" });
  } catch (error) {
    if (error instanceof StoredError) return error;
    throw error;
  }
  let turns = 0;
  while (hub.turn()) if (++turns > 300) throw new Error("it spins");
  hub.post({ kind: "stream_open", stream: 7, scope: GATEWAY });
  hub.update(7, 1, [{ nodeId: "n1", key: "x", value: 1, type: VALUE_TYPE.DOUBLE }]);
  clock.advance(120);
  while (hub.turn()) if (++turns > 300) throw new Error("it spins");
  const nodes = hub.ask().map(({ name }) => `${name.hubId}/${name.nodeId}`);
  return { nodes, told: hub.events.some(({ severity }) => severity === "ERROR" || severity === "WARNING") };
}

const whole = written();
const values = valuesOf(whole);
const expected = begun(whole.copy());

const damage = fc.oneof(
  fc.record({ how: fc.constant("flip" as const), at: fc.nat(), by: fc.integer({ min: 1, max: 255 }) }),
  fc.record({ how: fc.constant("cut" as const), at: fc.nat(), by: fc.constant(0) }),
  fc.record({ how: fc.constant("other" as const), at: fc.nat(), by: fc.constant(0) }),
);

function damaged({ bytes }: Value, { how, at, by }: { how: "flip" | "cut" | "other"; at: number; by: number }): Uint8Array {
  if (bytes.length === 0 || how === "other") return (values[at % values.length] as Value).bytes;
  if (how === "cut") return bytes.slice(0, at % bytes.length);
  const changed = bytes.slice();
  changed[at % bytes.length] = (bytes[at % bytes.length] as number) ^ by;
  return changed;
}

describe("what is read back from the store", () => {
  test("A10 a damaged value of any kind ends in one typed error, or does no harm, and never in a spin", () => {
    if (expected instanceof StoredError) throw expected;
    const kinds = new Set(
      values.map(({ place }) => ("space" in place ? `${place.space}/${place.key}` : place.log).split("/").slice(0, 2).join("/")),
    );
    for (const kind of ["ckpt/.own", "ckpt/alpha", "own/full", "import/alpha", "meta/boot", "meta/table", "holds/alpha"])
      expect(kinds).toContain(kind);
    fc.assert(
      fc.property(fc.constantFrom(...values), damage, (value, how) => {
        const bytes = damaged(value, how);
        const seen = begun(replaced(whole, value, bytes));
        if (seen instanceof StoredError) {
          expect(seen.message).toMatch(/^record \S+ .+/);
          return;
        }
        if (!("space" in value.place) || value.place.space !== "meta") return;
        // What is not the same as before was said.
        expect(seen.told || seen.nodes.join() === expected.nodes.join(), `${value.place.key} ${JSON.stringify(how)}`).toBe(true);
        expect(seen.nodes).toEqual(expect.arrayContaining(expected.nodes.filter((name) => name.startsWith("beta/"))));
      }),
      { numRuns: 120 },
    );
  });

  test("A10 every number of the record of the own table, made anything, is refused", () => {
    const value = values.find(({ place }) => "key" in place && place.key === "table/.own") as Value;
    const text = new TextDecoder().decode(value.bytes);
    const without = text.trimEnd();
    for (const source of [text, without])
      for (const match of source.matchAll(/(?<=[:[])\d+/g))
        for (const other of ["9".repeat(18), "-1", "1e308", '"x"', "null"]) {
          const changed = source.slice(0, match.index) + other + source.slice(match.index + match[0].length);
          const seen = begun(replaced(whole, value, new TextEncoder().encode(changed)));
          expect(seen, changed).toBeInstanceOf(StoredError);
        }
  });
});

test("a node with hundreds of unknown fields that a version before has stored is restored, shown, and taken by peers", () => {
  const unknown = Uint8Array.from({ length: 1_200 }, (_, i) => (i % 2 === 0 ? 0x7a : 0));
  const node = Uint8Array.of(...nodeBytes("n", ["x:double"]), ...unknown);
  const before = { ...segmentCodec, readNode: (bytes: Uint8Array) => segmentCodec.readNode(bytes.subarray(0, node.length - 1_200)) };
  for (const how of ["log", "checkpoint"]) {
    const made = (id: string): TestHub =>
      new TestHub(id, clock, { ...OPTIONS, checkpointSegments: how === "log" ? 1_000 : 1, codec: before });
    const old = made("alpha");
    old.register(node);
    old.settle();
    const a = old.crash({ codec: segmentCodec });
    const b = new TestHub("beta", clock, OPTIONS);
    for (const [hub, peer] of [[a, "beta"] as const, [b, "alpha"] as const])
      hub.post({ kind: "peers", peers: [{ hubId: peer, share: "full", level: 3 }], complete: true });
    b.post({
      kind: "watch_open",
      watch: 1,
      options: { encoding: "events", filter: ANY_NODE, resume: [], nodesOnly: false, latestOnly: false },
    });
    settleAll([a, b], [new TestLink(a, b)]);
    for (const hub of [a, b, a.crash(), b.crash()]) {
      const [record] = hub.ask({ capability: "x" });
      expect(record?.node, how).toEqual(node);
      const shown = recordToProto(record as NodeRecord).node as Node;
      expect(shown, how).toMatchObject({ nodeId: "n", capabilities: [{ name: "x" }] });
      expect(shown.$unknown, how).toBeUndefined();
    }
    const events = (b.pushes.get(1) ?? []).flatMap((push) => (push.kind === "events" ? push.events : []));
    expect(events.find(({ change }) => change.kind === "put")?.name, how).toEqual({ hubId: "alpha", nodeId: "n" });
  }
});
