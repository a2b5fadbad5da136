import { copyOf } from "#kernel/wire/bytes.ts";
import { ProtoReader, WireError } from "#kernel/wire/proto-reader.ts";
import { ProtoWriter } from "#kernel/wire/proto-writer.ts";
import type { Membership, ReplicaId } from "../log/engine.ts";
import {
  type Attestation,
  BFT_BOUNDS,
  type Certificate,
  type CertifiedVote,
  type Manifest,
  type Proposal,
  STEP,
  type Step,
  type ValueId,
  type Vote,
} from "./frames.ts";
import { bytesOfHex, hexOf, sameBytes } from "./hex.ts";

/*
 * What a BFT replica stores and what is hashed, as protobuf: `Batch`, `StoredVote`, `StoredProposal`, `StoredCertificate`, `StoredDecision`,
 * `StoredSnapshot` and `JournalRecord` of the schema. The numbers are never given another meaning.
 */

const { heights: HEIGHTS, rounds: ROUNDS, nameLength: NAME, votersMax: VOTERS } = BFT_BOUNDS;
/** Wall clocks that fit: until the year 275760. */
const TIMES = 8_640_000_000_000_000;
const ANY_BYTES = 2 ** 31;

/** Batch is the value of a height. */
export interface Batch {
  readonly height: number;
  /** The proposer's wall clock, ms since the Unix epoch. */
  readonly time: number;
  /** Id of the value of the height before. */
  readonly previous: ValueId;
  readonly payloads: readonly Uint8Array[];
  /** Markers of reads: whoever sees its own decided has all that was decided before it asked. */
  readonly markers: readonly Uint8Array[];
  readonly membership: Membership | undefined;
}

/** readOr reads, and answers undefined for what is malformed. */
export function readOr<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch (error) {
    if (error instanceof WireError) return undefined;
    throw error;
  }
}

/** writeMembership writes a `Membership`. */
export function writeMembership(w: ProtoWriter, { voters, outgoing, learners }: Membership): void {
  for (const replica of voters) w.textItem(1, replica);
  for (const replica of outgoing) w.textItem(2, replica);
  for (const replica of learners) w.textItem(3, replica);
}

/** readMembership reads what writeMembership wrote. What it means is for the reader to check. */
export function readMembership(r: ProtoReader): Membership {
  const lists: [ReplicaId[], ReplicaId[], ReplicaId[]] = [[], [], []];
  for (let field = r.next(); field !== 0; field = r.next()) {
    const list = lists[field - 1] ?? r.unknown();
    if (list.push(r.text(NAME)) > BFT_BOUNDS.learnersMax) throw new WireError("there are too many members");
  }
  return { voters: lists[0], outgoing: lists[1], learners: lists[2] };
}

/** batchBytes writes a batch. The hash of these bytes is its id. */
export function batchBytes(batch: Batch): Uint8Array {
  const w = new ProtoWriter().uint(1, batch.height).uint(2, batch.time).bytes(3, bytesOfHex(batch.previous));
  for (const payload of batch.payloads) w.item(4, payload);
  for (const marker of batch.markers) w.item(5, marker);
  const { membership } = batch;
  if (membership !== undefined) w.message(6, (inner) => writeMembership(inner, membership));
  return w.finish();
}

/** readBatch reads a batch; undefined for bytes that batchBytes would not have written. */
export function readBatch(bytes: Uint8Array, most = 100_000): Batch | undefined {
  return readOr(() => {
    const r = new ProtoReader(bytes);
    let [height, time, previous] = [0, 0, ""];
    let membership: Membership | undefined;
    const payloads: Uint8Array[] = [];
    const markers: Uint8Array[] = [];
    for (let field = r.next(); field !== 0; field = r.next()) {
      if (field === 1) height = r.uint(HEIGHTS);
      else if (field === 2) time = r.uint(TIMES);
      else if (field === 3) previous = hexOf(r.bytes(32));
      else if (field === 4) payloads.push(r.bytes(ANY_BYTES));
      else if (field === 5) markers.push(r.bytes(64));
      else if (field === 6) membership = r.message(64 * 1024, readMembership);
      else r.unknown();
      if (payloads.length + markers.length > most) throw new WireError("there are too many payloads");
    }
    const batch: Batch = { height, time, previous, payloads, markers, membership };
    if (previous.length !== 64 || !sameBytes(batchBytes(batch), bytes)) throw new WireError("this is not how a batch is written");
    return batch;
  });
}

