import { LIMITS } from "#kernel/bounds/limits.ts";
import type { TraceContext } from "#kernel/trace-context.ts";
import type { Writer } from "../codec/wire.ts";
import type { DeadlineQueue, Timed } from "../deadlines.ts";
import type { Entry } from "../journal/journal.ts";
import { RECORD, unpinned, writeTexts } from "../journal/records.ts";
import type { Command, CommandName, Invoke, Result, ResultsFrame } from "../messages.ts";
import type { Run } from "../owner/run.ts";
import { ForwardQueue, type Waiting } from "./forward-queue.ts";
import type { Keyed } from "./idempotency.ts";
import type { PendingRooms } from "./pending-rooms.ts";

/** Client number of nobody: the caller is gone, or was there before a restart. */
export const NOBODY = 0;
/** Client number of all unary calls together. */
export const UNARY_CLIENT = 1;

/** Waiter is a caller that joined a command by its idempotency key. */
export interface Waiter {
  readonly client: number;
  readonly corr: number;
  readonly startedAt: number;
  readonly trace: TraceContext | undefined;
}

/** Pending is a command of this hub's callers that has no final outcome. Its record says all that a retry after a restart needs. */
export class Pending implements Entry, Timed {
  blob = 0;
  recordBytes = 0;
  slot = 0;
  /** Its name, from when it leaves this hub. Positions begin at 1. */
  epoch: number;
  seq: number;
  readonly hubId: string;
  readonly nodeId: string;
  readonly capability: string;
  value: Uint8Array;
  readonly timeoutMs: number;
  readonly hops: readonly string[];
  /** Mono ms of acceptance and deadline; wall ms of the deadline, for a restart. */
  readonly startedAt: number;
  readonly deadline: number;
  readonly deadlineWall: number;
  /** Journal epoch of the owner when it was sent first. */
  ownerEpoch: number;
  client: number;
  corr: number;
  joined: Waiter[] | undefined;
  /** In memory only: after a restart nobody waits for it, and its trace ends there. */
  trace: TraceContext | undefined;
  keyed: Keyed | undefined;
  /** Set while it runs on this hub. */
  run: Run | undefined;
  /** It is from before a restart: its outcome is asked for, and nothing is started by that. */
  recovered = false;
  /** Set while it stands in the queue to its owner. */
  waiting: Waiting | undefined;
  /** Callers were answered UNKNOWN, and a late report may still correct it once. */
  answered = false;
  /** Where it is counted, for whom; undefined for one from before a restart, whose caller is not known any more. */
  rooms: PendingRooms | undefined;
  principal = "";
  /** The outcome, final or so far. */
  result: Result | undefined;
  durationMs = 0;

  constructor(
    name: { epoch: number; seq: number },
    hubId: string,
    command: Command,
    at: { startedAt: number; deadline: number; deadlineWall: number; timeoutMs: number; ownerEpoch: number; hops: readonly string[] },
  ) {
    this.epoch = name.epoch;
    this.seq = name.seq;
    this.hubId = hubId;
    this.nodeId = command.nodeId;
    this.capability = command.capability;
    this.value = unpinned(command.value);
    this.hops = at.hops;
    this.timeoutMs = at.timeoutMs;
    this.startedAt = at.startedAt;
    this.deadline = at.deadline;
    this.deadlineWall = at.deadlineWall;
    this.ownerEpoch = at.ownerEpoch;
    this.client = NOBODY;
    this.corr = command.corr;
    this.trace = command.trace;
  }

  /** named: it has left this hub, or runs here. What has no name cannot have been started. */
  get named(): boolean {
    return this.seq !== 0;
  }

  /** rename gives it the name under which it leaves. */
  rename(epoch: number, seq: number, ownerEpoch: number): void {
    this.epoch = epoch;
    this.seq = seq;
    this.ownerEpoch = ownerEpoch;
    if (this.keyed === undefined) return;
    this.keyed.epoch = epoch;
    this.keyed.seq = seq;
  }

  /** count takes the room that it needs until it has its outcome. */
  count(rooms: PendingRooms, principal: string): void {
    this.rooms = rooms;
    this.principal = principal;
    rooms.add(principal, this.nodeId, this.value.length);
  }

  /** uncount gives that back. */
  uncount(): void {
    this.rooms?.give(this.principal, this.nodeId, this.value.length);
    this.rooms = undefined;
  }

