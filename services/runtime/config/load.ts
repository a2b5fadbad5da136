import type * as z from "zod";
import { FoedusError } from "#kernel/error.ts";
import { LISTS_MAX_BYTES, readText } from "#runtime/files.ts";
import { parseSettings } from "./json.ts";
import { envName, type Leaf, leavesOf, nearest, type Shape, shapeOf } from "./shape.ts";
import { issueWords, numberProblem } from "./words.ts";

/** ConfigInputs are the places a configuration comes from; later ones win: defaults, file, environment, flags. */
export interface ConfigInputs {
  /** Path of a JSON file. */
  readonly file?: string;
  /** Variables FOEDUS_<SECTION>_<FIELD>; others are ignored. Lists and objects are JSON; lists of texts also `a,b`. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Dotted paths, e.g. `{ "discovery.port": "18800" }`. Texts are read like environment variables. */
  readonly flags?: Readonly<Record<string, unknown>>;
  /** Variables of ours that are not configuration. */
  readonly ignoreEnv?: readonly string[];
}

/** ConfigProblem is one thing to fix. */
export interface ConfigProblem {
  /** Dotted path; empty for the whole. */
  readonly path: string;
  /** Where it came from: `file <path>`, `env <NAME>`, `flag <path>` or `default`. */
  readonly source: string;
  readonly message: string;
}

/** Loaded is a configuration that is valid, and where each of its values came from. */
export interface Loaded<T> {
  readonly config: T;
  /** Source by dotted path; what is missing has its default. */
  readonly sources: ReadonlyMap<string, string>;
}

/** PROBLEMS_MAX is how many problems are told at once: who has more reads no further. */
export const PROBLEMS_MAX = 20;
/** Characters of a path that are told; a key may be as long as a file. */
const PATH_MAX = 200;

/** ConfigError names every problem at once (INVALID_FIELD): the first of them, and how many `more` there are. */
export class ConfigError extends FoedusError {
  readonly problems: readonly ConfigProblem[];

  constructor(all: readonly ConfigProblem[], more = 0) {
    const rest = more + Math.max(0, all.length - PROBLEMS_MAX);
    const problems = all.slice(0, PROBLEMS_MAX).map((p) => ({ ...p, path: clipped(p.path) }));
    if (rest > 0) problems.push({ path: "", source: all.at(-1)?.source ?? "", message: `and ${rest} more` });
    const lines = problems.map((p) => `${p.path === "" ? "" : `${p.path}: `}${p.message} (${p.source})`);
    const first = problems[0]?.path ?? "";
    // One problem of the whole is a sentence; whatever concerns fields is a list.
    const one = lines.length === 1 && first === "";
    super({
      reason: "INVALID_FIELD",
      message: `configuration is not valid:${one ? ` ${lines[0]}` : lines.map((line) => `\n  ${line}`).join("")}`,
      ...(first === "" ? {} : { field: first }),
    });
    this.name = "ConfigError";
    this.problems = problems;
  }
}

function clipped(path: string): string {
  return path.length <= PATH_MAX ? path : `${path.slice(0, PATH_MAX)}…`;
}

type Tree = Record<string, unknown>;

/** Issues that are put into words: those of a union's branches count too. */
const WORDED_MAX = 1_000;

/** Kubernetes puts variables such as FOEDUS_PORT_18800_TCP into every container beside a Service named foedus. */
const SERVICE_LINK = /_(SERVICE_(HOST|PORT)(_\w+)?|PORT(_\d+_\w+)?)$/;

/**
 * loadConfig reads, merges and checks a configuration. It throws a ConfigError that lists all problems; of a file that cannot be read, only
 * that: what it would have said is not known, so nothing is missing or wrong yet.
 */
export function loadConfig<S extends z.ZodType>(schema: S, inputs: ConfigInputs = {}): Loaded<z.output<S>> {
  const loader = new Loader(shapeOf(schema));
  if (inputs.file !== undefined) loader.readFile(inputs.file);
  loader.readEnv(inputs.env ?? {}, new Set(inputs.ignoreEnv ?? ["FOEDUS_CONFIG"]));
  loader.readFlags(inputs.flags ?? {});
  return loader.check(schema);
}

class Loader {
  readonly #shape: Shape;
  readonly #leaves: readonly Leaf[];
  readonly #tree: Tree = {};
  readonly #sources = new Map<string, string>();
  readonly #problems: ConfigProblem[] = [];
  /** Problems beyond those that are told: only counted. */
  #more = 0;

  constructor(shape: Shape) {
    this.#shape = shape;
    this.#leaves = leavesOf(shape);
  }

  readFile(file: string): void {
    const source = `file ${file}`;
    const unreadable = (message: string): ConfigError => new ConfigError([{ path: "", source, message }]);
    let text: string;
    try {
      text = readText(file, LISTS_MAX_BYTES);
    } catch (error) {
      throw unreadable(`cannot read it: ${error instanceof Error ? error.message : String(error)}`);
    }
    let value: unknown;
    try {
      value = parseSettings(text);
    } catch (error) {
      throw unreadable((error as Error).message);
    }
    if (!isTree(value)) throw unreadable("it must hold one JSON object");
    this.#take(this.#shape, value, [], source);
  }

  readEnv(env: Readonly<Record<string, string | undefined>>, ignored: ReadonlySet<string>): void {
    const byName = new Map(this.#leaves.filter((leaf) => !leaf.path.includes("*")).map((leaf) => [envName(leaf.path), leaf]));
    for (const [name, text] of Object.entries(env)) {
      if (!name.startsWith("FOEDUS_") || text === undefined || ignored.has(name)) continue;
      const leaf = byName.get(name);
      if (leaf !== undefined) this.#take(leaf.shape, read(leaf.shape, text), leaf.path, `env ${name}`);
      else if (!SERVICE_LINK.test(name))
        this.#problem(
          [],
          `env ${clipped(name)}`,
          () => `unknown variable${hint(name, [...byName.keys()]).replace(/\?$/, ", or unset it")}`,
        );
    }
  }

