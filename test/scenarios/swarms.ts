// Swarms in virtual time: the cores of whole hubs, on one clock, that found a federation and lend each other.
import type { Answer, Request } from "../../services/coordination/messages.ts";
import type { LeaseView } from "../../services/coordination/resources/commands.ts";
import type { LendingAnswer, LendingAsk } from "../../services/coordination/resources/desk/asks.ts";
import { coders, want } from "../lending/parts.ts";
import { CoordinationHubs } from "../support/coordination-hubs.ts";
import { stateIn } from "../support/deciding.ts";
import type { Line } from "./promises.ts";

const FEDERATION = "street";
/** Founders of a federation that decides by Raft; more hubs join it. */
const FOUNDERS_MAX = 7;
/** How often hubs are asked whether something came true, virtual ms. */
const LOOK_MS = 20;
/** LOOK_AT_MS is how often who measures looks, virtual ms. */
export const LOOK_AT_MS = 25;
/** How long tasks may take to end. */
const END_MS = 120_000;

/** Loan is what became of one task that needed a resource. */
interface Loan {
  readonly hub: string;
  readonly id: string;
  readonly asked: number;
  call: number;
  /** A request that waits is told of in the log; its hub takes what it gets by itself. */
  stage: "asked" | "waits" | "held" | "given back";
  lease?: LeaseView;
  endsAt: number;
}

/** WorkOptions say what tasks there are: each borrows an agent of whoever has one, and gives it back. Times are virtual ms. */
export interface WorkOptions {
  /** Tasks of a hub in a minute. */
  readonly perMinute: (hub: string) => number;
  readonly forMs: number;
  readonly holdMs: number;
  /** How long a task waits for an agent to be free. */
  readonly waitMs: number;
  /** Called each 25 ms while tasks begin. */
  readonly look?: () => void;
}

/** Work is what became of all tasks of a hub. */
export interface Work {
  sent: number;
  /** Had an agent, and gave it back. */
  done: number;
  /** Refused, by reason. */
  readonly refused: Map<string, number>;
  /** From the request until the borrower had the agent, with its fence, virtual ms. */
  readonly decisions: number[];
}

/** Swarms are hubs that decide together. */
export class Swarms {
  readonly hubs: CoordinationHubs;
  readonly ids: readonly string[];
  #made = 0;

  private constructor(ids: readonly string[]) {
    this.ids = ids;
    this.hubs = new CoordinationHubs(...ids);
  }

  /** found makes so many hubs with a federation; those that are too many to found it join it. */
  static found(count: number, engine: "raft" | "bft" = "raft", tune: (hubs: CoordinationHubs) => void = () => undefined): Swarms {
    const swarms = new Swarms(Array.from({ length: count }, (_, i) => `swarm-${String(i + 1).padStart(3, "0")}`));
    const { hubs, ids } = swarms;
    tune(hubs);
    const [first = "", ...others] = engine === "raft" ? ids.slice(0, FOUNDERS_MAX) : ids;
    hubs.advance(10);
    hubs.ask(first, "standing", { kind: "found", federationId: FEDERATION, name: "", engine, admission: "founder", founders: others });
    hubs.advance(10);
    for (const id of others) hubs.ask(id, "standing", { kind: "join", federationId: FEDERATION, via: "" });
    swarms.come(() => [first, ...others].every((id) => swarms.status(id).canDecide));
    for (const id of ids.slice(1 + others.length)) {
      hubs.ask(id, "standing", { kind: "join", federationId: FEDERATION, via: first });
      hubs.until(() => swarms.status(first).joins.length > 0);
      hubs.ask(first, "changed", { kind: "admit", hubId: id, weight: 1 });
    }
    swarms.come(() => ids.every((id) => swarms.status(id).canDecide));
    return swarms;
  }

  get now(): number {
    return this.hubs.now.mono;
  }

  status(id: string, withDigest = false): Extract<Answer, { kind: "status" }>["status"] {
    return this.hubs.ask(id, "status", { kind: "status", withDigest }).status;
  }

