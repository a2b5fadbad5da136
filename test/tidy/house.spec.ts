import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, expect, test } from "vitest";
import { filesUnder, importsOf, isTest, ROOT, read, sources } from "./files.ts";

/** Files in one folder: more are found by searching only. */
const FILES_MAX = 16;

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
    ...text.matchAll(/(?<![\w./-])(?:\.\/)?(#kernel|#channel|#runtime|#gen|services|clients|cli|certs|test|tools)\/([\w./-]+\.ts)\b/g),
  ].map(([, room = "", path = ""]) => `${aliases[room] ?? room}/${path}`);
}

describe("rooms of the house", () => {
  const files = sources().filter((path) => /^(services|clients|cli|certs)\//.test(path) && !isTest(path));

  test("no file reaches itself through its imports, those of types included", () => {
    const graph = new Map(files.map((file) => [file, importsOf(file).map(({ target }) => target)]));
    expect([...graph.values()].flat().length).toBeGreaterThan(1_000);
    expect(circlesOf(graph)).toEqual([]);
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
      ...["services", "cli", "certs", "clients", "docs", "helm", "ops", "test", "tools"].flatMap((folder) =>
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
