import { createHash } from "node:crypto";

/** Characters of a node id at most, and those of the hash that stands for what an id cannot have. */
const ID_LENGTH = 63;
const HASH_LENGTH = 8;

/**
 * nodeIdOf makes the id of a node from a name that others chose. A name that is an id already stays as it is. From any other name the id
 * has a part of a hash of all of it, so that two names that differ only in what an id cannot have do not become one node, whichever
 * comes first. The prefix is the configuration's and must be the beginning of an id.
 */
export function nodeIdOf(prefix: string, name: string): string {
  const stem = name
    .normalize("NFKD")
    .replace(/[^A-Za-z0-9._:-]+/g, "_")
    .replace(/^[^A-Za-z0-9]+/, "");
  const plain = `${prefix}${name}`;
  if (stem === name && name !== "" && plain.length <= ID_LENGTH) return plain;
  const hash = createHash("sha256").update(name).digest("hex").slice(0, HASH_LENGTH);
  const room = ID_LENGTH - prefix.length - HASH_LENGTH - 1;
  const head = stem.slice(0, Math.max(0, room)).replace(/[^A-Za-z0-9]+$/, "");
  return head === "" ? `${prefix}n${hash}` : `${prefix}${head}-${hash}`;
}

/** textOf is a text of others as a node may have it: whole characters only, and cut to a number of UTF-8 bytes. Anything else is "". */
export function textOf(value: unknown, maxBytes: number): string {
  if (typeof value !== "string") return "";
  const whole = value.length > maxBytes ? value.slice(0, maxBytes) : value;
  const bytes = Buffer.from(whole.toWellFormed());
  if (bytes.length <= maxBytes) return bytes.toString();
  let end = maxBytes;
  while (end > 0 && ((bytes[end] as number) & 0xc0) === 0x80) end--;
  return bytes.toString("utf8", 0, end);
}
