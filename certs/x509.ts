import { createPrivateKey, createPublicKey, generateKeyPair, type KeyObject, randomBytes, sign, verify } from "node:crypto";
import { promisify } from "node:util";
import forge from "node-forge";
import { PkiError, type Sans } from "./profiles.ts";

/**
 * The encoding of certificates and requests. node-forge writes the ASN.1; keys and signatures are OpenSSL's, which does
 * not block for forge's slow RSA and keeps private keys out of JavaScript numbers.
 */

/** Smallest and largest RSA modulus in bits: below is weak, above only costs time in every handshake. */
export const MIN_RSA_BITS = 2048;
export const MAX_RSA_BITS = 8192;

/** Most characters of a PEM that is read from outside. */
const MAX_PEM_LENGTH = 65_536;

/** Template is the full content of a certificate, without any policy: profiles.ts and authority.ts hold that. */
export interface Template {
  readonly subject: readonly NamePart[];
  readonly issuer: readonly NamePart[];
  readonly publicKey: KeyObject;
  readonly notBefore: Date;
  readonly notAfter: Date;
  readonly ca: boolean;
  readonly keyUsage: readonly string[];
  readonly extKeyUsage: readonly string[];
  readonly sans: Sans;
  /** Key identifier of the signer, as bytes. Left out: the subject's own (self-signed). */
  readonly authorityKeyId?: Buffer;
}

/** NamePart is one attribute of a distinguished name. */
export interface NamePart {
  readonly name: "commonName" | "organizationName" | "organizationalUnitName";
  readonly value: string;
}

/** RequestContent is what a certificate request says. Only the key is proven; the rest is a wish. */
export interface RequestContent {
  readonly publicKey: KeyObject;
  readonly commonName: string | undefined;
}

/** These two exist in node-forge and are missing from its type declarations. */
interface ForgeInternals {
  getTBSCertificate(certificate: forge.pki.Certificate): forge.asn1.Asn1;
  getCertificationRequestInfo(request: forge.pki.CertificateSigningRequest): forge.asn1.Asn1;
}
const internals = forge.pki as unknown as ForgeInternals;

const generateRsa = promisify(generateKeyPair);

/** generateKey makes an RSA key on the thread pool and gives it as a PKCS #8 PEM. Throws PkiError for a size out of bounds. */
export async function generateKey(bits: number = MIN_RSA_BITS): Promise<string> {
  checkBits(bits);
  const { privateKey } = await generateRsa("rsa", { modulusLength: bits, publicExponent: 0x10001 });
  return privateKey.export({ type: "pkcs8", format: "pem" }).toString();
}

/** readPrivateKey reads and checks a PEM private key (see checkRsaKey). Throws PkiError. */
export function readPrivateKey(keyPem: string): KeyObject {
  let key: KeyObject;
  try {
    key = createPrivateKey(keyPem);
  } catch (error) {
    throw new PkiError("private key cannot be read: it must be an unencrypted PEM", { field: "keyPem", cause: error });
  }
  checkRsaKey(key, "private key");
  return key;
}

/** checkRsaKey refuses keys that are not RSA, too small, too large or with an unsafe exponent. Throws PkiError. */
export function checkRsaKey(key: KeyObject, what: string): void {
  if (key.asymmetricKeyType !== "rsa") {
    throw new PkiError(
      `${what} is ${key.asymmetricKeyType ?? "not asymmetric"}, this authority signs RSA keys only: make one with RSA and at least ${MIN_RSA_BITS} bits`,
      { field: "key" },
    );
  }
  checkBits(key.asymmetricKeyDetails?.modulusLength ?? 0, what);
  if ((key.asymmetricKeyDetails?.publicExponent ?? 0n) < 65_537n)
    throw new PkiError(`${what} has a public exponent below 65537`, { field: "key" });
}

function checkBits(bits: number, what = "key"): void {
  if (!Number.isInteger(bits) || bits < MIN_RSA_BITS || bits > MAX_RSA_BITS) {
    throw new PkiError(`${what} has ${bits} bits, RSA keys need ${MIN_RSA_BITS} to ${MAX_RSA_BITS}`, { field: "key" });
  }
}

