import { assert } from "#kernel/assert.ts";
import type { Crypto } from "#kernel/crypto.ts";
import type { Failure } from "#kernel/error.ts";
import { sameBytes } from "#kernel/wire/shape.ts";
import type { Book, LogInstant, Outcome } from "../log/book.ts";
import { Agents } from "./agents.ts";
import { commandProblem } from "./book-check.ts";
import { EMPTY } from "./bytes.ts";
import { claimHolds } from "./claim.ts";
import {
  type AgentRecord,
  BOUNDS,
  type Cause,
  type Migration,
  type MigrationAnswer,
  type MigrationCommand,
  type MigrationData,
  type MigrationNews,
  STEPS,
  type Step,
  stepAt,
} from "./messages.ts";

type Result = Outcome<MigrationAnswer, MigrationNews>;
type StepCommand = Exclude<MigrationCommand, { readonly kind: "enlist" | "dismiss" | "request" }>;

/** Who makes a step, and which step it is. */
const MADE_BY: Readonly<Record<Exclude<StepCommand["kind"], "abort">, { readonly step: Step; readonly by: "from" | "to" }>> = {
  validate: { step: "VALIDATE", by: "from" },
  accept: { step: "ACCEPT", by: "to" },
  prepare: { step: "PREPARE", by: "to" },
  checkpoint: { step: "CHECKPOINT", by: "from" },
  transfer: { step: "TRANSFER", by: "from" },
  confirm: { step: "CONFIRM", by: "to" },
  release: { step: "RELEASE", by: "from" },
};

/**
 * MigrationBook is who owns each agent, and every migration, the same at all hubs (S1-13).
 *
 * MG1 an agent has one owner and one fence at every position of the log; the fence never goes back, not even when a name is given up
 *    and taken again.
 * MG2 ownership changes at CONFIRM only: one entry, fence n to n+1, and nothing else of the migration changes it.
 * MG3 of CONFIRM and abort the first wins; the other one is refused and says so.
 * MG4 an agent has at most one migration that is neither committed nor aborted.
 * MG5 CONFIRM needs TRANSFER with the same digest (the source is frozen at what the destination holds), fence n+1, the claim of the agent's
 *    node key, and room whose time is not over.
 * MG6 each step is made once, in order, by the hub whose step it is; time decides only by log time and only before CONFIRM.
 * MG7 an old name answers with the owner of today, for `BOUNDS.redirectMs`, and no longer than the agent is there.
 * MG8 a hub that was removed owns nothing that may run, takes part in no migration, and releases nothing.
 */
export class MigrationBook implements Book<MigrationCommand, MigrationAnswer, MigrationNews, MigrationData> {
  readonly #crypto: Crypto;
  readonly #agents = new Agents();
  /** Migrations that are open, and committed ones without their release, by number; numbers only rise, so they stand in order. */
  readonly #open = new Map<number, Migration>();
  /** Those that are over, oldest first. */
  readonly #history = new Map<number, Migration>();
  #transfers = 0;
  /** When something is due, as long as nothing has changed; infinity for never. */
  #due: number | undefined;

  constructor(crypto: Crypto) {
    this.#crypto = crypto;
  }

  /** owner of an agent as this replica knows it. */
  owner(agent: string): ReturnType<Agents["get"]> {
    return this.#agents.get(agent);
  }

  /** agents by name. */
  agents(): readonly AgentRecord[] {
    return this.#agents.dump().agents;
  }

  /** records are the agents, by no order. */
  records(): Iterable<AgentRecord> {
    return this.#agents.records();
  }

  /** migration by number; undefined for one that never was, or is forgotten. */
  migration(transfer: number): Migration | undefined {
    return this.#open.get(transfer) ?? this.#history.get(transfer);
  }

