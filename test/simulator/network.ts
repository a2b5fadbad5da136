import type { Failure } from "#kernel/error.ts";
import type { Prng } from "#kernel/prng.ts";
import type { Scheduler } from "./scheduler.ts";

export const GONE: Failure = { reason: "PEER_UNREACHABLE", message: "the connection is gone" };
/** How soon the client of a hub notices a connection on which nothing comes any more, and at most twice as late. */
const KEEPALIVE_MS = 15_000;
const REFUSED: Failure = { reason: "PEER_UNREACHABLE", message: "nothing listens at the address" };

/** NetworkOptions are drawn from the seed of a run. */
export interface NetworkOptions {
  readonly delayMinMs: number;
  readonly delayJitterMs: number;
  /** Part of the messages that take `spikeMs` longer: retransmissions. */
  readonly spikes: number;
  readonly spikeMs: number;
}

/** End is what a process sees of a connection. */
export interface End<M> {
  receive(message: M): void;
  /** The connection is over; called once, at the very end. */
  ended(failure: Failure): void;
}

/** Listener accepts connections of a hub; undefined while the process is down. `first` is what the dialer said with the dial. */
export type Listener<M> = (from: number, socket: Socket<M>, first: M) => End<M>;

/** Direction is one half of a connection: what is under way arrives in order, whatever the delays are. */
interface Direction<M> {
  arrivesFrom: number;
  /** What arrived while the path was cut: TCP sends it again when the path is back. */
  readonly stalled: M[];
}

class Connection<M> {
  readonly hubs: readonly [number, number];
  readonly ends: [End<M> | undefined, End<M> | undefined] = [undefined, undefined];
  readonly over: [boolean, boolean] = [false, false];
  readonly directions: readonly [Direction<M>, Direction<M>] = [
    { arrivesFrom: 0, stalled: [] },
    { arrivesFrom: 0, stalled: [] },
  ];
  /** Half-open: nothing arrives any more, and at least one side was not told. */
  silent = false;
  /** What is under way to this side is held back, until it all comes at once: the other side was told long ago that it is over. */
  held: 0 | 1 | undefined;

  readonly first: M;

  constructor(from: number, to: number, first: M) {
    this.hubs = [from, to];
    this.first = first;
  }
}

/** Cut says which sides of a connection learn of its end, and when: "late" one does at once, the other after all that was under way. */
export type Cut = "both" | "one" | "none" | "late";

/** How long a cut connection's bytes lie somewhere before they arrive: longer than a client takes to connect again and go on. */
const LATE_MIN_MS = 500;
const LATE_JITTER_MS = 20_000;
const LATE_END_MS = 500;

/** Socket is one end of a connection, for its owner. */
export interface Socket<M> {
  send(message: M): void;
  /** abort ends this side at once; the other side learns of it when the news arrives. */
  abort(failure: Failure): void;
  /** leave ends this side after what it has said; it hears nothing more. */
  leave(): void;
}

/**
 * Network connects hubs. A frame is never lost inside a stream, since TCP repeats it: what is lost is the stream. Streams are
 * cut (both sides told, or one, or neither), delayed, and reordered against each other; paths are cut in one or both directions.
 */
export class Network<M> {
  readonly #scheduler: Scheduler;
  readonly #prng: Prng;
  readonly #listeners = new Map<number, Listener<M>>();
  readonly #connections = new Set<Connection<M>>();
  readonly #blocked = new Set<string>();
  readonly #unreachable = new Set<number>();
  readonly #hubs: number;
  options: NetworkOptions;
  delivered = 0;

  constructor(scheduler: Scheduler, prng: Prng, options: NetworkOptions, hubs: number) {
    this.#hubs = hubs;
    this.#scheduler = scheduler;
    this.#prng = prng;
    this.options = options;
  }

  listen(hub: number, listener: Listener<M> | undefined): void {
    if (listener === undefined) this.#listeners.delete(hub);
    else this.#listeners.set(hub, listener);
  }