  write(writer: Writer): void {
    writer.uint(RECORD.SUBMIT);
    writer.uint(this.epoch);
    writer.uint(this.seq);
    writer.string(this.hubId);
    writer.string(this.nodeId);
    writer.string(this.capability);
    writer.bytes(this.value);
    writer.uint(this.timeoutMs);
    writer.uint(Math.ceil(this.deadlineWall));
    writer.uint(this.ownerEpoch);
    writeTexts(writer, this.hops);
    const { keyed } = this;
    writer.string(keyed === undefined ? "" : keyed.id);
    if (keyed === undefined) return;
    writer.bytes(keyed.fingerprint);
    writer.uint(keyed.expiresWall);
  }
}

/** nameOf writes a pending command's name; undefined if it has none yet. */
export function nameOf(ownHubId: string, { named, epoch, seq }: Pending): CommandName | undefined {
  return named ? { hubId: ownHubId, epoch, seq } : undefined;
}

/** Book holds what one peer owes us under one journal epoch of ours. */
export class Book {
  readonly peer: Peer;
  readonly epoch: number;
  readonly pending = new Map<number, Pending>();
  /** Positions resolved since the last log; the owner must keep their outcomes until this is durable. */
  unlogged: number[] = [];
  /** Everything below is resolved, durably. */
  low: number;
  /** Something of it has left this hub. */
  sent = false;
  /** Effects of the running step: what leaves before its persist, and what leaves after it. */
  early: Invoke | undefined;
  invoke: Invoke | undefined;

  constructor(peer: Peer, epoch: number, low: number) {
    this.peer = peer;
    this.epoch = epoch;
    this.low = low;
  }

  /** settle moves `low` on; called when everything resolved so far is being logged. `next` is the next position of the journal. */
  settle(next: number): void {
    if (this.pending.size === 0) {
      this.low = Math.max(this.low, next);
      return;
    }
    // The positions of one journal are spread over all peers, so a few looks per log must do.
    for (let looks = 0; looks < 1_024 && this.low < next && !this.pending.has(this.low); looks++) this.low++;
  }
}

/** Peer is a hub to which commands go. */
export class Peer {
  readonly hubId: string;
  /** Journal epoch of ours in the names that we give to commands for it (C9). */
  epoch: number;
  level = 0;
  /** Number of the current session; 0 for none. Frames of others are stale: their commands were asked again on this one. */
  session = 0;
  /** The owner said hello on it: its journal epoch is known, and commands may go. */
  ready = false;
  /**
   * What the owner's newest hello said, by session. It says hello once on each session, when it chooses that, which may be before
   * we do; and we may come back to a session that it never left.
   */
  readonly hellos = new Map<number, ResultsFrame>();
  ownerEpoch = 0;
  /** Newest journal position of the owner that we saw: proof against a restored backup. */
  ownerPosition = 0;
  /** Commands without an outcome, also those that stand in the queue. */
  pendingCount = 0;
  readonly rooms: PendingRooms;
  readonly queue: ForwardQueue;
  readonly books = new Map<number, Book>();

  constructor(hubId: string, epoch: number, rooms: PendingRooms, aheadBytes: number) {
    this.hubId = hubId;
    this.epoch = epoch;
    this.rooms = rooms;
    this.queue = new ForwardQueue(aheadBytes);
  }

  get up(): boolean {
    return this.session !== 0;
  }

  /**
   * hello keeps what a frame says of its sender, if that is new on its session: a hello may share a frame with outcomes. A peer has
   * few streams at a time, and those that are over are the oldest. It answers what the session's hello says now.
   */
  hello(session: number, { epoch, ownerEpoch, ownerPosition, items }: ResultsFrame): ResultsFrame {
    const known = this.hellos.get(session);
    if (items.length > 0 && known !== undefined && known.ownerEpoch === ownerEpoch && known.epoch >= epoch) return known;
    const hello: ResultsFrame = { epoch, ownerEpoch, ownerPosition, items: [] };
    this.hellos.delete(session);
    this.hellos.set(session, hello);
    for (const oldest of this.hellos.keys()) if (this.hellos.size > LIMITS.streamsPerPeer) this.hellos.delete(oldest);
    return hello;
  }

  book(epoch: number, low: number): Book {
    let book = this.books.get(epoch);
    if (book === undefined) this.books.set(epoch, (book = new Book(this, epoch, low)));
    return book;
  }
}

/** Deadlines are the one queue of everything that falls due. */
export type Deadlines = DeadlineQueue<Pending | Run>;
