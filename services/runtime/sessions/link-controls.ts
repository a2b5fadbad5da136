import type { SessionControl, SessionOpen } from "#gen/foedus/common/v1/session_pb.ts";
import { type Failure, fail } from "#kernel/error.ts";
import type { PeerSessions } from "#kernel/session/machine.ts";
import type { SessionEffect } from "#kernel/session/rules.ts";
import { bytesOf, endOf, type Link } from "./link.ts";
import type { LinkBook } from "./link-book.ts";
import type { MetRun, PeerLinksOptions } from "./peer-links-api.ts";
import type { Frame } from "./session-codec.ts";
import { failureIn, statedFailure } from "./session-half.ts";
import type { SessionPump } from "./session-pump.ts";
import type { ControlInit } from "./session-stream.ts";

type ControlFrame = Extract<SessionEffect, { kind: "send_control" }>["frame"];

const NOT_WAITED_FOR: Failure = {
  reason: "INVALID_FIELD",
  message: "no session of this name and certificate waits for its second stream",
  field: "open.second",
};
/** TAKEN ends a session that asks to be the second stream of another one. */
const TAKEN: Failure = {
  reason: "INVALID_FIELD",
  message: "a stream that carries a session already is no second stream of another",
  field: "open.second",
};

/**
 * So long before the certificate ends that the peer answered with, a session is replaced by a fresh one, once: a peer that has renewed it by
 * then is not lost for a moment. Longer than pings are apart, with which it is looked at.
 */
const RENEW_MS = 60_000;

/** ControlOptions are what controls work with. */
export interface ControlOptions<F extends Frame> {
  readonly links: PeerLinksOptions<F>;
  readonly book: LinkBook<F>;
  readonly machine: PeerSessions;
  readonly pump: SessionPump;
}

/** LinkControls sends and takes the control frames of sessions: open, ping and pong, refresh, terminated. */
export class LinkControls<F extends Frame> {
  readonly #o: PeerLinksOptions<F>;
  readonly #book: LinkBook<F>;
  readonly #fsm: PeerSessions;
  readonly #pump: SessionPump;

  constructor({ links, book, machine, pump }: ControlOptions<F>) {
    this.#o = links;
    this.#book = book;
    this.#fsm = machine;
    this.#pump = pump;
  }

  /** send sends a control frame, if its stream is still there. */
  send(streamId: number, frame: ControlFrame): void {
    const link = this.#book.links.get(streamId);
    const control = link === undefined ? undefined : this.#controlOf(link, frame);
    if (link !== undefined && frame.case === "ping") {
      link.counted = bytesOf(link);
      this.#renewBefore(link);
    }
    if (control !== undefined) link?.stream?.sendControl(control);
  }

  /** renewBefore replaces a session whose peer's certificate is about to end: by one with its next certificate, if it has one. */
  #renewBefore(link: Link<F>): void {
    const known = this.#book.known.get(link.peer);
    const end = endOf(link);
    if (known === undefined || known.renewedFor === end || this.#o.clock.wall() < end - RENEW_MS) return;
    const mono = this.#o.clock.mono();
    if (mono - known.renewedAt < RENEW_MS) return;
    known.renewedFor = end;
    known.renewedAt = mono;
    this.#pump.step({ kind: "redial", peer: link.peer });
  }

