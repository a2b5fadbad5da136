import type { FeedPosition, PeerFrame } from "./messages.ts";
import type { World } from "./world.ts";

/** Bytes that a frame costs besides its content. */
export const FRAME_OVERHEAD = 256;

/** Outgoing is how far a session is with our feed. */
export type Outgoing =
  /** Nothing is offered, or the peer has not opened it. */
  | { readonly state: "idle" }
  /** The peer must forget another share first. */
  | { readonly state: "forgetting"; readonly shares: Set<string> }
  | { readonly state: "offered"; readonly share: string }
  /** A snapshot is built or sent; `manifestSent` and `nextPart` say how far. */
  | {
      readonly state: "snapshot";
      readonly share: string;
      readonly held: ReadonlySet<string>;
      job: number;
      manifestSent: boolean;
      nextPart: number;
    }
  /** Segments from `next` on are sent while there is credit. */
  | { readonly state: "tail"; readonly share: string; next: number };

/** PeerSession is one link to one peer. */
export class PeerSession {
  readonly id: number;
  readonly peer: string;
  readonly #world: World;
  /** Bytes that may still be sent. One frame may overdraw it. */
  credit: number;
  out: Outgoing = { state: "idle" };
  /** Position that the peer acknowledged on this session, and when it last moved (mono). */
  acked: FeedPosition | undefined;
  ackedAt: number;
  /** Refusals in a row, and until when nothing is sent after one. */
  nacks = 0;
  pausedUntil = Number.NEGATIVE_INFINITY;
  /** Incoming: what the peer offered, and when we asked for it. */
  offered: FeedPosition | undefined;
  offerSeen = false;
  openedAt: number | undefined;
  nackedAt = Number.NEGATIVE_INFINITY;
  synced = false;
  clockWarned = false;
  rttMs: number | undefined;
  /** Least difference between this hub's clock and that of the peer, as its segments said: what is above it is delay. */
  #lead = Number.POSITIVE_INFINITY;

  constructor(world: World, id: number, peer: string, credit: number) {
    this.#world = world;
    this.id = id;
    this.peer = peer;
    this.credit = credit;
    this.ackedAt = world.now.mono;
  }

  /** delayOf is how much longer a segment that was made at that time (mono of the peer) took than the fastest one on this session. */
  delayOf(madeAt: number): number {
    const lag = this.#world.now.mono - madeAt;
    if (lag < this.#lead) this.#lead = lag;
    return lag - this.#lead;
  }

  /** send gives a frame to the shell and pays for it. */
  send(frame: PeerFrame, bytes = 0): void {
    this.credit -= bytes + FRAME_OVERHEAD;
    this.#world.emit({ kind: "send", session: this.id, frame });
  }
}