  /** count is how many connections a hub has, as far as it knows, that began like this. */
  count(hub: number, like: (first: M) => boolean): number {
    return [...this.#connections].filter(({ hubs, first, over }) => hubs.includes(hub) && !over[hubs.indexOf(hub)] && like(first)).length;
  }

  /** nat makes a hub one that can only dial out. */
  nat(hub: number, natted: boolean): void {
    if (natted) this.#unreachable.add(hub);
    else this.#unreachable.delete(hub);
  }

  natted(hub: number): boolean {
    return this.#unreachable.has(hub);
  }

  /** block cuts the path in one direction; established connections wait, and some give up. */
  block(from: number, to: number): void {
    this.#blocked.add(`${from}>${to}`);
    for (const connection of this.#connections) {
      const [a, b] = connection.hubs;
      const concerned = (a === from && b === to) || (a === to && b === from);
      if (concerned && this.#prng.chance(0.5)) this.#scheduler.after(5_000 + this.#prng.below(40_000), () => this.#giveUp(connection));
    }
  }

  unblock(from: number, to: number): void {
    this.#blocked.delete(`${from}>${to}`);
    for (const connection of this.#connections) {
      this.#release(connection, 0);
      this.#release(connection, 1);
    }
  }

  blocked(from: number, to: number): boolean {
    return this.#blocked.has(`${from}>${to}`);
  }

  heal(): void {
    this.#blocked.clear();
    for (const connection of this.#connections) {
      this.#release(connection, 0);
      this.#release(connection, 1);
    }
  }

  /** dial opens a connection; `end.ended` is called if that fails, unless packets just vanish. `opened` when it is accepted. */
  dial(from: number, to: number, first: M, end: End<M>, opened: () => void): Socket<M> {
    const connection = new Connection<M>(from, to, first);
    connection.ends[0] = end;
    this.#connections.add(connection);
    const delay = this.#delay();
    // What is said at once comes behind the dial.
    connection.directions[1].arrivesFrom = this.#scheduler.now + delay;
    this.#scheduler.at(connection.directions[1].arrivesFrom, () => {
      if (connection.over[0]) return;
      if (this.blocked(from, to) || (this.#unreachable.has(to) && this.#isHub(from))) return;
      const listener = this.#listeners.get(to);
      if (listener === undefined) return this.#tellOver(connection, 0, REFUSED);
      connection.ends[1] = listener(from, this.#socket(connection, 1), first);
      this.#deliver(connection, 0, () => opened());
    });
    return this.#socket(connection, 0);
  }

  /** cut ends one connection of a hub, chosen by `index`. */
  cut(hub: number, index: number, told: Cut): boolean {
    const own = [...this.#connections].filter((c) => c.hubs.includes(hub) && c.ends[1] !== undefined && !c.silent && c.held === undefined);
    const connection = own[index % Math.max(1, own.length)];
    if (connection === undefined) return false;
    const side = (index & 1) as 0 | 1;
    if (told === "both") this.#giveUp(connection);
    else if (told === "late") this.#hold(connection, side);
    else {
      this.#silence(connection);
      if (told === "one") this.#tellOver(connection, side, GONE);
    }
    return true;
  }

  /** cutFrom ends the connections that a client of a hub dialled and that began like this; it is told at once. */
  cutFrom(end: number, like: (first: M) => boolean, told: "both" | "late"): boolean {
    const mayBeCut = ({ hubs, first, over, held }: Connection<M>): boolean =>
      hubs[0] === end && !over[0] && held === undefined && like(first);
    const found = [...this.#connections].filter(mayBeCut);
    for (const connection of found) {
      if (told === "both") this.#giveUp(connection);
      else this.#hold(connection, 0);
    }
    return found.length > 0;
  }

  /** hold tells one side that the connection is over, while what it has sent is still on its way, and for a long time. */
  #hold(connection: Connection<M>, told: 0 | 1): void {
    const other = told === 0 ? 1 : 0;
    connection.held = other;
    this.#tellOver(connection, told, GONE);
    this.#scheduler.after(LATE_MIN_MS + LATE_JITTER_MS * this.#prng.unit() ** 2, () => {
      connection.held = undefined;
      this.#release(connection, other);
      // What arrives is read before the end is noticed; at the same instant the end would take it away.
      this.#scheduler.after(LATE_END_MS * this.#prng.unit(), () => this.#tellOver(connection, other, GONE));
    });
  }

  /** kill ends all connections of a process. `told`: a process that dies is seen by its peers, a machine that loses power is not. */
  kill(hub: number, told: boolean): void {
    for (const connection of this.#connections) {
      const side = connection.hubs[0] === hub ? 0 : connection.hubs[1] === hub ? 1 : undefined;
      if (side === undefined) continue;
      connection.over[side] = true;
      if (told) this.#deliver(connection, side === 0 ? 1 : 0, () => this.#tellOver(connection, side === 0 ? 1 : 0, GONE));
      else this.#silence(connection);
      this.#forgetIfOver(connection);
    }
  }

  /** silence: nothing arrives any more. A client of a hub has the keepalive of its connection; hubs have their sessions' pings. */
  #silence(connection: Connection<M>): void {
    connection.silent = true;
    if (connection.hubs.every((end) => this.#isHub(end))) return;
    this.#scheduler.after(KEEPALIVE_MS * (1 + this.#prng.unit()), () => this.#giveUp(connection));
  }

  #socket(connection: Connection<M>, side: 0 | 1): Socket<M> {
    const other = side === 0 ? 1 : 0;
    return {
      send: (message) => {
        if (connection.over[side] || connection.silent) return;
        const direction = connection.directions[other];
        direction.arrivesFrom = Math.max(this.#scheduler.now + this.#delay(), direction.arrivesFrom);
        this.#scheduler.at(direction.arrivesFrom, () => this.#arrive(connection, other, message));
      },
      leave: () => {
        connection.over[side] = true;
        this.#forgetIfOver(connection);
      },
      abort: (failure) => {
        // Who was told that it is over has nothing to say: the other side would drop what is held back for it.
        if (connection.over[side]) return;
        this.#tellOver(connection, side, failure);
        if (!connection.silent) this.#deliver(connection, other, () => this.#tellOver(connection, other, GONE));
      },
    };
  }

  #arrive(connection: Connection<M>, side: 0 | 1, message: M): void {
    if (connection.over[side] || connection.silent) return;
    const { stalled } = connection.directions[side];
    const [from, to] = side === 1 ? connection.hubs : [connection.hubs[1], connection.hubs[0]];
    if (stalled.length > 0 || connection.held === side || this.blocked(from, to)) {
      stalled.push(message);
      return;
    }
    this.delivered++;
    connection.ends[side]?.receive(message);
  }

  #release(connection: Connection<M>, side: 0 | 1): void {
    const { stalled } = connection.directions[side];
    if (stalled.length === 0) return;
    const [from, to] = side === 1 ? connection.hubs : [connection.hubs[1], connection.hubs[0]];
    if (connection.held === side || this.blocked(from, to)) return;
    for (const message of stalled.splice(0)) {
      if (connection.over[side] || connection.silent) return;
      this.delivered++;
      connection.ends[side]?.receive(message);
    }
  }

  /** isHub: numbers above those of hubs are their clients. */
  #isHub(end: number): boolean {
    return end < this.#hubs;
  }

