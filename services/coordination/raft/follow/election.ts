import type { ReplicaId } from "../../log/engine.ts";
import type { VoteAnswer, VoteRequest } from "../frames.ts";
import { everyoneIn, isVoterOf } from "../state/members.ts";
import { isQuorum } from "../state/quorum.ts";
import type { Replica } from "../state/replica.ts";
import { Spare } from "../state/spare.ts";

/** Part of `electionMs` that is between the turns of two voters when the session with their leader went down. */
const TURN = 1 / 6;

/** ElectionOutcome is what a candidacy leads to; the engine does it. */
export interface ElectionOutcome {
  /** This replica leads the term. */
  won(): void;
  /** This replica follows in `term`, which may be higher than before. */
  follow(term: number, leader: ReplicaId | undefined): void;
}

/**
 * Election asks for votes, and gives them.
 *
 * RL1 nobody is a candidate before a quorum has said that it would vote for it (PreVote); asking so changes nothing at anyone: no term,
 *    no vote, no contact (invariant 2).
 * RL2 who hears a leader, or began less than `electionMs` ago, votes for nobody and enters no higher term, unless the leader itself asks for
 *    votes again or gives way (CheckQuorum's other half; zoo 11, 12).
 * RL3 who is asked votes by its log and its vote alone, also as a learner and for a candidate that it does not know: it may be a voter in
 *    a membership that it has not seen. Answers count from voters of the membership in force only.
 * RL4 only a voter is a candidate; all that it knows to be decided is in force by then (RG1).
 * RL5 a refusal names the term of who refuses, so that a longer log of a lower term gets into it and wins (zoo 10).
 * RL6 an answer names a position that is decided: a change of the membership that only those know who left by it, and who campaign no more,
 *    comes to be known by those who stay, and ask them.
 * RL7 a session with the leader that went down, as when its process ends, shortens the wait; a hint that is wrong leads to nothing, as a quorum
 *    that hears the leader does not answer (RL1, RL2). With a leader that reads by a lease nobody hurries.
 * RL8 the time in which this replica did not run is no silence of the leader, neither for its own candidacy nor when others ask it for votes
 *    (RP1 to RP3). A leader whose session went down is not spared: that was read, not missed.
 */
export class Election {
  readonly #r: Replica;
  readonly #outcome: ElectionOutcome;
  /** Answers to the candidacy under way. */
  readonly #granted = new Set<ReplicaId>();
  readonly #refused = new Set<ReplicaId>();
  readonly #spare = new Spare();
  dueAt = Number.POSITIVE_INFINITY;

  constructor(r: Replica, outcome: ElectionOutcome) {
    this.#r = r;
    this.#outcome = outcome;
  }

  /** rearm begins to wait for a leader anew. */
  rearm(): void {
    const { electionMs, reluctanceMs } = this.#r.tuning;
    const { prng } = this.#r.options;
    this.#spare.anew();
    this.dueAt = this.#r.now.mono + electionMs + reluctanceMs + Math.floor(prng.unit() * electionMs);
  }

  /** rest ends the waiting: a leader waits for nobody. */
  rest(): void {
    this.dueAt = Number.POSITIVE_INFINITY;
  }

  /**
   * hurry takes a hint that the leader is gone: it is not heard from here on, so that others are voted for, and waited for only a little.
   * Voters take turns, with some chance in it, so that two do not take the votes of one term from each other (RL7).
   */
  hurry(): void {
    const r = this.#r;
    if (r.isLeased) return;
    const { reluctanceMs } = r.tuning;
    const turn = r.membership.voters.filter((id) => id !== r.leader).indexOf(r.self);
    r.heardAt = Number.NEGATIVE_INFINITY;
    if (turn >= 0) this.dueAt = Math.min(this.dueAt, r.now.mono + reluctanceMs + this.#turns(turn));
  }

  /** woke takes that this replica was called so much later than it asked for, ms (RL8). */
  woke(lateMs: number): void {
    const r = this.#r;
    if (this.dueAt === Number.POSITIVE_INFINITY || r.heardAt === Number.NEGATIVE_INFINITY) return;
    const { electionMs, heartbeatMs } = r.tuning;
    this.dueAt = this.#spare.until(this.dueAt, r.now.mono, lateMs, heartbeatMs, electionMs);
    r.heardAt = Math.min(r.now.mono, r.heardAt + lateMs);
  }

  /** turns is the time of so many turns, and up to half of one more. */
  #turns(count: number): number {
    const { tuning, options } = this.#r;
    return Math.floor((count + options.prng.unit() / 2) * tuning.electionMs * TURN);
  }

