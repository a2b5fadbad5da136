import type { Now } from "#kernel/instant.ts";
import type { Effect, Frame, Request } from "../messages.ts";
import type { Part, PartGround } from "../part.ts";
import type { News } from "../state/commands.ts";
import type { MigrationBook } from "./book.ts";
import { askerProblem } from "./hosting/asker.ts";
import type { AgentInput } from "./hosting/messages.ts";
import { Residents } from "./hosting/residents.ts";
import { Sagas } from "./hosting/sagas.ts";
import type { Seen } from "./saga/saga.ts";

/** A read that could not be confirmed is asked for again after so long, ms. */
const READ_AGAIN_MS = 500;
/** What could not be brought into the log is tried again so often, ms. */
const ENLIST_MS = 1_000;
/** STEP_MS is how long each step of a move may take if nobody says otherwise, ms. */
export const STEP_MS = 60_000;

type AgentRequest = Extract<Request, { kind: "migrate" | "agents" | "migrations" | "abort_migration" }>;

/**
 * Mover moves agents for this hub: it knows the programs that have some, runs this hub's side of every migration, and takes what operators
 * want of them.
 *
 * MO1 nothing is said or done of an agent before a read, asked for by this process, has shown all that was decided before it began.
 */
export class Mover implements Part {
  readonly frames = ["migration"] as const;
  readonly requests = ["migrate", "agents", "migrations", "abort_migration"] as const;
  readonly #o: PartGround;
  readonly #book: MigrationBook;
  readonly #sagas: Sagas;
  readonly #residents: Residents;
  #linear = false;
  #reading = false;
  #readAt = Number.NEGATIVE_INFINITY;
  #enlistAt = Number.NEGATIVE_INFINITY;

