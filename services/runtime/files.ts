import {
  chmodSync,
  closeSync,
  constants,
  copyFileSync,
  fchmodSync,
  fstatSync,
  fsyncSync,
  linkSync,
  mkdirSync,
  openSync,
  readSync,
  realpathSync,
  renameSync,
  type Stats,
  statSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname } from "node:path";

/** Largest file that is read where nothing else is said: keys, or a bundle of some hundred certificates. */
const READ_MAX_BYTES = 1024 * 1024;
/**
 * LISTS_MAX_BYTES is what is read of settings and of a list that grows with a fleet: rules with thousands of ids, 1,024 peers with two CAs
 * each in the file itself, or 10,000 revoked certificates with all that is said of them.
 */
export const LISTS_MAX_BYTES = 8 * 1024 * 1024;
/** Bytes of one read. */
const CHUNK_BYTES = 64 * 1024;

const BOM = "\ufeff";

const codeOf = (error: unknown): string => (error instanceof Error && "code" in error ? String(error.code) : "");

/** notAFile is what readText says of pipes, devices, sockets and folders; its code is one that no system call gives. */
function notAFile(path: string, what: string): Error {
  return Object.assign(new Error(`${path} is ${what} and not a file`), { code: "ENOTFILE", syscall: "read", path });
}

/** tooLarge is what readText says of a file with more than it reads; its code is one that no system call gives either. */
function tooLarge(path: string, maxBytes: number): Error {
  const message = `${path} holds more than ${maxBytes} bytes, which is more than is read of such a file`;
  return Object.assign(new Error(message), { code: "ETOOLARGE", syscall: "read", path });
}

/** readText reads a whole text file that people wrote or another program made: without the mark that some editors put before UTF-8. It throws as readBytes does. */
export function readText(path: string, maxBytes = READ_MAX_BYTES): string {
  return withoutBom(readBytes(path, maxBytes).toString("utf8"));
}

/**
 * readBytes reads a whole file. It throws what the system says, for what is no file (a pipe would hold the process until somebody writes, a device may have no end)
 * an error with the code ENOTFILE or EISDIR, and ETOOLARGE for more than `maxBytes`.
 */
export function readBytes(path: string, maxBytes = READ_MAX_BYTES): Buffer {
  // Without O_NONBLOCK the open itself waits for a pipe's other end.
  const handle = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const stats = fstatSync(handle);
    const kind = kindOf(stats);
    if (kind === "a folder")
      throw Object.assign(new Error(`${path} is a folder and not a file`), { code: "EISDIR", syscall: "read", path });
    if (kind !== undefined) throw notAFile(path, kind);
    if (stats.size > maxBytes) throw tooLarge(path, maxBytes);
    return readUpTo(handle, path, maxBytes);
  } finally {
    closeSync(handle);
  }
}

/** readUpTo counts what it reads: files of procfs say that they are empty, and some have no end. */
function readUpTo(handle: number, path: string, maxBytes: number): Buffer {
  const parts: Buffer[] = [];
  for (let length = 0; ; ) {
    const part = Buffer.allocUnsafe(Math.min(CHUNK_BYTES, maxBytes + 1 - length));
    const read = readSync(handle, part, 0, part.length, null);
    if (read === 0) return Buffer.concat(parts, length);
    parts.push(part.subarray(0, read));
    length += read;
    if (length > maxBytes) throw tooLarge(path, maxBytes);
  }
}

/** kindOf says what stands at a path that is no regular file; undefined if it is one. */
function kindOf(stats: Stats): string | undefined {
  if (stats.isFile()) return undefined;
  return stats.isDirectory() ? "a folder" : stats.isFIFO() ? "a pipe" : stats.isSocket() ? "a socket" : "a device";
}

/**
 * irregular names the first of some paths at which something other than a regular file stands, and says what: to open a pipe may never
 * end, also in a library that is given its path. What is missing is none; links count as what they lead to. It throws what the system says.
 */
export function irregular(paths: readonly string[]): { readonly path: string; readonly kind: string } | undefined {
  for (const path of paths) {
    const stats = statSync(path, { throwIfNoEntry: false });
    const kind = stats === undefined ? undefined : kindOf(stats);
    if (kind !== undefined) return { path, kind };
  }
  return undefined;
}

/** notFile says, as a part of a sentence, that what was to be read is no file or too large; empty for any other error. */
export function notFile(error: unknown): string {
  return ["ENOTFILE", "EISDIR", "ETOOLARGE"].includes(codeOf(error)) ? `: ${(error as Error).message}` : "";
}

