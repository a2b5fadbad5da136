import { assert } from "#kernel/assert.ts";
import type { Now } from "#kernel/instant.ts";
import type { EngineEffect, EngineInput, LogEngine, LogStatus, ReplicaId, Role, StoredLog } from "../log/engine.ts";
import { RAFT_TUNING, type RaftOptions, tuningProblem } from "./config.ts";
import { describeReplica } from "./describe.ts";
import { takeAppend } from "./follow/append.ts";
import { Election } from "./follow/election.ts";
import { SnapshotReceiver } from "./follow/snapshot-receiver.ts";
import { FRAME_LIMITS, frameProblem, isReplicaId, type RaftFrame } from "./frames.ts";
import { Change } from "./lead/change.ts";
import { Leadership } from "./lead/leadership.ts";
import { Reads } from "./lead/reads.ts";
import { Replication } from "./lead/replication.ts";
import { SnapshotSender } from "./lead/snapshot-sender.ts";
import { Transfer } from "./lead/transfer.ts";
import { Replica } from "./state/replica.ts";
import { restore } from "./state/restore.ts";
import { cutState, engineSnapshot } from "./state/snapshot-box.ts";

type Frame<T extends RaftFrame["type"]> = Extract<RaftFrame, { readonly type: T }>;

/** RaftParts are the parts of which an engine is made; those that ship by default. */
export interface RaftParts {
  readonly Replica: typeof Replica;
  readonly Election: typeof Election;
  readonly Replication: typeof Replication;
  readonly Reads: typeof Reads;
  readonly Change: typeof Change;
  readonly Leadership: typeof Leadership;
  readonly Transfer: typeof Transfer;
  readonly SnapshotSender: typeof SnapshotSender;
  readonly SnapshotReceiver: typeof SnapshotReceiver;
  readonly restore: typeof restore;
  readonly takeAppend: typeof takeAppend;
}

/** RAFT_PARTS are the parts that ship. */
export const RAFT_PARTS: RaftParts = {
  Replica,
  Election,
  Replication,
  Reads,
  Change,
  Leadership,
  Transfer,
  SnapshotSender,
  SnapshotReceiver,
  restore,
  takeAppend,
};

/**
 * RaftEngine is a LogEngine by Raft (Ongaro 2014), for hubs that may fail and do not lie. Its rules stand with its parts: RA replica.ts, RL
 * election.ts, RX replication.ts, RQ reads.ts, RG members.ts, RD change.ts, RW transfer.ts, RY snapshot-receiver.ts, RS restore.ts.
 * README.md says why the membership in force at commit is safe.
 *
 * What does not come from a replica, is of another term, or cannot be is dropped and counted (`observe`); nothing in a frame stops a
 * replica, but a leader whose history contradicts what is decided here (RA3).
 */
export class RaftEngine implements LogEngine<RaftFrame> {
  readonly #r: Replica;
  readonly #parts: RaftParts;
  readonly #election: Election;
  readonly #transfer: Transfer;
  readonly #receiver: SnapshotReceiver;
  readonly #sender: SnapshotSender;
  #leadership: Leadership | undefined;
  #began: "empty" | "stored" | "begun";
  #capturing = false;
  /** The position of the newest state that the application gave, also of one that could not be used. */
  #capturedAt = 0;
  /** The instant at which it asked to be called, `mono`; undefined once it was. */
  #due: number | undefined;
  #told: { readonly role: Role; readonly term: number; readonly leader: ReplicaId | undefined };

