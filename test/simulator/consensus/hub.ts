import { Registry } from "prom-client";
import { Prng } from "#kernel/prng.ts";
import { StorePoisoned } from "#runtime/service/committer.ts";
import { createDriver, type Driver } from "#runtime/service/driver.ts";
import { isEarly, overtakes } from "../../../services/coordination/leaving.ts";
import { type EngineInput, type Membership, type ReplicaId, replicaIdOf } from "../../../services/coordination/log/engine.ts";
import { SILENT } from "../host.ts";
import { HubClock, PausableClock } from "./clock.ts";
import type { Cluster } from "./cluster.ts";
import { Disk } from "./disk.ts";
import { type Ask, HostCore, type HostEffect, type HostInput, type HostWatch } from "./host.ts";
import type { Life } from "./invariants.ts";
import { Tables } from "./tables.ts";

/** While the store refuses for want of room it is asked again so often, ms. */
const RETRY_MS = 100;

/** Process is one life of a replica: an engine in its host under the shipping driver. */
export class Process<F> {
  readonly hub: Hub<F>;
  readonly replica: ReplicaId;
  readonly clock: PausableClock;
  readonly core: HostCore<F>;
  readonly driver: Driver<HostInput<F>>;
  readonly life: Life;
  readonly #cluster: Cluster<F>;

  constructor(cluster: Cluster<F>, hub: Hub<F>) {
    this.#cluster = cluster;
    this.hub = hub;
    this.replica = hub.replica;
    this.clock = new PausableClock(cluster.scheduler, hub.clock);
    const { options, sabotage, invariants, subject } = cluster;
    const store = hub.disk.open();
    this.life = invariants.birth(this.replica);
    const setup = {
      self: this.replica,
      founding: cluster.founding,
      told: hub.told,
      stored: store,
      prng: new Prng(cluster.prng.u32()),
      now: this.clock.now(),
      seed: options.seed,
      valueLength: options.valueLength,
      snapshotEvery: options.snapshotEvery,
      leaseReads: options.leaseReads,
    };
    const engine = sabotage.engine?.(setup, subject) ?? subject.create(setup);
    const watch: HostWatch<F> = {
      effect: (effect) => {
        invariants.effect(this.life, effect);
        cluster.meet(this, effect);
      },
      applied: (app, entry, done) => invariants.applied(this.life, app, entry, done),
      stepped: () => invariants.stepped(this.life, engine.status(this.clock.now())),
      broken: (text) => invariants.violate("host", `${this.replica}: ${text}`),
    };
    this.core = new HostCore(engine, store, watch, options, sabotage.host ?? {});
    this.driver = createDriver<HostInput<F>, HostEffect<F>>({
      service: "coordination",
      core: this.core,
      store,
      clock: this.clock,
      log: SILENT,
      metrics: new Registry(),
      execute: (effect) => this.#execute(effect as HostEffect<F>),
      observe: () => undefined,
      reject: (effect) => (effect.kind === "answer" ? "drop" : "keep"),
      overtakes: sabotage.overtakes ?? overtakes,
      early: (effect) => isEarly(effect) || (effect.kind === "answer" && sabotage.host?.eagerReads === true),
      poison: sabotage.trustsDisk !== true,
      onFatal: (error) => this.#fatal(error),
      commit: options.commit,
      storeRetryMs: RETRY_MS,
    });
  }

  /** membership is the one in force, as far as this replica knows. */
  get membership(): Membership {
    return this.core.engine.status(this.clock.now()).membership;
  }

  /** input gives the engine something that must not be lost. */
  input(input: EngineInput<F>): void {
    this.clock.run(() => this.driver.tell({ kind: "engine", input }));
  }

  /** first gives it something before all else that waits, also while it is paused. */
  first(input: EngineInput<F>): void {
    if (this.clock.alive) this.clock.first(() => this.driver.tell({ kind: "engine", input }));
  }

