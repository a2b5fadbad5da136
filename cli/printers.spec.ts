import fc from "fast-check";
import { expect, test } from "vitest";
import { fail } from "#kernel/error.ts";
import { prettyLine } from "#runtime/log/pretty.ts";
import { redact } from "#runtime/log/redact.ts";
import { type Model, render } from "../test/demo/screen.ts";
import { HOSTILE } from "../test/support/hostile-text.ts";
import { errorJson, errorText, toCliError } from "./exit.ts";
import { clean, nodeText, valueText } from "./print/format.ts";
import { facts, table } from "./print/table.ts";

const foreign = fc.string({
  unit: fc.oneof(fc.constantFrom(...HOSTILE, "\n", "\t", " ", "x="), fc.string({ unit: "binary", minLength: 1, maxLength: 2 })),
});
const UNSAFE = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u;
const io = { columns: 80, style: (_format: string, text: string): string => text };

/** linesOf checks that an output shows nothing unsafe, and answers how many lines it has. */
function linesOf(text: string): number {
  expect(text.replaceAll("\n", "")).not.toMatch(UNSAFE);
  return text.split("\n").length - 1;
}

function model(text: string): Model {
  return {
    hubs: [],
    links: [],
    story: [text],
    commands: [{ age: "now", caller: text, what: text, refused: text }],
    events: [{ age: "now", hub: text, severity: "ERROR", text }],
    hints: [],
    status: "",
  };
}

test("S-14 no printer lets text from elsewhere act on a terminal or forge a line", () => {
  fc.assert(
    fc.property(foreign, (text) => {
      const error = fail("EXECUTOR_FAILED", text, { facts: { text } });
      expect(linesOf(errorText(toCliError(error, () => "Do this.")))).toBe(1);
      expect(linesOf(errorJson(toCliError(error, () => text)))).toBe(1);
      const rows = table(io, [{ title: "A" }, { title: "B", flexible: true }], [[text, { text, style: "red" }]]);
      linesOf(rows);
      // What there is no room for stands below its row, indented: it is not taken for a row.
      expect(
        rows
          .split("\n")
          .slice(2, -1)
          .filter((line) => !line.startsWith("    ")),
      ).toEqual([]);
      linesOf(facts(io, [["name", text]]));
      expect(clean(valueText({ $typeName: "foedus.common.v1.Value", kind: { case: "stringValue", value: text } }))).not.toMatch(UNSAFE);
      expect(clean(nodeText({ hubId: text, nodeId: text }))).not.toMatch(UNSAFE);
      for (const line of render(model(text), 100, 40, false)) expect(line).not.toMatch(UNSAFE);
      const line = { level: "warn", time: "2027-01-01T00:00:00.000Z", message: text, peer: text, nested: { [text]: text } };
      expect(linesOf(prettyLine(JSON.stringify(line)))).toBe(1);
      // Of an error, the frames follow on lines of their own; whatever its message holds is on the first.
      const failed = prettyLine(JSON.stringify({ ...line, error: redact(new Error(text)) }));
      expect(
        failed
          .split("\n")
          .slice(1, -1)
          .every((frame) => /^ +at /.test(frame)),
      ).toBe(true);
      linesOf(failed);
    }),
  );
});
