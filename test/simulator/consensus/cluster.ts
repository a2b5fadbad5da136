import { nextTick } from "node:process";
import { Prng } from "#kernel/prng.ts";
import { type EngineEffect, hubOf, type LogEngine, type Membership, type ReplicaId } from "../../../services/coordination/log/engine.ts";
import { Scheduler } from "../scheduler.ts";
import { Trace } from "../trace.ts";
import type { DiskSabotage } from "./disk.ts";
import type { Answer, Ask, HostSabotage } from "./host.ts";
import { Hub, type Process } from "./hub.ts";
import { Invariants } from "./invariants.ts";
import { DatagramNetwork } from "./network.ts";
import type { ConsensusOptions, Moment } from "./options.ts";
import type { EngineSetup, Subject } from "./subject.ts";

/** Sabotage is what is wrong with a cluster on purpose. Empty in every run that means it seriously. */
export interface Sabotage<F> {
  /** Makes an engine that is wrong. */
  readonly engine?: (setup: EngineSetup, subject: Subject<F>) => LogEngine<F>;
  readonly disk?: DiskSabotage;
  readonly host?: HostSabotage;
  /** A store that failed half-way is tried again (zoo 6). */
  readonly trustsDisk?: boolean;
  /** What follows from nothing that its own step writes leaves while the store refuses writes (DR7). */
  readonly overtakes?: () => boolean;
  /** A hub that comes back from a backup, or with nothing, keeps its replica id (zoo 27). */
  readonly keepsIncarnation?: boolean;
  /** Executors take what carries an old fence (zoo 29). */
  readonly ignoresFences?: boolean;
  /** Machines that slept do not tell their engines. */
  readonly trustsClocks?: boolean;
}

/** A run that takes more steps than this hangs. */
const MAX_STEPS = 3_000_000;

/** Ticket is a question that a hub has been asked. */
type Ticket = (process: Process<unknown>, answer: Answer) => void;

/** Cluster is a log with all its replicas, in virtual time. */
export class Cluster<F> {
  readonly options: ConsensusOptions;
  readonly subject: Subject<F>;
  readonly sabotage: Sabotage<F>;
  readonly scheduler = new Scheduler();
  readonly prng: Prng;
  readonly trace: Trace;
  readonly network: DatagramNetwork;
  readonly invariants: Invariants<F>;
  readonly founding: Membership;
  readonly hubs: Hub<F>[];
  /** meet is told of what engines ask for, so that trouble can come at the worst moment. */
  onMoment: (process: Process<F>, moment: Moment) => void = () => undefined;
  /** A process has started. */
  onStart: (hub: Hub<F>) => void = () => undefined;
  healed = false;
  crashes = 0;
  readonly #tickets = new Map<number, Ticket>();
  #nextTicket = 1;
  /** Memberships whose newcomers were told who the voters are. */
  #introduced = 1;

  constructor(options: ConsensusOptions, subject: Subject<F>, sabotage: Sabotage<F>, keepTrace: boolean) {
    this.options = options;
    this.subject = subject;
    this.sabotage = sabotage;
    this.prng = new Prng(options.seed);
    this.trace = new Trace(keepTrace);
    const hubs = options.voters + options.spares;
    this.network = new DatagramNetwork(this.scheduler, new Prng(options.seed ^ 0x4e7), options.network, hubs);
    const voters = Array.from({ length: options.voters }, (_, i) => `hub-${i}/1`);
    this.founding = { voters, outgoing: [], learners: [] };
    this.invariants = new Invariants(subject, this.scheduler, this.founding);
    this.hubs = Array.from({ length: hubs }, (_, no) => new Hub(this, no));
  }

  note(hub: number, what: string, detail?: () => string): void {
    this.trace.note(this.scheduler.now, hub, what, detail);
  }

  hubFor(replica: ReplicaId): Hub<F> | undefined {
    return this.hubs[Number(hubOf(replica).slice(4))];
  }

  /** intact tells whether a replica has not lost its disk. */
  intact(replica: ReplicaId): boolean {
    return this.hubFor(replica)?.replica === replica;
  }

  /** leader is the hub that leads in the newest term, as it believes itself. */
  leader(): Hub<F> | undefined {
    let found: Hub<F> | undefined;
    let newest = -1;
    for (const hub of this.hubs) {
      const life = hub.up ? hub.process?.life : undefined;
      if (life?.role !== "leader" || life.term <= newest) continue;
      newest = life.term;
      found = hub;
    }
    return found;
  }

