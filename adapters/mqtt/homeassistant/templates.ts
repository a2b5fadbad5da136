import { isTree, isUnreadable, parseJson, type Unreadable } from "../../shared/values.ts";

/** Read takes a value out of a payload; undefined if it says nothing of it. */
export type Read = (payload: string) => unknown;

/** Write makes the payload of a value. */
export type Write = (value: unknown) => string;

const STEP = /\.([A-Za-z_]\w*)|\[(\d+)\]|\['([^']*)'\]|\["([^"]*)"\]/g;
const PLAIN =
  /^\s*\{\{-?\s*(value_json|value)((?:\.[A-Za-z_]\w*|\[\d+\]|\['[^']*'\]|\["[^"]*"\])*)\s*((?:\|\s*\w+(?:\([^(){}|]*\))?\s*)*)-?\}\}\s*$/;

type Filter = (value: unknown) => unknown;

const numeric = (value: unknown): number | undefined => {
  const read = typeof value === "string" && value.trim() !== "" ? Number(value) : value;
  return typeof read === "number" ? read : undefined;
};

const FILTERS: ReadonlyMap<string, (argument: string) => Filter> = new Map([
  ["float", () => (value: unknown) => numeric(value) ?? value],
  ["int", () => (value: unknown) => (numeric(value) === undefined ? value : Math.trunc(numeric(value) as number))],
  ["round", (argument: string) => (value: unknown) => rounded(value, Number(argument) || 0)],
  ["is_defined", () => (value: unknown) => value],
  ["string", () => (value: unknown) => spoken(value)],
  ["lower", () => (value: unknown) => spoken(value).toLowerCase()],
  ["upper", () => (value: unknown) => spoken(value).toUpperCase()],
  ["trim", () => (value: unknown) => spoken(value).trim()],
]);

function rounded(value: unknown, digits: number): unknown {
  const read = numeric(value);
  return read === undefined ? value : Number(read.toFixed(Math.min(20, Math.max(0, digits))));
}

/** filtersIn reads `| float | round(1)`; undefined if one is not known. */
function filtersIn(text: string): readonly Filter[] | undefined {
  const filters: Filter[] = [];
  for (const part of text.split("|").slice(1)) {
    const [, name = "", argument = ""] = /^\s*(\w+)(?:\(([^()]*)\))?\s*$/.exec(part) ?? [];
    const make = FILTERS.get(name);
    if (make === undefined) return undefined;
    filters.push(make(argument));
  }
  return filters;
}

/** spoken is a value as a template writes it. */
export function spoken(value: unknown): string {
  if (typeof value === "boolean") return value ? "True" : "False";
  return typeof value === "string" ? value : typeof value === "object" ? JSON.stringify(value) : String(value);
}

/** reader makes what reads a payload by a template; undefined if the template is more than a path into the payload with known filters. */
export function reader(template: unknown): Read | undefined {
  if (template === undefined || template === null || template === "") return (payload) => payload;
  if (typeof template !== "string") return undefined;
  const [, root, path = "", tail = ""] = PLAIN.exec(template) ?? [];
  if (root === undefined) return undefined;
  const filters = filtersIn(tail);
  if (filters === undefined || (root === "value" && path !== "")) return undefined;
  const steps = [...path.matchAll(STEP)].map(([, name, index, single, double]) => name ?? single ?? double ?? Number(index));
  return (payload) => {
    let value: unknown = root === "value" ? payload : parseJson(payload);
    if (isUnreadable(value)) return value;
    for (const step of steps) {
      if (typeof step === "number" ? Array.isArray(value) : isTree(value) && Object.hasOwn(value, step)) value = (value as never)[step];
      else return undefined;
    }
    return value === null || value === undefined ? undefined : filters.reduce<unknown>((so, filter) => filter(so), value);
  };
}

/** writer makes what writes a payload by a command template: text with `{{ value }}` in it; undefined if the template is more than that. */
export function writer(template: unknown): Write | undefined {
  if (template === undefined || template === null || template === "") return spokenPlain;
  if (typeof template !== "string" || template.includes("{%") || template.includes("{#")) return undefined;
  const parts: (string | readonly Filter[])[] = [];
  let at = 0;
  for (const match of template.matchAll(/\{\{-?\s*value\s*((?:\|\s*\w+(?:\([^(){}|]*\))?\s*)*)-?\}\}/g)) {
    const json = /^\|\s*to_?json\s*$/.test(match[1]?.trim() ?? "");
    const filters = json ? [(value: unknown) => JSON.stringify(value)] : filtersIn(match[1] ?? "");
    if (filters === undefined) return undefined;
    parts.push(template.slice(at, match.index), filters);
    at = match.index + match[0].length;
  }
  parts.push(template.slice(at));
  // Any other expression is left in the text, and cannot be sent.
  if (parts.some((part) => typeof part === "string" && part.includes("{{"))) return undefined;
  return (value) =>
    parts.map((part) => (typeof part === "string" ? part : spokenPlain(part.reduce((so, filter) => filter(so), value)))).join("");
}

/** spokenPlain writes numbers and texts as they are. */
function spokenPlain(value: unknown): string {
  return typeof value === "boolean" ? spoken(value) : String(value);
}

/** problemOf is an Unreadable of its own sentence. */
export function problemOf(problem: string): Unreadable {
  return { problem };
}
