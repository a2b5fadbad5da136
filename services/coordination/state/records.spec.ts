import { expect, test } from "vitest";
import { Records } from "./records.ts";

const entry = (index: number, payloads: readonly Uint8Array[]) => ({ index, term: 1, time: 1_000, payloads });

test("each entry has a line: also one of a new leader, and one of which nothing has an effect", () => {
  const records = new Records();
  records.add(entry(1, []), []);
  records.add(entry(2, [new Uint8Array([1])]), []);
  const { records: listed } = records.list(10, 0);
  expect(listed.map(({ index, lines }) => [index, lines.map(({ text }) => text)])).toEqual([
    [2, ["nothing new: what is written here was decided before, or has no effect"]],
    [1, ["a new term begins"]],
  ]);
});