  readFlags(flags: Readonly<Record<string, unknown>>): void {
    for (const [dotted, value] of Object.entries(flags)) {
      if (value === undefined) continue;
      const path = dotted.split(".");
      const source = `flag ${dotted}`;
      const shape = this.#find(path);
      if (shape !== undefined) this.#take(shape, typeof value === "string" ? read(shape, value) : value, path, source);
      else
        this.#problem(
          path,
          source,
          () =>
            `unknown key${hint(
              dotted,
              this.#leaves.map((leaf) => leaf.path.join(".")),
            )}`,
        );
    }
  }

  check<S extends z.ZodType>(schema: S): Loaded<z.output<S>> {
    fillSections(this.#shape, this.#tree);
    let worded = 0;
    const parsed = schema.safeParse(this.#tree, { error: (issue) => (++worded > WORDED_MAX ? "is not allowed" : issueWords(issue)) });
    const told = new Set(this.#problems.map(({ path }) => path));
    for (const issue of parsed.error?.issues ?? []) {
      const path = issue.path.map(String);
      // The first of several that concern one value is the one that helps.
      if (told.has(path.join("."))) continue;
      told.add(path.join("."));
      if (this.#full) this.#more++;
      else this.#problem(path, this.#sourceOf(path), () => issue.message.charAt(0).toLowerCase() + issue.message.slice(1));
    }
    if (this.#problems.length > 0 || !parsed.success) throw new ConfigError(this.#problems, this.#more);
    return { config: parsed.data, sources: this.#sources };
  }

  /** take puts a value into the tree, key by key, so that each leaf has its source and unknown keys are found. */
  #take(shape: Shape, value: unknown, path: readonly string[], source: string): void {
    if (shape.kind === "leaf" || !isTree(value)) {
      this.#set(path, value, source);
      return;
    }
    if (Object.keys(value).length === 0 && path.length > 0) this.#set(path, {}, source, true);
    for (const [key, item] of Object.entries(value)) {
      const field = shape.kind === "record" ? shape.item : shape.fields.get(key);
      const at = [...path, key];
      if (field !== undefined) this.#take(field, item, at, source);
      else if (key !== "$schema") this.#problem(at, source, () => `unknown key${hint(key, [...shape.fields.keys()])}`);
    }
  }

  #set(path: readonly string[], value: unknown, source: string, keep = false): void {
    let tree = this.#tree;
    for (const part of path.slice(0, -1)) {
      const next = Object.hasOwn(tree, part) ? tree[part] : undefined;
      tree = isTree(next) ? next : (define(tree, part, {}) as Tree);
    }
    const last = path.at(-1) ?? "";
    if (keep && Object.hasOwn(tree, last)) return;
    const inexact = numberProblem(value);
    if (inexact !== undefined) this.#problem(path, source, () => inexact);
    define(tree, last, value);
    this.#sources.set(path.join("."), source);
  }

  #find(path: readonly string[]): Shape | undefined {
    let shape: Shape | undefined = this.#shape;
    for (const part of path) shape = shape?.kind === "record" ? shape.item : shape?.fields.get(part);
    return shape;
  }

  /** sourceOf answers for a value inside a list or object with the source of what holds it, and for an object with that of what is in it. */
  #sourceOf(path: readonly string[]): string {
    for (let length = path.length; length > 0; length--) {
      const source = this.#sources.get(path.slice(0, length).join("."));
      if (source !== undefined) return source;
    }
    const inside = [...this.#sources].find(([key]) => key.startsWith(`${path.join(".")}.`));
    return inside?.[1] ?? "not given";
  }

  get #full(): boolean {
    return this.#problems.length >= PROBLEMS_MAX;
  }

  /** problem keeps one if there is room; only then it is put into words, which takes its time. */
  #problem(path: readonly string[], source: string, message: () => string): void {
    if (this.#full) this.#more++;
    else this.#problems.push({ path: path.join("."), source, message: message() });
  }
}

/** fillSections makes the objects that are not optional, so that their fields get their defaults. */
function fillSections(shape: Shape, tree: Tree): void {
  for (const [name, field] of shape.fields) {
    if (field.kind !== "object") continue;
    if (!Object.hasOwn(tree, name) && !field.optional) tree[name] = {};
    const section = tree[name];
    if (isTree(section)) fillSections(field, section);
  }
}

/** read makes a value of a text, as the field's type asks; what cannot be read stays a text, and the check says so. */
function read(shape: Shape, text: string): unknown {
  if (shape.type === "string" || shape.type === "enum" || shape.type === "literal") return text;
  if (shape.type === "number" || shape.type === "int") return text.trim() !== "" && Number.isFinite(Number(text)) ? Number(text) : text;
  if (shape.type === "boolean") return text === "true" ? true : text === "false" ? false : text;
  try {
    return JSON.parse(text);
  } catch {
    return shape.type === "array" ? text.split(",").map((part) => part.trim()) : text;
  }
}

/** define sets an own property whatever its name, `__proto__` too. */
function define(tree: Tree, key: string, value: unknown): unknown {
  Object.defineProperty(tree, key, { value, enumerable: true, writable: true, configurable: true });
  return value;
}

function isTree(value: unknown): value is Tree {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function hint(word: string, known: readonly string[]): string {
  const near = nearest(word, known);
  return near === undefined ? (known.length > 0 && known.length <= 8 ? `; known are ${known.join(", ")}` : "") : `; did you mean ${near}?`;
}
