import { readdirSync, readFileSync, statSync } from "node:fs";
import { join, relative } from "node:path";

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
  return ["services", "cli", "certs", "test", "tools"].flatMap((folder) => filesUnder(folder, (path) => path.endsWith(".ts")));
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
