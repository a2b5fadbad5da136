import type { Retry } from "#kernel/backoff.ts";
import { type HlcReading, tooFarAhead } from "#kernel/crdt/hlc.ts";
import type { Failure } from "#kernel/error.ts";
import type { Turns } from "./export/turns.ts";
import type { FeedPosition, PeerFrame } from "./messages.ts";
import type { World } from "./world.ts";

/** SILENT_MS: a peer that owes an answer twice in a row, so long apart, and has not moved in between, takes nothing. */
export const SILENT_MS = 60_000;

/** FRAME_OVERHEAD is how many bytes a frame costs besides its content. */
export const FRAME_OVERHEAD = 256;

/** Outgoing is how far a session is with our feed. */
export type Outgoing =
  /** Nothing is offered, or the peer has not opened it. */
  | { readonly state: "idle" }
  /** The peer must forget another share first. */
  | { readonly state: "forgetting"; readonly shares: Set<string> }
  | { readonly state: "offered"; readonly share: string }
  /** A snapshot is built or sent; `manifestSent` and `nextPart` say how far. Job 0: it is not the peer's turn yet (EP6). */
  | {
      readonly state: "snapshot";
      readonly share: string;
      readonly held: ReadonlySet<string>;
      /** The peer may hold segments up to that one: what is older it does not take. */
      readonly least: number;
      job: number;
      manifestSent: boolean;
      nextPart: number;
    }
  /** Segments from `next` on are sent while there is credit. */
  | { readonly state: "tail"; readonly share: string; next: number };

/** A peer whose acknowledgements stand still for so long does not count as live for the backlog rule. */
const LIVE_MS = 1_000;
/** So many refusals in a row are no accident, whatever they say. */
const MANY = 4;
/** Reasons for which the same is refused again until somebody does something. */
const LASTING: ReadonlySet<string> = new Set(["FEED_KEY_INVALID", "LIMIT_EXCEEDED", "UPGRADE_NEEDED", "FEED_FORK"]);

/** Trouble is why feeds of a session are not taken, in either direction: such a link is not what people call operational. */
export class Trouble {
  readonly #tell: (failure: Failure | undefined) => void;
  #incoming: Failure | undefined;
  #outgoing: Failure | undefined;
  #unanswered: Failure | undefined;
  #missing: Failure | undefined;
  #told: string | undefined;

  constructor(tell: (failure: Failure | undefined) => void) {
    this.#tell = tell;
  }

