// Rows about members, snapshots and replica ids.
import type { Membership } from "../../../../services/coordination/log/engine.ts";
import { SnapshotReceiver } from "../../../../services/coordination/raft/follow/snapshot-receiver.ts";
import type { SnapshotOffer, SnapshotPart } from "../../../../services/coordination/raft/frames.ts";
import { Leadership } from "../../../../services/coordination/raft/lead/leadership.ts";
import { Replication } from "../../../../services/coordination/raft/lead/replication.ts";
import type { SnapshotSender } from "../../../../services/coordination/raft/lead/snapshot-sender.ts";
import { Members, NOBODY } from "../../../../services/coordination/raft/state/members.ts";
import type { Replica } from "../../../../services/coordination/raft/state/replica.ts";
import { restore } from "../../../../services/coordination/raft/state/restore.ts";
import { type Mutant, STORMY } from "./mutant.ts";

type Restore = typeof restore;

/** Begins a change while another is under way. */
class OverlappingLeadership extends Leadership {
  constructor(...args: ConstructorParameters<typeof Leadership>) {
    super(...args);
    Object.defineProperty(this.change, "isUnderWay", { get: () => false });
  }
}

/** Begins a change before it has decided anything in its term. */
class EagerLeadership extends Leadership {
  constructor(...args: ConstructorParameters<typeof Leadership>) {
    super(...args);
    const { reads } = this.replication;
    const begin = this.change.begin.bind(this.change);
    this.change.begin = (...asked) => {
      Object.defineProperty(reads, "isCurrent", { get: () => true, configurable: true });
      begin(...asked);
      Reflect.deleteProperty(reads, "isCurrent");
    };
  }
}

/** Forgets the memberships of its log. */
const restoreForgetting: Restore = (options, stored) => {
  const restored = restore(options, stored);
  const { index, membership } = restored.box.snapshot?.manifest ?? { index: 0, membership: NOBODY };
  const members = new Members({ index, membership });
  members.commit(restored.commit);
  return { ...restored, members };
};

/** Keeps the memberships of entries that were cut. */
const restoreKeeping: Restore = (options, stored) => {
  const restored = restore(options, stored);
  const { members } = restored;
  members.cut = () => undefined;
  return restored;
};

/** Puts the first membership into every snapshot. */
const restoreStale: Restore = (options, stored) => {
  const restored = restore(options, stored);
  let first: Membership | undefined = options.bootstrap;
  restored.members.at = () => (first ??= restored.members.active);
  return restored;
};

/** Decides with the new voters alone while a change is under way. */
const restoreSingle: Restore = (options, stored) => {
  const restored = restore(options, stored);
  const { members } = restored;
  const active = Object.getOwnPropertyDescriptor(Members.prototype, "active")?.get;
  Object.defineProperty(members, "active", { get: () => ({ ...(active?.call(members) as Membership), outgoing: [] }) });
  return restored;
};

/** Never offers a snapshot. */
class MiserlyReplication extends Replication {
  constructor(r: Replica, sender: SnapshotSender) {
    sender.begin = (_id, peer) => peer.become("snapshot");
    super(r, sender);
  }
}

/** Puts any snapshot in place, also one that is older than what is decided. */
class GullibleReceiver extends SnapshotReceiver {
  readonly #mine: Replica;

  constructor(...args: ConstructorParameters<typeof SnapshotReceiver>) {
    super(...args);
    this.#mine = args[0];
  }

  override onOffer(from: string, frame: SnapshotOffer): void {
    this.#blind(() => super.onOffer(from, frame));
  }

  override onPart(from: string, frame: SnapshotPart): void {
    this.#blind(() => super.onPart(from, frame));
  }

  #blind(take: () => void): void {
    const r = this.#mine;
    const { commit } = r;
    r.commit = 0;
    r.log.termAt = () => undefined;
    take();
    Reflect.deleteProperty(r.log, "termAt");
    if (r.commit === 0) r.commit = commit;
  }
}

/** MEMBERS are the rows about members, snapshots and replica ids. */
export const MEMBERS: readonly Mutant[] = [
  {
    row: "13a",
    what: "a change begins while another is under way",
    seed: 2,
    by: "membership",
    faults: ["members", "reorder", "pause"],
    parts: { Leadership: OverlappingLeadership },
  },
  {
    row: "13b",
    what: "a new leader changes the members before it has decided anything in its term",
    seed: 3,
    by: "membership",
    faults: ["members", "crash", "reorder", "transfer"],
    parts: { Leadership: EagerLeadership },
  },
  {
    row: "14a",
    what: "the members are forgotten by a restart",
    seed: 1,
    by: "durability",
    faults: ["members", "crash"],
    parts: { restore: restoreForgetting },
  },
  {
    row: "14b",
    what: "a membership stays although its entry was cut",
    seed: 79,
    by: "membership",
    faults: ["members", "partition", "oneway", "pause"],
    parts: { restore: restoreKeeping },
  },
  {
    row: "15",
    what: "a snapshot carries an old membership",
    seed: 2,
    by: "durability",
    faults: ["members", "partition", "pause", "crash"],
    options: { snapshotEvery: 12 },
    parts: { restore: restoreStale },
  },
  {
    row: "17b",
    what: "a joint membership is decided by one of its halves",
    seed: 1,
    by: "liveness",
    faults: ["members", "partition", "pause"],
    parts: { restore: restoreSingle },
  },
  {
    row: "21",
    what: "who lacks entries that are gone is not offered a snapshot",
    seed: 1,
    by: "liveness",
    faults: ["crash", "partition", "pause"],
    options: { snapshotEvery: 12 },
    parts: { Replication: MiserlyReplication },
  },
  {
    row: "27a",
    what: "a replica that lost its disk keeps its id",
    seed: 1,
    by: "hard state",
    faults: ["wipe", "partition", "crash"],
    around: { keepsIncarnation: true },
  },
  {
    row: "27b",
    what: "a replica that was restored from a backup keeps its id",
    seed: 1,
    by: "term",
    faults: ["restore", "partition", "crash"],
    around: { keepsIncarnation: true },
  },
  {
    row: "28",
    what: "an old snapshot replaces what is decided",
    seed: 6,
    by: "commit",
    faults: ["stale", "duplicate", "partition", "pause", "crash"],
    options: { snapshotEvery: 12, network: STORMY, thinkMs: 8 },
    tuning: { partBytes: 64_000, keepEntries: 2 },
    parts: { SnapshotReceiver: GullibleReceiver },
  },
];
