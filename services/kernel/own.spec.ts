import { expect, test } from "vitest";
import { own } from "./own.ts";

test("S-16 only what a table itself has is found in it", () => {
  const table = { full: 3 };
  expect(own(table, "full")).toBe(3);
  for (const key of [...Object.getOwnPropertyNames(Object.prototype), "none"]) expect(own(table, key), key).toBe(undefined);
});
