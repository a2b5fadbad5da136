import { Prng } from "#kernel/prng.ts";
import type { Cluster } from "./cluster.ts";
import type { Hub, Process } from "./hub.ts";
import type { Operator } from "./operator.ts";
import { FAULTS, type Fault, type Moment } from "./options.ts";

/** What may come then. */
const SUDDEN: readonly Fault[] = ["crash", "power", "pause", "suspend", "partition", "oneway", "sync"];
/** Trouble of the network and the operators, which comes by other means. */
const BY_ITSELF: readonly Fault[] = ["loss", "duplicate", "reorder", "stale", "stall", "late", "members", "transfer"];
/** Furthest that a clock is set from the truth, ms. */
const CLOCK_MS = 20_000;

/** Nemesis brings the faults of a run until it heals. */
export class Nemesis<F> {
  readonly #cluster: Cluster<F>;
  readonly #operator: Operator<F>;
  readonly #prng: Prng;
  readonly #kinds: readonly Fault[];
  readonly #sudden: readonly Fault[];
  readonly #set: number[];
  /** How often the clock of each hub was distrusted: what was to end the trouble before the last time does not end it. */
  readonly #doubts: number[];
  #over = false;

  constructor(cluster: Cluster<F>, operator: Operator<F>) {
    const { options } = cluster;
    this.#cluster = cluster;
    this.#operator = operator;
    this.#prng = new Prng(options.seed ^ 0xbad);
    this.#kinds = FAULTS.filter((fault) => options.faults.has(fault) && !BY_ITSELF.includes(fault));
    this.#sudden = SUDDEN.filter((fault) => options.faults.has(fault));
    this.#set = cluster.hubs.map(() => 0);
    this.#doubts = cluster.hubs.map(() => 0);
  }

  schedule(): void {
    this.#cluster.onMoment = (process, moment) => this.#meet(process, moment);
    if (this.#kinds.length > 0) this.#next();
  }

  /** heal ends all trouble. */
  heal(): void {
    this.#over = true;
    const { hubs, network } = this.#cluster;
    this.#cluster.healed = true;
    this.#cluster.note(-1, "heal");
    network.mend();
    for (const hub of hubs) {
      hub.disk.heal();
      this.#setClock(hub, 0);
      this.#wake(hub);
      hub.start();
    }
    this.#hintAll();
  }

  /** shape leaves only some links. */
  shape(what: "chained" | "quorum-loss"): void {
    const { hubs } = this.#cluster;
    const voters = hubs.filter(({ replica }) => this.#cluster.invariants.canon.membership.voters.includes(replica));
    if (voters.length < 3) return;
    const middle = this.#follower(voters);
    this.#cluster.note(-1, `shape ${what}`, () => middle?.hubId ?? "");
    for (const a of voters)
      for (const b of voters) {
        const linked =
          what === "quorum-loss" ? a === middle || b === middle : Math.abs(voters.indexOf(a) - voters.indexOf(b)) <= voters.length - 2;
        if (a !== b && !linked) this.#cluster.network.cut(a.no, b.no, true);
      }
  }

  unshape(): void {
    this.#cluster.network.mend();
  }

  #follower(voters: readonly Hub<F>[]): Hub<F> | undefined {
    const leader = this.#cluster.leader();
    return voters.find((hub) => hub !== leader);
  }

  #next(): void {
    const wait = -this.#cluster.options.troubleMs * Math.log(1 - this.#prng.unit());
    this.#cluster.scheduler.after(10 + wait, () => {
      if (this.#over) return;
      if (this.#prng.chance(0.15)) this.#pick().backup();
      this.#strike(this.#kinds[this.#prng.below(this.#kinds.length)] as Fault, this.#pick());
      this.#next();
    });
  }

