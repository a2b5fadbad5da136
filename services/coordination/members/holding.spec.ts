import { expect, test } from "vitest";
import { holdingProblem } from "./holding.ts";

const roles = [{ role: "leader", hubId: "a", standbys: [], fence: 7 }];

test("S1-17 who has the role with its present fence may act in it", () => {
  expect(holdingProblem(roles, "leader", "a", 7)).toBeUndefined();
});

test.each([
  ["leader", "a", 6, "with fence 7, not 6"],
  ["leader", "a", 8, "with fence 7, not 8"],
  ["leader", "a", Number.NaN, "with fence 7, not NaN"],
  ["leader", "b", 7, "a has the role leader now, with fence 7"],
  ["backup", "a", 7, "nobody has the role backup"],
])("S1-17 a fence of another time, hub or role is stale: %s %s %s", (role, hub, fence, words) => {
  const problem = holdingProblem(roles, role, hub, fence);
  expect(problem?.reason).toBe("FENCE_STALE");
  expect(problem?.message).toContain(words);
});
