import { assert } from "#kernel/assert.ts";
import type { Committed, EngineSnapshot, Membership, StoredLog } from "../log/engine.ts";
import { GENESIS, type ValueId } from "./frames.ts";
import type { Before } from "./height/height.ts";
import {
  type Batch,
  type Decision,
  decisionBytes,
  readBatch,
  readDecision,
  readSnapshot,
  type SnapshotRecord,
  snapshotBytes,
} from "./record.ts";
import { persist, type Turn } from "./turn.ts";

const LOG = "bft.decided";
const SPACE = "bft.snapshot";

/**
 * TERM is the term of every position. Replicas may decide the same value in different rounds, and a position is decided once: its index
 * alone tells it from all others, and what replicas make of a position must be the same at all of them.
 */
export const TERM = 0;

/** Head is the newest decision, as the next height stands on it. */
export interface Head extends Before {
  readonly index: number;
  readonly term: number;
  readonly membership: Membership;
}

/** HeldSnapshot is a snapshot with its state. */
export interface HeldSnapshot extends SnapshotRecord {
  readonly state: Uint8Array;
}

/**
 * Decisions is the log itself: what was decided, with the proofs, from the newest certified snapshot (and some heights behind it) on. A
 * snapshot takes the place of what came before it only when more than two thirds of the voters have signed the same.
 */
export class Decisions {
  head: Head;
  snapshot: HeldSnapshot | undefined;
  readonly #decided = new Map<number, Decision>();
  #floor = 1;

  constructor(stored: StoredLog, founding: Membership) {
    this.head = { index: 0, term: 0, time: 0, previous: GENESIS, membership: founding };
    const manifest = stored.get(SPACE, "manifest");
    const state = stored.get(SPACE, "state");
    const record = manifest === undefined ? undefined : readSnapshot(manifest);
    if (record !== undefined && state !== undefined) this.#at({ ...record, state });
    for (const { seq, bytes } of stored.read(LOG, 0)) {
      const decision = readDecision(bytes);
      assert(decision !== undefined, "a decision in the store cannot be read", { seq });
      if (this.#decided.size === 0) this.#floor = seq;
      this.#decided.set(seq, decision);
      if (seq > this.head.index) this.#advance(seq, decision, batchOf(decision));
    }
  }

  /** floor is the first height that can be shown; what is before it is in the snapshot only. */
  get floor(): number {
    return this.#floor;
  }

  /** at is the decision of a height, if it is kept. */
  at(height: number): Decision | undefined {
    return this.#decided.get(height);
  }

  /** valueAt is the id of the value decided at a height, if that is known. */
  valueAt(height: number): ValueId | undefined {
    return height === this.head.index ? this.head.previous : this.#decided.get(height)?.certificate.value;
  }

  /** add stores the next decision. */
  add(turn: Turn, decision: Decision, batch: Batch): Committed {
    const index = this.head.index + 1;
    persist(turn, { op: "append", log: LOG, seq: index, bytes: decisionBytes(decision) });
    this.#decided.set(index, decision);
    this.#advance(index, decision, batch);
    return committed(index, batch);
  }

  /** after lists what was decided behind the snapshot, for an application that starts. */
  after(index: number): Committed[] {
    const found: Committed[] = [];
    for (let height = index + 1; height <= this.head.index; height++) {
      const decision = this.#decided.get(height);
      assert(decision !== undefined, "a decided height is missing in the store", { height });
      found.push(committed(height, batchOf(decision)));
    }
    return found;
  }

  /** keep stores a snapshot of this replica's own state that is certified, and forgets what it stands for but for `behind` heights. */
  keep(turn: Turn, snapshot: HeldSnapshot, behind: number): void {
    this.snapshot = snapshot;
    const { manifest } = snapshot;
    persist(
      turn,
      { op: "put", space: SPACE, key: "manifest", bytes: snapshotBytes(snapshot) },
      { op: "put", space: SPACE, key: "state", bytes: snapshot.state },
    );
    const floor = Math.max(this.#floor, manifest.index + 1 - behind);
    for (; this.#floor < floor; this.#floor++) this.#decided.delete(this.#floor);
    persist(turn, { op: "trim", log: LOG, below: floor });
  }

  /** install takes the snapshot of others, which has been verified, in place of all that is here. */
  install(turn: Turn, snapshot: HeldSnapshot): void {
    this.#decided.clear();
    persist(turn, { op: "drop", log: LOG });
    this.#floor = snapshot.manifest.index + 1;
    this.keep(turn, snapshot, 0);
    this.#at(snapshot);
  }

  /** engineSnapshot is a snapshot as the application takes it. */
  engineSnapshot({ manifest, state }: HeldSnapshot): EngineSnapshot {
    const { index, term, time, membership } = manifest;
    return { index, term, time, membership, state };
  }

  #at(snapshot: HeldSnapshot): void {
    const { index, term, time, previous, membership } = snapshot.manifest;
    this.snapshot = snapshot;
    this.#floor = index + 1;
    this.head = { index, term, time, previous, membership };
  }

  #advance(index: number, { certificate }: Decision, batch: Batch): void {
    this.head = {
      index,
      term: TERM,
      time: batch.time,
      previous: certificate.value,
      membership: batch.membership ?? this.head.membership,
    };
  }
}

function batchOf({ bytes }: Decision): Batch {
  const batch = readBatch(bytes);
  assert(batch !== undefined, "a decided value is no batch");
  return batch;
}

function committed(index: number, batch: Batch): Committed {
  const { time, payloads, membership } = batch;
  return { index, term: TERM, time, payloads, ...(membership === undefined ? {} : { membership }) };
}
