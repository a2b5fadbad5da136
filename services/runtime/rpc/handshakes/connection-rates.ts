import type { HandshakeGuard } from "#channel/tls/handshake-guard.ts";
import { TokenBuckets } from "#kernel/bounds/token-buckets.ts";
import { payerOf } from "../connections/chatter.ts";
import type { Connection } from "../connections/connection.ts";
import type { HandshakeCosts } from "./handshake-costs.ts";

/** Processor time that a connection takes which is made and does nothing, ms: its handshake with both certificates, and HTTP/2. */
const CONNECTION_MS = 2;

/**
 * ConnectionRates know who makes connections too fast. A handshake that succeeds is free, so that all callers can come back at once, but
 * one principal that makes more than it has any use for pays for each as if it had failed. By caller, and longer than its account: who has
 * no connection any more does not begin anew.
 */
export class ConnectionRates {
  readonly #connections = new TokenBuckets();
  readonly #costs: HandshakeCosts;
  readonly #strangers: boolean;

  /** `strangers`: every certificate gets in, so that none is free. */
  constructor(costs: HandshakeCosts, strangers: boolean) {
    this.#costs = costs;
    this.#strangers = strangers;
  }

  /**
   * shook settles what the address of a connection was charged with for its handshake, which is done, and tells for how long whoever made it
   * should have waited, ms: 0 if it came in time.
   */
  shook(connection: Pick<Connection, "account" | "address" | "charge">, guard: HandshakeGuard | undefined, now: number): number {
    const { account, address, charge } = connection;
    const taken = (): number => Math.max(CONNECTION_MS, guard?.charge() ?? 0);
    if (this.#strangers) {
      this.#costs.failed(address, taken(), now);
      return 0;
    }
    const payer = payerOf(connection);
    const foreign = account?.foreign === false ? undefined : payer;
    const rate = account?.bounds.made;
    const waitMs = rate === undefined ? 0 : this.#connections.take(payer, rate, now);
    if (waitMs > 0) this.#costs.tooOften(address, foreign, taken(), now);
    else {
      if (charge !== undefined) this.#costs.succeeded(charge);
      this.#costs.proved(address, foreign, now);
    }
    return waitMs;
  }
}
