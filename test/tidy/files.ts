import { readdirSync, readFileSync, statSync } from "node:fs";
import { dirname, join, normalize, relative } from "node:path";

/** ROOT is the project's folder. */
export const ROOT = join(import.meta.dirname, "../..");

const SKIPPED = new Set(["node_modules", ".git", "dist", ".foedus", ".tools", "coverage"]);

/** filesUnder lists files below a folder of the project, as paths from the root. */
export function filesUnder(folder: string, accept: (path: string) => boolean): string[] {
  const found: string[] = [];
  const visit = (path: string): void => {
    for (const entry of readdirSync(path).sort()) {
      if (SKIPPED.has(entry)) continue;
      const full = join(path, entry);
      const name = relative(ROOT, full);
      if (name === "certs/dev") continue;
      if (statSync(full).isDirectory()) visit(full);
      else if (accept(name)) found.push(name);
    }
  };
  visit(join(ROOT, folder));
  return found;
}

/** read gives the text of a file of the project. */
export function read(path: string): string {
  return readFileSync(join(ROOT, path), "utf8");
}

/** sources lists the TypeScript files of the project, generated code left out. */
export function sources(): string[] {
  return ["services", "clients", "adapters", "cli", "certs", "console", "test", "tools"].flatMap((folder) =>
    filesUnder(folder, (path) => /\.tsx?$/.test(path)),
  );
}

/** isTest tells tests and what only tests use from what ships. */
export function isTest(path: string): boolean {
  return path.endsWith(".spec.ts") || path.startsWith("test/");
}

/** withoutComments blanks comments and string contents, so that words in prose are not taken for code. Lines are kept. */
export function withoutComments(text: string): string {
  return text
    .replace(/\/\*[\s\S]*?\*\//g, (comment) => comment.replace(/[^\n]/g, " "))
    .replace(/(^|[^:"'`\\])\/\/[^\n]*/g, (_all, before: string) => before)
    .replace(/"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'/g, (quoted) => quoted[0] + quoted[0]!);
}

/** Area is a part of the house. */
export type Area =
  | "gen"
  | "kernel"
  | "channel"
  | "runtime"
  | "sdk"
  | "hub"
  | "cli"
  | "certs"
  | "console"
  | "test"
  | "tools"
  | "npm"
  | "node"
  | `adapter:${string}`
  | `service:${string}`;

/** areaOf a file, by its path from the root. */
export function areaOf(path: string): Area {
  if (path.startsWith("proto/gen/")) return "gen";
  if (path.startsWith("services/kernel/")) return "kernel";
  if (path.startsWith("services/channel/")) return "channel";
  if (path.startsWith("services/runtime/")) return "runtime";
  if (path.startsWith("clients/typescript/")) return "sdk";
  if (path.startsWith("services/hub/")) return "hub";
  const service = /^services\/([a-z-]+)\//.exec(path)?.[1];
  if (service !== undefined) return `service:${service}`;
  const adapter = /^adapters\/([a-z0-9-]+)\//.exec(path)?.[1];
  if (adapter !== undefined) return `adapter:${adapter}`;
  if (path.startsWith("cli/")) return "cli";
  if (path.startsWith("certs/")) return "certs";
  if (path.startsWith("console/")) return "console";
  if (path.startsWith("test/")) return "test";
  if (path.startsWith("tools/")) return "tools";
  throw new Error(`${path} has no room in the house`);
}

/** Import is what one file takes from another. */
export interface Import {
  readonly from: string;
  readonly line: number;
  readonly target: string;
  readonly area: Area;
}

/** importsOf a file, those of types too. */
export function importsOf(path: string): Import[] {
  const text = read(path);
  const found: Import[] = [];
  for (const match of text.matchAll(
    /(?:^|\n)\s*(?:import|export)\s[^;]*?from\s+"([^"]+)"|(?:^|\n)\s*import\s+"([^"]+)"|import\("([^"]+)"\)/g,
  )) {
    const name = match[1] ?? match[2] ?? match[3]!;
    const line = text.slice(0, match.index).split("\n").length + 1;
    if (name.startsWith("node:")) found.push({ from: path, line, target: name, area: "node" });
    else if (name.startsWith("#")) {
      const target = name.replace("#gen/", "proto/gen/").replace(/^#(kernel|channel|runtime)\//, "services/$1/");
      found.push({ from: path, line, target, area: areaOf(target) });
    } else if (name.startsWith(".")) {
      const target = normalize(join(dirname(path), name));
      if (/\.(?:json|css)$/.test(target)) continue;
      found.push({ from: path, line, target, area: areaOf(target) });
    } else found.push({ from: path, line, target: name, area: "npm" });
  }
  return found;
}
