import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { text } from "./shape.ts";
import { formOf, TEXT_FORMS } from "./text-forms.ts";

const PROTO = join(import.meta.dirname, "../../../proto");

test("every pattern of the schema is put into words, so that nobody who mistypes an id reads a regular expression", () => {
  const files = globSync("foedus/**/*.proto", { cwd: PROTO }).map((file) => readFileSync(join(PROTO, file), "utf8"));
  const patterns = new Set(files.flatMap((file) => [...file.matchAll(/pattern: "(.*)"$/gm)].map(([, pattern = ""]) => pattern)));
  expect(patterns.size).toBeGreaterThan(3);
  expect([...patterns].filter((pattern) => !TEXT_FORMS.has(pattern))).toEqual([]);
});

test("a form says what is allowed, with an example that is allowed", () => {
  for (const [source, { must, example }] of TEXT_FORMS) {
    expect(new RegExp(source, "u").test(example)).toBe(true);
    expect(formOf(source)).toBe(`${must}, for example ${example}`);
    expect(formOf(source)).toMatch(/^must be |^must have /);
  }
});

test("a text is not bound to a pattern that nobody has put into words", () => {
  expect(() => text(1, 9, /^x+$/)).toThrow("put into words");
  expect(text(1, 63, /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/).check("Street!", "founding.federation_id")).toEqual({
    path: "founding.federation_id",
    message: "must be 1 to 63 of a-z, 0-9 and hyphens, without a hyphen at either end, for example home-1",
  });
});
