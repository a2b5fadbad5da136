import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { expect, test } from "vitest";
import { NodeSchema } from "#gen/foedus/common/v1/node_pb.ts";
import { decodeNode, hasCapability, readNode } from "./node-codec.ts";

type Init = Exclude<MessageInitShape<typeof NodeSchema>, { readonly $typeName: string }>;

/** generated is what the generated code makes of the bytes. */
function generated(bytes: Uint8Array): unknown {
  try {
    const { nodeId, kind, type, name, labels, capabilities } = fromBinary(NodeSchema, bytes);
    const infos = capabilities.map((c) => ({ name: c.name, type: c.type > 6 ? 0 : c.type, readable: c.readable, invocable: c.invocable }));
    return { nodeId, kind, type, name, labels: { ...labels }, capabilities: infos };
  } catch {
    return undefined;
  }
}

function read(bytes: Uint8Array): unknown {
  const info = readNode(bytes);
  return info === undefined ? undefined : { ...info, labels: { ...info.labels } };
}

const text = fc.oneof(
  fc.string({ maxLength: 12 }),
  fc.string({ unit: "binary", maxLength: 6 }),
  fc.constantFrom("power", "\uFEFFmark", "ä🧀"),
);
const capability = fc.record(
  {
    name: text,
    type: fc.nat(9),
    unit: text,
    readable: fc.boolean(),
    invocable: fc.boolean(),
    idempotent: fc.boolean(),
    min: fc.double({ noNaN: true }),
    max: fc.double({ noNaN: true }),
    step: fc.double({ noNaN: true }),
    allowed: fc.array(text, { maxLength: 3 }),
    description: fc.string({ maxLength: 200 }),
    schema: text,
  },
  { requiredKeys: [] },
);
const node = fc.record(
  {
    nodeId: text,
    kind: fc.constantFrom(0, 1, 2, 3, 200),
    type: text,
    name: text,
    vendor: text,
    description: fc.string({ maxLength: 300 }),
    capabilities: fc.array(capability, { maxLength: 5 }),
    labels: fc.oneof({ weight: 4, arbitrary: fc.constant({}) }, { weight: 1, arbitrary: fc.dictionary(fc.string(), text) }),
    agent: fc.option(fc.record({ version: text, models: fc.array(text) }), { nil: undefined, freq: 4 }),
  },
  { requiredKeys: ["nodeId"] },
);
const encoded = node.map((init) => toBinary(NodeSchema, create(NodeSchema, init as Init)));

test("a node is read as the generated code reads it", () => {
  fc.assert(
    fc.property(encoded, (bytes) => {
      expect(read(bytes)).toEqual(generated(bytes));
    }),
    { numRuns: 500 },
  );
});

test("and so are bytes that are cut, changed, joined or noise", () => {
  let whole = 0;
  const damaged = fc.oneof(
    fc.tuple(encoded, fc.nat()).map(([bytes, at]) => bytes.subarray(0, at % (bytes.length + 1))),
    fc.tuple(encoded, fc.nat(), fc.nat(255)).map(([bytes, at, value]) => {
      const changed = bytes.slice();
      if (changed.length > 0) changed[at % changed.length] = value;
      return changed;
    }),
    fc.tuple(encoded, encoded).map(([a, b]) => Uint8Array.of(...a, ...b)),
    fc.uint8Array({ maxLength: 60 }),
  );
  fc.assert(
    fc.property(damaged, (bytes) => {
      const info = generated(bytes);
      if (info !== undefined) whole++;
      expect(read(bytes)).toEqual(info);
    }),
    { numRuns: 3_000 },
  );
  expect(whole).toBeGreaterThan(300);
});

