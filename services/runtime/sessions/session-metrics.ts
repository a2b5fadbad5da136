import type { Counter, Registry } from "prom-client";
import type { LinkState } from "#kernel/session/rules.ts";
import { counter, sampledGauge } from "#runtime/metrics/declare.ts";
import type { StreamCounters } from "./session-stream.ts";

/** LINK_STATES in the order of the metric's values. */
export const LINK_STATES: readonly LinkState[] = [
  "INIT",
  "DISCOVERING",
  "CONNECTING",
  "SYNCING",
  "OPERATIONAL",
  "RECOVERING",
  "TERMINATED",
];

/** PeerTotals are what the metrics of one peer show. */
export interface PeerTotals extends StreamCounters {
  readonly state: LinkState;
  /** ms; negative while unknown. */
  readonly rttMs: number;
  readonly attempts: number;
  /** Frames that were held back because the peer sent too many of their type. */
  readonly limited: number;
  /** Streams of the current session; 0 without one. */
  readonly streams: number;
  /** Age of the peer's last frame, ms; negative before the first. */
  readonly lastFrameAgeMs: number;
}

const PEER_LABELS = ["service", "peer"] as const;
const DIRECTION_LABELS = ["service", "peer", "direction"] as const;

/** SessionMetrics shows the sessions of one service. Only configured peers have series, and they go with the peer. */
export class SessionMetrics {
  readonly #service: string;
  readonly #state;
  readonly #rtt;
  readonly #frames: Counter<"service" | "peer" | "direction">;
  readonly #bytes: Counter<"service" | "peer" | "direction">;
  readonly #dials: Counter<"service" | "peer">;
  readonly #stalls: Counter<"service" | "peer">;
  readonly #limited: Counter<"service" | "peer">;
  readonly #age;
  readonly #streams;

  constructor(registry: Registry, service: string) {
    this.#service = service;
    const names = LINK_STATES.map((name, value) => `${value} ${name}`).join(", ");
    this.#state = sampledGauge(registry, {
      name: "foedus_session_state",
      help: `State of the session with a peer: ${names}.`,
      labels: PEER_LABELS,
    });
    this.#rtt = sampledGauge(registry, {
      name: "foedus_session_rtt_seconds",
      help: "Round trip of the last answered ping; -1 before the first.",
      labels: PEER_LABELS,
    });
    this.#frames = counter(registry, { name: "foedus_session_frames_total", help: "Frames on sessions.", labels: DIRECTION_LABELS });
    this.#bytes = counter(registry, {
      name: "foedus_session_bytes_total",
      help: "Encoded bytes of frames on sessions.",
      labels: DIRECTION_LABELS,
    });
    this.#dials = counter(registry, { name: "foedus_session_reconnects_total", help: "Dials after the first.", labels: PEER_LABELS });
    this.#stalls = counter(registry, {
      name: "foedus_session_stalls_total",
      help: "Times that sending had to wait because the peer's credit was used up.",
      labels: PEER_LABELS,
    });
    this.#limited = counter(registry, {
      name: "foedus_session_frames_limited_total",
      help: "Frames of a peer that were read late, because it sends more of their type than it may.",
      labels: PEER_LABELS,
    });
    this.#age = sampledGauge(registry, {
      name: "foedus_session_last_frame_age_seconds",
      help: "Age of the last frame of the peer; -1 before the first.",
      labels: PEER_LABELS,
    });
    this.#streams = sampledGauge(registry, {
      name: "foedus_session_streams",
      help: "Connections that carry the session with a peer: 2, or 1 if one of both is of an older version or the second could not be opened; 0 without a session.",
      labels: PEER_LABELS,
    });
  }

  /** add shows a peer; the answer removes its series. Totals are read when someone scrapes, so that a frame costs nothing here. */
  add(peer: string, read: () => PeerTotals): () => void {
    const labels = { service: this.#service, peer };
    let shown = { framesIn: 0, framesOut: 0, bytesIn: 0, bytesOut: 0, stalls: 0, redials: 0, limited: 0 };
    // The registry asks gauges declared earlier first, so the counters are current when their turn comes.
    const flush = (totals: PeerTotals): void => {
      const redials = Math.max(0, totals.attempts - 1);
      this.#frames.inc({ ...labels, direction: "in" }, totals.framesIn - shown.framesIn);
      this.#frames.inc({ ...labels, direction: "out" }, totals.framesOut - shown.framesOut);
      this.#bytes.inc({ ...labels, direction: "in" }, totals.bytesIn - shown.bytesIn);
      this.#bytes.inc({ ...labels, direction: "out" }, totals.bytesOut - shown.bytesOut);
      this.#dials.inc(labels, redials - shown.redials);
      this.#stalls.inc(labels, totals.stalls - shown.stalls);
      this.#limited.inc(labels, totals.limited - shown.limited);
      shown = { ...totals, redials };
    };
    const removals = [
      this.#state(labels, () => {
        const totals = read();
        flush(totals);
        return LINK_STATES.indexOf(totals.state);
      }),
      this.#rtt(labels, () => {
        const { rttMs } = read();
        return rttMs < 0 ? -1 : rttMs / 1000;
      }),
      this.#age(labels, () => {
        const { lastFrameAgeMs } = read();
        return lastFrameAgeMs < 0 ? -1 : lastFrameAgeMs / 1000;
      }),
      this.#streams(labels, () => read().streams),
    ];
    return () => {
      for (const remove of removals) remove();
      for (const direction of ["in", "out"]) {
        this.#frames.remove({ ...labels, direction });
        this.#bytes.remove({ ...labels, direction });
      }
      this.#dials.remove(labels);
      this.#stalls.remove(labels);
      this.#limited.remove(labels);
    };
  }
}

/** NO_COUNTS is where counters start. */
export const NO_COUNTS: StreamCounters = { framesIn: 0, framesOut: 0, bytesIn: 0, bytesOut: 0, stalls: 0, resumes: 0 };

/** sumOf adds counters of two streams. */
export function sumOf(a: StreamCounters, b: StreamCounters): StreamCounters {
  return {
    framesIn: a.framesIn + b.framesIn,
    framesOut: a.framesOut + b.framesOut,
    bytesIn: a.bytesIn + b.bytesIn,
    bytesOut: a.bytesOut + b.bytesOut,
    stalls: a.stalls + b.stalls,
    resumes: a.resumes + b.resumes,
  };
}

/** ageOf is how long ago an instant was, ms; -1 for one that never came (negative infinity). */
export function ageOf(mono: number, at: number): number {
  return at === Number.NEGATIVE_INFINITY ? -1 : mono - at;
}
