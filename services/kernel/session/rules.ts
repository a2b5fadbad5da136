import type { Failure } from "../error.ts";

/** SessionId names a session between two hubs for one service: the hub that dialled, its boot counter, and the number of the session within that boot. */
export interface SessionId {
  /** Hub that dialled. */
  readonly dialer: string;
  /** Boot counter of the dialer. */
  readonly incarnation: number;
  /** Number within the incarnation; it only rises. */
  readonly n: number;
}

/** PeerSession is a session as services see it. */
export interface PeerSession {
  readonly id: SessionId;
  /** Number of the stream within this process. */
  readonly streamId: number;
}

/** LinkState of a peer, for one service. */
export type LinkState = "INIT" | "DISCOVERING" | "CONNECTING" | "SYNCING" | "OPERATIONAL" | "RECOVERING" | "TERMINATED";

/** SessionConfig shapes the sessions of one service. Times are ms. */
export interface SessionConfig {
  /** This hub and its boot counter. */
  readonly hubId: string;
  readonly incarnation: number;
  /** Versions of this service's package that we speak; a peer that speaks none of them gets UPGRADE_NEEDED. */
  readonly packages: readonly string[];
  /** Least trust level for a session. */
  readonly minLevel: number;
  /** False if a peer may open this session without a token. */
  readonly needsToken: boolean;
  /** True if the service says when its first synchronisation is done (`synced`); until then the state is SYNCING. */
  readonly synchronises: boolean;
  /** Longest time until a dialled stream is open (S0-8). */
  readonly connectTimeoutMs: number;
  /** Longest time from an open stream to a finished handshake. */
  readonly handshakeTimeoutMs: number;
  /** Time between pings (S0-6). */
  readonly pingIntervalMs: number;
  /** Longest silence after a ping (B0-5). */
  readonly pongTimeoutMs: number;
  /** Longest wait for a pong while other frames still arrive: it may queue behind bulk. */
  readonly pongPatienceMs: number;
  /** How long two sessions of opposite dialers live side by side before one of them ends. */
  readonly settleMs: number;
  /** How long a session outlives its token. */
  readonly tokenGraceMs: number;
  /** Streams that one peer may have open. */
  readonly streamsPerPeer: number;
  /** How long a hub that was told not to come back stays away. */
  readonly quietMs: number;
}

/** DEFAULT_SESSION_TIMES are the start values (S0-6, S0-8). */
export const DEFAULT_SESSION_TIMES = {
  connectTimeoutMs: 10_000,
  handshakeTimeoutMs: 10_000,
  pingIntervalMs: 15_000,
  pongTimeoutMs: 15_000,
  pongPatienceMs: 60_000,
  settleMs: 1_000,
  tokenGraceMs: 30_000,
  streamsPerPeer: 8,
  quietMs: 60_000,
} as const;

/** ControlFrame is what the state machine says on a stream. */
export type ControlFrame =
  | { readonly case: "open"; readonly id: SessionId }
  | { readonly case: "ping"; readonly n: number }
  | { readonly case: "pong"; readonly n: number }
  | { readonly case: "refresh" };

