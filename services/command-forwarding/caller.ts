import type { Failure } from "#kernel/error.ts";
import type { Now } from "#kernel/instant.ts";
import type { Keyed, Keys } from "./idempotency.ts";
import { rangesOf } from "./intervals.ts";
import type { Journal } from "./journal.ts";
import {
  type Answer,
  type Command,
  type Invocation,
  NO_VALUE,
  OUTCOME,
  type PeerInfo,
  type Result,
  type ResultsFrame,
} from "./messages.ts";
import type { Outbox } from "./outbox.ts";
import { type Book, type Deadlines, NOBODY, nameOf, Peer, Pending } from "./pending.ts";
import { RECORD } from "./records.ts";
import type { Settings } from "./settings.ts";
import type { Writer } from "./wire.ts";

/** Outcomes remembered for GetCommand and for late corrections. */
const RECENT = 1_024;

/** CallerParts are what both sides of the core share. */
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
 */
export class CallerSide {
  readonly #p: Parts;
  readonly peers = new Map<string, Peer>();
  readonly #recent = new Array<Pending | undefined>(RECENT).fill(undefined);
  /** Books with positions that are resolved and not yet logged. */
  readonly #unlogged = new Set<Book>();
  #keyedUnlogged: Keyed[] = [];
  /** When what is unlogged must be logged, mono ms; 0 for in this very step. */
  ackAt: number | undefined;
  epoch = 0;
  #next = 1;

  constructor(parts: Parts) {
    this.#p = parts;
  }

  /** pendingCount is how many commands have no final outcome. */
  get pendingCount(): number {
    let count = 0;
    for (const peer of this.peers.values()) count += peer.pendingCount;
    return count;
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
    return new Pending({ epoch: this.epoch, seq: this.#next++ }, hubId, command, at);
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
    if (peer === undefined) this.peers.set(hubId, (peer = new Peer(hubId)));
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
    for (const book of peer.books.values())
      for (const pending of [...book.pending.values()]) if (pending.unsent) this.resolve(now, pending, unsent(pending));
  }

  /** results takes an owner's message: its greeting makes the peer ready, outcomes resolve commands. */
  results(now: Now, peer: Peer, session: number, frame: ResultsFrame): void {
    peer.hello(session, frame);
    if (session !== peer.session) return this.#stale(now, peer, frame);
    // Also when it knows names of the current epoch and was sent none: they were given in a time that this store has lost.
    if (frame.epoch > this.epoch || (frame.epoch === this.epoch && !peer.books.has(frame.epoch))) this.onBehind(now, frame.epoch);
    const renewed = frame.ownerEpoch !== peer.ownerEpoch;
    peer.ownerPosition = renewed ? frame.ownerPosition : Math.max(peer.ownerPosition, frame.ownerPosition);
    peer.ownerEpoch = frame.ownerEpoch;
    const book = peer.books.get(frame.epoch);
    for (const item of frame.items) {
      const pending = book?.pending.get(item.seq);
      if (pending !== undefined) this.#verdict(now, pending, item);
      else this.#correct(frame.epoch, item);
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
      else this.#correct(frame.epoch, item);
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
    pending.value = NO_VALUE;
    pending.trace = undefined;
    this.#keep(pending, result);
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
      book.settle(book.epoch === this.epoch ? this.#next : Number.MAX_SAFE_INTEGER);
      const { peer } = book;
      if (peer.ready) {
        const invoke = outbox.invoke(peer, book);
        invoke.ackedBelow = book.low;
        for (const bound of ranges) invoke.acks.push(bound);
      }
      if (book.pending.size === 0 && book.epoch !== this.epoch) peer.books.delete(book.epoch);
    }
    this.#unlogged.clear();
    for (const keyed of this.#keyedUnlogged) if (keyed.result !== undefined) journal.add(keyed);
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

  #resend(now: Now, peer: Peer): void {
    if (!peer.up) return;
    for (const book of peer.books.values())
      for (const pending of [...book.pending.values()]) {
        const { unsent: first } = pending;
        pending.unsent = false;
        // What never left is sent to whatever journal is there; its record may name another, which after a crash here means UNKNOWN.
        if (first) pending.ownerEpoch = peer.ownerEpoch;
        if (pending.ownerEpoch === peer.ownerEpoch) this.#p.outbox.invoke(peer, book).items.push(itemOf(pending, !first));
        else this.resolve(now, pending, unknown("the owner lost its journal; the command may have run"));
      }
  }

  #verdict(now: Now, pending: Pending, item: Answer): void {
    if (item.result.outcome !== OUTCOME.UNKNOWN) return this.resolve(now, pending, item.result);
    if (!pending.answered) this.answerUnknown(now, pending, item.result.failure ?? UNKNOWN_FAILURE);
  }

  /** correct applies a late report to a command that ended as UNKNOWN, once. */
  #correct(epoch: number, item: Answer): void {
    const pending = this.recent(epoch, item.seq);
    if (pending === undefined || pending.result?.outcome !== OUTCOME.UNKNOWN || item.result.outcome === OUTCOME.UNKNOWN) return;
    pending.result = item.result;
    if (pending.keyed === undefined || pending.keyed.seq !== pending.seq) return;
    pending.keyed.result = item.result;
    this.#logKeyed(pending.keyed);
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
        trace: pending.trace,
      });
    if (pending.client !== NOBODY) this.onReply(pending.client, pending.corr);
    pending.client = NOBODY;
    if (pending.joined === undefined) return;
    for (const { client, corr, startedAt, trace } of pending.joined) {
      this.#p.outbox.push({ kind: "reply", client, corr, result, name, durationMs: now.mono - startedAt, replayed: true, trace });
      this.onReply(client, corr);
    }
    pending.joined = undefined;
  }

  /** onReply is set by the core, which forgets what the client waited for. */
  onReply: (client: number, corr: number) => void = () => undefined;

  /** onBehind is called when a peer knows a newer journal epoch of ours than we do: our journal was lost. */
  onBehind: (now: Now, epoch: number) => void = () => undefined;

  /** keep remembers an outcome: for a while, or for the life of its idempotency key (K2). */
  #keep(pending: Pending, result: Result): void {
    this.#recent[pending.seq % RECENT] = pending;
    const { keyed } = pending;
    if (keyed === undefined) return;
    keyed.pending = undefined;
    if (result.outcome === OUTCOME.REJECTED || result.outcome === OUTCOME.EXPIRED) return this.#p.keys.remove(keyed);
    keyed.result = result;
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

/** writeResolved notes that commands are done: pairs [from, to) of positions. */
function writeResolved(writer: Writer, epoch: number, ranges: readonly number[]): void {
  writer.uint(RECORD.RESOLVED);
  writer.uint(epoch);
  writer.uint(ranges.length);
  for (const bound of ranges) writer.uint(bound);
}

const UNKNOWN_FAILURE: Failure = { reason: "OUTCOME_UNKNOWN", message: "the owner does not know the outcome" };

function unknown(message: string): Result {
  return { outcome: OUTCOME.UNKNOWN, value: NO_VALUE, failure: { reason: "OUTCOME_UNKNOWN", message } };
}

/** What never left this hub was not started (C8). */
function unsent({ hubId }: Pending): Result {
  const failure: Failure = { reason: "PEER_UNREACHABLE", message: `no session with ${hubId}` };
  return { outcome: OUTCOME.REJECTED, value: NO_VALUE, failure };
}

function cancelled(): Result {
  return { outcome: OUTCOME.REJECTED, value: NO_VALUE, failure: { reason: "CANCELLED", message: "cancelled before it was sent" } };
}
