import { create } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import { TrustLevelSchema } from "#gen/foedus/common/v1/access_pb.ts";
import { ValueSchema } from "#gen/foedus/common/v1/value_pb.ts";
import { LinkState, LinkStateSchema } from "#gen/foedus/discovery/v1alpha1/peer_pb.ts";
import { ago, bytes, clean, count, duration, enumLabels, enumValue, label, since, valueText } from "./format.ts";

describe("format", () => {
  test("an age that is the largest number is never", () => {
    expect([ago(BigInt(Number.MAX_SAFE_INTEGER)), ago(3_000)]).toEqual(["never", "3 s ago"]);
  });

  test.each([
    [0, "0 ms"],
    [0.27, "0.3 ms"],
    [999, "999 ms"],
    [59_999, "59 s"],
    [60_000, "1 min"],
    [7_200_000n, "2 h"],
    [200_000_000, "2 d"],
    [-5_000, "-5 s"],
  ])("duration of %s ms is %s", (ms, text) => {
    expect(duration(ms)).toBe(text);
  });

  test("ages and instants are relative", () => {
    expect([ago(0), ago(3_400), since(1_000, 64_000), since(1_000_000n, 0)]).toEqual(["now", "3 s ago", "1 min ago", "in 16 min"]);
  });

  test("sizes and counts", () => {
    expect([bytes(0), bytes(1_023), bytes(1_536n), bytes(5_000_000), count(1, "node"), count(2_500n, "node")]).toEqual([
      "0 B",
      "1023 B",
      "1.5 KiB",
      "4.8 MiB",
      "1 node",
      "2,500 nodes",
    ]);
  });

  test("enum values have short names, both ways; unknown numbers are shown", () => {
    expect(label(LinkStateSchema, LinkState.OPERATIONAL)).toBe("operational");
    expect(label(LinkStateSchema, 99)).toBe("99");
    expect(enumValue(LinkStateSchema, "OPERATIONAL")).toBe(LinkState.OPERATIONAL);
    expect(enumValue(LinkStateSchema, "unspecified")).toBeUndefined();
    expect(enumLabels(TrustLevelSchema)).toEqual(["minimal", "limited", "full"]);
  });

  test("clean shows what would rewrite the screen", () => {
    expect(clean("a\u001b]0;x\u0007 b\u202e c\nd é 灯")).toBe("a\\u{1b}]0;x\\u{7} b\\u{202e} c d é 灯");
  });

  test("values of every type, with unit; none is a dash", () => {
    const text = (kind: Parameters<typeof create<typeof ValueSchema>>[1] extends infer I ? NonNullable<I> : never) =>
      valueText(create(ValueSchema, kind), "°C");
    expect(text({ kind: { case: "boolValue", value: false } })).toBe("false °C");
    expect(text({ kind: { case: "intValue", value: -3n } })).toBe("-3 °C");
    expect(text({ kind: { case: "bytesValue", value: Uint8Array.of(1, 255) } })).toBe("0x01ff °C");
    expect(valueText(undefined, "°C")).toBe("-");
    expect(valueText(create(ValueSchema, { kind: { case: "stringValue", value: "x".repeat(300) } }))).toHaveLength(201);
  });
});