  constructor(options: RaftOptions, stored: StoredLog, parts: RaftParts = RAFT_PARTS) {
    assert(isReplicaId(options.self), "a replica is named <hub id>/<incarnation>", { self: options.self });
    const tuning = { ...RAFT_TUNING, ...options.tuning };
    const problem = tuningProblem(tuning);
    assert(problem === undefined, `the log cannot be kept with these settings: ${problem}`);
    const restored = parts.restore(options, stored);
    this.#parts = parts;
    this.#r = new parts.Replica(options, tuning, restored);
    this.#election = new parts.Election(this.#r, {
      won: () => this.#won(),
      follow: (term, leader) => this.#follow(term, leader),
    });
    this.#transfer = new parts.Transfer(this.#r);
    this.#receiver = new parts.SnapshotReceiver(this.#r, restored.incoming);
    this.#sender = new parts.SnapshotSender(this.#r);
    this.#began = restored.empty ? "empty" : "stored";
    this.#told = { role: this.#r.role, term: this.#r.term, leader: undefined };
  }

  step(now: Now, input: EngineInput<RaftFrame>, out: EngineEffect<RaftFrame>[]): void {
    this.#enter(now, out);
    this.#take(input);
    this.#settle();
  }

  tick(now: Now, out: EngineEffect<RaftFrame>[]): void {
    this.#enter(now, out);
    const r = this.#r;
    if (this.#leadership?.tick() === true) this.#follow(r.term, undefined);
    if (now.mono >= this.#election.dueAt) this.#election.timeout();
    if (now.mono >= r.hintDueAt) {
      r.pen.hint(r.commit, out);
      r.hintDueAt = Number.POSITIVE_INFINITY;
    }
    this.#settle();
  }

  deadline(): number | undefined {
    if (this.#began !== "begun") return 0;
    const led = this.#leadership?.deadline ?? Number.POSITIVE_INFINITY;
    const due = Math.min(this.#election.dueAt, this.#r.hintDueAt, this.#transfer.dueAt, led);
    this.#due = Math.max(due, this.#r.now.mono);
    return due;
  }

  status(now: Now): LogStatus {
    const r = this.#r;
    const { role, term, leader, commit: committed, membership } = r;
    const heard = leader !== undefined && now.mono - r.heardAt < r.tuning.electionMs;
    const quorum = this.#leadership === undefined ? heard : now.mono < this.#leadership.replication.quorumUntil;
    return { role, term, leader, committed, last: r.log.last, membership, ageMs: this.#age(now), quorum };
  }

  time(now: Now): number {
    return this.#leadership?.replication.time(now) ?? Math.max(this.#r.log.lastTime, Math.floor(now.wall));
  }

  describe(): string {
    return describeReplica(this.#r, this.#leadership?.replication, this.#transfer.to, this.#receiver.progress);
  }

  #age(now: Now): number | undefined {
    const r = this.#r;
    if (!r.isFresh) return undefined;
    const knownAt = this.#leadership?.replication.isCurrentSince ?? r.freshAt;
    return knownAt === undefined ? undefined : Math.max(0, now.mono - Math.min(now.mono, knownAt));
  }

  #enter(now: Now, out: EngineEffect<RaftFrame>[]): void {
    const r = this.#r;
    [r.now, r.out] = [now, out];
    if (this.#began === "begun") return this.#woke(now);
    // Nobody is voted for by a replica that may just have heard a leader, in the process before this one (RL2).
    r.heardAt = now.mono;
    this.#election.rearm();
    const { snapshot } = r.box;
    if (this.#began === "empty") {
      r.pen.first({ replica: r.self, term: r.term, vote: r.vote }, snapshot?.manifest, out);
    } else {
      if (snapshot !== undefined && snapshot.manifest.index > 0) out.push({ kind: "install", snapshot: engineSnapshot(snapshot) });
      if (r.commit > r.box.index) out.push({ kind: "committed", entries: r.log.range(r.box.index + 1, r.commit) });
    }
    this.#began = "begun";
  }

  /** woke looks how late this call is. */
  #woke({ mono }: Now): void {
    const late = mono - (this.#due ?? mono);
    this.#due = undefined;
    if (late <= this.#r.tuning.jitterMs) return;
    this.#r.observe("own_delay", undefined, Math.round(late));
    if (this.#leadership === undefined) this.#election.woke(late);
    else this.#leadership.woke(late);
  }

  #take(input: EngineInput<RaftFrame>): void {
    const r = this.#r;
    const leadership = this.#leadership;
    switch (input.kind) {
      case "propose":
        return leadership === undefined ? r.refuseElsewhere(input.call) : leadership.propose(input.call, input.payload);
      case "read":
        return leadership === undefined ? r.refuseElsewhere(input.call) : leadership.read(input.call);
      case "reconfigure":
        return leadership === undefined ? r.refuseElsewhere(input.call) : leadership.reconfigure(input);
      case "transfer":
        return leadership === undefined ? r.refuseElsewhere(input.call) : leadership.transfer(input.call, input.to);
      case "frame":
        return this.#frame(input.from, input.frame);
      case "stored":
        return leadership?.stored(input.mark.term, input.mark.index);
      case "reachable":
        if (leadership !== undefined) return leadership.replication.reachable(input.replica, input.up);
        return input.up || input.replica !== r.leader ? undefined : this.#election.hurry();
      case "captured":
        return this.#captured(input.index, input.state);
      case "clock":
        r.clockTrusted = input.trusted;
    }
  }

  /** settle does what follows from any step. */
  #settle(): void {
    const r = this.#r;
    if (this.#leadership?.isOver === true) {
      this.#leadership.giveWay();
      this.#follow(r.term, undefined);
    }
    this.#transfer.settle();
    const { tuning, box, commit } = r;
    const behind = commit - Math.max(box.index, this.#capturedAt);
    // Who joined gets the log from its start, without the membership that founded it: until a change tells it, it has no snapshot to give.
    const isTold = r.membership.voters.length > 0;
    if (isTold && !this.#capturing && (behind >= tuning.snapshotEntries || r.sinceSnapshot >= tuning.snapshotBytes)) {
      this.#capturing = true;
      r.out.push({ kind: "capture" });
    }
    const { role, term, leader } = r;
    if (role === this.#told.role && term === this.#told.term && leader === this.#told.leader) return;
    this.#told = { role, term, leader };
    r.out.push({ kind: "role", role, term, leader });
  }

  #frame(from: ReplicaId, frame: RaftFrame): void {
    const r = this.#r;
    if (!isReplicaId(from) || from === r.self) return r.observe("frame_refused");
    if (frameProblem(frame) !== undefined) return r.observe("frame_refused", from);
    if (frame.term > r.term + FRAME_LIMITS.termJump) return r.observe("term_refused", from, frame.term);
    if (r.members.isReplaced(from)) return r.observe("frame_of_replaced", from);
    switch (frame.type) {
      case "vote_request":
        return this.#election.onRequest(from, frame);
      case "append":
      case "snapshot_offer":
      case "snapshot_part":
        return this.#leaderFrame(from, frame);
      case "transfer_now":
        return this.#takeOver(from, frame.term);
      default:
        return this.#answer(from, frame);
    }
  }

  #leaderFrame(from: ReplicaId, frame: Frame<"append" | "snapshot_offer" | "snapshot_part">): void {
    const r = this.#r;
    if (frame.term < r.term) {
      // A leader whose term is over learns of it, also one that is cut off from those that elected another.
      const { term } = r;
      r.observe("frame_of_old_term", from);
      return r.send(from, { type: "append_answer", term, ok: false, index: 0, hintIndex: 0, hintTerm: 0, probe: 0 });
    }
    if (frame.term === r.term && (r.standing === "leader" || (r.leader !== undefined && r.leader !== from)))
      return r.observe("second_leader", from);
    if (frame.term > r.term || r.standing !== "follower" || r.leader === undefined) this.#follow(frame.term, from);
    r.heardAt = r.now.mono;
    this.#election.rearm();
    if (frame.type === "append") this.#parts.takeAppend(r, from, frame);
    else if (frame.type === "snapshot_offer") this.#receiver.onOffer(from, frame);
    else this.#receiver.onPart(from, frame);
  }

  #answer(from: ReplicaId, frame: Frame<"vote_answer" | "append_answer" | "snapshot_answer">): void {
    const r = this.#r;
    if (!r.members.knows(from)) return r.observe("answer_of_stranger", from);
    if (frame.type === "vote_answer") this.#election.learn(frame);
    const isPromise = frame.type === "vote_answer" && frame.pre && frame.granted;
    if (frame.term > r.term && !isPromise) return this.#follow(frame.term, undefined);
    if (frame.type === "vote_answer") return this.#election.onAnswer(from, frame);
    if (frame.term < r.term || this.#leadership === undefined) return r.observe("answer_late", from);
    if (frame.type === "append_answer") this.#leadership.onAppendAnswer(from, frame);
    else this.#leadership.onSnapshotAnswer(from, frame);
  }

  #takeOver(from: ReplicaId, term: number): void {
    const r = this.#r;
    if (term !== r.term || from !== r.leader || r.standing !== "follower") return r.observe("transfer_late", from);
    this.#election.takeOver();
  }

  #won(): void {
    const r = this.#r;
    r.standing = "leader";
    r.leader = r.self;
    this.#election.rest();
    const { Change, Leadership, Reads, Replication } = this.#parts;
    const replication = new Replication(r, this.#sender, Reads);
    this.#leadership = new Leadership(r, this.#transfer, this.#sender, replication, new Change(r, replication));
    this.#leadership.begin();
  }

  #follow(term: number, leader: ReplicaId | undefined): void {
    const r = this.#r;
    const led = this.#leadership;
    this.#leadership = undefined;
    if (term > r.term) r.enter(term, undefined);
    r.standing = "follower";
    r.leader = leader;
    if (led !== undefined) {
      r.freshAt = Math.max(r.freshAt ?? 0, led.replication.isCurrentSince ?? 0);
      this.#election.rearm();
      led.end();
    }
  }

  #captured(index: number, state: Uint8Array): void {
    const r = this.#r;
    if (!this.#capturing) return r.observe("capture_refused");
    this.#capturing = false;
    r.sinceSnapshot = 0;
    this.#capturedAt = r.commit;
    const [term, time] = [r.log.termAt(index), r.log.timeAt(index)];
    if (index <= r.box.index || index > r.commit || term === undefined || time === undefined) return r.observe("capture_refused");
    const membership = r.members.at(index);
    if (membership.voters.length === 0) return r.observe("capture_refused");
    const { stateBytes, partBytes } = r.tuning;
    if (state.length > Math.min(stateBytes, FRAME_LIMITS.parts * partBytes)) return r.observe("capture_too_long", undefined, state.length);
    r.snapshot(cutState({ index, term, time, membership }, state, partBytes, r.options.crypto), this.#leadership?.replication.held());
  }
}
