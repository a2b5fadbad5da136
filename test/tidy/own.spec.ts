import { expect, test } from "vitest";
import { isTest, read, sources, withoutComments } from "./files.ts";

/** Maps whose keys others choose, by the names they have everywhere. */
const OUTSIDE = ["labels", "bundles", "contexts", "facts"];

/** Where a key has been looked at before, and how. */
const LOOKED_AT: readonly string[] = [
  // Names of RPCs of our own schema.
  "services/runtime/rpc/access.ts FOREIGN_RULES",
];

/** lookups lists the places of a file where a table with text keys is indexed by something that is not written there. */
function lookups(path: string): string[] {
  const text = withoutComments(read(path));
  const tables = [...text.matchAll(/\bconst ([A-Z][A-Z_]*): (?:Readonly<)?(?:Partial<)?Record<string, /g)].map((match) => match[1]);
  const names = [...tables, ...OUTSIDE].join("|");
  const index = new RegExp(`\\b(?:${names})\\??\\.?\\[(?!["'\\d])[^\\]\\n]+\\](?! = )`, "g");
  return text
    .split("\n")
    .filter((line) => !line.includes("Object.hasOwn("))
    .flatMap((line) => [...line.matchAll(index)].map(([found]) => `${path} ${found.replace(/\W.*/, "")}`));
}

test("S-16 tables are asked for keys from outside with `own`, which does not find what every object has", () => {
  const files = sources().filter((path) => !isTest(path) && path !== "services/kernel/own.ts");
  expect(files.length).toBeGreaterThan(300);
  const found = files.flatMap(lookups).filter((place) => !LOOKED_AT.includes(place));
  expect(found, "use own(table, key) of kernel/own.ts").toEqual([]);
});
