import { expect, test } from "vitest";
import { LIMITS } from "#kernel/bounds/limits.ts";
import { isTest, read, sources } from "./files.ts";
import { BOUNDS, CLASSES } from "./kept-maps.ts";

/** A map or set that is a field of a class, or stands in a record of one, lives on; those of functions end with them. */
const FIELD = /^ {2}(?:(?:private|readonly|static) )*(#?\w+)(?:: [^=\n]+)? = (?:new (?:Map|Set)\b|Array\.from\(.*new (?:Map|Set)\b)/gm;
const IN_RECORD = /\b(\w+): new (?:Map|Set)(?:<[^(]*>)?\(\)/gm;

const kept = sources()
  .filter((path) => /^(services|clients|adapters)\//.test(path) && !isTest(path))
  .flatMap((path) => {
    const text = read(path);
    const names = [FIELD, IN_RECORD].flatMap((what) => [...text.matchAll(what)].map(([, name]) => name));
    return [...new Set(names)].map((name) => `${path} ${name}`);
  });

test("F-12 every map and set that is kept has a bound in the table", () => {
  expect(kept.length).toBeGreaterThan(150);
  expect(kept.filter((where) => BOUNDS[where] === undefined)).toEqual([]);
});

test("F-12 the table names only maps that are there, and bounds that exist", () => {
  const known = new Set(kept);
  expect(Object.keys(BOUNDS).filter((where) => !known.has(where))).toEqual([]);
  const classes = new Set<string>(CLASSES);
  const wrong = Object.entries(BOUNDS).filter(([where, [bound]]) => {
    if (classes.has(bound) || bound in LIMITS) return false;
    const constant = /^const (\w+)$/.exec(bound)?.[1];
    return constant === undefined || !new RegExp(`\\b${constant}\\b`).test(read(where.split(" ")[0]!));
  });
  expect(wrong).toEqual([]);
});

test("F-12 every limit is used somewhere", () => {
  const text = sources()
    .filter((path) => !path.startsWith("test/") && path !== "services/kernel/bounds/limits.ts" && !isTest(path))
    .map(read)
    .join("\n");
  expect(Object.keys(LIMITS).filter((name) => !new RegExp(`\\.${name}\\b|\\b${name}[,:]? `).test(text))).toEqual([]);
});
