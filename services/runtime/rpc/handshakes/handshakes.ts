import type { Registry } from "prom-client";
import { counter, gauge } from "#runtime/metrics/declare.ts";
import type { IntakeReason } from "../connections/intake.ts";

/** Reasons of failed handshakes. `probe`: closed before it sent a byte, as the checks of load balancers do. */
const TLS_REASONS = [
  "certificate_expired",
  "certificate_not_yet_valid",
  "no_certificate",
  "unknown_ca",
  "bad_certificate",
  "refused_by_client",
  "protocol_version",
  "not_tls",
  "timeout",
  "too_large",
  "probe",
  "reset",
  "other",
] as const;

/** TlsReason is why a handshake failed. */
export type TlsReason = (typeof TLS_REASONS)[number];

/** Why connections are closed by this hub, beside failed handshakes. */
const CLOSED_REASONS = [
  "per_ip_limit",
  "limit",
  "handshake_limit",
  "handshake_cost",
  "per_caller_limit",
  "foreign_limit",
  "connection_rate",
  "no_http2",
  "stream_rate",
  "chatter",
  "tls_records",
  "silent",
] as const;

/** ClosedReason is why this hub closed a connection. */
export type ClosedReason = (typeof CLOSED_REASONS)[number];

/** Why requests are refused while they arrive. */
const REQUEST_REASONS: readonly IntakeReason[] = ["late", "bytes", "pieces"];

/** connectionMetrics declares what connections count. */
export function connectionMetrics(registry: Registry) {
  const made = {
    open: gauge(registry, { name: "foedus_connections", help: "Open connections of callers: gRPC, and HTTP where it is served." }),
    tls: counter(registry, {
      name: "foedus_tls_handshake_failures_total",
      help: "TLS handshakes that clients did not complete, by reason.",
      labels: ["reason"],
    }),
    refused: counter(registry, {
      name: "foedus_connections_refused_total",
      help: "Connections that this hub closed because of a limit, or because nothing is heard on them, by reason.",
      labels: ["reason"],
    }),
    requests: counter(registry, {
      name: "foedus_rpc_requests_refused_total",
      help: "Requests refused while they arrived: they did not go on (late), too many bytes of their caller, or of all, wait (bytes), or they came in too many pieces (pieces).",
      labels: ["reason"],
    }),
  };
  // A counter that appears with its first event hides that event from rate() and increase().
  for (const reason of TLS_REASONS) made.tls.inc({ reason }, 0);
  for (const reason of CLOSED_REASONS) made.refused.inc({ reason }, 0);
  for (const reason of REQUEST_REASONS) made.requests.inc({ reason }, 0);
  return made;
}

/** What is known of a connection whose handshake failed. */
interface Failed {
  readonly authorizationError?: unknown;
  readonly bytesRead: number;
}

const TEXTS: readonly (readonly [RegExp, TlsReason])[] = [
  [/CERT_HAS_EXPIRED|certificate has expired/i, "certificate_expired"],
  [/CERT_NOT_YET_VALID/i, "certificate_not_yet_valid"],
  [/PEER_DID_NOT_RETURN|certificate required/i, "no_certificate"],
  // An alert is what the client says of our certificate, not we of its.
  [/SSL alert number|_ALERT_|alert /i, "refused_by_client"],
  [/UNABLE_TO_|SELF_SIGNED|DEPTH_ZERO|CERT_SIGNATURE|unknown ca/i, "unknown_ca"],
  [/INVALID_PURPOSE|bad certificate|CERT_|_CA\b/i, "bad_certificate"],
  [/HTTP_REQUEST|WRONG_VERSION_NUMBER|http request|PACKET_LENGTH|RECORD_LENGTH|UNEXPECTED_MESSAGE|UNKNOWN_PROTOCOL/i, "not_tls"],
  [/UNSUPPORTED_PROTOCOL|protocol version|NO_SHARED|INAPPROPRIATE_FALLBACK/i, "protocol_version"],
  [/HANDSHAKE_TOO_LARGE|EXCESSIVE_MESSAGE_SIZE/, "too_large"],
  [/HANDSHAKE_TIMEOUT|timeout/i, "timeout"],
];

/** tlsReason gives a failed handshake one of a few words, so that the label stays small. */
export function tlsReason(error: NodeJS.ErrnoException, { authorizationError, bytesRead }: Failed): TlsReason {
  const text = `${String(authorizationError ?? "")} ${error.code ?? ""} ${error.message}`;
  for (const [pattern, reason] of TEXTS) if (pattern.test(text)) return reason;
  if (!/ECONNRESET|EPIPE|socket hang up/i.test(text)) return "other";
  return bytesRead === 0 ? "probe" : "reset";
}

/** Two hubs that are being introduced pin each other's CA one after the other; a failure that lasts longer is none of that, ms. */
const PASSES_MS = 30_000;
/** A failure after so much time without one is a new one, ms. The longest wait between two dials is shorter. */
const FORGOTTEN_MS = 120_000;

/**
 * UnknownCas tells certificates of an unknown CA that are to be expected from those to look at: the hub that has pinned its new peer first
 * dials at once, and is refused until the other one has read its federation file.
 */
export class UnknownCas {
  #first = Number.NEGATIVE_INFINITY;
  #last = Number.NEGATIVE_INFINITY;

  /** lasts notes one (mono ms) and tells whether this has gone on for longer than an introduction takes. */
  lasts(now: number): boolean {
    if (now - this.#last > FORGOTTEN_MS) this.#first = now;
    this.#last = now;
    return now - this.#first > PASSES_MS;
  }
}
