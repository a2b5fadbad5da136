import { expect, test } from "vitest";
import { interval } from "./ratio.ts";

test("the interval of equal ratios is that ratio", () => {
  const { mean, low, high } = interval([0.9, 0.9, 0.9]);
  for (const value of [mean, low, high]) expect(value).toBeCloseTo(0.9, 10);
});

test("twice as much and half as much are even, and the interval is that of Student's t", () => {
  // Logarithms of +-ln 2: mean 0, deviation ln 2 x sqrt(4/3), half of the interval 3.182 x ln 2 / sqrt(3) for four of them.
  const { mean, low, high } = interval([2, 0.5, 2, 0.5]);
  expect(mean).toBeCloseTo(1, 10);
  expect(high).toBeCloseTo(Math.exp((3.182 * Math.LN2) / Math.sqrt(3)), 6);
  expect(low).toBeCloseTo(1 / high, 10);
});

test("one ratio has no interval", () => {
  expect(() => interval([1])).toThrow("two ratios or more");
});