  #meet(process: Process<F>, moment: Moment): void {
    if (this.#over || this.#sudden.length === 0 || !this.#prng.chance(this.#cluster.options.moments[moment])) return;
    const fault = this.#sudden[this.#prng.below(this.#sudden.length)] as Fault;
    const { hub } = process;
    this.#cluster.scheduler.after(this.#prng.chance(0.5) ? 0 : 8 * this.#prng.unit(), () => {
      if (!this.#over && hub.process === process) this.#strike(fault, hub);
    });
  }

  #pick(): Hub<F> {
    const { hubs } = this.#cluster;
    const leader = this.#cluster.leader();
    return leader !== undefined && this.#prng.chance(0.35) ? leader : (hubs[this.#prng.below(hubs.length)] as Hub<F>);
  }

  #soon(shortest: number, mean: number, then: () => void): void {
    const wait = Math.min(4 * mean, -mean * Math.log(1 - this.#prng.unit()));
    this.#cluster.scheduler.after(shortest + wait, () => {
      if (!this.#over) then();
    });
  }

  #strike(fault: Fault, hub: Hub<F>): void {
    this.#cluster.note(hub.no, `fault ${fault}`);
    switch (fault) {
      case "crash":
        this.#crash(hub, "process");
        return;
      case "power":
        for (const one of this.#prng.chance(0.15) ? this.#cluster.hubs : [hub]) this.#crash(one, "machine");
        return;
      case "sync":
        hub.disk.failSync();
        return;
      case "full":
        hub.disk.fill(true);
        this.#soon(50, 600, () => hub.disk.fill(false));
        return;
      case "pause":
      case "suspend":
        this.#stop(hub, fault === "suspend");
        return;
      case "clock":
        this.#setClock(hub, CLOCK_MS * (2 * this.#prng.unit() - 1));
        this.#trust(hub);
        return;
      case "wipe":
      case "restore":
        this.#lose(hub, fault === "restore");
        return;
      case "hints":
        this.#hint(hub);
        return;
      default:
        this.#split(fault, hub);
    }
  }

  #crash(hub: Hub<F>, what: "process" | "machine"): void {
    hub.crash(what);
    this.#soon(5, this.#prng.chance(0.5) ? 50 : 700, () => hub.start());
  }

  #stop(hub: Hub<F>, machine: boolean): void {
    if (!hub.up || hub.paused) return;
    hub.pause();
    if (machine) hub.clock.suspend();
    // A machine that sleeps may be without a network for a while when it wakes.
    const alone = machine && this.#prng.chance(0.5) ? this.#isolate(hub) : [];
    this.#soon(5, this.#prng.chance(0.5) ? 150 : 900, () => {
      this.#wake(hub);
      this.#soon(0, 100, () => this.#join(alone));
    });
  }

  #wake(hub: Hub<F>): void {
    const slept = hub.clock.wake();
    if (slept) this.#trust(hub);
    hub.resume();
  }

  /** trust: whoever watches the two clocks of a machine tells the engine that they do not agree, before it does anything else. */
  #trust(hub: Hub<F>): void {
    if (this.#cluster.sabotage.trustsClocks === true) return;
    const { process } = hub;
    const doubt = ((this.#doubts[hub.no] as number) += 1);
    process?.first({ kind: "clock", trusted: false });
    // It is an input of a process that runs: one that was on its way when the machine fell asleep says nothing of the time after.
    const end = (): void => {
      if (doubt !== this.#doubts[hub.no]) return;
      if (process?.clock.paused === true) this.#cluster.scheduler.after(1_000, end);
      else process?.input({ kind: "clock", trusted: true });
    };
    this.#cluster.scheduler.after(1_000, end);
  }

  #setClock(hub: Hub<F>, ms: number): void {
    hub.clock.step(ms - (this.#set[hub.no] as number));
    this.#set[hub.no] = ms;
  }

  #lose(hub: Hub<F>, restored: boolean): void {
    if ((restored && !hub.hasBackup) || !this.#cluster.subject.changes || !this.#operator.mayLose(hub)) return;
    hub.rejoin(restored);
    this.#soon(5, 300, () => hub.start());
  }

  #hint(hub: Hub<F>): void {
    for (const other of this.#cluster.hubs)
      if (other !== hub && this.#prng.chance(0.5)) {
        const up = this.#prng.chance(0.5);
        hub.process?.input({ kind: "reachable", replica: other.replica, up });
      }
  }

  #hintAll(): void {
    for (const hub of this.#cluster.hubs)
      for (const other of this.#cluster.hubs)
        if (other !== hub) hub.process?.input({ kind: "reachable", replica: other.replica, up: true });
  }

  /** split cuts links for a while. */
  #split(fault: Fault, hub: Hub<F>): void {
    const { hubs, network } = this.#cluster;
    const cuts: [number, number][] = [];
    const sides = hubs.map((one) => (this.#prng.chance(0.5) ? one === hub : this.#prng.chance(0.5)));
    const middle = this.#pick();
    const shape = this.#prng.below(3);
    for (const a of hubs)
      for (const b of hubs) {
        if (a === b) continue;
        const apart = sides[a.no] !== sides[b.no];
        const chained = shape === 0 ? Math.abs(a.no - b.no) > 1 : a !== middle && b !== middle;
        // Constrained: the one in the middle, who sees everybody, does not get anything from the one that leads.
        const constrained = shape === 2 && a === hub && b === middle;
        const cut = fault === "partition" ? apart : fault === "oneway" ? apart && this.#prng.chance(0.5) : chained || constrained;
        if (cut) cuts.push([a.no, b.no]);
      }
    for (const [a, b] of cuts) network.cut(a, b, true);
    const { cutMs } = this.#cluster.options;
    this.#soon(50, fault === "partial" ? 2 * cutMs : cutMs, () => this.#join(cuts));
  }

  #isolate(hub: Hub<F>): [number, number][] {
    const { hubs, network } = this.#cluster;
    const cuts = hubs.flatMap(({ no }): [number, number][] =>
      no === hub.no
        ? []
        : [
            [no, hub.no],
            [hub.no, no],
          ],
    );
    for (const [a, b] of cuts) network.cut(a, b, true);
    return cuts;
  }

  #join(cuts: readonly [number, number][]): void {
    for (const [a, b] of cuts) this.#cluster.network.cut(a, b, false);
  }
}
