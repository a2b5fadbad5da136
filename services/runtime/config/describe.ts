import type * as z from "zod";
import { envName, leavesOf, type Shape, shapeOf } from "./shape.ts";

/** ConfigRow is one line of the configuration reference. */
export interface ConfigRow {
  readonly path: string;
  readonly env: string;
  readonly type: string;
  readonly unit: string;
  /** Default as JSON; empty if a value is required, "none" if it may be left out. */
  readonly fallback: string;
  readonly bounds: string;
  /** When a change takes effect. */
  readonly applies: "restart" | "live";
  readonly description: string;
}

/** describeConfig lists all fields of a schema, from zod's meta. */
export function describeConfig(schema: z.ZodType): ConfigRow[] {
  return leavesOf(shapeOf(schema)).map(({ path, shape }) => ({
    path: path.join("."),
    env: path.includes("*") ? "" : envName(path),
    type: shape.kind === "record" ? `map of ${shape.item?.type ?? ""}` : shape.type,
    unit: shape.facts.unit,
    fallback: shape.fallback !== undefined ? JSON.stringify(shape.fallback) : shape.optional ? "none" : "",
    bounds: boundsOf(shape),
    applies: shape.facts.live ? "live" : "restart",
    description: shape.facts.description,
  }));
}

/** configTable writes the rows as a Markdown table. */
export function configTable(rows: readonly ConfigRow[]): string {
  const head = "| field | unit | default | bounds | change | what it does |\n|---|---|---|---|---|---|";
  const cell = (text: string): string => text.replaceAll("|", "\\|").replaceAll("\n", " ");
  const lines = rows.map((r) => {
    const fallback = r.fallback === "" ? "required" : `\`${r.fallback}\``;
    return `| \`${r.path}\` | ${r.unit} | ${cell(fallback)} | ${cell(r.bounds)} | ${r.applies} | ${cell(r.description)} |`;
  });
  return [head, ...lines].join("\n");
}

interface Bounds {
  readonly minValue?: number | null;
  readonly maxValue?: number | null;
  readonly minLength?: number | null;
  readonly maxLength?: number | null;
  readonly options?: readonly unknown[];
}

/** boundsOf reads what zod knows: choices, or the range of a number or of a length. */
function boundsOf(shape: Shape): string {
  const b = shape.schema as unknown as Bounds;
  if (shape.type === "enum" && b.options !== undefined) return b.options.join(", ");
  const [low, high] = shape.type === "number" ? [b.minValue, b.maxValue] : [b.minLength, b.maxLength];
  const known = (n: number | null | undefined): n is number => typeof n === "number" && Math.abs(n) < Number.MAX_SAFE_INTEGER;
  const what = shape.type === "number" ? "" : shape.type === "array" ? " items" : " characters";
  if (known(low) && known(high)) return `${low} to ${high}${what}`;
  if (known(low)) return `at least ${low}${what}`;
  return known(high) ? `at most ${high}${what}` : "";
}

/** Text in place of a secret. */
const REDACTED = "[redacted]";

/** renderEffective copies a configuration for people to read, with every secret field redacted. */
export function renderEffective(schema: z.ZodType, config: unknown): unknown {
  return redacted(shapeOf(schema), config);
}

function redacted(shape: Shape | undefined, value: unknown): unknown {
  if (shape === undefined || value === undefined) return value;
  if (shape.facts.secret && (shape.kind === "leaf" || shape.item?.kind === "leaf")) return REDACTED;
  if (shape.kind === "leaf" || typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([k, v]) => [k, redacted(shape.kind === "record" ? shape.item : shape.fields.get(k), v)]),
  );
}

/** ConfigChange is one difference between two configurations. */
export interface ConfigChange {
  readonly path: string;
  readonly from: unknown;
  readonly to: unknown;
  readonly applies: "restart" | "live";
}

/** diffConfig lists what differs, and whether it can be applied while running. Secrets are redacted. */
export function diffConfig(schema: z.ZodType, from: unknown, to: unknown): ConfigChange[] {
  return diff(shapeOf(schema), from, to, []);
}

/** withLive is the configuration `from` with what of `to` can be followed while running. */
export function withLive<T>(schema: z.ZodType<T>, from: T, to: T): T {
  return followed(shapeOf(schema), from, to) as T;
}

function followed(shape: Shape, from: unknown, to: unknown): unknown {
  if (shape.facts.live) return to;
  if (shape.kind !== "object" || !isTree(from) || !isTree(to)) return from;
  const fields = [...shape.fields].map(([key, field]) => [key, followed(field, from[key], to[key])] as const);
  return Object.fromEntries(fields.filter(([, value]) => value !== undefined));
}

function isTree(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function diff(shape: Shape, from: unknown, to: unknown, path: readonly string[]): ConfigChange[] {
  if (JSON.stringify(from) === JSON.stringify(to)) return [];
  if (shape.kind !== "leaf" && isTree(from) && isTree(to)) {
    const keys = [...new Set([...Object.keys(from), ...Object.keys(to)])];
    return keys.flatMap((key) => {
      const field = shape.kind === "record" ? shape.item : shape.fields.get(key);
      return field === undefined ? [] : diff(field, from[key], to[key], [...path, key]);
    });
  }
  return [{ path: path.join("."), from: redacted(shape, from), to: redacted(shape, to), applies: shape.facts.live ? "live" : "restart" }];
}
