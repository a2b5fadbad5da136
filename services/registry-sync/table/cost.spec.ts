import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { create, toBinary } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import { CapabilitySchema, NodeSchema } from "#gen/foedus/common/v1/node_pb.ts";
import { copyOf } from "#kernel/wire/bytes.ts";
import { segmentCodec } from "../codec/segment-codec.ts";
import { partOf } from "./cost.ts";
import { FeedTable } from "./table.ts";

setFlagsFromString("--expose-gc");
const MIB = 1024 * 1024;
const collect = runInNewContext("gc") as () => void;

/** Tables of tests before: what goes with them meanwhile would be taken for less of the next. */
const kept: FeedTable[] = [];

function used(): number {
  collect();
  collect();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

/** texts are so many capabilities; `more` makes them differ from node to node. */
function texts(count: number, name: (k: number) => string, more: object = {}) {
  return Array.from({ length: count }, (_, k) => create(CapabilitySchema, { name: name(k), type: 4, readable: true, ...more }));
}

/** Shapes of nodes that take much more in memory than on the wire. */
const SHAPES: Record<string, (i: number) => Parameters<typeof create<typeof NodeSchema>>[1]> = {
  "nothing but an id": () => ({}),
  "capabilities that are all the same": () => ({ capabilities: texts(512, (k) => k.toString(36)) }),
  "capabilities of names that differ": (i) => ({ capabilities: texts(64, (k) => `${i}-${k}`.padEnd(100, "x")) }),
  "many short texts in lists": (i) => ({
    capabilities: texts(500, (k) => `k${k}`, { allowed: [`a${i}`, "b", "c", "d", "e", "f", "", ""] }),
  }),
  "capabilities without state": (i) => ({
    capabilities: Array.from({ length: 512 }, (_, k) => create(CapabilitySchema, { name: `${i}.${k}`, invocable: true })),
  }),
  "many labels": (i) => ({ labels: Object.fromEntries(Array.from({ length: 200 }, (_, k) => [`${i}.${k}`, ""])) }),
  "a long name outside of Latin-1": (i) => ({ name: `${i}\u4e00${"x".repeat(20_000)}` }),
};

describe("A2 what is charged for nodes and values is what they take in memory", () => {
  test.each(Object.entries(SHAPES))("%s", (_, shape) => {
    const table = new FeedTable();
    // What is made once for all nodes of a process, such as tables of the decoder, is none of it.
    const first = new FeedTable();
    fill(first, shape, 3);
    kept.push(first, table);
    const before = used();
    const nodes = fill(table, shape, 100);
    const taken = used() - before;
    expect(table.size).toBe(nodes);
    // What the other copy takes is charged too: the factor is between one and two for the table alone.
    expect(table.memory).toBeGreaterThan(taken);
    for (const entry of table.entries())
      for (const kref of entry.krefs) table.slots.setText(table.slots.find(entry.ref, kref), new Uint8Array(1), 0, 1);
    expect(table.memory).toBeGreaterThan(used() - before);
    expect(table.memory).toBeLessThan(8 * (used() - before) + MIB);
  });

  test("nothing is charged any more when all is gone, except for the definitions of keys", () => {
    const table = new FeedTable();
    fill(table, SHAPES["many short texts in lists"]!, 3);
    for (const entry of [...table.entries()]) {
      for (const kref of entry.krefs) table.slots.setText(table.slots.find(entry.ref, kref), new Uint8Array(9), 0, 9);
      table.remove(entry.ref, 0);
    }
    expect([table.bytes, table.takeRemovals(), table.memory > 0]).toEqual([0, 3, true]);
  });
});

function fill(table: FeedTable, shape: (i: number) => Parameters<typeof create<typeof NodeSchema>>[1], count: number): number {
  for (let i = 1; i <= count; i++) {
    const bytes = copyOf(toBinary(NodeSchema, create(NodeSchema, { nodeId: `node-${i}`, type: "lamp", ...shape(i) })));
    const info = segmentCodec.readNode(bytes)!;
    for (const { name, type } of info.capabilities)
      if (type !== 0 && table.kref(name, type) === undefined) table.defineKey(table.nextKref, name, type);
    table.put(i, bytes, info, true);
  }
  return count;
}

describe("A2 the part of one holder", () => {
  test("is most of what is free, an eighth while others have much, and never what is not there", () => {
    const cases = [
      [0, 750],
      [100, 650],
      [625, 125],
      [700, 125],
      [900, 100],
      [1_000, 0],
      [2_000, 0],
    ] as const;
    for (const [others, part] of cases) expect(partOf(1_000, others)).toBe(part);
  });
});
