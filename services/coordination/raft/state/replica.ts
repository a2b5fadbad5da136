import { assert } from "#kernel/assert.ts";
import type { Failure, Reason } from "#kernel/error.ts";
import type { Now } from "#kernel/instant.ts";
import type { Committed, EngineEffect, Membership, ReplicaId, Role } from "../../log/engine.ts";
import type { RaftOptions, RaftTuning } from "../config.ts";
import type { RaftFrame } from "../frames.ts";
import { entryBytes, type LogView } from "./log-view.ts";
import { isVoterOf, type Members } from "./members.ts";
import type { Pen } from "./pen.ts";
import type { Snapshot, SnapshotBox } from "./snapshot-box.ts";

/** Standing is what a replica is at the moment. A follower may also be a learner, or outside of the membership. */
export type Standing = "follower" | "precandidate" | "candidate" | "leader";

/** Restored is what a replica begins with. */
export interface Restored {
  readonly term: number;
  readonly vote: ReplicaId | undefined;
  readonly commit: number;
  readonly log: LogView;
  readonly members: Members;
  readonly box: SnapshotBox;
  readonly pen: Pen;
  /** The position that must be committed before what is shown is no older than what may have been shown before. */
  readonly freshFrom: number;
  /** Nothing was stored. */
  readonly empty: boolean;
}

/**
 * Replica is the state that all parts of the engine share, and what they do to it. Its rules:
 *
 * RA1 at most one vote per term, durable before the answer; stepping down in the same term never clears it (zoo 1, 2).
 * RA2 a term is durable before anything of it leaves (zoo 3).
 * RA3 the commit index never goes back, and nothing at or below it is ever cut: a leader that asks for it stops this hub (zoo 18, 28).
 * RA4 each position is given out once, in order, and before it the snapshot that it stands on (invariant 10, zoo 23).
 */
export class Replica {
  readonly options: RaftOptions;
  readonly tuning: RaftTuning;
  readonly self: ReplicaId;
  readonly log: LogView;
  readonly members: Members;
  readonly box: SnapshotBox;
  readonly pen: Pen;
  term: number;
  vote: ReplicaId | undefined;
  standing: Standing = "follower";
  leader: ReplicaId | undefined;
  commit: number;
  /** When the leader of this term was last heard, `mono`. */
  heardAt = Number.NEGATIVE_INFINITY;
  /** The leader that was heard last may answer reads without asking: nobody is voted for until `electionMs` after it was heard. */
  isLeased = true;
  /** When everything that was decided was known here, `mono`; undefined before the first time. */
  freshAt: number | undefined;
  freshFrom: number;
  clockTrusted = true;
  /** Bytes of what was committed since the snapshot. */
  sinceSnapshot = 0;
  hintDueAt = Number.POSITIVE_INFINITY;
  now: Now = { mono: Number.NEGATIVE_INFINITY, wall: 0 };
  out: EngineEffect<RaftFrame>[] = [];

  constructor(options: RaftOptions, tuning: RaftTuning, restored: Restored) {
    this.options = options;
    this.tuning = tuning;
    this.self = options.self;
    ({ term: this.term, vote: this.vote, commit: this.commit, freshFrom: this.freshFrom } = restored);
    ({ log: this.log, members: this.members, box: this.box, pen: this.pen } = restored);
    for (const entry of this.log.range(this.box.index + 1, this.commit)) this.sinceSnapshot += entryBytes(entry);
  }

  get membership(): Membership {
    return this.members.active;
  }

  /** role is the standing as others see it. */
  get role(): Role {
    if (this.standing === "leader") return "leader";
    if (this.standing !== "follower") return "candidate";
    if (isVoterOf(this.membership, this.self)) return "follower";
    return this.membership.learners.includes(this.self) ? "learner" : "outside";
  }

  /** hearsLeader tells whether a leader was heard so lately that nobody is to be elected. A leader hears itself. */
  get hearsLeader(): boolean {
    return this.standing === "leader" || this.now.mono - this.heardAt < this.tuning.electionMs;
  }

  /** enter makes this the term; a higher one than before, without a vote. */
  enter(term: number, vote: ReplicaId | undefined): void {
    assert(term > this.term, "terms never go back", { term, before: this.term });
    this.term = term;
    this.vote = vote;
    this.pen.hard({ replica: this.self, term, vote }, this.out);
  }

