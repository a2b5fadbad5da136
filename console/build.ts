// Builds the console's page into dist/console: `make console`.
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { build } from "vite";

const ROOT = join(import.meta.dirname, "..");

/** PAGE_DIR is where a checkout keeps the page, and where its hubs look for it. */
export const PAGE_DIR = join(ROOT, "dist", "console");

/** buildPage makes one script, one style and the document, and resolves with their texts; with a folder it writes them there. */
export async function buildPage(outDir?: string): Promise<Readonly<Record<string, string>>> {
  const made = await build({
    configFile: false,
    root: import.meta.dirname,
    logLevel: "warn",
    oxc: { jsx: { runtime: "automatic", importSource: "preact", development: false } },
    resolve: { alias: { "#kernel": join(ROOT, "services", "kernel") } },
    build: {
      target: "es2023",
      write: false,
      modulePreload: false,
      chunkSizeWarningLimit: 1_024,
      rollupOptions: {
        input: join(import.meta.dirname, "src", "main.tsx"),
        output: { entryFileNames: "app.js", assetFileNames: "style[extname]", codeSplitting: false },
      },
    },
  });
  if (!("output" in made)) throw new Error("vite made more than one bundle of the console");
  const files: Record<string, string> = {};
  for (const name of ["index.html", "icon.svg"]) files[name] = await readFile(join(import.meta.dirname, name), "utf8");
  for (const part of made.output)
    files[part.fileName] =
      part.type === "chunk" ? part.code : typeof part.source === "string" ? part.source : new TextDecoder().decode(part.source);
  if (outDir !== undefined) {
    await mkdir(outDir, { recursive: true });
    for (const [name, text] of Object.entries(files)) await writeFile(join(outDir, name), text);
  }
  return files;
}

if (import.meta.main) {
  const files = await buildPage(PAGE_DIR);
  for (const [name, text] of Object.entries(files)) console.log(`${join(PAGE_DIR, name)}: ${Math.round(text.length / 1024)} KiB`);
}
