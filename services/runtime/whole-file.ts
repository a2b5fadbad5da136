import {
  chmodSync,
  closeSync,
  fsyncSync,
  mkdirSync,
  openSync,
  realpathSync,
  renameSync,
  statSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname } from "node:path";

/**
 * writeWhole replaces a file in one step: written beside it, flushed, renamed and the rename flushed too, so that a reader, and whoever
 * comes after a loss of power, sees the old or the new content. A symbolic link stays one, an existing file keeps its mode, and the folder
 * is made if it is missing. It throws what the file system says; nothing is left beside the file then.
 */
export function writeWhole(path: string, text: string, mode = 0o644): void {
  const file = realOf(path);
  mkdirSync(dirname(file), { recursive: true });
  const temporary = `${file}.new`;
  try {
    write(temporary, text, modeOf(file) ?? mode);
    renameSync(temporary, file);
  } catch (error) {
    remove(temporary);
    throw error;
  }
  syncFolder(dirname(file));
}

function realOf(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path;
  }
}

function modeOf(file: string): number | undefined {
  return statSync(file, { throwIfNoEntry: false })?.mode;
}

function write(file: string, text: string, mode: number): void {
  const handle = openSync(file, "w", mode & 0o777);
  try {
    chmodSync(file, mode & 0o777);
    writeFileSync(handle, text);
    fsyncSync(handle);
  } finally {
    closeSync(handle);
  }
}

function remove(file: string): void {
  try {
    unlinkSync(file);
  } catch {
    // It was not made.
  }
}

/** syncFolder makes a rename outlive a loss of power. Systems that cannot flush a folder do it in their own time. */
function syncFolder(folder: string): void {
  const handle = openSync(folder, "r");
  try {
    fsyncSync(handle);
  } catch (error) {
    if (!["EINVAL", "EPERM", "EISDIR", "ENOTSUP"].includes((error as NodeJS.ErrnoException).code ?? "")) throw error;
  } finally {
    closeSync(handle);
  }
}
