import type { Outbound, RawMessage } from "#channel/call.ts";
import { NARROW_WINDOW_BYTES, WIDE_WINDOW_BYTES } from "#channel/windows.ts";
import type { Failure } from "#kernel/error.ts";
import { PeerSessions } from "#kernel/session/machine.ts";
import { DEFAULT_SESSION_TIMES, type PeerSession, type SessionEffect, type SessionId } from "#kernel/session/rules.ts";
import type { LinkCounters } from "#runtime/events.ts";
import type { PeerView } from "#runtime/peers.ts";
import { boundTo } from "#runtime/tokens/bound-to.ts";
import { type LimitedLogger, limitedEvents, limitedLogger } from "../log/limited.ts";
import { authorise, requireMethodRule } from "../rpc/access.ts";
import type { CallContext } from "../rpc/call.ts";
import { type Link, newLink } from "./link.ts";
import { type KnownPeer, LinkBook } from "./link-book.ts";
import { LinkControls } from "./link-controls.ts";
import { LinkReporter } from "./link-reporter.ts";
import type { LinkStatus, PeerLinks, PeerLinksOptions } from "./peer-links-api.ts";
import { SECOND_CONNECTION } from "./second-streams.ts";
import { type Envelope, type Frame, type SessionCodec, sessionCodec } from "./session-codec.ts";
import { acceptSession, dialSession } from "./session-ends.ts";
import { failureIn } from "./session-half.ts";
import { sumOf } from "./session-metrics.ts";
import { SessionPump } from "./session-pump.ts";
import type { SessionHandlers } from "./session-stream.ts";

export type { ConnectOptions, FeedHeadInit, LinkStatus, PeerLinks, PeerLinksOptions, SessionClient } from "./peer-links-api.ts";

const WITHDRAWN: Failure = { reason: "UNKNOWN_IDENTITY", message: "credentials were withdrawn; connect again with valid ones" };
/** Frames after at least this long a pause count as "heard again". */
const HEARD_PAUSE_MS = 1_000;

class Links<F extends Frame> implements PeerLinks<F> {
  readonly #o: PeerLinksOptions<F>;
  readonly #codec: SessionCodec<F>;
  readonly #fsm: PeerSessions;
  readonly #book: LinkBook<F>;
  readonly #pump: SessionPump;
  readonly #controls: LinkControls<F>;
  readonly #reporter: LinkReporter;
  /** For what a peer can cause as often as it likes. */
  readonly #log: LimitedLogger;
  readonly #events: ReturnType<typeof limitedEvents> | undefined;
  #stopped: PromiseWithResolvers<void> | undefined;

  constructor(options: PeerLinksOptions<F>) {
    this.#o = options;
    this.#codec = sessionCodec<F>(options.method);
    const { hubId, incarnation, packages, synchronises = false, clock, reporter } = options;
    const rule = requireMethodRule(options.method);
    const config = {
      ...DEFAULT_SESSION_TIMES,
      hubId,
      incarnation,
      packages,
      synchronises,
      minLevel: rule.minTrust,
      needsToken: !rule.tokenless,
      ...options.times,
    };
    const machine = new PeerSessions(config, options.prng, options.backoff);
    const book = new LinkBook(options, machine);
    this.#fsm = machine;
    this.#book = book;
    this.#pump = new SessionPump({ clock, machine, look: () => book.countBytes(), execute: (effect) => this.#execute(effect) });
    this.#controls = new LinkControls({ links: options, book, machine, pump: this.#pump });
    this.#reporter = new LinkReporter(clock, reporter === undefined ? undefined : () => reporter.report(book.reports()));
    this.#log = limitedLogger(options.log, clock);
    this.#events = options.events === undefined ? undefined : limitedEvents(options.events, clock);
  }

  setPeers(views: readonly PeerView[]): void {
    const wanted = new Set(views.map(({ hubId }) => hubId));
    for (const [hubId, known] of this.#book.known) {
      if (wanted.has(hubId)) continue;
      this.#pump.step({ kind: "peer_removed", peer: hubId });
      known.unsample();
      this.#book.known.delete(hubId);
    }
    for (const view of views) this.#setPeer(view);
    this.#reporter.soon();
  }

