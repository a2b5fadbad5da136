import type { StoreOp } from "#kernel/core.ts";
import type { Now } from "#kernel/instant.ts";
import type { Prng } from "#kernel/prng.ts";
import type { LogEngine, Membership, ReplicaId, StoredLog } from "../../../services/coordination/log/engine.ts";

/** EngineSetup is what an engine of a replica is made from. */
export interface EngineSetup {
  readonly self: ReplicaId;
  /** The members that the federation was founded with; a replica that is not among them waits to be told. */
  readonly founding: Membership;
  /** Voters of whom this replica was told when it was let in; none for a founder, and before. */
  readonly told: readonly ReplicaId[];
  readonly stored: StoredLog;
  readonly prng: Prng;
  readonly now: Now;
  /** Of the run: what all replicas draw alike is drawn from it. */
  readonly seed: number;
  /** Characters of a value; short ones if 0. */
  readonly valueLength: number;
  /** Applied positions between two snapshots. */
  readonly snapshotEvery: number;
  /** Linearizable reads by the leader's lease instead of by a round of messages. */
  readonly leaseReads: boolean;
  /** Parts that are wrong on purpose, for an engine that is made of parts. */
  readonly parts?: unknown;
  /** Times and bounds that are fixed, for an engine that has some. */
  readonly tuning?: unknown;
}

/**
 * Fact is what an operation on the store means to the log. Checkers know what a replica holds from these alone, so that an engine cannot
 * tell them more than it has stored.
 */
export type Fact =
  | { readonly kind: "hard"; readonly term: number; readonly vote: ReplicaId | undefined }
  | { readonly kind: "entry"; readonly index: number; readonly term: number; readonly digest: number; readonly membership: boolean }
  | { readonly kind: "cut"; readonly from: number }
  /** Nothing stays behind the snapshot. */
  | { readonly kind: "drop" }
  | { readonly kind: "snapshot"; readonly index: number; readonly term: number };

/** Pledge is something that a replica says once: under one key always the same, across restarts. */
export interface Pledge {
  /** Who pledges, if not the sender. */
  readonly by?: string;
  readonly key: string;
  readonly value: string;
}

/** Subject is an engine under test, and how the simulator reads what it writes. */
export interface Subject<F> {
  readonly name: EngineName;
  /** Fewest and most voters that a run draws. */
  readonly voters: readonly [number, number];
  /** Fewest voters that an operator leaves. */
  readonly fewest: number;
  /** Terms never go back, what is committed is on the disks of a quorum by then, and a replica whose role is "leader" is the only one of its term. */
  readonly oneLeader: boolean;
  /** A replica that is let in begins anew with the voters of whom it is told, as it does not know whose word to take. */
  readonly introduces: boolean;
  /** Members are changed by `reconfigure`, and leadership by `transfer`. */
  readonly changes: boolean;
  create(setup: EngineSetup): LogEngine<F>;
  encode(frame: F): Uint8Array;
  decode(bytes: Uint8Array): F;
  /** factsOf tells what an operation means to the log; nothing for one that does not concern it. */
  factsOf(op: StoreOp): readonly Fact[];
  /** pledgesOf tells what a frame to a replica pledges. */
  pledgesOf(frame: F, from: ReplicaId, to: ReplicaId): readonly Pledge[];
  /** nameOf names a frame in the trace. */
  nameOf(frame: F): string;
  /** enough tells how many of `n` voters decide. */
  enough(n: number): number;
}

/** EngineName names an engine on the command line. */
export type EngineName = "raft" | "bft";
