import { expect, test } from "vitest";
import { FenceGuard, VALID_MS } from "./guard.ts";

const at = (mono: number) => ({ mono, wall: 1_800_000_000_000 + mono });

test("FG1 a lease is idle only when the last word that something may act has run out, drift and margin included", () => {
  const guard = new FenceGuard(-60_000);
  expect(guard.admitted(at(0), 7, "p", 60_000)).toBe(VALID_MS);
  expect(guard.admitted(at(2_000), 7, "p", 60_000)).toBe(VALID_MS);
  guard.stop(at(3_000), 7);
  guard.stop(at(4_000), 7);
  expect(guard.deadline()).toBe(2_000 + VALID_MS + 25 + 250);
  expect(guard.idle(at(2_000 + VALID_MS + 274))).toEqual([]);
  expect(guard.idle(at(2_000 + VALID_MS + 275))).toEqual([7]);
  expect(guard.deadline()).toBeUndefined();
});

test("FG1 a word never outlives its lease; who is done says so and is not waited for", () => {
  const guard = new FenceGuard(-60_000);
  expect(guard.admitted(at(0), 7, "p", 1_234.5)).toBe(1_234);
  expect(guard.admitted(at(0), 8, "p", -1)).toBe(0);
  guard.stop(at(10), 7);
  guard.done(at(20), 7, "p");
  expect(guard.idle(at(20))).toEqual([7]);
});

test("FG1 of what was let in before a restart nothing is known: a whole word is waited for", () => {
  const guard = new FenceGuard(-60_000);
  guard.stop(at(0), 7);
  expect(guard.idle(at(VALID_MS))).toEqual([]);
  expect(guard.idle(at(VALID_MS + 275))).toEqual([7]);
});

test("FG2 a program says only of itself that it is done, whoever else knows lease and fence; operators say it of all", () => {
  const guard = new FenceGuard(-60_000);
  guard.admitted(at(0), 7, "p", 60_000);
  guard.done(at(1), 7, "mallory");
  guard.admitted(at(2), 7, "mallory", 60_000);
  guard.stop(at(10), 7);
  guard.done(at(11), 7, "mallory");
  guard.done(at(12), 7, "");
  expect(guard.idle(at(20))).toEqual([]);
  expect(guard.deadline()).toBe(VALID_MS + 275);
  guard.done(at(21), 7, undefined);
  expect(guard.idle(at(21))).toEqual([7]);
});

test("FG2 however many programs act under a lease, none is forgotten", () => {
  const guard = new FenceGuard(-60_000);
  for (let i = 0; i < 100; i++) guard.admitted(at(i), 7, `p${i}`, 60_000);
  for (let i = 0; i < 100; i++) guard.done(at(100), 7, `p${i}`);
  guard.stop(at(101), 7);
  expect(guard.deadline()).toBe(99 + VALID_MS + 275);
});

test("FG1 who is let in after a restart, and is done, ends no word that was given before", () => {
  const guard = new FenceGuard(0);
  guard.admitted(at(10), 7, "mallory", 60_000);
  guard.stop(at(20), 7);
  guard.done(at(21), 7, "mallory");
  expect(guard.deadline()).toBe(VALID_MS + 275);
});
