import type { Backoff } from "../backoff.ts";
import type { Failure } from "../error.ts";
import type { Now } from "../instant.ts";
import {
  type LinkState,
  type Live,
  newerThan,
  type SessionConfig,
  type SessionId,
  type SessionInput,
  type Stream,
  showId,
} from "./rules.ts";

/** NEVER is the deadline of what has none. */
export const NEVER = Number.POSITIVE_INFINITY;

/** REPLACED ends a session in whose place another one came. */
export const REPLACED: Failure = { reason: "SESSION_REPLACED", message: "a newer session between the same hubs took over" };
/** GAP ends a session of which frames were not taken (SM11). */
export const GAP: Failure = { reason: "SESSION_REPLACED", message: "frames of this session were late and were not taken" };
export const TERMINATED: Failure = { reason: "TERMINATED", message: "an operator ended the link; ask for it to be enabled again" };
export const TOO_LOW: Failure = { reason: "TRUST_TOO_LOW", message: "the trust level of this hub does not allow the session" };
export const EXPIRED: Failure = { reason: "TOKEN_EXPIRED", message: "the token of this session expired and was not renewed" };
export const SILENT: Failure = { reason: "PEER_UNREACHABLE", message: "the peer did not answer a ping in time" };
export const STOPPING: Failure = { reason: "SHUTTING_DOWN", message: "the hub is shutting down; connect again" };

/** Peer is what the state machine keeps of one peer. Instants are mono ms. */
export interface Peer {
  readonly hubId: string;
  readonly backoff: Backoff;
  readonly streams: Set<Stream>;
  dialable: boolean;
  level: number;
  terminated: boolean;
  /** Instant at which our token there is void; negative infinity for none. */
  tokenEndsAt: number;
  expiresAtWall: number;
  /** Certificate of ours that the token is for. */
  leaf: string | undefined;
  current: Live | undefined;
  /** The stream that the peer's newest frame of the service came on, of those that beat the others. */
  speaker: Live | undefined;
  /** A fresh session is wanted although there is one. */
  redial: boolean;
  /** Our last session there was replaced by none of ours: another process may have our keys. */
  displaced: boolean;
  /** No dial before this instant: the peer said not to come back. */
  quietUntil: number;
  everUp: boolean;
  synced: boolean;
  attempts: number;
  rttMs: number;
  failure: Failure | undefined;
  state: LinkState;
  since: number;
}

/** newPeer is a peer of which nothing is known yet. */
export function newPeer(now: Now, hubId: string, backoff: Backoff): Peer {
  return {
    hubId,
    backoff,
    streams: new Set(),
    dialable: false,
    level: 0,
    terminated: false,
    tokenEndsAt: Number.NEGATIVE_INFINITY,
    expiresAtWall: 0,
    leaf: undefined,
    current: undefined,
    speaker: undefined,
    redial: false,
    displaced: false,
    quietUntil: Number.NEGATIVE_INFINITY,
    everUp: false,
    synced: false,
    attempts: 0,
    rttMs: -1,
    failure: undefined,
    state: "INIT",
    since: now.mono,
  };
}

/** newStream is a stream that begins: a dial, or one that the peer opened. */
export function newStream(now: Now, streamId: number, peer: string, inbound: boolean): Stream {
  return {
    streamId,
    peer,
    inbound,
    id: undefined,
    phase: inbound ? "handshake" : "dialing",
    since: now.mono,
    confirmed: false,
    lastFrameAt: now.mono,
    ping: undefined,
    nextPingAt: NEVER,
    askAgainAt: NEVER,
    tokenEndsAt: NEVER,
    leaf: undefined,
    spokeBefore: Number.POSITIVE_INFINITY,
    skipped: false,
  };
}

/** refusalOf says why a peer may not open one more stream, or undefined. */
export function refusalOf(peer: Peer | undefined, config: SessionConfig): Failure | undefined {
  if (peer === undefined) return { reason: "PEER_NOT_FOUND", message: "the hub is not configured here" };
  if (peer.terminated) return TERMINATED;
  if (peer.level < config.minLevel) return TOO_LOW;
  if (peer.streams.size < config.streamsPerPeer) return undefined;
  return { reason: "LIMIT_EXCEEDED", message: `a peer may have ${config.streamsPerPeer} streams open` };
}