  /** come lets time pass until something holds. */
  come(holds: () => boolean, forMs = 120_000): void {
    for (const end = this.now + forMs; !holds(); this.hubs.advance(LOOK_MS))
      if (this.now > end)
        throw new Error(`it does not come true:\n${this.ids.map((id) => `${id}: ${this.hubs.core(id).describe()}`).join("\n")}`);
  }

  /** put sets a value at a hub, and gives how long its decision took. */
  put(id: string, key: string, text: string): number {
    const began = this.now;
    this.hubs.ask(id, "changed", putting(key, text));
    return this.now - began;
  }

  /** read is a value as a hub has it itself. */
  read(id: string, key: string): string | undefined {
    const { answer } = this.hubs.ask(id, "queried", { kind: "query", query: { kind: "value", key }, local: true });
    return answer.kind === "value" && answer.value !== undefined ? new TextDecoder().decode(answer.value.value) : undefined;
  }

  /** digests are the states of hubs, each once: one if all have the same. A hub that makes none at the moment has one of its own. */
  digests(ids: readonly string[] = this.ids): string[] {
    return [...new Set(ids.map((id) => stateIn(this.status(id, true)) ?? `not told by ${id}`))];
  }

  /** offer has each hub offer so many agents. */
  offer(agents: number): void {
    for (const id of this.ids) this.lending(id, "offer", { kind: "command", command: coders(agents), take: "no" });
    this.come(() => this.ids.every((id) => !this.hubs.core(id).describe().includes("not synced")));
  }

  lending<K extends LendingAnswer["kind"]>(id: string, kind: K, ask: LendingAsk): Extract<LendingAnswer, { kind: K }> {
    const { answer } = this.hubs.ask(id, "lent", { kind: "lending", ask });
    if (answer.kind !== kind) throw new Error(`${answer.kind} instead of ${kind}`);
    return answer as Extract<LendingAnswer, { kind: K }>;
  }

  /** borrow has a hub borrow an agent of another one; it gives the lease, and how long its decision took. */
  borrow(id: string, owner: string): { readonly lease: LeaseView; readonly ms: number } {
    const began = this.now;
    const { answer } = this.hubs.ask(id, "lent", requesting(`task-${++this.#made}`, owner, 10_000));
    if (answer.kind !== "lease") throw new Error(`${answer.kind} instead of a lease`);
    return { lease: answer.allocation.lease, ms: this.now - began };
  }

  /** lent counts what is lent by what a hub has of the book. */
  lent(id: string): number {
    return this.lending(id, "allocations", { kind: "list", what: "allocations" }).allocations.length;
  }

  /** audit is what contradicts itself, by the word of each hub. */
  audit(): { readonly findings: number; readonly asked: number } {
    this.hubs.advance(3_000);
    const { findings, asked } = this.lending(this.ids[0]!, "audit", { kind: "audit" });
    return { findings: findings.length, asked: asked.length };
  }

  /** work begins tasks at a steady rate, whatever becomes of those before (an open loop), and lets all of them end. */
  work(options: WorkOptions): ReadonlyMap<string, Work> {
    const all = new Map(this.ids.map((id) => [id, { sent: 0, done: 0, refused: new Map(), decisions: [] } as Work]));
    const [began, open] = [this.now, new Set<Loan>()];
    const end = began + options.forMs;
    while (this.now < end || open.size > 0) {
      if (this.now < end) this.#begin(options, this.now - began, all, open);
      this.hubs.advance(1);
      for (const loan of open) if (this.#goOn(loan, all.get(loan.hub)!, options.holdMs)) open.delete(loan);
      if ((this.now - began) % LOOK_AT_MS !== 0) continue;
      this.#waited(open, all, options.holdMs);
      if (this.now < end) options.look?.();
      if (this.now > end + END_MS) throw new Error(`${open.size} tasks do not end`);
    }
    return all;
  }

  /** Begins the tasks that are due; hubs do not all begin at once. */
  #begin({ perMinute, waitMs }: WorkOptions, sinceMs: number, all: ReadonlyMap<string, Work>, open: Set<Loan>): void {
    for (const [i, hub] of this.ids.entries()) {
      const work = all.get(hub)!;
      const due = Math.floor((sinceMs * perMinute(hub)) / 60_000 + i / this.ids.length);
      for (; work.sent < due; work.sent++) {
        const id = `task-${++this.#made}`;
        open.add({ hub, id, asked: this.now, call: this.hubs.call(hub, requesting(id, "", waitMs)), stage: "asked", endsAt: 0 });
      }
    }
  }

