import { create, toBinary } from "@bufbuild/protobuf";
import { decodeChecked } from "#channel/decoded-size.ts";
import type { KeyMaterial } from "#channel/tls/material.ts";
import { FeedKeyStatementSchema, SignedKeyStatementSchema } from "#gen/foedus/registry_sync/segment/v1/segment_pb.ts";
import { type Failure, fail } from "#kernel/error.ts";
import { exportFeedKey, type FeedKey, generateFeedKey, importFeedKey } from "#runtime/crypto.ts";
import { type KeyFileKind, loadKeyFile, seedOf } from "#runtime/key-file.ts";
import { KeptStatement, leafOf, type StatementCheck, type StatementKind, signStatement, statementProblem } from "#runtime/tls/statement.ts";

/** STATEMENT is what a service's certificate signs: any service that the schema knows, or the one process of single mode (PROTOCOL K2). */
const STATEMENT: StatementKind = {
  name: "feed key statement",
  context: Buffer.from("foedus.feed-key.v1\0"),
  signers: ["hub", "registry-sync", "discovery", "command-forwarding", "telemetry"],
};

/** HeldKey is this hub's feed key as it is kept. */
export interface HeldKey {
  readonly key: FeedKey;
  /** Rises with each key of this hub, from 1. */
  readonly serial: number;
}

interface KeyFile {
  readonly format: "foedus-feed-key-1";
  readonly serial: number;
  /** Raw private key, 32 bytes in base64. */
  readonly private_key: string;
}

const FILE: KeyFileKind<HeldKey> = {
  name: "feed key",
  reason: "FEED_KEY_INVALID",
  make: () => {
    const key = generateFeedKey();
    const content: KeyFile = { format: "foedus-feed-key-1", serial: 1, private_key: Buffer.from(exportFeedKey(key)).toString("base64") };
    return { content, publicKey: key.publicKey };
  },
  open: ({ format, serial, private_key }: Partial<Record<keyof KeyFile, unknown>>) => {
    const seed = seedOf(private_key);
    const isOne = format === "foedus-feed-key-1" && Number.isInteger(serial) && Number(serial) >= 1;
    return isOne && seed !== undefined ? { key: importFeedKey(seed), serial: Number(serial) } : undefined;
  },
};

/** PeerKey is a peer's feed key, proved by its hub. */
export interface PeerKey {
  readonly publicKey: Uint8Array;
  readonly serial: number;
  readonly notBeforeWall: number;
  readonly notAfterWall: number;
  readonly revokesUpTo: number;
}

/**
 * loadFeedKey reads the feed key from a file, or makes it there: once, mode 0600, complete or not at all. Two processes that
 * start at the same time end up with the same key. FEED_KEY_INVALID for a file that is damaged, NOT_CONFIGURED for one that cannot be read, made or kept private.
 */
export function loadFeedKey(path: string): HeldKey {
  return loadKeyFile(path, FILE);
}

/**
 * makeKeyStatement says, signed with the service's certificate, which key signs this hub's feeds: the bytes of a
 * SignedKeyStatement. It is valid as long as that certificate; make a new one when the certificate is renewed.
 */
export function makeKeyStatement(hubId: string, held: HeldKey, credential: KeyMaterial): Buffer {
  const leaf = leafOf(credential);
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
  const signed = signStatement(STATEMENT, statement, credential);
  if (typeof signed === "string") throw fail("FEED_KEY_INVALID", `the certificate of this service ${signed} feeds`);
  const { signature, chain } = signed;
  return Buffer.from(toBinary(SignedKeyStatementSchema, create(SignedKeyStatementSchema, { statement, signature, chain: [...chain] })));
}

/** KeyCheck is what a peer's statement is judged by. */
export type KeyCheck = StatementCheck;

const invalid = (message: string): Failure => ({ reason: "FEED_KEY_INVALID", message });

/** verifyKeyStatement checks a peer's SignedKeyStatement: FEED_KEY_INVALID with what is wrong, or the key. */
export function verifyKeyStatement(bytes: Uint8Array, check: KeyCheck): PeerKey | Failure {
  try {
    const signed = decodeChecked(SignedKeyStatementSchema, bytes);
    const statement = decodeChecked(FeedKeyStatementSchema, signed.statement);
    const problem = statementProblem(STATEMENT, signed, check);
    if (problem !== undefined) return invalid(problem);
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

/** KeyStatement is our SignedKeyStatement, kept in step with the service's certificate. */
export class KeyStatement extends KeptStatement {
  /** identity gives certificate and key as they are now. */
  constructor(hubId: string, held: HeldKey, identity: () => KeyMaterial) {
    super((credential) => makeKeyStatement(hubId, held, credential), identity);
  }
}
