import { create, type DescField, type DescMessage, type Message } from "@bufbuild/protobuf";
import { pathToString } from "@bufbuild/protobuf/reflect";
import { createValidator } from "@bufbuild/protovalidate";
import { describe, expect, test } from "vitest";
import { NodeSchema } from "#gen/foedus/common/v1/node_pb.ts";
import { Prng } from "#kernel/prng.ts";
import { SERVICES } from "../../test/tidy/schema.ts";
import { brokenRules } from "./field-rules.ts";
import { validateRequest } from "./validation.ts";

const LENGTHS = [0, 0, 1, 1, 5, 16, 31, 32, 33, 63, 64, 127, 128, 255, 256, 512, 1_025, 4_097];

const ENDS = [0, 1.5, Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
const INTEGERS = [0n, 1n, 999n, 2n ** 48n - 1n, 2n ** 48n, 2n ** 53n - 1n, 2n ** 53n, 2n ** 63n - 1n];

/** random makes a message of that type, with lengths around the limits of the schema. */
function random(desc: DescMessage, prng: Prng, depth = 0): Message {
  const init: Record<string, unknown> = {};
  for (const oneof of desc.oneofs) {
    const field = oneof.fields[prng.below(oneof.fields.length + 1)];
    if (field !== undefined && prng.chance(0.8)) init[oneof.localName] = { case: field.localName, value: value(field, prng, depth) };
  }
  for (const field of desc.fields) {
    if (field.oneof !== undefined || prng.chance(0.4)) continue;
    if (field.fieldKind === "list") init[field.localName] = Array.from({ length: count(prng) }, () => value(field, prng, depth));
    else if (field.fieldKind === "map")
      init[field.localName] = Object.fromEntries(Array.from({ length: count(prng) }, (_, i) => [`${text(prng)}${i}`, text(prng)]));
    else init[field.localName] = value(field, prng, depth);
  }
  return create(desc, init as never);
}

function value(field: DescField, prng: Prng, depth: number): unknown {
  if (field.message !== undefined) return depth > 3 ? create(field.message) : random(field.message, prng, depth + 1);
  if (field.enum !== undefined) return prng.below(3);
  switch (field.scalar) {
    case 9:
      return text(prng);
    case 12:
      return new Uint8Array(LENGTHS[prng.below(LENGTHS.length)] as number);
    case 8:
      return prng.chance(0.5);
    case 1:
    case 2:
      return ENDS[prng.below(ENDS.length)];
    case 3:
    case 4:
    case 6:
    case 16:
    case 18:
      return integer(field, prng);
    default:
      return prng.chance(0.5) ? prng.below(10_000_000) : prng.below(5_000);
  }
}

/** integer is one near a bound of the schema that fits the field. */
function integer(field: DescField, prng: Prng): bigint {
  const value = INTEGERS[prng.below(INTEGERS.length)] as bigint;
  return (field.scalar === 3 || field.scalar === 16 || field.scalar === 18) && prng.chance(0.3) ? -value : value;
}

/** Lists are long enough now and then for the small limits; the large ones have a test of their own. */
function count(prng: Prng): number {
  return prng.chance(0.05) ? 70 : prng.below(4);
}

function text(prng: Prng): string {
  const length = LENGTHS[prng.below(LENGTHS.length)] as number;
  const alphabet = prng.chance(0.7) ? "abcXYZ019._:-" : "a é🧀/-\n";
  const letters = [...alphabet];
  return Array.from({ length }, () => letters[prng.below(letters.length)]).join("");
}

describe("rules of fields", () => {
  test("have the verdict of the library that defines them, for every request and answer of ours", () => {
    const validator = createValidator();
    let broken = 0;
    let whole = 0;
    for (const service of SERVICES)
      for (const type of service.methods.flatMap(({ input, output }) => [input, output]))
        for (let seed = 0; seed < 15; seed++) {
          const message = random(type, new Prng(seed * 7_919 + type.name.length));
          const result = validator.validate(type, message);
          if (result.kind === "error") throw result.error;
          const found = brokenRules(type, message);
          const ours = found.map(({ field }) => field);
          // What is in a list that is too long is not looked at.
          const tooLong = found.flatMap(({ field, message: what }) =>
            /^must have at most \d+ (items|entries)$/.test(what) ? [`${field}[`] : [],
          );
          const paths = (result.violations ?? []).map((violation) => pathToString(violation.field));
          const theirs = paths.filter((path) => !tooLong.some((list) => path.startsWith(list)));
          expect([type.typeName, seed, [...new Set(ours)].sort()]).toEqual([type.typeName, seed, [...new Set(theirs)].sort()]);
          if (ours.length > 0) broken++;
          else whole++;
        }
    expect(broken).toBeGreaterThan(100);
    expect(whole).toBeGreaterThan(100);
  });

  test("say what is wrong", () => {
    const node = create(NodeSchema, {
      nodeId: "/",
      name: "x".repeat(256),
      capabilities: [{ name: "power" }, { name: "" }],
      labels: Object.fromEntries(Array.from({ length: 33 }, (_, i) => [`k${i}`, ""])),
    });
    expect(brokenRules(NodeSchema, node).map(({ field, message }) => `${field}: ${message}`)).toEqual([
      "node_id: must have letters, digits and . _ : - only, and begin with a letter or digit, for example lamp-1",
      "name: must have at most 255 bytes",
      "capabilities[1].name: must have at least 1 characters",
      "labels: must have at most 32 entries",
    ]);
  });

  test("S-4 are not looked at further once enough of them are broken", () => {
    const node = create(NodeSchema, { nodeId: "a", capabilities: Array.from({ length: 500 }, () => ({})) });
    expect(brokenRules(NodeSchema, node)).toHaveLength(500);
    let read = 0;
    const get = (of: object, key: string | symbol): unknown => {
      read++;
      return Reflect.get(of, key);
    };
    const counted = node.capabilities.map((capability) => new Proxy(capability, { get }));
    expect(brokenRules(NodeSchema, { ...node, capabilities: counted } as never, undefined, 16)).toHaveLength(16);
    const stopped = read;
    expect(stopped).toBeGreaterThan(0);
    read = 0;
    brokenRules(NodeSchema, { ...node, capabilities: counted } as never);
    expect(stopped).toBeLessThan(read / 20);
  });

  test("S-4 are not looked at inside of a list that is too long, which is what is said", () => {
    const node = create(NodeSchema, { nodeId: "a", capabilities: Array.from({ length: 60_000 }, () => ({})) });
    expect(validateRequest(NodeSchema, node)).toEqual({
      reason: "INVALID_FIELD",
      message: "capabilities: must have at most 512 items",
      field: "capabilities",
    });
  });
});
