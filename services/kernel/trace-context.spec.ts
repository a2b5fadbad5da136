import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { formatParent, parseTrace } from "./trace-context.ts";

const TRACE = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN = "00f067aa0ba902b7";

describe("W3C trace context", () => {
  test.each([
    [`00-${TRACE}-${SPAN}-01`, true],
    [`00-${TRACE}-${SPAN}-00`, false],
    [`00-${TRACE}-${SPAN}-ff`, true],
    [`00-${TRACE}-${SPAN}-02`, false],
    // A later version, as long as version 00 and longer.
    [`cc-${TRACE}-${SPAN}-01`, true],
    [`cc-${TRACE}-${SPAN}-01-what-the-future-will-be-like`, true],
  ])("%s is read", (text, sampled) => {
    expect(parseTrace(text)).toEqual({ traceId: TRACE, spanId: SPAN, sampled, state: "" });
  });

  test.each([
    "",
    "garbage",
    `00-${TRACE}-${SPAN}`,
    `00-${TRACE}-${SPAN}-1`,
    `00-${TRACE}-${SPAN}-01-`,
    `00-${TRACE}-${SPAN}-01-more`,
    `00-${TRACE}-${SPAN}-01 `,
    ` 00-${TRACE}-${SPAN}-01`,
    `cc-${TRACE}-${SPAN}-01.more`,
    `ff-${TRACE}-${SPAN}-01`,
    `00-${TRACE.toUpperCase()}-${SPAN}-01`,
    `00-${"0".repeat(32)}-${SPAN}-01`,
    `00-${TRACE}-${"0".repeat(16)}-01`,
    `00-${TRACE.slice(1)}-${SPAN}-01`,
    `cc-${TRACE}-${SPAN}-01-${"x".repeat(300)}`,
  ])("%j is malformed, and as if there were none", (text) => {
    expect(parseTrace(text, "a=1")).toBeUndefined();
  });

  test("what is read is written again", () => {
    const digits = (n: number) => fc.stringMatching(new RegExp(`^[0-9a-f]{${n}}$`)).filter((text) => /[1-9a-f]/.test(text));
    fc.assert(
      fc.property(digits(32), digits(16), fc.boolean(), (traceId, spanId, sampled) => {
        const text = `00-${traceId}-${spanId}-${sampled ? "01" : "00"}`;
        const trace = parseTrace(text);
        expect(trace && formatParent(trace)).toBe(text);
      }),
    );
  });

  test("no text does anything but give a context or none", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary", maxLength: 80 }), fc.string({ unit: "binary", maxLength: 600 }), (parent, state) => {
        expect(parseTrace(parent, state)).toBeUndefined();
        expect(parseTrace(`00-${TRACE}-${SPAN}-01`, state)?.traceId).toBe(TRACE);
      }),
    );
  });

  test.each([
    ["rojo=00f067aa0ba902b7", "rojo=00f067aa0ba902b7"],
    ["rojo=1,congo=t61rcWkgMzE", "rojo=1,congo=t61rcWkgMzE"],
    ["rojo=1 , , fw529a3039@dt=x", "rojo=1,fw529a3039@dt=x"],
    ["Rojo=1", ""],
    ["rojo", ""],
    ["rojo=é", ""],
    [Array.from({ length: 33 }, (_, i) => `k${i}=1`).join(","), ""],
    [`a=${"x".repeat(256)},b=${"x".repeat(255)}`, ""],
  ])("tracestate %j is handed on as %j", (given, want) => {
    expect(parseTrace(`00-${TRACE}-${SPAN}-01`, given)?.state).toBe(want);
  });
});
