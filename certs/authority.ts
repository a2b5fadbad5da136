import { createHash, createPublicKey, type KeyObject, X509Certificate } from "node:crypto";
import { join } from "node:path";
import { readText } from "#runtime/files.ts";
import {
  checkHubId,
  checkRequest,
  type IssueRequest,
  type LeafProfile,
  organisationalUnitsOf,
  PkiError,
  PROFILES,
  readSans,
  SKEW_MS,
  sansOf,
} from "./profiles.ts";
import { decodeRequest, encodeCertificate, encodeRequest, generateKey, issuerFactsOf, type NamePart, readPrivateKey } from "./x509.ts";

/** Authority is a hub's certificate authority, in memory. `keyPem` is its secret: it goes to a file of mode 0600 or nowhere. */
export interface Authority {
  readonly hubId: string;
  readonly certificatePem: string;
  readonly keyPem: string;
  /** The same two, parsed. */
  readonly certificate: X509Certificate;
  readonly key: KeyObject;
}

/** Certified is a leaf without its key: what goes back to whoever sent a request. PEMs end in one newline. */
export interface Certified {
  readonly certificatePem: string;
  /** The leaf, then the CA. */
  readonly chainPem: string;
  readonly notBefore: Date;
  readonly notAfter: Date;
}

/** Issued is a leaf with its private key (PKCS #8 PEM). */
export interface Issued extends Certified {
  readonly keyPem: string;
}

/** Certificates are not made before this: a machine without a battery clock wakes up in 1970. */
const CLOCK_SET_AFTER_MS = Date.UTC(2024, 0, 1);

/**
 * createAuthority makes the CA of a hub: self-signed, 10 years, path length 0, URI SAN `spiffe://<hub>`.
 * `keyPem` reuses a key; `keyBits` (default 2048) sizes a new one. Throws PkiError for a bad hub id, key or clock.
 */
export async function createAuthority(options: {
  readonly hubId: string;
  readonly now: Date;
  readonly keyBits?: number;
  readonly keyPem?: string;
}): Promise<Authority> {
  checkHubId(options.hubId);
  checkClock(options.now);
  const keyPem = options.keyPem ?? (await generateKey(options.keyBits));
  const key = readPrivateKey(keyPem);
  const name: NamePart[] = [
    { name: "commonName", value: options.hubId },
    { name: "organizationName", value: "foedus authority" },
  ];
  const certificatePem = encodeCertificate(
    {
      subject: name,
      issuer: name,
      publicKey: createPublicKey(key),
      notBefore: new Date(options.now.getTime() - SKEW_MS),
      notAfter: new Date(options.now.getTime() + PROFILES.ca.lifetimeMs),
      ca: true,
      keyUsage: PROFILES.ca.keyUsage,
      extKeyUsage: PROFILES.ca.extKeyUsage,
      sans: { uris: [`spiffe://${options.hubId}`], dnsNames: [], ips: [] },
    },
    key,
  );
  return openAuthority(certificatePem, keyPem);
}

/**
 * openAuthority checks that a certificate and key are a hub's CA: a pair, self-signed, a CA, one URI SAN
 * `spiffe://<hub>`. Validity in time is checked when it issues. Throws PkiError.
 */
export function openAuthority(certificatePem: string, keyPem: string): Authority {
  const key = readPrivateKey(keyPem);
  let certificate: X509Certificate;
  try {
    certificate = new X509Certificate(certificatePem);
  } catch (error) {
    throw new PkiError("CA certificate cannot be read: it must be a PEM", { field: "certificatePem", cause: error });
  }
  if (!certificate.checkPrivateKey(key))
    throw new PkiError("CA key does not belong to the CA certificate: use the two files that were created together", { field: "keyPem" });
  if (!certificate.ca || !certificate.checkIssued(certificate) || !certificate.verify(certificate.publicKey)) {
    throw new PkiError("certificate is not a self-signed CA: give the ca.pem of a hub", { field: "certificatePem" });
  }
  const { uris } = readSans(certificate);
  const hubId = uris.length === 1 ? /^spiffe:\/\/([^/]+)$/.exec(uris[0] ?? "")?.[1] : undefined;
  if (hubId === undefined)
    throw new PkiError("CA certificate does not have exactly one URI name spiffe://<hub>", { field: "certificatePem" });
  checkHubId(hubId);
  return { hubId, certificatePem, keyPem, certificate, key };
}

/** loadAuthority opens `ca.pem` and `ca.key` of a folder. Throws PkiError, also when one of them is missing. */
export async function loadAuthority(dir: string): Promise<Authority> {
  const read = async (file: string): Promise<string> => {
    try {
      return readText(join(dir, file));
    } catch (error) {
      throw new PkiError(`${join(dir, file)} cannot be read`, { cause: error });
    }
  };
  const [certificatePem, keyPem] = await Promise.all([read("ca.pem"), read("ca.key")]);
  return openAuthority(certificatePem, keyPem);
}

/**
 * certify signs a leaf for a public key. It ends with the CA at the latest. Throws PkiError when the request does not fit
 * its profile, the CA is not valid at `now`, or the key is the CA's own. The caller has checked the key (checkRsaKey).
 */
