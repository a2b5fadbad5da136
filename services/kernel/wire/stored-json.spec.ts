import { expect, test } from "vitest";
import { fields, readStored, text, writeStored } from "./stored-json.ts";

test("a record with a long run of blanks inside a text is read in time that grows with its length alone", () => {
  const shape = fields({ text: text(1_000_000) });
  const time = (blanks: number): number => {
    const value = { text: `x${" ".repeat(blanks)}y` };
    const bytes = writeStored(value);
    const begun = process.cpuUsage();
    expect(readStored("r", bytes, shape)).toEqual(value);
    const { user, system } = process.cpuUsage(begun);
    return (user + system) / 1_000;
  };
  // A pattern that begins anew at each blank takes more than half a second for these.
  expect(time(40_000)).toBeLessThan(250);
});

test("the sum of a record is what stands behind it, also when it ends with blanks of its own", () => {
  const bytes = writeStored({ text: "a " });
  expect(readStored("r", bytes, fields({ text: text(9) }))).toEqual({ text: "a " });
  bytes[9] = "b".charCodeAt(0);
  expect(() => readStored("r", bytes, fields({ text: text(9) }))).toThrow("is not what was written");
  expect(readStored("r", new TextEncoder().encode('{"text":"a"}'), fields({ text: text(9) }))).toEqual({ text: "a" });
});
