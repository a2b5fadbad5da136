/**
 * EventKind is a kind of event that services report, as in `foedus.telemetry.v1alpha1.EventKind` without the prefix. Telemetry itself tells
 * of events that are missing.
 */
export type EventKind =
  | "LINK_STATE"
  | "TRUST_DECIDED"
  | "ACCESS_REFUSED"
  | "SESSION"
  | "FEED"
  | "NODE"
  | "COMMAND"
  | "EXECUTOR"
  | "STORE"
  | "MODULE"
  | "CREDENTIAL"
  | "LIMIT"
  | "CLOCK"
  | "CONFIGURATION"
  | "COORDINATION";

/** EventReport is something that happened, for people and programs. Never secrets. */
export interface EventReport {
  readonly kind: EventKind;
  readonly severity: "DEBUG" | "INFO" | "WARNING" | "ERROR";
  readonly peer?: string;
  /** `hub/node`. */
  readonly node?: string;
  /** One sentence. */
  readonly text: string;
  readonly fields?: Readonly<Record<string, string>>;
}

/** LinkCounters are one service's counters of one link since its start (S3-22). */
export interface LinkCounters {
  readonly peer: string;
  /** What the session carries, in the service's own word: `link`, `mirror` and `invoke` are those of S3-29. */
  readonly mount: string;
  readonly framesIn: number;
  readonly framesOut: number;
  readonly bytesIn: number;
  readonly bytesOut: number;
  readonly ready: number;
  readonly backpressure: number;
  readonly fatal: number;
  readonly waiting: boolean;
  readonly lastEvent: string;
  readonly lastFrameAgeMs: number;
}

/** EventSink is the port to telemetry. It never blocks and never throws; what it must drop it counts. */
export interface EventSink {
  report(event: EventReport): void;
}
