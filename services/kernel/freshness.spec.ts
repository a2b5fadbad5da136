import { expect, test } from "vitest";
import { freshnessOf, sourceFreshness } from "./freshness.ts";

test("FRESH up to 30 s, STALE up to 90 s, then UNKNOWN; unknown age is UNKNOWN", () => {
  expect([0, 30_000, 30_001, 90_000, 90_001].map((age) => freshnessOf(age))).toEqual(["FRESH", "FRESH", "STALE", "STALE", "UNKNOWN"]);
  expect(freshnessOf(undefined)).toBe("UNKNOWN");
  expect(freshnessOf(Number.NaN)).toBe("UNKNOWN");
});

test("a node is as fresh as the way to its hub, or as its source says, whichever is worse", () => {
  const all = ["FRESH", "STALE", "UNKNOWN"] as const;
  expect(all.map((link) => all.map((said) => sourceFreshness(link, said)))).toEqual([
    ["FRESH", "STALE", "UNKNOWN"],
    ["STALE", "STALE", "UNKNOWN"],
    ["UNKNOWN", "UNKNOWN", "UNKNOWN"],
  ]);
  for (const said of [undefined, "", "fresh", 1]) expect(sourceFreshness("STALE", said)).toBe("STALE");
});
