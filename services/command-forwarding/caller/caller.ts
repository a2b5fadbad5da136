import type { Failure } from "#kernel/error.ts";
import type { Now } from "#kernel/instant.ts";
import type { Audit } from "../audit/audit.ts";
import { auditPending } from "../audit/audited.ts";
import type { Journal } from "../journal/journal.ts";
import { writeResolved } from "../journal/records.ts";
import {
  type Answer,
  type Command,
  type Invocation,
  LEVEL_LIMITED,
  NO_VALUE,
  NUMBER_END,
  OUTCOME,
  type PeerInfo,
  type Result,
  type ResultsFrame,
} from "../messages.ts";
import type { Outbox } from "../outbox.ts";
import { rangesOf } from "../owner/intervals.ts";
import { NOT_SENT_IN_TIME, refused, unknown } from "../owner/results.ts";
import type { Settings } from "../settings.ts";
import { Claims } from "./claims.ts";
import type { Keys } from "./idempotency.ts";
import { Outcomes } from "./outcomes.ts";
import { type Book, Peer } from "./peers.ts";
import { type Deadlines, NOBODY, nameOf, Pending } from "./pending.ts";
import { PendingRooms } from "./pending-rooms.ts";

/**
 * EPOCH_BELIEVED bounds the epochs of this hub that a peer may claim to know. A claim makes this hub use a higher epoch, which then rises
 * with each start and must never reach NUMBER_END: otherwise a single false claim would break the link permanently.
 */
const EPOCH_BELIEVED = NUMBER_END / 2;

/** Parts are what both sides of the core share. */
export interface Parts {
  readonly hubId: string;
  readonly settings: Settings;
  readonly journal: Journal;
  readonly outbox: Outbox;
  readonly deadlines: Deadlines;
  readonly keys: Keys;
  readonly audit: Audit;
}

/**
 * CallerSide names commands, journals them, sends them to their owners and resolves them.
 *
 * CA1 a command's name is never used again; one with an idempotency key leaves only after its record is durable, any other while it
 *    is being written: nobody can ask for that one again.
 * CA2 a command is pending until its outcome is known, or until `lateMs` after its deadline.
 * CA3 each waiting caller is answered exactly once.
 * CA4 an outcome is acknowledged to the owner only after it is durable here that the command is resolved.
 * CA5 on a new session, once its owner greeted on it, everything pending is asked again with retry; an owner with another
 *    journal epoch means UNKNOWN.
 * CA6 "refused", "expired" and "unknown" count only on the current session: elsewhere they are older than the last question.
 * CA7 after a restart of this hub the outcomes of what was pending are asked for; nothing is started by that.
 * CA8 a command has a name from when it leaves. One that comes before the owner greeted on a new session, or while the session takes no
 *    more, waits for that (`forward-queue.ts`); if the session goes instead it is refused.
 * CA9 a peer that knows a newer epoch of ours than we do gets one that is newer still, for the names that go there and nowhere else:
 *    whoever makes that up has only itself to blame.
 */
export class CallerSide {
  readonly #p: Parts;
  readonly peers = new Map<string, Peer>();
  /** Books with positions that are resolved and not yet logged. */
  readonly #unlogged = new Set<Book>();
  readonly #claims = new Claims();
  readonly #outcomes: Outcomes;
  /** When what is unlogged must be logged, mono ms; 0 for in this very step. */
  ackAt: number | undefined;
  epoch = 0;
  /** Newer epochs than that, for single peers (CA9). */
  readonly raised = new Map<string, number>();
  #next = 1;

  /** Commands for this hub's own nodes. */
  readonly localRooms: PendingRooms;

