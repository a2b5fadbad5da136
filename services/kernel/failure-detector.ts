/** PingConfig says how a link is watched. */
export interface PingConfig {
  /** Time between pings, ms. */
  readonly intervalMs: number;
  /** Pings in a row without any sign of life after which the peer is suspected. */
  readonly missedPings: number;
}

/** S0: a ping every 15 s, three missed ones are suspect. */
export const DEFAULT_PING: PingConfig = { intervalMs: 15_000, missedPings: 3 };

/**
 * FailureDetector watches one link by pings. Any authenticated frame is a sign of life, not only the answer to a ping;
 * a ping is sent at a fixed rhythm all the same, because its answer proves freshness. Times are `mono` ms.
 */
export class FailureDetector {
  readonly #config: PingConfig;
  #nextPingAt: number;
  #missed = 0;
  /** True from a ping until the first sign of life after it. */
  #silent = false;
  #nonce = 0;
  /** When the newest ping was sent, until it is answered. */
  #openSince: number | undefined;
  #rttMs: number | undefined;

  /** mono: when the link came up. */
  constructor(mono: number, config: PingConfig = DEFAULT_PING) {
    this.#config = config;
    this.#nextPingAt = mono + config.intervalMs;
  }

  /** deadline is when `tick` wants to be called next. */
  get deadline(): number {
    return this.#nextPingAt;
  }

  /** missed counts the pings in a row after which nothing was heard until the next one was due. */
  get missed(): number {
    return this.#missed;
  }

  /** suspect: so many were missed that the link counts as dead. */
  get suspect(): boolean {
    return this.#missed >= this.#config.missedPings;
  }

  /** rttMs is the smoothed round trip (RFC 6298, alpha 1/8), undefined before the first answer. */
  get rttMs(): number | undefined {
    return this.#rttMs;
  }

  /** tick answers the nonce of the ping to send now, or undefined if none is due. */
  tick(mono: number): number | undefined {
    if (mono < this.#nextPingAt) return undefined;
    if (this.#silent) this.#missed++;
    this.#silent = true;
    this.#openSince = mono;
    this.#nextPingAt = mono + this.#config.intervalMs;
    return ++this.#nonce;
  }

  /** heard notes any authenticated frame: a sign of life. */
  heard(): void {
    this.#silent = false;
    this.#missed = 0;
  }

  /** pong notes the answer to a ping, a sign of life too. False, for the round trip's sake, if it is not the newest ping's. */
  pong(nonce: number, mono: number): boolean {
    this.heard();
    if (nonce !== this.#nonce || this.#openSince === undefined) return false;
    const sample = Math.max(0, mono - this.#openSince);
    this.#rttMs = this.#rttMs === undefined ? sample : this.#rttMs + (sample - this.#rttMs) / 8;
    this.#openSince = undefined;
    return true;
  }
}