  /** timeout begins a candidacy, if this replica may. */
  timeout(): void {
    const r = this.#r;
    this.rearm();
    // Who else lost the leader may have learned of it only now, and who has more asks in its own turn: it is soon asked again.
    if (r.heardAt === Number.NEGATIVE_INFINITY) this.dueAt = r.now.mono + this.#turns(2);
    if (!isVoterOf(r.membership, r.self)) {
      r.leader = undefined;
      return;
    }
    if (r.leader !== undefined) r.observe("leader_lost", r.leader);
    this.#ask(true, false);
  }

  /** takeOver begins a candidacy at once, because the leader gives way. */
  takeOver(): void {
    this.rearm();
    if (isVoterOf(this.#r.membership, this.#r.self)) this.#ask(false, true);
  }

  onRequest(from: ReplicaId, frame: VoteRequest): void {
    const r = this.#r;
    if (r.hearsLeader && !frame.transfer && from !== r.leader) return r.observe("vote_leased", from);
    if (frame.pre) return this.#onPreRequest(from, frame);
    if (frame.term > r.term) this.#outcome.follow(frame.term, undefined);
    const free = r.vote === undefined && r.leader === undefined;
    const granted = frame.term === r.term && (r.vote === from || free) && r.isUpToDate(frame.lastIndex, frame.lastTerm);
    if (granted) {
      r.give(from);
      this.rearm();
    }
    this.#reply(from, frame, r.term, granted);
  }

  #onPreRequest(from: ReplicaId, frame: VoteRequest): void {
    const r = this.#r;
    const granted = frame.term > r.term && r.isUpToDate(frame.lastIndex, frame.lastTerm);
    this.#reply(from, frame, granted ? frame.term : r.term, granted);
  }

  #reply(to: ReplicaId, { pre, lastIndex, lastTerm }: VoteRequest, term: number, granted: boolean): void {
    const { log, commit } = this.#r;
    const both = log.mayAgree(Math.min(commit, lastIndex), lastTerm);
    this.#r.send(to, { type: "vote_answer", term, pre, granted, commitIndex: both.index, commitTerm: both.term });
  }

  /** learn takes what an answer says to be decided (RL6). */
  learn({ commitIndex, commitTerm }: VoteAnswer): void {
    const r = this.#r;
    if (r.standing !== "leader" && r.log.termAt(commitIndex) === commitTerm) r.commitTo(commitIndex);
  }

  /** onAnswer counts an answer; one to another question than the one that is open is nothing. */
  onAnswer(from: ReplicaId, frame: VoteAnswer): void {
    const r = this.#r;
    const open = frame.pre ? r.standing === "precandidate" : r.standing === "candidate";
    const asked = frame.granted && frame.pre ? r.term + 1 : r.term;
    if (!open || frame.term !== asked || !isVoterOf(r.membership, from)) return r.observe("vote_answer_late", from);
    (frame.granted ? this.#granted : this.#refused).add(from);
    this.#count(frame.pre);
  }

  #ask(pre: boolean, transfer: boolean): void {
    const r = this.#r;
    this.#granted.clear();
    this.#refused.clear();
    this.#granted.add(r.self);
    r.leader = undefined;
    r.standing = pre ? "precandidate" : "candidate";
    if (!pre) r.enter(r.term + 1, r.self);
    const term = pre ? r.term + 1 : r.term;
    const { last: lastIndex, lastTerm } = r.log;
    for (const to of everyoneIn(r.membership))
      if (to !== r.self && isVoterOf(r.membership, to)) r.send(to, { type: "vote_request", term, pre, lastIndex, lastTerm, transfer });
    r.observe(pre ? "prevote" : "campaign", undefined, term);
    this.#count(pre);
  }

  #count(pre: boolean): void {
    const r = this.#r;
    if (isQuorum(r.membership, (replica) => this.#granted.has(replica))) {
      if (pre) {
        this.rearm();
        this.#ask(false, false);
      } else this.#outcome.won();
      return;
    }
    if (!isQuorum(r.membership, (replica) => !this.#refused.has(replica))) this.#outcome.follow(r.term, undefined);
  }
}
