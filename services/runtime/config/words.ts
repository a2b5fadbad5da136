import type * as z from "zod";
import { own } from "#kernel/own.ts";
import { nearest } from "./shape.ts";

/** Issue is what a schema objects to, as zod gives it before it has words. */
type Issue = Parameters<z.core.$ZodErrorMap>[0];

/** So many fields of an object are listed to somebody who mistyped one. */
const LISTED_MAX = 12;

const KINDS: Readonly<Record<string, string>> = {
  string: "a text",
  number: "a number",
  int: "a whole number",
  boolean: "true or false",
  array: "a list",
  object: "an object",
  record: "an object",
};

/**
 * issueWords says in plain words what a value must be, as the part of a sentence that follows its path: zod's own texts speak of types of
 * JavaScript ("expected int, received number"). A text that a schema gives itself is kept. Values are not repeated: they may be secrets.
 */
export function issueWords(issue: Issue): string {
  switch (issue.code) {
    case "invalid_type":
      return issue.input === undefined ? `is missing; it must be ${kindOf(issue.expected)}` : `must be ${kindOf(issue.expected)}`;
    case "too_big":
      return `must ${bound(issue.origin, "at most", Number(issue.maximum))}`;
    case "too_small":
      return `must ${bound(issue.origin, "at least", Number(issue.minimum))}`;
    case "invalid_value":
      return choice(issue.values.map(String), issue.input);
    case "unrecognized_keys":
      return `has ${unknownKeys(issue.keys)}, which is not known${knownFields(issue.inst, issue.keys)}`;
    case "invalid_key":
      return `its name ${issue.issues[0]?.message ?? "is not allowed"}`;
    case "invalid_union":
      return unionWords(issue.errors);
    default:
      return "is not allowed";
  }
}

function unknownKeys(keys: readonly string[]): string {
  const named = keys.slice(0, LISTED_MAX).map((key) => `"${key.slice(0, 63)}"`);
  return `${named.join(", ")}${keys.length > LISTED_MAX ? ` and ${keys.length - LISTED_MAX} more` : ""}`;
}

/** knownFields lists what an object may have, if that is short; else it names what is most like the first of the fields that are not known. */
function knownFields(inst: unknown, [unknown = ""]: readonly string[]): string {
  const { shape } = (inst as { readonly def?: { readonly shape?: object } } | undefined)?.def ?? {};
  const known = Object.keys(shape ?? {});
  if (known.length > 0 && known.length <= LISTED_MAX) return `; known ${known.length === 1 ? "is" : "are"} ${known.join(", ")}`;
  const near = nearest(unknown, known);
  return near === undefined ? "" : `; did you mean ${near}?`;
}

function kindOf(expected: string): string {
  return own(KINDS, expected) ?? expected;
}

function bound(origin: string, word: "at most" | "at least", n: number): string {
  if (origin === "string") return `have ${word} ${n} character${n === 1 ? "" : "s"}`;
  if (origin === "array" || origin === "set") return `have ${word} ${n} item${n === 1 ? "" : "s"}`;
  return `be ${word} ${n}`;
}

function choice(known: readonly string[], given: unknown): string {
  const near = typeof given === "string" ? nearest(given, known) : undefined;
  return `must be one of ${known.join(", ")}${near === undefined ? "" : `; did you mean ${near}?`}`;
}

/** unionWords speaks of the branch that was meant: the one that got furthest; if none got in, of all. */
function unionWords(branches: readonly (readonly z.core.$ZodIssue[])[]): string {
  const deepest = branches.flat().toSorted((a, b) => b.path.length - a.path.length)[0];
  if (deepest === undefined) return "is not allowed";
  if (deepest.path.length > 0) return `${deepest.path.join(".")} ${deepest.message}`;
  const [first = "", ...others] = [...new Set(branches.flatMap(([issue]) => issue?.message ?? []))];
  return [first, ...others.map((text) => text.replace(/^must be /, ""))].join(" or ");
}

/** firstProblem says of a value that a schema refused where it is wrong and how: `peers.0.port must be at most 65535`. */
export function firstProblem({ issues: [issue] }: z.core.$ZodError): string {
  if (issue === undefined) return "it is not allowed";
  return `${issue.path.length === 0 ? "it" : issue.path.join(".")} ${issue.message}`;
}

/** numberProblem says why a number of a JSON text is not what somebody wrote; undefined if it is. JSON.parse rounds without a word. */
export function numberProblem(value: unknown): string | undefined {
  if (typeof value !== "number") return undefined;
  if (!Number.isFinite(value)) return "is a number that is too large";
  if (Object.is(value, -0)) return "is -0; write 0";
  return Math.abs(value) > Number.MAX_SAFE_INTEGER ? "is a number that is too large to be exact" : undefined;
}

/** Longest text in which the place of a fault is looked for, characters. */
const SEARCHED_MAX = 1 << 20;

/** notJson says where a text that JSON.parse did not take stops being JSON. It does not quote it: a file named by mistake may be a key. */
export function notJson(text: string): string {
  if (text.trim() === "") return "it is empty and must hold JSON";
  const { fault, at } = faultOf(text);
  if (at === undefined) return "it is not JSON, and too long to look where it stops being that";
  let [line, start] = [1, 0];
  for (let end = text.indexOf("\n"); end >= 0 && end < at; end = text.indexOf("\n", start)) [line, start] = [line + 1, end + 1];
  return `it is not JSON: ${fault} at line ${line}, column ${at - start + 1}`;
}

function faultOf(text: string): { readonly fault: string; readonly at: number | undefined } {
  const found = complaint(text);
  const [, fault = "it ends", place] = /^(.*?)(?: in JSON| after JSON)? at position (\d+)/.exec(found) ?? [];
  if (place !== undefined) return { fault: fault.charAt(0).toLowerCase() + fault.slice(1), at: Number(place) };
  if (text.length > SEARCHED_MAX) return { fault, at: undefined };
  // V8 names no place for a token that it does not expect. It is where the text can no longer go on to be JSON.
  let [low, high] = [0, text.length];
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (mayGoOn(text.slice(0, middle))) low = middle;
    else high = middle - 1;
  }
  return { fault: low === text.length ? "it ends too early" : "something unexpected", at: low };
}

/** mayGoOn tells whether a text is the beginning of some JSON. */
function mayGoOn(text: string): boolean {
  const found = complaint(text);
  const [, place] = / at position (\d+)/.exec(found) ?? [];
  return place === undefined ? !found.startsWith("Unexpected token") : Number(place) >= text.length;
}

function complaint(text: string): string {
  try {
    JSON.parse(text);
    return "";
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}
