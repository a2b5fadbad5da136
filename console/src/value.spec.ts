import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { parsed, rangeText } from "./value.ts";

const of = (type: string, more: object = {}) => ({ name: "x", type: `VALUE_TYPE_${type}`, invocable: true, ...more });

describe("what is typed for a capability", () => {
  test.each([
    [of("BOOL"), "true", { value: { boolValue: true } }],
    [of("BOOL"), "yes", { problem: "must be true or false" }],
    [of("SINT64"), "9223372036854775807", { value: { intValue: "9223372036854775807" } }],
    [of("SINT64"), "-9223372036854775808", { value: { intValue: "-9223372036854775808" } }],
    [of("SINT64"), "9223372036854775808", { problem: "does not fit into 64 bits" }],
    [of("SINT64"), "1.5", { problem: "must be a whole number" }],
    [of("SINT64"), "", { problem: "must be a whole number" }],
    [of("SINT64", { max: 10 }), "11", { problem: "must be at most 10" }],
    [of("DOUBLE", { min: 0, max: 254 }), "12.5", { value: { doubleValue: 12.5 } }],
    [of("DOUBLE", { min: 0 }), "-1", { problem: "must be at least 0" }],
    [of("DOUBLE"), "NaN", { problem: "must be a number" }],
    [of("DOUBLE"), "1e999", { problem: "must be a number" }],
    [of("DOUBLE"), "", { problem: "must be a number" }],
    // A bound that is no number bounds nothing: the hub decides.
    [of("DOUBLE", { min: "NaN", max: "Infinity" }), "5", { value: { doubleValue: 5 } }],
    [of("STRING", { allowed: ["ON", "OFF"] }), "ON", { value: { stringValue: "ON" } }],
    [of("STRING", { allowed: ["ON", "OFF"] }), "on", { problem: "must be one of the allowed values" }],
    [of("STRING"), "", { value: { stringValue: "" } }],
    [of("STRING"), "ä".repeat(2_049), { problem: "must have at most 4096 bytes" }],
    [of("JSON"), '{"a": 1}', { value: { jsonValue: '{"a": 1}' } }],
    [of("JSON"), "{a: 1}", { problem: "must be JSON" }],
    [of("BYTES"), "00 ff:10", { value: { bytesValue: "AP8Q" } }],
    [of("BYTES"), "0", { problem: "must be bytes in hexadecimal, two digits each" }],
    [of("UNSPECIFIED"), "whatever", { value: undefined }],
  ])("%o takes %j", (capability, text, result) => expect(parsed(capability, text)).toEqual(result));

  test("whatever is typed is a value or a problem, and a number is within its range", () => {
    const types = fc.constantFrom("BOOL", "SINT64", "DOUBLE", "STRING", "BYTES", "JSON", "OTHER");
    fc.assert(
      fc.property(types, fc.oneof(fc.string(), fc.double().map(String), fc.bigInt().map(String)), (type, text) => {
        const result = parsed(of(type, { min: -100, max: 100 }), text);
        if ("problem" in result) {
          expect(result.problem).toMatch(/^(?:must|does)/);
          return;
        }
        const number = Number(result.value?.doubleValue ?? result.value?.intValue ?? 0);
        expect(Math.abs(number)).toBeLessThanOrEqual(100);
      }),
    );
  });

  test.each([
    [of("DOUBLE", { min: 0, max: 254 }), "0 to 254"],
    [of("DOUBLE", { min: 5, unit: "°C", step: 0.5 }), "at least 5, in steps of 0.5 °C"],
    [of("DOUBLE", { max: 5 }), "at most 5"],
    [of("STRING", { allowed: ["a"] }), ""],
  ])("%o is described", (capability, text) => expect(rangeText(capability)).toBe(text));
});
