import type { Limit, RoomLimits } from "../handshakes/rooms.ts";
import type { Account } from "./accounts.ts";

/** Part of all connections that those who are not of this hub may have. */
const FOREIGN_PART = 0.75;

/** CallerBounds count the connections whose caller is known, and tell when one has too many, or all who are not of this hub have. */
export class CallerBounds {
  readonly #foreignMax: number;
  #foreign = 0;

  constructor({ maxConnections, strangers }: RoomLimits) {
    this.#foreignMax = maxConnections === undefined || strangers === true ? Number.POSITIVE_INFINITY : maxConnections * FOREIGN_PART;
  }

  enter(account: Account): void {
    account.connections++;
    if (account.foreign) this.#foreign++;
  }

  leave(account: Account): void {
    account.connections--;
    if (account.foreign) this.#foreign--;
  }

  /** met is the limit beyond which the latest connection of a caller is. */
  met({ bounds, connections, foreign }: Account): Limit | undefined {
    if (connections > bounds.connections) return { reason: "per_caller_limit", limit: bounds.connections };
    if (foreign && this.#foreign > this.#foreignMax) return { reason: "foreign_limit", limit: Math.floor(this.#foreignMax) };
    return undefined;
  }
}
