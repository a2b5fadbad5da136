import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from "node:crypto";
import { chmodSync, closeSync, fsyncSync, openSync, statSync, writeSync } from "node:fs";
import { join } from "node:path";
import { fail } from "#kernel/error.ts";
import { exportFeedKey, type FeedKey, generateFeedKey, importFeedKey } from "#runtime/crypto.ts";
import { placeNew, readText } from "#runtime/files.ts";

/** CoordinationKeys are this hub's keys for deciding together. */
export interface CoordinationKeys {
  /** Ed25519: signs what this hub writes into the log, its votes, and its foundings. */
  readonly signing: FeedKey;
  /** X25519: checkpoints of agents that move here are sealed to it. */
  readonly sealing: SealingKey;
}

/** SealingKey is an X25519 pair (RFC 7748), raw. `seed` is a secret. */
export interface SealingKey {
  readonly seed: Uint8Array;
  readonly publicKey: Uint8Array;
}

interface KeyFile {
  readonly format: "foedus-coordination-keys-1";
  /** Raw private keys, 32 bytes in base64: Ed25519 and X25519. */
  readonly signing_key: string;
  readonly sealing_key: string;
}

/** KEY_FILE is where the keys are, in the data folder. */
export const KEY_FILE = "coordination.key";

/** DER in front of raw 32-byte X25519 keys: SubjectPublicKeyInfo and PKCS #8 (RFC 8410). */
const SPKI = Buffer.from("302a300506032b656e032100", "hex");
const PKCS8 = Buffer.from("302e020100300506032b656e04220420", "hex");

/**
 * loadKeys reads this hub's keys for deciding together, or makes them: once, mode 0600, complete or not at all. Two processes that start at
 * the same time end up with the same. NOT_CONFIGURED for a file that is damaged, or that cannot be read, made or kept private.
 */
export function loadKeys(folder: string): CoordinationKeys {
  const path = join(folder, KEY_FILE);
  return readKeys(path) ?? makeKeys(path);
}

function readKeys(path: string): CoordinationKeys | undefined {
  let text: string;
  try {
    text = readText(path);
    if ((statSync(path).mode & 0o077) !== 0) chmodSync(path, 0o600);
  } catch (cause) {
    if (cause instanceof Error && "code" in cause && cause.code === "ENOENT") return undefined;
    throw fail("NOT_CONFIGURED", `the key file ${path} cannot be read and kept private`, { cause });
  }
  try {
    const file = JSON.parse(text) as Partial<KeyFile>;
    const signing = Buffer.from(file.signing_key ?? "", "base64");
    const sealing = Buffer.from(file.sealing_key ?? "", "base64");
    if (file.format === "foedus-coordination-keys-1" && signing.length === 32 && sealing.length === 32)
      return { signing: importFeedKey(signing), sealing: sealingKeyOf(sealing) };
  } catch (cause) {
    throw fail("NOT_CONFIGURED", `the key file ${path} is not valid JSON; restore it from a backup`, { cause });
  }
  throw fail("NOT_CONFIGURED", `the key file ${path} is damaged; restore it from a backup`);
}

/** privateKeyOf reads a raw X25519 private key of 32 bytes. */
export function privateKeyOf(seed: Uint8Array): KeyObject {
  return createPrivateKey({ key: Buffer.concat([PKCS8, seed]), format: "der", type: "pkcs8" });
}

/** publicKeyOf reads a raw X25519 public key of 32 bytes; an error for others. */
export function publicKeyOf(raw: Uint8Array): KeyObject {
  return createPublicKey({ key: Buffer.concat([SPKI, raw]), format: "der", type: "spki" });
}

/** sealingKeyOf makes the pair of a raw private key of 32 bytes. */
export function sealingKeyOf(seed: Uint8Array): SealingKey {
  const publicKey = createPublicKey(privateKeyOf(seed)).export({ format: "der", type: "spki" }).subarray(SPKI.length);
  return { seed: new Uint8Array(seed), publicKey: new Uint8Array(publicKey) };
}

function makeKeys(path: string): CoordinationKeys {
  try {
    writeKeys(path);
  } catch (cause) {
    throw fail("NOT_CONFIGURED", `the key file ${path} cannot be made: make data_dir writable for the user that runs the hub`, { cause });
  }
  const made = readKeys(path);
  if (made === undefined) throw fail("NOT_CONFIGURED", `the key file ${path} cannot be made: move away what stands in its place`);
  return made;
}

function writeKeys(path: string): void {
  const signing = generateFeedKey();
  const sealing = generateKeyPairSync("x25519").privateKey.export({ format: "der", type: "pkcs8" }).subarray(PKCS8.length);
  const file: KeyFile = {
    format: "foedus-coordination-keys-1",
    signing_key: Buffer.from(exportFeedKey(signing)).toString("base64"),
    sealing_key: sealing.toString("base64"),
  };
  const fresh = `${path}.${Buffer.from(signing.publicKey.subarray(0, 6)).toString("hex")}.new`;
  const handle = openSync(fresh, "wx", 0o600);
  try {
    writeSync(handle, `${JSON.stringify(file)}\n`);
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