export function certify(authority: Authority, publicKey: KeyObject, request: IssueRequest, now: Date): Certified {
  checkRequest(request);
  checkClock(now);
  checkAuthorityValid(authority, now);
  if (publicKey.equals(createPublicKey(authority.key))) throw new PkiError("a leaf cannot have the key of its authority", { field: "key" });
  const profile = PROFILES[request.profile];
  const notBeforeMs = request.notBefore?.getTime() ?? now.getTime() - SKEW_MS;
  if (!Number.isFinite(notBeforeMs)) throw new PkiError("start of validity is not a date", { field: "notBefore" });
  const endMs = notBeforeMs + SKEW_MS + (request.lifetimeMs ?? profile.lifetimeMs);
  const notAfter = new Date(Math.min(endMs, authority.certificate.validToDate.getTime()));
  if (notAfter.getTime() <= notBeforeMs)
    throw new PkiError("certificate would end before it starts: the authority ends earlier", { field: "notBefore" });
  const issuer = issuerFactsOf(authority.certificatePem);
  const certificatePem = encodeCertificate(
    {
      subject: subjectOf(authority.hubId, request),
      issuer: issuer.name,
      authorityKeyId: issuer.keyId,
      publicKey,
      notBefore: new Date(notBeforeMs),
      notAfter,
      ca: false,
      keyUsage: profile.keyUsage,
      extKeyUsage: profile.extKeyUsage,
      sans: sansOf(authority.hubId, request),
    },
    authority.key,
  );
  const { validFromDate, validToDate } = new X509Certificate(certificatePem);
  return { certificatePem, chainPem: joinPems(certificatePem, authority.certificatePem), notBefore: validFromDate, notAfter: validToDate };
}

/**
 * issue makes a leaf and, unless `keyPem` is given, its key (RSA, `keyBits`, default 2048). Throws PkiError as certify does,
 * and for a key that is not RSA of at least 2048 bits.
 */
export async function issue(
  authority: Authority,
  request: IssueRequest,
  now: Date,
  key: { readonly keyPem?: string; readonly keyBits?: number } = {},
): Promise<Issued> {
  checkRequest(request);
  const keyPem = key.keyPem ?? (await generateKey(key.keyBits));
  const certified = certify(authority, createPublicKey(readPrivateKey(keyPem)), request, now);
  return { ...certified, keyPem };
}

/**
 * createRequest makes a key and a certificate request where the certificate will live, so that the key never travels.
 * The names in it tell the authority's operator what is wanted; signRequest does not read them.
 */
export async function createRequest(options: {
  readonly hubId: string;
  readonly profile: LeafProfile;
  readonly name: string;
  readonly dnsNames?: readonly string[];
  readonly ips?: readonly string[];
  readonly keyPem?: string;
  readonly keyBits?: number;
}): Promise<{ readonly csrPem: string; readonly keyPem: string }> {
  const { hubId, keyPem: given, keyBits, ...wish } = options;
  checkHubId(hubId);
  // The role is the authority's to give; a wish only has to be well formed.
  checkRequest(wish.profile === "operator" ? { ...wish, role: "viewer" } : wish);
  const keyPem = given ?? (await generateKey(keyBits));
  const subject: NamePart[] = [
    { name: "commonName", value: wish.name },
    { name: "organizationName", value: hubId },
  ];
  return { csrPem: encodeRequest({ subject, sans: sansOf(hubId, wish), key: readPrivateKey(keyPem) }), keyPem };
}

/**
 * readRequest verifies a request and says what can be shown to whoever decides: the wished common name (unproven) and the
 * SHA-256 of the public key (hex, DER SubjectPublicKeyInfo), which both ends can compare. Throws PkiError.
 */
export function readRequest(csrPem: string): { readonly commonName: string | undefined; readonly keySha256: string } {
  const { publicKey, commonName } = decodeRequest(csrPem);
  return {
    commonName,
    keySha256: createHash("sha256")
      .update(publicKey.export({ type: "spki", format: "der" }))
      .digest("hex"),
  };
}

/**
 * signRequest answers a certificate request. Only the key comes from the request, whose signature must verify; subject,
 * names, role, prefixes and life come from the decision. Throws PkiError.
 */
export function signRequest(authority: Authority, csrPem: string, decision: IssueRequest, now: Date): Certified {
  return certify(authority, decodeRequest(csrPem).publicKey, decision, now);
}

function subjectOf(hubId: string, request: IssueRequest): NamePart[] {
  return [
    { name: "commonName", value: request.name },
    { name: "organizationName", value: hubId },
    ...organisationalUnitsOf(request).map((value): NamePart => ({ name: "organizationalUnitName", value })),
  ];
}

function joinPems(...pems: readonly string[]): string {
  return pems.map((pem) => `${pem.trimEnd()}\n`).join("");
}

function checkClock(now: Date): void {
  if (!(now.getTime() >= CLOCK_SET_AFTER_MS))
    throw new PkiError("the clock of this machine is not set: certificates would be dated wrongly", { field: "now" });
}

function checkAuthorityValid(authority: Authority, now: Date): void {
  const { validFromDate, validToDate } = authority.certificate;
  if (now < validFromDate || now >= validToDate) {
    throw new PkiError(
      `authority of hub ${authority.hubId} is valid from ${validFromDate.toISOString()} to ${validToDate.toISOString()}, not at ${now.toISOString()}`,
      { field: "now" },
    );
  }
}
