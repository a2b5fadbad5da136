import { expect, test } from "vitest";
import { LIMITS } from "#kernel/limits.ts";
import { isTest, read, sources } from "./files.ts";
import { BOUNDS } from "./kept-maps.ts";

/** A map that is a field of a class, so it lives on; maps of functions end with them. */
const FIELD = /^ {2}(?:(?:private|readonly) )*(#?\w+)(?:: [^=\n]+)? = (?:new Map<string\b|Array\.from\(.*new Map<string\b)/gm;

const kept = sources()
  .filter((path) => path.startsWith("services/") && !isTest(path))
  .flatMap((path) => [...read(path).matchAll(FIELD)].map(([, name]) => `${path} ${name}`));

test("F-12 every map that is keyed by text has a bound in the table", () => {
  expect(kept.length).toBeGreaterThan(50);
  expect(kept.filter((where) => BOUNDS[where] === undefined)).toEqual([]);
});

test("F-12 the table names only maps that are there, and bounds that exist", () => {
  const known = new Set(kept);
  expect(Object.keys(BOUNDS).filter((where) => !known.has(where))).toEqual([]);
  const classes = new Set(["schema", "configuration", "peers", "own nodes", "nodes of peers"]);
  const wrong = Object.entries(BOUNDS).filter(([where, [bound]]) => {
    if (classes.has(bound) || bound in LIMITS) return false;
    const constant = /^const (\w+)$/.exec(bound)?.[1];
    return constant === undefined || !new RegExp(`\\b${constant}\\b`).test(read(where.split(" ")[0]!));
  });
  expect(wrong).toEqual([]);
});

test("F-12 every limit is used somewhere", () => {
  const text = sources()
    .filter((path) => !path.startsWith("test/") && path !== "services/kernel/limits.ts" && !isTest(path))
    .map(read)
    .join("\n");
  expect(Object.keys(LIMITS).filter((name) => !new RegExp(`\\.${name}\\b|\\b${name}[,:]? `).test(text))).toEqual([]);
});
