import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { ROOT } from "../support/federation.ts";

/** Readers that end before their input does: what writes to them then dies by SIGPIPE, sometimes, and pipefail makes that the end. */
const EARLY = /\|\s*(head\b|grep\s+-\w*[qm]|awk\b[^|]*\bexit\b)/;

test("shell scripts with pipefail read what they are told to the end", () => {
  const files = execFileSync("git", ["ls-files", "*.sh", ".ci/run"], { cwd: ROOT, encoding: "utf8" }).trim().split("\n");
  const strict = files
    .map((file) => ({ file, text: readFileSync(join(ROOT, file), "utf8") }))
    .filter(({ text }) => text.includes("pipefail"));
  expect(strict.length).toBeGreaterThan(2);
  const found = strict.flatMap(({ file, text }) =>
    text.split("\n").flatMap((line, i) => (EARLY.test(line) ? [`${file}:${i + 1} ${line.trim()}`] : [])),
  );
  expect(found).toEqual([]);
  expect(EARLY.test("found=$(ldconfig -p | awk -v lib=x '$1 == lib {print $NF; exit}')")).toBe(true);
});

/** Variables of make itself. */
const BUILT_IN = new Set(["CURDIR", "MAKEFILE_LIST"]);

/** undeclared are variables that a Makefile uses and does not declare: newer versions of make warn of them at each command. */
function undeclared(text: string): string[] {
  const declared = new Set([...text.matchAll(/^(?:export )?([A-Za-z_]+) *[:?+]?=/gm)].map(([, name]) => name));
  const used = new Set([...text.matchAll(/\$\(([A-Z_]+)\)/g)].map(([, name]) => name as string));
  expect(used.size).toBeGreaterThan(0);
  return [...used].filter((name) => !declared.has(name) && !BUILT_IN.has(name));
}

test("the Makefile declares each variable that it uses", () => {
  expect(undeclared(readFileSync(join(ROOT, "Makefile"), "utf8"))).toEqual([]);
  expect(undeclared("ONE ?=\nx:\n\t@echo $(if $(ONE),$(TWO))\n")).toEqual(["TWO"]);
});
