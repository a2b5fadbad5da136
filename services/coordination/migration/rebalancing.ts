import type { Now } from "#kernel/instant.ts";
import type { Effect } from "../messages.ts";
import type { Part, PartGround } from "../part.ts";
import { BALANCE_DEFAULTS, Balancer, type HubLoad, type Move } from "./balance.ts";
import type { MigrationBook } from "./book.ts";
import { STEP_MS } from "./mover.ts";

/** RebalancingGround is what it needs of the parts beside it. */
export interface RebalancingGround {
  /** rooms says for how many agents each hub has room that has some. */
  readonly rooms: () => ReadonlyMap<string, number>;
  /** runs tells whether an agent runs at this hub. */
  readonly runs: (agent: string) => boolean;
}

/**
 * Rebalancing moves agents of this hub, if it is fuller than others, to hubs that are emptier (S1-30).
 *
 * RB1 it moves agents of its own hub only, and only to hubs that said that they have room: whoever has no `agents_max` gives none and gets none.
 * RB2 how full a hub is is what the log says of its agents, those that are on their way to it among them.
 * RB3 all hubs come to the same plan from the same log, and each carries out its own part of it: two do not fill one place.
 */
export class Rebalancing implements Part {
  readonly frames = [] as const;
  readonly requests = [] as const;
  readonly #o: PartGround;
  readonly #around: RebalancingGround;
  readonly #book: MigrationBook;
  readonly #balancer: Balancer | undefined;

  constructor(ground: PartGround, around: RebalancingGround, now: Now) {
    this.#o = ground;
    this.#around = around;
    this.#book = ground.state.books.migration;
    const { agentsMax, rebalanceMs } = ground.ground.tuning;
    const config = { ...BALANCE_DEFAULTS, intervalMs: rebalanceMs, cooldownMs: 3 * rebalanceMs };
    if (agentsMax > 0) this.#balancer = new Balancer(config, now.mono + rebalanceMs);
  }

  onNews(): void {
    // It looks by itself.
  }

  onReplaced(): void {
    // So it does then.
  }

  contact(): void {
    // Who is in contact is asked when it looks.
  }

  frame(): void {
    // It has none.
  }

  call(): void {
    // Nor requests.
  }

  tick(now: Now, out: Effect[]): void {
    if (this.#balancer === undefined || this.#balancer.deadline() > now.mono) return;
    const { hubId } = this.#o.ground;
    const { time } = this.#o.state.at;
    const whereabouts = this.#whereabouts();
    const moving = new Set(this.#book.migrations().map(({ agent }) => agent));
    const agents = this.#book
      .agents()
      .filter(({ agent, lost, owner }) => !lost && !moving.has(agent) && (owner !== hubId || this.#around.runs(agent)))
      .map(({ agent, owner, since }) => ({ agent, hub: owner, sinceMs: Math.max(0, time - since) }));
    for (const move of this.#balancer.look(now.mono, this.#loads(whereabouts), agents))
      if (move.from === hubId) this.#move(move, whereabouts, out);
  }

  deadline(): number | undefined {
    return this.#balancer?.deadline();
  }

  describe(): string {
    return this.#balancer === undefined ? "rebalancing off" : "rebalancing on";
  }

  /** How many agents each hub has, or will have when the moves are over that are under way (RB2). */
  #whereabouts(): Map<string, number> {
    const counts = new Map<string, number>();
    const count = (hub: string, change: number): unknown => counts.set(hub, (counts.get(hub) ?? 0) + change);
    for (const { owner, lost } of this.#book.agents()) if (!lost) count(owner, 1);
    for (const { from, to, status } of this.#book.migrations()) {
      if (status !== "open") continue;
      count(from, -1);
      count(to, 1);
    }
    return counts;
  }

  /** Hubs between which agents may move: members with room that this hub is in contact with. */
  #loads(whereabouts: ReadonlyMap<string, number>): HubLoad[] {
    const { hubId } = this.#o.ground;
    const { members } = this.#o.state.books;
    return [...this.#around.rooms()]
      .filter(([hub]) => members.member(hub) !== undefined && (hub === hubId || this.#o.inContact(hub)))
      .map(([hub, room]) => ({ hub, load: Math.round((1_000 * (whereabouts.get(hub) ?? 0)) / room), perAgent: Math.round(1_000 / room) }));
  }

  #move({ agent, from, to }: Move, whereabouts: ReadonlyMap<string, number>, out: Effect[]): void {
    const record = this.#book.owner(agent);
    if (record === undefined) return;
    const rooms = this.#around.rooms();
    const full = (hub: string): string => `${hub} has ${whereabouts.get(hub) ?? 0} agents and room for ${rooms.get(hub) ?? 0}`;
    const why = `rebalancing: ${full(from)}, ${full(to)}`;
    out.push({ kind: "observe", what: "rebalance_asked" });
    const command = { kind: "request", agent, fence: record.fence, to, stepMs: STEP_MS, why } as const;
    this.#o.submit({ book: "migration", command }, (outcome, _now, later) => {
      const failure = outcome.kind === "refused" ? outcome.failure : outcome.applied.result.ok ? undefined : outcome.applied.result.failure;
      const message = failure === undefined ? `${agent} moves to ${to}; ${why}` : `${agent} was to move to ${to} and does not: ${failure.message}`;
      later.push({ kind: "event", severity: "info", name: "rebalance", message, hubId: to });
      if (failure !== undefined) later.push({ kind: "observe", what: "rebalance_refused" });
    });
  }
}
