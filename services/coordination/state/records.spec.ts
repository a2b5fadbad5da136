import { expect, test } from "vitest";
import type { LogCommand } from "./commands.ts";
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

test("BK4 no value is kept for the words about it: of a long log of long ones that would be half a gigabyte", () => {
  const records = new Records();
  const change = { kind: "put" as const, key: "k", value: new Uint8Array(4_096), conditional: false, expect: 0 };
  const command: LogCommand = { book: "values", command: change };
  const at = { index: 1, term: 1, time: 1_000 };
  records.add(entry(1, [new Uint8Array([1])]), [
    { author: "a", session: 1, number: 1, at, command, result: { ok: true, value: undefined } },
  ]);
  // Who would still look at the value sees another one.
  change.value = new Uint8Array(1);
  expect(records.list(1, 0).records[0]?.lines[0]?.text).toBe("set value k (4096 bytes)");
});