  /** deliver runs something at the other side after what is under way to it. */
  #deliver(connection: Connection<M>, side: 0 | 1, run: () => void): void {
    const direction = connection.directions[side];
    direction.arrivesFrom = Math.max(this.#scheduler.now + this.#delay(), direction.arrivesFrom);
    this.#scheduler.at(direction.arrivesFrom, () => {
      if (!connection.over[side]) run();
    });
  }

  #giveUp(connection: Connection<M>): void {
    this.#tellOver(connection, 0, GONE);
    this.#tellOver(connection, 1, GONE);
  }

  #tellOver(connection: Connection<M>, side: 0 | 1, failure: Failure): void {
    if (connection.over[side]) return;
    connection.over[side] = true;
    connection.directions[side].stalled.length = 0;
    this.#forgetIfOver(connection);
    connection.ends[side]?.ended(failure);
  }

  #forgetIfOver(connection: Connection<M>): void {
    if (connection.over[0] && (connection.over[1] || connection.ends[1] === undefined)) this.#connections.delete(connection);
  }

  #delay(): number {
    const { delayMinMs, delayJitterMs, spikes, spikeMs } = this.options;
    const spike = this.#prng.chance(spikes) ? spikeMs * this.#prng.unit() : 0;
    return delayMinMs + delayJitterMs * this.#prng.unit() + spike;
  }
}
