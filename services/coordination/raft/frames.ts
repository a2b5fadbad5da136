import type { Committed, ReplicaId } from "../log/engine.ts";

/** FRAME_LIMITS are the bounds of what stands in a frame of another replica; what is beyond them is dropped unread. */
export const FRAME_LIMITS = {
  /** Terms and positions are below this. */
  position: 2 ** 48,
  /** A term that is so much higher than the own one is nothing that elections lead to. */
  termJump: 2 ** 32,
  /** Log times are below this, ms since the Unix epoch (year 10889). */
  time: 2 ** 48,
  /** Characters of a replica id: a DNS label, a slash, and a number. */
  replica: 80,
  /** Entries of an append. */
  entries: 4_096,
  /** Payloads of an entry. */
  payloads: 4_096,
  /** Bytes of the payloads of an append. */
  appendBytes: 224 * 1024,
  /** Bytes of a part of a snapshot. */
  partBytes: 224 * 1024,
  /** Parts of a snapshot. */
  parts: 4_096,
  /** Bytes of a manifest: a digest of each part, and a membership. */
  manifestBytes: 192 * 1024,
  /** Replicas in one list of a membership. */
  members: 512,
} as const;

/** AGE_UNKNOWN stands for an age that the leader does not know. */
export const AGE_UNKNOWN = 2 ** 32 - 1;

/** VoteRequest asks for a vote, or (`pre`) whether one would be given: then `term` is the one that the sender would begin. */
export interface VoteRequest {
  readonly type: "vote_request";
  readonly term: number;
  readonly pre: boolean;
  /** Position and term of the sender's last entry. */
  readonly lastIndex: number;
  readonly lastTerm: number;
  /** The leader wants it so: whoever hears the leader votes nevertheless. */
  readonly transfer: boolean;
}

/** VoteAnswer answers it. `term` is the one asked for when it is granted, else the term of the sender. */
export interface VoteAnswer {
  readonly type: "vote_answer";
  readonly term: number;
  readonly pre: boolean;
  readonly granted: boolean;
  /** A decided position that the asker may have too, and its term: who has the same term there knows that it is decided. */
  readonly commitIndex: number;
  readonly commitTerm: number;
}

/** Append brings entries after (`prevIndex`, `prevTerm`), or none: then it is a heartbeat. */
export interface Append {
  readonly type: "append";
  readonly term: number;
  readonly prevIndex: number;
  readonly prevTerm: number;
  readonly entries: readonly Committed[];
  /** What the leader knows to be decided. */
  readonly commit: number;
  /** Number of the leader's newest question whether it still leads; the answer repeats it. */
  readonly probe: number;
  /** Ms since the leader last knew that it led, or AGE_UNKNOWN. */
  readonly ageMs: number;
  /** The leader may answer reads without asking (`leaseReads`): it counts on that nobody votes for another for a while after it was heard. */
  readonly lease: boolean;
}

/** AppendAnswer answers an append, an installed snapshot, or a frame of a leader whose term is over (`ok` false, a higher term). */
export interface AppendAnswer {
  readonly type: "append_answer";
  readonly term: number;
  readonly ok: boolean;
  /** `ok`: the log is the leader's up to here, durably. Else: the `prevIndex` that was refused. */
  readonly index: number;
  /** Where it was refused: the last position at which the logs may still be the same, and its term. */
  readonly hintIndex: number;
  readonly hintTerm: number;
  readonly probe: number;
}

/** SnapshotOffer announces a snapshot by its signed manifest (record.ts). */
export interface SnapshotOffer {
  readonly type: "snapshot_offer";
  readonly term: number;
  readonly manifest: Uint8Array;
  readonly signature: Uint8Array;
}

/** SnapshotPart is one part of it. */
export interface SnapshotPart {
  readonly type: "snapshot_part";
  readonly term: number;
  /** Position of the snapshot that was offered. */
  readonly index: number;
  readonly part: number;
  readonly bytes: Uint8Array;
}

/** SnapshotAnswer says which parts the receiver has, durably: all below `have`. */
export interface SnapshotAnswer {
  readonly type: "snapshot_answer";
  readonly term: number;
  readonly index: number;
  readonly have: number;
}

/** TransferNow makes its receiver campaign at once: the leader gives way to it. */
export interface TransferNow {
  readonly type: "transfer_now";
  readonly term: number;
}

/** RaftFrame is what replicas send each other. */
export type RaftFrame = VoteRequest | VoteAnswer | Append | AppendAnswer | SnapshotOffer | SnapshotPart | SnapshotAnswer | TransferNow;

function isPosition(value: unknown): boolean {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0 && value < FRAME_LIMITS.position;
}

function isBytes(value: unknown, most: number): boolean {
  return value instanceof Uint8Array && value.length <= most;
}

