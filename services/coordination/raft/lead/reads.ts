import type { ReplicaId } from "../../log/engine.ts";
import { reached } from "../state/quorum.ts";
import type { Replica } from "../state/replica.ts";
import type { Progress } from "./progress.ts";

/** A round of reads: they are confirmed by answers to this probe, or to a later one. */
interface Round {
  readonly probe: number;
  readonly index: number;
  readonly calls: readonly number[];
}

/** Probes that are remembered with their time. An answer to an older one still confirms reads, and nothing of a lease. */
const PROBES_KEPT = 1_024;

/**
 * Reads are the linearizable reads of a leader (ReadIndex, Ongaro's thesis 6.4).
 *
 * RQ1 no read before an entry of the leader's own term is committed (zoo 7): it waits.
 * RQ2 a read is confirmed by a quorum's answers to a probe that was begun after the read came; frames carry the number of the newest
 *    probe, and answers repeat it, so that no late or doubled answer counts for a later read (zoo 8, 17).
 * RQ3 a lease counts from when a probe was begun, ends before anyone may vote again, and is not used while the clock is not trusted, nor in a
 *    term in which this leader has told another to take over: that word may arrive at any time (zoo 9).
 */
export class Reads {
  readonly #r: Replica;
  readonly #peers: ReadonlyMap<ReplicaId, Progress>;
  /** Asks all whether this replica still leads. */
  readonly #ask: () => void;
  #probe = 0;
  /** When each of the newest probes was begun; the last one is that of `#probe`. */
  readonly #begun: number[] = [];
  #waiting: number[] = [];
  #round: Round | undefined;

  constructor(r: Replica, peers: ReadonlyMap<ReplicaId, Progress>, ask: () => void) {
    this.#r = r;
    this.#peers = peers;
    this.#ask = ask;
  }

  /** probe is the number of the newest probe. */
  get probe(): number {
    return this.#probe;
  }

  /** size is how many reads wait. */
  get size(): number {
    return this.#waiting.length + (this.#round?.calls.length ?? 0);
  }

  /** next begins a probe. */
  next(): void {
    this.#probe++;
    this.#begun.push(this.#r.now.mono);
    if (this.#begun.length > PROBES_KEPT) this.#begun.shift();
  }

  /** add takes a read. */
  add(call: number, mayLease: boolean): void {
    const r = this.#r;
    if (mayLease && r.tuning.leaseReads && r.clockTrusted && this.isCurrent && r.now.mono < this.leaseEndsAt) {
      r.out.push({ kind: "readable", call, index: r.commit });
      return;
    }
    if (this.size >= r.tuning.reads)
      return r.refuse(call, "OVERLOADED", `${r.tuning.reads} reads wait already: try again when some are answered`);
    this.#waiting.push(call);
    this.begin();
  }

  /** isCurrent tells whether an entry of this leader's own term is committed, so that all that was decided before is known. */
  get isCurrent(): boolean {
    return this.#r.log.termAt(this.#r.commit) === this.#r.term;
  }

  /** begin starts a round with the reads that wait, if it may and none is open. */
  begin(): void {
    if (this.#round !== undefined || this.#waiting.length === 0 || !this.isCurrent) return;
    this.next();
    this.#round = { probe: this.#probe, index: this.#r.commit, calls: this.#waiting };
    this.#waiting = [];
    this.#ask();
    this.confirm();
  }

  /** onAnswer takes the probe that a replica repeated. False for one that was never sent. */
  onAnswer(peer: Progress, probe: number): boolean {
    if (probe > this.#probe) return false;
    if (probe <= peer.probe) return true;
    peer.probe = probe;
    const begun = this.#begun[this.#begun.length - 1 - (this.#probe - probe)];
    if (begun !== undefined) peer.probedAt = begun;
    return true;
  }

  /** confirm answers the open round if a quorum has confirmed it, and begins the next one. */
  confirm(): void {
    const round = this.#round;
    if (round === undefined) return;
    const confirmed = reached(this.#r.membership, (id) => (id === this.#r.self ? this.#probe : (this.#peers.get(id)?.probe ?? 0)));
    if (confirmed < round.probe) return;
    this.#round = undefined;
    for (const call of round.calls) this.#r.out.push({ kind: "readable", call, index: round.index });
    this.begin();
  }

  /** knownAt is when this replica last knew that it led: when a probe that a quorum has answered was begun. -Infinity for never. */
  get knownAt(): number {
    const { membership, self, now } = this.#r;
    return reached(membership, (id) => (id === self ? now.mono : (this.#peers.get(id)?.probedAt ?? Number.NEGATIVE_INFINITY)));
  }

  get leaseEndsAt(): number {
    const { electionMs, leaseDrift } = this.#r.tuning;
    return this.knownAt + electionMs * (1 - leaseDrift);
  }

  /** refuseAll ends all reads: this replica no longer leads. */
  refuseAll(): void {
    for (const call of [...(this.#round?.calls ?? []), ...this.#waiting]) this.#r.refuseElsewhere(call);
    this.#waiting = [];
    this.#round = undefined;
  }
}
