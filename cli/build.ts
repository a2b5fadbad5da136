// Bundles the command into one file, dist/foedus.mjs: `npm run build`. `--out <file>` and `--shebang <line>` are for packagers.
import { appendFile, chmod, readdir, readFile, stat, writeFile } from "node:fs/promises";
import { isBuiltin } from "node:module";
import { join } from "node:path";
import { parseArgs, promisify } from "node:util";
import { brotliCompress } from "node:zlib";
import { build, type Plugin } from "esbuild";
import { buildPage } from "../console/build.ts";

const ROOT = join(import.meta.dirname, "..");

/** Packages in the bundle are CommonJS in part and call `require`, which ESM does not have. */
const BANNER = 'const require = process.getBuiltinModule("node:module").createRequire(import.meta.url);';

/** Stands for the loading of Node's own modules until all that are imported are known. */
const MARK = "globalThis.foedusLoadsBuiltins()";

/** marked puts the mark into `builtins.ts`. */
const marked: Plugin = {
  name: "builtins",
  setup: ({ onLoad }) => onLoad({ filter: /[/\\]cli[/\\]builtins\.ts$/ }, () => ({ contents: `${MARK};`, loader: "js" })),
};

/** page puts the page of the console into `built.ts`. */
const page: Plugin = {
  name: "page",
  setup: ({ onLoad }) =>
    onLoad({ filter: /[/\\]hub[/\\]console[/\\]built\.ts$/ }, async () => {
      const files = Object.entries(await buildPage()).map(async ([name, text]) => [
        name,
        (await promisify(brotliCompress)(text)).toString("base64"),
      ]);
      return { contents: `export const BUILT = ${JSON.stringify(Object.fromEntries(await Promise.all(files)))};`, loader: "js" };
    }),
};

/** An import of one of Node's own modules, as esbuild writes it when it minifies: `import d,{a as b}from"node:x";`. */
const IMPORT = /(?<![\w$.])import(?:([\w$ ]*?),?(?:\{([^{}]*)\}|\*as ([\w$]+))?\s*from)?\s*"((?:node:)?[a-z0-9_/]+)";/g;

/**
 * late turns imports of Node's own modules into assignments at the mark. Static imports are loaded before the first statement, whatever
 * its place, and with them a signal that comes early finds no handler.
 */
export function late(code: string): string {
  const names: string[] = [];
  const sets: string[] = [];
  const rest = code.replace(IMPORT, (whole, plain = "", braces = "", all = "", id: string) => {
    if (!isBuiltin(id)) return whole;
    const from = `process.getBuiltinModule(${JSON.stringify(id)})`;
    for (const name of [plain.trim(), all].filter((text) => text !== "")) {
      names.push(name);
      sets.push(`${name}=${from}`);
    }
    const pairs = braces
      .split(",")
      .filter((text: string) => text !== "")
      .map((text: string) => text.trim().split(/\s+as\s+/));
    for (const [theirs, ours = theirs] of pairs) {
      names.push(ours);
      sets.push(theirs === "default" ? `${ours}=${from}` : `${ours}=${from}.${theirs}`);
    }
    return "";
  });
  const parts = rest.split(MARK);
  if (parts.length !== 2) throw new Error(`the bundle has ${parts.length - 1} places where builtins are loaded`);
  return `var ${names.join(",")};${parts.join(`(${sets.join(",")})`)}`;
}

/**
 * The installed command is for small machines: one malloc arena, a small young generation and compact code save memory
 * (docs/INSTALL.md says how much). On a large machine start it as `node foedus.mjs`, which runs at full speed.
 */
const SHEBANG = "#!/usr/bin/env -S MALLOC_ARENA_MAX=1 node --disable-sigusr1 --max-semi-space-size=2 --optimize-for-size";

/** INSTALLED is how the installed command runs Node, for tests that run a hub as it does. */
export const INSTALLED: { readonly env: Readonly<Record<string, string>>; readonly flags: readonly string[] } = {
  env: { MALLOC_ARENA_MAX: "1" },
  flags: SHEBANG.split(" node ")[1]?.split(" ") ?? [],
};

/** Files that say under which terms a package may be passed on. */
const TERMS = /^(?:licen[cs]e|notice|copying)(?:[.-].*)?$/i;

/** Files of the packages that are in the page of the console. */
const PAGE_PACKAGES = ["preact", "uplot", "cytoscape"].map((name) => `node_modules/${name}/package.json`);

/** Bundled is what was written. */
export interface Bundled {
  readonly sizeBytes: number;
  readonly inputs: number;
}

/**
 * bundle writes the command with everything it needs into one file. A verb's code is evaluated when the verb runs, as without a bundle.
 * Beside it, `<outfile>.LEGAL.txt` has the terms of every package in it.
 */
export async function bundle(outfile: string, shebang: string = SHEBANG): Promise<Bundled> {
  const { metafile } = await build({
    entryPoints: [join(ROOT, "cli", "main.ts")],
    outfile,
    bundle: true,
    minify: true,
    format: "esm",
    platform: "node",
    target: "node24",
    banner: { js: BANNER },
    legalComments: "linked",
    metafile: true,
    plugins: [marked, page],
    logLevel: "warning",
  });
  const code = await readFile(outfile, "utf8");
  await writeFile(outfile, `${shebang}\n${late(code.replace(/^#!.*\n/, ""))}`);
  await chmod(outfile, 0o755);
  await appendFile(`${outfile}.LEGAL.txt`, await termsOf([...Object.keys(metafile.inputs), ...PAGE_PACKAGES]));
  return { sizeBytes: (await stat(outfile)).size, inputs: Object.keys(metafile.inputs).length };
}

/** termsOf gives the licences and notices of the packages that these files come from. */
async function termsOf(inputs: readonly string[]): Promise<string> {
  const packages = new Set(inputs.flatMap((input) => /^.*node_modules\/(?:@[^/]+\/)?[^/]+/.exec(input)?.[0] ?? []));
  const parts: string[] = [];
  for (const folder of [...packages].sort()) {
    const { name, version, license } = JSON.parse(await readFile(join(ROOT, folder, "package.json"), "utf8")) as Record<string, unknown>;
    parts.push(`\n${"=".repeat(78)}\n${name} ${version} (${license})\n`);
    const files = (await readdir(join(ROOT, folder))).filter((file) => TERMS.test(file)).sort();
    for (const file of files) parts.push(`\n${(await readFile(join(ROOT, folder, file), "utf8")).trim()}\n`);
  }
  return parts.join("");
}

if (import.meta.main) {
  const { values } = parseArgs({ options: { out: { type: "string" }, shebang: { type: "string" } } });
  const outfile = values.out ?? join(ROOT, "dist", "foedus.mjs");
  const { sizeBytes, inputs } = await bundle(outfile, values.shebang);
  console.log(`${outfile}: ${Math.round(sizeBytes / 1024)} KiB from ${inputs} files`);
}
