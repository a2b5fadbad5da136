import { duplexPair } from "node:stream";
import { connect, createSecureContext, DEFAULT_MAX_VERSION, TLSSocket } from "node:tls";
import type { Clock } from "#channel/clock.ts";
import { contextOf, MIN_VERSION } from "#channel/tls/material.ts";
import type { Failure } from "#kernel/error.ts";
import { own } from "#kernel/own.ts";
import { withTimeout } from "#runtime/clock.ts";
import type { ServerMaterial } from "./credentials.ts";

/** Time for a handshake within this process. */
const JUDGE_MS = 10_000;

/** Verdicts of the TLS stack in words, with what to do. The codes are OpenSSL's, as Node names them. */
const WORDS: Readonly<Record<string, string>> = {
  CERT_HAS_EXPIRED: "it, or a CA above it, has expired; renew it",
  CERT_NOT_YET_VALID: "it, or a CA above it, is not valid yet; check the clock of this machine",
  INVALID_PURPOSE: "its extended key usage does not allow this; a service's certificate needs serverAuth and clientAuth",
  INVALID_CA: "a certificate above it is not a CA (basicConstraints CA:TRUE, keyUsage keyCertSign)",
  PATH_LENGTH_EXCEEDED: "more intermediates stand above it than the path length of a CA allows",
  UNABLE_TO_GET_ISSUER_CERT: "a CA above it is missing; put the intermediates behind the leaf in the certificate file",
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: "a CA above it is missing; put the intermediates behind the leaf in the certificate file",
  UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    "no CA in tls.ca signed it; put the intermediates behind the leaf in the certificate file, or correct tls.ca",
  CERT_SIGNATURE_FAILURE:
    "several CAs have the same name and no key identifiers, so that they cannot be told apart; give each its own name, or issue them with subjectKeyIdentifier",
  CERT_UNTRUSTED: "a CA above it is not trusted for this",
  EE_KEY_TOO_SMALL: "its key is too small; RSA keys need 2048 bits",
  CA_KEY_TOO_SMALL: "the key of a CA above it is too small; RSA keys need 2048 bits",
  CA_MD_TOO_WEAK: "a CA above it is signed with a hash that is too weak; use SHA-256",
};

const codeOf = (error: unknown): string => (error instanceof Error && "code" in error ? String(error.code) : "");

/** tlsProblem says why this Node cannot speak the TLS that Foedus needs; undefined if it can. */
export function tlsProblem(): Failure | undefined {
  if (DEFAULT_MAX_VERSION === MIN_VERSION) return undefined;
  return {
    reason: "NOT_CONFIGURED",
    message: `this Node takes TLS up to ${DEFAULT_MAX_VERSION.slice("TLSv".length)} only, and everything here needs 1.3; remove --tls-max-v… from NODE_OPTIONS and from the command that starts it`,
  };
}

/**
 * judgeMaterial asks the TLS stack itself whether others will take this certificate: by a handshake with itself, in memory, in both roles,
 * with exactly what a server is given. What it says here is what peers and callers meet. Undefined: it is good.
 */
export async function judgeMaterial(material: ServerMaterial, clock: Clock): Promise<Failure | undefined> {
  const unable = tlsProblem();
  if (unable !== undefined) return unable;
  const bad = (message: string, cause: string): Failure => ({ reason: "NOT_CONFIGURED", message, facts: { tls: cause } });
  try {
    const { client, server } = await withTimeout(clock, JUDGE_MS, () => handshake(material));
    for (const [role, code] of [
      ["a server", client],
      ["a client", server],
    ] as const)
      if (code !== "") return bad(`TLS does not take the certificate of ${role}: ${own(WORDS, code) ?? code}`, code);
    return undefined;
  } catch (error) {
    const code = codeOf(error);
    return bad(`TLS does not take this certificate and key: ${own(WORDS, code) ?? (error as Error).message}`, code);
  }
}

/** handshake answers what each end says of the other's certificate; empty for nothing. */
async function handshake(material: ServerMaterial): Promise<{ client: string; server: string }> {
  const { options } = contextOf(material);
  const secureContext = createSecureContext(options);
  const [near, far] = duplexPair();
  const server = new TLSSocket(near, { isServer: true, requestCert: true, rejectUnauthorized: false, secureContext });
  const client = connect({
    socket: far,
    secureContext,
    minVersion: MIN_VERSION,
    rejectUnauthorized: false,
    checkServerIdentity: () => undefined,
  });
  try {
    await Promise.all([
      new Promise((resolve, reject) => server.once("secure", resolve).once("error", reject)),
      new Promise((resolve, reject) => client.once("secureConnect", resolve).once("error", reject)),
    ]);
    const verdict = Reflect.get(server, "_handle") as { verifyError(): (Error & { code?: string }) | null };
    return { client: codeText(client.authorizationError), server: codeText(verdict.verifyError()) };
  } finally {
    server.destroy();
    client.destroy();
  }
}

function codeText(error: unknown): string {
  if (error === null || error === undefined) return "";
  return error instanceof Error ? codeOf(error) || error.message : String(error);
}
