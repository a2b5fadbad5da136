import fc from "fast-check";
import { expect, test } from "vitest";
import { hubIdProblem, isHubId } from "./hub-id.ts";

test("hub ids are DNS labels", () => {
  for (const good of ["a", "home", "line-7", "0", "a".repeat(63)]) expect(isHubId(good), good).toBe(true);
  for (const bad of ["", "a".repeat(64), "a.b", "A", "-a", "a-", "ä", "a b", "a/b", "a\n"]) expect(isHubId(bad), bad).toBe(false);
});

test("a problem is told exactly for what is refused", () => {
  fc.assert(fc.property(fc.string({ maxLength: 70 }), (text) => (hubIdProblem(text) === undefined) === isHubId(text)));
  expect(hubIdProblem("home.example")).toContain("domain name");
  expect(hubIdProblem("Home")).toContain("lower case");
});
