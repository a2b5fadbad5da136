import { chmodSync, closeSync, fsyncSync, openSync, statSync, writeSync } from "node:fs";
import { fail, type Reason } from "#kernel/error.ts";
import { notFile, placeNew, readText } from "./files.ts";

/** KeyFileKind is one kind of key file, which is JSON. */
export interface KeyFileKind<K> {
  /** As people call it, e.g. "feed key". */
  readonly name: string;
  /** Why a damaged one is refused. */
  readonly reason: Reason;
  /** What is in a new file, and a public key of it, after which the file is named while it is written. */
  readonly make: () => { readonly content: object; readonly publicKey: Uint8Array };
  /** open reads what is in a file; undefined, or an error, for what is none of this kind. */
  readonly open: (content: Readonly<Record<string, unknown>>) => K | undefined;
}

/**
 * loadKeyFile reads a key from a file, or makes it there: once, mode 0600, complete or not at all. Two processes that start at the same
 * time end up with the same key. It throws the kind's reason for a file that is damaged, NOT_CONFIGURED for one that cannot be read, made
 * or kept private.
 */
export function loadKeyFile<K>(path: string, kind: KeyFileKind<K>): K {
  return readKey(path, kind) ?? createKey(path, kind);
}

function readKey<K>(path: string, kind: KeyFileKind<K>): K | undefined {
  let text: string;
  try {
    text = readText(path);
    if ((statSync(path).mode & 0o077) !== 0) chmodSync(path, 0o600);
  } catch (cause) {
    if (cause instanceof Error && "code" in cause && cause.code === "ENOENT") return undefined;
    throw fail("NOT_CONFIGURED", `the ${kind.name} file ${path} cannot be read and kept private${notFile(cause)}`, { cause });
  }
  return parseKey(path, text, kind);
}

function parseKey<K>(path: string, text: string, { name, reason, open }: KeyFileKind<K>): K {
  try {
    const key = open(JSON.parse(text));
    if (key !== undefined) return key;
  } catch (cause) {
    throw fail(reason, `the ${name} file ${path} is not valid JSON; restore it from a backup`, { cause });
  }
  throw fail(reason, `the ${name} file ${path} is damaged; restore it from a backup`);
}

/** seedOf reads a raw private key of 32 bytes in base64; undefined for what is none. */
export function seedOf(value: unknown): Uint8Array | undefined {
  const seed = typeof value === "string" ? Buffer.from(value, "base64") : undefined;
  return seed?.length === 32 ? seed : undefined;
}

function createKey<K>(path: string, kind: KeyFileKind<K>): K {
  try {
    writeKey(path, kind);
  } catch (cause) {
    throw unmade(path, kind.name, cause);
  }
  const made = readKey(path, kind);
  // A link that leads nowhere takes the name and holds nothing.
  if (made === undefined) throw unmade(path, kind.name, undefined);
  return made;
}

function unmade(path: string, name: string, cause: unknown): Error {
  const why = "make data_dir writable for the user that runs the hub, free some space, and move away what stands in its place";
  return fail("NOT_CONFIGURED", `the ${name} file ${path} cannot be made: ${why}`, { cause });
}

function writeKey<K>(path: string, { make }: KeyFileKind<K>): void {
  const { content, publicKey } = make();
  const fresh = `${path}.${Buffer.from(publicKey.subarray(0, 6)).toString("hex")}.new`;
  const handle = openSync(fresh, "wx", 0o600);
  try {
    writeSync(handle, `${JSON.stringify(content)}\n`);
    fsyncSync(handle);
  } finally {
    closeSync(handle);
  }
  try {
    // Whoever was first wins, and the file is complete the moment it has its name.
    placeNew(fresh, path);
  } catch (cause) {
    if (!(cause instanceof Error && "code" in cause && cause.code === "EEXIST")) throw cause;
  }
}
