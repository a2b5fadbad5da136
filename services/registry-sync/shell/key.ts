import { constants, type KeyObject, sign, verify, X509Certificate } from "node:crypto";
import { chmodSync, closeSync, fsyncSync, openSync, statSync, writeSync } from "node:fs";
import { create, toBinary } from "@bufbuild/protobuf";
import { decodeChecked } from "#channel/decoded-size.ts";
import { certificateKeyProblem } from "#channel/tls/keys.ts";
import { type KeyMaterial, parseCertificates } from "#channel/tls/material.ts";
import { INTERMEDIATES_MAX, issuedBy, parseSpiffeId, thumbprintOf, uriSans } from "#channel/tls/peer-identity.ts";
import { FeedKeyStatementSchema, SignedKeyStatementSchema } from "#gen/foedus/registry_sync/segment/v1/segment_pb.ts";
import { type Failure, fail } from "#kernel/error.ts";
import { exportFeedKey, type FeedKey, generateFeedKey, importFeedKey } from "#runtime/crypto.ts";
import { notFile, placeNew, readText } from "#runtime/files.ts";

/** Context of the signature over a statement: no signature made for another purpose can pass for it. */
const CONTEXT = Buffer.from("foedus.feed-key.v1\0");

/** RSASSA-PSS with SHA-256 and a salt as long as the hash (RFC 8017, section 8.1). */
const PSS = { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 32 } as const;

/** SIGNERS are the services whose certificate may sign for the hub's feeds: any that the schema knows, or the one process of single mode (PROTOCOL K2). */
const SIGNERS: readonly string[] = ["hub", "registry-sync", "discovery", "command-forwarding", "telemetry"];

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

/** HeldKey is this hub's feed key as it is kept. */
export interface HeldKey {
  readonly key: FeedKey;
  /** Rises with each key of this hub, from 1. */
  readonly serial: number;
}

/** PeerKey is a peer's feed key, proved by its hub. */
export interface PeerKey {
  readonly publicKey: Uint8Array;
  readonly serial: number;
  readonly notBeforeWall: number;
  readonly notAfterWall: number;
  readonly revokesUpTo: number;
}

interface KeyFile {
  readonly format: "foedus-feed-key-1";
  readonly serial: number;
  /** Raw private key, 32 bytes in base64. */
  readonly private_key: string;
}

/**
 * loadFeedKey reads the feed key from a file, or makes it there: once, mode 0600, complete or not at all. Two processes that
 * start at the same time end up with the same key. FEED_KEY_INVALID for a file that is damaged, NOT_CONFIGURED for one that cannot be read, made or kept private.
 */
export function loadFeedKey(path: string): HeldKey {
  return readKey(path) ?? createKey(path);
}

function readKey(path: string): HeldKey | undefined {
  let text: string;
  try {
    text = readText(path);
    if ((statSync(path).mode & 0o077) !== 0) chmodSync(path, 0o600);
  } catch (cause) {
    if (cause instanceof Error && "code" in cause && cause.code === "ENOENT") return undefined;
    throw fail("NOT_CONFIGURED", `the feed key file ${path} cannot be read and kept private${notFile(cause)}`, { cause });
  }
  return parseKey(path, text);
}

function parseKey(path: string, text: string): HeldKey {
  try {
    const file = JSON.parse(text) as Partial<KeyFile>;
    const seed = Buffer.from(file.private_key ?? "", "base64");
    if (file.format === "foedus-feed-key-1" && seed.length === 32 && Number.isInteger(file.serial) && Number(file.serial) >= 1)
      return { key: importFeedKey(seed), serial: Number(file.serial) };
  } catch (cause) {
    throw fail("FEED_KEY_INVALID", `the feed key file ${path} is not valid JSON; restore it from a backup`, { cause });
  }
  throw fail("FEED_KEY_INVALID", `the feed key file ${path} is damaged; restore it from a backup`);
}

function createKey(path: string): HeldKey {
  try {
    writeKey(path);
  } catch (cause) {
    throw unmade(path, cause);
  }
  const made = readKey(path);
  // A link that leads nowhere takes the name and holds nothing.
  if (made === undefined) throw unmade(path, undefined);
  return made;
}

function unmade(path: string, cause: unknown): Error {
  const why = "make data_dir writable for the user that runs the hub, free some space, and move away what stands in its place";
  return fail("NOT_CONFIGURED", `the feed key file ${path} cannot be made: ${why}`, { cause });
}

function writeKey(path: string): void {
  const key = generateFeedKey();
  const file: KeyFile = { format: "foedus-feed-key-1", serial: 1, private_key: Buffer.from(exportFeedKey(key)).toString("base64") };
  const fresh = `${path}.${Buffer.from(key.publicKey.subarray(0, 6)).toString("hex")}.new`;
  const handle = openSync(fresh, "wx", 0o600);
  try {
    writeSync(handle, `${JSON.stringify(file)}\n`);
    fsyncSync(handle);
  } finally {
    closeSync(handle);
  }
  try {
    // Whoever was first wins, and the file is complete the moment it has its name.
    placeNew(fresh, path);
  } catch (cause) {
    if (!(cause instanceof Error && "code" in cause && cause.code === "EEXIST")) throw cause;
  }
}

/**
 * makeKeyStatement says, signed with the service's certificate, which key signs this hub's feeds: the bytes of a
 * SignedKeyStatement. It is valid as long as that certificate; make a new one when the certificate is renewed.
 */
