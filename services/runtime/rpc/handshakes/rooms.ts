import { Crowds } from "./crowds.ts";
import { addressKey } from "./handshake-costs.ts";
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
 * Who has an IPv6 address has its whole network, so all of that counts as one, but for connections of callers: those are bounded by whose
 * they are (`accounts.ts`), and the programs in a house share a network.
 */
export class Rooms<C extends { readonly address: string }> {
  /** All, oldest first. */
  readonly #all = new Set<C>();
  readonly #fresh: Crowds<C>;
  readonly #perIp = new Map<string, Set<C>>();
  readonly #limits: RoomLimits;
  readonly #max: number;
  readonly #maxFresh: number;
  readonly #end: (connection: C, limit: Limit) => void;

  /** `known` tells whether callers come from an address; `end` closes a connection, which has left by then. */
  constructor(limits: RoomLimits, known: (address: string) => boolean, end: (connection: C, limit: Limit) => void) {
    this.#limits = limits;
    this.#max = limits.maxConnections ?? Number.POSITIVE_INFINITY;
    this.#maxFresh = Math.max(HANDSHAKING_MIN, Math.floor(this.#max * HANDSHAKING_PART));
    this.#fresh = new Crowds(known);
    this.#end = end;
  }

  /** enter takes a connection in; the limit if there is no room for it. `now`: mono ms. */
  enter(connection: C, now: number): Limit | undefined {
    const { address } = connection;
    const perIp: Limit = { reason: "per_ip_limit", limit: this.#limits.maxConnectionsPerIp };
    const met = this.#hasRoom(address) ? this.#makeRoom(address, now) : this.#takePlace(address, perIp, now);
    if (met !== undefined) return met;
    const place = this.#placeOf(address);
    const those = this.#perIp.get(place) ?? new Set();
    this.#perIp.set(place, those.add(connection));
    this.#all.add(connection);
    this.#fresh.add(connection, now);
    return undefined;
  }

  /** heard notes that the whole hello of a connection has come. */
  heard(connection: C, now: number): void {
    this.#fresh.heard(connection, now);
  }

  /** shook notes that the handshake of a connection is done. */
  shook(connection: C): void {
    this.#fresh.delete(connection);
  }

  /** leave lets a connection go. */
  leave(connection: C): void {
    this.#all.delete(connection);
    this.#fresh.delete(connection);
    const place = this.#placeOf(connection.address);
    const those = this.#perIp.get(place);
    those?.delete(connection);
    if (those?.size === 0) this.#perIp.delete(place);
  }

  /** placeOf is by what the connections of an address are counted. At a door it is not known who anybody is. */
  #placeOf(address: string): string {
    return this.#limits.strangers === true ? addressKey(address) : address;
  }

  #endFor(connection: C, limit: Limit): true {
    this.leave(connection);
    this.#end(connection, limit);
    return true;
  }

  /** hasRoom tells whether an address has fewer connections, and handshakes under way, than it may have. */
  #hasRoom(address: string): boolean {
    const most = this.#limits.maxConnectionsPerIp;
    if (this.#held(address) >= most) return false;
    return this.#limits.strangers === true || this.#fresh.from(address) < most;
  }

  #held(address: string): number {
    return this.#perIp.get(this.#placeOf(address))?.size ?? 0;
  }

  /** takePlace ends an idle handshake of the same address, whose place the newcomer has then: of all connections there are no more. */
  #takePlace(address: string, perIp: Limit, now: number): Limit | undefined {
    const idle = this.#limits.strangers === true ? undefined : this.#fresh.idle(address, this.#held(address) >= perIp.limit, now);
    if (idle === undefined) return perIp;
    this.#endFor(idle, perIp);
    return undefined;
  }

  #makeRoom(address: string, now: number): Limit | undefined {
    const limit: Limit = { reason: "limit", limit: this.#max };
    if (this.#limits.strangers === true) return this.#makeRoomAmongStrangers(address) ? undefined : limit;
    const handshakes: Limit = { reason: "handshake_limit", limit: this.#maxFresh };
    const room = Math.min(this.#maxFresh, this.#max - (this.#all.size - this.#fresh.size));
    const goes = this.#fresh.roomFor(address, room, now);
    if (goes === "none") return this.#fresh.size === 0 ? limit : handshakes;
    if (goes !== "enough") this.#endFor(goes, handshakes);
    return undefined;
  }

  /** makeRoomAmongStrangers ends the oldest connection from where most are, if those are more than from where the newcomer is. */
  #makeRoomAmongStrangers(address: string): boolean {
    if (this.#all.size < this.#max) return true;
    const most = Math.max(...[...this.#perIp.values()].map(({ size }) => size));
    const victim = [...this.#all].find((connection) => this.#held(connection.address) === most);
    if (victim === undefined || most <= this.#held(address)) return false;
    return this.#endFor(victim, { reason: "limit", limit: this.#max });
  }
}
