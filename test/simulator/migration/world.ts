import type { Now } from "#kernel/instant.ts";
import { Prng } from "#kernel/prng.ts";
import type { MigrationFrame } from "../../../services/coordination/migration/frames.ts";
import { DestinationSaga } from "../../../services/coordination/migration/saga/destination.ts";
import { feedKeyOf, simCrypto } from "../crypto.ts";
import type { ToyAgent } from "./agent.ts";
import { ToyHub } from "./hub.ts";
import { ToyLog, type Undated } from "./log.ts";

/** Mutant is one deliberate fault, by which a checker is proved. */
export type Mutant = "early" | "ungated" | "local" | "impatient" | "restart" | "corrupt" | "stale" | "hoarding" | "eager";

/** AGENT is the agent of the model. */
export const AGENT = "counter";
const START = 1_700_000_000_000;

/** World is a federation of three hubs in virtual time, with one agent. The same seed gives the same run. */
export class World {
  readonly prng: Prng;
  readonly mutant: Mutant | undefined;
  readonly log: ToyLog;
  readonly hubs = new Map<string, ToyHub>();
  readonly violations: string[] = [];
  readonly acked = new Set<number>();
  /** Which commands have run anywhere, also such whose answer was lost. */
  readonly counts = new Map<string, number>();
  /** What is between hubs right now is lost. */
  readonly cut = new Set<string>();
  loss = 0.05;
  /** How long a disk takes, about. */
  diskMs = 4;
  /** How long a destination has room. */
  roomMs = 600_000;
  /** A hub was set back while it owned the agent: what it forgot then is nobody's fault here. */
  excused = false;
  #mono = 0;
  #order = 0;
  readonly #queue: { at: number; order: number; call: () => void }[] = [];
  #fence = 0;
  #frozen: readonly number[] = [];

  constructor(seed: number, mutant?: Mutant) {
    this.prng = new Prng(seed);
    this.mutant = mutant;
    this.log = new ToyLog(simCrypto("log"));
    for (const name of ["home", "factory", "office"]) this.hubs.set(name, new ToyHub(this, name));
    this.log.append(this.now().wall, {
      kind: "command",
      author: "home",
      command: { kind: "enlist", agent: AGENT, nodeKey: feedKeyOf(`node ${AGENT}`) },
    });
    this.hub("home").agents.set(AGENT, { fence: 1, done: [], frozen: false, resumed: 0 });
    for (const hub of this.hubs.values()) hub.start();
    this.#everyTick();
  }

  hub(name: string): ToyHub {
    return this.hubs.get(name)!;
  }

