import { describe, expect, test } from "vitest";
import { checkBytes, isNaNWords, onStep, VALUE_TYPE } from "./value.ts";

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

describe("values", () => {
  test("F-20 a text is UTF-8 and JSON is JSON, by whichever door it comes", () => {
    const latin1 = Uint8Array.of(0x4b, 0xfc, 0x63, 0x68, 0x65);
    expect(checkBytes(VALUE_TYPE.STRING, latin1)).toBe("NOT_UTF8");
    expect(checkBytes(VALUE_TYPE.JSON, latin1)).toBe("NOT_UTF8");
    expect(checkBytes(VALUE_TYPE.BYTES, latin1)).toBeUndefined();
    expect(checkBytes(VALUE_TYPE.JSON, bytes("{nope"))).toBe("NOT_JSON");
    expect(checkBytes(VALUE_TYPE.JSON, bytes(""))).toBe("NOT_JSON");
    expect(checkBytes(VALUE_TYPE.JSON, bytes('{"a":[1,null]}'))).toBeUndefined();
    expect(checkBytes(VALUE_TYPE.STRING, bytes("Küche"))).toBeUndefined();
    expect(checkBytes(VALUE_TYPE.STRING, Uint8Array.of(0xed, 0xa0, 0x80))).toBe("NOT_UTF8");
    expect(checkBytes(VALUE_TYPE.STRING, new Uint8Array(4_097))).toBe("TOO_LONG");
    expect(checkBytes(VALUE_TYPE.STRING, bytes("é".repeat(2_049)))).toBe("TOO_LONG");
    expect(checkBytes(VALUE_TYPE.JSON, bytes("[".repeat(8_000) + "]".repeat(8_000)))).toBeUndefined();
  });

  test("F-26 a number is on its step as far as doubles can say, large numbers too", () => {
    for (const ms of [0, 1, 999, 1_700_000_000_123, 253_402_300_799_999]) expect([ms, onStep(ms / 1_000, 0.001, 0)]).toEqual([ms, true]);
    for (let tenth = -300; tenth <= 700; tenth++) expect(onStep(tenth / 10, 0.1, -30)).toBe(true);
    for (let i = 0; i <= 5_000; i++) expect(onStep(0.1 + i * 0.000001, 0.000001, 0.1)).toBe(true);
    expect(onStep(21.55, 0.1, 0)).toBe(false);
    expect(onStep(0.5, 1, 0)).toBe(false);
    expect(onStep(1_000_000.5, 1, 0)).toBe(false);
    expect(onStep(1.7e9 + 0.0005, 0.001, 0)).toBe(false);
    expect(onStep(Number.POSITIVE_INFINITY, 0.1, 0)).toBe(false);
    expect(onStep(1e300, 1e-300, 0)).toBe(true);
  });

  test("words are judged as the double that they are", () => {
    const words = new Uint32Array(2);
    const double = new Float64Array(words.buffer);
    for (const value of [0, -0, 1, Number.NaN, -Number.NaN, Infinity, -Infinity, Number.MAX_VALUE, Number.MIN_VALUE]) {
      double[0] = value;
      expect([value, isNaNWords(words[0] as number, words[1] as number)]).toEqual([value, Number.isNaN(value)]);
    }
    expect(isNaNWords(1, 0x7ff0_0000)).toBe(true);
    expect(isNaNWords(0, 0x7ff0_0001)).toBe(true);
  });
});
