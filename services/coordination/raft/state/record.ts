import { inDomain } from "#kernel/wire/bytes.ts";
import { ProtoReader, WireError } from "#kernel/wire/proto-reader.ts";
import { ProtoWriter } from "#kernel/wire/proto-writer.ts";
import { StoredError } from "#kernel/wire/stored-json.ts";
import type { Committed, Membership, ReplicaId } from "../../log/engine.ts";
import { FRAME_LIMITS, membershipProblem } from "../frames.ts";

/*
 * The bytes that a replica stores, and those that the sender of a snapshot signs. They are protobuf (raft.proto: Stored, HardState,
 * StoredEntry, Manifest), written by hand so that the same value is the same bytes everywhere.
 */

/** HardState is what must be durable before anything of its term is said. */
export interface HardState {
  readonly replica: ReplicaId;
  readonly term: number;
  /** For whom this replica voted in this term. */
  readonly vote: ReplicaId | undefined;
}

/** Manifest describes a snapshot and the parts of its state. */
export interface Manifest {
  /** Who says so; empty in a store. */
  readonly sender: ReplicaId | "";
  readonly index: number;
  readonly term: number;
  readonly time: number;
  /** The committed membership at `index`. */
  readonly membership: Membership;
  /** Bytes of the state. */
  readonly length: number;
  /** Bytes of each part but the last. */
  readonly partBytes: number;
  /** SHA-256 of each part. */
  readonly digests: readonly Uint8Array[];
}

/** Bytes of a stored record. */
const RECORD_BYTES = 16 * 1024 * 1024;
const LIMIT = FRAME_LIMITS.position - 1;

/** sumOf is FNV-1a (32 bits): no change of a single byte goes unseen. */
function sumOf(bytes: Uint8Array): number {
  let sum = 0x811c9dc5;
  for (let i = 0; i < bytes.length; i++) sum = Math.imul(sum ^ (bytes[i] as number), 0x01000193);
  return sum >>> 0;
}

function seal(body: Uint8Array): Uint8Array {
  return new ProtoWriter().bytes(1, body).uint(2, sumOf(body)).finish();
}

/** opened reads a sealed record; it throws a StoredError that names the record unless it is what was written. */
function opened<T>(record: string, bytes: Uint8Array, read: (r: ProtoReader) => T): T {
  try {
    let body: Uint8Array = new Uint8Array(0);
    let sum = 0;
    const r = new ProtoReader(bytes);
    for (let field = r.next(); field !== 0; field = r.next()) {
      if (field === 1) body = r.bytes(RECORD_BYTES);
      else if (field === 2) sum = r.uint(2 ** 32 - 1);
      else r.unknown();
    }
    if (sumOf(body) !== sum) throw new StoredError(record, "is not what was written");
    return read(new ProtoReader(body));
  } catch (error) {
    if (!(error instanceof WireError)) throw error;
    throw new StoredError(record, `cannot be read: ${error.message}`, error);
  }
}

function writeMembership(w: ProtoWriter, membership: Membership): void {
  for (const id of membership.voters) w.textItem(1, id);
  for (const id of membership.outgoing) w.textItem(2, id);
  for (const id of membership.learners) w.textItem(3, id);
}

function readMembership(r: ProtoReader): Membership {
  const [voters, outgoing, learners]: [string[], string[], string[]] = [[], [], []];
  for (let field = r.next(); field !== 0; field = r.next()) {
    const list = [voters, outgoing, learners][field - 1];
    if (list === undefined || list.length === FRAME_LIMITS.members) r.unknown();
    list.push(r.text(FRAME_LIMITS.replica));
  }
  return { voters, outgoing, learners };
}

/** The most bytes of an encoded membership. */
const MEMBERSHIP_BYTES = 3 * FRAME_LIMITS.members * (FRAME_LIMITS.replica + 2);

/** writeHard writes a hard state for the store. */
export function writeHard({ replica, term, vote }: HardState): Uint8Array {
  return seal(
    new ProtoWriter()
      .text(1, replica)
      .uint(2, term)
      .text(3, vote ?? "")
      .finish(),
  );
}

/** readHard reads it; throws a StoredError. */
export function readHard(record: string, bytes: Uint8Array): HardState {
  return opened(record, bytes, (r) => {
    let [replica, term, vote] = ["", 0, ""];
    for (let field = r.next(); field !== 0; field = r.next()) {
      if (field === 1) replica = r.text(FRAME_LIMITS.replica);
      else if (field === 2) term = r.uint(LIMIT);
      else if (field === 3) vote = r.text(FRAME_LIMITS.replica);
      else r.unknown();
    }
    return { replica, term, vote: vote === "" ? undefined : vote };
  });
}

/** writeCommit writes the commit hint for the store. */
export function writeCommit(commit: number): Uint8Array {
  return seal(new ProtoWriter().uint(1, commit).finish());
}

