import { expect, test } from "vitest";
import { everyPage } from "./pages.ts";

const pagesOf = (...nexts: readonly string[]) => {
  let at = 0;
  return async () => ({ next: nexts[Math.min(at++, nexts.length - 1)] ?? "" });
};

test("pages are read until there is none behind", async () => {
  expect(await everyPage("values", pagesOf("a", "b", ""))).toHaveLength(3);
});

test.each([
  ["that do not go on", pagesOf("a", "a")],
  ["that go back", pagesOf("b", "a")],
])("of a hub with pages %s nothing is believed", async (_what, read) => {
  await expect(everyPage("values", read)).rejects.toThrow("the hub lists values without an end");
});

test("nor of one whose pages have no end", async () => {
  let count = 0;
  const read = async () => ({ next: String(++count).padStart(9, "0") });
  await expect(everyPage("values", read)).rejects.toThrow("the hub lists values without an end");
  expect(count).toBe(1_000);
});
