// Packages for this machine that npm has left out: it passes over optional packages whose `engines` do not name the Node that npm runs on,
// while they run on the Node that comes with the project. Prints `name@version`, one a line; prints nothing when all are there.
import { existsSync, readFileSync } from "node:fs";

interface Entry {
  readonly version: string;
  readonly optional?: boolean;
  readonly os?: readonly string[] | string;
  readonly cpu?: readonly string[] | string;
  readonly libc?: readonly string[] | string;
}

const { packages } = JSON.parse(readFileSync("package-lock.json", "utf8")) as { packages: Record<string, Entry> };
const report = process.report.getReport() as { header: { glibcVersionRuntime?: string } };
const libc = report.header.glibcVersionRuntime === undefined ? "musl" : "glibc";

/** fits tells whether a package is for such machines; one that says nothing is for all. */
function fits(wanted: readonly string[] | string | undefined, is: string): boolean {
  return wanted === undefined || [wanted].flat().includes(is);
}

for (const [place, { version, optional, os, cpu, libc: libcs }] of Object.entries(packages))
  if (
    optional === true &&
    os !== undefined &&
    fits(os, process.platform) &&
    fits(cpu, process.arch) &&
    fits(libcs, libc) &&
    !existsSync(place)
  )
    process.stdout.write(`${place.slice(place.lastIndexOf("node_modules/") + "node_modules/".length)}@${version}\n`);
