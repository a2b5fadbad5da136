import type { Failure } from "#kernel/error.ts";
import type { Now } from "#kernel/instant.ts";
import { Claims } from "./claims.ts";
import type { Keyed, Keys } from "./idempotency.ts";
import { rangesOf } from "./intervals.ts";
import type { Journal } from "./journal.ts";
import { inTurns } from "./lines.ts";
import {
  type Answer,
  type Command,
  type Invocation,
  NO_VALUE,
  NUMBER_END,
  OUTCOME,
  type PeerInfo,
  type Result,
  type ResultsFrame,
} from "./messages.ts";
import type { Outbox } from "./outbox.ts";
import { refused, unknown } from "./outcomes.ts";
import { type Book, type Deadlines, NOBODY, nameOf, Peer, Pending } from "./pending.ts";
import { PendingRooms } from "./pending-rooms.ts";
import { compact, writeResolved } from "./records.ts";
import type { Settings } from "./settings.ts";

/** Outcomes remembered for GetCommand and for late corrections. */
const RECENT = 1_024;

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
}

/**
 * CallerSide names commands, journals them, sends them to their owners and resolves them.
 *
 * C1 a command's name is never used again; one with an idempotency key leaves only after its record is durable, any other while it
 *    is being written: nobody can ask for that one again.
 * C2 a command is pending until its outcome is known, or until `lateMs` after its deadline.
 * C3 each waiting caller is answered exactly once.
 * C4 an outcome is acknowledged to the owner only after it is durable here that the command is resolved.
 * C5 on a new session, once its owner greeted on it, everything pending is asked again with retry; an owner with another
 *    journal epoch means UNKNOWN.
 * C6 "refused", "expired" and "unknown" count only on the current session: elsewhere they are older than the last question.
 * C7 after a restart of this hub the outcomes of what was pending are asked for; nothing is started by that.
 * C8 a command that is named before the owner greeted on a new session waits for that; if the session goes instead it is refused.
 * C9 a peer that knows a newer epoch of ours than we do gets one that is newer still, for the names that go there and nowhere else:
 *    whoever makes that up has only itself to blame.
 */
export class CallerSide {
  readonly #p: Parts;
  readonly peers = new Map<string, Peer>();
  readonly #recent = new Array<Pending | undefined>(RECENT).fill(undefined);
  /** Books with positions that are resolved and not yet logged. */
  readonly #unlogged = new Set<Book>();
  #keyedUnlogged: Keyed[] = [];
  readonly #claims = new Claims();
  /** When what is unlogged must be logged, mono ms; 0 for in this very step. */
  ackAt: number | undefined;
  epoch = 0;
  /** Newer epochs than that, for single peers (C9). */
  readonly raised = new Map<string, number>();
  #next = 1;

  /** Commands for this hub's own nodes. */
  readonly localRooms: PendingRooms;

