import { dirname, isAbsolute, join } from "node:path";
import { fail } from "#kernel/error.ts";
import { makeFolder, notFile, readText, writeWhole } from "#runtime/files.ts";

/** nextIncarnation counts the starts of one process of a hub, in a small file beside its stores; the first start is 1. */
export function nextIncarnation(file: string): number {
  let last = 0;
  try {
    last = Number(readText(file).trim());
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT")
      throw fail("NOT_CONFIGURED", `cannot read ${file}${notFile(error)}; give it to the user that runs the hub`, { cause: error });
  }
  // A damaged file counts as lost, and counting starts at 1 again. Peers refuse such a session only while one of an earlier start still lives.
  const next = Number.isSafeInteger(last + 1) && last >= 0 ? last + 1 : 1;
  try {
    makeFolder(dirname(file), 0o700);
    writeWhole(file, `${next}\n`, 0o600);
  } catch (error) {
    throw fail("NOT_CONFIGURED", `cannot write ${file}: make data_dir writable for the user that runs the hub and free some space`, {
      cause: error,
    });
  }
  return next;
}

/** resolveFrom reads a path of the configuration: relative ones are relative to the configuration file's folder. */
export function resolveFrom(folder: string, path: string): string {
  return isAbsolute(path) ? path : join(folder, path);
}
