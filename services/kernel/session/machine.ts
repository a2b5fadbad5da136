import { assert } from "../assert.ts";
import { Backoff, type BackoffConfig, DEFAULT_BACKOFF } from "../backoff.ts";
import type { Core } from "../core.ts";
import type { Failure } from "../error.ts";
import type { Now } from "../instant.ts";
import type { Prng } from "../prng.ts";
import {
  describePeer,
  GAP,
  NEVER,
  newPeer,
  newStream,
  type Peer,
  REPLACED,
  refusalOf,
  SILENT,
  STOPPING,
  stateOf,
  streamDueAt,
  TERMINATED,
  TOO_LOW,
  timeoutOf,
} from "./peer.ts";
import {
  endsAt,
  isIdentified,
  type Live,
  liveOf,
  movesAt,
  overtakes,
  type PeerSession,
  type PeerSessionStatus,
  type SessionConfig,
  type SessionEffect,
  type SessionInput,
  type Stream,
} from "./rules.ts";
import { StreamLife } from "./stream-life.ts";

/**
 * PeerSessions decides about all sessions of one service of one hub: when to dial, which session is used, which one ends.
 *
 * SM1 a session is (dialer, dialer's incarnation, n); both sides use it.
 * SM2 a finished handshake makes a session operational: at the dialer when the other's open arrived, at the acceptor with the
 *    first frame after the opens. The dialer pings at once, so that this frame comes.
 * SM3 at most one session per peer is current; while an operational one exists, one is current. Only sending depends on it.
 * SM4 of one dialer a higher incarnation ends the others at once, a higher n when it is operational; what is not newer than a
 *    live one is refused with SESSION_REPLACED (D-17).
 * SM5 of opposite dialers the one dialled by the smaller hub id stays, after both were operational for `settleMs`.
 * SM6 no session ends in favour of one that is not operational on both sides (the dialer of the survivor ends the others, after
 *    a pong on the survivor), save by SM4's higher incarnation: then the old process is gone.
 * SM7 at most one dial per peer is in progress, none while a session is operational (unless asked for by `redial`) or while the
 *    peer is shaking hands on a stream of its own, none to a terminated or removed peer.
 * SM8 the backoff is reset by a finished handshake of our own dial only; frames from the peer, and a level
 *    that allows sessions again, wake one dial (D-18). After a session
 *    that was replaced by none of ours, which is what a copy of this hub causes, it is reset only by one that lasts.
 * SM9 every stream ends within bounded time when the other side is silent: connecting, handshake, ping (B0-5).
 * SM10 once the peer has sent on a session, what comes on one that it left is late, and is not taken while the newer one lives: its
 *    sender began anew when it moved. It leaves a session for one that beats it, or, when it has lost it, for one that begins later.
 * SM11 a session of which frames were not taken has a gap, and ends as soon as it is no longer late: with the newer one.
 */
export class PeerSessions implements Core<SessionInput, SessionEffect> {
  readonly #config: SessionConfig;
  readonly #prng: Prng;
  readonly #backoff: BackoffConfig;
  readonly #peers = new Map<string, Peer>();
  readonly #streams = new Map<number, Stream>();
  readonly #life: StreamLife;
  #lastStreamId = 0;
  #stopped = false;
  /** Instant of the last step. */
  #mono = Number.NEGATIVE_INFINITY;

  constructor(config: SessionConfig, prng: Prng, backoff: BackoffConfig = DEFAULT_BACKOFF) {
    this.#config = config;
    this.#prng = prng;
    this.#backoff = backoff;
    this.#life = new StreamLife(config, this.#peers);
  }

  /** allocate gives an inbound stream its number; dials take theirs from the same sequence. */
  allocate(): number {
    return ++this.#lastStreamId;
  }

  /** heard notes that a frame arrived, without a step: for the frames of the hot path. True if `frame_received` must be stepped. */
  heard(streamId: number, mono: number): boolean {
    const stream = this.#streams.get(streamId);
    if (stream === undefined) return false;
    stream.lastFrameAt = mono;
    return stream.phase === "handshake";
  }

  /** current is the session to send on, if any. */
  current(peer: string): PeerSession | undefined {
    const stream = this.#peers.get(peer)?.current;
    return stream === undefined ? undefined : sessionOf(stream);
  }