  /** Looks after a task; true when it is over. */
  #goOn(loan: Loan, work: Work, holdMs: number): boolean {
    if (loan.stage === "held" && this.now >= loan.endsAt) this.#giveBack(loan);
    const answer = loan.stage === "waits" || loan.stage === "held" ? undefined : this.hubs.answered(loan.hub, loan.call);
    if (answer === undefined) return false;
    if (answer.kind === "refused") return refuse(work, `${answer.failure.reason}${loan.stage === "asked" ? "" : " when it gave back"}`);
    if (loan.stage === "given back") {
      work.done++;
      return true;
    }
    if (answer.kind !== "lent") throw new Error(`a task got ${answer.kind}`);
    if (answer.answer.kind === "lease") this.#hold(loan, work, answer.answer.allocation.lease, holdMs);
    else loan.stage = "waits";
    return false;
  }

  #hold(loan: Loan, work: Work, lease: LeaseView, holdMs: number): void {
    work.decisions.push(this.now - loan.asked);
    loan.lease = lease;
    loan.stage = "held";
    loan.endsAt = this.now + holdMs;
  }

  /** Looks what the log says of the tasks that wait, as the first hub has it. */
  #waited(open: Set<Loan>, all: ReadonlyMap<string, Work>, holdMs: number): void {
    const waiting = [...open].filter(({ stage }) => stage === "waits");
    if (waiting.length === 0) return;
    const { requests } = this.lending(this.ids[0]!, "requests", { kind: "list", what: "requests" });
    const { allocations } = this.lending(this.ids[0]!, "allocations", { kind: "list", what: "allocations" });
    const byTask = new Map(requests.map((request) => [`${request.borrower} ${request.id}`, request]));
    const leases = new Map(allocations.map(({ lease }) => [lease.lease, lease]));
    for (const loan of waiting) {
      const request = byTask.get(`${loan.hub} ${loan.id}`);
      const work = all.get(loan.hub)!;
      const lease = request?.state === "confirmed" ? leases.get(request.lease) : undefined;
      if (lease?.state === "live") this.#hold(loan, work, lease, holdMs);
      else if (request === undefined) {
        // The first hub may hear of it later than the one that asked.
        if (this.now - loan.asked > END_MS / 2) open.delete(loan) && refuse(work, "forgotten");
      } else if (request.state === "over") open.delete(loan) && refuse(work, request.why);
    }
  }

  #giveBack(loan: Loan): void {
    const { lease, fence } = loan.lease!;
    loan.stage = "given back";
    loan.call = this.hubs.call(loan.hub, { kind: "lending", ask: { kind: "release", lease, fence } });
  }
}

function refuse({ refused }: Work, why: string): true {
  refused.set(why, (refused.get(why) ?? 0) + 1);
  return true;
}

/** requesting is the request for one agent: of another hub, or of whoever has one. */
function requesting(id: string, owner: string, waitMs: number): Request {
  const command = want(id, 1, { owner, name: owner === "" ? "" : "coders", waitMs });
  return { kind: "lending", ask: { kind: "request", command, take: "once" } };
}

/** putting is the request to set a value. */
export function putting(key: string, text: string): Request {
  const value = new TextEncoder().encode(text);
  return { kind: "change", command: { book: "values", command: { kind: "put", key, value, conditional: false, expect: 0 } } };
}

/** seeds runs a simulator with one seed after the other, and says how many kept every promise. */
export async function seeds(
  what: string,
  count: number,
  run: (seed: number) => Promise<{ readonly violations: readonly { readonly text: string }[] }>,
): Promise<Line> {
  const broken: string[] = [];
  for (let seed = 1; seed <= count; seed++) {
    const [first] = (await run(seed)).violations;
    if (first !== undefined) broken.push(`seed ${seed}: ${first.text.slice(0, 200)}`);
  }
  const measured = `${count - broken.length} of ${count} seeded runs kept every promise${broken.map((text) => `; ${text}`).join("")}`;
  return { promised: what, measured, held: broken.length === 0 };
}