  constructor(parts: Parts) {
    this.#p = parts;
    this.#outcomes = new Outcomes(parts.keys, () => {
      this.ackAt = 0;
    });
    this.localRooms = new PendingRooms("pending_local", parts.settings.pendingLocal, parts.settings.pendingLocalBytes);
  }

  /** pendingCount is how many commands have no final outcome. */
  get pendingCount(): number {
    let count = 0;
    for (const peer of this.peers.values()) count += peer.pendingCount;
    return count;
  }

  /**
   * restoreEpochs sets the epochs of this start: each is newer than that of the start before, and the one for all peers is none that was
   * raised for a single one then.
   */
  restoreEpochs(epoch: number, raised: ReadonlyMap<string, number>): void {
    const taken = new Set(raised.values());
    this.epoch = epoch;
    while (taken.has(this.epoch)) this.epoch++;
    for (const [hubId, before] of raised) if (before > this.epoch) this.raised.set(hubId, before + 1);
  }

  /**
   * accept makes a command pending, and gives it its name unless it must wait before it can leave (CA8). `peer` is undefined for a command
   * of this hub's own nodes.
   */
  accept(now: Now, hubId: string, peer: Peer | undefined, command: Command, hops: readonly string[]): Pending {
    const { settings } = this.#p;
    const timeoutMs = command.timeoutMs === 0 ? settings.defaultTimeoutMs : Math.min(command.timeoutMs, settings.maxTimeoutMs);
    const at = {
      startedAt: now.mono,
      deadline: now.mono + timeoutMs,
      deadlineWall: now.wall + timeoutMs,
      timeoutMs,
      ownerEpoch: peer?.ownerEpoch ?? 0,
      hops,
    };
    const leaves = peer === undefined || (peer.ready && peer.queue.open);
    return new Pending(leaves ? { epoch: peer?.epoch ?? this.epoch, seq: this.#next++ } : UNNAMED, hubId, command, at);
  }

  /** send lets a command out to its owner, or into the queue. Its idempotency key, if it has one, is set already. */
  send(peer: Peer, pending: Pending): void {
    peer.pendingCount++;
    if (pending.named) return this.#leaves(peer, pending);
    peer.queue.stand(pending, false);
    this.#p.deadlines.add(pending, pending.deadline);
  }

  /** leaves journals a command and lets it out (CA1). */
  #leaves(peer: Peer, pending: Pending): void {
    const { journal, deadlines, outbox, settings } = this.#p;
    const book = peer.book(pending.epoch, pending.seq);
    book.pending.set(pending.seq, pending);
    journal.add(pending);
    // The key says whose it is.
    if (pending.keyed === undefined) this.#p.audit.open.own(pending.principal, pending.epoch, pending.seq);
    deadlines.add(pending, pending.deadline + settings.verdictMs);
    outbox.submit(peer, book, itemOf(pending, false), pending.keyed !== undefined);
    if (peer.queue.leaves(pending)) outbox.push({ kind: "tell-room", peer: peer.hubId });
  }

  /** repeat asks again for what was sent on an earlier session. */
  #repeat(peer: Peer, pending: Pending): void {
    const { outbox } = this.#p;
    outbox.invoke(peer, peer.books.get(pending.epoch) as Book).items.push(itemOf(pending, true));
    if (peer.queue.leaves(pending)) outbox.push({ kind: "tell-room", peer: peer.hubId });
  }

  /** peerRoom is called when a peer's session has taken all that was let out. */
  peerRoom(now: Now, peer: Peer): void {
    peer.queue.taken();
    if (peer.ready) this.#release(now, peer);
  }

  /** release lets out of the queue what the session may be given. */
  #release(now: Now, peer: Peer): void {
    for (let next = peer.queue.next(); next !== undefined; next = peer.queue.next()) {
      const { pending, again } = next;
      if (again) this.#repeat(peer, pending);
      else if (pending.deadline <= now.mono) this.resolve(now, pending, NOT_SENT_IN_TIME);
      else {
        pending.rename(peer.epoch, this.#next++, peer.ownerEpoch);
        this.#leaves(peer, pending);
      }
    }
  }

  /** refuseWaiting refuses what waits for a peer while this hub can take nothing new. */
  refuseWaiting(now: Now, failure: Failure): void {
    for (const peer of this.peers.values()) this.#refuseWaiting(now, peer, failure);
  }

  #refuseWaiting(now: Now, peer: Peer, failure: Failure): void {
    for (const { pending, again } of peer.queue.drain()) {
      if (again) peer.queue.stand(pending, true);
      else this.resolve(now, pending, refused(failure));
    }
  }

  /** setPeers takes the levels of peers, and answers those that were trusted with commands and are not any more, or lost that meanwhile. */
  setPeers(infos: readonly PeerInfo[]): string[] {
    const trusted = [...this.peers.values()].filter(({ level }) => level >= LEVEL_LIMITED).map((peer) => ({ peer, before: peer.voidedAt }));
    const named = new Set(infos.map((info) => info.hubId));
    for (const peer of this.peers.values()) if (!named.has(peer.hubId)) peer.level = 0;
    for (const { hubId, level, voidedAt = 0 } of infos) Object.assign(this.peer(hubId), { level, voidedAt });
    const fallen = trusted
      .filter(({ peer, before }) => peer.level < LEVEL_LIMITED || peer.voidedAt !== before)
      .map(({ peer }) => peer.hubId);
    for (const peer of this.peers.values()) if (peer.level === 0 && peer.pendingCount === 0 && !peer.up) this.peers.delete(peer.hubId);
    return fallen;
  }

  peer(hubId: string): Peer {
    let peer = this.peers.get(hubId);
    if (peer === undefined) {
      const { pendingPerPeer, pendingBytesPerPeer, aheadBytes } = this.#p.settings;
      const rooms = new PendingRooms("pending_per_peer", pendingPerPeer, pendingBytesPerPeer);
      this.peers.set(hubId, (peer = new Peer(hubId, this.raised.get(hubId) ?? this.epoch, rooms, aheadBytes)));
    }
    return peer;
  }

  peerUp(now: Now, peer: Peer, session: number): void {
    peer.session = session;
    peer.ready = false;
    peer.queue.taken();
    const hello = peer.hellos.get(session);
    if (hello !== undefined) this.results(now, peer, session, hello);
  }

  peerDown(now: Now, peer: Peer): void {
    peer.session = 0;
    peer.ready = false;
    this.#refuseWaiting(now, peer, unreachable(peer.hubId));
  }

  /** results takes an owner's message: its greeting makes the peer ready, outcomes resolve commands. */
  results(now: Now, peer: Peer, session: number, frame: ResultsFrame): void {
    const { epoch: newest } = peer.hello(session, frame);
    if (session !== peer.session) return this.#stale(now, peer, frame);
    // Also when it knows names of the current epoch and was sent none: they were given in a time that this store has lost.
    const behind = newest > peer.epoch || (newest === peer.epoch && peer.books.get(newest)?.sent !== true);
    if (behind && newest < EPOCH_BELIEVED && this.#claims.believe(peer.hubId, now.mono)) this.#raise(peer, newest + 1);
    const renewed = frame.ownerEpoch !== peer.ownerEpoch;
    peer.ownerPosition = renewed ? frame.ownerPosition : Math.max(peer.ownerPosition, frame.ownerPosition);
    peer.ownerEpoch = frame.ownerEpoch;
    const book = peer.books.get(frame.epoch);
    for (const item of frame.items) {
      const pending = book?.pending.get(item.seq);
      if (pending !== undefined) this.#verdict(now, pending, item);
      else this.#outcomes.correct(now, frame.epoch, item);
    }
    const again = !peer.ready || renewed;
    peer.ready = peer.up;
    if (again && peer.ready) this.#resend(now, peer);
  }

  /**
   * stale takes outcomes that come on a session that is not the current one. That something ran stays true; that something was
   * refused does not, because it was asked again since (CA6).
   */
  #stale(now: Now, peer: Peer, frame: ResultsFrame): void {
    for (const item of frame.items) {
      if (item.result.outcome !== OUTCOME.DONE && item.result.outcome !== OUTCOME.FAILED) continue;
      const pending = peer.books.get(frame.epoch)?.pending.get(item.seq);
      if (pending !== undefined) this.resolve(now, pending, item.result);
      else this.#outcomes.correct(now, frame.epoch, item);
    }
  }

  /** cancel gives a command up; the owner says whether it came too late. */
  cancel(now: Now, pending: Pending): void {
    if (!pending.named) return this.resolve(now, pending, CANCELLED);
    const peer = this.peers.get(pending.hubId);
    const book = peer?.books.get(pending.epoch);
    if (peer === undefined || book === undefined) return;
    if (peer.ready) {
      // A cancel means nothing to an owner that never heard of the command: the question goes first.
      const { waiting } = pending;
      if (waiting !== undefined) {
        peer.queue.drop(waiting);
        this.#repeat(peer, pending);
      }
      this.#p.outbox.invoke(peer, book).cancels.push(pending.seq);
    } else
      this.answerUnknown(now, pending, { reason: "CANCELLED", message: "cancelled without a link to the owner; it may have been started" });
  }

  /** due is called when a pending command's time is over: at its deadline, or at the end of the wait for a late report. */
  due(now: Now, pending: Pending): void {
    if (pending.answered) this.resolve(now, pending, pending.result as Result);
    else this.#overdue(now, pending);
  }

  /** answerUnknown answers callers, and keeps the command for a late report (CA2). */
  answerUnknown(now: Now, pending: Pending, failure: Failure): void {
    this.#answer(now, pending, { outcome: OUTCOME.UNKNOWN, value: NO_VALUE, failure });
    pending.answered = true;
    if (pending.run === undefined) this.#p.deadlines.add(pending, Math.max(now.mono, pending.deadline) + this.#p.settings.lateMs);
  }

  /** resolve gives a command its final outcome. */
  resolve(now: Now, pending: Pending, result: Result): void {
    const { deadlines, journal } = this.#p;
    const peer = this.peers.get(pending.hubId);
    if (pending.waiting !== undefined) peer?.queue.drop(pending.waiting);
    deadlines.remove(pending);
    if (pending.answered) pending.result = result;
    else this.#answer(now, pending, result);
    auditPending(this.#p, now, pending, result);
    pending.uncount();
    pending.value = NO_VALUE;
    pending.trace = undefined;
    this.#outcomes.keep(now, pending, result);
    if (pending.blob !== 0 && pending.hubId === this.#p.hubId)
      journal.note((writer) => writeResolved(writer, pending.epoch, [pending.seq, pending.seq + 1]));
    journal.drop(pending);
    if (peer === undefined) return;
    if (!pending.named) peer.pendingCount--;
    const book = peer.books.get(pending.epoch);
    if (book !== undefined) this.#done(now, peer, book, pending.seq);
  }

  /** log writes down what is resolved, and acknowledges it in the same step (CA4). */
  log(): void {
    const { journal, outbox } = this.#p;
    for (const book of this.#unlogged) {
      const ranges = rangesOf(book.unlogged);
      book.unlogged = [];
      journal.note((writer) => writeResolved(writer, book.epoch, ranges));
      const { peer } = book;
      book.settle(book.epoch === peer.epoch ? this.#next : Number.MAX_SAFE_INTEGER);
      if (peer.ready) {
        const invoke = outbox.invoke(peer, book);
        invoke.ackedBelow = book.low;
        for (const bound of ranges) invoke.acks.push(bound);
      }
      if (book.pending.size === 0 && book.epoch !== peer.epoch) peer.books.delete(book.epoch);
    }
    this.#unlogged.clear();
    this.#outcomes.log(journal);
    this.ackAt = undefined;
  }

  /** recent finds a command of which the outcome was known lately. */
  recent(epoch: number, seq: number): Pending | undefined {
    return this.#outcomes.recent(epoch, seq);
  }

  /** find looks a pending command up by its name. */
  find(epoch: number, seq: number): Pending | undefined {
    for (const peer of this.peers.values()) {
      const pending = peer.books.get(epoch)?.pending.get(seq);
      if (pending !== undefined) return pending;
    }
    return undefined;
  }

  /**
   * recover takes over a command from before a restart. Its callers are gone, and may have been told that it was refused, which is
   * not logged at once: so the owner is asked for its outcome with no time left, which starts nothing (CA7).
   */
  recover(now: Now, pending: Pending): void {
    const peer = this.peer(pending.hubId);
    const book = peer.book(pending.epoch, pending.seq);
    book.low = Math.min(book.low, pending.seq);
    pending.recovered = true;
    book.pending.set(pending.seq, pending);
    peer.pendingCount++;
    this.#p.deadlines.add(pending, Math.max(now.mono, pending.deadline) + this.#p.settings.verdictMs);
  }

  /** raise gives a peer a newer epoch, under which everything leaves from now on. */
  #raise(peer: Peer, epoch: number): void {
    peer.epoch = epoch;
    this.raised.set(peer.hubId, epoch);
    this.onRaised(peer.hubId, epoch);
  }

  /** resend asks again for everything that has left, in turns with what waits to leave; of one caller's, what left comes first. */
  #resend(now: Now, peer: Peer): void {
    const { queue } = peer;
    const waiting = queue.drain();
    for (const book of peer.books.values())
      for (const pending of [...book.pending.values()]) {
        if (pending.ownerEpoch === peer.ownerEpoch) queue.stand(pending, true);
        else this.resolve(now, pending, unknown("the owner lost its journal; the command may have run"));
      }
    for (const { pending, again } of waiting) if (!again) queue.stand(pending, false);
    this.#release(now, peer);
  }

  #verdict(now: Now, pending: Pending, item: Answer): void {
    if (item.result.outcome !== OUTCOME.UNKNOWN) return this.resolve(now, pending, item.result);
    if (!pending.answered) this.answerUnknown(now, pending, item.result.failure ?? UNKNOWN_FAILURE);
  }

  #overdue(now: Now, pending: Pending): void {
    if (pending.answered) return;
    if (!pending.named) {
      const ready = this.peers.get(pending.hubId)?.ready === true;
      return this.resolve(now, pending, ready ? NOT_SENT_IN_TIME : refused(unreachable(pending.hubId)));
    }
    this.answerUnknown(now, pending, { reason: "OUTCOME_UNKNOWN", message: "no outcome by the deadline; it may have been started" });
  }

  #answer(now: Now, pending: Pending, result: Result): void {
    pending.result = result;
    pending.durationMs = now.mono - pending.startedAt;
    const name = nameOf(this.#p.hubId, pending);
    if (pending.client !== NOBODY)
      this.#p.outbox.push({
        kind: "reply",
        client: pending.client,
        corr: pending.corr,
        result,
        name,
        durationMs: pending.durationMs,
        replayed: false,
        keyed: pending.keyed !== undefined,
        trace: pending.trace,
      });
    if (pending.client !== NOBODY) this.onReply(pending.client, pending.corr);
    pending.client = NOBODY;
    if (pending.joined === undefined) return;
    for (const { client, corr, startedAt, trace } of pending.joined) {
      const durationMs = now.mono - startedAt;
      this.#p.outbox.push({ kind: "reply", client, corr, result, name, durationMs, replayed: true, keyed: true, trace });
      this.onReply(client, corr);
    }
    pending.joined = undefined;
  }

  /** onReply is set by the core, which forgets what the client waited for. */
  onReply: (client: number, corr: number) => void = () => undefined;

  /** onRaised is called when a peer knew a newer epoch of ours than we did, and `raised` has changed: our journal was lost (CA9). */
  onRaised: (hubId: string, epoch: number) => void = () => undefined;

  #done(now: Now, peer: Peer, book: Book, seq: number): void {
    if (!book.pending.delete(seq)) return;
    peer.pendingCount--;
    book.unlogged.push(seq);
    this.#unlogged.add(book);
    this.ackAt ??= now.mono + this.#p.settings.ackDelayMs;
  }
}

function itemOf(pending: Pending, retry: boolean): Invocation {
  const { seq, nodeId, capability, value, hops, trace } = pending;
  return { seq, nodeId, capability, value, deadline: pending.recovered ? 0 : pending.deadline, retry, hops, trace };
}

const UNKNOWN_FAILURE: Failure = { reason: "OUTCOME_UNKNOWN", message: "the owner does not know the outcome" };

/** What never left this hub was not started (CA8). */
function unreachable(hubId: string): Failure {
  return { reason: "PEER_UNREACHABLE", message: `no session with ${hubId}` };
}

const UNNAMED = { epoch: 0, seq: 0 };
const CANCELLED = refused({ reason: "CANCELLED", message: "cancelled before it was sent" });
