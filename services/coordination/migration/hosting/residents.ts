import type { Failure } from "#kernel/error.ts";
import type { Now } from "#kernel/instant.ts";
import { decode, encode, flag, message, type Of, sameBytes, text, uint } from "#kernel/wire/shape.ts";
import type { StoredLog } from "../../log/engine.ts";
import type { Effect } from "../../messages.ts";
import type { PartGround } from "../../part.ts";
import type { MigrationBook } from "../book.ts";
import { EMPTY } from "../bytes.ts";
import type { Laid } from "../checkpoint/checkpoint.ts";
import { type AgentRecord, BOUNDS } from "../messages.ts";
import { AgentGate } from "../saga/gate.ts";
import type { GateState, Seen } from "../saga/saga.ts";
import { Asks, type Then } from "./asks.ts";
import type { AskReply, AskSpec, HostOffer, OfferedAgent, Standing } from "./messages.ts";

/** RESIDENTS is where it is kept which program has which agent. */
export const RESIDENTS = "migration-agents";

/** What is kept of an agent at this hub. `started`: it came by a move, and its program has stored it. */
const KEPT = message({ fence: uint(1, undefined, 1), principal: text(2, 1_024), started: flag(3) });

type Kept = Of<typeof KEPT>;

/** Agents that are brought into the log without a pause, and how many more between two calls of `retry`: each is an entry for all members. */
const ENLISTS = { burst: BOUNDS.agentsPerHub, again: 50 } as const;

interface Host {
  readonly principal: string;
  offer: HostOffer;
  /** What it was told last of each agent. */
  readonly told: Map<string, string>;
}

/** ResidentsGround is what they work with. */
export interface ResidentsGround {
  readonly hubId: string;
  readonly stored: StoredLog;
  readonly book: MigrationBook;
  readonly seen: (agent: string) => Seen;
  readonly submit: PartGround["submit"];
  /** arriving tells whether an agent is on its way here, or has just arrived: its program is told to start it. */
  readonly arriving: (agent: string) => boolean;
  /** leaving tells whether a move away from here has not come to its end. */
  readonly leaving: (agent: string) => boolean;
}

/**
 * Residents are the programs that are connected to this hub, and the agents that they have.
 *
 * HR1 an agent runs only when a linearizable read of this process says that this hub owns it with the fence that its program has.
 * HR2 a program that took an agent in is the only one that has it: another one, and one that lost it, do not run it.
 * HR3 an agent and a kind are one program's at a time.
 * HR4 a copy with an old fence, of which no move is under way, is deleted.
 * HR5 programs that name agents on and on fill neither the log nor this hub: what is kept of a program is what it named last.
 */
export class Residents {
  readonly #o: ResidentsGround;
  readonly #hosts = new Map<number, Host>();
  readonly #holders = new Map<string, number>();
  readonly #takers = new Map<string, number>();
  /** As many as the log says are here (BOUNDS.agentsPerHub), and so are their gates. */
  readonly #kept = new Map<string, Kept>();
  readonly #gates = new Map<string, AgentGate<never>>();
  readonly #enlisting = new Set<string>();
  readonly #refused = new Map<string, Failure>();
  /** Agents that could not be brought into the log: again at the next `retry`. */
  readonly #again = new Set<string>();
  readonly #asks = new Asks();
  /** How many agents may be brought into the log at the moment (HR5). */
  #enlists: number = ENLISTS.burst;

  constructor(ground: ResidentsGround) {
    this.#o = ground;
    for (const { key, bytes } of ground.stored.space(RESIDENTS)) {
      const decoded = decode(KEPT, bytes);
      if (!decoded.ok) throw new RangeError(`what was stored of agent ${key} is damaged: ${decoded.problem}`);
      this.#kept.set(key, decoded.value);
    }
  }

  /** fence is that of the copy that is here of an agent; undefined for none. */
  fence(agent: string): number | undefined {
    return this.#kept.get(agent)?.fence;
  }

  /** takes tells whether a program is there that takes in agents of a kind; of any kind if it is not said. */
  takes(kind?: string): boolean {
    return kind === undefined ? this.#takers.size > 0 : this.#takers.has(kind);
  }

  /** connected tells whether the program of an agent is there. */
  connected(agent: string): boolean {
    return this.#holders.has(agent);
  }

  runs(agent: string): boolean {
    return this.#gates.get(agent)?.state === "open" && this.connected(agent);
  }