/** writeVote writes a `StoredVote`. */
export function writeVote(w: ProtoWriter, vote: Vote): void {
  w.uint(1, vote.height)
    .uint(2, vote.round)
    .uint(3, vote.step)
    .bytes(4, bytesOfHex(vote.value))
    .uint(5, vote.relies + 1)
    .uint(6, vote.voter)
    .bytes(7, vote.signature);
}

/** readVote reads what writeVote wrote. */
export function readVote(r: ProtoReader): Vote {
  const vote = { height: 0, round: 0, step: 0 as Step, value: "", relies: -1, voter: 0, signature: new Uint8Array(0) as Uint8Array };
  for (let field = r.next(); field !== 0; field = r.next())
    if (field === 1) vote.height = r.uint(HEIGHTS);
    else if (field === 2) vote.round = r.uint(ROUNDS);
    else if (field === 3) vote.step = r.uint(STEP.PRECOMMIT) as Step;
    else if (field === 4) vote.value = readId(r);
    else if (field === 5) vote.relies = r.uint(ROUNDS) - 1;
    else if (field === 6) vote.voter = r.uint(VOTERS - 1);
    else if (field === 7) vote.signature = copyOf(r.bytes(64));
    else r.unknown();
  if (vote.step < STEP.PREVOTE || vote.signature.length !== 64) throw new WireError("this is no vote");
  return vote;
}

/** writeProposal writes a `StoredProposal`. */
export function writeProposal(w: ProtoWriter, proposal: Proposal): void {
  w.uint(1, proposal.height)
    .uint(2, proposal.round)
    .bytes(3, bytesOfHex(proposal.value))
    .uint(4, proposal.size)
    .uint(5, proposal.validRound + 1)
    .bytes(6, proposal.signature);
}

/** readProposal reads what writeProposal wrote. */
export function readProposal(r: ProtoReader): Proposal {
  const proposal = { height: 0, round: 0, value: "", size: 0, validRound: -1, signature: new Uint8Array(0) as Uint8Array };
  for (let field = r.next(); field !== 0; field = r.next())
    if (field === 1) proposal.height = r.uint(HEIGHTS);
    else if (field === 2) proposal.round = r.uint(ROUNDS);
    else if (field === 3) proposal.value = readId(r);
    else if (field === 4) proposal.size = r.uint(ANY_BYTES);
    else if (field === 5) proposal.validRound = r.uint(ROUNDS) - 1;
    else if (field === 6) proposal.signature = copyOf(r.bytes(64));
    else r.unknown();
  if (proposal.value === "" || proposal.signature.length !== 64) throw new WireError("this is no proposal");
  return proposal;
}

/** writeCertificate writes a `StoredCertificate`. */
export function writeCertificate(w: ProtoWriter, certificate: Certificate): void {
  w.uint(1, certificate.height).uint(2, certificate.round).uint(3, certificate.step).bytes(4, bytesOfHex(certificate.value));
  for (const vote of certificate.votes)
    w.message(5, (inner) =>
      inner
        .uint(1, vote.voter)
        .uint(2, vote.relies + 1)
        .bytes(3, vote.signature),
    );
}

/** readCertificate reads what writeCertificate wrote. Nothing in it is verified. */
export function readCertificate(r: ProtoReader): Certificate {
  const certificate = { height: 0, round: 0, step: 0 as Step, value: "", votes: [] as CertifiedVote[] };
  for (let field = r.next(); field !== 0; field = r.next())
    if (field === 1) certificate.height = r.uint(HEIGHTS);
    else if (field === 2) certificate.round = r.uint(ROUNDS);
    else if (field === 3) certificate.step = r.uint(STEP.PRECOMMIT) as Step;
    else if (field === 4) certificate.value = readId(r);
    else if (field !== 5) r.unknown();
    else if (certificate.votes.push(r.message(256, readCertified)) > VOTERS) throw new WireError("there are too many votes");
  if (certificate.step < STEP.PREVOTE) throw new WireError("this is no certificate");
  return certificate;
}

