// Stores as files, seen from outside of the software that wrote them. Nothing here opens one with SQLite: that alone would change it.
import { closeSync, openSync, readdirSync, readSync, writeSync } from "node:fs";
import { join } from "node:path";

/** Offset of `user_version`, a big-endian number of four bytes, in a SQLite file (sqlite.org/fileformat2.html, section 1.3). */
const USER_VERSION_AT = 60;

/** storesOf lists the SQLite files of a data folder. */
export function storesOf(dataDir: string): string[] {
  const names = readdirSync(dataDir).filter((name) => name.endsWith(".sqlite"));
  return names.sort().map((name) => join(dataDir, name));
}

/** formatOf is the version of a store's format. The store must have been closed cleanly. */
export function formatOf(path: string): number {
  const file = openSync(path, "r");
  const field = Buffer.alloc(4);
  readSync(file, field, 0, 4, USER_VERSION_AT);
  closeSync(file);
  return field.readUInt32BE();
}

/** setFormat marks a store as of another version, as that version's software would have. */
export function setFormat(path: string, version: number): void {
  const file = openSync(path, "r+");
  const field = Buffer.alloc(4);
  field.writeUInt32BE(version);
  writeSync(file, field, 0, 4, USER_VERSION_AT);
  closeSync(file);
}
