import type * as z from "zod";

/**
 * FieldFacts are what a field of a configuration schema carries in its zod meta, beside `description`:
 * `unit` ("ms", "bytes"), `live` (true: a change is followed while running; otherwise it takes effect at the next start), `secret` (never
 * printed). Any other key is a mistake.
 */
export interface FieldFacts {
  readonly description: string;
  readonly unit: string;
  readonly live: boolean;
  readonly secret: boolean;
}

/** Shape is a node of a schema, with defaults, optionals and the like peeled off. */
export interface Shape {
  readonly kind: "object" | "record" | "leaf";
  /** Fields of an object. */
  readonly fields: ReadonlyMap<string, Shape>;
  /** What a record holds. */
  readonly item: Shape | undefined;
  /** Peeled zod type: "number", "string", "boolean", "array", "enum", … */
  readonly type: string;
  readonly schema: z.ZodType;
  readonly optional: boolean;
  /** Default value; undefined if there is none. */
  readonly fallback: unknown;
  readonly facts: FieldFacts;
}

interface Def {
  readonly type: string;
  readonly innerType?: z.ZodType;
  readonly in?: z.ZodType;
  readonly defaultValue?: unknown;
  readonly shape?: Readonly<Record<string, z.ZodType>>;
  readonly valueType?: z.ZodType;
}

const NO_FACTS: FieldFacts = { description: "", unit: "", live: false, secret: false };

/** shapeOf reads a zod schema. `live` and `secret` of an object hold for all of its fields. It throws for a fact that is not known. */
export function shapeOf(schema: z.ZodType, outer: FieldFacts = NO_FACTS): Shape {
  let optional = false;
  let fallback: unknown;
  let facts = outer;
  let at = schema;
  let def = at.def as Def;
  for (;;) {
    facts = { ...facts, ...factsOf(at) };
    if (def.type === "optional" || def.type === "nullable") optional = true;
    if (def.type === "default" || def.type === "prefault") fallback ??= def.defaultValue;
    const inner = def.innerType ?? (def.type === "pipe" ? def.in : undefined);
    if (inner === undefined) break;
    at = inner;
    def = at.def as Def;
  }
  const inherited = { ...facts, description: "", unit: "" };
  const fields = new Map(
    def.type === "object" ? Object.entries(def.shape ?? {}).map(([name, field]) => [name, shapeOf(field, inherited)]) : [],
  );
  const item = def.type === "record" && def.valueType !== undefined ? shapeOf(def.valueType, inherited) : undefined;
  const kind = def.type === "object" ? "object" : item === undefined ? "leaf" : "record";
  return { kind, fields, item, type: def.type, schema: at, optional, fallback, facts };
}

/** factsOf reads the meta of a schema; a key that nobody reads would promise what does not happen. */
function factsOf(schema: z.ZodType): Partial<FieldFacts> {
  const meta = schema.meta() ?? {};
  const unknown = Object.keys(meta).find((key) => !(key in NO_FACTS));
  if (unknown !== undefined) throw new Error(`a configuration schema has the unknown fact ${unknown}; known are ${Object.keys(NO_FACTS)}`);
  return meta as Partial<FieldFacts>;
}

/** Leaf is a field that holds a value, with its path. `*` stands for any key of a record. */
export interface Leaf {
  readonly path: readonly string[];
  readonly shape: Shape;
}

/** leavesOf lists all fields, in the order of the schema. */
export function leavesOf(shape: Shape, path: readonly string[] = []): Leaf[] {
  if (shape.kind === "object") return [...shape.fields].flatMap(([name, field]) => leavesOf(field, [...path, name]));
  if (shape.item !== undefined && shape.item.kind !== "leaf") return leavesOf(shape.item, [...path, "*"]);
  return [{ path, shape }];
}

/** envName is the environment variable of a field: `discovery.pingIntervalMs` is FOEDUS_DISCOVERY_PING_INTERVAL_MS. */
export function envName(path: readonly string[]): string {
  return ["foedus", ...path]
    .map((part) =>
      part
        .replace(/([a-z0-9])([A-Z])/g, "$1_$2")
        .replace(/[^A-Za-z0-9]+/g, "_")
        .toUpperCase(),
    )
    .join("_");
}

/** Longest word that is compared: nobody mistypes more than this, and the work grows with the square of it. */
const WORD_MAX = 64;

/** nearest finds the known word that is most like a mistyped one, if any is close (Damerau-Levenshtein, restricted); none for a very long word. */
export function nearest(word: string, known: readonly string[]): string | undefined {
  if (word.length > WORD_MAX) return undefined;
  let best: string | undefined;
  let least = Math.max(2, Math.floor(word.length / 3)) + 1;
  for (const candidate of known) {
    if (candidate.length > 2 * WORD_MAX) continue;
    const cost = distance(word.toLowerCase(), candidate.toLowerCase());
    if (cost < least) [best, least] = [candidate, cost];
  }
  return best;
}

function distance(a: string, b: string): number {
  let before: number[] = [];
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const change = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next[j] = Math.min(change, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1);
      const swapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      if (swapped) next[j] = Math.min(next[j] ?? 0, (before[j - 2] ?? 0) + 1);
    }
    [before, row] = [row, next];
  }
  return row[b.length] ?? 0;
}
