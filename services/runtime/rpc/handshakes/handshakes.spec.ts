import { expect, test } from "vitest";
import { UnknownCas } from "./handshakes.ts";

test("a CA that is unknown for as long as an introduction takes is to be expected; what lasts, or comes again and again, is not", () => {
  const pairing = new UnknownCas();
  expect([0, 500, 2_000, 30_000].map((now) => pairing.lasts(now))).toEqual([false, false, false, false]);
  expect([30_001, 100_000, 219_000].map((now) => pairing.lasts(now))).toEqual([true, true, true]);
  // After a quiet time it may be another introduction.
  expect([339_001, 369_001, 369_002].map((now) => pairing.lasts(now))).toEqual([false, false, true]);
});
