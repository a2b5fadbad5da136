import type { LogInstant } from "../../services/coordination/log/book.ts";
import { ResourceBook } from "../../services/coordination/resources/book.ts";
import { type BorrowerEffect, type BorrowerInput, LeaseBorrower } from "../../services/coordination/resources/borrower.ts";
import type { LeaseView, ResourceCommand, ResourceNews } from "../../services/coordination/resources/commands.ts";
import { type ExecutorEffect, type ExecutorInput, LeaseExecutor } from "../../services/coordination/resources/executor.ts";
import { BORROWER_SPACE, EXECUTOR_SPACE, readAdmissions, readHoldings } from "../../services/coordination/resources/kept.ts";
import { RULES } from "../../services/coordination/resources/rules.ts";
import type { StoreOp } from "../../services/kernel/core.ts";
import type { Failure } from "../../services/kernel/error.ts";
import type { Now } from "../../services/kernel/instant.ts";
import { Prng } from "../../services/kernel/prng.ts";
import { Checker } from "./checker.ts";
import type { Mutant } from "./mutants.ts";

/** Outcome of a proposal as its author sees it. */
type Seen = { readonly lease?: LeaseView; readonly remainingMs?: number; readonly failure?: Failure } | "unknown";

interface Told {
  readonly index: number;
  readonly time: number;
  readonly news: ResourceNews;
}

/** Hub is a hub of the world: its own clock, its store, what really runs at it, and what it really uses. */
export class Hub {
  readonly id: string;
  readonly #rate: number;
  readonly #offset: number;
  incarnation = 1;
  up = true;
  cut = false;
  removed = false;
  store = new Map<string, Map<string, Uint8Array>>();
  executor!: LeaseExecutor;
  borrower!: LeaseBorrower;
  /** What it has read of the log since it started. */
  syncedTo = Number.POSITIVE_INFINITY;
  /** The truth: agents that work, by lease, and what this hub uses of others, by request. */
  readonly running = new Map<number, { fence: number; agents: readonly string[] }>();
  readonly using = new Map<string, { lease: number; fence: number }>();
  inbox: Told[] = [];

  constructor(id: string, prng: Prng) {
    this.id = id;
    this.#rate = 1 + (prng.unit() - 0.5) * 0.004;
    this.#offset = prng.below(1_000_000);
  }

