import { BOUNDS } from "./messages.ts";

/** LOAD_MAX is the load, per mille, above which nobody is brought (S1-30). */
export const LOAD_MAX = 800;

/** MovableAgent is an agent that may be moved. */
export interface MovableAgent {
  readonly hub: string;
  readonly agent: string;
  /** How long it has been where it is, ms. */
  readonly sinceMs: number;
  /** Hubs that it is not moved to. */
  readonly notTo?: ReadonlySet<string> | undefined;
}

/** BalanceConfig is which moves the balancer proposes. Loads are per mille. */
export interface BalanceConfig {
  /** A hub is out of balance if its load differs by more than this from the mean; and is so until it differs by less than `settled`. */
  readonly threshold: number;
  readonly settled: number;
  /** An agent that came, or was proposed to move, is left alone for so long, ms. */
  readonly cooldownMs: number;
  /** Moves that are proposed at a time. */
  readonly movesMax: number;
}

/** BALANCE_DEFAULTS are moves for a difference of more than 0.2. */
export const BALANCE_DEFAULTS: BalanceConfig = { threshold: 200, settled: 100, cooldownMs: 900_000, movesMax: 16 };

/** HubLoad is how many agents a hub has, and for how many it has room (at least 1): its load is the one divided by the other. */
export interface HubLoad {
  readonly hub: string;
  readonly agents: number;
  readonly room: number;
  /** False: it is given nothing, though it may give. */
  readonly takes: boolean;
}

/** Move is a proposal: somebody else decides, and carries it out. */
export interface Move {
  readonly agent: string;
  readonly from: string;
  readonly to: string;
}

/**
 * Balancer proposes which agents to move from hubs that have much to do to hubs that have little (S1-30). It never acts.
 *
 * A hub is out of balance from when it differs from the mean by more than the threshold until it does by less than `settled`. The mean is that
 * of all room together, agents by room, so that no move changes it. A hub above it sends; to one below it, all who are above do. Nobody
 * receives who would then be above the mean itself, or above LOAD_MAX, and nobody sends who is not above the mean. Each agent is moved once in
 * a cooldown, those first that have been where they are for longest: so nothing goes to and fro.
 */
export class Balancer {
  readonly #config: BalanceConfig;
  readonly #sending = new Set<string>();
  readonly #receiving = new Set<string>();
  readonly #cooling = new Map<string, number>();

  constructor(config: BalanceConfig) {
    this.#config = config;
  }

  /** plan gives the moves to make at a monotonic instant, ms, while `under` moves are under way. */
  plan(mono: number, hubs: readonly HubLoad[], agents: readonly MovableAgent[], under = 0): Move[] {
    if (hubs.length < 2) return [];
    for (const [agent, until] of this.#cooling) if (until <= mono) this.#cooling.delete(agent);
    const tally = new Tally(hubs);
    this.#mark(hubs, tally);
    const moves: Move[] = [];
    const senders = hubs.filter((hub) => tally.isAbove(hub, tally.agents(hub)));
    const movable = this.#movable(new Set(senders.map(({ hub }) => hub)), agents);
    const takers = hubs.filter(({ takes }) => takes);
    for (const from of senders.sort((a, b) => tally.compare(b, a))) {
      // Who is only a little above the mean gives to those that are far below it.
      const receivers = this.#sending.has(from.hub) ? takers : takers.filter(({ hub }) => this.#receiving.has(hub));
      for (const { agent, notTo } of movable.get(from.hub) ?? []) {
        if (moves.length >= this.#config.movesMax - under || !tally.isAbove(from, tally.agents(from))) break;
        const open = receivers.filter((hub) => hub !== from && tally.hasRoom(hub));
        if (open.length === 0) break;
        const [to] = open.filter(({ hub }) => notTo?.has(hub) !== true).sort((a, b) => tally.compare(a, b));
        if (to === undefined) continue;
        tally.move(from, to);
        this.#cool(agent, mono);
        moves.push({ agent, from: from.hub, to: to.hub });
      }
    }
    return moves;
  }

  /** Who begins to send or to receive, and who has done enough. */
  #mark(hubs: readonly HubLoad[], tally: Tally): void {
    const known = new Set(hubs.map(({ hub }) => hub));
    for (const [set, sign] of [[this.#sending, 1] as const, [this.#receiving, -1] as const]) {
      for (const hub of set) if (!known.has(hub)) set.delete(hub);
      for (const hub of hubs) {
        if (tally.beyond(hub, sign, this.#config.threshold) > 0) set.add(hub.hub);
        else if (tally.beyond(hub, sign, this.#config.settled) < 0) set.delete(hub.hub);
      }
    }
  }

  /** The agents of some hubs that may be moved now, in the order in which they are. */
  #movable(from: ReadonlySet<string>, agents: readonly MovableAgent[]): Map<string, MovableAgent[]> {
    const movable = new Map<string, MovableAgent[]>();
    for (const one of agents) {
      if (!from.has(one.hub) || one.sinceMs < this.#config.cooldownMs || this.#cooling.has(one.agent)) continue;
      const ofHub = movable.get(one.hub);
      if (ofHub === undefined) movable.set(one.hub, [one]);
      else ofHub.push(one);
    }
    for (const ofHub of movable.values()) ofHub.sort((a, b) => b.sinceMs - a.sinceMs || (a.agent < b.agent ? -1 : 1));
    return movable;
  }

  #cool(agent: string, mono: number): void {
    this.#cooling.delete(agent);
    this.#cooling.set(agent, mono + this.#config.cooldownMs);
    if (this.#cooling.size > BOUNDS.agents) this.#cooling.delete(this.#cooling.keys().next().value as string);
  }
}

/** Tally is how many agents each hub would have. It compares in whole numbers, so that all hubs that compare find the same. */
class Tally {
  readonly #agents: Map<string, number>;
  readonly #all: number;
  readonly #room: number;

  constructor(hubs: readonly HubLoad[]) {
    this.#agents = new Map(hubs.map(({ hub, agents }) => [hub, agents]));
    this.#all = hubs.reduce((all, { agents }) => all + agents, 0);
    this.#room = hubs.reduce((all, { room }) => all + room, 0);
  }

  agents({ hub }: HubLoad): number {
    return this.#agents.get(hub) as number;
  }

  /** isAbove tells whether a hub with so many agents is above the mean. */
  isAbove({ room }: HubLoad, agents: number): boolean {
    return agents * this.#room > this.#all * room;
  }

  /** beyond is above 0 if a hub is above (sign 1) or below (-1) the mean by more than so much per mille, and below 0 if it is by less. */
  beyond(hub: HubLoad, sign: 1 | -1, perMille: number): number {
    return 1_000 * sign * (this.agents(hub) * this.#room - this.#all * hub.room) - perMille * hub.room * this.#room;
  }

  /** hasRoom tells whether a hub may get another agent. */
  hasRoom(hub: HubLoad): boolean {
    const then = this.agents(hub) + 1;
    return 1_000 * then <= LOAD_MAX * hub.room && !this.isAbove(hub, then);
  }

  /** compare orders hubs by load, then by name. */
  compare(a: HubLoad, b: HubLoad): number {
    return this.agents(a) * b.room - this.agents(b) * a.room || (a.hub < b.hub ? -1 : 1);
  }

  move(from: HubLoad, to: HubLoad): void {
    this.#agents.set(from.hub, this.agents(from) - 1);
    this.#agents.set(to.hub, this.agents(to) + 1);
  }
}
