import type { KeyObject, X509Certificate } from "node:crypto";

const RSA_MIN_BITS = 2_048;
/** An operation with a larger key takes milliseconds on the event loop. */
const RSA_MAX_BITS = 8_192;
/** Verifying takes time in proportion to the length of the exponent; nearly everybody's is 65537. */
const RSA_MAX_EXPONENT = 2n ** 32n;
const CURVES: readonly string[] = ["prime256v1", "secp384r1", "secp521r1"];

/**
 * keyProblem says why a public key is not taken, to go after the name of what holds it; undefined for one that is. Who chooses the key
 * chooses what it costs to verify with it, so this is asked before anything is verified with a key that somebody else has made.
 */
export function keyProblem(key: KeyObject): string | undefined {
  const { modulusLength = 0, publicExponent = 0n, namedCurve = "" } = key.asymmetricKeyDetails ?? {};
  switch (key.asymmetricKeyType) {
    case "rsa":
    case "rsa-pss":
      if (modulusLength < RSA_MIN_BITS || modulusLength > RSA_MAX_BITS)
        return `has an RSA key of ${modulusLength} bits; ${RSA_MIN_BITS} to ${RSA_MAX_BITS} are taken`;
      return publicExponent > RSA_MAX_EXPONENT ? "has an RSA key with a public exponent of more than 32 bits" : undefined;
    case "ec":
      return CURVES.includes(namedCurve) ? undefined : `has a key on the curve ${namedCurve}; P-256, P-384 and P-521 are taken`;
    case "ed25519":
      return undefined;
    default:
      return "has a key that is neither RSA, ECDSA nor Ed25519";
  }
}

/** certificateKeyProblem is `keyProblem` of the key of a certificate, also when it cannot be read. */
export function certificateKeyProblem(certificate: X509Certificate): string | undefined {
  try {
    return keyProblem(certificate.publicKey);
  } catch {
    return "has a key that cannot be read";
  }
}
