import { expect, test } from "vitest";
import { FailureDetector } from "./failure-detector.ts";

test("a ping goes out every 15 s and three without a sign of life make the peer suspect", () => {
  const detector = new FailureDetector(0);
  expect(detector.tick(14_999)).toBeUndefined();
  expect(detector.deadline).toBe(15_000);
  const seen: [number, boolean][] = [];
  for (let now = 15_000; now <= 60_000; now += 15_000) {
    expect(detector.tick(now)).toBe(now / 15_000);
    seen.push([detector.missed, detector.suspect]);
  }
  expect(seen).toEqual([
    [0, false],
    [1, false],
    [2, false],
    [3, true],
  ]);
});

test("any frame is a sign of life", () => {
  const detector = new FailureDetector(0);
  for (let now = 15_000; now <= 60_000; now += 15_000) detector.tick(now);
  detector.heard();
  expect(detector.suspect).toBe(false);
  detector.tick(75_000);
  expect(detector.missed).toBe(0);
});

test("only the answer to the newest ping counts for the round trip, and once", () => {
  const detector = new FailureDetector(0);
  const first = detector.tick(15_000) ?? 0;
  expect(detector.pong(first, 15_080)).toBe(true);
  expect(detector.rttMs).toBe(80);
  expect(detector.pong(first, 15_090)).toBe(false);
  const second = detector.tick(30_000) ?? 0;
  expect(detector.pong(first, 30_010)).toBe(false);
  expect(detector.pong(second, 30_160)).toBe(true);
  expect(detector.rttMs).toBe(90);
});
