import { NARROW_WINDOW_BYTES, WIDE_WINDOW_BYTES } from "#channel/windows.ts";
import type { SessionControl, SessionOpen } from "#gen/foedus/common/v1/session_pb.ts";
import { type Failure, fail } from "#kernel/error.ts";
import { PeerSessions } from "#kernel/session/machine.ts";
import { DEFAULT_SESSION_TIMES, type PeerSession, type SessionEffect, type SessionId, type SessionInput } from "#kernel/session/rules.ts";
import type { Timer } from "#runtime/clock.ts";
import type { LinkCounters } from "#runtime/events.ts";
import type { PeerView, SessionReport } from "#runtime/peers.ts";
import { boundTo } from "#runtime/tokens/bound-to.ts";
import { type LimitedLogger, limitedEvents, limitedLogger } from "../log/limited.ts";
import { authorise, requireMethodRule } from "../rpc/access.ts";
import type { CallContext, Caller, Outbound, RawMessage } from "../rpc/call.ts";
import { FramePace } from "./frame-pace.ts";
import type { LinkStatus, MetRun, PeerLinks, PeerLinksOptions, SessionClient } from "./peer-links-api.ts";
import { SECOND_CONNECTION, SecondStreams } from "./second-streams.ts";
import { type Envelope, type Frame, type SessionCodec, sessionCodec } from "./session-codec.ts";
import { ageOf, NO_COUNTS, SessionMetrics, sumOf } from "./session-metrics.ts";
import {
  acceptSession,
  type ControlInit,
  dialSession,
  failureIn,
  type SessionHandlers,
  type SessionStream,
  type StreamCounters,
  statedFailure,
} from "./session-stream.ts";

export type { ConnectOptions, FeedHeadInit, LinkStatus, PeerLinks, PeerLinksOptions, SessionClient } from "./peer-links-api.ts";

interface Link<F extends Frame> {
  readonly streamId: number;
  readonly peer: string;
  stream: SessionStream<F> | undefined;
  /** Clients of the connections that we dialled. */
  readonly clients: SessionClient<F>[];
  /** The call, on inbound streams, and who called. */
  readonly context: CallContext | undefined;
  readonly caller: Caller | undefined;
  /** Bytes that had come over its connections when they were last counted. */
  counted: number;
  /** False until a dial was answered. */
  opened: boolean;
  /** Wall ms at which the credentials of the peer were last checked on this stream. */
  checkedAtWall: number;
  /** Process of the peer that opened it or answered, if it said which. */
  run: MetRun | undefined;
  /** A renewed token was refused on it, and that was said. */
  refused: boolean;
  /** It did not come up for want of its second stream. */
  halved: boolean;
}

interface Known {
  view: PeerView;
  lastFrameAt: number;
  heard: number;
  lastEvent: string;
  fatal: number;
  /** Counts of streams that are over. */
  past: StreamCounters;
  readonly unsample: () => void;
  readonly pace: FramePace;
  /** End of the peer's certificate, wall ms, before which its session was replaced. */
  renewedFor: number;
  /** When that was, mono ms: a peer that answers with ever other certificates near their end has no session replaced for each. */
  renewedAt: number;
  /** Certificate of ours that the newest token is bound to. */
  leaf: string | undefined;
  readonly seconds: SecondStreams;
}

const WITHDRAWN: Failure = { reason: "UNKNOWN_IDENTITY", message: "credentials were withdrawn; connect again with valid ones" };
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
/** Frames after at least this long a pause count as "heard again". */
const HEARD_PAUSE_MS = 1_000;
/** That a peer was heard of, and how long a ping took, is told this late: on idle links it is all there is to tell, and each telling costs a call. */
const HEARD_REPORT_MS = 5_000;
/** So many bytes since they were last counted are a sign of life, as a frame is: the least slow of links carries more in the time of a ping. */
const ALIVE_BYTES = 4 * 1024;

/** bytesOf counts what has come over the connections of a link. */
function bytesOf<F extends Frame>({ context, clients }: Link<F>): number {
  return clients.reduce((sum, client) => sum + (client.bytesRead?.() ?? 0), context?.bytesRead?.() ?? 0);
}

