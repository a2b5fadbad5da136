import { expect, test } from "vitest";
import { freshnessOf } from "./freshness.ts";

test("FRESH up to 30 s, STALE up to 90 s, then UNKNOWN; unknown age is UNKNOWN", () => {
  expect([0, 30_000, 30_001, 90_000, 90_001].map((age) => freshnessOf(age))).toEqual(["FRESH", "FRESH", "STALE", "STALE", "UNKNOWN"]);
  expect(freshnessOf(undefined)).toBe("UNKNOWN");
  expect(freshnessOf(Number.NaN)).toBe("UNKNOWN");
});
