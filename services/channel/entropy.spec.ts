import fc from "fast-check";
import { expect, test } from "vitest";
import { idOf, systemEntropy } from "./entropy.ts";

test("ids have 16 characters, fit DNS labels, and differ", () => {
  const ids = new Set(Array.from({ length: 1_000 }, () => systemEntropy.id()));
  expect(ids.size).toBe(1_000);
  for (const id of ids) expect(id).toMatch(/^[0-9a-z]{16}$/);
});

test("different bytes make different ids", () => {
  const ten = fc.uint8Array({ minLength: 10, maxLength: 10 });
  fc.assert(fc.property(ten, ten, (a, b) => (idOf(a) === idOf(b)) === (Buffer.compare(a, b) === 0)));
  expect(idOf(new Uint8Array(10))).toBe("0000000000000000");
  expect(idOf(new Uint8Array(10).fill(255))).toBe("zzzzzzzzzzzzzzzz");
});

test("bytes and seeds are as long as asked and differ", () => {
  expect(systemEntropy.bytes(33).length).toBe(33);
  expect(new Set(Array.from({ length: 100 }, () => systemEntropy.seed())).size).toBeGreaterThan(90);
});