  #setPeer(view: PeerView): void {
    const { hubId } = view;
    const known = this.#book.known.get(hubId);
    const before = known?.view;
    if (known === undefined) this.#book.add(view, (type) => this.#limited(hubId, type));
    else known.view = view;
    // The end comes first: it voids the tokens too, and a peer that is told so instead would connect again.
    if (view.terminated) return this.#pump.step({ kind: "peer_terminated", peer: hubId });
    if (before !== undefined) this.#reauthorise(before, view);
    this.#followLeaf(view);
    const expiresAtWall = view.token?.expiresAtWall ?? 0;
    const leaf = view.token === undefined ? undefined : boundTo(view.token.jwt);
    this.#pump.step({ kind: "peer_wanted", peer: hubId, dialable: view.endpoint !== undefined, level: view.level, expiresAtWall, leaf });
    if (before === undefined) return;
    const { host, port, spiffeId } = view.endpoint ?? {};
    const old = before.endpoint;
    if (old !== undefined && host !== undefined && (old.host !== host || old.port !== port || old.spiffeId !== spiffeId))
      this.#pump.step({ kind: "redial", peer: hubId });
    if (view.wake > before.wake) this.#pump.step({ kind: "wake", peer: hubId });
  }

  /** followLeaf replaces the session when the token is for a renewed certificate of ours: the old session rests on the old one. */
  #followLeaf({ hubId, token }: PeerView): void {
    const known = this.#book.known.get(hubId);
    const leaf = token === undefined ? undefined : boundTo(token.jwt);
    if (known === undefined || leaf === undefined) return;
    if (known.leaf !== undefined && known.leaf !== leaf) this.#pump.step({ kind: "redial", peer: hubId });
    known.leaf = leaf;
  }

  /** reauthorise ends sessions that rest on something that was withdrawn (D-15): they must prove themselves again. */
  #reauthorise(before: PeerView, view: PeerView): void {
    const caGone = before.caPems.some((pem) => !view.caPems.includes(pem));
    const revoked = new Set(view.revoked.filter((thumbprint) => !before.revoked.includes(thumbprint)));
    for (const link of this.#book.links.values()) {
      if (link.peer !== view.hubId) continue;
      const { caller } = link;
      // On dialled sessions the peer's leaf is known to TLS only, so any revocation makes us look again.
      const leafGone = caller === undefined ? revoked.size > 0 : revoked.has(caller.thumbprint);
      const tokenVoid = caller !== undefined && link.checkedAtWall < view.minTokenIssuedAtWall;
      // What our token was for is void together with what the peer had here: another installation acts for it.
      const stranded = caller === undefined && view.token === undefined && view.minTokenIssuedAtWall > before.minTokenIssuedAtWall;
      if (caGone || leafGone || tokenVoid || stranded) this.#violated(link.streamId, WITHDRAWN, true);
    }
  }

  async accept(requests: AsyncIterable<Envelope<F>>, out: Outbound<Envelope<F>>, context: CallContext): Promise<void> {
    const { caller, token } = context;
    const streamId = this.#fsm.allocate();
    const link = newLink<F>(streamId, caller.hubId, context, this.#o.clock.wall());
    this.#book.links.set(streamId, link);
    const { stream, done } = acceptSession(requests, out, this.#handlers(link), this.#streamOptions());
    link.stream = stream;
    this.#pump.step({ kind: "inbound_opened", streamId, peer: caller.hubId, expiresAtWall: token?.expiresAtWall ?? 0 });
    return done;
  }

  send(peer: string, frame: F | RawMessage): boolean {
    return this.#book.currentStream(peer)?.send(frame) ?? false;
  }

  aheadBytes(peer: string): number {
    return this.#book.currentStream(peer)?.aheadBytes ?? Number.POSITIVE_INFINITY;
  }

  writable(peer: string): boolean {
    return this.#book.currentStream(peer)?.writable ?? false;
  }

  current(peer: string): PeerSession | undefined {
    return this.#fsm.current(peer);
  }

  synced(peer: string): void {
    this.#pump.step({ kind: "synced", peer });
  }

  probe(peer: string): void {
    this.#pump.step({ kind: "probe", peer });
  }

  redial(peer?: string): void {
    for (const hubId of this.#book.known.keys()) if (peer === undefined || peer === hubId) this.#pump.step({ kind: "redial", peer: hubId });
  }

  disconnect(peer: string, failure: Failure): void {
    const session = this.#fsm.current(peer);
    if (session !== undefined) this.#violated(session.streamId, failure, true);
  }

  status(): readonly LinkStatus[] {
    return this.#book.status();
  }

  counters(mount: string): readonly LinkCounters[] {
    return this.#book.counters(mount);
  }

  describe(): string {
    return this.#fsm.describe();
  }

  async stop(graceMs: number): Promise<void> {
    this.#pump.step({ kind: "stop" });
    if (this.#book.links.size > 0) {
      this.#stopped = Promise.withResolvers();
      const timer = this.#o.clock.setTimer(graceMs, () => {
        for (const { stream, streamId } of [...this.#book.links.values()]) {
          stream?.abort({ reason: "SHUTTING_DOWN", message: "the hub is shutting down; connect again" });
          if (stream === undefined) this.#ended(streamId, { reason: "SHUTTING_DOWN", message: "the dial was given up" });
        }
      });
      await this.#stopped.promise;
      timer.cancel();
    }
    this.#pump.stop();
    this.#reporter.stop();
    for (const { unsample } of this.#book.known.values()) unsample();
    this.#log.flush();
    this.#events?.flush();
    this.#book.known.clear();
  }

  #streamOptions() {
    const { clock, log, windowBytes, closeTimeoutMs, two = true } = this.#o;
    return {
      codec: this.#codec,
      clock,
      log,
      two,
      ...(windowBytes === undefined ? {} : { windowBytes }),
      ...(closeTimeoutMs === undefined ? {} : { closeTimeoutMs }),
    };
  }

  #execute(effect: SessionEffect): void {
    switch (effect.kind) {
      case "dial":
        return this.#dial(effect.peer, effect.streamId, effect.id);
      case "send_control":
        return this.#controls.send(effect.streamId, effect.frame);
      case "close":
        return this.#close(effect.streamId, effect.failure, effect.reconnect);
      case "up":
        this.#note(effect.peer, "up");
        this.#o.log.info({ service: this.#o.service, peer: effect.peer, session: effect.session.id }, "session is up");
        return this.#o.onUp(effect.peer, effect.session, effect.replaced);
      case "down":
        this.#note(effect.peer, "down");
        this.#warn(effect.peer, { failure: effect.failure, willRetry: effect.willRetry }, "session is down");
        return this.#o.onDown(effect.peer, effect.session, effect.failure, effect.willRetry);
      case "answered":
        this.#controls.met(this.#book.links.get(effect.streamId));
        return this.#reporter.later();
      case "state":
        return this.#note(effect.peer, effect.state.toLowerCase());
    }
  }

  #note(peer: string, event: string): void {
    const known = this.#book.known.get(peer);
    if (known !== undefined) known.lastEvent = event;
    this.#reporter.soon();
  }

  #dial(peer: string, streamId: number, id: SessionId): void {
    const view = this.#book.known.get(peer)?.view;
    const link = newLink<F>(streamId, peer, undefined, this.#o.clock.wall());
    this.#book.links.set(streamId, link);
    try {
      if (view === undefined) throw new Error("a peer without a view is dialled");
      const dial = (windowBytes: number) => {
        const client = this.#o.connect(view, { windowBytes });
        link.clients.push(client);
        return client.session(view.token === undefined ? {} : { metadata: { authorization: `Bearer ${view.token.jwt}` } });
      };
      const duplex = dial(NARROW_WINDOW_BYTES);
      const base = this.#streamOptions();
      const options = { ...base, two: base.two && this.#book.known.get(peer)?.seconds.two(this.#o.clock.mono()) !== false };
      link.stream = dialSession(duplex, this.#handlers(link), options, options.two ? () => dial(WIDE_WINDOW_BYTES) : undefined);
      this.#controls.send(streamId, { case: "open", id });
      duplex.opened.then(
        () => this.#controls.answered(link),
        () => undefined,
      );
    } catch (error) {
      this.#ended(streamId, failureIn(error));
    }
  }

  #close(streamId: number, failure: Failure, reconnect: boolean): void {
    const link = this.#book.links.get(streamId);
    if (link === undefined) return;
    const known = this.#book.known.get(link.peer);
    if (known !== undefined && failure.reason !== "SESSION_REPLACED") known.fatal++;
    this.#o.log.debug({ service: this.#o.service, peer: link.peer, failure }, "session is closed");
    this.#lookAtSecond(link, failure);
    // A stream on which nothing was said yet is given up: the call may not even be connected.
    if (link.caller === undefined && !link.opened) link.stream?.abort(failure);
    else link.stream?.close(failure, reconnect);
  }

  #ended(streamId: number, failure: Failure): void {
    const link = this.#book.links.get(streamId);
    if (link === undefined) return;
    const known = this.#book.known.get(link.peer);
    if (known !== undefined && link.stream !== undefined) known.past = sumOf(known.past, link.stream.counters);
    this.#lookAtSecond(link, failure);
    this.#book.links.delete(streamId);
    for (const client of link.clients) client.close();
    const half = link.stream?.unpaired === true;
    const why = half ? { ...failure, message: `the second connection cannot be opened: ${failure.message}` } : failure;
    this.#pump.step({ kind: "stream_ended", streamId, failure: why });
    // A dial that failed changes no state, but why it failed is news.
    this.#reporter.soon();
    if (this.#book.links.size === 0) this.#stopped?.resolve();
  }

  /** lookAtSecond notes, once, that a session did not come up because its second connection could not be opened. */
  #lookAtSecond(link: Link<F>, failure: Failure): void {
    const { peer, stream } = link;
    if (stream?.unpaired !== true || link.halved) return;
    link.halved = true;
    if (this.#book.known.get(peer)?.seconds.failed(this.#o.clock.mono()) !== true) return;
    this.#warn(peer, { failure }, "second connection cannot be opened; sessions have one");
    this.#events?.report(`${peer} second`, {
      kind: "SESSION",
      severity: "WARNING",
      peer,
      text: `${SECOND_CONNECTION}${peer} cannot be opened (${failure.message}); sessions have one for ten minutes, which carries less`,
      fields: { service: this.#o.service, reason: failure.reason },
    });
  }

  #violated(streamId: number, failure: Failure, reconnect: boolean): void {
    this.#pump.step({ kind: "violated", streamId, failure, reconnect });
  }

  #handlers(link: Link<F>): SessionHandlers<F> {
    const { streamId, peer } = link;
    return {
      onControl: (control) => {
        const known = this.#book.known.get(peer);
        if (known !== undefined) this.#heard(link, known, true);
        this.#controls.took(link, control);
      },
      check: (frame) => this.#check(link, frame),
      pace: (frame, bytes) => {
        const common = this.#codec.unwrap(frame) !== undefined;
        return this.#book.known
          .get(peer)
          ?.pace.took(common ? undefined : frame.frame.case, this.#codec.rule(frame)?.cost ?? "normal", bytes);
      },
      onFrame: (frame, bytes) => {
        const session = this.#fsm.frameOn(streamId);
        return session === undefined || !this.#book.known.has(peer) ? undefined : this.#o.onFrame(peer, session, frame, bytes);
      },
      onCredit: () => {
        if (this.#fsm.current(peer)?.streamId === streamId) this.#o.onCredit?.(peer);
      },
      onViolation: (failure) => {
        this.#warn(peer, { failure }, "peer broke the rules of a session");
        this.#violated(streamId, failure, false);
      },
      onEnd: (failure) => this.#ended(streamId, failure),
    };
  }

  #warn(peer: string, fields: object, message: string): void {
    this.#log.log("warn", peer, { service: this.#o.service, peer, ...fields }, message);
  }

  /** limited tells of a peer that is read more slowly than it sends. */
  #limited(peer: string, type: string): void {
    this.#warn(peer, { frame: type }, "peer sends too many frames and is read more slowly");
    const text = `${peer} sends more ${type} frames than it may and is read more slowly`;
    this.#events?.report(`${peer} ${type}`, {
      kind: "LIMIT",
      severity: "WARNING",
      peer,
      text,
      fields: { service: this.#o.service, frame: type },
    });
  }

  /** check authorises a frame by what the peer may do now, not by what it could when the stream was opened. */
  #check(link: Link<F>, frame: F): Failure | undefined {
    const known = this.#book.known.get(link.peer);
    const failure = authorise({ kind: "peer", level: known?.view.level ?? 0, role: 0 }, this.#codec.rule(frame));
    if (failure !== undefined || known === undefined) return failure;
    const problem = this.#codec.problem(frame);
    if (problem !== undefined || this.#codec.unwrap(frame) !== undefined) return problem;
    this.#heard(link, known, false);
    return this.#o.check?.(frame);
  }

  #heard(link: Link<F>, known: KnownPeer, common: boolean): void {
    const mono = this.#o.clock.mono();
    if (mono - known.lastFrameAt >= HEARD_PAUSE_MS) {
      known.heard++;
      this.#reporter.later();
    }
    known.lastFrameAt = mono;
    if (this.#fsm.heard(link.streamId, mono) && !common) this.#pump.step({ kind: "frame_received", streamId: link.streamId });
  }
}

/** createPeerLinks makes the sessions of one service; nothing runs before `setPeers`. It throws if the RPC is not of the common shape. */
export function createPeerLinks<F extends Frame>(options: PeerLinksOptions<F>): PeerLinks<F> {
  return new Links(options);
}
