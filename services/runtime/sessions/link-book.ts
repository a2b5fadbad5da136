import type { PeerSessions } from "#kernel/session/machine.ts";
import type { LinkCounters } from "#runtime/events.ts";
import type { PeerView, SessionReport } from "#runtime/peers.ts";
import { boundTo } from "#runtime/tokens/bound-to.ts";
import { FramePace } from "./frame-pace.ts";
import { bytesOf, type Link } from "./link.ts";
import type { LinkStatus, PeerLinksOptions } from "./peer-links-api.ts";
import { SecondStreams } from "./second-streams.ts";
import type { Frame } from "./session-codec.ts";
import { ageOf, NO_COUNTS, SessionMetrics, sumOf } from "./session-metrics.ts";
import type { SessionStream, StreamCounters } from "./session-stream.ts";

/** So many bytes since they were last counted are a sign of life, as a frame is: the least slow of links carries more in the time of a ping. */
const ALIVE_BYTES = 4 * 1024;

/** KnownPeer is what is kept of a peer beside its sessions. */
export interface KnownPeer {
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

/** LinkBook keeps the peers that this service has sessions with and the streams that are open, and says how they stand. */
export class LinkBook<F extends Frame> {
  readonly known = new Map<string, KnownPeer>();
  readonly links = new Map<number, Link<F>>();
  readonly #o: PeerLinksOptions<F>;
  readonly #fsm: PeerSessions;
  readonly #metrics: SessionMetrics;

  constructor(options: PeerLinksOptions<F>, fsm: PeerSessions) {
    this.#o = options;
    this.#fsm = fsm;
    this.#metrics = new SessionMetrics(options.metrics, options.service);
  }

  /** add begins to keep a peer. `limited` is called when it sends more frames of a type than it may. */
  add(view: PeerView, limited: (type: string) => void): void {
    const { hubId } = view;
    this.known.set(hubId, {
      view,
      lastFrameAt: Number.NEGATIVE_INFINITY,
      heard: 0,
      lastEvent: "configured",
      fatal: 0,
      past: NO_COUNTS,
      unsample: this.#metrics.add(hubId, () => this.#sample(hubId)),
      pace: new FramePace(this.#o.clock, limited),
      renewedFor: 0,
      renewedAt: Number.NEGATIVE_INFINITY,
      leaf: view.token === undefined ? undefined : boundTo(view.token.jwt),
      seconds: new SecondStreams(),
    });
  }

  /** currentStream is the stream of a peer's session that stands. */
  currentStream(peer: string): SessionStream<F> | undefined {
    const session = this.#fsm.current(peer);
    return session === undefined ? undefined : this.links.get(session.streamId)?.stream;
  }

  /** countBytes takes bytes for a sign of life when it is time to look: over a slow link a long frame is under way for longer than that. */
  countBytes(): void {
    const mono = this.#o.clock.mono();
    for (const link of this.links.values()) {
      const bytes = bytesOf(link);
      if (bytes - link.counted < ALIVE_BYTES) continue;
      link.counted = bytes;
      this.#fsm.heard(link.streamId, mono);
    }
  }

  /** status is how the session with each peer stands. */
  status(): readonly LinkStatus[] {
    const mono = this.#o.clock.mono();
    return [...this.known].flatMap(([hubId, { lastFrameAt }]) => {
      const status = this.#fsm.status(hubId);
      if (status === undefined) return [];
      const { state, since, current, rttMs, attempts, failure } = status;
      return [
        { hubId, state, sinceMs: mono - since, session: current?.id, lastFrameAgeMs: ageOf(mono, lastFrameAt), rttMs, attempts, failure },
      ];
    });
  }

  /** counters are what the streams with each peer have carried. */
  counters(mount: string): readonly LinkCounters[] {
    const mono = this.#o.clock.mono();
    return [...this.known].map(([peer, { lastFrameAt, lastEvent, fatal }]) => {
      const { framesIn, framesOut, bytesIn, bytesOut, stalls, resumes } = this.#totals(peer);
      const waiting = this.#fsm.current(peer) !== undefined && this.currentStream(peer)?.writable !== true;
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

  /** reports are what discovery is told of the sessions. */
  reports(): SessionReport[] {
    return [...this.known].flatMap(([hubId, known]) => this.#reportOf(hubId, known));
  }

  #reportOf(hubId: string, known: KnownPeer): SessionReport[] {
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

  #sample(hubId: string) {
    const status = this.#fsm.status(hubId);
    return {
      ...this.#totals(hubId),
      state: status?.state ?? "INIT",
      rttMs: status?.rttMs ?? -1,
      attempts: status?.attempts ?? 0,
      limited: this.known.get(hubId)?.pace.limited ?? 0,
      streams: this.currentStream(hubId)?.streams ?? 0,
      lastFrameAgeMs: ageOf(this.#o.clock.mono(), this.known.get(hubId)?.lastFrameAt ?? Number.NEGATIVE_INFINITY),
    };
  }

  #totals(peer: string): StreamCounters {
    let total = this.known.get(peer)?.past ?? NO_COUNTS;
    for (const link of this.links.values()) if (link.peer === peer && link.stream !== undefined) total = sumOf(total, link.stream.counters);
    return total;
  }
}
