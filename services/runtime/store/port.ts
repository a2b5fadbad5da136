import type { StoreOp } from "#kernel/core.ts";

/**
 * CommitOutcome tells whether a batch is durable. A failed batch left nothing behind.
 * "full" and "io" may pass and are worth trying again; "conflict" (ST2) is not: someone else writes, or this program is wrong.
 * `untouched`: it was refused before anything was written, so that trying again is safe even for who believes no disk that has failed
 * once (after a failed fsync the system may have dropped the pages, and say that all is well the next time).
 */
export type CommitOutcome =
  | { readonly ok: true }
  | { readonly ok: false; readonly reason: "full" | "io" | "conflict"; readonly message: string; readonly untouched?: boolean };

/** Blob is one stored record of a log. */
export interface Blob {
  readonly seq: number;
  readonly bytes: Uint8Array;
}

/**
 * Store keeps what a service must not lose: append-only logs of numbered blobs and spaces of keyed blobs.
 * The compliance suite in `test/compliance/store.ts` is its definition.
 *
 * ST1 a batch is applied entirely or not at all, in order.
 * ST2 `append` to a position that is taken fails the batch (compare-and-set on (log, seq)).
 * ST3 when `commit` answers ok, the batch survives what `durability` promises:
 *    "full" power loss, "process" the end of the process only.
 * ST4 reads see every batch that was answered ok.
 */
export interface Store {
  readonly durability: "full" | "process";
  /**
   * True when the last stop was one that `durability` does not cover: batches that were answered ok may be missing from the end.
   * Absent means false.
   */
  readonly tailAtRisk?: boolean;
  /** The file, for people; absent if there is none. */
  readonly path?: string;
  commit(ops: readonly StoreOp[]): CommitOutcome | Promise<CommitOutcome>;
  /** logs lists the names of all logs that hold at least one blob, sorted. */
  logs(): string[];
  /** read yields the blobs of a log from `from` on, in order. */
  read(log: string, from: number): Iterable<Blob>;
  /** space yields the entries of a space in key order. */
  space(space: string): Iterable<{ readonly key: string; readonly bytes: Uint8Array }>;
  get(space: string, key: string): Uint8Array | undefined;
  /** freeReserve gives back disk space that was set aside, so that a hub on a full disk can still stop cleanly. */
  freeReserve?(): void;
  close(): void;
}