/** isReplicaId tells whether a text is `<hub id>/<incarnation>`. */
export function isReplicaId(value: unknown): value is ReplicaId {
  return (
    typeof value === "string" && value.length <= FRAME_LIMITS.replica && /^[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\/[1-9][0-9]{0,15}$/.test(value)
  );
}

function listProblem(list: unknown): string | undefined {
  if (!Array.isArray(list) || list.length > FRAME_LIMITS.members) return "it has a list that is too long";
  for (let i = 0; i < list.length; i++) {
    if (!isReplicaId(list[i])) return "it names no replica";
    if (i > 0 && list[i - 1] >= list[i]) return "its lists are not sorted";
  }
  return undefined;
}

/** membershipProblem tells what is wrong with the form of a membership that came from elsewhere; undefined for nothing. */
export function membershipProblem(membership: {
  readonly voters: unknown;
  readonly outgoing: unknown;
  readonly learners: unknown;
}): string | undefined {
  const { voters, outgoing, learners } = membership;
  const problem = listProblem(voters) ?? listProblem(outgoing) ?? listProblem(learners);
  if (problem !== undefined) return problem;
  if ((voters as readonly string[]).length === 0) return "it has no voter";
  return (voters as readonly string[]).some((id) => (learners as readonly string[]).includes(id)) ? "a voter is a learner too" : undefined;
}

function entriesProblem({ entries, prevIndex, prevTerm, term }: Append): string | undefined {
  if (!Array.isArray(entries) || entries.length > FRAME_LIMITS.entries) return "too many entries";
  let bytes = 0;
  let [before, time] = [prevTerm, 0];
  for (let i = 0; i < entries.length; i++) {
    const entry = entries[i] as Committed;
    if (typeof entry !== "object" || entry === null) return "it has something else than entries";
    if (entry.index !== prevIndex + 1 + i) return "its entries have gaps";
    if (!isPosition(entry.term) || entry.term < before || entry.term > term) return "its entries have terms that cannot be";
    if (!Number.isSafeInteger(entry.time) || entry.time < time || entry.time >= FRAME_LIMITS.time) return "its log time goes back";
    if (!Array.isArray(entry.payloads) || entry.payloads.length > FRAME_LIMITS.payloads) return "too many payloads";
    for (const payload of entry.payloads) {
      if (!isBytes(payload, FRAME_LIMITS.appendBytes)) return "a payload is too long";
      bytes += payload.length;
    }
    const problem = entry.membership === undefined ? undefined : membershipProblem(entry.membership);
    if (problem !== undefined) return `of its membership ${problem}`;
    [before, time] = [entry.term, entry.time];
  }
  return bytes > FRAME_LIMITS.appendBytes ? "too many bytes" : undefined;
}

/** frameProblem tells why a frame cannot be one of a replica; undefined if it can. Nothing of a frame is used before. */
export function frameProblem(frame: RaftFrame): string | undefined {
  if (!isPosition(frame.term)) return "its term is no number that can be";
  switch (frame.type) {
    case "vote_request":
      return frame.term > 0 && isPosition(frame.lastIndex) && isPosition(frame.lastTerm) ? undefined : "its log cannot be";
    case "append":
      if (!isPosition(frame.prevIndex) || !isPosition(frame.prevTerm) || frame.prevTerm > frame.term) return "its position cannot be";
      if (frame.prevIndex === 0 && frame.prevTerm !== 0) return "its position cannot be";
      if (!isPosition(frame.commit) || !isPosition(frame.probe)) return "its numbers cannot be";
      if (!Number.isSafeInteger(frame.ageMs) || frame.ageMs < 0 || frame.ageMs > AGE_UNKNOWN) return "its age cannot be";
      if (typeof frame.lease !== "boolean") return "its lease cannot be";
      return frame.term === 0 ? "nobody leads term 0" : entriesProblem(frame);
    case "append_answer":
      return [frame.index, frame.hintIndex, frame.hintTerm, frame.probe].every(isPosition) ? undefined : "its numbers cannot be";
    case "snapshot_offer":
      return isBytes(frame.manifest, FRAME_LIMITS.manifestBytes) && isBytes(frame.signature, 64) ? undefined : "it is too long";
    case "snapshot_part":
      if (!isPosition(frame.index) || !isPosition(frame.part)) return "its numbers cannot be";
      return isBytes(frame.bytes, FRAME_LIMITS.partBytes) ? undefined : "it is too long";
    case "snapshot_answer":
      return isPosition(frame.index) && isPosition(frame.have) ? undefined : "its numbers cannot be";
    case "vote_answer":
      return isPosition(frame.commitIndex) && isPosition(frame.commitTerm) ? undefined : "its numbers cannot be";
    case "transfer_now":
      return undefined;
    default:
      return "there is no such frame";
  }
}
