import { constants, type KeyObject, sign, verify, X509Certificate } from "node:crypto";
import { certificateKeyProblem } from "#channel/tls/keys.ts";
import { type KeyMaterial, parseCertificates } from "#channel/tls/material.ts";
import { INTERMEDIATES_MAX, issuedBy, parseSpiffeId, thumbprintOf, uriSans } from "#channel/tls/peer-identity.ts";

/** RSASSA-PSS with SHA-256 and a salt as long as the hash (RFC 8017, section 8.1). */
const PSS = { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 32 } as const;

/** Most certificates of a statement: the leaf and what stands between it and the pinned CA. */
const CHAIN_MAX = 1 + INTERMEDIATES_MAX;

/** Scheme is how a certificate's key signs a statement; the key alone decides, so that nothing can be negotiated down. */
interface Scheme {
  readonly hash: "sha256" | null;
  readonly options: object;
}

/**
 * SCHEMES, by the type of the certificate's key (PROTOCOL K3): RSASSA-PSS with SHA-256; ECDSA with SHA-256, the signature in DER as in TLS; Ed25519
 * (RFC 8032), which hashes by itself.
 */
const SCHEMES: Readonly<Record<string, Scheme>> = {
  rsa: { hash: "sha256", options: PSS },
  ec: { hash: "sha256", options: { dsaEncoding: "der" } },
  ed25519: { hash: null, options: {} },
};

const schemeOf = (key: KeyObject): Scheme | undefined => {
  const type = key.asymmetricKeyType ?? "";
  return Object.hasOwn(SCHEMES, type) ? SCHEMES[type] : undefined;
};

/** noScheme says which keys can be used instead. */
const noScheme = (key: KeyObject): string => `has a key of type ${key.asymmetricKeyType}; RSA, ECDSA and Ed25519 keys can sign`;

/** StatementKind is one kind of statement that the certificate of a service makes about its hub. */
export interface StatementKind {
  /** As people call it, e.g. "feed key statement". */
  readonly name: string;
  /** What is signed begins with it: no signature made for another purpose can pass for it. */
  readonly context: Uint8Array;
  /** Services whose certificate may sign for the hub. */
  readonly signers: readonly string[];
}

/** StatementCheck is what a peer's statement is judged by. */
export interface StatementCheck {
  /** The peer that sent it, by its certificate. */
  readonly hubId: string;
  /** CA certificates of that peer, never another's. */
  readonly bundle: readonly X509Certificate[];
  /** Thumbprints of revoked leaves. */
  readonly revoked: readonly string[];
  readonly nowWall: number;
}

/** SignedStatement is a statement with what proves it: `chain` is DER, leaf first, without a root. */
export interface SignedStatement {
  readonly statement: Uint8Array;
  readonly signature: Uint8Array;
  readonly chain: readonly Uint8Array[];
}

/** leafOf is the certificate of a credential; undefined if there is none. */
export function leafOf(credential: KeyMaterial): X509Certificate | undefined {
  return parseCertificates([credential.cert])[0];
}

/** signStatement signs a statement with a service's certificate. It answers what is wrong with the certificate as the end of a sentence. */
export function signStatement(kind: StatementKind, statement: Uint8Array, credential: KeyMaterial): SignedStatement | string {
  const [leaf, ...issuers] = parseCertificates([credential.cert]);
  if (leaf === undefined) return "is missing";
  const scheme = schemeOf(leaf.publicKey);
  if (scheme === undefined) return noScheme(leaf.publicKey);
  const signature = sign(scheme.hash, Buffer.concat([kind.context, statement]), { key: credential.key, ...scheme.options });
  // A root proves nothing: who checks this has pinned it.
  const between = issuers.filter((ca) => !ca.checkIssued(ca)).slice(0, INTERMEDIATES_MAX);
  return { statement, signature, chain: [leaf, ...between].map(({ raw }) => raw) };
}

/** statementProblem says what is wrong with the proof of a statement, in a sentence; undefined if it holds. It throws for malformed certificates. */
export function statementProblem(kind: StatementKind, signed: SignedStatement, check: StatementCheck): string | undefined {
  const [leaf, ...issuers] = signed.chain.slice(0, CHAIN_MAX).map((der) => new X509Certificate(der));
  if (leaf === undefined) return `the ${kind.name} has no certificate`;
  const problem = leafProblem(kind, leaf, issuers, check);
  if (problem !== undefined) return problem;
  const weak = certificateKeyProblem(leaf);
  if (weak !== undefined) return `the certificate of the ${kind.name} ${weak}`;
  const scheme = schemeOf(leaf.publicKey);
  if (scheme === undefined) return `the certificate of the ${kind.name} ${noScheme(leaf.publicKey)} statements`;
  const signedText = Buffer.concat([kind.context, signed.statement]);
  return verify(scheme.hash, signedText, { key: leaf.publicKey, ...scheme.options }, signed.signature)
    ? undefined
    : `the signature of the ${kind.name} is wrong`;
}

function leafProblem(
  { name, signers }: StatementKind,
  leaf: X509Certificate,
  issuers: readonly X509Certificate[],
  check: StatementCheck,
): string | undefined {
  const uris = uriSans(leaf);
  const id = uris.length === 1 ? parseSpiffeId(uris[0] as string) : undefined;
  if (id === undefined || id.hubId !== check.hubId || id.kind !== "service" || !signers.includes(id.name))
    return `the ${name} is signed by ${id?.uri ?? "a certificate without a single SPIFFE id"} and not by a service of ${check.hubId}`;
  if (leaf.ca) return `the ${name} is signed by a CA and not by a service`;
  const inDate = ({ validFromDate, validToDate }: X509Certificate): boolean =>
    check.nowWall >= validFromDate.getTime() && check.nowWall < validToDate.getTime();
  if (!issuedBy(leaf, check.bundle, issuers.filter(inDate)))
    return `the certificate of the ${name} is not signed by a CA of ${check.hubId}`;
  if (!inDate(leaf)) return `the certificate of the ${name} is outside its validity`;
  if (check.revoked.includes(thumbprintOf(leaf))) return `the certificate of the ${name} is revoked`;
  return undefined;
}

/** KeptStatement is our signed statement, kept in step with the service's certificate. */
export class KeptStatement {
  readonly #make: (credential: KeyMaterial) => Buffer;
  readonly #identity: () => KeyMaterial;
  #made: KeyMaterial;
  #bytes: Buffer;
  #renewed = false;

  /** identity gives certificate and key as they are now; `make` the encoded statement that they sign. */
  constructor(make: (credential: KeyMaterial) => Buffer, identity: () => KeyMaterial) {
    this.#make = make;
    this.#identity = identity;
    this.#made = identity();
    this.#bytes = make(this.#made);
  }

  /** bytes is the encoded signed statement. */
  get bytes(): Buffer {
    const identity = this.#identity();
    if (identity.cert !== this.#made.cert) {
      this.#bytes = this.#make(identity);
      this.#made = identity;
      this.#renewed = true;
    }
    return this.#bytes;
  }

  /** takeRenewed is true, once, after the certificate was renewed. */
  takeRenewed(): boolean {
    void this.bytes;
    const renewed = this.#renewed;
    this.#renewed = false;
    return renewed;
  }
}