/** SessionInput is what happens to the sessions of a service. */
export type SessionInput =
  /**
   * A peer is configured, or its facts changed. `expiresAtWall`: expiry of our token there (0: none); a new one is sent on at once, on
   * sessions that were dialled with the certificate that it is for (`leaf`).
   */
  | {
      readonly kind: "peer_wanted";
      readonly peer: string;
      readonly dialable: boolean;
      readonly level: number;
      readonly expiresAtWall: number;
      readonly leaf?: string | undefined;
    }
  | { readonly kind: "peer_removed"; readonly peer: string }
  /** An operator ended the link; `peer_wanted` enables it again. Both are idempotent (D-4). */
  | { readonly kind: "peer_terminated"; readonly peer: string }
  /** The dialled stream is answered. The dialer's open need not wait for it. */
  | { readonly kind: "dial_opened"; readonly streamId: number }
  /** `expiresAtWall`: expiry of the peer's token; 0 for none. */
  | { readonly kind: "inbound_opened"; readonly streamId: number; readonly peer: string; readonly expiresAtWall: number }
  | {
      readonly kind: "open_received";
      readonly streamId: number;
      readonly hubId: string;
      readonly incarnation: number;
      readonly n: number;
      readonly packages: readonly string[];
    }
  | { readonly kind: "ping_received"; readonly streamId: number; readonly n: number }
  | { readonly kind: "pong_received"; readonly streamId: number; readonly n: number }
  /** A frame of the service. Only the first after the handshake matters; for the others `heard` is enough. */
  | { readonly kind: "frame_received"; readonly streamId: number }
  | { readonly kind: "terminated_received"; readonly streamId: number; readonly failure: Failure; readonly reconnect: boolean }
  /** The peer renewed its token on an inbound stream, and it was verified. */
  | { readonly kind: "token_refreshed"; readonly streamId: number; readonly expiresAtWall: number }
  /** The shell found that the stream must end: a forbidden or malformed frame, a withdrawn credential. */
  | { readonly kind: "violated"; readonly streamId: number; readonly failure: Failure; readonly reconnect: boolean }
  /** The inbound stream carries the other half of a session that is known by its first stream: it is none by itself. */
  | { readonly kind: "joined"; readonly streamId: number }
  /** The stream is over, or could not be opened. */
  | { readonly kind: "stream_ended"; readonly streamId: number; readonly failure: Failure }
  /** The peer was heard from elsewhere (D-18). */
  | { readonly kind: "wake"; readonly peer: string }
  /** Open a fresh session and let it replace the old one: our certificate or its address changed. */
  | { readonly kind: "redial"; readonly peer: string }
  /** The first synchronisation on the current session is done. */
  | { readonly kind: "synced"; readonly peer: string }
  /** Ping now, if no ping is under way: someone wants proof that nothing is missing. */
  | { readonly kind: "probe"; readonly peer: string }
  /** End all sessions and dial no more. */
  | { readonly kind: "stop" };

/** SessionEffect is what must be done. */
export type SessionEffect =
  /** Dial, and say the open with this id at once: some acceptors answer nothing before it. */
  | { readonly kind: "dial"; readonly peer: string; readonly streamId: number; readonly id: SessionId }
  | { readonly kind: "send_control"; readonly streamId: number; readonly frame: ControlFrame }
  /** Say TERMINATED, finish, and report `stream_ended`. A dial in progress is given up. */
  | { readonly kind: "close"; readonly streamId: number; readonly failure: Failure; readonly reconnect: boolean }
  /** Send on this session from now on. `replaced` may still deliver frames until it ends. */
  | { readonly kind: "up"; readonly peer: string; readonly session: PeerSession; readonly replaced: PeerSession | undefined }
  /** No session is left. `willRetry`: this hub dials again; else the peer must. */
  | { readonly kind: "down"; readonly peer: string; readonly session: PeerSession; readonly failure: Failure; readonly willRetry: boolean }
  | { readonly kind: "answered"; readonly peer: string; readonly streamId: number; readonly rttMs: number }
  | { readonly kind: "state"; readonly peer: string; readonly state: LinkState };

/** PeerSessionStatus is how the sessions with one peer stand. */
export interface PeerSessionStatus {
  readonly state: LinkState;
  /** Mono ms at which the state began. */
  readonly since: number;
  readonly current: PeerSession | undefined;
  /** Dials since the peer became known. */
  readonly attempts: number;
  /** Round trip of the last ping, ms; negative before the first. */
  readonly rttMs: number;
  readonly failure: Failure | undefined;
  readonly synced: boolean;
}

/** Phase of a stream. */
export type Phase = "dialing" | "handshake" | "operational" | "draining";