/** withoutBom is a text without the byte order mark before it. */
export function withoutBom(text: string): string {
  return text.startsWith(BOM) ? text.slice(BOM.length) : text;
}

/**
 * makeFolder makes a folder and those above it that are missing. Unlike Node's own recursive mkdir it ends where the file system takes
 * no folders (in /proc that one tries for ever).
 */
export function makeFolder(path: string, mode = 0o777): void {
  try {
    mkdirSync(path, { mode });
  } catch (error) {
    if (codeOf(error) === "EEXIST" && statSync(path).isDirectory()) return;
    const parent = dirname(path);
    // A parent that is there is no reason to try again.
    if (codeOf(error) !== "ENOENT" || parent === path || statSync(parent, { throwIfNoEntry: false }) !== undefined) throw error;
    makeFolder(parent, mode);
    makeFolder(path, mode);
  }
}

/**
 * closeToOthers takes a folder's rights from everybody but its owner and group; false if this user may not and others still have some.
 * Missing folders are nobody's.
 */
export function closeToOthers(path: string): boolean {
  const mode = modeOf(path);
  if (mode === undefined || (mode & 0o007) === 0) return true;
  try {
    chmodSync(path, mode & 0o770);
    return true;
  } catch {
    return false;
  }
}

/**
 * writeWhole replaces a file in one step: written beside it, flushed, renamed and the rename flushed too, so that a reader, and whoever
 * comes after a loss of power, sees the old or the new content. A symbolic link stays one, an existing file keeps its mode, and the folder
 * is made if it is missing. It throws what the file system says; nothing is left beside the file then.
 */
export function writeWhole(path: string, text: string, mode = 0o644): void {
  const file = realOf(path);
  makeFolder(dirname(file));
  const temporary = `${file}.new`;
  write(temporary, text, modeOf(file) ?? mode);
  try {
    renameSync(temporary, file);
  } catch (error) {
    remove(temporary);
    throw error;
  }
  syncFolder(dirname(file));
}

/** Codes of file systems without hard links (FAT, some network and container mounts). */
const NO_LINKS: ReadonlySet<string> = new Set(["EPERM", "ENOTSUP", "EOPNOTSUPP", "ENOSYS", "EMLINK", "EINVAL", "EACCES"]);

/**
 * placeNew gives a finished file its name if that is free, and removes the temporary one; EEXIST if it is taken. A hard link does both in
 * one step. Where there are none, the file is copied to a name that is made for it alone: only a loss of power may leave a part then.
 */
export function placeNew(temporary: string, path: string, link: (from: string, to: string) => void = linkSync): void {
  try {
    link(temporary, path);
  } catch (error) {
    if (!NO_LINKS.has(codeOf(error))) {
      remove(temporary);
      throw error;
    }
    copyNew(temporary, path);
  }
  remove(temporary);
  syncFolder(dirname(path));
}

function copyNew(temporary: string, path: string): void {
  try {
    copyFileSync(temporary, path, constants.COPYFILE_EXCL);
  } catch (error) {
    if (codeOf(error) !== "EEXIST") remove(path);
    remove(temporary);
    throw error;
  }
  const handle = openSync(path, "r");
  try {
    fsyncSync(handle);
  } finally {
    closeSync(handle);
  }
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

/**
 * The temporary file is always a new one: whoever may write in the folder could have put a link there, and the text would go where it
 * points. One that a crash left is removed first; a link is removed and not followed.
 */
function write(file: string, text: string, mode: number): void {
  remove(file);
  const handle = openSync(file, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW, mode & 0o777);
  try {
    fchmodSync(handle, mode & 0o777);
    writeFileSync(handle, text);
    fsyncSync(handle);
  } catch (error) {
    remove(file);
    throw error;
  } finally {
    closeSync(handle);
  }
}

function remove(file: string): void {
  try {
    unlinkSync(file);
  } catch {
    // It was not made, or is a folder, which the open then says.
  }
}

/** syncFolder makes a rename outlive a loss of power. Systems that cannot flush a folder do it in their own time. */
export function syncFolder(folder: string): void {
  const handle = openSync(folder, "r");
  try {
    fsyncSync(handle);
  } catch (error) {
    if (!["EINVAL", "EPERM", "EISDIR", "ENOTSUP"].includes(codeOf(error))) throw error;
  } finally {
    closeSync(handle);
  }
}
