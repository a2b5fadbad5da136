import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, expect, test } from "vitest";
import { filesUnder, importsOf, isTest, ROOT, read, sources } from "./files.ts";
import { functionsIn } from "./functions.ts";

/** Files in one folder: more are found by searching only. */
const FILES_MAX = 16;

/** What is read from top to bottom has fewer lines than these. */
const FILE_LINES = 450;
const FUNCTION_LINES = 60;

/** linesIn counts the lines of a text. */
function linesIn(text: string): number {
  return text.split("\n").length - (text.endsWith("\n") ? 1 : 0);
}

/** circlesOf are the groups of files that reach each other (Tarjan, 1972). */
function circlesOf(graph: ReadonlyMap<string, readonly string[]>): string[][] {
  const order = new Map<string, number>();
  const low = new Map<string, number>();
  const stack: string[] = [];
  const found: string[][] = [];
  const visit = (file: string): void => {
    order.set(file, order.size);
    low.set(file, order.size - 1);
    stack.push(file);
    for (const next of graph.get(file) ?? []) {
      if (!order.has(next)) visit(next);
      if (stack.includes(next)) low.set(file, Math.min(low.get(file)!, low.get(next)!));
    }
    if (low.get(file) !== order.get(file)) return;
    const group = stack.splice(stack.indexOf(file));
    if (group.length > 1) found.push(group.sort());
  };
  for (const file of graph.keys()) if (!order.has(file)) visit(file);
  return found;
}

/** pathsIn a text are the source files that it names, as paths from the root. */
function pathsIn(text: string): string[] {
  const aliases: Readonly<Record<string, string>> = {
    "#kernel": "services/kernel",
    "#channel": "services/channel",
    "#runtime": "services/runtime",
    "#gen": "proto/gen",
  };
  return [
    ...text.matchAll(
      /(?<![\w./-])(?:\.\/)?(#kernel|#channel|#runtime|#gen|services|clients|adapters|cli|certs|test|tools)\/([\w./-]+\.ts)\b/g,
    ),
  ].map(([, room = "", path = ""]) => `${aliases[room] ?? room}/${path}`);
}

/** longer are those of some things that have too many lines, with their lines. */
function longer(lines: readonly (readonly [string, number])[], limit: number): Record<string, number> {
  return Object.fromEntries(lines.filter(([, count]) => count >= limit));
}

describe("sizes", () => {
  const paths = ["services", "cli", "clients", "adapters", "certs", "console"].flatMap((folder) =>
    filesUnder(folder, (path) => /\.tsx?$/.test(path) && !isTest(path)),
  );
  const texts = new Map(paths.map((path) => [path, read(path)] as const));

  test(`files have fewer than ${FILE_LINES} lines`, () => {
    expect(texts.size).toBeGreaterThan(400);
    const lines = [...texts].map(([path, text]) => [path, linesIn(text)] as const);
    expect(longer(lines, FILE_LINES)).toEqual({});
  });

  test(`functions have fewer than ${FUNCTION_LINES} lines`, () => {
    const found = functionsIn(texts);
    expect([...found.keys()]).toEqual(paths);
    const lines = [...found].flatMap(([path, functions]) => functions.map((item) => [`${path} ${item.name}`, item.lines] as const));
    expect(lines.length).toBeGreaterThan(5_500);
    expect(longer(lines, FUNCTION_LINES)).toEqual({});
  });

  test("functions of every kind are measured, and nothing else", () => {
    const text = [
      "/** A docstring is none of its lines. */",
      "export function outer(): void {",
      "  const inner = (x: { y(): void }) => {",
      "    return `}` + x + '{';",
      "  };",
      "  each(function () {",
      "    // }",
      "  });",
      "}",
      "class Box {",
      "  readonly #field = () =>",
      "    1;",
      "  constructor() {}",
      "  get size() { return 1; }",
      "  async *#method(): AsyncIterable<number> {",
      "    yield* [];",
      "  }",
      "}",
      "interface Shape { method(): void }",
      "declare function none(): void;",
      "const made = { short() {}, long: async () => 1 };",
    ].join("\n");
    const found = functionsIn(new Map([["some/file.ts", text]])).get("some/file.ts") ?? [];
    expect(found.map(({ name, line, lines }) => [name, line, lines])).toEqual([
      ["outer", 2, 8],
      ["inner", 3, 3],
      ["each(…)", 6, 3],
      ["#field", 11, 2],
      ["constructor", 13, 1],
      ["size", 14, 1],
      ["#method", 15, 3],
      ["short", 21, 1],
      ["long", 21, 1],
    ]);
  });

  test("a long one is found", () => {
    expect(
      longer(
        [
          ["short", 59],
          ["long", 60],
        ],
        60,
      ),
    ).toEqual({ long: 60 });
    expect(linesIn("a\nb\n")).toBe(2);
    expect(linesIn("a\nb")).toBe(2);
  });
});

describe("rooms of the house", () => {
  const files = sources().filter((path) => /^(services|clients|adapters|cli|certs)\//.test(path) && !isTest(path));

  test("no file reaches itself through its imports, those of types included", () => {
    const graph = new Map(files.map((file) => [file, importsOf(file).map(({ target }) => target)]));
    expect([...graph.values()].flat().length).toBeGreaterThan(1_000);
    expect(circlesOf(graph)).toEqual([]);
  });

  test("what stands in the shell of a service is imported by what puts a service together, never by a core", () => {
    const shell = (path: string): boolean => /^services\/[^/]+\/shell\//.test(path);
    const users = files.flatMap((file) =>
      shell(file)
        ? []
        : importsOf(file)
            .filter(({ target }) => shell(target))
            .map(() => file),
    );
    expect(users.length).toBeGreaterThan(5);
    expect(users.filter((file) => !/\/(?:module|index|ground)\.ts$/.test(file))).toEqual([]);
  });

  test("a circle is found", () => {
    expect(
      circlesOf(
        new Map([
          ["a", ["b"]],
          ["b", ["c"]],
          ["c", ["b"]],
        ]),
      ),
    ).toEqual([["b", "c"]]);
  });

  test(`no folder has more than ${FILES_MAX} files`, () => {
    const counts = new Map<string, number>();
    for (const file of files) counts.set(dirname(file), (counts.get(dirname(file)) ?? 0) + 1);
    expect(counts.size).toBeGreaterThan(30);
    expect([...counts].filter(([, count]) => count > FILES_MAX)).toEqual([]);
  });

  test("pages name no file that is not there", () => {
    const pages = [
      ...["README.md", "CONTRIBUTING.md", "Makefile"],
      ...["services", "cli", "certs", "clients", "adapters", "docs", "helm", "ops", "test", "tools"].flatMap((folder) =>
        filesUnder(folder, (path) => path.endsWith(".md") && !path.startsWith("docs/adr/")),
      ),
    ];
    const named = pages.flatMap((page) => pathsIn(read(page)).map((path) => ({ page, path })));
    expect(named.length).toBeGreaterThan(200);
    expect(named.filter(({ path }) => !existsSync(join(ROOT, path)))).toEqual([]);
    expect(pathsIn('import { x } from "#runtime/gone.ts"; from "./services/gone.ts"')).toEqual([
      "services/runtime/gone.ts",
      "services/gone.ts",
    ]);
  });
});
