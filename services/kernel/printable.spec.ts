import fc from "fast-check";
import { expect, test } from "vitest";
import { HOSTILE } from "../../test/support/hostile-text.ts";
import { printable, printableJson, printableLines, printableOutput } from "./printable.ts";

const hostile = fc.string({
  unit: fc.oneof(fc.constantFrom(...HOSTILE, "\n", "\t"), fc.string({ unit: "binary", minLength: 1, maxLength: 2 })),
});
const COLOUR = new RegExp(`[\n\t]|${String.fromCharCode(0x1b)}\\[\\d{1,3}m`, "g");
const UNSAFE = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}\u3164]/u;

test("S-14 no text from elsewhere leaves a control, a direction or an invisible character", () => {
  fc.assert(
    fc.property(hostile, (text) => {
      expect(printable(text)).not.toMatch(UNSAFE);
      expect(printableLines(text).replaceAll("\n", "")).not.toMatch(UNSAFE);
      expect(printableOutput(text).replace(COLOUR, "")).not.toMatch(UNSAFE);
    }),
  );
});

test("S-14 JSON stays the same value", () => {
  fc.assert(
    fc.property(fc.dictionary(hostile, hostile), (value) => {
      for (const json of [JSON.stringify(value), JSON.stringify(value, undefined, 2)]) {
        expect(printableJson(json).replaceAll("\n", "")).not.toMatch(UNSAFE);
        expect(JSON.parse(printableJson(json))).toEqual(JSON.parse(json));
      }
    }),
  );
});

test("people's text passes as it is", () => {
  for (const text of ["Küche, 居間, кухня, \u05d0\u05d1", "21.5 °C → 22", "😀 e\u0301"]) expect(printable(text)).toBe(text);
  expect(printable("\u001b[2Jboo")).toBe("\\u{1b}[2Jboo");
  expect(printableOutput("\u001b[31mred\u001b[39m\u001b[2J\n")).toBe("\u001b[31mred\u001b[39m\\u{1b}[2J\n");
});
