import type { Now } from "#kernel/instant.ts";
import type { Committed, Membership, ReplicaId } from "../../log/engine.ts";
import { AGE_UNKNOWN, type AppendAnswer } from "../frames.ts";
import { entryBytes } from "../state/log-view.ts";
import { everyoneIn } from "../state/members.ts";
import { reached } from "../state/quorum.ts";
import type { Replica } from "../state/replica.ts";
import { Progress } from "./progress.ts";
import { Reads } from "./reads.ts";
import type { SnapshotSender } from "./snapshot-sender.ts";

const NO_ENTRIES: readonly Committed[] = [];

/**
 * Replication brings the leader's log to all others, and finds out what is decided.
 *
 * RX1 a leader counts itself only up to what is durable of its own term's entries; what was written before is durable by then, as writes
 *    are in order. A mark of another term counts nothing, so that what was overwritten meanwhile does not (invariant 4, zoo 4).
 * RX2 decided is what a quorum has, and is of the leader's own term; what comes before is decided with it (Raft 5.4.2).
 * RX3 a leader that is no voter does not count itself (zoo 20).
 * RX4 whatever is lost or comes late, each heartbeat brings a replica on: it repeats a probe, shows a gap after appends that were lost, and
 *    goes over to a snapshot when the log does not go back far enough (zoo 21, 22).
 * RX5 log time is the leader's wall clock and never goes back. Where an earlier leader's clock was far ahead it goes on from there, as fast as
 *    this leader's monotonic clock: what lasts a minute still ends, and one wrong clock stops nothing for longer than it is there.
 * RX6 what a replica still lacks that takes a snapshot, and answers, is kept in the log, up to `heldBytes`: it goes on from there, and does not
 *    need the next snapshot as soon as it has this one, however much others write.
 */
export class Replication {
  readonly #r: Replica;
  readonly #sender: SnapshotSender;
  readonly peers = new Map<ReplicaId, Progress>();
  readonly reads: Reads;
  /** Own entries are durable up to here (RX1). */
  #durable = 0;
  noticeDueAt = Number.POSITIVE_INFINITY;
  /** Bytes of entries that are not committed. */
  #openBytes = 0;
  /** Since when this leader goes by its monotonic clock, as its wall clock is far behind log time (RX5). */
  #behind: { readonly time: number; readonly mono: number } | undefined;

  constructor(r: Replica, sender: SnapshotSender, reads: typeof Reads = Reads) {
    this.#r = r;
    this.#sender = sender;
    this.reads = new reads(r, this.peers, () => {
      for (const [id, peer] of this.peers) this.#heartbeat(id, peer);
    });
    for (const entry of r.log.range(r.commit + 1, r.log.last)) this.#openBytes += entryBytes(entry);
  }

  get openBytes(): number {
    return this.#openBytes;
  }

  /** align makes a progress for each member, and forgets those that are none any more. */
  align(): void {
    const r = this.#r;
    const wanted = everyoneIn(r.membership).filter((id) => id !== r.self);
    for (const [id, peer] of this.peers) {
      if (wanted.includes(id)) continue;
      // So that it knows why nobody talks to it any more.
      this.#heartbeat(id, peer);
      this.peers.delete(id);
    }
    for (const id of wanted) if (!this.peers.has(id)) this.peers.set(id, new Progress(r.log.last + 1, r.now.mono));
  }

  /** time is the log time of an entry that is written now (RX5). */
  time({ wall, mono }: Now): number {
    const { lastTime } = this.#r.log;
    const passed = this.#behind === undefined ? lastTime : this.#behind.time + Math.floor(mono - this.#behind.mono);
    return Math.max(lastTime, passed, Math.floor(wall));
  }

  /** held is the position from which on entries are kept for replicas that take a snapshot (RX6); undefined for none. */
  held(): number | undefined {
    const { now, tuning } = this.#r;
    let held: number | undefined;
    for (const { behind, heardAt, match, sending } of this.peers.values()) {
      if (!behind || now.mono - heardAt >= tuning.electionMs) continue;
      const at = sending?.snapshot.manifest.index ?? match;
      held = Math.min(held ?? at, at);
    }
    return held;
  }

  /** write appends an entry of this term, and sends it. */
  write(payloads: readonly Uint8Array[], membership?: Membership): Committed {
    const r = this.#r;
    const { term } = r;
    const time = this.time(r.now);
    const isBehind = r.log.lastTime - r.now.wall > r.tuning.clockLagMs;
    if (isBehind && this.#behind === undefined) {
      this.#behind = { time: r.log.lastTime, mono: r.now.mono };
      r.observe("clock_behind");
    } else if (!isBehind) this.#behind = undefined;
    const entry = { index: r.log.last + 1, term, time, payloads, ...(membership === undefined ? {} : { membership }) };
    this.#openBytes += entryBytes(entry);
    r.append([entry], r.commit);
    r.out.push({ kind: "stored", mark: { term, index: entry.index } });
    for (const [id, peer] of this.peers) this.fill(id, peer);
    return entry;
  }

