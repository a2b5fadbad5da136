import { LIMITS } from "#kernel/bounds/limits.ts";
import type { Invoke, ResultsFrame } from "../messages.ts";
import { ForwardQueue } from "./forward-queue.ts";
import type { Pending } from "./pending.ts";
import type { PendingRooms } from "./pending-rooms.ts";

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
  /** Journal epoch of ours in the names that we give to commands for it (CA9). */
  epoch: number;
  level = 0;
  voidedAt = 0;
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