  constructor(parts: Parts) {
    this.#p = parts;
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

  /** name gives a command its name and makes it pending. `peer` is undefined for a command of this hub's own nodes. */
  name(now: Now, hubId: string, peer: Peer | undefined, command: Command, hops: readonly string[]): Pending {
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
    return new Pending({ epoch: peer?.epoch ?? this.epoch, seq: this.#next++ }, hubId, command, at);
  }

  /** send journals a command and lets it out to its owner (C1). Its idempotency key, if it has one, is set already. */
  send(peer: Peer, pending: Pending): void {
    const { journal, deadlines } = this.#p;
    const book = peer.book(pending.epoch, pending.seq);
    book.pending.set(pending.seq, pending);
    peer.pendingCount++;
    journal.add(pending);
    deadlines.add(pending, pending.deadline + this.#p.settings.verdictMs);
    pending.unsent = !peer.ready;
    if (peer.ready) this.#p.outbox.submit(peer, book, itemOf(pending, false), pending.keyed !== undefined);
  }

  setPeers(infos: readonly PeerInfo[]): void {
    const named = new Set(infos.map((info) => info.hubId));
    for (const peer of this.peers.values()) if (!named.has(peer.hubId)) peer.level = 0;
    for (const info of infos) this.peer(info.hubId).level = info.level;
    for (const peer of this.peers.values()) if (peer.level === 0 && peer.pendingCount === 0 && !peer.up) this.peers.delete(peer.hubId);
  }

  peer(hubId: string): Peer {
    let peer = this.peers.get(hubId);
    if (peer === undefined) {
      const { pendingPerPeer, pendingBytesPerPeer } = this.#p.settings;
      const rooms = new PendingRooms("pending_per_peer", pendingPerPeer, pendingBytesPerPeer);
      this.peers.set(hubId, (peer = new Peer(hubId, this.raised.get(hubId) ?? this.epoch, rooms)));
    }
    return peer;
  }

  peerUp(now: Now, peer: Peer, session: number): void {
    peer.session = session;
    peer.ready = false;
    const hello = peer.hellos.get(session);
    if (hello !== undefined) this.results(now, peer, session, hello);
  }

  peerDown(now: Now, peer: Peer): void {
    peer.session = 0;
    peer.ready = false;
    this.#refuseUnsent(now, peer);
  }

  #refuseUnsent(now: Now, peer: Peer): void {
    for (const book of peer.books.values())
      for (const pending of [...book.pending.values()]) if (pending.unsent) this.resolve(now, pending, unsent(pending));
  }

  /** results takes an owner's message: its greeting makes the peer ready, outcomes resolve commands. */
  results(now: Now, peer: Peer, session: number, frame: ResultsFrame): void {
    const { epoch: newest } = peer.hello(session, frame);
    if (session !== peer.session) return this.#stale(now, peer, frame);
    // Also when it knows names of the current epoch and was sent none: they were given in a time that this store has lost.
    const behind = newest > peer.epoch || (newest === peer.epoch && peer.books.get(newest)?.sent !== true);
    if (behind && newest < EPOCH_BELIEVED && this.#claims.believe(peer.hubId, now.mono)) this.#raise(now, peer, newest + 1);
    const renewed = frame.ownerEpoch !== peer.ownerEpoch;
    peer.ownerPosition = renewed ? frame.ownerPosition : Math.max(peer.ownerPosition, frame.ownerPosition);
    peer.ownerEpoch = frame.ownerEpoch;
    const book = peer.books.get(frame.epoch);
    for (const item of frame.items) {
      const pending = book?.pending.get(item.seq);
      if (pending !== undefined) this.#verdict(now, pending, item);
      else this.#correct(now, frame.epoch, item);
    }
    if (!peer.ready || renewed) this.#resend(now, peer);
    peer.ready = peer.up;
  }

  /**
   * stale takes outcomes that come on a session that is not the current one. That something ran stays true; that something was
   * refused does not, because it was asked again since (C6).
   */
  #stale(now: Now, peer: Peer, frame: ResultsFrame): void {
    for (const item of frame.items) {
      if (item.result.outcome !== OUTCOME.DONE && item.result.outcome !== OUTCOME.FAILED) continue;
      const pending = peer.books.get(frame.epoch)?.pending.get(item.seq);
      if (pending !== undefined) this.resolve(now, pending, item.result);
      else this.#correct(now, frame.epoch, item);
    }
  }

  /** cancel gives a command up; the owner says whether it came too late. */
  cancel(now: Now, pending: Pending): void {
    const peer = this.peers.get(pending.hubId);
    const book = peer?.books.get(pending.epoch);
    if (peer === undefined || book === undefined) return;
    if (pending.unsent) this.resolve(now, pending, cancelled());
    else if (peer.ready) this.#p.outbox.invoke(peer, book).cancels.push(pending.seq);
    else
      this.answerUnknown(now, pending, { reason: "CANCELLED", message: "cancelled without a link to the owner; it may have been started" });
  }

  /** due is called when a pending command's time is over: at its deadline, or at the end of the wait for a late report. */
  due(now: Now, pending: Pending): void {
    if (pending.answered) this.resolve(now, pending, pending.result as Result);
    else this.#overdue(now, pending);
  }

  /** answerUnknown answers callers, and keeps the command for a late report (C2). */
  answerUnknown(now: Now, pending: Pending, failure: Failure): void {
    this.#answer(now, pending, { outcome: OUTCOME.UNKNOWN, value: NO_VALUE, failure });
    pending.answered = true;
    if (pending.run === undefined) this.#p.deadlines.add(pending, Math.max(now.mono, pending.deadline) + this.#p.settings.lateMs);
  }

  /** resolve gives a command its final outcome. */
  resolve(now: Now, pending: Pending, result: Result): void {
    const { deadlines, journal } = this.#p;
    deadlines.remove(pending);
    if (pending.answered) pending.result = result;
    else this.#answer(now, pending, result);
    pending.uncount();
    pending.value = NO_VALUE;
    pending.trace = undefined;
    this.#keep(now, pending, result);
    if (pending.blob !== 0 && pending.hubId === this.#p.hubId)
      journal.note((writer) => writeResolved(writer, pending.epoch, [pending.seq, pending.seq + 1]));
    journal.drop(pending);
    const peer = this.peers.get(pending.hubId);
    const book = peer?.books.get(pending.epoch);
    if (peer !== undefined && book !== undefined) this.#done(now, peer, book, pending.seq);
  }

  /** log writes down what is resolved, and acknowledges it in the same step (C4). */
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
    for (const keyed of this.#keyedUnlogged) if (keyed.result !== undefined && this.#p.keys.holds(keyed)) journal.add(keyed);
    this.#keyedUnlogged = [];
    this.ackAt = undefined;
  }

  /** recent finds a command of which the outcome was known lately. */
  recent(epoch: number, seq: number): Pending | undefined {
    const found = this.#recent[seq % RECENT];
    return found?.epoch === epoch && found.seq === seq ? found : undefined;
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
   * not logged at once: so the owner is asked for its outcome with no time left, which starts nothing (C7).
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

  /** raise gives a peer a newer epoch. What was named and has not left may have the name of something that it knows. */
  #raise(now: Now, peer: Peer, epoch: number): void {
    this.#refuseUnsent(now, peer);
    peer.epoch = epoch;
    this.raised.set(peer.hubId, epoch);
    this.onRaised(peer.hubId, epoch);
  }

  #resend(now: Now, peer: Peer): void {
    if (!peer.up) return;
    for (const book of peer.books.values()) {
      const again: Pending[] = [];
      const firsts: Pending[] = [];
      for (const pending of [...book.pending.values()]) {
        const { unsent: first } = pending;
        pending.unsent = false;
        // What never left is sent to whatever journal is there; its record may name another, which after a crash here means UNKNOWN.
        if (first) pending.ownerEpoch = peer.ownerEpoch;
        if (pending.ownerEpoch !== peer.ownerEpoch)
          this.resolve(now, pending, unknown("the owner lost its journal; the command may have run"));
        else (first ? firsts : again).push(pending);
      }
      // Repetitions may come in any order; what is sent first was named later, and comes in the order of its names.
      for (const pending of inTurns(again)) this.#p.outbox.invoke(peer, book).items.push(itemOf(pending, true));
      for (const pending of firsts) this.#p.outbox.invoke(peer, book).items.push(itemOf(pending, false));
    }
  }

  #verdict(now: Now, pending: Pending, item: Answer): void {
    if (item.result.outcome !== OUTCOME.UNKNOWN) return this.resolve(now, pending, item.result);
    if (!pending.answered) this.answerUnknown(now, pending, item.result.failure ?? UNKNOWN_FAILURE);
  }

  /** correct applies a late report to a command that ended as UNKNOWN, once. */
  #correct(now: Now, epoch: number, item: Answer): void {
    const pending = this.recent(epoch, item.seq);
    if (pending === undefined || pending.result?.outcome !== OUTCOME.UNKNOWN || item.result.outcome === OUTCOME.UNKNOWN) return;
    pending.result = compact(item.result);
    const { keyed } = pending;
    if (keyed === undefined || keyed.seq !== pending.seq || !this.#p.keys.holds(keyed)) return;
    this.#p.keys.settle(now, keyed, item.result);
    this.#logKeyed(keyed);
  }

  #overdue(now: Now, pending: Pending): void {
    if (pending.answered) return;
    if (pending.unsent) return this.resolve(now, pending, unsent(pending));
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

  /** onRaised is called when a peer knew a newer epoch of ours than we did, and `raised` has changed: our journal was lost (C9). */
  onRaised: (hubId: string, epoch: number) => void = () => undefined;

  /** keep remembers an outcome: for a while, or for the life of its idempotency key (K2). */
  #keep(now: Now, pending: Pending, result: Result): void {
    this.#recent[pending.seq % RECENT] = pending;
    pending.result = compact(result);
    const { keyed } = pending;
    if (keyed === undefined) return;
    keyed.pending = undefined;
    if (result.outcome === OUTCOME.REJECTED || result.outcome === OUTCOME.EXPIRED) return this.#p.keys.remove(keyed);
    this.#p.keys.settle(now, keyed, result);
    keyed.durationMs = pending.durationMs;
    this.#logKeyed(keyed);
  }

  /** A key's outcome is durable before its caller is answered: the stored answer never contradicts the given one. */
  #logKeyed(keyed: Keyed): void {
    this.#keyedUnlogged.push(keyed);
    this.ackAt = 0;
  }

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

/** What never left this hub was not started (C8). */
function unsent({ hubId }: Pending): Result {
  return refused({ reason: "PEER_UNREACHABLE", message: `no session with ${hubId}` });
}

function cancelled(): Result {
  return refused({ reason: "CANCELLED", message: "cancelled before it was sent" });
}