  /** sessionOn is the session of a stream whose opens were exchanged, also of one that is about to end. */
  sessionOn(streamId: number): PeerSession | undefined {
    const stream = this.#streams.get(streamId);
    return stream === undefined || !isIdentified(stream) || stream.phase === "dialing" ? undefined : sessionOf(stream);
  }

  /** mayJoin tells whether an inbound stream may become the other half of a session: only one that has said nothing yet. */
  mayJoin(streamId: number): boolean {
    const stream = this.#streams.get(streamId);
    return stream?.inbound === true && stream.phase === "handshake" && stream.id === undefined;
  }

  /** frameOn is `sessionOn` for a frame of the service that has come: undefined also if that is late (SM10). */
  frameOn(streamId: number): PeerSession | undefined {
    const stream = this.#streams.get(streamId);
    const peer = stream === undefined ? undefined : this.#peers.get(stream.peer);
    if (stream !== undefined && stream.phase !== "dialing" && isIdentified(stream) && peer !== undefined && peer.speaker !== stream) {
      if (overtakes(peer.speaker, stream)) {
        stream.skipped = true;
        return undefined;
      }
      peer.speaker = stream;
      stream.spokeBefore = Math.min(stream.spokeBefore, this.#lastStreamId);
    }
    return this.sessionOn(streamId);
  }

  /** overtaken tells whether the peer has sent on a session that beats the one of this stream. */
  overtaken(streamId: number): boolean {
    const stream = this.#streams.get(streamId);
    return stream !== undefined && isIdentified(stream) && overtakes(this.#peers.get(stream.peer)?.speaker, stream);
  }

  /** status of a peer; undefined for one that is not configured. */
  status(peer: string): PeerSessionStatus | undefined {
    const found = this.#peers.get(peer);
    if (found === undefined) return undefined;
    const { state, since, attempts, rttMs, failure, synced, current } = found;
    return { state, since, attempts, rttMs, failure, synced, current: current === undefined ? undefined : sessionOf(current) };
  }

  step(now: Now, input: SessionInput, out: SessionEffect[]): void {
    this.#mono = now.mono;
    const peer = this.#apply(now, input, out);
    if (peer !== undefined) this.#settle(now, peer, out);
  }

  tick(now: Now, out: SessionEffect[]): void {
    this.#mono = now.mono;
    for (const peer of this.#peers.values()) this.#settle(now, peer, out);
  }

  deadline(): number | undefined {
    let due = NEVER;
    for (const peer of this.#peers.values()) due = Math.min(due, this.#dueOf(peer));
    return due === NEVER ? undefined : due;
  }

  describe(): string {
    const hubIds = [...this.#peers.keys()].sort();
    return ["peer state current attempts streams", ...hubIds.map((hubId) => describePeer(this.#peers.get(hubId) as Peer))].join("\n");
  }

  /** apply does what one input means by itself and answers the peer that must be settled. */
  #apply(now: Now, input: SessionInput, out: SessionEffect[]): Peer | undefined {
    switch (input.kind) {
      case "peer_wanted":
        return this.#wanted(now, input, out);
      case "peer_terminated":
        return this.#terminated(input.peer, out, now);
      case "peer_removed":
        return this.#removed(input.peer, out, now);
      case "inbound_opened":
        return this.#inbound(now, input, out);
      case "wake":
        return this.#update(input.peer, (peer) => {
          peer.quietUntil = Number.NEGATIVE_INFINITY;
          peer.backoff.wake(now.mono);
        });
      case "redial":
        return this.#update(input.peer, (peer) => {
          peer.redial = peer.current?.inbound === false;
        });
      case "synced":
        return this.#update(input.peer, (peer) => {
          peer.synced = peer.current !== undefined;
        });
      case "probe":
        return this.#update(input.peer, (peer) => {
          if (peer.current !== undefined && peer.current.ping === undefined) peer.current.nextPingAt = now.mono;
        });
      case "stop":
        this.#stopped = true;
        for (const peer of this.#peers.values()) {
          for (const stream of peer.streams) this.#life.end(now, stream, STOPPING, true, out);
          this.#settle(now, peer, out);
        }
        return undefined;
      default:
        return this.#onStream(now, input, out);
    }
  }

  #update(hubId: string, change: (peer: Peer) => void): Peer | undefined {
    const peer = this.#peers.get(hubId);
    if (peer !== undefined) change(peer);
    return peer;
  }

  #wanted(now: Now, input: Extract<SessionInput, { kind: "peer_wanted" }>, out: SessionEffect[]): Peer {
    const peer = this.#peer(now, input.peer);
    if (peer.terminated || (input.dialable && !peer.dialable)) peer.quietUntil = Number.NEGATIVE_INFINITY;
    if (peer.level < this.#config.minLevel && input.level >= this.#config.minLevel) {
      peer.quietUntil = Number.NEGATIVE_INFINITY;
      peer.backoff.wake(now.mono);
    }
    peer.terminated = false;
    peer.dialable = input.dialable;
    peer.level = input.level;
    if (input.expiresAtWall !== peer.expiresAtWall)
      peer.tokenEndsAt = input.expiresAtWall === 0 ? Number.NEGATIVE_INFINITY : now.mono + (input.expiresAtWall - now.wall);
    peer.expiresAtWall = input.expiresAtWall;
    peer.leaf = input.leaf;
    for (const stream of peer.streams) {
      if (peer.level < this.#config.minLevel) this.#life.end(now, stream, TOO_LOW, false, out);
      else if (stream.phase === "operational") this.#life.refresh(stream, peer, out);
    }
    return peer;
  }

  #peer(now: Now, hubId: string): Peer {
    const known = this.#peers.get(hubId);
    if (known !== undefined) return known;
    assert(hubId !== this.#config.hubId, "a hub is not its own peer", { hubId });
    const peer = newPeer(now, hubId, new Backoff(this.#prng, this.#backoff));
    this.#peers.set(hubId, peer);
    return peer;
  }

  #terminated(hubId: string, out: SessionEffect[], now: Now): Peer {
    const peer = this.#peer(now, hubId);
    peer.terminated = true;
    for (const stream of peer.streams) this.#life.end(now, stream, TERMINATED, false, out);
    return peer;
  }

  #removed(hubId: string, out: SessionEffect[], now: Now): undefined {
    const peer = this.#peers.get(hubId);
    if (peer === undefined) return;
    const failure: Failure = { reason: "PEER_NOT_FOUND", message: "the hub is no longer configured here" };
    peer.terminated = true;
    for (const stream of peer.streams) this.#life.end(now, stream, failure, false, out);
    this.#settle(now, peer, out);
    this.#peers.delete(hubId);
  }

  #inbound(now: Now, input: Extract<SessionInput, { kind: "inbound_opened" }>, out: SessionEffect[]): Peer | undefined {
    const { streamId } = input;
    const stream = this.#addStream(now, streamId, input.peer, true);
    const grace = this.#config.tokenGraceMs;
    stream.tokenEndsAt = input.expiresAtWall === 0 ? NEVER : now.mono + (input.expiresAtWall - now.wall) + grace;
    const peer = this.#peers.get(input.peer);
    const refusal = this.#stopped ? STOPPING : refusalOf(peer, this.#config);
    peer?.streams.add(stream);
    if (refusal !== undefined) this.#life.end(now, stream, refusal, refusal !== TERMINATED && refusal !== TOO_LOW, out);
    return peer;
  }

  #addStream(now: Now, streamId: number, peer: string, inbound: boolean): Stream {
    assert(!this.#streams.has(streamId), "stream number is used twice", { streamId });
    const stream = newStream(now, streamId, peer, inbound);
    this.#streams.set(streamId, stream);
    return stream;
  }

  /** onStream handles inputs that belong to one stream. One that is gone already makes nothing happen. */
  #onStream(now: Now, input: Extract<SessionInput, { readonly streamId: number }>, out: SessionEffect[]): Peer | undefined {
    const stream = this.#streams.get(input.streamId);
    if (stream === undefined) return undefined;
    const peer = this.#peers.get(stream.peer);
    if (input.kind === "stream_ended" || input.kind === "joined") {
      assert(input.kind === "stream_ended" || this.mayJoin(stream.streamId), "a session is no half of another", {
        streamId: stream.streamId,
      });
      if (stream.phase !== "draining" && input.kind === "stream_ended") this.#life.lose(now, stream, input.failure);
      this.#streams.delete(stream.streamId);
      peer?.streams.delete(stream);
      if (peer?.speaker === stream) peer.speaker = undefined;
      return peer;
    }
    if (peer === undefined || stream.phase === "draining") {
      // Our end is said already; a ping is still answered so that the other side can finish in peace.
      if (input.kind === "ping_received") this.#life.pong(input, out);
      return undefined;
    }
    if (input.kind.endsWith("_received")) this.#life.alive(now, stream, peer);
    this.#life.take(now, input, stream, peer, out);
    return peer;
  }

  /** settle brings a peer to rest: timeouts, election, dial, state. It is idempotent. */
  #settle(now: Now, peer: Peer, out: SessionEffect[]): void {
    for (const stream of peer.streams) {
      if (stream.skipped && isIdentified(stream) && !overtakes(peer.speaker, stream)) this.#life.end(now, stream, GAP, true, out);
      this.#timeouts(now, stream, out);
    }
    this.#elect(now, peer, out);
    assert(peer.current === undefined || peer.streams.has(peer.current), "the current session has a stream", { peer: peer.hubId });
    if (this.#dialDueAt(peer) <= now.mono) this.#dial(now, peer, out);
    const state = stateOf(peer, this.#config);
    if (state === peer.state) return;
    peer.state = state;
    peer.since = now.mono;
    out.push({ kind: "state", peer: peer.hubId, state });
  }

  #timeouts(now: Now, stream: Stream, out: SessionEffect[]): void {
    if (now.mono < streamDueAt(stream, this.#config)) return;
    const failure = timeoutOf(now, stream, this.#config);
    if (failure === undefined) this.#life.ping(now, stream, out);
    else this.#life.end(now, stream, failure, true, out);
  }

  /** elect chooses the current session (SM3 to SM6) and ends those that lost. */
  #elect(now: Now, peer: Peer, out: SessionEffect[]): void {
    const live = liveOf(peer.streams);
    const before = peer.current;
    let best = before?.phase === "operational" ? before : live[0];
    for (let moved = best !== undefined; moved; ) {
      const next = live.find((rival) => movesAt(best as Live, rival, this.#config) <= now.mono);
      moved = next !== undefined;
      best = next ?? best;
    }
    for (const stream of live)
      if (stream !== best && endsAt(stream, best as Live, this.#config) <= now.mono) this.#life.end(now, stream, REPLACED, false, out);
    if (best === before) return;
    peer.current = best;
    if (best !== undefined) {
      peer.everUp = true;
      out.push({ kind: "up", peer: peer.hubId, session: sessionOf(best), replaced: before === undefined ? undefined : sessionOf(before) });
    } else if (before !== undefined) {
      peer.synced = false;
      const failure = peer.failure ?? SILENT;
      out.push({ kind: "down", peer: peer.hubId, session: sessionOf(before), failure, willRetry: this.#mayDial(peer) });
    }
  }

  #mayDial(peer: Peer): boolean {
    return !this.#stopped && !peer.terminated && peer.dialable && peer.level >= this.#config.minLevel;
  }

  /** dialDueAt is when to dial; infinity while there is no reason to, or no way. */
  #dialDueAt(peer: Peer): number {
    if (!this.#mayDial(peer)) return NEVER;
    for (const { phase, inbound } of peer.streams) {
      if (phase === "dialing" || phase === "handshake") return NEVER;
      if (phase === "operational" && !(peer.redial && !inbound)) return NEVER;
    }
    const due = Math.max(this.#mono, peer.backoff.dueAt, peer.quietUntil);
    return this.#config.needsToken && peer.tokenEndsAt <= due ? NEVER : due;
  }

  #dial(now: Now, peer: Peer, out: SessionEffect[]): void {
    const streamId = this.allocate();
    const stream = this.#addStream(now, streamId, peer.hubId, false);
    stream.id = { dialer: this.#config.hubId, incarnation: this.#config.incarnation, n: streamId };
    stream.tokenEndsAt = this.#config.needsToken ? peer.tokenEndsAt + this.#config.tokenGraceMs : NEVER;
    stream.leaf = peer.leaf;
    peer.streams.add(stream);
    peer.attempts++;
    out.push({ kind: "dial", peer: peer.hubId, streamId, id: stream.id });
  }

  #dueOf(peer: Peer): number {
    let due = this.#dialDueAt(peer);
    const { current } = peer;
    for (const stream of peer.streams) {
      due = Math.min(due, streamDueAt(stream, this.#config));
      if (current === undefined || stream === current || stream.phase !== "operational") continue;
      due = Math.min(due, movesAt(current, stream as Live, this.#config), endsAt(stream as Live, current, this.#config));
    }
    return due;
  }
}

function sessionOf(stream: Live): PeerSession {
  return { id: stream.id, streamId: stream.streamId };
}