  constructor(ground: PartGround, now: Now) {
    this.#o = ground;
    const { books } = ground.state;
    const { hubId, crypto, stored, sealingKey } = ground.ground;
    this.#book = books.migration;
    const { submit } = ground;
    this.#sagas = new Sagas({
      hubId,
      crypto,
      stored,
      sealingKey,
      book: this.#book,
      members: books.members,
      residents: () => this.#residents,
      submit,
      read: () => this.#read(),
      seen: (agent, transfer) => this.#seen(agent, transfer),
      beganAt: now.mono,
    });
    this.#residents = new Residents({
      hubId,
      stored,
      book: this.#book,
      seen: (agent) => this.#seen(agent, this.#openOf(agent)),
      submit,
      arriving: (agent) => this.#sagas.arriving(agent),
      leaving: (agent) => this.#sagas.leaving(agent),
    });
  }

  /** runs tells whether an agent runs at this hub, in a program that is connected. */
  runs(agent: string): boolean {
    return this.#residents.runs(agent);
  }

  onNews(now: Now, { book, news }: News, out: Effect[]): void {
    if (book !== "migration") return;
    if (news.kind === "step") this.#sagas.tellOf(now, news.migration, out);
    this.#residents.look(news.kind === "step" ? news.migration.agent : news.agent, out);
  }

  onReplaced(now: Now, out: Effect[]): void {
    this.#sagas.tell(now, out);
    this.#residents.lookAll(out);
  }

  contact(): void {
    // Sagas repeat what got no answer.
  }

  frame(now: Now, peer: string, frame: Frame, out: Effect[]): void {
    if (frame.kind === "migration" && this.#o.state.books.members.member(peer) !== undefined)
      this.#sagas.frame(now, peer, frame.frame, out);
  }

  /** agent takes what the shell tells of programs. */
  agent(now: Now, input: AgentInput, out: Effect[]): void {
    switch (input.kind) {
      case "host":
        return this.#residents.host(input.host, input.principal, input.offer, out);
      case "host_gone":
        return this.#residents.gone(input.host);
      case "replied":
        return this.#residents.replied(now, input.host, input.ask, input.reply, out);
      case "sealed": {
        const { transfer, round, numbers, parcel } = input;
        const failed = { kind: "abort", cause: "FAILED", message: "the checkpoint could not be sealed to the other hub" } as const;
        const told = parcel === undefined ? failed : ({ kind: "sealed", round, numbers, ...parcel } as const);
        return this.#sagas.input(now, "source", transfer, told, out);
      }
      case "opened": {
        const { transfer, round, numbers, raw } = input;
        return this.#sagas.input(now, "destination", transfer, { kind: "opened", round, numbers, raw }, out);
      }
    }
  }

  call(_now: Now, call: number, request: Request, out: Effect[]): void {
    const asked = request as AgentRequest;
    switch (asked.kind) {
      case "migrate":
        return this.#migrate(call, asked);
      case "abort_migration": {
        const { transfer, why } = asked;
        const message = why === "" ? `${this.#o.ground.hubId} does not want it any more` : why;
        return this.#submit(call, { kind: "abort", transfer, cause: "WITHDRAWN", message });
      }
      case "agents": {
        const { index } = this.#o.state.at;
        const common = { kind: "agents", call, index, ageMs: this.#o.log().ageMs ?? 0 } as const;
        if (index > 0 && index === asked.unless) return void out.push({ ...common, agents: [], formerly: [] });
        const agents = this.#book.agents().map((agent) => ({
          agent,
          connected: this.#residents.connected(agent.agent),
          runs: this.#residents.runs(agent.agent),
        }));
        return void out.push({ ...common, agents, formerly: this.#book.formerly() });
      }
      case "migrations": {
        const open = this.#book.migrations();
        const common = { kind: "migrations", call, doing: this.#sagas.describe(), ageMs: this.#o.log().ageMs ?? 0 } as const;
        return void out.push({ ...common, migrations: [...open, ...this.#book.history()], open: open.length });
      }
    }
  }

  tick(now: Now, out: Effect[]): void {
    if (!this.#linear && !this.#reading && now.mono >= this.#readAt) {
      if (this.#readAt === Number.NEGATIVE_INFINITY) this.#sagas.tell(now, out);
      this.#readAt = now.mono + READ_AGAIN_MS;
      this.#read();
    }
    if (now.mono >= this.#enlistAt) {
      this.#enlistAt = now.mono + ENLIST_MS;
      this.#residents.retry(out);
    }
    this.#sagas.tick(now, out);
  }

  deadline(): number | undefined {
    const reads = this.#linear || this.#reading ? Number.POSITIVE_INFINITY : this.#readAt;
    return Math.min(reads, this.#enlistAt, this.#sagas.deadline());
  }

  describe(): string {
    return [`mover ${this.#linear ? "" : "reads the log; "}${this.#residents.describe()}`, ...this.#sagas.describe()].join("\n");
  }

  #seen(agent: string, transfer: number): Seen {
    return {
      index: this.#o.state.at.index,
      linear: this.#linear,
      agent: this.#book.owner(agent),
      migration: this.#book.migration(transfer),
    };
  }

  #openOf(agent: string): number {
    return this.#book.migrations().find((one) => one.agent === agent && one.status === "open")?.transfer ?? 0;
  }

  #read(): void {
    if (this.#reading || this.#linear) return;
    this.#reading = true;
    this.#o.read((failure, now, out) => {
      this.#reading = false;
      if (failure !== undefined) {
        this.#readAt = now.mono + READ_AGAIN_MS;
        return;
      }
      this.#linear = true;
      this.#sagas.tell(now, out);
      this.#residents.lookAll(out);
    });
  }

  /** migrate asks for a move of the agent as it is now: with the fence that a read shows. */
  #migrate(call: number, { agent, to, stepMs, why }: Extract<AgentRequest, { kind: "migrate" }>): void {
    this.#o.read((failure, _now, out) => {
      if (failure !== undefined) return void out.push({ kind: "refused", call, failure });
      const record = this.#book.owner(agent);
      if (record === undefined) {
        const message = `no hub of this federation has an agent ${agent}; foedus agents list shows them`;
        return void out.push({ kind: "refused", call, failure: { reason: "NODE_NOT_FOUND", message, field: "agent" } });
      }
      if (this.#o.state.books.members.member(to) === undefined) {
        const message = `${to} is no member of the federation; foedus federation members lists them`;
        return void out.push({ kind: "refused", call, failure: { reason: "PEER_NOT_FOUND", message, field: "to_hub_id" } });
      }
      const problem = askerProblem(this.#o.state.books.members, record.owner, this.#o.ground.hubId);
      if (problem !== undefined)
        return void out.push({ kind: "refused", call, failure: { reason: "ACCESS_DENIED", message: problem, field: "agent" } });
      this.#submit(call, { kind: "request", agent, fence: record.fence, to, stepMs: stepMs === 0 ? STEP_MS : stepMs, why });
    });
  }

  #submit(call: number, command: Extract<Parameters<PartGround["submit"]>[0], { book: "migration" }>["command"]): void {
    this.#o.submit({ book: "migration", command }, (outcome, _now, out) => {
      if (outcome.kind === "refused") return void out.push({ kind: "refused", call, failure: outcome.failure });
      const { result, at } = outcome.applied;
      if (!result.ok) return void out.push({ kind: "refused", call, failure: result.failure });
      out.push({ kind: "changed", call, index: at.index, value: result.value, early: false });
    });
  }
}
