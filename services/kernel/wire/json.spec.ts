import { describe, expect, test } from "vitest";
import { LIMITS } from "../bounds/limits.ts";
import { Prng } from "../prng.ts";
import { isJson } from "./json.ts";

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

/** parses is what JSON.parse says. */
function parses(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

const SOUND = [
  '{"a":[1,null],"b":{"c":"d\\u00e9\\n"},"":[]}',
  " [ true , false , { } , [ ] , -0.5e+10 , 0 , 1E9 ] ",
  '"Küche \u{1f600} \\ud800 \\"quoted\\" \u007f"',
  "-12.75",
  '{"k":{"k":{"k":[[[{"k":0}]]]}}}',
  "\t\r\n null \n",
];
const BROKEN = [
  ...["", " ", "{", "}", "[", "]", "[1,]", "[,1]", '{"a"}', '{"a":}', '{"a":1,}', "{a:1}", "{'a':1}", "01", "-", "-01", "1.", ".5", "+1"],
  ...[
    "1e",
    "1e+",
    "0x1",
    "NaN",
    "Infinity",
    "nul",
    "truee",
    "tru",
    '"',
    '"\\x"',
    '"\\u12g4"',
    '"\\u12',
    '"\n"',
    '"\u0000"',
    "1 2",
    "[1 2]",
  ],
  ...["[}", "{]", '{"a":1]', "[1}", "\ufeff1", "\u00a01", "\v1", "1,", "//1", '"a" "b"', '{"a" 1}', "[[[[", "]]]]", "undefined"],
];

describe("JSON in bytes", () => {
  test("is what JSON.parse takes", () => {
    for (const text of SOUND) expect([text, isJson(bytes(text))]).toEqual([text, true]);
    for (const text of BROKEN) expect([text, isJson(bytes(text)), parses(text)]).toEqual([text, false, false]);
  });

  test("is what JSON.parse takes, for texts with a few bytes changed", () => {
    const prng = new Prng(4);
    const parts = bytes('{}[]",:\\u0e+-. \n1a9tfnlbr/');
    let sound = 0;
    for (let run = 0; run < 60_000; run++) {
      const text = [...bytes(SOUND[run % SOUND.length] as string)];
      for (let changes = 1 + prng.below(3); changes > 0; changes--) {
        const at = prng.below(text.length + 1);
        const byte = parts[prng.below(parts.length)] as number;
        const kind = prng.below(3);
        text.splice(at, kind === 0 ? 0 : 1, ...(kind === 1 ? [] : [byte]));
      }
      const changed = Uint8Array.from(text);
      let utf16: string;
      try {
        utf16 = decoder.decode(changed);
      } catch {
        continue;
      }
      const expected = parses(utf16);
      if (expected) sound++;
      if (isJson(changed) !== expected) expect([utf16, isJson(changed)]).toEqual([utf16, expected]);
    }
    expect(sound).toBeGreaterThan(1_000);
  });

  test("ends where its value ends, whatever comes after it", () => {
    const prng = new Prng(5);
    const all = [...SOUND, ...BROKEN];
    for (let run = 0; run < 20_000; run++) {
      const texts = Array.from({ length: 3 }, () => all[prng.below(all.length)] as string).map((text) =>
        prng.below(2) === 0 ? text : text.slice(0, prng.below(text.length + 1)),
      );
      const [before, text, after] = texts as [string, string, string];
      const from = bytes(before).length;
      const found = isJson(bytes(before + text + after), from, from + bytes(text).length);
      // A cut through a pair of surrogates is no text at all.
      if (text.isWellFormed() && found !== parses(text)) expect([texts, found]).toEqual([texts, parses(text)]);
    }
  });

  test("may be as deep as it is long", () => {
    const depth = LIMITS.jsonBytes / 2;
    expect(isJson(bytes("[".repeat(depth) + "]".repeat(depth)))).toBe(true);
    expect(isJson(bytes("[".repeat(2 * depth)))).toBe(false);
    expect(isJson(bytes("[".repeat(3 * depth) + "]".repeat(3 * depth)))).toBe(false);
  });
});