test("a node of what takes a hundred times its bytes is refused before it is decoded; the densest valid ones are read", () => {
  const id = [0x0a, 1, 0x61];
  const times = (count: number, unit: readonly number[]) =>
    Uint8Array.from({ length: count * unit.length }, (_, i) => unit[i % unit.length] as number);
  const long = (tag: number, body: Uint8Array) => [tag, (body.length & 127) | 128, ((body.length >> 7) & 127) | 128, body.length >> 14];
  const join = (...parts: Iterable<number>[]) => Uint8Array.from(parts.flatMap((part) => [...part]));
  const skills = times(95_000, [0x32, 0]);
  expect(read(join(id, long(0x4a, skills), skills)), "empty skills").toBeUndefined();
  const [many, few] = [95_000, 90].map((count) => join(id, times(count, [0x7a, 0]))) as [Uint8Array, Uint8Array];
  expect(read(many), "unknown fields are skipped").toMatchObject({ nodeId: "a" });
  expect(decodeNode(many).$unknown, "and left out where a node is decoded").toBeUndefined();
  expect(decodeNode(few).$unknown, "a few of a later version").toHaveLength(90);

  const capabilities = Array.from({ length: 512 }, (_, i) => ({ name: i.toString(36) }));
  const skill = { id: "s", tags: Array(32).fill(""), inputModes: Array(32).fill(""), outputModes: Array(32).fill("") };
  const agent = { models: Array(64).fill(""), skills: Array(64).fill(skill) };
  const labels = Object.fromEntries(Array.from({ length: 32 }, (_, i) => [i.toString(36), ""]));
  const valid = { nodeId: "a", labels, agent };
  const allowed = (from: number) => (from < 22 ? Array(4_096).fill("") : []);
  for (const more of [capabilities, capabilities.map((each, i) => ({ ...each, allowed: allowed(i) }))])
    expect(read(toBinary(NodeSchema, create(NodeSchema, { ...valid, capabilities: more })))).toMatchObject({ nodeId: "a" });
});

test("nodes of one kind share what is said of their capabilities", () => {
  const bytes = (nodeId: string) =>
    toBinary(NodeSchema, create(NodeSchema, { nodeId, capabilities: [{ name: "power", type: 3, readable: true }] }));
  expect(readNode(bytes("a"))?.capabilities[0]).toBe(readNode(bytes("b"))?.capabilities[0]);
});

test("a node is asked for a capability as if it were read, whatever the bytes", () => {
  const names = fc.constantFrom("power", "a", "ä🧀", "type");
  let both = 0;
  fc.assert(
    fc.property(encoded, names, (bytes, name) => {
      const has = readNode(bytes)?.capabilities.some((capability) => capability.name === name) === true;
      if (has) both++;
      expect(hasCapability(bytes, name)).toBe(has);
    }),
    { numRuns: 500 },
  );
  expect(both).toBeGreaterThan(0);
  const own = toBinary(NodeSchema, create(NodeSchema, { nodeId: "a", capabilities: [{ name: "watts" }, { name: "volts", unit: "watt" }] }));
  expect(["watts", "volts", "watt", "volt"].map((name) => hasCapability(own, name))).toEqual([true, true, false, false]);
  // A place, and what is written there: anything, what stands elsewhere, or the same field with another wire type.
  const change = fc.tuple(fc.nat(), fc.nat(), fc.constantFrom("any", "copy", "copy", "type", "type"));
  const damaged = fc.tuple(encoded, fc.array(change, { maxLength: 4 })).map(([bytes, changes]) => {
    const changed = Uint8Array.of(...own, ...bytes);
    for (const [at, value, how] of changes) {
      const place = at % changed.length;
      if (how === "copy") changed[place] = changed[value % changed.length] as number;
      else changed[place] = how === "any" ? value : (changed[place] as number) ^ (value & 7);
    }
    return changed;
  });
  let read = 0;
  fc.assert(
    fc.property(damaged, fc.constantFrom("watts", "volts", "watt", "power", "a"), (bytes, name) => {
      const info = readNode(bytes);
      const has = hasCapability(bytes, name);
      if (info === undefined) return;
      read++;
      expect(has).toBe(info.capabilities.some((capability) => capability.name === name));
    }),
    { numRuns: 4_000 },
  );
  expect(read).toBeGreaterThan(500);
});

test.each<[string, number[]]>([
  ["its capability has the wire type of a number", [0x38, 3, 0x0a, 1, 0x70]],
  ["its name has the wire type of a number", [0x3a, 3, 0x08, 1, 0x70]],
  ["its tags take two bytes", [0xba, 0, 4, 0x8a, 0, 1, 0x70]],
  ["an unknown number before it does not end for long", [0xf8, 0x3f, ...Array<number>(12).fill(0x80), 0, 0x3a, 3, 0x0a, 1, 0x70]],
  ["a label ends beyond its entry", [0x42, 2, 0x0a, 3, 0x61, 0x62, 0x63, 0x3a, 3, 0x0a, 1, 0x70]],
  ["a text of its agent ends beyond that", [0x4a, 2, 0x0a, 3, 0x3a, 1, 0x63, 0x3a, 3, 0x0a, 1, 0x70]],
])("a node has the capability that decoding finds in it: %s", (_, bytes) => {
  const node = Uint8Array.from([0x0a, 1, 0x61, ...bytes]);
  expect(generated(node)).toMatchObject({ capabilities: [{ name: "p" }] });
  expect(hasCapability(node, "p")).toBe(true);
});