  #controlOf({ peer }: Link<F>, frame: ControlFrame): ControlInit | undefined {
    const { hubId, packages, software, runs } = this.#o;
    const run = runs === undefined ? {} : { run: runs.own };
    switch (frame.case) {
      case "open":
        return {
          case: "open",
          value: { hubId, incarnation: BigInt(frame.id.incarnation), n: BigInt(frame.id.n), packages: [...packages], software, ...run },
        };
      case "ping":
      case "pong":
        return { case: frame.case, value: { n: BigInt(frame.n), heads: [...(this.#o.heads?.(peer) ?? [])] } };
      case "refresh": {
        const jwt = this.#book.known.get(peer)?.view.token?.jwt;
        return jwt === undefined ? undefined : { case: "refresh", value: { token: jwt } };
      }
    }
  }

  /** took takes a control frame of a peer. */
  took(link: Link<F>, { frame }: SessionControl): void {
    const { streamId, peer } = link;
    switch (frame.case) {
      case "open": {
        if (frame.value.second && link.caller !== undefined) return this.#join(link, frame.value);
        // What a peer says is its answer as well, should the transport tell of that later.
        this.answered(link);
        link.run = this.#runOf(link, frame.value);
        this.met(link);
        const { hubId, packages } = frame.value;
        if (link.stream?.streams === 2) this.#book.known.get(peer)?.seconds.stood();
        const [incarnation, n] = [Number(frame.value.incarnation), Number(frame.value.n)];
        return this.#pump.step({ kind: "open_received", streamId, hubId, incarnation, n, packages });
      }
      case "ping":
      case "pong":
        this.#pump.step({ kind: frame.case === "ping" ? "ping_received" : "pong_received", streamId, n: Number(frame.value.n) });
        if (this.#book.known.has(peer) && !this.#fsm.overtaken(streamId))
          this.#o.onHeads?.(peer, frame.value.heads, this.#fsm.status(peer)?.rttMs ?? -1);
        return;
      case "refresh":
        return void this.#refreshed(link, frame.value.token);
      case "terminated":
        return this.#pump.step({
          kind: "terminated_received",
          streamId,
          failure: statedFailure(frame.value),
          reconnect: frame.value.reconnect,
        });
      default:
        return;
    }
  }

  /** answered notes that a dial was answered. */
  answered(link: Link<F>): void {
    if (link.opened) return;
    link.opened = true;
    this.#pump.step({ kind: "dial_opened", streamId: link.streamId });
  }

  /** met tells which process of the peer a stream leads to. */
  met(link: Link<F> | undefined): void {
    if (link?.run !== undefined) this.#o.runs?.met(link.peer, link.run);
  }

  /** runOf is the process that says an open; of an acceptor that does not name itself nothing is known, as the incarnation is ours. */
  #runOf({ caller, context, peer }: Link<F>, { run, incarnation }: SessionOpen): MetRun | undefined {
    if (run.length === 0 && caller === undefined) return undefined;
    const address = context === undefined ? this.#book.known.get(peer)?.view.endpoint?.host : context.remote;
    return { run: Buffer.from(run).toString("hex"), incarnation: caller === undefined ? 0 : Number(incarnation), address };
  }

  /**
   * join takes an accepted stream as the second one of a session. It must come with the certificate of the first, name the session of
   * the first, and be the one that the first waits for; so nobody else can become a half of it, and there is one half for each at most.
   * Its first frame must say so: a stream that is a session by itself would leave that one without a stream, and up for ever.
   */
  #join(link: Link<F>, { hubId, incarnation, n }: SessionOpen): void {
    const { streamId, peer, caller } = link;
    if (!this.#fsm.mayJoin(streamId)) return this.#violated(streamId, TAKEN);
    const first = [...this.#book.links.values()].find(({ stream, caller: other, streamId: candidate }) => {
      if (stream?.waiting !== true || other?.hubId !== peer || other.thumbprint !== caller?.thumbprint) return false;
      const id = this.#fsm.sessionOn(candidate)?.id;
      return id?.dialer === hubId && BigInt(id.incarnation) === incarnation && BigInt(id.n) === n;
    });
    if (first === undefined || link.stream === undefined) return this.#violated(streamId, NOT_WAITED_FOR);
    this.#book.links.delete(streamId);
    this.#pump.step({ kind: "joined", streamId });
    first.stream?.join(link.stream);
    // From now on little goes back on the first connection, and little comes on the second.
    first.context?.widen?.();
  }

  /**
   * refreshed takes a renewed token. One that does not verify changes nothing: the session lives as long as the old one. A peer that has
   * renewed its certificate sends one that this session cannot have, until it has dialled again: that is said once, and is no fault.
   */
  async #refreshed(link: Link<F>, jwt: string): Promise<void> {
    const { caller, peer, streamId } = link;
    if (caller === undefined || this.#o.tokens === undefined) return;
    try {
      const token = await this.#o.tokens.verify(jwt, caller.thumbprint);
      if (token.hubId !== peer) throw fail("TOKEN_INVALID", "the token was issued to another hub");
      link.checkedAtWall = this.#o.clock.wall();
      this.#pump.step({ kind: "token_refreshed", streamId, expiresAtWall: token.expiresAtWall });
    } catch (error) {
      const level = link.refused ? "debug" : "info";
      link.refused = true;
      this.#o.log[level]({ service: this.#o.service, peer, failure: failureIn(error) }, "renewed token is not for this session");
    }
  }

  #violated(streamId: number, failure: Failure): void {
    this.#pump.step({ kind: "violated", streamId, failure, reconnect: true });
  }
}