  /** give gives the vote of this term. */
  give(vote: ReplicaId): void {
    assert(this.vote === undefined || this.vote === vote, "a vote is given once", { vote, before: this.vote });
    if (this.vote === vote) return;
    this.vote = vote;
    this.pen.hard({ replica: this.self, term: this.term, vote }, this.out);
  }

  /** isUpToDate tells whether a log that ends there has all that may be decided here. */
  isUpToDate(lastIndex: number, lastTerm: number): boolean {
    return lastTerm > this.log.lastTerm || (lastTerm === this.log.lastTerm && lastIndex >= this.log.last);
  }

  /** append takes entries into the log, after it has cut what stands there instead, from the first of them on. */
  append(entries: readonly Committed[], commit: number): void {
    const first = entries[0];
    if (first === undefined) return;
    const cut = first.index <= this.log.last ? first.index : undefined;
    if (cut !== undefined) {
      assert(cut > this.commit, "another history than the decided one was sent: this replica stops", { cut, commit: this.commit });
      this.log.cut(cut);
      this.members.cut(cut);
      // What is cut was never decided, so that it was never shown.
      this.freshFrom = Math.min(this.freshFrom, cut - 1);
    }
    for (const entry of entries) {
      this.log.append(entry);
      if (entry.membership !== undefined) this.members.note(entry.index, entry.membership);
    }
    this.pen.entries(entries, cut, commit, this.out);
  }

  /** commitTo makes what is decided known; true if another membership is in force now. */
  commitTo(index: number): boolean {
    if (index <= this.commit) return false;
    assert(index <= this.log.last, "nothing is decided that is not here", { index, last: this.log.last });
    const from = this.commit + 1;
    this.commit = index;
    const entries = this.log.range(from, index);
    for (const entry of entries) this.sinceSnapshot += entryBytes(entry);
    this.out.push({ kind: "committed", entries });
    if (this.hintDueAt === Number.POSITIVE_INFINITY) this.hintDueAt = this.now.mono + this.tuning.hintMs;
    return this.members.commit(index);
  }

  /** snapshot keeps a snapshot of what is committed here, and forgets entries before it that are more than are kept. `held`: as `#baseFor` says. */
  snapshot(snapshot: Snapshot, held: number | undefined): void {
    const { index } = snapshot.manifest;
    const base = this.#baseFor(index, held ?? index);
    this.log.trim(base);
    this.members.trim(index);
    this.box.put(snapshot);
    this.sinceSnapshot = 0;
    for (const entry of this.log.range(index + 1, this.commit)) this.sinceSnapshot += entryBytes(entry);
    // The entry at the base stays on disk: a start reads its term there.
    this.pen.snapshot(snapshot.manifest, snapshot.parts, base, this.commit, this.out);
  }

  /** Where the log begins behind a snapshot: entries after `held` are kept for those that lack them, within bounds of their own (RX6). */
  #baseFor(index: number, held: number): number {
    const { keepEntries, keepBytes, heldBytes } = this.tuning;
    let base = Math.max(this.log.base, Math.min(index - keepEntries, held));
    let kept = 0;
    for (let at = index; at > base; at--) {
      kept += entryBytes(this.log.at(at) as Committed);
      if (kept > (at > held ? Math.max(heldBytes, keepBytes) : keepBytes)) base = at;
    }
    return base;
  }

  /** isFresh tells whether what is committed is no older than what this replica may have shown before it started. */
  get isFresh(): boolean {
    return this.commit >= this.freshFrom;
  }

  send(to: ReplicaId, frame: RaftFrame, early = false): void {
    this.out.push({ kind: "send", to, frame, early });
  }

  observe(what: string, replica?: ReplicaId, value?: number): void {
    this.out.push({
      kind: "observe",
      what,
      ...(replica === undefined ? {} : { replica }),
      ...(value === undefined ? {} : { value }),
    });
  }

  refuse(call: number, reason: Reason, message: string, facts?: Readonly<Record<string, string>>): void {
    const failure: Failure = facts === undefined ? { reason, message } : { reason, message, facts };
    this.out.push({ kind: "refused", call, failure });
  }

  /** refuseElsewhere refuses what only a leader does, and names the leader. */
  refuseElsewhere(call: number): void {
    const { leader } = this;
    if (leader === undefined || leader === this.self)
      this.refuse(call, "NO_QUORUM", "no leader is known at the moment: a majority of the voters must reach each other; try again");
    else this.refuse(call, "NOT_LEADER", `${leader} leads: ask it instead`, { leader });
  }
}