/** openFailure checks the other side's open: identity, version, order (SM4). */
export function openFailure(
  input: Extract<SessionInput, { kind: "open_received" }>,
  id: SessionId,
  stream: Stream,
  peer: Peer,
  config: SessionConfig,
): Failure | undefined {
  if (stream.phase !== "handshake" || (stream.inbound && stream.id !== undefined))
    return { reason: "INVALID_FIELD", message: "a session is opened once", field: "open" };
  if (input.hubId !== peer.hubId)
    return {
      reason: "IDENTITY_MISMATCH",
      message: "the hub_id of the open is not the one of the certificate",
      field: "open.hub_id",
      facts: { certificate: peer.hubId },
    };
  if (!input.packages.some((name) => config.packages.includes(name)))
    return {
      reason: "UPGRADE_NEEDED",
      message: `no common version; this hub speaks ${config.packages.join(", ")}`,
      field: "open.packages",
    };
  if (!stream.inbound) {
    const same = stream.id?.incarnation === id.incarnation && stream.id.n === id.n;
    return same ? undefined : { reason: "INVALID_FIELD", message: "the answer to an open names another session", field: "open.n" };
  }
  for (const other of peer.streams)
    if (other.inbound && other.id !== undefined && other.phase !== "draining" && !newerThan(id, other.id)) return REPLACED;
  return undefined;
}

/** pongDueAt is when an unanswered ping proves that the link is dead: later while other frames still arrive. */
export function pongDueAt(stream: Stream, config: SessionConfig): number {
  if (stream.ping === undefined) return NEVER;
  const { sentAt } = stream.ping;
  return Math.min(Math.max(sentAt, stream.lastFrameAt) + config.pongTimeoutMs, sentAt + config.pongPatienceMs);
}

/** streamDueAt is when a stream by itself wants attention (SM9). */
export function streamDueAt(stream: Stream, config: SessionConfig): number {
  if (stream.phase === "dialing") return stream.since + config.connectTimeoutMs;
  if (stream.phase === "handshake") return stream.since + config.handshakeTimeoutMs;
  if (stream.phase === "draining") return NEVER;
  return Math.min(
    stream.tokenEndsAt,
    stream.ping === undefined ? stream.nextPingAt : Math.min(stream.askAgainAt, pongDueAt(stream, config)),
  );
}

/** timeoutOf says what a stream whose time has come failed to do; undefined if it is merely time for a ping. */
export function timeoutOf(now: Now, stream: Stream, config: SessionConfig): Failure | undefined {
  if (stream.phase === "dialing") return { reason: "PEER_UNREACHABLE", message: `no connection within ${config.connectTimeoutMs} ms` };
  if (stream.phase === "handshake") return { reason: "PEER_UNREACHABLE", message: `no handshake within ${config.handshakeTimeoutMs} ms` };
  if (now.mono >= stream.tokenEndsAt) return EXPIRED;
  return now.mono >= pongDueAt(stream, config) ? SILENT : undefined;
}

/** stateOf is the link state that people see. */
export function stateOf(peer: Peer, config: SessionConfig): LinkState {
  if (peer.terminated) return "TERMINATED";
  if (peer.current !== undefined) return config.synchronises && !peer.synced ? "SYNCING" : "OPERATIONAL";
  if (peer.everUp) return "RECOVERING";
  if (peer.attempts > 0 || peer.streams.size > 0) return "CONNECTING";
  return peer.level < config.minLevel ? "INIT" : "DISCOVERING";
}

/** describePeer is one line of the table. */
export function describePeer(peer: Peer): string {
  const shown = [...peer.streams].map(
    (s) => `#${s.streamId}:${s.inbound ? "in" : "out"}:${s.phase}${s.id === undefined ? "" : `:${showId(s.id)}`}`,
  );
  return [peer.hubId, peer.state, peer.current === undefined ? "-" : showId(peer.current.id), peer.attempts, shown.join(",") || "-"].join(
    " ",
  );
}
