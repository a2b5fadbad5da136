import { errors, type JSONWebKeySet, type JWK, UnsecuredJWT } from "jose";
import type { Entropy } from "#channel/entropy.ts";
import type { TokenCrypto } from "#runtime/tokens/crypto.ts";
import { fastHash } from "./crypto.ts";

function markOf(kid: string, text: string): string {
  return Buffer.from(fastHash(Buffer.from(`${kid} ${text}`))).toString("base64url");
}

/**
 * simTokens makes tokens whose claims and key ids are real and whose signatures anybody could make: those of WebCrypto come from other
 * threads, in real time.
 */
export function simTokens(entropy: Pick<Entropy, "id">): TokenCrypto {
  return {
    makeKey: async (activeAtWall) => {
      const kid = entropy.id();
      const publicJwk: JWK = { kty: "OKP", crv: "Ed25519", x: kid, kid };
      return { kid, privateJwk: { ...publicJwk, d: kid }, publicJwk, activeAtWall };
    },
    isWhole: async ({ kid, privateJwk, publicJwk }) => privateJwk.x === publicJwk.x && publicJwk.kid === kid,
    sign: async ({ kid }, claims) => {
      const text = new UnsecuredJWT(claims).encode();
      return `${text}${kid}~${markOf(kid, text)}`;
    },
    keySet: (jwks) => {
      const { keys } = JSON.parse(jwks) as JSONWebKeySet;
      const kids = new Set(keys.map(({ kid }) => kid));
      return async (token, rules) => {
        const end = token.lastIndexOf(".") + 1;
        const [kid = "", mark = ""] = token.slice(end).split("~");
        if (!kids.has(kid)) throw new errors.JWKSNoMatchingKey();
        const text = token.slice(0, end);
        if (mark !== markOf(kid, text)) throw new errors.JWSSignatureVerificationFailed();
        return UnsecuredJWT.decode(text, rules).payload;
      };
    },
  };
}
