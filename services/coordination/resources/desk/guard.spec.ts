import { expect, test } from "vitest";
import { FenceGuard, VALID_MS } from "./guard.ts";

const at = (mono: number) => ({ mono, wall: 1_800_000_000_000 + mono });

test("FG1 a lease is idle only when the last word that something may act has run out, drift and margin included", () => {
  const guard = new FenceGuard();
  expect(guard.admitted(at(0), 7, 60_000)).toBe(VALID_MS);
  expect(guard.admitted(at(2_000), 7, 60_000)).toBe(VALID_MS);
  guard.stop(at(3_000), 7);
  guard.stop(at(4_000), 7);
  expect(guard.deadline()).toBe(2_000 + VALID_MS + 25 + 250);
  expect(guard.idle(at(2_000 + VALID_MS + 274))).toEqual([]);
  expect(guard.idle(at(2_000 + VALID_MS + 275))).toEqual([7]);
  expect(guard.deadline()).toBeUndefined();
});

test("FG1 a word never outlives its lease; who is done says so and is not waited for", () => {
  const guard = new FenceGuard();
  expect(guard.admitted(at(0), 7, 1_234.5)).toBe(1_234);
  expect(guard.admitted(at(0), 8, -1)).toBe(0);
  guard.stop(at(10), 7);
  guard.done(at(20), 7);
  expect(guard.idle(at(20))).toEqual([7]);
});

test("FG1 of what was let in before a restart nothing is known: a whole word is waited for", () => {
  const guard = new FenceGuard();
  guard.stop(at(0), 7);
  expect(guard.idle(at(VALID_MS))).toEqual([]);
  expect(guard.idle(at(VALID_MS + 275))).toEqual([7]);
});
