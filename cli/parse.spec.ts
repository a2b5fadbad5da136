import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ValueType } from "#gen/foedus/common/v1/value_pb.ts";
import { CliError } from "./exit.ts";
import { parseCount, parseDuration, parseFederation, parseHub, parseLabel, parseNode, parseValue, parseValueKey } from "./parse.ts";

function refused(work: () => unknown): number {
  try {
    work();
  } catch (error) {
    if (error instanceof CliError) return error.exitCode;
    throw error;
  }
  throw new Error("it should have been refused");
}

describe("parse", () => {
  test("durations", () => {
    expect([parseDuration("500ms"), parseDuration("10"), parseDuration("1.5 s"), parseDuration("2m"), parseDuration("7d")]).toEqual([
      500, 10_000, 1_500, 120_000, 604_800_000,
    ]);
    for (const text of ["", "0", "-1s", "5 weeks", "1e3", "s"])
      expect(
        refused(() => parseDuration(text)),
        text,
      ).toBe(2);
  });

  test("names, labels and counts", () => {
    expect(parseNode("home/lamp:1")).toEqual({ hubId: "home", nodeId: "lamp:1" });
    expect(parseNode("lamp")).toEqual({ hubId: "", nodeId: "lamp" });
    expect(parseLabel("a=b=c", { x: "y" })).toEqual({ x: "y", a: "b=c" });
    for (const text of ["", "a/b/c", "Home/lamp", "la mp"])
      expect(
        refused(() => parseNode(text)),
        text,
      ).toBe(2);
    expect([refused(() => parseLabel("=x")), refused(() => parseCount("1.5")), refused(() => parseHub("a.b"))]).toEqual([2, 2, 2]);
  });

  test("values by type", () => {
    const parse = (text: string, type: ValueType) => parseValue(text, type, "it").kind.value;
    expect([parse("ON", ValueType.BOOL), parse("no", ValueType.BOOL)]).toEqual([true, false]);
    expect([parse("+7", ValueType.SINT64), parse("-9223372036854775808", ValueType.SINT64)]).toEqual([7n, -(2n ** 63n)]);
    expect([parse("2.5e3", ValueType.DOUBLE), parse("-Infinity", ValueType.DOUBLE)]).toEqual([2_500, Number.NEGATIVE_INFINITY]);
    expect([parse("0xff00", ValueType.BYTES), parse("AQI=", ValueType.BYTES)]).toEqual([Uint8Array.of(255, 0), Uint8Array.of(1, 2)]);
    expect([parse('{"a":[1]}', ValueType.JSON), parse("", ValueType.STRING)]).toEqual(['{"a":[1]}', ""]);
  });

  test("values of another type are refused as usage, with what would be right", () => {
    const wrong: [string, ValueType][] = [
      ["maybe", ValueType.BOOL],
      ["1.5", ValueType.SINT64],
      ["9223372036854775808", ValueType.SINT64],
      ["NaN", ValueType.DOUBLE],
      ["", ValueType.DOUBLE],
      ["0xf", ValueType.BYTES],
      ["{", ValueType.JSON],
      ["x", ValueType.UNSPECIFIED],
    ];
    for (const [text, type] of wrong)
      expect(
        refused(() => parseValue(text, type, "it")),
        text,
      ).toBe(2);
  });

  test("every 64-bit integer survives, every other whole number is refused", () => {
    fc.assert(
      fc.property(fc.bigInt({ min: -(2n ** 64n), max: 2n ** 64n }), (n) => {
        const fits = n >= -(2n ** 63n) && n < 2n ** 63n;
        if (fits) expect(parseValue(String(n), ValueType.SINT64, "it").kind.value).toBe(n);
        else expect(refused(() => parseValue(String(n), ValueType.SINT64, "it"))).toBe(2);
      }),
    );
  });
});

test("ids and keys that are none are answered with what is allowed, and an example", () => {
  expect([parseFederation("street-7"), parseValueKey("street/speed-limit")]).toEqual(["street-7", "street/speed-limit"]);
  expect(() => parseFederation("Street!")).toThrow(
    expect.objectContaining({
      message: '"Street!" is not the id of a federation',
      remedy: "An id is 1 to 63 of a-z, 0-9 and hyphens, for example street.",
    }),
  );
  expect(() => parseValueKey("bad key")).toThrow(
    expect.objectContaining({
      message: '"bad key" is not the key of a value',
      remedy: "A key has letters, digits and . _ / : - only, and begins with a letter or digit, for example street/speed-limit.",
    }),
  );
});