  /** migrations that are not over, by number. */
  migrations(): readonly Migration[] {
    return [...this.#open.values()];
  }

  /** history of those that are over, the newest first. */
  history(): readonly Migration[] {
    return [...this.#history.values()].reverse();
  }

  /** movedTo answers an old name: where the agent is now that was once at that hub; undefined if it is there, gone, or too long ago. */
  movedTo(hub: string, agent: string): { readonly hub: string; readonly fence: number } | undefined {
    return this.#agents.movedTo(hub, agent);
  }

  /** formerly are all names that `movedTo` answers. */
  formerly(): readonly { readonly hub: string; readonly agent: string }[] {
    return this.#agents.formerly();
  }

  apply(at: LogInstant, author: string, command: MigrationCommand): Result {
    const problem = commandProblem(command);
    if (problem !== undefined) return { ok: false, failure: problem };
    this.#due = undefined;
    switch (command.kind) {
      case "enlist":
        return this.#agents.enlist(at, author, command.agent, command.nodeKey);
      case "dismiss": {
        const under = this.#under(command.agent);
        if (under !== undefined)
          return refused("ALREADY_EXISTS", `migration ${under.transfer} of ${command.agent} is under way; abort it first`);
        return this.#agents.dismiss(author, command.agent, command.fence);
      }
      case "request":
        return this.#request(at, author, command);
      default:
        return this.#step(at, author, command);
    }
  }

  due(): number | undefined {
    this.#due ??= this.#nextDue();
    return this.#due === Number.POSITIVE_INFINITY ? undefined : this.#due;
  }

  #nextDue(): number {
    let due = this.#agents.due();
    for (const { deadline, until, status } of this.#open.values()) {
      due = Math.min(due, deadline);
      if (status === "open" && until > 0) due = Math.min(due, until);
    }
    const [oldest] = this.#history.values();
    return oldest === undefined ? due : Math.min(due, overAt(oldest) + BOUNDS.historyMs);
  }

  expire(at: LogInstant): readonly MigrationNews[] {
    if ((this.due() ?? Number.POSITIVE_INFINITY) > at.time) return [];
    this.#due = undefined;
    const news: MigrationNews[] = [];
    this.#agents.expire(at.time);
    for (const migration of [...this.#open.values()]) {
      if (migration.status === "committed" && migration.deadline <= at.time) this.#close(at, { ...migration, index: at.index }, news);
      else if (migration.status !== "open") continue;
      else if (migration.deadline <= at.time)
        news.push(this.#abort(at, migration, "DEADLINE", `${waitedFor(migration)} did not come within ${migration.stepMs} ms`));
      else if (migration.until > 0 && migration.until <= at.time)
        news.push(this.#abort(at, migration, "LEASE_ENDED", `the room at ${migration.to} ended before the move was committed`));
    }
    for (const [transfer, migration] of this.#history) {
      if (overAt(migration) + BOUNDS.historyMs > at.time) break;
      this.#history.delete(transfer);
    }
    return news;
  }

  /**
   * removed is told that a hub is no member any more, at the position that says so: its open migrations are aborted, its agents are lost,
   * and copies that it would have to release count as released.
   */
  removed(at: LogInstant, hub: string): readonly MigrationNews[] {
    this.#due = undefined;
    const news: MigrationNews[] = [];
    for (const migration of [...this.#open.values()]) {
      if (migration.status === "open" && [migration.from, migration.to].includes(hub))
        news.push(this.#abort(at, migration, "HUB_REMOVED", `${hub} was removed from the federation`));
      else if (migration.status === "committed" && migration.from === hub) this.#close(at, { ...migration, index: at.index }, news);
    }
    return [...news, ...this.#agents.lose(at.time, hub)];
  }

  dump(): MigrationData {
    return {
      transfers: this.#transfers,
      ...this.#agents.dump(),
      open: [...this.#open.values()],
      history: [...this.#history.values()],
    };
  }

  load(data: MigrationData): void {
    this.#due = undefined;
    this.#transfers = data.transfers;
    this.#agents.load(data);
    this.#open.clear();
    this.#history.clear();
    for (const migration of data.open) this.#open.set(migration.transfer, migration);
    for (const migration of data.history) this.#history.set(migration.transfer, migration);
  }

  describe(): string {
    const lines = [...this.#open.values()].map(
      ({ transfer, agent, from, to, fence, step, status }) =>
        `migration ${transfer} ${agent} ${from} -> ${to} fence ${fence} ${step} ${status}`,
    );
    return [this.#agents.describe(), ...lines, `history ${this.#history.size}`].join("\n");
  }

  #under(agent: string): Migration | undefined {
    for (const migration of this.#open.values()) if (migration.agent === agent && migration.status === "open") return migration;
    return undefined;
  }

  #request(at: LogInstant, author: string, command: Extract<MigrationCommand, { kind: "request" }>): Result {
    const { agent, fence, to, stepMs, why } = command;
    const record = this.#agents.get(agent);
    if (record === undefined) return refused("NODE_NOT_FOUND", `no hub of this federation has an agent ${agent}`);
    if (record.lost) return refused("NODE_OFFLINE", `the hub ${record.owner} of ${agent} was removed from the federation`);
    if (record.fence !== fence)
      return refused(
        "MIGRATION_STEP",
        `${agent} has fence ${record.fence} at ${record.owner} and not ${fence}; look again and repeat the request`,
      );
    if (record.owner === to) return refused("ALREADY_EXISTS", `${agent} is at ${to} already`);
    const busy = this.#room(author, record.owner, to, agent);
    if (busy !== undefined) return { ok: false, failure: busy };
    const migration: Migration = {
      transfer: ++this.#transfers,
      agent,
      fence,
      from: record.owner,
      to,
      by: author,
      why,
      step: "REQUEST",
      status: "open",
      stepMs,
      deadline: at.time + stepMs,
      times: [{ at: at.time }],
      bytes: 0,
      sealingKey: EMPTY,
      until: 0,
      digest: EMPTY,
      claim: EMPTY,
      index: at.index,
      cause: undefined,
      message: "",
    };
    return this.#put(migration);
  }

  /** room says why there is none for another migration: of this agent, of one of the hubs, or at all. */
  #room(by: string, from: string, to: string, agent: string): Failure | undefined {
    let all = 0;
    let unreleased = 0;
    let unreleasedHere = 0;
    const count: Record<"by" | "from" | "to", number> = { by: 0, from: 0, to: 0 };
    for (const migration of this.#open.values()) {
      if (migration.status !== "open") {
        if (migration.agent === agent) unreleased++;
        if (migration.from === from) unreleasedHere++;
        continue;
      }
      if (migration.agent === agent)
        return refusal("ALREADY_EXISTS", `migration ${migration.transfer} of ${agent} is under way`, {
          transfer: String(migration.transfer),
        });
      all++;
      if (migration.by === by) count.by++;
      if (migration.from === from) count.from++;
      if (migration.to === to) count.to++;
    }
    if (unreleased >= BOUNDS.unreleasedPerAgent)
      return refusal("LIMIT_EXCEEDED", `${unreleased} hubs have not released their copy of ${agent}; see that they are up, or remove them`);
    if (unreleasedHere >= BOUNDS.unreleasedPerHub)
      return refusal(
        "LIMIT_EXCEEDED",
        `${from} has not released ${unreleasedHere} agents that it gave away; see that it is up, or remove it`,
      );
    const most = Math.max(count.from, count.to);
    if (this.#open.size >= BOUNDS.open || all >= BOUNDS.migrations || most >= BOUNDS.migrationsPerHub || count.by >= BOUNDS.requestsPerHub)
      return refusal("LIMIT_EXCEEDED", "too many migrations are under way; repeat the request when some are over");
    return undefined;
  }

  #step(at: LogInstant, author: string, command: StepCommand): Result {
    const migration = this.migration(command.transfer);
    if (migration === undefined) return refused("NODE_NOT_FOUND", `there is no migration ${command.transfer}`);
    if (command.kind === "abort") return this.#abortBy(at, author, migration, command.cause, command.message);
    const { step, by } = MADE_BY[command.kind];
    if (migration[by] !== author)
      return refused("ACCESS_DENIED", `${step} of migration ${migration.transfer} is for ${migration[by]} to say`);
    if (migration.status === "aborted")
      return refused("MIGRATION_STEP", `migration ${migration.transfer} was aborted: ${migration.message}`, { status: "aborted" });
    if (stepAt(step) !== stepAt(migration.step) + 1)
      return refused("MIGRATION_STEP", `migration ${migration.transfer} is at ${migration.step}; ${step} does not follow`, {
        step: migration.step,
      });
    const next: Migration = {
      ...migration,
      step,
      index: at.index,
      deadline: at.time + migration.stepMs,
      times: [...migration.times, { at: at.time }],
    };
    return this.#made(at, next, command);
  }

  #made(at: LogInstant, next: Migration, command: Exclude<StepCommand, { kind: "abort" }>): Result {
    switch (command.kind) {
      case "validate":
        return this.#put({ ...next, bytes: command.bytes });
      case "accept": {
        if (command.until <= at.time) return refused("VALUE_OUT_OF_RANGE", "the room at the destination has ended already");
        if (command.bytes < next.bytes)
          return refused("VALUE_OUT_OF_RANGE", `the checkpoint may have ${next.bytes} bytes, for which the destination has no room`);
        const { sealingKey, until } = command;
        return this.#put({ ...next, sealingKey: sealingKey.slice(), until });
      }
      case "checkpoint":
        if (command.bytes > next.bytes)
          return refused("VALUE_OUT_OF_RANGE", `the checkpoint has more than the ${next.bytes} bytes agreed on`);
        return this.#put(next);
      case "transfer":
        return this.#put({ ...next, digest: command.digest.slice() });
      case "confirm":
        return this.#confirm(at, next, command);
      case "release": {
        const news: MigrationNews[] = [];
        this.#close(at, { ...next, status: "released" }, news);
        return { ok: true, value: answerOf(next), news };
      }
      default:
        return this.#put(next);
    }
  }

  /** confirm is the commit point. */
  #confirm(at: LogInstant, next: Migration, command: Extract<StepCommand, { kind: "confirm" }>): Result {
    const { agent, from, to, transfer, digest } = next;
    const record = this.#agents.get(agent);
    assert(record !== undefined && record.owner === from && record.fence === next.fence, "MG2 an open migration has the owner's fence", {
      agent,
    });
    if (next.until <= at.time) return refused("MIGRATION_STEP", `the room at ${to} ended before the move was committed`);
    if (command.fence !== next.fence + 1)
      return refused("VALUE_OUT_OF_RANGE", `the fence after this move is ${next.fence + 1} and not ${command.fence}`);
    if (!sameBytes(command.digest, digest))
      return refused("CHECKPOINT_INVALID", "the destination holds another checkpoint than the one at which the source is frozen");
    const claim = { agent, from, to, fence: command.fence, transfer, digest };
    if (!claimHolds(this.#crypto, record.nodeKey, claim, command.claim))
      return refused("CHECKPOINT_INVALID", `the claim is not signed by the node key of ${agent}`);
    this.#agents.move(at.time, agent, to, command.fence);
    const committed: Migration = { ...next, status: "committed", claim: command.claim.slice(), deadline: at.time + BOUNDS.releaseMs };
    this.#open.set(transfer, committed);
    return {
      ok: true,
      value: { agent, fence: command.fence, transfer },
      news: [
        { kind: "step", migration: committed },
        { kind: "owner", agent, owner: to, fence: command.fence },
      ],
    };
  }

  #abortBy(at: LogInstant, author: string, migration: Migration, cause: Cause, message: string): Result {
    if (![migration.from, migration.to, migration.by].includes(author))
      return refused(
        "ACCESS_DENIED",
        `migration ${migration.transfer} is aborted by ${migration.from}, ${migration.to} or ${migration.by}`,
      );
    if (migration.status === "aborted")
      return refused("MIGRATION_STEP", `migration ${migration.transfer} is aborted already`, { status: "aborted" });
    if (migration.status !== "open")
      return refused(
        "MIGRATION_STEP",
        `migration ${migration.transfer} is committed: the agent is at ${migration.to}; ask for a move back`,
        {
          status: migration.status,
        },
      );
    const news = [this.#abort(at, migration, cause, message)];
    return { ok: true, value: answerOf(migration), news };
  }

  #abort(at: LogInstant, migration: Migration, cause: Cause, message: string): MigrationNews {
    const news: MigrationNews[] = [];
    this.#close(at, { ...migration, status: "aborted", cause, message, index: at.index }, news);
    return news[0] as MigrationNews;
  }

  #put(migration: Migration): Result {
    this.#open.set(migration.transfer, migration);
    return { ok: true, value: answerOf(migration), news: [{ kind: "step", migration }] };
  }

  /** close makes a migration history: the oldest one gives way. */
  #close(at: LogInstant, migration: Migration, news: MigrationNews[]): void {
    const closed: Migration = { ...migration, deadline: at.time };
    this.#open.delete(migration.transfer);
    this.#history.set(migration.transfer, closed);
    if (this.#history.size > BOUNDS.history) this.#history.delete(this.#history.keys().next().value as number);
    news.push({ kind: "step", migration: closed });
  }
}

/** overAt is the log time at which a migration became history. */
function overAt(migration: Migration): number {
  return migration.deadline;
}

function waitedFor({ step }: Migration): string {
  return STEPS[stepAt(step) + 1] ?? step;
}

function answerOf({ agent, fence, transfer, status }: Migration): MigrationAnswer {
  return { agent, fence: status === "open" ? fence : fence + 1, transfer };
}

function refusal(reason: Failure["reason"], message: string, facts?: Readonly<Record<string, string>>): Failure {
  return facts === undefined ? { reason, message } : { reason, message, facts };
}

function refused(reason: Failure["reason"], message: string, facts?: Readonly<Record<string, string>>): Result {
  return { ok: false, failure: refusal(reason, message, facts) };
}
