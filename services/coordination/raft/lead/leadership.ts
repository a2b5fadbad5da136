import type { EngineInput, ReplicaId } from "../../log/engine.ts";
import type { AppendAnswer, RaftFrame, SnapshotAnswer } from "../frames.ts";
import { isVoterOf } from "../state/members.ts";
import type { Replica } from "../state/replica.ts";
import { Spare } from "../state/spare.ts";
import type { Change } from "./change.ts";
import type { Replication } from "./replication.ts";
import type { SnapshotSender } from "./snapshot-sender.ts";
import type { Transfer } from "./transfer.ts";

/**
 * Leadership is one term of a leader.
 *
 * Besides what its parts promise (RQ1, RX1, RD1, RW1), it steps down when no quorum was heard
 * for `electionMs` (CheckQuorum), in which the time does not count that it did not run itself (RP1 to RP3; leases and what it says of its
 * quorum go by the clock alone), and when a membership without it is decided (zoo 20).
 */
export class Leadership {
  readonly #r: Replica;
  readonly #transfer: Transfer;
  readonly #sender: SnapshotSender;
  readonly replication: Replication;
  readonly change: Change;
  #beatDueAt = 0;
  readonly #spare = new Spare();
  /** Until when this replica leads without a quorum because it did not run, `mono`, and the silence for which that is. */
  #sparedUntil = Number.NEGATIVE_INFINITY;
  #sparedFor = Number.NEGATIVE_INFINITY;

  constructor(r: Replica, transfer: Transfer, sender: SnapshotSender, replication: Replication, change: Change) {
    this.#r = r;
    this.#transfer = transfer;
    this.#sender = sender;
    this.replication = replication;
    this.change = change;
  }

  get deadline(): number {
    return Math.min(this.#beatDueAt, this.replication.noticeDueAt, this.#until);
  }

  /** until is when this leader steps down unless a quorum is heard. */
  get #until(): number {
    return Math.max(this.replication.quorumUntil, this.#sparedUntil);
  }

  /** woke takes that this replica was called so much later than it asked for, ms. */
  woke(lateMs: number): void {
    const { now, tuning } = this.#r;
    const { quorumUntil } = this.replication;
    // A quorum by itself waits for nobody, and has nothing to spare when others come.
    if (quorumUntil === Number.POSITIVE_INFINITY) return;
    if (quorumUntil !== this.#sparedFor) this.#spare.anew();
    this.#sparedFor = quorumUntil;
    this.#sparedUntil = this.#spare.until(this.#until, now.mono, lateMs, tuning.heartbeatMs, tuning.electionMs);
  }

  /** begin writes an entry of this term, without which nothing is decided, and is heard by all. */
  begin(): void {
    this.replication.align();
    this.replication.reads.next();
    this.#beatDueAt = this.#r.now.mono + this.#r.tuning.heartbeatMs;
    this.replication.write([]);
  }

  propose(call: number, payload: Uint8Array): void {
    const r = this.#r;
    const { tuning, log } = r;
    if (this.#transfer.to !== undefined) return r.refuse(call, "OVERLOADED", `leadership is on its way to ${this.#transfer.to}: try again`);
    if (payload.length > tuning.payloadBytes)
      return r.refuse(call, "MESSAGE_TOO_LARGE", `a payload has at most ${tuning.payloadBytes} bytes, this one ${payload.length}`);
    const problem = r.options.check?.(payload);
    if (problem !== undefined) return r.refuse(call, "INVALID_FIELD", problem);
    if (log.last - r.commit >= tuning.uncommittedEntries || this.replication.openBytes >= tuning.uncommittedBytes) {
      const open = `${log.last - r.commit} entries of ${this.replication.openBytes} bytes`;
      return r.refuse(call, "OVERLOADED", `${open} wait for a majority of the voters: try again when they are decided`);
    }
    const { index, term } = this.replication.write([payload]);
    r.out.push({ kind: "accepted", call, index, term });
  }

  read(call: number): void {
    this.replication.reads.add(call, this.#transfer.mayLease);
  }

  reconfigure({ call, voters, learners }: Extract<EngineInput<RaftFrame>, { kind: "reconfigure" }>): void {
    if (this.#transfer.to !== undefined) this.#r.refuse(call, "OVERLOADED", `leadership is on its way to ${this.#transfer.to}: try again`);
    else this.change.begin(call, voters, learners);
  }

  transfer(call: number, to: ReplicaId): void {
    this.#transfer.begin(call, to, this.replication);
  }

  stored(term: number, index: number): void {
    if (this.replication.stored(term, index)) this.#committed();
  }

  onAppendAnswer(from: ReplicaId, answer: AppendAnswer): void {
    const peer = this.replication.peers.get(from);
    if (peer === undefined) return this.#r.observe("answer_of_stranger", from);
    this.replication.onAnswer(from, peer, answer);
    if (this.replication.advance()) this.#committed();
    this.replication.reads.confirm();
    this.#transfer.onAnswer(this.replication);
  }

  onSnapshotAnswer(from: ReplicaId, { index, have }: SnapshotAnswer): void {
    const peer = this.replication.peers.get(from);
    if (peer === undefined) return this.#r.observe("answer_of_stranger", from);
    peer.heardAt = this.#r.now.mono;
    if (peer.sending !== undefined) this.#sender.onAnswer(from, peer.sending, index, have);
  }

  /** tick does what is due; true if this replica must step down. */
  tick(): boolean {
    const { mono } = this.#r.now;
    if (mono >= this.#until) {
      this.#r.observe("quorum_lost");
      return true;
    }
    if (mono >= this.replication.noticeDueAt) this.replication.notice();
    if (mono >= this.#beatDueAt) {
      this.#beatDueAt = mono + this.#r.tuning.heartbeatMs;
      this.replication.beat();
      this.#transfer.beat();
    }
    return false;
  }

  /** isOver tells whether this replica is no voter any more: it lets another one take over, and steps down. */
  get isOver(): boolean {
    return !isVoterOf(this.#r.membership, this.#r.self);
  }

  /** giveWay lets the voter that has most take over at once. */
  giveWay(): void {
    this.replication.notice();
    const matchOf = (id: ReplicaId): number => this.replication.peers.get(id)?.match ?? 0;
    const [next] = [...this.#r.membership.voters].sort((a, b) => matchOf(b) - matchOf(a));
    if (next !== undefined) this.#r.send(next, { type: "transfer_now", term: this.#r.term });
  }

  /** end is the end of the term for this leader. */
  end(): void {
    this.replication.reads.refuseAll();
    this.change.abandon();
  }

  #committed(): void {
    do this.change.onCommit();
    while (this.replication.advance());
    this.replication.reads.begin();
  }
}
