import type { Observe, Persist } from "#kernel/core.ts";
import type { Failure } from "#kernel/error.ts";
import type { Now } from "#kernel/instant.ts";

/**
 * ReplicaId names one copy of the log: `<hub id>/<incarnation>`. The incarnation is drawn when a hub joins and never used again, so that
 * a hub restored from a backup comes back as another replica (zoo 27).
 */
export type ReplicaId = string;

/** replicaIdOf names a replica. `incarnation` is a positive integer that this hub has not used before. */
export function replicaIdOf(hubId: string, incarnation: number): ReplicaId {
  return `${hubId}/${incarnation}`;
}

/** hubOf gives the hub of a replica. */
export function hubOf(replica: ReplicaId): string {
  return replica.slice(0, replica.indexOf("/"));
}

/** incarnationOf gives the number of a replica. */
export function incarnationOf(replica: ReplicaId): number {
  return Number(replica.slice(replica.indexOf("/") + 1));
}

/**
 * Membership is who keeps the log. `voters` decide; while `outgoing` is not empty the change is a joint one, and a decision needs a
 * majority of both. `learners` get everything and decide nothing. A hub has at most one replica in it. All lists are sorted.
 */
export interface Membership {
  readonly voters: readonly ReplicaId[];
  readonly outgoing: readonly ReplicaId[];
  readonly learners: readonly ReplicaId[];
}

/** Committed is one decided position of the log. Positions are consecutive from 1. */
export interface Committed {
  readonly index: number;
  /** The term in which it was written (Raft), or 0 (BFT, where the index alone tells it): with the index it fences, the same at all replicas. */
  readonly term: number;
  /** Log time, ms since the Unix epoch as its writer read it; it never goes back from one position to the next. */
  readonly time: number;
  /** Payloads of authors, in order; empty for a position that only the engine needed. */
  readonly payloads: readonly Uint8Array[];
  /** The membership from here on, where the position changes it. */
  readonly membership?: Membership;
}

/** EngineSnapshot stands for all positions up to `index`. */
export interface EngineSnapshot {
  readonly index: number;
  readonly term: number;
  readonly time: number;
  /** The committed membership at `index`, never a newer one (zoo 15). */
  readonly membership: Membership;
  /** The state of the application at `index`, as it gave it. */
  readonly state: Uint8Array;
}

/** EngineInput is what an engine takes. `F` is its frame, a plain object that the codec writes and reads. */
export type EngineInput<F> =
  /** A payload to decide on. It is answered by `accepted` with its position, or by `refused`. A replica that does not lead refuses. */
  | { readonly kind: "propose"; readonly call: number; readonly payload: Uint8Array }
  /** A linearizable read: answered by `readable` with the position that must be applied before the answer is read. */
  | { readonly kind: "read"; readonly call: number }
  /** Another membership, as its final lists; the engine makes the joint step by itself. */
  | {
      readonly kind: "reconfigure";
      readonly call: number;
      readonly voters: readonly ReplicaId[];
      readonly learners: readonly ReplicaId[];
    }
  /** Leadership to another voter. */
  | { readonly kind: "transfer"; readonly call: number; readonly to: ReplicaId }
  /** A frame of a replica: late, twice, out of order, or of a session that is gone. Nothing in it is believed before it is checked. */
  | { readonly kind: "frame"; readonly from: ReplicaId; readonly frame: F }
  /** What `stored` asked for: everything persisted before that effect is durable (the engine's own entries count from here on). */
  | { readonly kind: "stored"; readonly mark: StoredMark }
  /** A hint about a session with a replica; never a reason for a rule of safety. */
  | { readonly kind: "reachable"; readonly replica: ReplicaId; readonly up: boolean }
  /** The application's state at `index`, as asked for by `capture`. */
  | { readonly kind: "captured"; readonly index: number; readonly state: Uint8Array }
  /** The clock is trusted, or not any more (lease reads; a wake after a pause). */
  | { readonly kind: "clock"; readonly trusted: boolean };

