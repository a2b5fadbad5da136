import fc from "fast-check";
import { expect, test } from "vitest";
import { interning } from "./interning.ts";

const labels = fc.dictionary(fc.string({ maxLength: 12 }), fc.string({ maxLength: 40 }), { maxKeys: 6 });
const keys = fc.array(fc.nat(65_535), { maxLength: 80 });

test("what is shared is equal to what was given, and the same thing for the next who gives its equal", () => {
  fc.assert(
    fc.property(fc.string({ maxLength: 80 }), labels, keys, (text, given, numbers) => {
      expect(interning.text(text)).toBe(text);
      const shared = interning.labels(given);
      expect({ ...shared }).toEqual({ ...given });
      if (JSON.stringify(given).length <= 150) expect(interning.labels({ ...given })).toBe(shared);
      const once = interning.keys(numbers);
      expect(once).toEqual(numbers);
      expect(once).not.toBe(numbers);
      if (numbers.length <= 64) expect(interning.keys([...numbers])).toBe(once);
    }),
  );
});

test("keys of the same hash are not taken for each other", () => {
  // 31 x 1 + 0 and 31 x 0 + 31, after the same length.
  const [one, other] = [
    [1, 0],
    [0, 31],
  ];
  for (let i = 0; i < 2; i++) expect([interning.keys(one), interning.keys(other)]).toEqual([one, other]);
});

test("labels in another order are labels of their own, and those of no node are one thing", () => {
  expect(Object.keys(interning.labels({ b: "1", a: "2" }))).toEqual(["b", "a"]);
  expect(Object.keys(interning.labels({ a: "2", b: "1" }))).toEqual(["a", "b"]);
  expect(interning.labels({})).toBe(interning.labels({}));
});

test("far more than is kept is still right", () => {
  for (let i = 0; i < 10_000; i++) {
    expect(interning.labels({ serial: `${i}` })["serial"]).toBe(`${i}`);
    expect(interning.keys([i, i + 1])).toEqual([i, i + 1]);
    expect(interning.text(`t${i}`)).toBe(`t${i}`);
  }
});