  now(t: number): Now {
    return { mono: (t + this.#offset) * this.#rate, wall: t };
  }

  /** trueTime is when the hub's monotonic clock shows something. */
  trueTime(mono: number): number {
    return mono / this.#rate - this.#offset;
  }

  rows(space: string): { key: string; bytes: Uint8Array }[] {
    return [...(this.store.get(space) ?? [])].map(([key, bytes]) => ({ key, bytes }));
  }

  write(ops: readonly StoreOp[]): void {
    for (const op of ops) {
      if (op.op !== "put" && op.op !== "delete") throw new Error(`no such write: ${op.op}`);
      const space = this.store.get(op.space) ?? new Map<string, Uint8Array>();
      this.store.set(op.space, space);
      if (op.op === "put") space.set(op.key, op.bytes);
      else space.delete(op.key);
    }
  }

  backup(): Map<string, Map<string, Uint8Array>> {
    return new Map([...this.store].map(([space, rows]) => [space, new Map(rows)]));
  }
}

/**
 * World is one log and some hubs that lend to each other over it, with everything that may go wrong between them: answers that are lost,
 * commands that come late or twice, hubs that are cut off, die, and come back from a backup, clocks that run apart or are set.
 */
export class World {
  t = 0;
  readonly prng: Prng;
  readonly hubs: Hub[];
  readonly checker: Checker;
  readonly mutant: Mutant;
  book: ResourceBook;
  /** A replica that was loaded from a dump: it must say the same. */
  #twin: ResourceBook;
  #log: LogInstant = { index: 0, term: 1, time: 1_000_000 };
  /** By how much the leader's clock is off. */
  #skew = 1_000_000;
  #events: { at: number; run: () => void }[] = [];
  readonly trace: string[] = [];
  /** What checkers know of quotas and withdrawals: what was said, whatever the book made of it. */
  readonly quotas = new Map<string, readonly number[]>();
  readonly withdrawn = new Set<string>();
  /** A world without faults answers everything. */
  calm = false;

  constructor(seed: number, hubs: number, mutant: Mutant = {}) {
    this.prng = new Prng(seed);
    this.mutant = mutant;
    this.book = this.#newBook();
    this.#twin = this.#newBook();
    this.hubs = Array.from({ length: hubs }, (_, i) => new Hub(`hub-${i}`, this.prng));
    this.checker = new Checker(this);
    for (const hub of this.hubs) this.start(hub);
  }

  get logTime(): number {
    return this.#log.time;
  }

  hub(id: string): Hub {
    return this.hubs.find((hub) => hub.id === id) as Hub;
  }

  note(line: string): void {
    this.trace.push(`${this.t.toFixed(0).padStart(8)} ${line}`);
  }

  after(ms: number, run: () => void): void {
    const at = this.t + ms;
    const found = this.#events.findIndex((event) => event.at > at);
    this.#events.splice(found < 0 ? this.#events.length : found, 0, { at, run });
  }

  /** run lets so much time pass. */
  run(ms: number): void {
    const end = this.t + ms;
    for (;;) {
      const next = this.#next();
      if (next.at > end) break;
      this.t = Math.max(this.t, next.at);
      next.run();
    }
    this.t = end;
  }

  #next(): { at: number; run: () => void } {
    let next = { at: Number.POSITIVE_INFINITY, run: () => {} };
    const event = this.#events[0];
    if (event !== undefined) next = { at: event.at, run: () => this.#events.shift()?.run() };
    const due = this.book.due();
    if (due !== undefined && due - this.#skew < next.at) next = { at: due - this.#skew, run: () => this.#advance() };
    for (const hub of this.hubs) {
      if (!hub.up) continue;
      for (const core of ["executor", "borrower"] as const) {
        const at = hub.trueTime(hub[core].deadline() ?? Number.POSITIVE_INFINITY) + 0.001;
        if (at < next.at) next = { at, run: () => this.#tick(hub, core) };
      }
    }
    return next;
  }

  #newBook(): ResourceBook {
    const book = new ResourceBook({ ...RULES, ...this.mutant.rules });
    return this.mutant.book?.(book) ?? book;
  }

  /** setLeaderClock has another leader, whose clock is off by so much: log time does not go back all the same. */
  setLeaderClock(skewMs: number): void {
    this.note(`another leader, clock off by ${skewMs}`);
    this.#skew = 1_000_000 + skewMs;
    this.#log = { ...this.#log, term: this.#log.term + 1 };
  }

  #instant(): LogInstant {
    this.#log = { ...this.#log, index: this.#log.index + 1, time: Math.max(this.#log.time, Math.floor(this.t + this.#skew)) };
    return this.#log;
  }

  #advance(): void {
    const at = this.#instant();
    // A deadline is passed, whatever the rounding.
    const due = this.book.due();
    if (due !== undefined && due > at.time) this.#log = { ...at, time: due };
    this.#expire(this.#log);
    this.checker.afterStep(this.#log);
  }

  #expire(at: LogInstant): void {
    this.checker.before();
    const news = this.book.expire(at);
    this.#twin.expire(at);
    this.checker.news(at, news, undefined, undefined);
    this.#tell(at, news);
  }

  /** apply puts a command into the log. */
  apply(author: string, command: ResourceCommand): ReturnType<ResourceBook["apply"]> {
    const at = this.#instant();
    this.#expire(at);
    this.checker.before();
    const outcome = this.book.apply(at, author, command);
    if (outcome.ok && command.kind === "offer") this.withdrawn.delete(`${author}/${command.offer.name}`);
    if (outcome.ok && command.kind === "quota") this.quotas.set(`${author}/${command.name} ${command.borrower}`, command.nominal);
    if (outcome.ok && command.kind === "withdraw") {
      this.withdrawn.add(`${author}/${command.name}`);
      for (const key of [...this.quotas.keys()]) if (key.startsWith(`${author}/${command.name} `)) this.quotas.delete(key);
    }
    this.#twin.apply(at, author, command);
    this.note(`${author}: ${JSON.stringify(command)} -> ${outcome.ok ? "ok" : outcome.failure.message}`);
    if (outcome.ok) {
      this.checker.news(at, outcome.news, author, command);
      this.#tell(at, outcome.news);
    } else this.checker.refused();
    this.checker.afterStep(at);
    return outcome;
  }

  /** federation does what the federation decided of a hub. */
  federation(act: (book: ResourceBook, at: LogInstant) => readonly ResourceNews[], what: string): void {
    const at = this.#instant();
    this.#expire(at);
    this.checker.before();
    const news = act(this.book, at);
    act(this.#twin, at);
    this.note(what);
    this.checker.news(at, news, undefined, undefined);
    this.#tell(at, news);
    this.checker.afterStep(at);
  }

  /** replicate has another replica start from a dump, after it was compared (BK3). */
  replicate(): void {
    this.checker.alike(this.book.dump(), this.#twin.dump());
    this.#twin = this.#newBook();
    this.#twin.load(this.book.dump());
  }

  #tell(at: LogInstant, news: readonly ResourceNews[]): void {
    for (const hub of this.hubs) {
      for (const one of news) hub.inbox.push({ index: at.index, time: at.time, news: one });
      if (news.length > 0) this.after(this.prng.below(300), () => this.deliver(hub));
    }
  }

  /** deliver tells a hub the news that it has not heard. */
  deliver(hub: Hub): void {
    if (!hub.up || hub.cut || hub.syncedTo === Number.POSITIVE_INFINITY) return;
    const told = hub.inbox.splice(0);
    for (const { index, time, news } of told) {
      if (index <= hub.syncedTo || news.kind !== "lease") continue;
      const { what, lease } = news;
      if (lease.owner === hub.id) this.executor(hub, { kind: "news", what, lease, logTime: time });
      if (lease.borrower === hub.id) this.borrower(hub, { kind: "news", what, lease });
    }
  }

  /** heard tells whether a hub has heard all that the log says of a lease. */
  heard(hub: Hub, lease: number): boolean {
    return !hub.inbox.some(({ news }) => news.kind === "lease" && news.lease.lease === lease);
  }

  /** start starts the process of a hub, from its store. */
  start(hub: Hub): void {
    hub.up = true;
    hub.incarnation++;
    const times = { graceMs: RULES.graceMs, killMs: 5_000, disconnectMs: 15_000 };
    hub.executor = new LeaseExecutor({ hubId: hub.id, ...times }, readAdmissions(hub.rows(EXECUTOR_SPACE)));
    const config = { graceMs: RULES.graceMs, driftPerMille: 5, marginMs: 1_000, ...this.mutant.borrower };
    hub.borrower = new LeaseBorrower(config, readHoldings(hub.rows(BORROWER_SPACE)));
    hub.using.clear();
    hub.inbox = [];
    hub.syncedTo = Number.POSITIVE_INFINITY;
    for (const [lease, { fence }] of hub.running) this.executor(hub, { kind: "found", lease, fence });
    this.#sync(hub, hub.incarnation);
  }

  #sync(hub: Hub, incarnation: number): void {
    if (!hub.up || hub.incarnation !== incarnation) return;
    if (hub.cut) {
      this.after(500, () => this.#sync(hub, incarnation));
      return;
    }
    hub.syncedTo = this.#log.index;
    const leases = this.book.leases({ owner: hub.id });
    this.executor(hub, { kind: "book", logTime: this.#log.time, floor: this.book.fence(), leases });
  }

  /** crash ends the process of a hub; what runs at it goes on, or does not. */
  crash(hub: Hub, everything: boolean): void {
    this.note(`${hub.id} dies${everything ? " with all that runs" : ""}`);
    hub.up = false;
    hub.using.clear();
    if (everything) hub.running.clear();
  }

  executor(hub: Hub, input: ExecutorInput): void {
    const out: ExecutorEffect[] = [];
    hub.executor.step(hub.now(this.t), this.mutant.executor?.(this, hub, input) ?? input, out);
    this.#executorEffects(hub, out, input);
  }

  borrower(hub: Hub, input: BorrowerInput): void {
    const out: BorrowerEffect[] = [];
    hub.borrower.step(hub.now(this.t), input, out);
    this.#borrowerEffects(hub, out);
  }

  #tick(hub: Hub, core: "executor" | "borrower"): void {
    if (core === "executor") {
      const out: ExecutorEffect[] = [];
      hub.executor.tick(hub.now(this.t), out);
      this.#executorEffects(hub, out, undefined);
    } else {
      const out: BorrowerEffect[] = [];
      hub.borrower.tick(hub.now(this.t), out);
      this.#borrowerEffects(hub, out);
    }
  }

  #executorEffects(hub: Hub, out: readonly ExecutorEffect[], input: ExecutorInput | undefined): void {
    const { incarnation } = hub;
    for (const effect of out) {
      if (effect.kind === "persist") hub.write(effect.ops);
      else if (effect.kind === "propose") {
        if (!(this.mutant.silent && effect.command.kind === "stopped")) this.propose(hub, effect.command, () => {});
      } else if (effect.kind === "admitted" && input?.kind === "admit") {
        const lease = this.book.lease(input.lease);
        this.checker.admitted(hub, input.lease, input.fence);
        hub.running.set(input.lease, { fence: input.fence, agents: lease?.agents ?? effect.agents });
        this.checker.afterStep(this.#log);
      } else if (effect.kind === "stop") {
        const obeys = effect.force || !hub.running.has(effect.lease) || this.prng.chance(0.6);
        if (!obeys) continue;
        this.after(this.prng.below(effect.force ? 500 : 4_000), () => {
          hub.running.delete(effect.lease);
          if (hub.up && hub.incarnation === incarnation) this.executor(hub, { kind: "idle", lease: effect.lease });
        });
      }
    }
  }

  #borrowerEffects(hub: Hub, out: readonly BorrowerEffect[]): void {
    const { incarnation } = hub;
    const alive = (): boolean => hub.up && hub.incarnation === incarnation;
    for (const effect of out) {
      if (effect.kind === "persist") hub.write(effect.ops);
      else if (effect.kind === "propose") {
        this.propose(hub, effect.command, (seen) => {
          if (!alive()) return;
          const { call } = effect;
          if (seen === "unknown") this.borrower(hub, { kind: "unknown", call });
          else if (seen.lease !== undefined)
            this.borrower(hub, { kind: "answered", call, lease: seen.lease, remainingMs: seen.remainingMs ?? 0 });
          else if (seen.failure !== undefined) this.borrower(hub, { kind: "failed", call, failure: seen.failure });
        });
      } else if (effect.kind === "read") {
        if (hub.cut || hub.removed) continue;
        this.after(this.prng.below(200), () => {
          const leases = this.book.leases({ borrower: hub.id });
          this.after(this.prng.below(this.calm ? 200 : 2_000), () => {
            if (alive() && !hub.cut) this.borrower(hub, { kind: "read", call: effect.call, leases });
          });
        });
      } else if (effect.kind === "usable") {
        hub.using.set(effect.id, { lease: effect.lease, fence: effect.fence });
        this.#act(hub, effect.id);
      } else if (effect.kind === "stop" || effect.kind === "gone") {
        hub.using.delete(effect.id);
        this.after(this.prng.below(200), () => {
          if (alive()) this.borrower(hub, { kind: "idle", id: effect.id });
        });
      }
    }
  }

  /** act sends something to be run by what is used, again and again; it may come late. */
  #act(hub: Hub, id: string): void {
    const used = hub.using.get(id);
    if (used === undefined) return;
    const owner = this.book.lease(used.lease)?.owner;
    if (owner !== undefined && !hub.cut) {
      const there = this.hub(owner);
      // A message may be on its way for as long as it likes.
      const late = this.prng.chance(0.1) ? this.prng.below(90_000) : this.prng.below(300);
      this.after(late, () => {
        if (there.up) this.executor(there, { kind: "admit", call: 1, lease: used.lease, fence: used.fence });
      });
    }
    this.after(5_000 + this.prng.below(20_000), () => this.#act(hub, id));
  }

  /** propose sends a command to whoever leads, with what may become of it on the way. */
  propose(hub: Hub, command: ResourceCommand, done: (seen: Seen) => void): void {
    const { incarnation } = hub;
    const p = this.prng.unit();
    const answer = (seen: Seen, ms: number): void => this.after(ms, () => (hub.incarnation === incarnation ? done(seen) : undefined));
    if (hub.cut) return answer("unknown", 2_000);
    const lost = !this.calm && p < 0.07;
    const decided = (): Seen => {
      if (hub.removed) return { failure: { reason: "ACCESS_DENIED", message: "it is no member" } };
      const outcome = this.apply(hub.id, command);
      if (!outcome.ok) return { failure: outcome.failure };
      const { value } = outcome;
      return value.kind === "lease" ? { lease: value.lease, remainingMs: value.remainingMs } : {};
    };
    if (lost) {
      // Nobody knows; a second coordinator may still have it decided, much later.
      if (p < 0.03) this.after(3_000 + this.prng.below(60_000), decided);
      return answer("unknown", 2_000);
    }
    this.after(this.prng.below(200), () => {
      const seen = decided();
      if (!this.calm && p < 0.12) decided();
      answer(!this.calm && p < 0.2 ? "unknown" : seen, this.prng.below(this.calm ? 200 : 1_500));
    });
  }
}
