import { addressKey } from "./handshake-costs.ts";
import type { ClosedReason } from "./handshakes.ts";

/** Part of all connections that may be in their handshake. */
const HANDSHAKING_PART = 0.25;
const HANDSHAKING_MIN = 16;
/** An address from which callers come has so many times as many of them, before one of its own makes room: all of them come back at once. */
const KNOWN_WEIGHT = 8;

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

/** Crowd is the handshakes of one address, or IPv6 network, that are under way, oldest first. */
interface Crowd<C> {
  readonly handshakes: Set<C>;
  level: number;
}

/**
 * Handshakes are those that are under way, by who an address belongs to: whoever has most of them makes room for others. However many come
 * from however many addresses, none of this is a search.
 */
class Handshakes<C extends { readonly address: string }> {
  readonly #crowds = new Map<string, Crowd<C>>();
  /** Crowds by how many they are; each in the order in which they came to be so many. */
  readonly #levels: Set<Crowd<C>>[] = [];
  readonly #known: (address: string) => boolean;
  size = 0;

  constructor(known: (address: string) => boolean) {
    this.#known = known;
  }

  add(connection: C): void {
    const key = addressKey(connection.address);
    const crowd = this.#crowds.get(key) ?? { handshakes: new Set(), level: 0 };
    this.#crowds.set(key, crowd);
    crowd.handshakes.add(connection);
    this.size++;
    this.#place(crowd, connection.address);
  }

  delete(connection: C): void {
    const key = addressKey(connection.address);
    const crowd = this.#crowds.get(key);
    if (crowd?.handshakes.delete(connection) !== true) return;
    this.size--;
    if (crowd.handshakes.size === 0) this.#crowds.delete(key);
    this.#place(crowd, connection.address);
  }

  #place(crowd: Crowd<C>, address: string): void {
    const level = Math.ceil(crowd.handshakes.size / (this.#known(address) ? KNOWN_WEIGHT : 1));
    if (level === crowd.level) return;
    this.#levels[crowd.level]?.delete(crowd);
    while (this.#levels.length <= level) this.#levels.push(new Set());
    if (level > 0) this.#levels[level]?.add(crowd);
    crowd.level = level;
    while (this.#levels.at(-1)?.size === 0) this.#levels.pop();
  }

  /** from are those that are under way from where an address is, oldest first. */
  from(address: string): ReadonlySet<C> {
    return this.#crowds.get(addressKey(address))?.handshakes ?? new Set();
  }

  /** oldestOfMost is the oldest of those from where most are under way. */
  oldestOfMost(): C | undefined {
    const most = this.#levels.at(-1);
    const crowd = most === undefined ? undefined : first(most);
    return crowd === undefined ? undefined : first(crowd.handshakes);
  }
}

function first<T>(all: ReadonlySet<T>): T | undefined {
  for (const one of all) return one;
  return undefined;
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
  readonly #fresh: Handshakes<C>;
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
    this.#fresh = new Handshakes(known);
    this.#end = end;
  }

  /** enter takes a connection in; the limit if there is no room for it. */
  enter(connection: C): Limit | undefined {
    const { address } = connection;
    const perIp: Limit = { reason: "per_ip_limit", limit: this.#limits.maxConnectionsPerIp };
    if (!this.#makeRoomOfAddress(address, perIp)) return perIp;
    if (!this.#makeRoom(address)) return { reason: "limit", limit: this.#max };
    const place = this.#placeOf(address);
    const those = this.#perIp.get(place) ?? new Set();
    this.#perIp.set(place, those.add(connection));
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

  #makeRoomOfAddress(address: string, perIp: Limit): boolean {
    const full = (this.#perIp.get(this.#placeOf(address))?.size ?? 0) >= perIp.limit;
    if (this.#limits.strangers === true) return !full;
    const handshakes = this.#fresh.from(address);
    if (!full && handshakes.size < perIp.limit) return true;
    for (const connection of handshakes) if (!full || connection.address === address) return this.#endFor(connection, perIp);
    return false;
  }

  #makeRoom(address: string): boolean {
    if (this.#limits.strangers === true) return this.#makeRoomAmongStrangers(address);
    const full = this.#all.size >= this.#max;
    if (!full && this.#fresh.size < this.#maxFresh) return true;
    const oldest = this.#fresh.oldestOfMost();
    return oldest === undefined ? !full : this.#endFor(oldest, { reason: "handshake_limit", limit: this.#maxFresh });
  }

  /** makeRoomAmongStrangers ends the oldest connection from where most are, if those are more than from where the newcomer is. */
  #makeRoomAmongStrangers(address: string): boolean {
    if (this.#all.size < this.#max) return true;
    const sizeOf = (of: string): number => this.#perIp.get(this.#placeOf(of))?.size ?? 0;
    const most = Math.max(...[...this.#perIp.values()].map(({ size }) => size));
    const victim = [...this.#all].find((connection) => sizeOf(connection.address) === most);
    if (victim === undefined || most <= sizeOf(address)) return false;
    return this.#endFor(victim, { reason: "limit", limit: this.#max });
  }
}