  /** host takes what a program says of itself, in place of what it said before. */
  host(host: number, principal: string, offer: HostOffer, out: Effect[]): void {
    this.#forget(host);
    const known = this.#hosts.get(host) ?? { principal, offer, told: new Map() };
    known.offer = offer;
    this.#hosts.set(host, known);
    for (const { agent } of offer.agents) {
      const holder = this.#holders.get(agent);
      const kept = this.#kept.get(agent);
      if (holder !== undefined) this.#tell(host, known, refusal(agent, `another program that is connected has the agent ${agent}`), out);
      else if (kept?.started === true && kept.principal !== principal && kept.fence === this.#o.book.owner(agent)?.fence)
        this.#tell(host, known, refusal(agent, `the agent ${agent} moved into the program with the certificate ${kept.principal}`), out);
      else this.#holders.set(agent, host);
    }
    const named = new Set(offer.agents.map(({ agent }) => agent));
    for (const agent of known.told.keys()) if (!named.has(agent)) known.told.delete(agent);
    for (const kind of offer.kinds) if (!this.#takers.has(kind)) this.#takers.set(kind, host);
    this.#refused.clear();
    for (const { agent } of offer.agents) this.look(agent, out);
    this.#asks.place((spec) => this.#hostOf(spec), out);
  }

  gone(host: number): void {
    this.#forget(host);
    this.#hosts.delete(host);
    this.#asks.gone(host);
  }

  replied(now: Now, host: number, ask: number, reply: AskReply, out: Effect[]): void {
    this.#asks.replied(now, host, ask, reply, out);
  }

  /** ask wants something of an agent; it waits for its program if that is not there. */
  ask(key: string, spec: AskSpec, then: Then, out: Effect[]): void {
    const host = this.#hostOf(spec);
    if (spec.deed === "START" && host !== undefined) this.#keep(spec.agent, spec.fence, host, true, out);
    this.#asks.want(key, spec, then, host, out);
  }

  /** stage shows an agent that may come to the program that would start it; if there is none, the start brings all of it. */
  stage(transfer: number, agent: string, fence: number, checkpoint: Laid, out: Effect[]): void {
    const host = this.#hostOf({ agent, deed: "START", fence, checkpoint });
    if (host !== undefined) out.push({ kind: "agent", effect: { kind: "stage", host, agent, transfer, checkpoint }, early: true });
  }

  /** drop gives up the asks whose key begins so. */
  drop(prefix: string): void {
    this.#asks.drop(prefix);
  }

  /** started notes that the program of an agent that came has it. */
  started(agent: string): void {
    const kept = this.#kept.get(agent);
    const host = kept && [...this.#hosts].find(([, { principal }]) => principal === kept.principal);
    if (host !== undefined && !this.#holders.has(agent)) this.#holders.set(agent, host[0]);
  }

  /** discarded notes that nothing is here of an agent with that fence. */
  discarded(agent: string, fence: number, out: Effect[]): void {
    const kept = this.#kept.get(agent);
    if (kept === undefined || kept.fence > fence) return;
    this.#kept.delete(agent);
    this.#gates.delete(agent);
    out.push({ kind: "persist", ops: [{ op: "delete", space: RESIDENTS, key: agent }] });
  }

  /** gate is set by a move. */
  gate(agent: string, state: GateState, fence: number, hub: string, out: Effect[]): void {
    const gate = this.#gates.get(agent) ?? new AgentGate<never>(this.#o.hubId, agent, fence);
    this.#gates.set(agent, gate);
    gate.set(state, fence, hub);
    this.look(agent, out);
  }

  /** retry looks again at agents that could not be brought into the log. */
  retry(out: Effect[]): void {
    this.#enlists = Math.min(ENLISTS.burst, this.#enlists + ENLISTS.again);
    const agents = [...this.#again];
    this.#again.clear();
    for (const agent of agents) this.look(agent, out);
  }

  /** lookAll compares all agents of programs with the log. */
  lookAll(out: Effect[]): void {
    for (const agent of [...this.#holders.keys()]) this.look(agent, out);
  }

  /** look compares an agent with what the log says, and tells its program how it stands. */
  look(agent: string, out: Effect[]): void {
    const host = this.#holders.get(agent);
    const known = host === undefined ? undefined : this.#hosts.get(host);
    if (host === undefined || known === undefined) return;
    const seen = this.#o.seen(agent);
    if (!seen.linear) return;
    // What came over this stream has the fence with which it came.
    const offered = known.offer.agents.find((one) => one.agent === agent) ?? { agent, nodeKey: EMPTY, fence: this.fence(agent) ?? 0 };
    const standing = seen.agent === undefined ? this.#enlist(offered) : this.#compare(offered, seen, seen.agent, host, out);
    if (standing !== undefined) this.#tell(host, known, standing, out);
  }

  describe(): string {
    const gates = [...this.#gates.values()].map(({ agent, state, fence }) => `${agent} ${state} fence ${fence}`).sort();
    return `programs=${this.#hosts.size} kinds=${[...this.#takers.keys()].sort().join(",")} gates=${gates.join("; ")} asks=${this.#asks.describe()}`;
  }

  #compare(offered: OfferedAgent, seen: Seen, record: AgentRecord, host: number, out: Effect[]): Standing | undefined {
    const { agent, fence } = offered;
    const { hubId } = this.#o;
    const kept = this.#kept.get(agent);
    if (offered.nodeKey.length > 0 && !sameBytes(offered.nodeKey, record.nodeKey))
      return refusal(agent, `${record.owner} has an agent ${agent} with another key; take another name`);
    if (record.owner !== hubId) {
      if (fence > 0 && fence < record.fence && !this.#o.leaving(agent)) this.#discardStale(offered, record.owner, out);
      this.#gates.get(agent)?.look(seen);
      return { agent, fence: record.fence, runs: false, movedTo: record.owner, failure: undefined };
    }
    if (record.lost) return refusal(agent, `the hub ${hubId} was removed from the federation, and its agents do not run`);
    if (this.#o.arriving(agent)) return undefined;
    const started = kept?.fence === record.fence && kept.started;
    const gate = this.#gateOf(agent, record.fence);
    if (fence !== record.fence && (fence > 0 || started)) {
      const message = `the agent ${agent} has fence ${record.fence} here and its program has fence ${fence}: the program lost it, or is an older copy`;
      return { agent, fence: record.fence, runs: false, movedTo: "", failure: { reason: "AGENT_FROZEN", message } };
    }
    if (kept?.fence !== record.fence) this.#keep(agent, record.fence, host, false, out);
    gate.look(seen);
    return { agent, fence: record.fence, runs: gate.state === "open", movedTo: "", failure: undefined };
  }

  #gateOf(agent: string, fence: number): AgentGate<never> {
    const known = this.#gates.get(agent);
    if (known !== undefined && known.fence >= fence) return known;
    const gate = new AgentGate<never>(this.#o.hubId, agent, fence);
    this.#gates.set(agent, gate);
    return gate;
  }

  /** enlist brings a new agent into the log. */
  #enlist({ agent, nodeKey, fence }: OfferedAgent): Standing | undefined {
    if (fence > 0) return refusal(agent, `the federation knows no agent ${agent}; it was dismissed, or belongs to another federation`);
    const refused = this.#refused.get(agent);
    if (refused !== undefined) return { agent, fence: 0, runs: false, movedTo: "", failure: refused };
    if (this.#enlisting.has(agent)) return undefined;
    if (this.#enlists === 0) return void this.#again.add(agent);
    this.#enlists--;
    this.#enlisting.add(agent);
    this.#o.submit({ book: "migration", command: { kind: "enlist", agent, nodeKey } }, (outcome, _now, out) => {
      this.#enlisting.delete(agent);
      if (outcome.kind === "refused") return void this.#again.add(agent);
      const { result } = outcome.applied;
      if (!result.ok) this.#refused.set(agent, result.failure);
      this.look(agent, out);
    });
    return undefined;
  }

  #discardStale({ agent, fence }: OfferedAgent, hub: string, out: Effect[]): void {
    const spec: AskSpec = { agent, fence, transfer: 0, deed: "DISCARD", round: 0, claim: EMPTY, checkpoint: undefined, hub };
    this.ask(`stale ${agent}`, spec, (_reply, _now, later) => this.discarded(agent, fence, later), out);
  }

  #keep(agent: string, fence: number, host: number, started: boolean, out: Effect[]): void {
    const kept = { fence, principal: this.#hosts.get(host)?.principal ?? "", started };
    this.#kept.set(agent, kept);
    out.push({ kind: "persist", ops: [{ op: "put", space: RESIDENTS, key: agent, bytes: encode(KEPT, kept) }] });
  }

  /** hostOf is the program that can do what is wanted of an agent: one that was told how it stands, and so knows its fence. */
  #hostOf({ agent, deed, fence, checkpoint }: Pick<AskSpec, "agent" | "deed" | "fence" | "checkpoint">): number | undefined {
    const holder = this.#holders.get(agent);
    if (deed !== "START") return holder !== undefined && this.#hosts.get(holder)?.told.has(agent) === true ? holder : undefined;
    if (holder !== undefined) return holder;
    const kept = this.#kept.get(agent);
    const taker = this.#takers.get(checkpoint?.dependencies[0] ?? "");
    if (kept?.fence !== fence || !kept.started) return taker;
    // It may have it already (HR2).
    if (taker !== undefined && this.#hosts.get(taker)?.principal === kept.principal) return taker;
    return [...this.#hosts].find(([, { principal }]) => principal === kept.principal)?.[0];
  }

  #forget(host: number): void {
    for (const held of [this.#holders, this.#takers]) for (const [name, holder] of held) if (holder === host) held.delete(name);
  }

  #tell(host: number, known: Host, standing: Standing, out: Effect[]): void {
    const { agent, fence, runs, movedTo, failure } = standing;
    const words = `${fence} ${runs} ${movedTo} ${failure?.message ?? ""}`;
    if (known.told.get(agent) === words) return;
    known.told.set(agent, words);
    out.push({ kind: "agent", effect: { kind: "hosted", host, agents: [standing] } });
    this.#asks.place((spec) => this.#hostOf(spec), out);
  }
}

function refusal(agent: string, message: string): Standing {
  return { agent, fence: 0, runs: false, movedTo: "", failure: { reason: "ALREADY_EXISTS", message } };
}