  /** taken: what the peer sent was taken, or refused for a reason that lasts. Other reasons change nothing. */
  taken(problem: Failure | undefined): void {
    if (problem === undefined ? this.#incoming === undefined : !LASTING.has(problem.reason)) return;
    this.#incoming = problem && { ...problem, message: `this hub takes nothing from it: ${problem.message}` };
    this.#changed();
  }

  /** given: the peer took what it was sent, or refused it, for the so-many-th time in a row. */
  given(problem: Failure | undefined, times = 0): void {
    if (problem === undefined ? this.#outgoing === undefined : !LASTING.has(problem.reason) && times < MANY) return;
    this.#outgoing = problem && { ...problem, message: `it takes nothing from this hub: ${problem.message}` };
    this.#changed();
  }

  /** unanswered: the peer says nothing about what it was sent, or does again. */
  unanswered(problem: Failure | undefined): void {
    this.#unanswered = problem && { ...problem, message: `it takes nothing from this hub: ${problem.message}` };
    this.#changed();
  }

  /** missing: nothing of what the peer offered comes, or it does again. */
  missing(problem: Failure | undefined): void {
    this.#missing = problem && { ...problem, message: `this hub takes nothing from it: ${problem.message}` };
    this.#changed();
  }

  #changed(): void {
    const now = this.#incoming ?? this.#outgoing ?? this.#unanswered ?? this.#missing;
    if (now?.message === this.#told) return;
    this.#told = now?.message;
    this.#tell(now);
  }
}

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
  /** What the peer has made this hub do, over all its sessions. */
  readonly turns: Turns;
  /** The feed is offered again at that time (mono). */
  offerAt = Number.POSITIVE_INFINITY;
  /** Something was refused on this session, and what that was. */
  refused = false;
  refusedFor = "";
  /** Incoming: what the peer offered, and when we asked for it. */
  offered: FeedPosition | undefined;
  offeredAt = Number.NEGATIVE_INFINITY;
  offerSeen = false;
  openedAt: number | undefined;
  nackedAt = Number.NEGATIVE_INFINITY;
  /** The feed was asked for again where it stands: what comes from further on was under way before. */
  resuming = false;
  /** The feed was asked for, and nothing has come of it yet. */
  opening = false;
  synced = false;
  #clockWarned = false;
  /** Outgoing: when it is looked at next whether the peer answers, what it owed last time, and whether it is silent. */
  lookAt: number;
  debt: string | undefined;
  silent = false;
  /** Incoming: how far this hub was, last time, with what the peer offered, and whether nothing came since. */
  owed: string | undefined;
  missing = false;
  rttMs: number | undefined;
  readonly trouble: Trouble;
  /** Least difference between this hub's clock and that of the peer, as its segments said: what is above it is delay. */
  #lead = Number.POSITIVE_INFINITY;

  constructor(world: World, id: number, peer: string, credit: number, turns: Turns) {
    this.#world = world;
    this.turns = turns;
    this.id = id;
    this.peer = peer;
    this.credit = credit;
    this.ackedAt = world.now.mono;
    this.lookAt = world.now.mono + SILENT_MS;
    this.trouble = new Trouble((failure) => world.emit({ kind: "trouble", session: id, failure }));
  }

  get retry(): Retry {
    return this.turns.retry;
  }

  /** saidAt is when what comes now was said (mono), as far as the round trip tells. */
  saidAt(): number {
    return this.#world.now.mono - (this.rttMs ?? 0) / 2;
  }

  /** clock takes in the owner's clock. One that is too far ahead is not believed, but what it says is: order is that of the feed (D-9). */
  clock(hlc: HlcReading): void {
    const { hlc: own, now, o } = this.#world;
    if (own.receive(hlc, now.wall) || this.#clockWarned) return;
    this.#clockWarned = true;
    const ahead = tooFarAhead(hlc, now.wall, o.limits.clockSkewMs);
    const text = ahead ? "a peer's clock is too far ahead and is not followed" : "a peer's clock reading is malformed";
    this.#world.event("clock", "WARNING", text, { hub: this.peer });
  }

  /** heard: the peer has answered, whatever it owed. */
  heard(): void {
    this.debt = undefined;
    if (!this.silent) return;
    this.silent = false;
    this.trouble.unanswered(undefined);
  }

  /** behind tells whether what is held of the peer's feed is less than what it offered. */
  behind(held: Pick<FeedPosition, "share" | "epoch" | "seq"> | undefined): boolean {
    const { offered } = this;
    if (offered === undefined) return false;
    if (held?.share !== offered.share) return true;
    return held.epoch < offered.epoch || (held.epoch === offered.epoch && held.seq < offered.seq);
  }

  /** asked tells whether a snapshot of a share was asked for. */
  asked(share: string): boolean {
    return this.openedAt !== undefined && this.offered?.share === share;
  }

  /** unask: what the peer still sends of what it offered is not taken any more. */
  unask(): void {
    this.offered = undefined;
    this.openedAt = undefined;
  }

  /** took: what came of the feed was taken in. */
  took(): void {
    this.resuming = false;
    this.opening = false;
    this.trouble.taken(undefined);
    if (!this.missing) return;
    this.missing = false;
    this.owed = undefined;
    this.trouble.missing(undefined);
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

/** leastBehind is how many segments the fastest live peer is behind; 0 without one. */
export function leastBehind(
  sessions: Iterable<PeerSession>,
  feedOf: (share: string) => { readonly epoch: number; readonly seq: number } | undefined,
  mono: number,
): number {
  let least = Number.POSITIVE_INFINITY;
  for (const { out, acked, ackedAt } of sessions) {
    if (out.state !== "tail" || acked === undefined || mono - ackedAt > LIVE_MS) continue;
    const feed = feedOf(out.share);
    if (feed !== undefined && acked.epoch === feed.epoch) least = Math.min(least, feed.seq - acked.seq);
  }
  return least === Number.POSITIVE_INFINITY ? 0 : least;
}
