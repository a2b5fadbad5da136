import {
  type CryptoKey,
  calculateJwkThumbprint,
  createLocalJWKSet,
  exportJWK,
  generateKeyPair,
  importJWK,
  type JSONWebKeySet,
  type JWK,
  type JWTPayload,
  type JWTVerifyOptions,
  jwtVerify,
  SignJWT,
} from "jose";

/** TOKEN_ALGORITHM is the algorithm of all token signatures: EdDSA over Ed25519 (RFC 8037). */
export const TOKEN_ALGORITHM = "EdDSA";

/** TOKEN_TYPE is the type of our tokens (RFC 9068). */
export const TOKEN_TYPE = "at+jwt";

/** TokenRules are what the claims of a token must be. Algorithm and type are the same for all tokens. */
export type TokenRules = Omit<JWTVerifyOptions, "algorithms" | "typ">;

/** KeySet checks tokens against the keys of one JWK set; it rejects with the errors of jose. */
export type KeySet = (token: string, rules: TokenRules) => Promise<JWTPayload>;

/** SigningKey is one key pair of the ring. It is a secret: it goes to the store of its service and nowhere else, never to a log. */
export interface SigningKey {
  /** RFC 7638 thumbprint of the public key. */
  readonly kid: string;
  readonly privateJwk: JWK;
  readonly publicJwk: JWK;
  /** Wall ms from which it signs. Before that it is only published. */
  readonly activeAtWall: number;
}

/**
 * TokenCrypto makes the keys and the signatures of tokens. WebCrypto answers from other threads, in real time, so the simulator has another
 * one.
 */
export interface TokenCrypto {
  makeKey(activeAtWall: number): Promise<SigningKey>;
  /** isWhole tells whether the halves of a key belong together, and to its name. */
  isWhole(key: SigningKey): Promise<boolean>;
  sign(key: SigningKey, claims: JWTPayload): Promise<string>;
  /** keySet reads a JWK set, JSON; it throws for anything else. */
  keySet(jwks: string): KeySet;
}

const imported = new WeakMap<SigningKey, Promise<CryptoKey>>();

async function importSigningKey(key: SigningKey): Promise<CryptoKey> {
  return (await importJWK(key.privateJwk, TOKEN_ALGORITHM)) as CryptoKey;
}

/** JOSE_CRYPTO is what ships. */
export const JOSE_CRYPTO: TokenCrypto = {
  makeKey: async (activeAtWall) => {
    const pair = await generateKeyPair(TOKEN_ALGORITHM, { extractable: true });
    const bare = await exportJWK(pair.publicKey);
    const kid = await calculateJwkThumbprint(bare);
    const privateJwk = await exportJWK(pair.privateKey);
    return { kid, privateJwk, publicJwk: { ...bare, kid, alg: TOKEN_ALGORITHM, use: "sig" }, activeAtWall };
  },
  isWhole: async (key) => {
    try {
      if (key.privateJwk.x !== key.publicJwk.x || (await calculateJwkThumbprint(key.publicJwk)) !== key.kid) return false;
      await importSigningKey(key);
      return true;
    } catch {
      return false;
    }
  },
  sign: async (key, claims) => {
    const known = imported.get(key) ?? importSigningKey(key);
    imported.set(key, known);
    return new SignJWT(claims).setProtectedHeader({ alg: TOKEN_ALGORITHM, kid: key.kid, typ: TOKEN_TYPE }).sign(await known);
  },
  keySet: (jwks) => {
    const keys = createLocalJWKSet(JSON.parse(jwks) as JSONWebKeySet);
    return async (token, rules) => (await jwtVerify(token, keys, { ...rules, algorithms: [TOKEN_ALGORITHM], typ: TOKEN_TYPE })).payload;
  },
};