/** readCommit reads it; throws a StoredError. */
export function readCommit(record: string, bytes: Uint8Array): number {
  return opened(record, bytes, (r) => {
    let commit = 0;
    for (let field = r.next(); field !== 0; field = r.next()) commit = field === 1 ? r.uint(LIMIT) : r.unknown();
    return commit;
  });
}

/** writeEntry writes an entry for the store. */
export function writeEntry(entry: Committed): Uint8Array {
  const w = new ProtoWriter().uint(1, entry.index).uint(2, entry.term).uint(3, entry.time);
  for (const payload of entry.payloads) w.item(4, payload);
  const { membership } = entry;
  if (membership !== undefined) w.message(5, (inner) => writeMembership(inner, membership));
  return seal(w.finish());
}

/** readEntry reads it; throws a StoredError. */
export function readEntry(record: string, bytes: Uint8Array): Committed {
  return opened(record, bytes, (r) => {
    let [index, term, time] = [0, 0, 0];
    let membership: Membership | undefined;
    const payloads: Uint8Array[] = [];
    for (let field = r.next(); field !== 0; field = r.next()) {
      if (field === 1) index = r.uint(LIMIT);
      else if (field === 2) term = r.uint(LIMIT);
      else if (field === 3) time = r.uint(LIMIT);
      else if (field === 4) payloads.push(r.bytes(RECORD_BYTES));
      else if (field === 5) membership = r.message(MEMBERSHIP_BYTES, readMembership);
      else r.unknown();
    }
    return { index, term, time, payloads, ...(membership === undefined ? {} : { membership }) };
  });
}

/** manifestBytes is what a sender signs (without `signedBytes`' domain) and what is sent and stored. */
export function manifestBytes(manifest: Manifest): Uint8Array {
  const w = new ProtoWriter().text(1, manifest.sender).uint(2, manifest.index).uint(3, manifest.term).uint(4, manifest.time);
  w.message(5, (inner) => writeMembership(inner, manifest.membership))
    .uint(6, manifest.length)
    .uint(7, manifest.partBytes);
  for (const digest of manifest.digests) w.bytes(8, digest);
  return w.finish();
}

function readManifest(r: ProtoReader): Manifest {
  let [sender, index, term, time, length, partBytes] = ["", 0, 0, 0, 0, 0];
  let membership: Membership = { voters: [], outgoing: [], learners: [] };
  const digests: Uint8Array[] = [];
  for (let field = r.next(); field !== 0; field = r.next()) {
    if (field === 1) sender = r.text(FRAME_LIMITS.replica);
    else if (field === 2) index = r.uint(LIMIT);
    else if (field === 3) term = r.uint(LIMIT);
    else if (field === 4) time = r.uint(LIMIT);
    else if (field === 5) membership = r.message(MEMBERSHIP_BYTES, readMembership);
    else if (field === 6) length = r.uint(LIMIT);
    else if (field === 7) partBytes = r.uint(FRAME_LIMITS.partBytes);
    else if (field === 8 && digests.length < FRAME_LIMITS.parts) digests.push(r.bytes(32));
    else r.unknown();
  }
  return { sender, index, term, time, membership, length, partBytes, digests };
}

/** manifestProblem tells what in a manifest contradicts itself; undefined for nothing. */
export function manifestProblem(m: Manifest): string | undefined {
  if (m.partBytes < 1) return "its parts have no size";
  if (m.digests.length !== Math.ceil(m.length / m.partBytes)) return "it has not as many digests as parts";
  if (m.digests.some((digest) => digest.length !== 32)) return "one of its digests has not 32 bytes";
  if (m.index === 0 && m.membership.voters.length === 0) return undefined;
  return membershipProblem(m.membership);
}

/** parseManifest reads a manifest that came from elsewhere; undefined if it is none. */
export function parseManifest(bytes: Uint8Array): Manifest | undefined {
  try {
    const manifest = readManifest(new ProtoReader(bytes));
    return manifestProblem(manifest) === undefined ? manifest : undefined;
  } catch (error) {
    if (error instanceof WireError) return undefined;
    throw error;
  }
}

/** signedBytes is what the signature of a manifest is over: its own kind of text, so that it can be taken for nothing else. */
export function signedBytes(manifest: Uint8Array): Uint8Array {
  return inDomain("foedus raft snapshot manifest v1", manifest);
}

/** writeManifest writes a manifest for the store. */
export function writeManifest(manifest: Manifest): Uint8Array {
  return seal(manifestBytes(manifest));
}

/** readStoredManifest reads it; throws a StoredError. */
export function readStoredManifest(record: string, bytes: Uint8Array): Manifest {
  const manifest = opened(record, bytes, readManifest);
  const problem = manifestProblem(manifest);
  if (problem !== undefined) throw new StoredError(record, `is not what was written: ${problem}`);
  return manifest;
}
