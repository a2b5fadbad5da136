import { createPrivateKey, X509Certificate } from "node:crypto";
import { createSecureContext, type SecureContext, type SecureContextOptions } from "node:tls";
import { fail } from "#kernel/error.ts";

/** MIN_VERSION of TLS, everywhere. */
export const MIN_VERSION = "TLSv1.3";
/** HANDSHAKE_TIMEOUT_MS is what a TLS handshake may take. */
export const HANDSHAKE_TIMEOUT_MS = 10_000;

/** KeyMaterial is a certificate chain and its key, both PEM. */
export interface KeyMaterial {
  /** Leaf first. */
  readonly cert: string;
  readonly key: string;
}

/** TrustedMaterial is a chain with its key, and the CA certificates (PEM) that the other side may end in. */
export interface TrustedMaterial extends KeyMaterial {
  readonly ca: readonly string[];
}

const PEM_BEGIN = "-----BEGIN CERTIFICATE-----";
const PEM_END = "-----END CERTIFICATE-----";

/** splitPem takes a PEM text with several certificates apart, in one pass whatever the text is. */
export function splitPem(pem: string): string[] {
  const found: string[] = [];
  for (let from = pem.indexOf(PEM_BEGIN); from >= 0; ) {
    const end = pem.indexOf(PEM_END, from);
    if (end < 0) break;
    found.push(pem.slice(from, end + PEM_END.length));
    from = pem.indexOf(PEM_BEGIN, end);
  }
  return found;
}

/** parseCertificates reads all certificates of some PEM texts; INVALID_FIELD when one cannot be read. */
export function parseCertificates(pems: readonly string[]): X509Certificate[] {
  try {
    return pems.flatMap(splitPem).map((pem) => new X509Certificate(pem));
  } catch (cause) {
    throw fail("INVALID_FIELD", "a certificate cannot be read; it must be PEM", { cause });
  }
}

/** checkPair makes sure that the leaf belongs to the key and that the chain behind it is in order. It answers the leaf. */
export function checkPair({ cert, key }: KeyMaterial): X509Certificate {
  const chain = parseCertificates([cert]);
  const [leaf] = chain;
  if (leaf === undefined) throw fail("INVALID_FIELD", "there is no certificate in the PEM text");
  let matches: boolean;
  try {
    matches = leaf.checkPrivateKey(createPrivateKey(key));
  } catch (cause) {
    throw fail("INVALID_FIELD", "the private key cannot be read; it must be unencrypted PEM", { cause });
  }
  if (!matches) throw fail("INVALID_FIELD", "the certificate and the private key do not belong together");
  for (const [i, issued] of chain.entries()) {
    const issuer = chain[i + 1];
    if (issuer !== undefined && !(issued.checkIssued(issuer) && issued.verify(issuer.publicKey)))
      throw fail("INVALID_FIELD", `certificate ${i + 1} of the chain is not signed by certificate ${i + 2}; put the leaf first`);
  }
  return leaf;
}

/** contextOf checks material and makes it ready for TLS; it throws before anything is published. */
export function contextOf(material: TrustedMaterial): {
  readonly options: SecureContextOptions;
  readonly context: SecureContext;
} {
  checkPair(material);
  const options: SecureContextOptions = {
    minVersion: MIN_VERSION,
    cert: material.cert,
    key: material.key,
    ca: parseCertificates(material.ca).map(String),
    // What an operator pins is trusted as it is: an intermediate may be pinned without the root above it.
    allowPartialTrustChain: true,
  };
  try {
    return { options, context: createSecureContext(options) };
  } catch (cause) {
    throw fail("INVALID_FIELD", "the certificate and key cannot be used for TLS", { cause });
  }
}