function readCertified(r: ProtoReader): CertifiedVote {
  const vote = { voter: 0, relies: -1, signature: new Uint8Array(0) as Uint8Array };
  for (let field = r.next(); field !== 0; field = r.next())
    if (field === 1) vote.voter = r.uint(VOTERS - 1);
    else if (field === 2) vote.relies = r.uint(ROUNDS) - 1;
    else if (field === 3) vote.signature = copyOf(r.bytes(64));
    else r.unknown();
  return vote;
}

function readId(r: ProtoReader): ValueId {
  const id = hexOf(r.bytes(32));
  if (id.length !== 64) throw new WireError("an id of a value has 32 bytes");
  return id;
}

/** certificateBytes are those of a `StoredCertificate`, for who keeps a certificate outside of the log. */
export function certificateBytes(certificate: Certificate): Uint8Array {
  const w = new ProtoWriter();
  writeCertificate(w, certificate);
  return w.finish();
}

/** Decision is a decided height: the batch, and the proof. */
export interface Decision {
  readonly certificate: Certificate;
  readonly bytes: Uint8Array;
}

/** decisionBytes writes a `StoredDecision`. */
export function decisionBytes({ certificate, bytes }: Decision): Uint8Array {
  return new ProtoWriter()
    .message(1, (inner) => writeCertificate(inner, certificate))
    .bytes(2, bytes)
    .finish();
}

/** readDecision reads what decisionBytes wrote. */
export function readDecision(bytes: Uint8Array): Decision | undefined {
  return readOr(() => {
    const r = new ProtoReader(bytes);
    let certificate: Certificate | undefined;
    let batch: Uint8Array = new Uint8Array(0);
    for (let field = r.next(); field !== 0; field = r.next())
      if (field === 1) certificate = r.message(64 * 1024, readCertificate);
      else if (field === 2) batch = r.bytes(ANY_BYTES);
      else r.unknown();
    if (certificate === undefined) throw new WireError("the decision has no certificate");
    return { certificate, bytes: batch };
  });
}

/** SnapshotRecord is a snapshot without its state. */
export interface SnapshotRecord {
  readonly manifest: Manifest;
  readonly attestations: readonly Attestation[];
}

/** snapshotBytes writes a `StoredSnapshot`. */
export function snapshotBytes({ manifest, attestations }: SnapshotRecord): Uint8Array {
  const w = new ProtoWriter()
    .uint(1, manifest.index)
    .uint(2, manifest.term)
    .uint(3, manifest.time)
    .bytes(4, bytesOfHex(manifest.previous))
    .message(5, (inner) => writeMembership(inner, manifest.membership))
    .bytes(6, manifest.digest)
    .uint(7, manifest.size);
  for (const { voter, signature } of attestations) w.message(8, (inner) => inner.uint(1, voter).bytes(2, signature));
  return w.finish();
}

/** readSnapshot reads what snapshotBytes wrote. */
export function readSnapshot(bytes: Uint8Array): SnapshotRecord | undefined {
  return readOr(() => {
    const r = new ProtoReader(bytes);
    let membership: Membership = { voters: [], outgoing: [], learners: [] };
    const manifest = { index: 0, term: 0, time: 0, previous: "", digest: new Uint8Array(0) as Uint8Array, size: 0 };
    const attestations: Attestation[] = [];
    for (let field = r.next(); field !== 0; field = r.next())
      if (field === 1) manifest.index = r.uint(HEIGHTS);
      else if (field === 2) manifest.term = r.uint(ROUNDS);
      else if (field === 3) manifest.time = r.uint(TIMES);
      else if (field === 4) manifest.previous = readId(r);
      else if (field === 5) membership = r.message(64 * 1024, readMembership);
      else if (field === 6) manifest.digest = copyOf(r.bytes(32));
      else if (field === 7) manifest.size = r.uint(ANY_BYTES);
      else if (field === 8) attestations.push(r.message(256, readAttestation));
      else r.unknown();
    return { manifest: { ...manifest, membership }, attestations };
  });
}

function readAttestation(r: ProtoReader): Attestation {
  const attestation = { voter: 0, signature: new Uint8Array(0) as Uint8Array };
  for (let field = r.next(); field !== 0; field = r.next())
    if (field === 1) attestation.voter = r.uint(VOTERS - 1);
    else if (field === 2) attestation.signature = copyOf(r.bytes(64));
    else r.unknown();
  return attestation;
}
