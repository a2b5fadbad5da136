import { createPrivateKey, createPublicKey, generateKeyPairSync, hash, type KeyObject, sign, verify } from "node:crypto";
import { assert } from "#kernel/assert.ts";
import type { Crypto } from "#kernel/crypto.ts";

/** FeedKey is the Ed25519 pair with which a hub signs its feeds (RFC 8032). */
export interface FeedKey {
  /** Raw public key, 32 bytes. */
  readonly publicKey: Uint8Array;
  /** Private half; it stays in the process that signs. */
  readonly privateKey: KeyObject;
}

/** DER in front of a raw 32-byte Ed25519 key: SubjectPublicKeyInfo and PKCS #8 (RFC 8410). */
const SPKI_PREFIX = Buffer.from("302a300506032b6570032100", "hex");
const PKCS8_PREFIX = Buffer.from("302e020100300506032b657004220420", "hex");

/** Verifying keys kept ready. A hub has a handful of peers with one or two feed keys each. */
const MAX_CACHED_KEYS = 256;

/** generateFeedKey makes a new pair. */
export function generateFeedKey(): FeedKey {
  return feedKeyOf(generateKeyPairSync("ed25519").privateKey);
}

/** importFeedKey reads a pair from the raw 32-byte private key (seed). */
export function importFeedKey(seed: Uint8Array): FeedKey {
  assert(seed.length === 32, "an Ed25519 private key has 32 bytes", { length: seed.length });
  return feedKeyOf(createPrivateKey({ key: Buffer.concat([PKCS8_PREFIX, seed]), format: "der", type: "pkcs8" }));
}

/** exportFeedKey is the raw 32-byte private key of a pair. It is a secret. */
export function exportFeedKey(key: FeedKey): Uint8Array {
  return key.privateKey.export({ format: "der", type: "pkcs8" }).subarray(PKCS8_PREFIX.length);
}

/** importPublicKey makes a verifying key of raw bytes; undefined unless it is 32 bytes that decode as a key. */
export function importPublicKey(raw: Uint8Array): KeyObject | undefined {
  if (raw.length !== 32) return undefined;
  try {
    return createPublicKey({ key: Buffer.concat([SPKI_PREFIX, raw]), format: "der", type: "spki" });
  } catch {
    return undefined;
  }
}

function feedKeyOf(privateKey: KeyObject): FeedKey {
  const publicKey = createPublicKey(privateKey).export({ format: "der", type: "spki" }).subarray(SPKI_PREFIX.length);
  return { publicKey, privateKey };
}

/** sha256 is 32 bytes. */
export function sha256(data: Uint8Array): Uint8Array {
  return hash("sha256", data, "buffer");
}

/**
 * createCrypto is the real capability that cores get. Without a feed key (a service that signs nothing) `sign` is a bug.
 * Verifying keys are kept by their raw bytes, at most 256, the one unused for longest gives way.
 */
export function createCrypto(feedKey?: FeedKey): Crypto {
  const cache = new Map<string, KeyObject>();

  function keyOf(raw: Uint8Array): KeyObject | undefined {
    const name = Buffer.from(raw.buffer, raw.byteOffset, raw.byteLength).toString("latin1");
    const known = cache.get(name);
    const key = known ?? importPublicKey(raw);
    if (key === undefined) return undefined;
    if (known !== undefined) cache.delete(name);
    else if (cache.size === MAX_CACHED_KEYS) cache.delete(cache.keys().next().value as string);
    cache.set(name, key);
    return key;
  }

  return {
    hash: sha256,
    sign(data) {
      assert(feedKey !== undefined, "this service has no feed key to sign with");
      return sign(null, data, feedKey.privateKey);
    },
    verify(publicKey, data, signature) {
      if (signature.length !== 64) return false;
      const key = keyOf(publicKey);
      return key !== undefined && verify(null, data, key, signature);
    },
  };
}
