/** LOAD_MAX is the load, per mille, from which a hub is given nothing more (S1-30). */
export const LOAD_MAX = 800;

/** MovableAgent is an agent that may be moved. */
export interface MovableAgent {
  readonly hub: string;
  readonly agent: string;
  /** How long it has been where it is, ms. */
  readonly sinceMs: number;
}

/** BalanceConfig is when the balancer proposes moves. Loads are per mille. */
export interface BalanceConfig {
  /** Between two looks, ms. */
  readonly intervalMs: number;
  /** A hub is out of balance if its load differs by more than this from the mean; and is so until it differs by less than `settled`. */
  readonly threshold: number;
  readonly settled: number;
  /** An agent that was proposed to move is left alone for so long, ms. */
  readonly cooldownMs: number;
  /** Moves that are proposed at a time. */
  readonly movesMax: number;
}

/** BALANCE_DEFAULTS are a look every 300 s, and moves for a difference of more than 0.2. */
export const BALANCE_DEFAULTS: BalanceConfig = { intervalMs: 300_000, threshold: 200, settled: 100, cooldownMs: 900_000, movesMax: 16 };

/** HubLoad is a hub with its load and what part of it an agent is: both per mille. */
export interface HubLoad {
  readonly hub: string;
  readonly load: number;
  /** By how much its load changes with one agent more or less. */
  readonly perAgent: number;
}

/** Move is a proposal: somebody else decides, and carries it out. */
export interface Move {
  readonly agent: string;
  readonly from: string;
  readonly to: string;
}

/** Agents that are remembered to have been proposed; the oldest are forgotten. */
const COOLING_MAX = 4_096;

/**
 * Balancer proposes which agents to move from hubs that have much to do to hubs that have little (S1-30). It never acts.
 *
 * A hub is out of balance from when it differs from the mean by more than the threshold until it does by less than `settled`. One above sends;
 * to one below, all who are above the mean do. Nobody receives who would then be above the mean itself, or have LOAD_MAX. Each agent is moved
 * once in a cooldown, those first that have been where they are for longest: so nothing goes to and fro.
 */
export class Balancer {
  readonly #config: BalanceConfig;
  readonly #sending = new Set<string>();
  readonly #receiving = new Set<string>();
  readonly #cooling = new Map<string, number>();
  #nextAt: number;

  /** `mono` is the monotonic instant of the first look, ms. */
  constructor(config: BalanceConfig, mono: number) {
    this.#config = config;
    this.#nextAt = mono;
  }

  /** deadline is the monotonic instant of the next look. */
  deadline(): number {
    return this.#nextAt;
  }

  /** look gives the moves that are due at a monotonic instant, ms: none before the interval has passed. */
  look(mono: number, hubs: readonly HubLoad[], agents: readonly MovableAgent[]): Move[] {
    if (mono < this.#nextAt) return [];
    this.#nextAt = mono + this.#config.intervalMs;
    if (hubs.length < 2) return [];
    for (const [agent, until] of this.#cooling) if (until <= mono) this.#cooling.delete(agent);
    const loads = new Map(hubs.map(({ hub, load }) => [hub, load]));
    const sum = hubs.reduce((all, { load }) => all + load, 0);
    // Differences from the mean are compared as whole numbers: n times the load with the sum of all.
    const above = (load: number): number => load * hubs.length - sum;
    this.#mark(hubs, above);
    const moves: Move[] = [];
    const bySize = [...hubs].sort((a, b) => b.load - a.load || (a.hub < b.hub ? -1 : 1));
    for (const from of bySize) {
      // Who is only a little above the mean gives to those that are far below it.
      const receivers = this.#sending.has(from.hub) ? hubs : hubs.filter(({ hub }) => this.#receiving.has(hub));
      if (receivers.length === 0) continue;
      for (const { agent } of this.#movable(from.hub, agents)) {
        if (moves.length >= this.#config.movesMax || above(loads.get(from.hub) as number) <= 0) break;
        const to = receiverOf(from, receivers, loads, above);
        if (to === undefined) break;
        loads.set(from.hub, (loads.get(from.hub) as number) - from.perAgent);
        loads.set(to.hub, (loads.get(to.hub) as number) + to.perAgent);
        this.#cool(agent, mono);
        moves.push({ agent, from: from.hub, to: to.hub });
      }
    }
    return moves;
  }

  /** Who begins to send or to receive, and who has done enough. */
  #mark(hubs: readonly HubLoad[], above: (load: number) => number): void {
    const known = new Set(hubs.map(({ hub }) => hub));
    for (const [set, sign] of [[this.#sending, 1] as const, [this.#receiving, -1] as const]) {
      for (const hub of set) if (!known.has(hub)) set.delete(hub);
      for (const { hub, load } of hubs) {
        if (sign * above(load) > this.#config.threshold * hubs.length) set.add(hub);
        else if (sign * above(load) < this.#config.settled * hubs.length) set.delete(hub);
      }
    }
  }

  #movable(hub: string, agents: readonly MovableAgent[]): MovableAgent[] {
    return agents
      .filter((agent) => agent.hub === hub && !this.#cooling.has(agent.agent))
      .sort((a, b) => b.sinceMs - a.sinceMs || (a.agent < b.agent ? -1 : 1));
  }

  #cool(agent: string, mono: number): void {
    this.#cooling.delete(agent);
    this.#cooling.set(agent, mono + this.#config.cooldownMs);
    if (this.#cooling.size > COOLING_MAX) this.#cooling.delete(this.#cooling.keys().next().value as string);
  }
}

function receiverOf(
  from: HubLoad,
  hubs: readonly HubLoad[],
  loads: ReadonlyMap<string, number>,
  above: (load: number) => number,
): HubLoad | undefined {
  const loadOf = ({ hub }: HubLoad): number => loads.get(hub) as number;
  return hubs
    .filter((hub) => {
      const then = loadOf(hub) + hub.perAgent;
      return hub.hub !== from.hub && then < LOAD_MAX && above(then) <= 0;
    })
    .sort((a, b) => loadOf(a) - loadOf(b) || (a.hub < b.hub ? -1 : 1))[0];
}
