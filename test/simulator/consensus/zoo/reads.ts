// Rows about reads, and about what is shown around the log.
import type { AppendAnswer } from "../../../../services/coordination/raft/frames.ts";
import type { Progress } from "../../../../services/coordination/raft/lead/progress.ts";
import { Replication } from "../../../../services/coordination/raft/lead/replication.ts";
import type { SnapshotSender } from "../../../../services/coordination/raft/lead/snapshot-sender.ts";
import type { Replica } from "../../../../services/coordination/raft/state/replica.ts";
import { type Mutant, momentsOf, STORMY } from "./mutant.ts";

/** Reads before it has decided anything. */
class EarlyReads extends Replication {
  constructor(r: Replica, sender: SnapshotSender) {
    super(r, sender);
    Object.defineProperty(this.reads, "isCurrent", { get: () => true });
  }
}

/** Takes any answer for one to its newest question. */
class LooseReads extends Replication {
  override onAnswer(id: string, peer: Progress, answer: AppendAnswer): void {
    super.onAnswer(id, peer, { ...answer, probe: this.reads.probe });
  }
}

/** Reads by its lease also while another is to lead. */
class LeasedReads extends Replication {
  constructor(r: Replica, sender: SnapshotSender) {
    super(r, sender);
    const add = this.reads.add.bind(this.reads);
    this.reads.add = (call) => add(call, true);
  }
}

/** READS are the rows about reads. */
export const READS: readonly Mutant[] = [
  {
    row: "7",
    what: "a new leader reads before it has decided anything in its term",
    seed: 119,
    by: "linearizable",
    faults: ["crash", "transfer", "partition", "reorder"],
    options: { leaseReads: false },
    parts: { Replication: EarlyReads },
  },
  {
    row: "8",
    what: "a late or doubled answer confirms a later read",
    seed: 46,
    by: "linearizable",
    voters: 3,
    faults: ["duplicate", "stale", "suspend"],
    options: { leaseReads: false, network: STORMY, thinkMs: 8, troubleMs: 400, chaosMs: 10_000 },
    parts: { Replication: LooseReads },
  },
  {
    row: "9a",
    what: "reads by a lease go on during a transfer",
    seed: 151,
    by: "linearizable",
    voters: 3,
    faults: ["transfer", "pause"],
    options: { leaseReads: true, operatorMs: 250, thinkMs: 8, troubleMs: 4_000, chaosMs: 10_000, moments: momentsOf({ handover: 0.8 }) },
    parts: { Replication: LeasedReads },
  },
  {
    row: "9b",
    what: "reads by a lease go on after the clock stood still",
    seed: 3,
    by: "linearizable",
    faults: ["suspend"],
    options: { leaseReads: true },
    around: { trustsClocks: true },
  },
  {
    row: "23",
    what: "a replica shows what it has after a restart before it has heard of the others",
    seed: 1,
    by: "monotonic",
    faults: ["crash", "power"],
    options: { durableApp: false },
    around: { host: { showsAnyAge: true } },
  },
  {
    row: "24",
    what: "the applied position is stored before the state",
    seed: 1,
    by: "state",
    faults: ["crash", "power"],
    options: { durableApp: true },
    around: { host: { splitsState: true } },
  },
  {
    row: "29",
    what: "an executor takes what carries an old fence",
    seed: 1,
    by: "fence",
    around: { ignoresFences: true },
  },
];