  /** stored takes a mark; true if more is decided. */
  stored(term: number, index: number): boolean {
    const r = this.#r;
    if (term !== r.term || index > r.log.last || index <= this.#durable) return false;
    this.#durable = index;
    return this.advance();
  }

  /** advance commits what is decided; true if that is more than before. */
  advance(): boolean {
    const r = this.#r;
    const index = reached(r.membership, (id) => (id === r.self ? this.#durable : (this.peers.get(id)?.match ?? 0)));
    if (index <= r.commit || r.log.termAt(index) !== r.term) return false;
    for (const entry of r.log.range(r.commit + 1, index)) this.#openBytes -= entryBytes(entry);
    if (r.commitTo(index)) this.align();
    this.noticeDueAt = Math.min(this.noticeDueAt, r.now.mono + r.tuning.noticeMs);
    return true;
  }

  /** fill sends what the window has room for. */
  fill(id: ReplicaId, peer: Progress): void {
    const { log, tuning } = this.#r;
    if (peer.state === "probe") {
      if (peer.paused) return;
      peer.paused = true;
      this.#append(id, peer, log.batch(peer.next, tuning.appendEntries, tuning.appendBytes));
    }
    while (peer.state === "replicate" && peer.next <= log.last && !peer.isFull(tuning.windowMessages, tuning.windowBytes)) {
      const entries = log.batch(peer.next, tuning.appendEntries, tuning.appendBytes);
      if (!this.#append(id, peer, entries)) return;
      let bytes = 0;
      for (const entry of entries) bytes += entryBytes(entry);
      peer.sent((entries.at(-1) as Committed).index, bytes);
    }
  }

  /** beat is the heartbeat to all. */
  beat(): void {
    this.reads.next();
    for (const [id, peer] of this.peers) {
      peer.paused = false;
      if (peer.state === "probe") this.fill(id, peer);
      else {
        this.#heartbeat(id, peer);
        if (peer.state === "snapshot") this.#sender.beat(id, peer);
      }
    }
    this.reads.confirm();
  }

  /** notice tells those that have not been told what is decided. */
  notice(): void {
    this.noticeDueAt = Number.POSITIVE_INFINITY;
    for (const [id, peer] of this.peers) if (peer.state === "replicate" && peer.told < this.#r.commit) this.#heartbeat(id, peer);
  }

  /** reachable is a hint: what was sent over a session that is gone may be lost. */
  reachable(id: ReplicaId, up: boolean): void {
    const peer = this.peers.get(id);
    if (peer === undefined) return;
    if (peer.state === "replicate" && !up) peer.become("probe");
    else if (peer.state === "probe" && up) {
      peer.paused = false;
      this.fill(id, peer);
    }
  }

  /** onAnswer takes an answer of a member in this term. */
  onAnswer(id: ReplicaId, peer: Progress, answer: AppendAnswer): void {
    const r = this.#r;
    if (!this.reads.onAnswer(peer, answer.probe) || (answer.ok && answer.index > r.log.last)) return r.observe("answer_impossible", id);
    peer.heardAt = r.now.mono;
    // It has acknowledged that position: its log went back in time, unless this is an old answer that comes late.
    if (!answer.ok && peer.state === "probe" && answer.index === peer.match && answer.index > 0) r.observe("log_reverted", id);
    if (answer.ok) this.#agreed(peer, answer.index);
    else this.#refused(peer, answer);
    this.fill(id, peer);
  }

  #agreed(peer: Progress, index: number): void {
    const { match } = peer;
    peer.acknowledge(index);
    if (peer.match >= this.#r.commit) peer.behind = false;
    if (peer.state === "probe" && (index > match || index === peer.next - 1)) peer.become("replicate");
    if (peer.state === "snapshot" && peer.match > 0 && peer.match >= this.#r.log.base) peer.become("replicate");
  }

  #refused(peer: Progress, { index, hintIndex, hintTerm }: AppendAnswer): void {
    if (peer.state === "replicate" && index > peer.match) peer.become("probe");
    else if (peer.state === "probe" && index === peer.next - 1)
      peer.become("probe", Math.min(index, this.#r.log.mayAgree(hintIndex, hintTerm).index + 1));
  }

  #heartbeat(id: ReplicaId, peer: Progress): void {
    if (peer.state === "snapshot") this.#send(id, peer, 0, 0, NO_ENTRIES);
    else this.#append(id, peer, NO_ENTRIES);
  }

  /** append sends entries from `next` on; false if what comes before is gone, and a snapshot is sent instead. */
  #append(id: ReplicaId, peer: Progress, entries: readonly Committed[]): boolean {
    const prevTerm = this.#r.log.termAt(peer.next - 1);
    if (prevTerm === undefined) {
      this.#sender.begin(id, peer);
      this.#heartbeat(id, peer);
      return false;
    }
    this.#send(id, peer, peer.next - 1, prevTerm, entries);
    return true;
  }

  #send(id: ReplicaId, peer: Progress, prevIndex: number, prevTerm: number, entries: readonly Committed[]): void {
    const r = this.#r;
    const { term, commit } = r;
    const lease = r.tuning.leaseReads;
    peer.told = Math.max(peer.told, Math.min(commit, prevIndex + entries.length));
    const known = this.isCurrentSince;
    const ageMs = known === undefined ? AGE_UNKNOWN : Math.min(AGE_UNKNOWN, Math.max(0, Math.ceil(r.now.mono - known)));
    r.send(id, { type: "append", term, prevIndex, prevTerm, entries, commit, probe: this.reads.probe, ageMs, lease }, true);
  }

  /** isCurrentSince is when this leader last knew that it led, and all that was decided; undefined if it never did. */
  get isCurrentSince(): number | undefined {
    const { knownAt, isCurrent } = this.reads;
    return isCurrent && knownAt > Number.NEGATIVE_INFINITY ? knownAt : undefined;
  }

  /** quorumUntil is when this leader must step down unless a quorum is heard (CheckQuorum). */
  get quorumUntil(): number {
    const { membership, self, tuning } = this.#r;
    const heard = (id: ReplicaId): number =>
      id === self ? Number.POSITIVE_INFINITY : (this.peers.get(id)?.heardAt ?? Number.NEGATIVE_INFINITY);
    return reached(membership, heard) + tuning.electionMs;
  }
}
