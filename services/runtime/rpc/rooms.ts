import type { ClosedReason } from "./handshakes.ts";

/** Part of all connections that may be in their handshake. */
const HANDSHAKING_PART = 0.25;
const HANDSHAKING_MIN = 16;

/** RoomLimits bound how many connections there are. */
export interface RoomLimits {
  readonly maxConnectionsPerIp: number;
  /** Connections altogether; no limit if not given. A quarter of them is kept for callers of this hub. */
  readonly maxConnections?: number;
  /** True where everybody is a stranger (the introduction door): when all are taken, a newcomer ends the oldest of the address that has most. */
  readonly strangers?: boolean;
}

/** Limit is one that was met. */
export interface Limit {
  readonly reason: ClosedReason;
  readonly limit: number;
}

/**
 * Rooms say for which connections there is room, per address and altogether, and which one goes for a newcomer: a handshake takes
 * milliseconds, so whoever keeps many open does nothing else, and must not keep out who comes from the same address, or callers of this hub.
 */
export class Rooms<C extends { readonly address: string }> {
  /** All, oldest first. */
  readonly #all = new Set<C>();
  /** Those whose handshake is not done, oldest first. */
  readonly #fresh = new Set<C>();
  readonly #perIp = new Map<string, Set<C>>();
  readonly #limits: RoomLimits;
  readonly #max: number;
  readonly #maxFresh: number;
  readonly #known: (address: string) => boolean;
  readonly #end: (connection: C, limit: Limit) => void;

  /** `known` tells whether callers come from an address; `end` closes a connection, which has left by then. */
  constructor(limits: RoomLimits, known: (address: string) => boolean, end: (connection: C, limit: Limit) => void) {
    this.#limits = limits;
    this.#max = limits.maxConnections ?? Number.POSITIVE_INFINITY;
    this.#maxFresh = Math.max(HANDSHAKING_MIN, Math.floor(this.#max * HANDSHAKING_PART));
    this.#known = known;
    this.#end = end;
  }

  /** enter takes a connection in; the limit if there is no room for it. */
  enter(connection: C): Limit | undefined {
    const { address } = connection;
    const perIp: Limit = { reason: "per_ip_limit", limit: this.#limits.maxConnectionsPerIp };
    if (!this.#makeRoomOfAddress(address, perIp)) return perIp;
    if (!this.#makeRoom(address)) return { reason: "limit", limit: this.#max };
    const those = this.#perIp.get(address) ?? new Set();
    this.#perIp.set(address, those.add(connection));
    this.#all.add(connection);
    this.#fresh.add(connection);
    return undefined;
  }

  /** shook notes that the handshake of a connection is done. */
  shook(connection: C): void {
    this.#fresh.delete(connection);
  }

  /** leave lets a connection go. */
  leave(connection: C): void {
    this.#all.delete(connection);
    this.#fresh.delete(connection);
    const those = this.#perIp.get(connection.address);
    those?.delete(connection);
    if (those?.size === 0) this.#perIp.delete(connection.address);
  }

  #endFor(connection: C, limit: Limit): true {
    this.leave(connection);
    this.#end(connection, limit);
    return true;
  }

  #makeRoomOfAddress(address: string, perIp: Limit): boolean {
    const those = this.#perIp.get(address);
    if ((those?.size ?? 0) < perIp.limit) return true;
    if (this.#limits.strangers === true || those === undefined) return false;
    for (const connection of those) if (this.#fresh.has(connection)) return this.#endFor(connection, perIp);
    return false;
  }

  #makeRoom(address: string): boolean {
    if (this.#limits.strangers === true) return this.#makeRoomAmongStrangers(address);
    const full = this.#all.size >= this.#max;
    if (!full && this.#fresh.size < this.#maxFresh) return true;
    const oldest = this.#oldestFresh();
    return oldest === undefined ? !full : this.#endFor(oldest, { reason: "handshake_limit", limit: this.#maxFresh });
  }

  /** oldestFresh is the oldest handshake, of a stranger if there is one. */
  #oldestFresh(): C | undefined {
    for (const connection of this.#fresh) if (!this.#known(connection.address)) return connection;
    const [oldest] = this.#fresh;
    return oldest;
  }

  /** makeRoomAmongStrangers ends the oldest connection of the address that has most, if that has at least as many as the newcomer's. */
  #makeRoomAmongStrangers(address: string): boolean {
    if (this.#all.size < this.#max) return true;
    const sizeOf = (of: string): number => this.#perIp.get(of)?.size ?? 0;
    const most = Math.max(...[...this.#perIp.values()].map(({ size }) => size));
    const victim = [...this.#all].find((connection) => sizeOf(connection.address) === most);
    if (victim === undefined || most <= sizeOf(address)) return false;
    return this.#endFor(victim, { reason: "limit", limit: this.#max });
  }
}
