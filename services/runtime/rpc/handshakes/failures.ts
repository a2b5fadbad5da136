import type net from "node:net";
import type { TLSSocket } from "node:tls";
import type { Clock } from "#channel/clock.ts";
import { CLIENT_FLIGHT_BYTES, guardOf, type HandshakeGuard, socketUnder } from "#channel/tls/handshake-guard.ts";
import type { LimitedLogger } from "#runtime/log/limited.ts";
import type { HandshakeCosts } from "./handshake-costs.ts";
import { type connectionMetrics, type TlsReason, tlsReason, UnknownCas } from "./handshakes.ts";
import type { NoHello } from "./hello-turns.ts";

/** A client that has sent more and has not finished its handshake does not mean to. */
const LARGE_BYTES = 2 * CLIENT_FLIGHT_BYTES;

/** Those who count and tell of handshakes that fail. */
interface Parts {
  readonly clock: Clock;
  readonly log: LimitedLogger;
  readonly metrics: ReturnType<typeof connectionMetrics>;
  readonly costs: HandshakeCosts;
  /** addressOf is from where a TCP connection came, also when it is gone; undefined for one that was never accepted. */
  readonly addressOf: (socket: net.Socket) => string | undefined;
}

/** HandshakeFailures counts handshakes that clients did not complete, says why, and charges the addresses that they came from. */
export class HandshakeFailures {
  readonly #o: Parts;
  readonly #unknownCas = new UnknownCas();

  constructor(parts: Parts) {
    this.#o = parts;
  }

  /** failed notes a handshake that TLS gave up. */
  failed(error: NodeJS.ErrnoException, secure: TLSSocket): void {
    const raw = socketUnder(secure);
    const address = raw === undefined ? undefined : this.#o.addressOf(raw);
    const bytesRead = raw?.bytesRead ?? 0;
    const reason = tlsReason(error, { authorizationError: secure.authorizationError, bytesRead });
    const costly = address !== undefined && this.#charge(address, guardOf(secure), bytesRead, reason);
    // Null where the certificate was not judged; whose it is TLS does not tell once it has refused it.
    const { authorizationError: why } = secure as { readonly authorizationError?: unknown };
    this.#tell(reason, costly, { remote: address, code: error.code, ...(why ? { why } : {}), bytes: bytesRead });
  }

  /** noHello notes a connection that ended before TLS had a look. */
  noHello(address: string, why: NoHello, bytes: number): void {
    this.#tell(why !== "closed" ? why : bytes === 0 ? "probe" : "reset", false, { remote: address, bytes });
  }

  #tell(reason: TlsReason, costly: boolean, fields: object): void {
    this.#o.metrics.tls.inc({ reason });
    const passes = !costly && reason === "unknown_ca" && !this.#unknownCas.lasts(this.#o.clock.mono());
    this.#o.log.log(
      reason === "probe" ? "debug" : passes ? "info" : "warn",
      reason,
      { reason, ...fields },
      // It may be a hub that is not a peer yet, one that is none any more, or a stranger.
      reason === "unknown_ca" ? "tls handshake failed: no CA that is pinned here signed the client's certificate" : "tls handshake failed",
    );
  }

  /** charge notes what a failed handshake cost, and tells whether it was more than that of an honest client. */
  #charge(address: string, guard: HandshakeGuard | undefined, bytesRead: number, reason: TlsReason): boolean {
    const now = this.#o.clock.mono();
    const { costs } = this.#o;
    const tooLarge = reason === "too_large" || (guard === undefined && bytesRead > LARGE_BYTES);
    if (guard !== undefined) costs.failed(address, guard.charge(), now);
    if (tooLarge) costs.tooLarge(address, guard === undefined ? bytesRead : 0, now);
    return tooLarge || costs.waitMs(address, now) > 0;
  }
}