/**
 * So long before the certificate ends that the peer answered with, a session is replaced by a fresh one, once: a peer that has renewed it by
 * then is not lost for a moment. Longer than pings are apart, with which it is looked at.
 */
const RENEW_MS = 60_000;

/** endOf is when the first of the connections of a link that we dialled ends with the certificate of the peer, wall ms. */
function endOf<F extends Frame>({ clients }: Link<F>): number {
  return Math.min(Number.POSITIVE_INFINITY, ...clients.map((client) => client.endsAtWall?.() ?? Number.POSITIVE_INFINITY));
}

class Links<F extends Frame> implements PeerLinks<F> {
  readonly #o: PeerLinksOptions<F>;
  readonly #codec: SessionCodec<F>;
  readonly #fsm: PeerSessions;
  readonly #metrics: SessionMetrics;
  /** For what a peer can cause as often as it likes. */
  readonly #log: LimitedLogger;
  readonly #events: ReturnType<typeof limitedEvents> | undefined;
  readonly #links = new Map<number, Link<F>>();
  readonly #known = new Map<string, Known>();
  /** Inputs that came while one was being handled (D1). */
  readonly #inputs: SessionInput[] = [];
  #busy = false;
  #timer: Timer | undefined;
  #armedFor = Number.POSITIVE_INFINITY;
  #reporting = false;
  #laterTimer: Timer | undefined;
  #stopped: PromiseWithResolvers<void> | undefined;

  constructor(options: PeerLinksOptions<F>) {
    this.#o = options;
    this.#codec = sessionCodec<F>(options.method);
    const { hubId, incarnation, packages, synchronises = false } = options;
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
    this.#fsm = new PeerSessions(config, options.prng, options.backoff);
    this.#metrics = new SessionMetrics(options.metrics, options.service);
    this.#log = limitedLogger(options.log, options.clock);
    this.#events = options.events === undefined ? undefined : limitedEvents(options.events, options.clock);
  }

  setPeers(views: readonly PeerView[]): void {
    const wanted = new Set(views.map(({ hubId }) => hubId));
    for (const [hubId, known] of this.#known) {
      if (wanted.has(hubId)) continue;
      this.#step({ kind: "peer_removed", peer: hubId });
      known.unsample();
      this.#known.delete(hubId);
    }
    for (const view of views) this.#setPeer(view);
    this.#report();
  }

