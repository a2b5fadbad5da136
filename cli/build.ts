// Bundles the command into one file, dist/foedus.mjs: `npm run build`.
import { chmod, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { build } from "esbuild";

const ROOT = join(import.meta.dirname, "..");

/** Packages in the bundle are CommonJS in part and call `require`, which ESM does not have. */
const BANNER = 'import { createRequire as __createRequire } from "node:module"; const require = __createRequire(import.meta.url);';

/**
 * The installed command is for small machines: one malloc arena, a small young generation and compact code take about a fifth off
 * the memory of an idle hub. On a large machine start it as `node foedus.mjs`, which runs at full speed.
 */
const SHEBANG = "#!/usr/bin/env -S MALLOC_ARENA_MAX=1 node --max-semi-space-size=2 --optimize-for-size";

/** Bundled is what was written. */
export interface Bundled {
  readonly sizeBytes: number;
  readonly inputs: number;
}

/** bundle writes the command with everything it needs into one file. A verb's code is evaluated when the verb runs, as without a bundle. */
export async function bundle(outfile: string): Promise<Bundled> {
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
    logLevel: "warning",
  });
  const code = await readFile(outfile, "utf8");
  await writeFile(outfile, code.replace(/^#!.*\n/, `${SHEBANG}\n`));
  await chmod(outfile, 0o755);
  return { sizeBytes: (await stat(outfile)).size, inputs: Object.keys(metafile.inputs).length };
}

if (import.meta.main) {
  const outfile = join(ROOT, "dist", "foedus.mjs");
  const { sizeBytes, inputs } = await bundle(outfile);
  console.log(`${outfile}: ${Math.round(sizeBytes / 1024)} KiB from ${inputs} files`);
}
