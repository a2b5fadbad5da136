import { addressKey } from "./handshake-costs.ts";

/** An honest client says hello one way to it and back after it connected, and is done soon after: who takes longer may go for one of its own address, ms. */
const SILENT_MS = 1_000;
const BEGUN_MS = 5_000;
/** So many who have said hello, which costs them something, weigh as much as one who has said nothing. */
const BEGUN_PER_SILENT = 4;
/** Part of the room that is for addresses from which callers come, as soon as strangers want the rest. */
const KNOWN_PART = 0.5;

/** Line keeps what is in it in the order in which it came. */
class Line<T> {
  readonly #since = new Map<T, number>();
  /** All that are in it, and some that have left. */
  #order: T[] = [];

  get size(): number {
    return this.#since.size;
  }

  add(one: T, now: number): void {
    this.#since.set(one, now);
    this.#order.push(one);
  }

  delete(one: T): boolean {
    if (!this.#since.delete(one)) return false;
    while (this.#order.length > 0 && !this.#since.has(this.#order.at(-1) as T)) this.#order.pop();
    if (this.#order.length > 2 * this.size + 16) this.#order = [...this.#since.keys()];
    return true;
  }

  values(): Iterable<T> {
    return this.#since.keys();
  }

  get oldest(): T | undefined {
    for (const one of this.#since.keys()) return one;
    return undefined;
  }

  get newest(): T | undefined {
    return this.#order.at(-1);
  }

  /** before is the oldest if it came before an instant. */
  before(instant: number): T | undefined {
    for (const [one, since] of this.#since) return since <= instant ? one : undefined;
    return undefined;
  }
}

/** Crowd is the handshakes of one address, or IPv6 network, that are under way. */
class Crowd<C> {
  /** Those whose hello has not come yet, and the others. */
  readonly silent = new Line<C>();
  readonly begun = new Line<C>();
  side: Side<C> | undefined;
  rank = 0;

  get size(): number {
    return this.silent.size + this.begun.size;
  }

  /** level is what it weighs with so many more that say nothing. */
  level(more = 0): number {
    return this.silent.size + more + Math.ceil(this.begun.size / BEGUN_PER_SILENT);
  }

  /** overdue is one that takes longer than an honest client. */
  overdue(now: number): C | undefined {
    return this.silent.before(now - SILENT_MS) ?? this.begun.before(now - BEGUN_MS);
  }

  /** first to go: one that is overdue, or the one that came last, so that those before it are done some time, however many come and go. */
  first(now: number): C | undefined {
    return this.overdue(now) ?? this.silent.newest ?? this.begun.newest;
  }
}

/** Side is the crowds of addresses from which callers come, or those of strangers. */
class Side<C> {
  /** Crowds by what they weigh, at the same weight last those some of whom have said nothing; each in the order in which they came to be there. */
  readonly #ranks: Line<Crowd<C>>[] = [];
  size = 0;

  place(crowd: Crowd<C>, rank: number): void {
    if (crowd.side === this && crowd.rank === rank) return;
    while (this.#ranks.length <= rank) this.#ranks.push(new Line());
    this.#ranks[rank]?.add(crowd, 0);
    // Only now, as the ranks above the highest that is used go: a crowd that is alone in its rank would make all of them anew.
    crowd.side?.remove(crowd);
    crowd.side = this;
    crowd.rank = rank;
  }

  remove(crowd: Crowd<C>): void {
    this.#ranks[crowd.rank]?.delete(crowd);
    while (this.#ranks.at(-1)?.size === 0) this.#ranks.pop();
    crowd.side = undefined;
  }

  most(): Line<Crowd<C>> | undefined {
    return this.#ranks.at(-1);
  }
}

/**
 * Crowds are the handshakes that are under way, by who an address belongs to, and say which of them goes for a newcomer. However many come
 * from however many addresses, none of this is a search.
 *
 * - Strangers end no handshake of an address from which callers come, as long as those have no more than half of the room.
 * - Whoever has most makes room for others; who says nothing weighs more than who has said hello, and goes first.
 * - For one from the same address, or from one that has as many, goes only who takes longer than an honest client; the newcomer is refused
 *   else. So what has begun is finished: a fleet that comes back would otherwise cut its own handshakes, again and again. Only strangers
 *   who have as many each make room, the oldest first: they may be as many as there are addresses.
 */
export class Crowds<C extends { readonly address: string }> {
  readonly #crowds = new Map<string, Crowd<C>>();
  readonly #callers = new Side<C>();
  readonly #strangers = new Side<C>();
  readonly #known: (address: string) => boolean;

  constructor(known: (address: string) => boolean) {
    this.#known = known;
  }

  get size(): number {
    return this.#callers.size + this.#strangers.size;
  }

  add(connection: C, now: number): void {
    const key = addressKey(connection.address);
    const crowd = this.#crowds.get(key) ?? new Crowd<C>();
    this.#crowds.set(key, crowd);
    this.#change(crowd, connection.address, () => crowd.silent.add(connection, now));
  }

  /** heard notes that the hello of a connection has come. */
  heard(connection: C, now: number): void {
    const crowd = this.#of(connection.address);
    if (crowd === undefined) return;
    this.#change(crowd, connection.address, () => {
      if (crowd.silent.delete(connection)) crowd.begun.add(connection, now);
    });
  }

  delete(connection: C): void {
    const crowd = this.#of(connection.address);
    if (crowd === undefined) return;
    this.#change(crowd, connection.address, () => crowd.silent.delete(connection) || crowd.begun.delete(connection));
    if (crowd.size === 0) this.#crowds.delete(addressKey(connection.address));
  }

  #of(address: string): Crowd<C> | undefined {
    return this.#crowds.get(addressKey(address));
  }

  /** change a crowd, which belongs to the other side when callers have come from its address meanwhile. */
  #change(crowd: Crowd<C>, address: string, change: () => void): void {
    if (crowd.side !== undefined) crowd.side.size -= crowd.size;
    change();
    const side = this.#known(address) ? this.#callers : this.#strangers;
    side.size += crowd.size;
    if (crowd.size === 0) crowd.side?.remove(crowd);
    else side.place(crowd, 2 * crowd.level() + Math.min(1, crowd.silent.size));
  }

  /** from tells how many are under way from where an address is. */
  from(address: string): number {
    return this.#of(address)?.size ?? 0;
  }

  /** idle is one from where an address is, or from just that address, that may go for another: it has said nothing, or is overdue. */
  idle(address: string, just: boolean, now: number): C | undefined {
    const crowd = this.#of(address);
    if (crowd === undefined) return undefined;
    if (!just) return crowd.silent.oldest ?? crowd.overdue(now);
    for (const one of crowd.silent.values()) if (one.address === address) return one;
    const overdue = crowd.overdue(now);
    return overdue?.address === address ? overdue : undefined;
  }

  /** roomFor tells which one goes for a newcomer when there is room for so many: none if there is enough, or the newcomer itself. */
  roomFor(address: string, room: number, now: number): C | "enough" | "none" {
    if (this.size < room) return "enough";
    const callers = this.#callers.size;
    const share = Math.ceil(room * KNOWN_PART);
    if (!this.#known(address)) {
      if (callers > share) return this.#callers.most()?.newest?.first(now) ?? "none";
      return this.#among(this.#strangers.most()?.oldest, address, now, true);
    }
    if (callers < share) return this.#strangers.most()?.oldest?.first(now) ?? "none";
    return this.#among(this.#callers.most()?.newest, address, now, false);
  }

  /** among those of one side `most` goes first; `ties`: also if it would have as many as the newcomer's crowd. */
  #among(most: Crowd<C> | undefined, address: string, now: number, ties: boolean): C | "none" {
    const own = this.#of(address) ?? new Crowd<C>();
    const after = own.level(1);
    const more = (most?.level() ?? 0) - after;
    const goes = more > 0 || (ties && more === 0) ? most?.first(now) : more === 0 ? most?.overdue(now) : undefined;
    return goes ?? own.overdue(now) ?? "none";
  }
}
