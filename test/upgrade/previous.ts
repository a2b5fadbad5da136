// The previous version of this software, running: its bundle is built from the commit that baseline.json names, out of this checkout's
// own history, into an ignored cache. Nothing of it is committed twice.
import { execFileSync, spawnSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ROOT } from "../support/federation.ts";

/** Baseline is the version that the present one is upgraded from. */
export interface Baseline {
  readonly version: string;
  /** Full SHA-1 of the commit that it was made of. */
  readonly commit: string;
  /** Format of its stores (`user_version`). */
  readonly format: number;
  /** Its services. */
  readonly services: readonly string[];
}

/** BASELINE is what baseline.json says; `make upgrade-baseline` writes it at a release. */
export const BASELINE = JSON.parse(readFileSync(join(import.meta.dirname, "baseline.json"), "utf8")) as Baseline;

/** Previous is the entry point of the previous version, or the reason why there is none here. */
export type Previous = { readonly entry: string; readonly reason?: never } | { readonly entry?: never; readonly reason: string };

const CACHE = join(ROOT, ".tools/previous");

/** previous gives the bundle of the previous version. The first call of a checkout builds it, which takes some three seconds. */
export function previous({ commit, version }: Pick<Baseline, "commit" | "version"> = BASELINE): Previous {
  const entry = join(CACHE, `foedus-${commit}.mjs`);
  if (existsSync(entry)) return { entry };
  const known = spawnSync("git", ["-C", ROOT, "cat-file", "-e", `${commit}^{commit}`]);
  if (known.status !== 0) {
    const how = "fetch it with git fetch --unshallow";
    return { reason: `commit ${commit.slice(0, 12)} of version ${version} is not in this checkout's history; ${how}` };
  }
  const sources = mkdtempSync(join(tmpdir(), "foedus-previous-"));
  try {
    const archive = execFileSync("git", ["-C", ROOT, "archive", "--format=tar", commit], { maxBuffer: 512 * 1024 * 1024 });
    execFileSync("tar", ["-x", "-C", sources], { input: archive });
    const changed = changedPackages(sources);
    if (changed.length === 0) symlinkSync(join(ROOT, "node_modules"), join(sources, "node_modules"));
    else {
      const flags = ["--no-save", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"];
      const { status, stderr } = spawnSync("npm", ["install", ...flags], { cwd: sources, encoding: "utf8", timeout: 300_000 });
      const why = stderr?.trim().split("\n").at(-1) ?? "";
      if (status !== 0) return { reason: `version ${version} has other packages (${changed[0]} …), and they cannot be had: ${why}` };
    }
    execFileSync(process.execPath, ["cli/build.ts"], { cwd: sources, stdio: "pipe" });
    mkdirSync(CACHE, { recursive: true });
    // Whole or not at all: another test may be doing the same.
    const fresh = `${entry}.${process.pid}`;
    copyFileSync(join(sources, "dist", "foedus.mjs"), fresh);
    renameSync(fresh, entry);
    return { entry };
  } finally {
    rmSync(sources, { recursive: true, force: true });
  }
}

/** changedPackages lists what that version ships with and what is not installed here in the same version: it needs packages of its own. */
function changedPackages(sources: string): string[] {
  const lock = JSON.parse(readFileSync(join(sources, "package-lock.json"), "utf8")) as {
    packages: Record<string, { version?: string; dev?: boolean; optional?: boolean }>;
  };
  return Object.entries(lock.packages).flatMap(([place, { version, dev, optional }]) => {
    if (place === "" || dev === true || optional === true) return [];
    const file = join(ROOT, place, "package.json");
    const here = existsSync(file) ? (JSON.parse(readFileSync(file, "utf8")) as { version?: string }).version : undefined;
    return here === version ? [] : [`${place.replace(/^node_modules\//, "")} ${version}`];
  });
}

/**
 * forgetNewFields takes out of a configuration what a version does not know, as that version itself tells: a configuration is upgraded
 * after the software (docs/UPGRADES.md).
 */
export function forgetNewFields(file: string, entry: readonly string[]): void {
  const { stderr } = spawnSync(process.execPath, [...entry, "config", "--file", file], { encoding: "utf8" });
  const unknown = [...stderr.matchAll(/^ *(\S+): unknown key/gm)].map((match) => match[1]!.split("."));
  if (unknown.length === 0) return;
  const config = JSON.parse(readFileSync(file, "utf8")) as Record<string, unknown>;
  for (const path of unknown) {
    const parent = path.slice(0, -1).reduce((at, key) => at[key] as Record<string, unknown>, config);
    delete parent[path.at(-1)!];
  }
  writeFileSync(file, JSON.stringify(config, undefined, 2));
}