  #setPeer(view: PeerView): void {
    const { hubId } = view;
    const known = this.#known.get(hubId);
    const before = known?.view;
    if (known === undefined) this.#known.set(hubId, this.#newKnown(view));
    else known.view = view;
    // The end comes first: it voids the tokens too, and a peer that is told so instead would connect again.
    if (view.terminated) return this.#step({ kind: "peer_terminated", peer: hubId });
    if (before !== undefined) this.#reauthorise(before, view);
    this.#followLeaf(view);
    const expiresAtWall = view.token?.expiresAtWall ?? 0;
    const leaf = view.token === undefined ? undefined : boundTo(view.token.jwt);
    this.#step({ kind: "peer_wanted", peer: hubId, dialable: view.endpoint !== undefined, level: view.level, expiresAtWall, leaf });
    if (before === undefined) return;
    const { host, port, spiffeId } = view.endpoint ?? {};
    const old = before.endpoint;
    if (old !== undefined && host !== undefined && (old.host !== host || old.port !== port || old.spiffeId !== spiffeId))
      this.#step({ kind: "redial", peer: hubId });
    if (view.wake > before.wake) this.#step({ kind: "wake", peer: hubId });
  }

  /** followLeaf replaces the session when the token is for a renewed certificate of ours: the old session rests on the old one. */
  #followLeaf({ hubId, token }: PeerView): void {
    const known = this.#known.get(hubId);
    const leaf = token === undefined ? undefined : boundTo(token.jwt);
    if (known === undefined || leaf === undefined) return;
    if (known.leaf !== undefined && known.leaf !== leaf) this.#step({ kind: "redial", peer: hubId });
    known.leaf = leaf;
  }

  /** reauthorise ends sessions that rest on something that was withdrawn (D-15): they must prove themselves again. */
  #reauthorise(before: PeerView, view: PeerView): void {
    const caGone = before.caPems.some((pem) => !view.caPems.includes(pem));
    const revoked = new Set(view.revoked.filter((thumbprint) => !before.revoked.includes(thumbprint)));
    for (const link of this.#links.values()) {
      if (link.peer !== view.hubId) continue;
      const { caller } = link;
      // On dialled sessions the peer's leaf is known to TLS only, so any revocation makes us look again.
      const leafGone = caller === undefined ? revoked.size > 0 : revoked.has(caller.thumbprint);
      const tokenVoid = caller !== undefined && link.checkedAtWall < view.minTokenIssuedAtWall;
      if (caGone || leafGone || tokenVoid) this.#violated(link.streamId, WITHDRAWN, true);
    }
  }

  #newKnown(view: PeerView): Known {
    const { hubId } = view;
    const unsample = this.#metrics.add(hubId, () => {
      const status = this.#fsm.status(hubId);
      return {
        ...this.#totals(hubId),
        state: status?.state ?? "INIT",
        rttMs: status?.rttMs ?? -1,
        attempts: status?.attempts ?? 0,
        limited: this.#known.get(hubId)?.pace.limited ?? 0,
        streams: this.#currentStream(hubId)?.streams ?? 0,
        lastFrameAgeMs: ageOf(this.#o.clock.mono(), this.#known.get(hubId)?.lastFrameAt ?? Number.NEGATIVE_INFINITY),
      };
    });
    return {
      view,
      lastFrameAt: Number.NEGATIVE_INFINITY,
      heard: 0,
      lastEvent: "configured",
      fatal: 0,
      past: NO_COUNTS,
      unsample,
      pace: new FramePace(this.#o.clock, (type) => this.#limited(hubId, type)),
      renewedFor: 0,
      renewedAt: Number.NEGATIVE_INFINITY,
      leaf: view.token === undefined ? undefined : boundTo(view.token.jwt),
      seconds: new SecondStreams(),
    };
  }

  async accept(requests: AsyncIterable<Envelope<F>>, out: Outbound<Envelope<F>>, context: CallContext): Promise<void> {
    const { caller, token } = context;
    const streamId = this.#fsm.allocate();
    const link: Link<F> = {
      streamId,
      peer: caller.hubId,
      context,
      caller,
      opened: true,
      stream: undefined,
      clients: [],
      counted: 0,
      checkedAtWall: this.#o.clock.wall(),
      run: undefined,
      refused: false,
      halved: false,
    };
    this.#links.set(streamId, link);
    const { stream, done } = acceptSession(requests, out, this.#handlers(link), this.#streamOptions());
    link.stream = stream;
    this.#step({ kind: "inbound_opened", streamId, peer: caller.hubId, expiresAtWall: token?.expiresAtWall ?? 0 });
    return done;
  }

  send(peer: string, frame: F | RawMessage): boolean {
    return this.#currentStream(peer)?.send(frame) ?? false;
  }

  aheadBytes(peer: string): number {
    return this.#currentStream(peer)?.aheadBytes ?? Number.POSITIVE_INFINITY;
  }

  writable(peer: string): boolean {
    return this.#currentStream(peer)?.writable ?? false;
  }

  current(peer: string): PeerSession | undefined {
    return this.#fsm.current(peer);
  }

  synced(peer: string): void {
    this.#step({ kind: "synced", peer });
  }

  probe(peer: string): void {
    this.#step({ kind: "probe", peer });
  }

  redial(peer?: string): void {
    for (const hubId of this.#known.keys()) if (peer === undefined || peer === hubId) this.#step({ kind: "redial", peer: hubId });
  }

  disconnect(peer: string, failure: Failure): void {
    const session = this.#fsm.current(peer);
    if (session !== undefined) this.#violated(session.streamId, failure, true);
  }

  status(): readonly LinkStatus[] {
    const mono = this.#o.clock.mono();
    return [...this.#known].flatMap(([hubId, { lastFrameAt }]) => {
      const status = this.#fsm.status(hubId);
      if (status === undefined) return [];
      const { state, since, current, rttMs, attempts, failure } = status;
      return [
        { hubId, state, sinceMs: mono - since, session: current?.id, lastFrameAgeMs: ageOf(mono, lastFrameAt), rttMs, attempts, failure },
      ];
    });
  }

  counters(mount: LinkCounters["mount"]): readonly LinkCounters[] {
    const mono = this.#o.clock.mono();
    return [...this.#known].map(([peer, { lastFrameAt, lastEvent, fatal }]) => {
      const { framesIn, framesOut, bytesIn, bytesOut, stalls, resumes } = this.#totals(peer);
      const waiting = this.#fsm.current(peer) !== undefined && !this.writable(peer);
      return {
        peer,
        mount,
        framesIn,
        framesOut,
        bytesIn,
        bytesOut,
        ready: resumes,
        backpressure: stalls,
        fatal,
        waiting,
        lastEvent,
        lastFrameAgeMs: ageOf(mono, lastFrameAt),
      };
    });
  }

  describe(): string {
    return this.#fsm.describe();
  }

  async stop(graceMs: number): Promise<void> {
    this.#step({ kind: "stop" });
    if (this.#links.size > 0) {
      this.#stopped = Promise.withResolvers();
      const timer = this.#o.clock.setTimer(graceMs, () => {
        for (const { stream, streamId } of [...this.#links.values()]) {
          stream?.abort({ reason: "SHUTTING_DOWN", message: "the hub is shutting down; connect again" });
          if (stream === undefined) this.#ended(streamId, { reason: "SHUTTING_DOWN", message: "the dial was given up" });
        }
      });
      await this.#stopped.promise;
      timer.cancel();
    }
    this.#timer?.cancel();
    this.#laterTimer?.cancel();
    for (const { unsample } of this.#known.values()) unsample();
    this.#log.flush();
    this.#events?.flush();
    this.#known.clear();
  }

  #currentStream(peer: string): SessionStream<F> | undefined {
    const session = this.#fsm.current(peer);
    return session === undefined ? undefined : this.#links.get(session.streamId)?.stream;
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

  /** step gives the state machine an input and does what it asks for; inputs that this causes wait their turn (D1). */
  #step(input: SessionInput): void {
    this.#inputs.push(input);
    if (!this.#busy) this.#pump();
  }

  #pump(tick = false): void {
    this.#busy = true;
    const out: SessionEffect[] = [];
    try {
      if (tick || this.#o.clock.mono() >= this.#armedFor) this.#countBytes();
      if (tick) this.#fsm.tick(this.#o.clock.now(), out);
      this.#executeAll(out);
      for (let input = this.#inputs.shift(); input !== undefined; input = this.#inputs.shift()) {
        this.#fsm.step(this.#o.clock.now(), input, out);
        this.#executeAll(out);
      }
    } finally {
      this.#busy = false;
    }
    this.#arm();
  }

  /** countBytes takes bytes for a sign of life when it is time to look: over a slow link a long frame is under way for longer than that. */
  #countBytes(): void {
    const mono = this.#o.clock.mono();
    for (const link of this.#links.values()) {
      const bytes = bytesOf(link);
      if (bytes - link.counted < ALIVE_BYTES) continue;
      link.counted = bytes;
      this.#fsm.heard(link.streamId, mono);
    }
  }

  #executeAll(out: SessionEffect[]): void {
    for (const effect of out.splice(0)) this.#execute(effect);
  }

  #arm(): void {
    const due = this.#fsm.deadline();
    if (due === undefined || due >= this.#armedFor) return;
    this.#timer?.cancel();
    this.#armedFor = due;
    this.#timer = this.#o.clock.setTimer(Math.max(0, due - this.#o.clock.mono()), () => {
      this.#armedFor = Number.POSITIVE_INFINITY;
      this.#pump(true);
    });
  }

  #execute(effect: SessionEffect): void {
    switch (effect.kind) {
      case "dial":
        return this.#dial(effect.peer, effect.streamId, effect.id);
      case "send_control":
        return this.#sendControl(effect.streamId, effect.frame);
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
        this.#met(this.#links.get(effect.streamId));
        return this.#reportLater();
      case "state":
        return this.#note(effect.peer, effect.state.toLowerCase());
    }
  }

  #met(link: Link<F> | undefined): void {
    if (link?.run !== undefined) this.#o.runs?.met(link.peer, link.run);
  }

  /** runOf is the process that says an open; of an acceptor that does not name itself nothing is known, as the incarnation is ours. */
  #runOf({ caller, context, peer }: Link<F>, { run, incarnation }: SessionOpen): MetRun | undefined {
    if (run.length === 0 && caller === undefined) return undefined;
    const address = context === undefined ? this.#known.get(peer)?.view.endpoint?.host : context.remote;
    return { run: Buffer.from(run).toString("hex"), incarnation: caller === undefined ? 0 : Number(incarnation), address };
  }

  #note(peer: string, event: string): void {
    const known = this.#known.get(peer);
    if (known !== undefined) known.lastEvent = event;
    this.#report();
  }

  #dial(peer: string, streamId: number, id: SessionId): void {
    const view = this.#known.get(peer)?.view;
    const link: Link<F> = {
      streamId,
      peer,
      context: undefined,
      caller: undefined,
      opened: false,
      stream: undefined,
      clients: [],
      counted: 0,
      checkedAtWall: this.#o.clock.wall(),
      run: undefined,
      refused: false,
      halved: false,
    };
    this.#links.set(streamId, link);
    try {
      if (view === undefined) throw new Error("a peer without a view is dialled");
      const dial = (windowBytes: number) => {
        const client = this.#o.connect(view, { windowBytes });
        link.clients.push(client);
        return client.session(view.token === undefined ? {} : { metadata: { authorization: `Bearer ${view.token.jwt}` } });
      };
      const duplex = dial(NARROW_WINDOW_BYTES);
      const base = this.#streamOptions();
      const options = { ...base, two: base.two && this.#known.get(peer)?.seconds.two(this.#o.clock.mono()) !== false };
      link.stream = dialSession(duplex, this.#handlers(link), options, options.two ? () => dial(WIDE_WINDOW_BYTES) : undefined);
      this.#sendControl(streamId, { case: "open", id });
      duplex.opened.then(
        () => this.#answered(link),
        () => undefined,
      );
    } catch (error) {
      this.#ended(streamId, failureIn(error));
    }
  }

  #answered(link: Link<F>): void {
    if (link.opened) return;
    link.opened = true;
    this.#step({ kind: "dial_opened", streamId: link.streamId });
  }

  #sendControl(streamId: number, frame: Extract<SessionEffect, { kind: "send_control" }>["frame"]): void {
    const link = this.#links.get(streamId);
    const control = link === undefined ? undefined : this.#controlOf(link, frame);
    if (link !== undefined && frame.case === "ping") {
      link.counted = bytesOf(link);
      this.#renewBefore(link);
    }
    if (control !== undefined) link?.stream?.sendControl(control);
  }

  /** renewBefore replaces a session whose peer's certificate is about to end: by one with its next certificate, if it has one. */
  #renewBefore(link: Link<F>): void {
    const known = this.#known.get(link.peer);
    const end = endOf(link);
    if (known === undefined || known.renewedFor === end || this.#o.clock.wall() < end - RENEW_MS) return;
    const mono = this.#o.clock.mono();
    if (mono - known.renewedAt < RENEW_MS) return;
    known.renewedFor = end;
    known.renewedAt = mono;
    this.#step({ kind: "redial", peer: link.peer });
  }

  #controlOf({ peer }: Link<F>, frame: Extract<SessionEffect, { kind: "send_control" }>["frame"]): ControlInit | undefined {
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
        const jwt = this.#known.get(peer)?.view.token?.jwt;
        return jwt === undefined ? undefined : { case: "refresh", value: { token: jwt } };
      }
    }
  }

  #close(streamId: number, failure: Failure, reconnect: boolean): void {
    const link = this.#links.get(streamId);
    if (link === undefined) return;
    const known = this.#known.get(link.peer);
    if (known !== undefined && failure.reason !== "SESSION_REPLACED") known.fatal++;
    this.#o.log.debug({ service: this.#o.service, peer: link.peer, failure }, "session is closed");
    this.#lookAtSecond(link, failure);
    // A stream on which nothing was said yet is given up: the call may not even be connected.
    if (link.caller === undefined && !link.opened) link.stream?.abort(failure);
    else link.stream?.close(failure, reconnect);
  }

  #ended(streamId: number, failure: Failure): void {
    const link = this.#links.get(streamId);
    if (link === undefined) return;
    const known = this.#known.get(link.peer);
    if (known !== undefined && link.stream !== undefined) known.past = sumOf(known.past, link.stream.counters);
    this.#lookAtSecond(link, failure);
    this.#links.delete(streamId);
    for (const client of link.clients) client.close();
    const half = link.stream?.unpaired === true;
    const why = half ? { ...failure, message: `the second connection cannot be opened: ${failure.message}` } : failure;
    this.#step({ kind: "stream_ended", streamId, failure: why });
    // A dial that failed changes no state, but why it failed is news.
    this.#report();
    if (this.#links.size === 0) this.#stopped?.resolve();
  }

  /** lookAtSecond notes, once, that a session did not come up because its second connection could not be opened. */
  #lookAtSecond(link: Link<F>, failure: Failure): void {
    const { peer, stream } = link;
    if (stream?.unpaired !== true || link.halved) return;
    link.halved = true;
    if (this.#known.get(peer)?.seconds.failed(this.#o.clock.mono()) !== true) return;
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
    this.#step({ kind: "violated", streamId, failure, reconnect });
  }

  #handlers(link: Link<F>): SessionHandlers<F> {
    const { streamId, peer } = link;
    return {
      onControl: (control) => this.#onControl(link, control),
      check: (frame) => this.#check(link, frame),
      pace: (frame, bytes) => {
        const common = this.#codec.unwrap(frame) !== undefined;
        return this.#known.get(peer)?.pace.took(common ? undefined : frame.frame.case, this.#codec.rule(frame)?.cost ?? "normal", bytes);
      },
      onFrame: (frame, bytes) => {
        const session = this.#fsm.frameOn(streamId);
        return session === undefined || !this.#known.has(peer) ? undefined : this.#o.onFrame(peer, session, frame, bytes);
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
    const known = this.#known.get(link.peer);
    const failure = authorise({ kind: "peer", level: known?.view.level ?? 0, role: 0 }, this.#codec.rule(frame));
    if (failure !== undefined || known === undefined) return failure;
    const problem = this.#codec.problem(frame);
    if (problem !== undefined || this.#codec.unwrap(frame) !== undefined) return problem;
    this.#heard(link, known, false);
    return this.#o.check?.(frame);
  }

  #heard(link: Link<F>, known: Known, common: boolean): void {
    const mono = this.#o.clock.mono();
    if (mono - known.lastFrameAt >= HEARD_PAUSE_MS) {
      known.heard++;
      this.#reportLater();
    }
    known.lastFrameAt = mono;
    if (this.#fsm.heard(link.streamId, mono) && !common) this.#step({ kind: "frame_received", streamId: link.streamId });
  }

  #onControl(link: Link<F>, { frame }: SessionControl): void {
    const { streamId, peer } = link;
    const known = this.#known.get(peer);
    if (known !== undefined) this.#heard(link, known, true);
    switch (frame.case) {
      case "open": {
        if (frame.value.second && link.caller !== undefined) return this.#join(link, frame.value);
        // What a peer says is its answer as well, should the transport tell of that later.
        this.#answered(link);
        link.run = this.#runOf(link, frame.value);
        this.#met(link);
        const { hubId, packages } = frame.value;
        if (link.stream?.streams === 2) known?.seconds.stood();
        const [incarnation, n] = [Number(frame.value.incarnation), Number(frame.value.n)];
        return this.#step({ kind: "open_received", streamId, hubId, incarnation, n, packages });
      }
      case "ping":
      case "pong":
        this.#step({ kind: frame.case === "ping" ? "ping_received" : "pong_received", streamId, n: Number(frame.value.n) });
        if (this.#known.has(peer) && !this.#fsm.overtaken(streamId))
          this.#o.onHeads?.(peer, frame.value.heads, this.#fsm.status(peer)?.rttMs ?? -1);
        return;
      case "refresh":
        return void this.#refreshed(link, frame.value.token);
      case "terminated":
        return this.#step({ kind: "terminated_received", streamId, failure: statedFailure(frame.value), reconnect: frame.value.reconnect });
      default:
        return;
    }
  }

  /**
   * join takes an accepted stream as the second one of a session. It must come with the certificate of the first, name the session of
   * the first, and be the one that the first waits for; so nobody else can become a half of it, and there is one half for each at most.
   * Its first frame must say so: a stream that is a session by itself would leave that one without a stream, and up for ever.
   */
  #join(link: Link<F>, { hubId, incarnation, n }: SessionOpen): void {
    const { streamId, peer, caller } = link;
    if (!this.#fsm.mayJoin(streamId)) return this.#violated(streamId, TAKEN, true);
    const first = [...this.#links.values()].find(({ stream, caller: other, streamId: candidate }) => {
      if (stream?.waiting !== true || other?.hubId !== peer || other.thumbprint !== caller?.thumbprint) return false;
      const id = this.#fsm.sessionOn(candidate)?.id;
      return id?.dialer === hubId && BigInt(id.incarnation) === incarnation && BigInt(id.n) === n;
    });
    if (first === undefined || link.stream === undefined) return this.#violated(streamId, NOT_WAITED_FOR, true);
    this.#links.delete(streamId);
    this.#step({ kind: "joined", streamId });
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
      this.#step({ kind: "token_refreshed", streamId, expiresAtWall: token.expiresAtWall });
    } catch (error) {
      const level = link.refused ? "debug" : "info";
      link.refused = true;
      this.#o.log[level]({ service: this.#o.service, peer, failure: failureIn(error) }, "renewed token is not for this session");
    }
  }

  #totals(peer: string): StreamCounters {
    let total = this.#known.get(peer)?.past ?? NO_COUNTS;
    for (const link of this.#links.values())
      if (link.peer === peer && link.stream !== undefined) total = sumOf(total, link.stream.counters);
    return total;
  }

  /** reportLater tells discovery, with what else there will be to tell until then. */
  #reportLater(): void {
    this.#laterTimer ??= this.#o.clock.setTimer(HEARD_REPORT_MS, () => this.#report());
  }

  /** report tells discovery, once per turn however much changed. */
  #report(): void {
    this.#laterTimer?.cancel();
    this.#laterTimer = undefined;
    if (this.#o.reporter === undefined || this.#reporting) return;
    this.#reporting = true;
    this.#o.clock.setImmediate(() => {
      this.#reporting = false;
      this.#o.reporter?.report([...this.#known].flatMap(([hubId, known]) => this.#reportOf(hubId, known)));
    });
  }

  #reportOf(hubId: string, known: Known): SessionReport[] {
    const status = this.#fsm.status(hubId);
    if (status === undefined) return [];
    const { state, rttMs, failure, current, synced } = status;
    const up = current !== undefined;
    const done = up && (synced || this.#o.synchronises !== true);
    return [
      {
        hubId,
        service: this.#o.service,
        state,
        dialer: current?.id.dialer ?? "",
        rttMs,
        synced: done,
        failure: up ? undefined : failure,
        heard: known.heard,
      },
    ];
  }
}

/** createPeerLinks makes the sessions of one service; nothing runs before `setPeers`. It throws if the RPC is not of the common shape. */
export function createPeerLinks<F extends Frame>(options: PeerLinksOptions<F>): PeerLinks<F> {
  return new Links(options);
}