/** encodeCertificate signs a certificate (SHA-256 with RSA) and gives it as a PEM that ends in one newline. */
export function encodeCertificate(template: Template, signer: KeyObject): string {
  const certificate = forge.pki.createCertificate();
  certificate.publicKey = forgePublicKey(template.publicKey);
  certificate.serialNumber = newSerial();
  certificate.validity.notBefore = wholeSeconds(template.notBefore);
  certificate.validity.notAfter = wholeSeconds(template.notAfter);
  certificate.setSubject(nameOf(template.subject));
  certificate.setIssuer(nameOf(template.issuer));
  certificate.setExtensions(extensionsOf(template));
  certificate.signatureOid = certificate.siginfo.algorithmOid = SHA256_WITH_RSA;
  certificate.tbsCertificate = internals.getTBSCertificate(certificate);
  certificate.signature = sign("sha256", derOf(certificate.tbsCertificate), signer).toString("latin1");
  return normalPem(forge.pki.certificateToPem(certificate));
}

function extensionsOf(template: Template): object[] {
  const flags = (names: readonly string[]): Record<string, boolean> => Object.fromEntries(names.map((name) => [name, true]));
  const { uris, dnsNames, ips } = template.sans;
  const altNames = [
    ...uris.map((value) => ({ type: 6, value })),
    ...dnsNames.map((value) => ({ type: 2, value })),
    ...ips.map((ip) => ({ type: 7, ip })),
  ];
  const authorityKeyId = template.authorityKeyId;
  return [
    { name: "basicConstraints", critical: true, cA: template.ca, ...(template.ca ? { pathLenConstraint: 0 } : {}) },
    { name: "keyUsage", critical: true, ...flags(template.keyUsage) },
    ...(template.extKeyUsage.length > 0 ? [{ name: "extKeyUsage", ...flags(template.extKeyUsage) }] : []),
    ...(altNames.length > 0 ? [{ name: "subjectAltName", altNames }] : []),
    { name: "subjectKeyIdentifier" },
    { name: "authorityKeyIdentifier", keyIdentifier: authorityKeyId === undefined ? true : authorityKeyId.toString("latin1") },
  ];
}

/** issuerFactsOf reads from a CA certificate what its leaves repeat: its name, byte for byte, and its key identifier. */
export function issuerFactsOf(certificatePem: string): { readonly name: readonly NamePart[]; readonly keyId: Buffer } {
  const certificate = forge.pki.certificateFromPem(certificatePem);
  const extension = certificate.getExtension("subjectKeyIdentifier") as { subjectKeyIdentifier?: string } | null | undefined;
  const keyId = extension?.subjectKeyIdentifier ?? certificate.generateSubjectKeyIdentifier().toHex();
  return { name: certificate.subject.attributes as unknown as NamePart[], keyId: Buffer.from(keyId, "hex") };
}

/** encodeRequest makes a PKCS #10 request (RFC 2986) signed by its own key, as a PEM that ends in one newline. */
export function encodeRequest(content: { readonly subject: readonly NamePart[]; readonly sans: Sans; readonly key: KeyObject }): string {
  const request = forge.pki.createCertificationRequest();
  request.publicKey = forgePublicKey(createPublicKey(content.key));
  request.setSubject(nameOf(content.subject));
  const { uris, dnsNames, ips } = content.sans;
  const altNames = [
    ...uris.map((value) => ({ type: 6, value })),
    ...dnsNames.map((value) => ({ type: 2, value })),
    ...ips.map((ip) => ({ type: 7, ip })),
  ];
  request.setAttributes([{ name: "extensionRequest", extensions: [{ name: "subjectAltName", altNames }] }]);
  request.signatureOid = request.siginfo.algorithmOid = SHA256_WITH_RSA;
  request.certificationRequestInfo = internals.getCertificationRequestInfo(request);
  request.signature = sign("sha256", derOf(request.certificationRequestInfo), content.key).toString("latin1");
  return normalPem(forge.pki.certificationRequestToPem(request));
}

/**
 * decodeRequest reads a PKCS #10 request and verifies that its sender holds the private key. Throws PkiError when it is
 * not a request, is larger than 64 KiB, has a key that checkRsaKey refuses, or has a signature that does not verify.
 */
