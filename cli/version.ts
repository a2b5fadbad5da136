import manifest from "../package.json" with { type: "json" };
import { EXIT, type ExitCode } from "./exit.ts";
import type { Io } from "./io.ts";
import type { OutputFlags } from "./verb.ts";

/** VERSION is the version of this software. */
export const VERSION: string = manifest.version;

/** run prints the version, and what it runs on. */
export async function run(io: Io, _args: readonly string[], options: OutputFlags): Promise<ExitCode | undefined> {
  const { platform, arch, versions } = process;
  if (options.json) await io.out(`${JSON.stringify({ version: VERSION, node: versions.node, platform, arch }, undefined, 2)}\n`);
  else if (options.quiet) await io.out(`${VERSION}\n`);
  else await io.out(`foedus ${VERSION} (node ${versions.node}, ${platform}-${arch})\n`);
  return EXIT.ok;
}