  now(): Now {
    return { mono: this.#mono, wall: START + this.#mono };
  }

  delay(ms: number): number {
    return 1 + this.prng.below(ms * (this.prng.chance(0.1) ? 8 : 1));
  }

  after(ms: number, call: () => void): void {
    this.#queue.push({ at: this.#mono + ms, order: this.#order++, call });
  }

  /** run goes on for so many ms, and looks at everything after each event. */
  run(ms: number): void {
    const end = this.#mono + ms;
    for (;;) {
      let next = -1;
      for (let at = 0; at < this.#queue.length; at++) {
        const item = this.#queue[at]!;
        const best = this.#queue[next];
        if (best === undefined || item.at < best.at || (item.at === best.at && item.order < best.order)) next = at;
      }
      const item = this.#queue[next];
      if (item === undefined || item.at > end || this.violations.length > 0) break;
      this.#queue.splice(next, 1);
      this.#mono = item.at;
      item.call();
      this.#look();
    }
    this.#mono = end;
  }

  /** propose gives the leader something to decide, if it is there; the answer never comes. */
  propose(hub: ToyHub, entry: Undated): void {
    if (this.prng.chance(this.loss)) return;
    this.after(this.delay(5), () => {
      if (!this.log.up || this.#parted(hub.name, "log")) return;
      this.decide(entry);
      if (this.prng.chance(this.loss)) this.decide(entry);
    });
  }

  /** decide appends an entry, and hubs learn of it in their own time. */
  decide(entry: Undated): void {
    this.log.append(this.now().wall, entry);
    this.#follow();
  }

  /** ask reaches the leader, and what follows happens when its answer comes. */
  ask(hub: ToyHub, answer: () => void): void {
    this.after(this.delay(5), () => {
      if (this.log.up && hub.hears && !this.#parted(hub.name, "log") && !this.prng.chance(this.loss)) answer();
    });
  }

  send(from: string, to: string, frame: MigrationFrame): void {
    for (let copies = this.prng.chance(this.loss) ? 2 : 1; copies > 0; copies--) {
      if (this.prng.chance(this.loss)) continue;
      this.after(this.delay(6), () => {
        const hub = this.hubs.get(to);
        if (hub?.hears === true && !this.#parted(from, to)) hub.frame(from, frame);
      });
    }
  }

  crash(name: string, downMs: number): void {
    const hub = this.hub(name);
    if (!hub.up) return;
    hub.crash();
    this.after(downMs, () => {
      if (!hub.up) hub.start();
    });
  }

  #parted(a: string, b: string): boolean {
    return this.cut.has(a) || this.cut.has(b) || this.cut.has(`${a} ${b}`);
  }

  #follow(): void {
    for (const hub of this.hubs.values())
      this.after(this.delay(8), () => {
        if (hub.hears && !this.#parted(hub.name, "log")) hub.catchUp(this.log.entries.length);
      });
  }

  #everyTick(): void {
    this.after(20, () => {
      for (const hub of this.hubs.values()) if (hub.hears) hub.tick();
      const due = this.log.head.due();
      if (this.log.up && due !== undefined && due <= this.now().wall) this.decide({ kind: "time" });
      else this.#follow();
      this.#everyTick();
    });
  }

  // What must hold.

  violated(what: string): void {
    this.violations.push(`${this.#mono}: ${what}`);
  }

  observed(what: string): void {
    this.counts.set(what, (this.counts.get(what) ?? 0) + 1);
  }

  /** froze remembers what the agent was when it stopped. */
  froze(_agent: string, state: ToyAgent): void {
    this.#frozen = [...state.done];
  }

  placed(hub: ToyHub, agent: string, made: ToyAgent | undefined): void {
    if (made === undefined) return this.violated(`the checkpoint of ${agent} at ${hub.name} is not whole`);
    if (made.done.join() !== this.#frozen.join()) this.violated(`${agent} starts at ${hub.name} as another one than it stopped`);
  }

  ran(hub: ToyHub, agent: string, fence: number, serial: number): void {
    const owner = this.log.head.owner(agent);
    if (owner?.owner !== hub.name || owner.fence !== fence) this.violated(`${serial} ran at ${hub.name} with fence ${fence}`);
    const here = hub.agents.get(agent);
    if (here === undefined || here.frozen) return this.violated(`${serial} ran at ${hub.name} where the agent is frozen`);
    this.#counted(here);
    this.acked.add(serial);
  }

  #counted({ done }: ToyAgent): void {
    const set = new Set(done);
    if (set.size !== done.length) this.violated("a count was repeated");
    if (!this.excused && [...this.acked].some((serial) => !set.has(serial))) this.violated("a count was lost");
  }

  /** places are the hubs at which the agent would answer a command at this instant. */
  places(): string[] {
    return [...this.hubs.values()]
      .filter((hub) => hub.up && hub.agents.has(AGENT) && hub.gates.get(AGENT)?.state === "open")
      .map(({ name }) => name);
  }

  #look(): void {
    const places = this.places();
    const owner = this.log.head.owner(AGENT);
    if (places.length > 1) this.violated(`${AGENT} runs at ${places.join(" and ")}`);
    for (const place of places) {
      const fence = this.hub(place).gates.get(AGENT)?.fence;
      if (owner?.owner !== place || owner.fence !== fence)
        this.violated(`${AGENT} runs at ${place} with fence ${fence}, which the log gave to ${owner?.owner}`);
    }
    if (owner !== undefined && owner.fence < this.#fence) this.violated("a fence went back");
    this.#fence = owner?.fence ?? this.#fence;
    for (const hub of this.hubs.values())
      for (const { saga, migration } of hub.running.values()) {
        if (!(saga instanceof DestinationSaga)) continue;
        const agreed = this.log.head.migration(migration.transfer)?.bytes ?? 0;
        if (saga.heldBytes > agreed) this.violated(`${hub.name} holds ${saga.heldBytes} bytes and agreed on ${agreed}`);
      }
  }

  /** settled says what is not as it must be once everything has been mended for a while. */
  settled(): string[] {
    const places = this.places();
    const owner = this.log.head.owner(AGENT);
    const problems = [...this.violations];
    if (owner?.lost !== true && places.join() !== owner?.owner)
      problems.push(`in the end it runs at "${places.join()}" and is ${owner?.owner}'s`);
    for (const hub of this.hubs.values()) {
      if (hub.name !== owner?.owner && hub.agents.has(AGENT)) problems.push(`a copy is left at ${hub.name}`);
      for (const agent of hub.staged.keys()) problems.push(`${agent} is still staged at ${hub.name}`);
      for (const { saga } of hub.running.values()) problems.push(`left at ${hub.name}: ${saga.describe()}`);
    }
    for (const { transfer, status, step } of this.log.head.migrations()) problems.push(`migration ${transfer} is ${status} at ${step}`);
    const here = this.hubs.get(owner?.owner ?? "")?.agents.get(AGENT);
    if (here !== undefined) this.#counted(here);
    return [...new Set([...problems, ...this.violations])];
  }

  /** trouble brings faults for a while: crashes, sleep, partitions, a log without a leader, restored sources, streams
   * of programs, aborts. */
  trouble(ms: number): void {
    this.loss = this.prng.unit() * 0.3;
    const names = [...this.hubs.keys()];
    const any = (): string => names[this.prng.below(names.length)]!;
    const until = this.#mono + ms;
    const next = (): void => {
      if (this.#mono > until) return;
      const lasts = 20 + this.prng.below(800);
      const kind = this.prng.below(8);
      if (kind < 2) this.crash(any(), lasts);
      else if (kind === 2) this.hub(any()).pause(lasts);
      else if (kind === 3) this.#cutFor(this.prng.chance(0.5) ? any() : `${any()} ${any()}`, lasts);
      else if (kind === 4) {
        this.log.up = false;
        this.after(lasts, () => {
          this.log.up = true;
        });
      } else if (kind === 5) this.#restoreOld(lasts);
      else if (kind === 6) this.hub(any()).staged.clear();
      else if (this.prng.chance(0.3)) this.#abortAny(any());
      this.after(20 + this.prng.below(400), next);
    };
    next();
  }

  #cutFor(what: string, ms: number): void {
    this.cut.add(what);
    this.after(ms, () => this.cut.delete(what));
  }

  #abortAny(author: string): void {
    const open = this.log.head.migrations().find(({ status }) => status === "open");
    if (open === undefined || !this.log.up) return;
    this.decide({
      kind: "command",
      author,
      command: { kind: "abort", transfer: open.transfer, cause: "WITHDRAWN", message: "changed my mind" },
    });
  }

  /** restoreOld sets a hub back that owned the agent when the backup was made, and does not any more. */
  #restoreOld(ms: number): void {
    const owner = this.log.head.owner(AGENT);
    const hub = this.hub(owner?.owner ?? "home");
    const restore = hub.backup();
    this.after(ms, () => {
      const now = this.log.head.owner(AGENT);
      const returns = this.log.head.migrations().some(({ to, status }) => to === hub.name && status !== "aborted");
      if (!hub.up || now?.owner === hub.name || returns) return;
      this.crash(hub.name, 10 + this.prng.below(200));
      restore();
    });
  }

  /** heal ends every fault. */
  heal(): void {
    this.loss = 0;
    this.cut.clear();
    this.log.up = true;
    for (const hub of this.hubs.values()) if (!hub.up) hub.start();
  }
}