/** Stream is one stream of a peer, as the state machine keeps it. Instants are mono ms. */
export interface Stream {
  readonly streamId: number;
  readonly peer: string;
  readonly inbound: boolean;
  id: SessionId | undefined;
  phase: Phase;
  /** When the phase began. */
  since: number;
  /** The handshake is known to be finished on the other side too. */
  confirmed: boolean;
  lastFrameAt: number;
  /** Ping that waits for its pong. */
  ping: { readonly n: number; readonly sentAt: number } | undefined;
  nextPingAt: number;
  /** When the ping that waits is said again: the other side, whose own ping may wait as well, then hears that this hub is there. */
  askAgainAt: number;
  /** When it ends for want of a fresh token. */
  tokenEndsAt: number;
  /** Certificate that a dialled stream shows. */
  leaf: string | undefined;
  /** Streams with a greater number began after the first frame of the service came on it; infinity while none has come. */
  spokeBefore: number;
  /** Frames of the service came and were not taken, as they were late (SM10). */
  skipped: boolean;
}

/** newerThan compares sessions of one dialer. */
export function newerThan(a: SessionId, b: SessionId): boolean {
  return a.incarnation > b.incarnation || (a.incarnation === b.incarnation && a.n > b.n);
}

/** showId writes a session id as `dialer/incarnation.n`. */
export function showId(id: SessionId): string {
  return `${id.dialer}/${id.incarnation}.${id.n}`;
}

/** Identified is a stream whose session is known. */
export interface Identified {
  readonly id: SessionId;
}

/** Live is a stream that may carry data. */
export type Live = Stream & Identified;

/** liveOf picks the streams that may carry data. */
export function liveOf(streams: Iterable<Stream>): Live[] {
  const live: Live[] = [];
  for (const stream of streams) if (stream.phase === "operational" && stream.id !== undefined) live.push(stream as Live);
  return live;
}

/** beats tells whether session `a` should outlive `b`: of one dialer the newer, of two dialers that of the smaller hub id. */
function beats(a: Identified, b: Identified): boolean {
  return a.id.dialer === b.id.dialer ? newerThan(a.id, b.id) : a.id.dialer < b.id.dialer;
}

/**
 * movesAt is when sending moves from `current` to `rival`: at once if the same dialer made a newer session; for opposite
 * dialers when both have been operational for `settleMs` and the rival wins; never otherwise. A hub moves only to a
 * session that is operational.
 */
export function movesAt(current: Live, rival: Live, config: SessionConfig): number {
  if (!beats(rival, current)) return Number.POSITIVE_INFINITY;
  return current.id.dialer === rival.id.dialer ? rival.since : Math.max(current.since, rival.since) + config.settleMs;
}

/**
 * endsAt is when `loser` is ended because of `winner`. The dialer of the winner does it, and only when it knows that
 * the other side finished the handshake too, so that neither side is ever without a session; should it fail to, the
 * other side does it a handshake's time later.
 */
export function endsAt(loser: Live, winner: Live, config: SessionConfig): number {
  const moves = movesAt(loser, winner, config);
  if (moves === Number.POSITIVE_INFINITY) return moves;
  if (winner.id.dialer !== config.hubId) return moves + config.handshakeTimeoutMs;
  return winner.confirmed ? moves : Number.POSITIVE_INFINITY;
}

/** isIdentified tells whether a stream's session is known. */
export function isIdentified(stream: Stream): stream is Live {
  return stream.id !== undefined;
}

/**
 * overtakes tells whether `speaker`, on which the peer has sent, still counts and has the newer frames. Of one dialer its newer session has.
 * A session of the opposite dialer that began after the first frame on another was used later, as its peer had lost that one, perhaps long
 * before this hub learns of it; without such a proof the peer has gone the way that the election takes.
 */
export function overtakes(speaker: Live | undefined, stream: Live): boolean {
  if (speaker === undefined || speaker.phase === "draining" || speaker === stream) return false;
  if (speaker.id.dialer !== stream.id.dialer) {
    if (stream.streamId > speaker.spokeBefore) return false;
    if (speaker.streamId > stream.spokeBefore) return true;
  }
  return beats(speaker, stream);
}