export function makeKeyStatement(hubId: string, held: HeldKey, credential: KeyMaterial): Buffer {
  const [leaf, ...issuers] = parseCertificates([credential.cert]);
  if (leaf === undefined) throw fail("FEED_KEY_INVALID", "the service certificate is missing, so nobody could check this hub's feeds");
  const statement = toBinary(
    FeedKeyStatementSchema,
    create(FeedKeyStatementSchema, {
      hubId,
      key: held.key.publicKey,
      serial: held.serial,
      notBeforeMs: BigInt(leaf.validFromDate.getTime()),
      notAfterMs: BigInt(leaf.validToDate.getTime()),
    }),
  );
  const scheme = schemeOf(leaf.publicKey);
  if (scheme === undefined) throw fail("FEED_KEY_INVALID", `the certificate of this service ${noScheme(leaf.publicKey)} feeds`);
  const signature = sign(scheme.hash, Buffer.concat([CONTEXT, statement]), { key: credential.key, ...scheme.options });
  // A root proves nothing: who checks this has pinned it.
  const between = issuers.filter((ca) => !ca.checkIssued(ca)).slice(0, INTERMEDIATES_MAX);
  const signed = create(SignedKeyStatementSchema, { statement, signature, chain: [leaf, ...between].map(({ raw }) => raw) });
  return Buffer.from(toBinary(SignedKeyStatementSchema, signed));
}

/** KeyCheck is what a peer's statement is judged by. */
export interface KeyCheck {
  /** The peer that sent it, by its certificate. */
  readonly hubId: string;
  /** CA certificates of that peer, never another's. */
  readonly bundle: readonly X509Certificate[];
  /** Thumbprints of revoked leaves. */
  readonly revoked: readonly string[];
  readonly nowWall: number;
}

const invalid = (message: string): Failure => ({ reason: "FEED_KEY_INVALID", message });

/** verifyKeyStatement checks a peer's SignedKeyStatement: FEED_KEY_INVALID with what is wrong, or the key. */
export function verifyKeyStatement(bytes: Uint8Array, check: KeyCheck): PeerKey | Failure {
  try {
    const signed = decodeChecked(SignedKeyStatementSchema, bytes);
    const statement = decodeChecked(FeedKeyStatementSchema, signed.statement);
    const [leaf, ...issuers] = signed.chain.slice(0, CHAIN_MAX).map((der) => new X509Certificate(der));
    if (leaf === undefined) return invalid("the feed key statement has no certificate");
    const problem = leafProblem(leaf, issuers, check);
    if (problem !== undefined) return invalid(problem);
    const weak = certificateKeyProblem(leaf);
    if (weak !== undefined) return invalid(`the certificate of the feed key statement ${weak}`);
    const scheme = schemeOf(leaf.publicKey);
    if (scheme === undefined) return invalid(`the certificate of the feed key statement ${noScheme(leaf.publicKey)} statements`);
    const signedText = Buffer.concat([CONTEXT, signed.statement]);
    if (!verify(scheme.hash, signedText, { key: leaf.publicKey, ...scheme.options }, signed.signature))
      return invalid("the signature of the feed key statement is wrong");
    const key: PeerKey = {
      publicKey: statement.key,
      serial: statement.serial,
      notBeforeWall: Number(statement.notBeforeMs),
      notAfterWall: Number(statement.notAfterMs),
      revokesUpTo: statement.revokesUpTo,
    };
    if (statement.hubId !== check.hubId) return invalid(`the feed key statement is for ${statement.hubId} and came from ${check.hubId}`);
    if (key.publicKey.length !== 32 || key.serial < 1) return invalid("the feed key statement names no usable key");
    if (check.nowWall < key.notBeforeWall || check.nowWall >= key.notAfterWall)
      return invalid("the feed key statement is outside its validity");
    if (key.serial <= key.revokesUpTo) return invalid("the feed key statement revokes itself");
    return key;
  } catch {
    return invalid("the feed key statement is malformed");
  }
}

function leafProblem(leaf: X509Certificate, issuers: readonly X509Certificate[], check: KeyCheck): string | undefined {
  const uris = uriSans(leaf);
  const id = uris.length === 1 ? parseSpiffeId(uris[0] as string) : undefined;
  if (id === undefined || id.hubId !== check.hubId || id.kind !== "service" || !SIGNERS.includes(id.name))
    return `the feed key statement is signed by ${id?.uri ?? "a certificate without a single SPIFFE id"} and not by a service of ${check.hubId}`;
  if (leaf.ca) return "the feed key statement is signed by a CA and not by a service";
  const inDate = ({ validFromDate, validToDate }: X509Certificate): boolean =>
    check.nowWall >= validFromDate.getTime() && check.nowWall < validToDate.getTime();
  if (!issuedBy(leaf, check.bundle, issuers.filter(inDate)))
    return `the certificate of the feed key statement is not signed by a CA of ${check.hubId}`;
  if (!inDate(leaf)) return "the certificate of the feed key statement is outside its validity";
  if (check.revoked.includes(thumbprintOf(leaf))) return "the certificate of the feed key statement is revoked";
  return undefined;
}

/** KeyStatement is our SignedKeyStatement, kept in step with the service's certificate. */
export class KeyStatement {
  readonly #hubId: string;
  readonly #held: HeldKey;
  readonly #identity: () => KeyMaterial;
  #made: KeyMaterial;
  #bytes: Buffer;
  #renewed = false;

  /** identity gives certificate and key as they are now. */
  constructor(hubId: string, held: HeldKey, identity: () => KeyMaterial) {
    this.#hubId = hubId;
    this.#held = held;
    this.#identity = identity;
    this.#made = identity();
    this.#bytes = makeKeyStatement(hubId, held, this.#made);
  }

  /** bytes is the encoded SignedKeyStatement. */
  get bytes(): Buffer {
    const identity = this.#identity();
    if (identity.cert !== this.#made.cert) {
      this.#bytes = makeKeyStatement(this.#hubId, this.#held, identity);
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
