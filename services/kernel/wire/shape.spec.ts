import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { bytes, choice, decode, encode, flag, list, maybe, message, problemOf, sameBytes, text, texts, uint, word } from "./shape.ts";

const INNER = message({ no: uint(1, 9, 1) });
const SHAPE = message({
  count: uint(1, 1_000),
  name: text(2, 4),
  key: bytes(3, 2),
  on: flag(4),
  how: word(5, ["red", "green"]),
  inner: maybe(6, INNER),
  list: list(7, 2, INNER),
  words: texts(8, 2, 3),
});
const PLAIN = { count: 0, name: "", key: new Uint8Array(0), on: false, how: "red", inner: undefined, list: [], words: [] };

test("WS2 long bytes differ by their first, their last and any between, whatever words they lie in", () => {
  const zeros = (offset: number): Uint8Array => new Uint8Array(2_048).subarray(offset, offset + 1_027);
  const overlooked: number[][] = [];
  for (let left = 0; left < 8; left++)
    for (let right = 0; right < 8; right++)
      for (const at of [0, 1, 2, 3, 4, 512, 1_023, 1_024, 1_025, 1_026]) {
        const [a, b] = [zeros(left), zeros(right)];
        expect(sameBytes(a, b)).toBe(true);
        b[at] = 1;
        if (sameBytes(a, b)) overlooked.push([left, right, at]);
      }
  expect(overlooked).toEqual([]);
});

test("bytes are the same wherever they lie, and differ if any of them does", () => {
  const length = fc.integer({ min: 0, max: 3_000 });
  const offset = fc.integer({ min: 0, max: 7 });
  fc.assert(
    fc.property(length, offset, offset, fc.nat(), (size, left, right, at) => {
      const place = (from: number) =>
        Uint8Array.from({ length: size + 16 }, (_none, n) => ((n - from) * 31) & 0xff).subarray(from, from + size);
      const [a, b] = [place(left), place(right)];
      expect(sameBytes(a, b)).toBe(true);
      if (size === 0) return;
      b[at % size]! ^= 0x40;
      expect([sameBytes(a, b), sameBytes(a, b.subarray(1))]).toEqual([false, false]);
    }),
  );
});

describe("shapes of messages", () => {
  test("WS1 what is no value is refused, with the field", () => {
    const wrong = (more: object): string => {
      const problem = problemOf(SHAPE, { ...PLAIN, ...more });
      return problem === undefined ? "" : `${problem.path} ${problem.message}`;
    };
    expect(wrong({})).toBe("");
    for (const count of [Number.NaN, -1, -0, 0.5, 1_001, Number.POSITIVE_INFINITY, 2 ** 53, "1", 1n, null, undefined])
      expect(wrong({ count })).toBe("count must be a whole number from 0 to 1000");
    expect(wrong({ name: "abcde" })).toBe("name must have at most 4 bytes of UTF-8");
    expect(wrong({ name: "\u{1f331}\u{1f331}" })).toBe("name must have at most 4 bytes of UTF-8");
    expect(wrong({ name: "\ud800" })).toBe("name must be well-formed text");
    expect(wrong({ key: "ab" })).toBe("key must be bytes");
    expect(wrong({ key: new Uint8Array(3) })).toBe("key must have 0 to 2 bytes");
    expect(wrong({ on: 1 })).toBe("on must be true or false");
    expect(wrong({ how: "blue" })).toBe("how must be one of red, green");
    expect(wrong({ inner: {} })).toBe("inner.no must be a whole number from 1 to 9");
    expect(wrong({ list: [{ no: 1 }, { no: 0 }] })).toBe("list[1].no must be a whole number from 1 to 9");
    expect(wrong({ list: [{ no: 1 }, { no: 1 }, { no: 1 }] })).toBe("list must have at most 2 items");
    expect(wrong({ words: [""] })).toBe("words[0] must not be empty");
    expect(wrong({ words: { length: 0 } })).toBe("words must be a list");
    expect(problemOf(SHAPE, null)?.message).toBe("must be a message");
  });

  test("WS1 a choice has one kind that it knows", () => {
    const either = choice({ a: INNER, b: message({}) });
    expect(problemOf(either, { kind: "b" })).toBeUndefined();
    for (const kind of ["c", "toString", "__proto__", undefined, 1]) expect(problemOf(either, { kind })?.path).toBe("kind");
    expect(decode(either, encode(either, { kind: "b" }))).toEqual({ ok: true, value: { kind: "b" } });
    expect(decode(either, new Uint8Array(0)).ok).toBe(false);
    expect(decode(either, Uint8Array.of(0x0a, 2, 8, 1, 0x12, 0)).ok).toBe(false);
  });

  test("WS2 bytes that mean the same, written otherwise, are refused", () => {
    const good = encode(SHAPE, { ...PLAIN, count: 5, how: "green" } as never);
    expect([...good]).toEqual([8, 5, 40, 2]);
    expect(decode(SHAPE, good).ok).toBe(true);
    const others = {
      "a longer number": [8, 0x85, 0, 40, 2],
      "another order": [40, 2, 8, 5],
      "a field twice": [8, 4, 8, 5, 40, 2],
      "a default that is written": [8, 5, 32, 0, 40, 2],
      "an unknown field": [8, 5, 40, 2, 0x78, 1],
      "an unknown word": [8, 5, 40, 3],
      "no word": [8, 5],
      "a number beyond the bound": [8, 0xe9, 7, 40, 2],
      "another type": [10, 1, 5, 40, 2],
      "an end too early": [8, 5, 40],
      "a list too long": [8, 5, 40, 2, 58, 2, 8, 1, 58, 2, 8, 1, 58, 2, 8, 1],
      "text that is not UTF-8": [18, 1, 0xff, 40, 2],
    };
    for (const [what, all] of Object.entries(others)) expect(decode(SHAPE, Uint8Array.from(all)).ok, what).toBe(false);
  });

  test("WS2 what is read is what is written, byte for byte, whatever comes", () => {
    const value = {
      ...PLAIN,
      count: 300,
      name: "\ufeffa",
      key: Uint8Array.of(1, 2),
      on: true,
      inner: { no: 3 },
      list: [{ no: 1 }],
      words: ["ab"],
    };
    const good = encode(SHAPE, value as never);
    expect(decode(SHAPE, good)).toEqual({ ok: true, value });
    fc.assert(
      fc.property(fc.nat(good.length - 1), fc.nat(255), (at, byte) => {
        const changed = Uint8Array.from(good);
        changed[at] = byte;
        const read = decode(SHAPE, changed);
        if (read.ok) expect(encode(SHAPE, read.value)).toEqual(changed);
      }),
    );
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 24 }), (any) => {
        const read = decode(SHAPE, any);
        if (read.ok) expect(encode(SHAPE, read.value)).toEqual(any);
      }),
    );
  });
});
