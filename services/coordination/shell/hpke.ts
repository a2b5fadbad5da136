import {
  createCipheriv,
  createDecipheriv,
  createHmac,
  createPublicKey,
  diffieHellman,
  generateKeyPairSync,
  type KeyObject,
} from "node:crypto";
import {
  type AEAD,
  CipherSuite,
  concat,
  encode,
  I2OSP,
  type KDF,
  type KEM,
  type Key,
  type KeyPair,
  LabeledExpand,
  LabeledExtract,
} from "hpke";
import { privateKeyOf, publicKeyOf } from "./keys.ts";

/*
 * What HPKE (RFC 9180) is made of, for the library `hpke`, by calls that return at once. With Web Cryptography a parcel goes to a thread and
 * back a dozen times; on a busy machine each of these waits, also for the last few bytes of an agent for which everybody waits. A parcel
 * costs a third of a millisecond here.
 */

const NAME = "X25519";
const KEY_BYTES = 32;
const TAG_BYTES = 16;
const HASH = "sha256";

/** NodeKey is an X25519 key of node:crypto, as the library wants keys. */
export interface NodeKey extends Key {
  readonly key: KeyObject;
  /** Raw public key, also of a private one. */
  readonly raw: Uint8Array;
}

const keyOf = (type: "private" | "public", key: KeyObject, raw: Uint8Array): NodeKey => ({
  algorithm: { name: NAME },
  extractable: true,
  type,
  key,
  raw,
});

const notSupported = async (): Promise<never> => {
  throw new TypeError("this hub does not need that of HPKE");
};

const KDF_SHA256: KDF = {
  id: 0x0001,
  type: "KDF",
  name: "HKDF-SHA256",
  Nh: 32,
  stages: 2,
  async Extract(salt, ikm) {
    return createHmac(HASH, salt).update(ikm).digest();
  },
  async Expand(prk, info, length) {
    const blocks: Uint8Array[] = [];
    let last: Uint8Array = new Uint8Array(0);
    for (let bytes = 0, at = 1; bytes < length; bytes += last.length, at++) {
      last = createHmac(HASH, prk).update(last).update(info).update(Uint8Array.of(at)).digest();
      blocks.push(last);
    }
    return concat(...blocks).subarray(0, length);
  },
  Derive: notSupported,
};

const SUITE_ID = concat(encode("KEM"), I2OSP(0x0020, 2));

async function sharedSecret(secret: Uint8Array, context: Uint8Array): Promise<Uint8Array> {
  const prk = await LabeledExtract(KDF_SHA256, SUITE_ID, new Uint8Array(0), encode("eae_prk"), secret);
  return LabeledExpand(KDF_SHA256, SUITE_ID, prk, encode("shared_secret"), context, KEY_BYTES);
}

/** generated is a pair for one parcel. */
function generated(): KeyPair<NodeKey> {
  const { privateKey, publicKey } = generateKeyPairSync("x25519");
  const raw = publicKey.export({ format: "der", type: "spki" }).subarray(-KEY_BYTES);
  return { privateKey: keyOf("private", privateKey, raw), publicKey: keyOf("public", publicKey, raw) };
}

const KEM_X25519: KEM<NodeKey> = {
  id: 0x0020,
  type: "KEM",
  name: "DHKEM(X25519, HKDF-SHA256)",
  Nsecret: KEY_BYTES,
  Nenc: KEY_BYTES,
  Npk: KEY_BYTES,
  Nsk: KEY_BYTES,
  DeriveKeyPair: notSupported,
  SerializePrivateKey: notSupported,
  async GenerateKeyPair() {
    return generated();
  },
  async SerializePublicKey({ raw }) {
    return raw;
  },
  async DeserializePublicKey(raw) {
    return keyOf("public", publicKeyOf(raw), raw);
  },
  async DeserializePrivateKey(seed) {
    const key = privateKeyOf(seed);
    return keyOf("private", key, createPublicKey(key).export({ format: "der", type: "spki" }).subarray(-KEY_BYTES));
  },
  // A result of zeros (RFC 7748, 6.1) is an error of diffieHellman.
  async Encap(theirs) {
    const { privateKey, publicKey } = generated();
    const secret = diffieHellman({ privateKey: privateKey.key, publicKey: theirs.key });
    return { shared_secret: await sharedSecret(secret, concat(publicKey.raw, theirs.raw)), enc: publicKey.raw };
  },
  async Decap(enc, own) {
    const secret = diffieHellman({ privateKey: own.key, publicKey: publicKeyOf(enc) });
    return sharedSecret(secret, concat(enc, own.raw));
  },
};

const AES_256_GCM: AEAD = {
  id: 0x0002,
  type: "AEAD",
  name: "AES-256-GCM",
  Nk: 32,
  Nn: 12,
  Nt: TAG_BYTES,
  async Seal(key, nonce, aad, plain) {
    const cipher = createCipheriv("aes-256-gcm", key, nonce, { authTagLength: TAG_BYTES });
    cipher.setAAD(aad);
    return concat(cipher.update(plain), cipher.final(), cipher.getAuthTag());
  },
  async Open(key, nonce, aad, sealed) {
    const decipher = createDecipheriv("aes-256-gcm", key, nonce, { authTagLength: TAG_BYTES });
    decipher.setAAD(aad);
    decipher.setAuthTag(sealed.subarray(sealed.length - TAG_BYTES));
    const plain = decipher.update(sealed.subarray(0, sealed.length - TAG_BYTES));
    decipher.final();
    return plain;
  },
};

/** SUITE is HPKE as this hub uses it: X25519, HKDF-SHA256, AES-256-GCM. */
export const SUITE = new CipherSuite<NodeKey>(
  () => KEM_X25519,
  () => KDF_SHA256,
  () => AES_256_GCM,
);
