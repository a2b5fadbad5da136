import type { Now } from "#kernel/instant.ts";
import type { Effect } from "../messages.ts";
import type { Part, PartGround } from "../part.ts";
import { BALANCE_DEFAULTS, Balancer, type HubLoad, type Move } from "./balance.ts";
import type { MigrationBook } from "./book.ts";
import { Failures } from "./failures.ts";
import { STEP_MS } from "./mover.ts";

/** COOLDOWN_LOOKS are the looks for which an agent stays where it is, at the least. */
export const COOLDOWN_LOOKS = 3;

/** MEMORY_LOOKS are the looks for which an agent is not moved where that failed, and nobody to a hub that took in none of its last few. */
export const MEMORY_LOOKS = 12;

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
 * LB1 it moves agents of its own hub only, and only to hubs that said that they have room: whoever has no `agents_max` gives none and gets none.
 * LB2 how full a hub is is what the log says of its agents, those that are on their way to it among them.
 * LB3 hubs that see the same log, and the same hubs, come to the same plan, and each carries out its own part of it: two do not fill one place.
 * LB4 nothing is planned before a read has shown all that was decided.
 * LB5 what failed is in the log, and is not tried again soon: nobody moves an agent at each look.
 */
export class Rebalancing implements Part {
  readonly frames = [] as const;
  readonly requests = [] as const;
  readonly #o: PartGround;
  readonly #around: RebalancingGround;
  readonly #book: MigrationBook;
  readonly #balancer: Balancer | undefined;
  readonly #intervalMs: number;
  #lookAt: number;
  #reading = false;

  constructor(ground: PartGround, around: RebalancingGround, now: Now) {
    this.#o = ground;
    this.#around = around;
    this.#book = ground.state.books.migration;
    const { agentsMax, rebalanceMs } = ground.ground.tuning;
    this.#intervalMs = rebalanceMs;
    this.#lookAt = now.mono + rebalanceMs;
    if (agentsMax > 0) this.#balancer = new Balancer({ ...BALANCE_DEFAULTS, cooldownMs: COOLDOWN_LOOKS * rebalanceMs });
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

  tick(now: Now): void {
    if (this.#balancer === undefined || now.mono < this.#lookAt) return;
    this.#lookAt = now.mono + this.#intervalMs;
    if (this.#reading) return;
    this.#reading = true;
    this.#o.read((failure, then, out) => {
      this.#reading = false;
      if (failure === undefined) this.#look(then, out);
    });
  }

  deadline(): number | undefined {
    return this.#balancer === undefined ? undefined : this.#lookAt;
  }

  describe(): string {
    return this.#balancer === undefined ? "rebalancing off" : "rebalancing on";
  }

  #look(now: Now, out: Effect[]): void {
    const { hubId } = this.#o.ground;
    // Log time stands still while nothing is decided.
    const time = Math.max(this.#o.state.at.time, now.wall);
    const under = this.#book.migrations();
    const moving = new Set(under.map(({ agent }) => agent));
    const failures = new Failures(this.#book.history(), time - MEMORY_LOOKS * this.#intervalMs);
    const counts = new Map<string, number>();
    const agents = [];
    for (const { agent, owner, lost, since } of this.#book.records()) {
      if (lost) continue;
      counts.set(owner, (counts.get(owner) ?? 0) + 1);
      if (moving.has(agent) || (owner === hubId && !this.#around.runs(agent))) continue;
      const sinceMs = time - Math.max(since, failures.triedAt(agent));
      agents.push({ agent, hub: owner, sinceMs, notTo: failures.failedAt(agent) });
    }
    const open = under.filter(({ status }) => status === "open");
    for (const { from, to } of open) {
      counts.set(from, (counts.get(from) ?? 0) - 1);
      counts.set(to, (counts.get(to) ?? 0) + 1);
    }
    const hubs = this.#hubs(counts, failures);
    const moves = (this.#balancer as Balancer).plan(now.mono, hubs, agents, open.length);
    for (const move of moves) if (move.from === hubId) this.#move(move, hubs, out);
  }

  /** Hubs between which agents may move: members with room that this hub is in contact with. */
  #hubs(counts: ReadonlyMap<string, number>, failures: Failures): HubLoad[] {
    const { hubId } = this.#o.ground;
    const { members } = this.#o.state.books;
    return [...this.#around.rooms()]
      .filter(([hub]) => members.member(hub) !== undefined && (hub === hubId || this.#o.inContact(hub)))
      .map(([hub, room]) => ({ hub, agents: counts.get(hub) ?? 0, room, takes: !failures.refuses(hub) }));
  }

  #move({ agent, from, to }: Move, hubs: readonly HubLoad[], out: Effect[]): void {
    const record = this.#book.owner(agent);
    if (record === undefined) return;
    const full = (id: string): string => {
      const { agents, room } = hubs.find(({ hub }) => hub === id) as HubLoad;
      return `${id} has ${agents} agents and room for ${room}`;
    };
    const why = `rebalancing: ${full(from)}, ${full(to)}`;
    out.push({ kind: "observe", what: "rebalance_asked" });
    const command = { kind: "request", agent, fence: record.fence, to, stepMs: STEP_MS, why } as const;
    this.#o.submit({ book: "migration", command }, (outcome, _now, later) => {
      const failure = outcome.kind === "refused" ? outcome.failure : outcome.applied.result.ok ? undefined : outcome.applied.result.failure;
      const message =
        failure === undefined ? `${agent} moves to ${to}; ${why}` : `${agent} was to move to ${to} and does not: ${failure.message}`;
      later.push({ kind: "event", severity: "info", name: "rebalance", message, hubId: to });
      if (failure !== undefined) later.push({ kind: "observe", what: "rebalance_refused" });
    });
  }
}
