import { assert } from "#kernel/assert.ts";
import { sameBytes } from "#kernel/wire/shape.ts";
import type { LogInstant, Outcome } from "../log/book.ts";
import { type AgentRecord, BOUNDS, type MigrationAnswer, type MigrationData, type MigrationNews, type Redirect } from "./messages.ts";

type Result = Outcome<MigrationAnswer, MigrationNews>;

/** Agents is the part of the book that says who owns which agent (MG1), and which old names answer with new ones (MG7). */
export class Agents {
  readonly #agents = new Map<string, AgentRecord>();
  /** By hub and agent; the oldest first, which ends first because log time does not go back. */
  readonly #redirects = new Map<string, Redirect>();
  /** Names of lost ones, and how many agents each hub has: of use only where `#agents` is too long to look through. */
  readonly #lost = new Set<string>();
  readonly #perHub = new Map<string, number>();
  /** The highest fence that any agent ever had. */
  #fences = 0;

  get(agent: string): AgentRecord | undefined {
    return this.#agents.get(agent);
  }

  records(): Iterable<AgentRecord> {
    return this.#agents.values();
  }

  movedTo(hub: string, agent: string): { readonly hub: string; readonly fence: number } | undefined {
    const record = this.#agents.get(agent);
    if (record === undefined || record.lost || record.owner === hub || !this.#redirects.has(nameOf(hub, agent))) return undefined;
    return { hub: record.owner, fence: record.fence };
  }

  /** formerly are the names that agents had at hubs where they are no more. */
  formerly(): { readonly hub: string; readonly agent: string }[] {
    return [...this.#redirects.values()].filter(({ hub, agent }) => this.movedTo(hub, agent) !== undefined);
  }

  /** enlist gives a name to its first owner, or back to a hub that had lost it by its removal and is a member again. */
  enlist(at: LogInstant, author: string, agent: string, nodeKey: Uint8Array): Result {
    const known = this.#agents.get(agent);
    if (known !== undefined) {
      const same = known.owner === author && sameBytes(known.nodeKey, nodeKey);
      if (same && !known.lost) return { ok: true, value: { agent, fence: known.fence, transfer: 0 }, news: [] };
      if (!same || !known.lost)
        return {
          ok: false,
          failure: { reason: "ALREADY_EXISTS", message: `${known.owner} has an agent ${agent} with another key; take another name` },
        };
    } else if (this.#agents.size >= BOUNDS.agents || (this.#perHub.get(author) ?? 0) >= BOUNDS.agentsPerHub) {
      return { ok: false, failure: { reason: "LIMIT_EXCEEDED", message: `${author} or the federation has too many agents; dismiss some` } };
    }
    const record = { agent, owner: author, fence: ++this.#fences, nodeKey: nodeKey.slice(), since: at.time, lost: false };
    this.#set(record);
    this.#redirects.delete(nameOf(author, agent));
    return { ok: true, value: { agent, fence: record.fence, transfer: 0 }, news: [owned(record)] };
  }

  dismiss(author: string, agent: string, fence: number): Result {
    const record = this.#agents.get(agent);
    if (record === undefined) return { ok: false, failure: { reason: "NODE_NOT_FOUND", message: `there is no agent ${agent}` } };
    if (record.owner !== author || record.fence !== fence) {
      const message = `${agent} is at ${record.owner} with fence ${record.fence}, and only that hub dismisses it`;
      return { ok: false, failure: { reason: "ACCESS_DENIED", message } };
    }
    this.#delete(record);
    return { ok: true, value: { agent, fence, transfer: 0 }, news: [{ kind: "gone", agent, owner: author }] };
  }

  /** move gives an agent to another owner. Only the commit point calls it (MG2). */
  move(time: number, agent: string, to: string, fence: number): void {
    const record = this.#agents.get(agent);
    assert(record !== undefined && fence > record.fence, "MG1 a fence rises", { agent, fence });
    this.#fences = Math.max(this.#fences, fence);
    this.#set({ ...record, owner: to, fence, since: time });
    this.#redirects.delete(nameOf(to, agent));
    this.#redirects.delete(nameOf(record.owner, agent));
    this.#redirects.set(nameOf(record.owner, agent), { hub: record.owner, agent, until: time + BOUNDS.redirectMs });
    if (this.#redirects.size > BOUNDS.redirects) this.#redirects.delete(this.#redirects.keys().next().value as string);
  }

  /** lose marks what a removed hub owned; `since` is then the time of the loss. */
  lose(time: number, hub: string): readonly MigrationNews[] {
    const lost = [...this.#agents.values()].filter(({ owner, lost }) => owner === hub && !lost).sort(byName);
    for (const record of lost) this.#set({ ...record, lost: true, since: time });
    return lost.map(({ agent, owner }) => ({ kind: "gone", agent, owner }));
  }

  due(): number {
    const [oldest] = this.#redirects.values();
    let due = oldest?.until ?? Number.POSITIVE_INFINITY;
    for (const agent of this.#lost) due = Math.min(due, this.#lostUntil(agent));
    return due;
  }

  /** expire forgets redirects and lost agents whose time is over. */
  expire(time: number): void {
    for (const [name, { until }] of this.#redirects) {
      if (until > time) break;
      this.#redirects.delete(name);
    }
    for (const agent of this.#lost) if (this.#lostUntil(agent) <= time) this.#delete(this.#agents.get(agent) as AgentRecord);
  }

  dump(): Pick<MigrationData, "fences" | "agents" | "redirects"> {
    return { fences: this.#fences, agents: [...this.#agents.values()].sort(byName), redirects: [...this.#redirects.values()] };
  }

  load({ fences, agents, redirects }: Pick<MigrationData, "fences" | "agents" | "redirects">): void {
    this.#fences = fences;
    for (const kept of [this.#agents, this.#redirects, this.#lost, this.#perHub]) kept.clear();
    for (const record of agents) this.#set(record);
    for (const redirect of redirects) this.#redirects.set(nameOf(redirect.hub, redirect.agent), redirect);
  }

  describe(): string {
    return [...this.#agents.values()]
      .sort(byName)
      .map(({ agent, owner, fence, lost }) => `agent ${agent} ${owner} fence ${fence}${lost ? " lost" : ""}`)
      .join("\n");
  }

  #set(record: AgentRecord): void {
    const before = this.#agents.get(record.agent);
    if (before !== undefined) this.#count(before.owner, -1);
    this.#count(record.owner, 1);
    this.#agents.set(record.agent, record);
    if (record.lost) this.#lost.add(record.agent);
    else this.#lost.delete(record.agent);
  }

  #delete(record: AgentRecord): void {
    this.#count(record.owner, -1);
    this.#agents.delete(record.agent);
    this.#lost.delete(record.agent);
  }

  #count(hub: string, change: number): void {
    const count = (this.#perHub.get(hub) ?? 0) + change;
    if (count === 0) this.#perHub.delete(hub);
    else this.#perHub.set(hub, count);
  }

  #lostUntil(agent: string): number {
    return (this.#agents.get(agent)?.since ?? 0) + BOUNDS.lostMs;
  }
}

const nameOf = (hub: string, agent: string): string => `${hub}/${agent}`;

const byName = (a: AgentRecord, b: AgentRecord): number => (a.agent < b.agent ? -1 : 1);

const owned = ({ agent, owner, fence }: AgentRecord): MigrationNews => ({ kind: "owner", agent, owner, fence });
