import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from "node:crypto";
import { join } from "node:path";
import { exportFeedKey, type FeedKey, generateFeedKey, importFeedKey } from "#runtime/crypto.ts";
import { type KeyFileKind, loadKeyFile, seedOf } from "#runtime/key-file.ts";

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

const FILE: KeyFileKind<CoordinationKeys> = {
  name: "coordination key",
  reason: "NOT_CONFIGURED",
  make: () => {
    const signing = generateFeedKey();
    const sealing = generateKeyPairSync("x25519").privateKey.export({ format: "der", type: "pkcs8" }).subarray(PKCS8.length);
    const content: KeyFile = {
      format: "foedus-coordination-keys-1",
      signing_key: Buffer.from(exportFeedKey(signing)).toString("base64"),
      sealing_key: sealing.toString("base64"),
    };
    return { content, publicKey: signing.publicKey };
  },
  open: ({ format, signing_key, sealing_key }: Partial<Record<keyof KeyFile, unknown>>) => {
    const [signing, sealing] = [seedOf(signing_key), seedOf(sealing_key)];
    if (format !== "foedus-coordination-keys-1" || signing === undefined || sealing === undefined) return undefined;
    return { signing: importFeedKey(signing), sealing: sealingKeyOf(sealing) };
  },
};

/** loadKeys reads this hub's keys for deciding together, or makes them (`loadKeyFile`); NOT_CONFIGURED also for a file that is damaged. */
export function loadKeys(folder: string): CoordinationKeys {
  return loadKeyFile(join(folder, KEY_FILE), FILE);
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
