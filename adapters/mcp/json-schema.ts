/**
 * The part of JSON Schema that can be checked for a device whose schema is not trusted: what is here takes time in proportion to schema and value.
 * References, patterns and combinations can be written so that they never end (or take as good as for ever); they are named and not checked.
 */

/** SchemaFinding is what came of a check. */
export interface SchemaFinding {
  /** What is wrong with the value; empty if nothing is. */
  readonly problems: readonly string[];
  /** Keywords of the schema that say more and were not checked. */
  readonly unchecked: readonly string[];
}

const STEPS_MAX = 5_000;
const DEPTH_MAX = 32;
const PROBLEMS_MAX = 8;

type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };
type Schema = { readonly [key: string]: Json };

/** Keywords that describe and do not constrain. */
const SILENT = new Set([
  "$schema",
  "$id",
  "$comment",
  "title",
  "description",
  "default",
  "examples",
  "readOnly",
  "writeOnly",
  "deprecated",
]);

const isObject = (value: Json | undefined): value is Schema => typeof value === "object" && value !== null && !Array.isArray(value);

const typeOf = (value: Json): string => (value === null ? "null" : Array.isArray(value) ? "array" : typeof value);

/** same compares two values of JSON. */
function same(a: Json, b: Json): boolean {
  if (a === b) return true;
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return false;
  const [left, right] = [Object.entries(a), Object.entries(b)];
  if (Array.isArray(a) !== Array.isArray(b) || left.length !== right.length) return false;
  return left.every(([key, value]) => Object.hasOwn(b, key) && same(value as Json, (b as Schema)[key] as Json));
}

/** Keyword judges a value by one keyword of a schema: what is wrong, or undefined. */
type Keyword = (rule: Json, value: Json, at: string) => string | undefined;

const number =
  (holds: (value: number, limit: number) => boolean, words: string): Keyword =>
  (rule, value, at) =>
    typeof rule === "number" && typeof value === "number" && !holds(value, rule) ? `${at} must be ${words} ${rule}` : undefined;

const sized =
  (type: string, size: (value: Json) => number, holds: (size: number, limit: number) => boolean, words: string): Keyword =>
  (rule, value, at) =>
    typeof rule === "number" && typeOf(value) === type && !holds(size(value), rule) ? `${at} must have ${words} ${rule}` : undefined;

const characters = (value: Json): number => [...String(value)].length;
const members = (value: Json): number => Object.keys(value as object).length;
const atLeast = (a: number, b: number): boolean => a >= b;
const atMost = (a: number, b: number): boolean => a <= b;

const RULES: Readonly<Record<string, Keyword>> = {
  type: (rule, value, at) => {
    const wanted = (Array.isArray(rule) ? rule : [rule]).map(String);
    const is = typeOf(value);
    if (wanted.includes(is) || (wanted.includes("integer") && Number.isInteger(value))) return undefined;
    return `${at} must be of type ${wanted.join(" or ")} and is ${is}`;
  },
  enum: (rule, value, at) =>
    Array.isArray(rule) && !rule.some((one) => same(one, value)) ? `${at} is none of the allowed values` : undefined,
  const: (rule, value, at) => (same(rule, value) ? undefined : `${at} is not the only allowed value`),
  minimum: number(atLeast, "at least"),
  maximum: number(atMost, "at most"),
  exclusiveMinimum: number((a, b) => a > b, "above"),
  exclusiveMaximum: number((a, b) => a < b, "below"),
  multipleOf: number((a, b) => b > 0 && Math.abs(a / b - Math.round(a / b)) < 1e-9, "a multiple of"),
  minLength: sized("string", characters, atLeast, "at least this many characters:"),
  maxLength: sized("string", characters, atMost, "at most this many characters:"),
  minItems: sized("array", members, atLeast, "at least this many items:"),
  maxItems: sized("array", members, atMost, "at most this many items:"),
  minProperties: sized("object", members, atLeast, "at least this many properties:"),
  maxProperties: sized("object", members, atMost, "at most this many properties:"),
  required: (rule, value, at) => {
    const missing =
      isObject(value) && Array.isArray(rule) ? rule.filter((key) => typeof key === "string" && !Object.hasOwn(value, key)) : [];
    return missing.length === 0 ? undefined : `${at} lacks ${missing.slice(0, 4).join(", ")}`;
  },
};

const KEYWORDS: ReadonlyMap<string, Keyword> = new Map(Object.entries(RULES));

class Checker {
  readonly problems: string[] = [];
  readonly unchecked = new Set<string>();
  #steps = 0;

  check(schema: Json, value: Json, at: string, depth = 0): void {
    if (schema === true || this.problems.length >= PROBLEMS_MAX) return;
    if (schema === false) return void this.problems.push(`${at} is not allowed`);
    if (!isObject(schema)) return;
    if (depth > DEPTH_MAX || ++this.#steps > STEPS_MAX) return void this.unchecked.add("what is nested too deeply or too long");
    for (const [word, rule] of Object.entries(schema)) {
      if (SILENT.has(word)) continue;
      const keyword = KEYWORDS.get(word);
      const problem = keyword === undefined ? this.#nested(word, rule, schema, value, at, depth) : keyword(rule, value, at);
      if (problem !== undefined && this.problems.length < PROBLEMS_MAX) this.problems.push(problem);
    }
  }

  #nested(word: string, rule: Json, schema: Schema, value: Json, at: string, depth: number): undefined {
    const known = isObject(schema["properties"]) ? schema["properties"] : {};
    if (word === "properties") {
      if (isObject(value))
        for (const [key, inner] of Object.entries(known))
          if (Object.hasOwn(value, key)) this.check(inner, value[key] as Json, `${at}.${key}`, depth + 1);
    } else if (word === "additionalProperties" && !Object.hasOwn(schema, "patternProperties")) {
      if (isObject(value))
        for (const key of Object.keys(value))
          if (!Object.hasOwn(known, key)) this.check(rule, value[key] as Json, `${at}.${key}`, depth + 1);
    } else if (word === "items" && !Array.isArray(rule)) {
      if (Array.isArray(value)) for (const [i, item] of value.entries()) this.check(rule, item as Json, `${at}[${i}]`, depth + 1);
    } else this.unchecked.add(word);
    return undefined;
  }
}

/** checkJson judges JSON text by a schema, both from elsewhere. */
export function checkJson(schemaText: string, json: string): SchemaFinding {
  let schema: Json;
  try {
    schema = JSON.parse(schemaText) as Json;
  } catch {
    return { problems: [], unchecked: ["the schema, which is not JSON"] };
  }
  const checker = new Checker();
  try {
    checker.check(schema, JSON.parse(json) as Json, "value");
  } catch (error) {
    // Comparing two values that are nested thousands of times ends the stack.
    if (!(error instanceof RangeError)) throw error;
    checker.unchecked.add("what is nested too deeply or too long");
  }
  return { problems: checker.problems, unchecked: [...checker.unchecked].slice(0, PROBLEMS_MAX) };
}