export function decodeRequest(csrPem: string): RequestContent {
  const outer = parseRequest(csrPem);
  const [info, algorithm, signature] = childrenOf(outer);
  const [, , spki] = childrenOf(info);
  const [algorithmOid] = childrenOf(algorithm);
  if (info === undefined || spki === undefined || algorithmOid === undefined || signature === undefined) throw notARequest();
  let publicKey: KeyObject;
  try {
    publicKey = createPublicKey({ key: derOf(spki), format: "der", type: "spki" });
  } catch (error) {
    throw notARequest(error);
  }
  checkRsaKey(publicKey, "key of the certificate request");
  const digest = DIGEST_OF_OID.get(forge.asn1.derToOid(bytesOf(algorithmOid)));
  if (digest === undefined)
    throw new PkiError("certificate request is not signed with SHA-256, SHA-384 or SHA-512 and RSA", { field: "csrPem" });
  if (!verify(digest, derOf(info), publicKey, signatureBytes(signature))) {
    throw new PkiError("signature of the certificate request does not verify: it was changed, or its sender does not hold the key", {
      field: "csrPem",
    });
  }
  return { publicKey, commonName: commonNameOf(outer) };
}

function parseRequest(csrPem: string): forge.asn1.Asn1 {
  if (csrPem.length > MAX_PEM_LENGTH)
    throw new PkiError(`certificate request is longer than ${MAX_PEM_LENGTH} characters`, { field: "csrPem" });
  try {
    const blocks = forge.pem.decode(csrPem);
    const block = blocks[0];
    if (blocks.length !== 1 || block === undefined || !/^(NEW )?CERTIFICATE REQUEST$/.test(block.type)) throw notARequest();
    return forge.asn1.fromDer(block.body);
  } catch (error) {
    throw error instanceof PkiError ? error : notARequest(error);
  }
}

function notARequest(cause?: unknown): PkiError {
  return new PkiError("not a certificate request: one PEM block CERTIFICATE REQUEST (PKCS #10) is needed", { field: "csrPem", cause });
}

function commonNameOf(request: forge.asn1.Asn1): string | undefined {
  try {
    const field: unknown = forge.pki.certificationRequestFromAsn1(request).subject.getField("CN")?.value;
    return typeof field === "string" ? field : undefined;
  } catch (error) {
    throw notARequest(error);
  }
}

/** A BIT STRING arrives as bytes with a leading count of unused bits, or parsed further when its bytes look like DER. */
function signatureBytes(node: forge.asn1.Asn1): Buffer {
  const raw = (node as { bitStringContents?: unknown }).bitStringContents ?? node.value;
  return typeof raw === "string" ? Buffer.from(raw.slice(1), "latin1") : Buffer.alloc(0);
}

function childrenOf(node: forge.asn1.Asn1 | undefined): readonly (forge.asn1.Asn1 | undefined)[] {
  return node !== undefined && Array.isArray(node.value) ? node.value : [];
}

function bytesOf(node: forge.asn1.Asn1): string {
  if (typeof node.value !== "string") throw notARequest();
  return node.value;
}

function derOf(node: forge.asn1.Asn1): Buffer {
  return Buffer.from(forge.asn1.toDer(node).getBytes(), "latin1");
}

function forgePublicKey(key: KeyObject): forge.pki.rsa.PublicKey {
  return forge.pki.publicKeyFromPem(key.export({ type: "spki", format: "pem" }).toString());
}

/** nameOf uses UTF8String, which holds every character of a prefix; PrintableString, forge's default, has no underscore and no at sign. */
function nameOf(parts: readonly NamePart[]): forge.pki.CertificateField[] {
  return parts.map((part) => ({ ...part, valueTagClass: forge.asn1.Type.UTF8 as unknown as forge.asn1.Class }));
}

/** 16 bytes, positive, no leading zero byte (which DER forbids): 126 random bits. RFC 5280 allows up to 20 bytes. */
function newSerial(): string {
  const bytes = randomBytes(16);
  bytes[0] = ((bytes[0] ?? 0) & 0x7f) | 0x40;
  return bytes.toString("hex");
}

function wholeSeconds(date: Date): Date {
  return new Date(Math.floor(date.getTime() / 1000) * 1000);
}

function normalPem(pem: string): string {
  return `${pem.replaceAll("\r\n", "\n").trimEnd()}\n`;
}

const SHA256_WITH_RSA = "1.2.840.113549.1.1.11";
const DIGEST_OF_OID: ReadonlyMap<string, string> = new Map([
  [SHA256_WITH_RSA, "sha256"],
  ["1.2.840.113549.1.1.12", "sha384"],
  ["1.2.840.113549.1.1.13", "sha512"],
]);
