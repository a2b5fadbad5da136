import type { Failure } from "#kernel/error.ts";
import type { Prng } from "#kernel/prng.ts";
import type { Scheduler } from "./scheduler.ts";

export const GONE: Failure = { reason: "PEER_UNREACHABLE", message: "the connection is gone" };
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

/** Listener accepts connections for a service of a hub; undefined while the process is down. */
export type Listener<M> = (from: number, socket: Socket<M>) => End<M>;

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

  constructor(from: number, to: number) {
    this.hubs = [from, to];
  }
}

/** Socket is one end of a connection, for its owner. */
export interface Socket<M> {
  send(message: M): void;
  /** abort ends this side at once; the other side learns of it when the news arrives. */
  abort(failure: Failure): void;
}

/**
 * Network connects hubs. A frame is never lost inside a stream, since TCP repeats it: what is lost is the stream. Streams are
 * cut (both sides told, or one, or neither), delayed, and reordered against each other; paths are cut in one or both directions.
 */
export class Network<M> {
  readonly #scheduler: Scheduler;
  readonly #prng: Prng;
  readonly #listeners = new Map<string, Listener<M>>();
  readonly #connections = new Set<Connection<M>>();
  readonly #blocked = new Set<string>();
  readonly #unreachable = new Set<number>();
  options: NetworkOptions;
  delivered = 0;

  constructor(scheduler: Scheduler, prng: Prng, options: NetworkOptions) {
    this.#scheduler = scheduler;
    this.#prng = prng;
    this.options = options;
  }

  listen(hub: number, service: string, listener: Listener<M> | undefined): void {
    const key = `${hub}/${service}`;
    if (listener === undefined) this.#listeners.delete(key);
    else this.#listeners.set(key, listener);
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
  dial(from: number, to: number, service: string, end: End<M>, opened: () => void): Socket<M> {
    const connection = new Connection<M>(from, to);
    connection.ends[0] = end;
    this.#connections.add(connection);
    this.#scheduler.after(this.#delay(), () => {
      if (connection.over[0]) return;
      if (this.blocked(from, to) || this.#unreachable.has(to)) return;
      const listener = this.#listeners.get(`${to}/${service}`);
      if (listener === undefined) return this.#tellOver(connection, 0, REFUSED);
      connection.ends[1] = listener(from, this.#socket(connection, 1));
      this.#deliver(connection, 0, () => opened());
    });
    return this.#socket(connection, 0);
  }

  /** cut ends one connection of a hub, chosen by `index`. "told": which sides learn of it. */
  cut(hub: number, index: number, told: "both" | "one" | "none"): boolean {
    const own = [...this.#connections].filter((c) => c.hubs.includes(hub) && c.ends[1] !== undefined && !c.silent);
    const connection = own[index % Math.max(1, own.length)];
    if (connection === undefined) return false;
    if (told === "both") this.#giveUp(connection);
    else {
      connection.silent = true;
      if (told === "one") this.#tellOver(connection, (index & 1) as 0 | 1, GONE);
    }
    return true;
  }

  /** kill ends all connections of a process. `told`: a process that dies is seen by its peers, a machine that loses power is not. */
  kill(hub: number, told: boolean): void {
    for (const connection of this.#connections) {
      const side = connection.hubs[0] === hub ? 0 : connection.hubs[1] === hub ? 1 : undefined;
      if (side === undefined) continue;
      connection.over[side] = true;
      if (told) this.#deliver(connection, side === 0 ? 1 : 0, () => this.#tellOver(connection, side === 0 ? 1 : 0, GONE));
      else connection.silent = true;
      this.#forgetIfOver(connection);
    }
  }

  #socket(connection: Connection<M>, side: 0 | 1): Socket<M> {
    const other = side === 0 ? 1 : 0;
    return {
      send: (message) => {
        if (connection.over[side] || connection.silent) return;
        const direction = connection.directions[other];
        direction.arrivesFrom = Math.max(this.#scheduler.now + this.#delay(), direction.arrivesFrom);
        this.#scheduler.after(direction.arrivesFrom - this.#scheduler.now, () => this.#arrive(connection, other, message));
      },
      abort: (failure) => {
        this.#tellOver(connection, side, failure);
        if (!connection.silent) this.#deliver(connection, other, () => this.#tellOver(connection, other, GONE));
      },
    };
  }

  #arrive(connection: Connection<M>, side: 0 | 1, message: M): void {
    if (connection.over[side] || connection.silent) return;
    const { stalled } = connection.directions[side];
    const [from, to] = side === 1 ? connection.hubs : [connection.hubs[1], connection.hubs[0]];
    if (stalled.length > 0 || this.blocked(from, to)) {
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
    if (this.blocked(from, to)) return;
    for (const message of stalled.splice(0)) {
      if (connection.over[side] || connection.silent) return;
      this.delivered++;
      connection.ends[side]?.receive(message);
    }
  }

  /** deliver runs something at the other side after what is under way to it. */
  #deliver(connection: Connection<M>, side: 0 | 1, run: () => void): void {
    const direction = connection.directions[side];
    direction.arrivesFrom = Math.max(this.#scheduler.now + this.#delay(), direction.arrivesFrom);
    this.#scheduler.after(direction.arrivesFrom - this.#scheduler.now, () => {
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