  send(from: Process<F>, to: ReplicaId, frame: F): void {
    const target = this.hubFor(to);
    this.invariants.sent(from.replica, to, frame);
    if (target === undefined) return;
    const bytes = this.subject.encode(frame);
    this.note(from.hub.no, "send", () => `${this.subject.nameOf(frame)} to ${to}`);
    // Sessions are between hubs: what was sent to an earlier incarnation may reach a later one.
    this.network.send(from.hub.no, target.no, () => target.process?.frame(from.replica, bytes));
  }

  /** ask puts a question to a hub. Question and answer may get lost; `answered` may be called once, at any time. */
  ask(hub: Hub<F>, ask: Ask, answered: (answer: Answer) => void, emitted?: (process: Process<F>, answer: Answer) => void): void {
    const ticket = this.#nextTicket++;
    const lossy = this.options.faults.has("loss") && !this.healed ? 0.02 : 0;
    const travel = (then: () => void): void => {
      if (!this.prng.chance(lossy)) this.scheduler.after(0.2 + 2 * this.prng.unit(), then);
    };
    this.#tickets.set(ticket, (process, answer) => {
      emitted?.(process as Process<F>, answer);
      travel(() => answered(answer));
    });
    travel(() => hub.process?.ask(ticket, ask));
  }

  answer(process: Process<F>, ticket: number, answer: Answer): void {
    const waiting = this.#tickets.get(ticket);
    this.#tickets.delete(ticket);
    waiting?.(process as Process<unknown>, answer);
  }

  /** fatal: a process stopped itself. Only one whose disk failed may. */
  fatal(process: Process<F>, error: unknown, poisoned: boolean): void {
    if (!poisoned) this.failed(process.replica, error);
    this.scheduler.after(0, () => {
      if (process.hub.process !== process) return;
      process.hub.crash("process");
      this.scheduler.after(20 + 200 * this.prng.unit(), () => process.hub.start());
    });
  }

  failed(replica: ReplicaId, error: unknown): void {
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
    this.crashes++;
    this.invariants.violate("crash", `${replica}: ${text}`, "crash");
  }

  meet(process: Process<F>, effect: EngineEffect<F>): void {
    const moment = momentOf(effect);
    if (effect.kind === "role") this.note(process.hub.no, `role ${effect.role}`, () => `term ${effect.term}, leader ${effect.leader}`);
    else if (effect.kind === "committed") {
      const { length } = effect.entries;
      this.note(process.hub.no, "committed", () => `${effect.entries[0]?.index} to ${effect.entries[length - 1]?.index}`);
    } else if (effect.kind === "install") this.note(process.hub.no, "install", () => `${effect.snapshot.index}`);
    else if (effect.kind === "observe")
      this.note(process.hub.no, `observe ${effect.what}`, () => `${effect.value ?? ""} ${effect.replica ?? ""}`);
    if (moment !== undefined) this.onMoment(process, moment);
  }

  /** run lets `ms` of virtual time pass, or less if something broke. */
  async run(ms: number, over: () => boolean = () => false): Promise<void> {
    const until = this.scheduler.now + ms;
    await settled();
    for (;;) {
      const { commits } = this;
      if (!this.scheduler.next(until)) return;
      this.#introduce();
      if (this.scheduler.steps > MAX_STEPS) {
        this.invariants.violate("spin", `more than ${MAX_STEPS} steps`, "liveness");
        return;
      }
      if (this.broken || over()) return;
      // Only the end of a commit is a promise that others wait for.
      if (commits !== this.commits) await settled();
    }
  }

  /** Who is newly a member is told who the voters are, once. */
  #introduce(): void {
    const { memberships, membership } = this.invariants.canon;
    if (!this.subject.introduces || memberships.length === this.#introduced) return;
    this.#introduced = memberships.length;
    const { voters } = this.founding;
    for (const replica of [...membership.voters, ...membership.learners]) {
      const hub = this.hubFor(replica);
      if (hub?.replica === replica && hub.told.length === 0 && !voters.includes(replica)) hub.letIn(membership.voters);
    }
  }

  get broken(): boolean {
    return this.invariants.violations.length > 0;
  }

  get commits(): number {
    let sum = 0;
    for (const { disk } of this.hubs) sum += disk.commits;
    return sum;
  }

  describe(): string {
    return this.hubs.map((hub) => hub.describe()).join("\n\n");
  }
}

function momentOf<F>(effect: EngineEffect<F>): Moment | undefined {
  switch (effect.kind) {
    case "role":
      return effect.role === "leader" ? "lead" : undefined;
    case "persist":
      return effect.hard ? "vote" : "write";
    case "committed":
      return effect.entries.some(({ membership }) => membership !== undefined) ? "change" : "decide";
    case "install":
    case "capture":
      return "snapshot";
    default:
      return undefined;
  }
}

/** settled resolves when no promise is left that could go on by itself. */
function settled(): Promise<void> {
  return new Promise((resolve) => nextTick(resolve));
}
