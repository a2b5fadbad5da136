import type { Crypto } from "#kernel/crypto.ts";
import type { Prng } from "#kernel/prng.ts";
import type { Membership, ReplicaId } from "../log/engine.ts";
import { FRAME_LIMITS } from "./frames.ts";

/** RaftTuning are the times and bounds of a replica. Times are ms, sizes bytes. All replicas of a log have the same `electionMs`. */
export interface RaftTuning {
  /** A follower that hears no leader for this long, and up to as long again by chance, asks for votes; nobody votes before. */
  readonly electionMs: number;
  /** How often a leader that has nothing to say is heard. */
  readonly heartbeatMs: number;
  /** A replica that is called so much later than it asked for did not run meanwhile; timers of a healthy event loop are late by less. */
  readonly jitterMs: number;
  /** Added to the time before this replica asks for votes: a hint that others are to lead, and no rule of safety. */
  readonly reluctanceMs: number;
  /** How long after a decision followers are told of it, if nothing else is sent to them. */
  readonly noticeMs: number;
  /** A transfer that took longer has failed. */
  readonly transferMs: number;
  /** Reads are answered without asking others while a quorum was heard lately; clocks must run alike (`leaseDrift`). */
  readonly leaseReads: boolean;
  /** Part of `electionMs` that a lease is shorter, for clocks that run apart. */
  readonly leaseDrift: number;
  /** A leader whose wall clock is further behind the log's time goes by its monotonic clock (RX5). */
  readonly clockLagMs: number;
  /** When the commit index is stored by itself, if no entries are. */
  readonly hintMs: number;
  /** Longest payload: a signed batch of commands with all that goes around them (log/batch.ts). */
  readonly payloadBytes: number;
  /** Most entries, and bytes of entries, of one append. An entry that is longer goes alone. */
  readonly appendEntries: number;
  readonly appendBytes: number;
  /** Appends, and bytes of them, on the way to one replica. */
  readonly windowMessages: number;
  readonly windowBytes: number;
  /** Entries and bytes that wait for a decision before more are refused. */
  readonly uncommittedEntries: number;
  readonly uncommittedBytes: number;
  /** Reads that wait. */
  readonly reads: number;
  /** Entries, or bytes of them, since the last snapshot that make the next one due. */
  readonly snapshotEntries: number;
  readonly snapshotBytes: number;
  /** Entries that are kept before a snapshot, for replicas that are a little behind, as far as they have no more than `keepBytes`. */
  readonly keepEntries: number;
  readonly keepBytes: number;
  /** Bytes of entries that a leader keeps for replicas that it serves and that lack them: else who is slower than the log grows would never have all. */
  readonly heldBytes: number;
  /** Bytes of a part of a snapshot, and parts on the way to one replica. */
  readonly partBytes: number;
  readonly partWindow: number;
  /** Longest state of the application. */
  readonly stateBytes: number;
  /** Entries that a learner may lack when it becomes a voter. */
  readonly promoteLag: number;
  readonly voters: number;
  readonly learners: number;
}

/** RAFT_TUNING are the defaults. */
export const RAFT_TUNING: RaftTuning = {
  electionMs: 300,
  heartbeatMs: 60,
  jitterMs: 20,
  reluctanceMs: 0,
  noticeMs: 5,
  transferMs: 600,
  leaseReads: false,
  leaseDrift: 0.1,
  clockLagMs: 60_000,
  hintMs: 500,
  payloadBytes: 140 * 1024,
  appendEntries: 512,
  appendBytes: 160 * 1024,
  windowMessages: 16,
  windowBytes: 1024 * 1024,
  uncommittedEntries: 8_192,
  uncommittedBytes: 8 * 1024 * 1024,
  reads: 8_192,
  snapshotEntries: 10_000,
  snapshotBytes: 16 * 1024 * 1024,
  keepEntries: 5_000,
  keepBytes: 8 * 1024 * 1024,
  heldBytes: 32 * 1024 * 1024,
  partBytes: 128 * 1024,
  partWindow: 4,
  stateBytes: 256 * 1024 * 1024,
  promoteLag: 64,
  voters: 7,
  learners: 256,
};

/** tuningProblem tells why a replica could not work like that; undefined if it can. */
export function tuningProblem(tuning: RaftTuning): string | undefined {
  const odd = Object.entries(tuning).find(([, value]) => typeof value === "number" && !(Number.isFinite(value) && value >= 0));
  if (odd !== undefined) return `${odd[0]} is no number that can be`;
  const { electionMs, heartbeatMs, payloadBytes, appendBytes, appendEntries, partBytes, leaseDrift } = tuning;
  if (!(heartbeatMs > 0) || 2 * heartbeatMs > electionMs)
    return "electionMs must be twice heartbeatMs at least, or one lost frame elects another leader";
  if (payloadBytes > FRAME_LIMITS.appendBytes || appendBytes > FRAME_LIMITS.appendBytes)
    return `an append has at most ${FRAME_LIMITS.appendBytes} bytes`;
  if (appendEntries < 1 || appendEntries > FRAME_LIMITS.entries)
    return `an append has at most ${FRAME_LIMITS.entries} entries, and at least one`;
  if (partBytes < 1 || partBytes > FRAME_LIMITS.partBytes)
    return `a part of a snapshot has at most ${FRAME_LIMITS.partBytes} bytes, and at least one`;
  if (tuning.windowMessages < 1 || tuning.windowBytes < 1 || tuning.partWindow < 1) return "a window has room for one message at least";
  return leaseDrift < 1 ? undefined : "leaseDrift is a part of electionMs";
}

/** RaftOptions are what a replica is given. */
export interface RaftOptions {
  /** This replica. */
  readonly self: ReplicaId;
  readonly crypto: Crypto;
  /** For the chance in election timeouts. */
  readonly prng: Prng;
  /** keysOf are the public keys (32 bytes) that a replica's hub is known by, with one of which the manifest of its snapshot is signed. */
  readonly keysOf: (replica: ReplicaId) => readonly Uint8Array[];
  /** check tells what is wrong with a payload, the same at every replica; undefined for nothing. Everything is right by default. */
  readonly check?: (payload: Uint8Array) => string | undefined;
  /** The first membership, the same at all that found the log. Only looked at when nothing is stored; absent at one that joins later. */
  readonly bootstrap?: Membership;
  /** Name of the log in the store ("raft"), and of the spaces: `<name>`, `<name>-snapshot`, `<name>-incoming`. */
  readonly name?: string;
  readonly tuning?: Partial<RaftTuning>;
}