  /** frame gives it a datagram, which may be lost for want of room. */
  frame(from: ReplicaId, bytes: Uint8Array): void {
    const deliver = (): void =>
      void this.driver.post({ kind: "engine", input: { kind: "frame", from, frame: this.#cluster.subject.decode(bytes) } }, bytes.length);
    this.clock.run(deliver, true);
  }

  ask(ticket: number, ask: Ask): void {
    this.clock.run(() => this.driver.post({ kind: "ask", ticket, ask }), true);
  }

  #execute(effect: HostEffect<F>): void {
    if (effect.kind === "send") this.#cluster.send(this, effect.to, effect.frame);
    else if (effect.kind === "stored") this.#stored(effect);
    else if (effect.kind === "answer") this.#cluster.answer(this, effect.ticket, effect.answer);
  }

  /** stored tells the engine that its writes are durable: as an input, it may come after anything else. */
  #stored(effect: Extract<HostEffect<F>, { readonly kind: "stored" }>): void {
    const { options, prng, scheduler, healed } = this.#cluster;
    if (healed || !prng.chance(options.late)) this.driver.tell({ kind: "engine", input: effect });
    else scheduler.after(options.lateMs * prng.unit(), () => this.input(effect));
  }

  #fatal(error: unknown): void {
    this.clock.alive = false;
    this.#cluster.fatal(this, error, error instanceof StorePoisoned);
  }
}

/** Hub is a machine with a clock and a disk, on which one replica runs in one process after the other. */
export class Hub<F> {
  readonly no: number;
  readonly hubId: string;
  readonly clock: HubClock;
  readonly disk: Disk;
  incarnation = 1;
  process: Process<F> | undefined;
  /** Voters of whom its replica was told when it was let in. */
  told: readonly ReplicaId[] = [];
  /** Newest position that a local read of this replica has shown. */
  shown = 0;
  readonly #cluster: Cluster<F>;
  #backup: { readonly tables: Tables; readonly incarnation: number } | undefined;

  constructor(cluster: Cluster<F>, no: number) {
    const { scheduler, options, sabotage, invariants } = cluster;
    this.#cluster = cluster;
    this.no = no;
    this.hubId = `hub-${no}`;
    const wall = 1_800_000_000_000 + (options.faults.has("clock") ? cluster.prng.below(2_000) : 0);
    this.clock = new HubClock(scheduler, options.rates[no] ?? 1, wall);
    this.disk = new Disk(scheduler, new Prng(options.seed * 31 + no), options.disk, sabotage.disk ?? {}, (ops) =>
      invariants.safe(this.replica, ops),
    );
  }

  get replica(): ReplicaId {
    return replicaIdOf(this.hubId, this.incarnation);
  }

  get up(): boolean {
    return this.process?.clock.alive === true;
  }

  get paused(): boolean {
    return this.process?.clock.paused === true;
  }

  /** start starts a process, if none runs. A store that cannot be read again is a crash of the code, not of the hub. */
  start(): void {
    if (this.up) return;
    const cluster = this.#cluster;
    cluster.note(this.no, "start", () => this.replica);
    try {
      this.process = new Process(cluster, this);
      cluster.onStart(this);
    } catch (error) {
      cluster.failed(this.replica, error);
    }
  }

  /** crash ends the process; with the machine what was not synced is gone. */
  crash(what: "process" | "machine"): void {
    this.#cluster.note(this.no, `crash ${what}`);
    if (this.process !== undefined) this.process.clock.alive = false;
    this.process = undefined;
    this.disk.crash(what);
    if (what === "machine") this.clock.reboot();
  }

  pause(): void {
    this.process?.clock.pause();
  }

  resume(): void {
    if (this.paused) this.process?.clock.resume(this.#cluster.prng);
  }

  /** letIn begins anew, as a replica does that is let in and told who the voters are. */
  letIn(told: readonly ReplicaId[]): void {
    this.told = told;
    this.#cluster.note(this.no, "let in", () => told.join());
    if (!this.up) return;
    this.crash("process");
    this.start();
  }

  /** backup keeps a copy of the disk for `restore`. */
  backup(): void {
    this.#backup = { tables: this.disk.backup(), incarnation: this.incarnation };
  }

  get hasBackup(): boolean {
    return this.#backup?.incarnation === this.incarnation;
  }

  /** rejoin comes back with nothing, under an incarnation that was never used; `restored`: from a backup, which is not believed. */
  rejoin(restored: boolean): void {
    this.crash("machine");
    const backup = restored ? this.#backup?.tables : undefined;
    this.#backup = undefined;
    this.shown = 0;
    this.told = [];
    if (this.#cluster.sabotage.keepsIncarnation === true) this.disk.replace(backup ?? new Tables());
    else {
      this.disk.replace(new Tables());
      this.incarnation++;
    }
    this.#cluster.note(this.no, restored ? "restored" : "wiped", () => this.replica);
  }

  describe(): string {
    if (!this.up) return `${this.replica}: down`;
    return `${this.replica}${this.paused ? " (paused)" : ""}: ${this.process?.core.describe()}`;
  }
}