/** StoredMark tells one moment of an engine's writes from all others: what was overwritten meanwhile must not count (zoo 4). */
export interface StoredMark {
  readonly term: number;
  readonly index: number;
}

/**
 * EngineEffect is what an engine asks for. Persists are of two classes: those that are `hard` (term, vote, what a signature says) and
 * those that are not (entries). An output that is `early` waits for the hard ones before it only; every other output waits for all
 * persists before it.
 */
export type EngineEffect<F> =
  | (Persist & { readonly hard: boolean })
  | { readonly kind: "send"; readonly to: ReplicaId; readonly frame: F; readonly early: boolean }
  /** Comes back as the input `stored`, when all persists before it are durable. */
  | { readonly kind: "stored"; readonly mark: StoredMark }
  /** Decided, in order, each position once in the life of a process. Applied before any later input. */
  | { readonly kind: "committed"; readonly entries: readonly Committed[] }
  /** The application's state is replaced by that of a snapshot; `committed` goes on behind it. */
  | { readonly kind: "install"; readonly snapshot: EngineSnapshot }
  /** The application's state at its applied position is wanted for a snapshot: answered by the input `captured`. */
  | { readonly kind: "capture" }
  /** A proposal has its position; it is decided when that position is committed with this term, and lost if with another. */
  | { readonly kind: "accepted"; readonly call: number; readonly index: number; readonly term: number }
  | { readonly kind: "readable"; readonly call: number; readonly index: number }
  /** A change of membership or a transfer is done. */
  | { readonly kind: "done"; readonly call: number }
  /** `facts.leader` names the replica to ask instead, where one is known. */
  | { readonly kind: "refused"; readonly call: number; readonly failure: Failure }
  /** The role of this replica, or who leads, is another one. */
  | { readonly kind: "role"; readonly role: Role; readonly term: number; readonly leader: ReplicaId | undefined }
  /** Proof that a hub broke the protocol, for anyone to check (BFT). */
  | { readonly kind: "evidence"; readonly against: ReplicaId; readonly proof: Uint8Array; readonly what: string }
  | (Observe & { readonly what: string; readonly value?: number; readonly replica?: ReplicaId });

/** Role is what a replica does for the log at the moment. `follower` of a BFT engine: it is a member, nobody leads for longer than a round. */
export type Role = "leader" | "candidate" | "follower" | "learner" | "outside";

/** LogStatus is what can be said of the log at this replica at once, without asking anyone. */
export interface LogStatus {
  readonly role: Role;
  readonly term: number;
  readonly leader: ReplicaId | undefined;
  readonly committed: number;
  readonly last: number;
  readonly membership: Membership;
  /**
   * Milliseconds since this replica last knew that it has all that was decided (a leader that is heard by a quorum, or a quorum's
   * answers to a leader); undefined when it never knew since it started. The age of a local read.
   */
  readonly ageMs: number | undefined;
  /** A quorum is in contact: decisions can be made. */
  readonly quorum: boolean;
}

/**
 * LogEngine decides on an order of payloads together with its counterparts at other hubs. It is pure (kernel/core.ts); the restore of
 * its stored state is done by its constructor.
 */
export interface LogEngine<F> {
  step(now: Now, input: EngineInput<F>, out: EngineEffect<F>[]): void;
  tick(now: Now, out: EngineEffect<F>[]): void;
  /** The `mono` instant at which `tick` wants to be called, or undefined. */
  deadline(): number | undefined;
  status(now: Now): LogStatus;
  /** time is the log time, ms, that an entry would have which this replica wrote now: no earlier than that of the entries before. */
  time(now: Now): number;
  describe(): string;
}

/** StoredLog is what an engine left in the store, as the shell reads it at a start. Logs and spaces are those of its own names. */
export interface StoredLog {
  read(log: string, from: number): Iterable<{ readonly seq: number; readonly bytes: Uint8Array }>;
  get(space: string, key: string): Uint8Array | undefined;
  space(space: string): Iterable<{ readonly key: string; readonly bytes: Uint8Array }>;
}
