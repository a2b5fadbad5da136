import { unreachable } from "../assert.ts";
import type { Failure } from "../error.ts";
import type { Now } from "../instant.ts";
import { openFailure, type Peer, REPLACED, STOPPING, TERMINATED } from "./peer.ts";
import { liveOf, type SessionConfig, type SessionEffect, type SessionId, type SessionInput, type Stream } from "./rules.ts";

/** LiveInput is what happens on a stream that is not over. */
export type LiveInput = Exclude<Extract<SessionInput, { readonly streamId: number }>, { kind: "stream_ended" | "joined" }>;

/** StreamLife leads single streams from the handshake over pings to the end. Which of them is used is not decided here. */
export class StreamLife {
  readonly #config: SessionConfig;
  readonly #peers: ReadonlyMap<string, Peer>;
  #lastPing = 0;

  constructor(config: SessionConfig, peers: ReadonlyMap<string, Peer>) {
    this.#config = config;
    this.#peers = peers;
  }

  /** take does what an input on a stream that is not ending means. */
  take(now: Now, input: LiveInput, stream: Stream, peer: Peer, out: SessionEffect[]): void {
    switch (input.kind) {
      case "dial_opened":
        if (stream.phase === "dialing") {
          this.#enter(now, stream, "handshake");
          out.push({ kind: "send_control", streamId: stream.streamId, frame: { case: "open", id: stream.id as SessionId } });
        }
        return;
      case "open_received":
        return this.#open(now, input, stream, peer, out);
      case "ping_received":
        this.#confirm(now, stream, out);
        if (this.#isOpen(now, stream, out)) this.pong(input, out);
        return;
      case "pong_received":
        this.#confirm(now, stream, out);
        if (stream.ping?.n !== input.n) return;
        stream.confirmed = true;
        if (peer.displaced && !stream.inbound && now.mono - stream.since >= this.#config.pingIntervalMs) {
          peer.displaced = false;
          peer.backoff.succeeded();
        }
        peer.rttMs = now.mono - stream.ping.sentAt;
        stream.ping = undefined;
        out.push({ kind: "answered", peer: peer.hubId, streamId: stream.streamId, rttMs: peer.rttMs });
        return;
      case "frame_received":
        this.#confirm(now, stream, out);
        this.#isOpen(now, stream, out);
        return;
      case "terminated_received":
        if (!input.reconnect && input.failure.reason !== "SESSION_REPLACED") peer.quietUntil = now.mono + this.#config.quietMs;
        return this.end(now, stream, input.failure, input.reconnect, out);
      case "violated":
        return this.end(now, stream, input.failure, input.reconnect, out);
      case "token_refreshed":
        stream.tokenEndsAt = now.mono + (input.expiresAtWall - now.wall) + this.#config.tokenGraceMs;
        return;
      case "inbound_opened":
        return;
      default:
        unreachable(input);
    }
  }

  /** alive notes an authenticated frame: it wakes one dial and resets nothing (SM8). */
  alive(now: Now, stream: Stream, peer: Peer): void {
    stream.lastFrameAt = now.mono;
    if (!stream.inbound || peer.current !== undefined) return;
    peer.quietUntil = Number.NEGATIVE_INFINITY;
    peer.backoff.wake(now.mono);
  }

  /** pong answers a ping. */
  pong(input: { readonly streamId: number; readonly n: number }, out: SessionEffect[]): void {
    out.push({ kind: "send_control", streamId: input.streamId, frame: { case: "pong", n: input.n } });
  }

  /** refresh passes a token that is newer than the one of a dialled session on to it, if that shows the certificate that the token is for. */
  refresh(stream: Stream, peer: Peer, out: SessionEffect[]): void {
    const endsAt = peer.tokenEndsAt + this.#config.tokenGraceMs;
    if (stream.inbound || stream.leaf !== peer.leaf || stream.tokenEndsAt >= endsAt) return;
    stream.tokenEndsAt = endsAt;
    out.push({ kind: "send_control", streamId: stream.streamId, frame: { case: "refresh" } });
  }

  /** ping asks for a sign of life, or asks again: over a slow link both hubs may wait for pongs behind a long frame, and would hear nothing. */
  ping(now: Now, stream: Stream, out: SessionEffect[]): void {
    stream.ping ??= { n: ++this.#lastPing, sentAt: now.mono };
    stream.nextPingAt = now.mono + this.#config.pingIntervalMs;
    stream.askAgainAt = now.mono + this.#config.pongTimeoutMs / 2;
    out.push({ kind: "send_control", streamId: stream.streamId, frame: { case: "ping", n: stream.ping.n } });
  }

  /** end begins the end of a stream from our side. */
  end(now: Now, stream: Stream, failure: Failure, reconnect: boolean, out: SessionEffect[]): void {
    if (stream.phase === "draining") return;
    this.lose(now, stream, failure);
    this.#enter(now, stream, "draining");
    out.push({ kind: "close", streamId: stream.streamId, failure, reconnect });
  }

  /** lose does the accounts of a stream that is of no more use. */
  lose(now: Now, stream: Stream, failure: Failure): void {
    const peer = this.#peers.get(stream.peer);
    if (peer === undefined) return;
    const superseded = failure.reason === "SESSION_REPLACED" && liveOf(peer.streams).some((other) => other !== stream);
    if (!superseded) peer.failure = failure;
    if (!superseded && !stream.inbound && failure.reason === "SESSION_REPLACED") peer.displaced = true;
    if (!superseded && !stream.inbound && failure !== TERMINATED && failure !== STOPPING) peer.backoff.failed(now.mono);
    this.#enter(now, stream, "draining");
  }

  #open(now: Now, input: Extract<SessionInput, { kind: "open_received" }>, stream: Stream, peer: Peer, out: SessionEffect[]): void {
    const id: SessionId = { dialer: stream.inbound ? peer.hubId : this.#config.hubId, incarnation: input.incarnation, n: input.n };
    const failure = openFailure(input, id, stream, peer, this.#config);
    if (failure !== undefined) return this.end(now, stream, failure, failure.reason === "SESSION_REPLACED", out);
    if (!stream.inbound) {
      this.#operational(now, stream, out);
      this.refresh(stream, peer, out);
      if (!peer.displaced) peer.backoff.succeeded();
      peer.redial = false;
      return;
    }
    for (const other of peer.streams)
      if (other !== stream && other.inbound && other.id !== undefined && other.id.incarnation < id.incarnation)
        this.end(now, other, REPLACED, false, out);
    stream.id = id;
    out.push({ kind: "send_control", streamId: stream.streamId, frame: { case: "open", id } });
  }

  /** isOpen ends a stream on which a frame came before the open. */
  #isOpen(now: Now, stream: Stream, out: SessionEffect[]): boolean {
    if (stream.phase === "operational") return true;
    this.end(now, stream, { reason: "INVALID_FIELD", message: "the first frame of a session is its open", field: "open" }, true, out);
    return false;
  }

  /** confirm finishes the handshake of an inbound stream: a frame after the opens shows that ours arrived. */
  #confirm(now: Now, stream: Stream, out: SessionEffect[]): void {
    if (!stream.inbound || stream.phase !== "handshake" || stream.id === undefined) return;
    this.#operational(now, stream, out);
  }

  #operational(now: Now, stream: Stream, out: SessionEffect[]): void {
    this.#enter(now, stream, "operational");
    this.ping(now, stream, out);
  }

  #enter(now: Now, stream: Stream, phase: Stream["phase"]): void {
    stream.phase = phase;
    stream.since = now.mono;
  }
}
