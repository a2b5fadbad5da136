// Rows about the log, what is durable of it, and what counts.
import { takeAppend } from "../../../../services/coordination/raft/follow/append.ts";
import type { Append, AppendAnswer } from "../../../../services/coordination/raft/frames.ts";
import type { Progress } from "../../../../services/coordination/raft/lead/progress.ts";
import { Replication } from "../../../../services/coordination/raft/lead/replication.ts";
import type { SnapshotSender } from "../../../../services/coordination/raft/lead/snapshot-sender.ts";
import type { Replica } from "../../../../services/coordination/raft/state/replica.ts";
import { type Mutant, momentsOf, STORMY } from "./mutant.ts";

/** A replication that knows its replica. */
class OpenReplication extends Replication {
  protected readonly mine: Replica;

  constructor(r: Replica, sender: SnapshotSender) {
    super(r, sender);
    this.mine = r;
  }
}

/** Takes any mark for one of its own term. */
class TermlessReplication extends OpenReplication {
  override stored(_term: number, index: number): boolean {
    return super.stored(this.mine.term, Math.min(index, this.mine.log.last));
  }
}

/** Counts one more than there are. */
class CarelessReplication extends OpenReplication {
  override advance(): boolean {
    const peer = this.peers.values().next().value;
    if (peer === undefined) return super.advance();
    const { match } = peer;
    peer.match = this.mine.log.last;
    const more = super.advance();
    peer.match = Math.max(match, Math.min(peer.match, match));
    return more;
  }
}

/** Asks once where a log ends, and waits for the answer. */
class PatientReplication extends OpenReplication {
  readonly #asked = new Map<string, number>();

  override fill(id: string, peer: Progress): void {
    if (peer.state === "probe" && this.#asked.get(id) === peer.next) return;
    if (peer.state === "probe") this.#asked.set(id, peer.next);
    super.fill(id, peer);
  }
}

/** Deletes what stands behind the entry before an append, whether or not it contradicts. */
function takeAppendCutting(r: Replica, from: string, frame: Append): void {
  const cut = Math.max(frame.prevIndex, r.commit, r.log.base) + 1;
  if (r.log.termAt(frame.prevIndex) === frame.prevTerm && cut <= r.log.last) {
    r.log.cut(cut);
    r.members.cut(cut);
    r.pen.entries([], cut, r.commit, r.out);
  }
  takeAppend(r, from, frame);
}

/** Wrong answers of old terms count as those of this one. */
function inTerm(frame: AppendAnswer, term: number): AppendAnswer {
  return frame.ok && frame.term < term ? { ...frame, term, probe: 0 } : frame;
}

/** LOGS are the rows about the log. */
export const LOGS: readonly Mutant[] = [
  {
    row: "4",
    what: "a mark of an older term counts for entries that took the place of those it was for",
    seed: 14,
    by: "durability",
    voters: 3,
    faults: ["late", "stall", "partition", "crash"],
    options: {
      disk: { minMs: 10, jitterMs: 150, stallChance: 0, stallMs: 0 },
      spares: 0,
      late: 0.8,
      lateMs: 4_000,
      clients: 12,
      thinkMs: 8,
      troubleMs: 350,
      cutMs: 300,
      chaosMs: 10_000,
      moments: momentsOf({ lead: 0.4 }),
    },
    tuning: { electionMs: 150, heartbeatMs: 30, windowMessages: 8, appendEntries: 512 },
    parts: { Replication: TermlessReplication },
  },
  {
    row: "5",
    what: "what is acknowledged is not synced, and the power fails",
    seed: 1,
    by: "durability",
    around: { disk: { lazySyncMs: 200 } },
  },
  {
    row: "6",
    what: "a sync that failed is tried again, and believed",
    seed: 1,
    by: "crash",
    says: "position is taken",
    faults: ["sync", "crash"],
    around: { trustsDisk: true },
  },
  {
    row: "6b",
    what: "while the disk is full, what speaks of writes that wait is said again, and leaves",
    seed: 1,
    by: "durability",
    faults: ["full", "crash", "partition"],
    around: { overtakes: () => true },
  },
  {
    row: "16",
    what: "acknowledgements of an older term count",
    seed: 4,
    by: "durability",
    voters: 5,
    faults: ["stale", "partition", "crash"],
    options: {
      network: { ...STORMY, staleMs: 3_000 },
      disk: { minMs: 10, jitterMs: 80, stallChance: 0, stallMs: 0 },
      spares: 0,
      clients: 12,
      thinkMs: 8,
      troubleMs: 350,
      cutMs: 300,
      chaosMs: 10_000,
      moments: momentsOf({ lead: 0.4 }),
    },
    tuning: { electionMs: 150, heartbeatMs: 30, windowMessages: 8, appendEntries: 512 },
    favoursFirst: true,
    bend: () => ({
      input: (input, engine) =>
        input.kind === "frame" && input.frame.type === "append_answer"
          ? [{ ...input, frame: inTerm(input.frame, engine.status({ mono: 0, wall: 0 }).term) }]
          : [input],
    }),
  },
  {
    row: "17",
    what: "a quorum is one less than a majority",
    seed: 1,
    by: "durability",
    parts: { Replication: CarelessReplication },
  },
  {
    row: "18",
    what: "entries behind the one before a late append are deleted without a conflict",
    seed: 1,
    by: "durability",
    faults: ["reorder", "duplicate", "stale", "partition", "crash"],
    parts: { takeAppend: takeAppendCutting },
  },
  {
    row: "22",
    what: "a lost probe is waited for",
    seed: 6,
    by: "liveness",
    faults: ["loss", "partition"],
    parts: { Replication: PatientReplication },
  },
  {
    row: "26",
    what: "an entry that cannot be read is left out of an append",
    seed: 1,
    by: "log matching",
    bend: () => ({
      output: (effects) =>
        effects.map((effect) => {
          if (effect.kind !== "send" || effect.frame.type !== "append" || effect.frame.entries.length < 2) return effect;
          const entries = effect.frame.entries.slice(1).map((entry) => ({ ...entry, index: entry.index - 1 }));
          return { ...effect, frame: { ...effect.frame, entries } };
        }),
    }),
  },
];
