import { Prng } from "#kernel/prng.ts";
import type { PeerFrame } from "../../services/registry-sync/messages.ts";
import type { Sabotage } from "./host.ts";
import { tamper, tamperCommands } from "./hostile.ts";
import { SimHub } from "./hub.ts";
import type { Message, Trust } from "./links.ts";
import { Network } from "./network.ts";
import type { RunOptions } from "./options.ts";
import { Oracle } from "./oracle.ts";
import { Scheduler } from "./scheduler.ts";
import { Trace } from "./trace.ts";

/** More steps than this in one run mean that something spins. */
const MAX_STEPS = 400_000;

/** Federation is a simulated world: hubs, the network between them, and what everybody remembers of it. */
export class Federation {
  readonly options: RunOptions;
  readonly scheduler = new Scheduler();
  readonly trace: Trace;
  readonly oracle: Oracle;
  readonly prng: Prng;
  readonly network: Network<Message>;
  readonly hubIds: readonly string[];
  readonly hubs: SimHub[] = [];
  /** How hubs see each other: trust[a][b] is b as a knows it. */
  readonly #trust: Trust[][];
  /** True while faults happen. */
  troubled = true;
  readonly sabotage: Sabotage;
  #settling = false;

  constructor(options: RunOptions, keepTrace: boolean, sabotage: Sabotage) {
    this.options = options;
    this.sabotage = sabotage;
    this.trace = new Trace(keepTrace);
    this.prng = new Prng(options.seed ^ 0x5eed);
    this.oracle = new Oracle(this.scheduler, options.hubs);
    this.network = new Network<Message>(this.scheduler, new Prng(options.seed ^ 0x17e7), options.network);
    this.hubIds = Array.from({ length: options.hubs }, (_, i) => `hub-${i}`);
    const share = (): string => (this.prng.chance(0.6) ? "full" : "limited");
    this.#trust = this.hubIds.map(() =>
      this.hubIds.map(() => ({ level: this.prng.chance(0.08) ? 1 : 3, share: share(), terminated: false })),
    );
    options.machines.forEach((machine, i) => {
      this.network.nat(i, machine.natted);
      this.hubs.push(new SimHub(this, i, machine, new Prng(options.seed * 31 + i)));
    });
  }

  /** settle notes that a promise was resolved: what waits for it runs before the next call of the scheduler. */
  readonly settle = (): void => {
    this.#settling = true;
  };

  hub(no: number): SimHub {
    return this.hubs[no] as SimHub;
  }

  trustOf(hub: number, peer: number): Trust {
    return (this.#trust[hub] as Trust[])[peer] as Trust;
  }

  setTrust(hub: number, peer: number, trust: Partial<Trust>): void {
    (this.#trust[hub] as Trust[])[peer] = { ...this.trustOf(hub, peer), ...trust };
    const { running } = this.hub(hub);
    running?.registry.setPeers();
    running?.commands.setPeers();
  }

  /** fatal: a core failed an assertion, or could not start. */
  fatal(hub: number, service: string, error: unknown): void {
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
    this.oracle.violate("crash", "crash", `hub-${hub} ${service}: ${text}`);
  }

  tamper(hub: number, peer: string, frame: PeerFrame): readonly PeerFrame[] {
    if (hub !== this.options.hostile || !this.troubled) return [frame];
    const frames = tamper(this.prng, peer, frame);
    if (frames.length !== 1 || frames[0] !== frame) this.#tampered(hub, peer, frame.type, frames.length);
    return frames;
  }

  tamperCommands(hub: number, peer: string, bytes: Uint8Array): readonly Uint8Array[] {
    const lie = hub === this.options.hostile && this.troubled ? tamperCommands(this.prng, bytes) : undefined;
    if (lie === undefined) return [bytes];
    this.#tampered(hub, peer, lie.what, lie.frames.length);
    return lie.frames;
  }

  #tampered(hub: number, peer: string, what: string, frames: number): void {
    this.trace.note(this.scheduler.now, hub, "fault hostile");
    this.trace.note(this.scheduler.now, hub, `tamper ${what}`, () => `to ${peer}, ${frames} frames instead`);
  }

  /** run lets `ms` of virtual time pass. */
  async run(ms: number): Promise<void> {
    const until = this.scheduler.now + ms;
    for (;;) {
      if (!this.scheduler.next(until)) return;
      if (this.scheduler.steps > MAX_STEPS) {
        this.oracle.violate("spin", "liveness", `more than ${MAX_STEPS} steps`);
        return;
      }
      if (this.oracle.violations.some(({ kind }) => kind === "crash")) return;
      if (!this.#settling) continue;
      this.#settling = false;
      // A commit's promise and what is chained to it: a few turns of the microtask queue.
      for (let i = 0; i < 6; i++) await undefined;
    }
  }

  describe(): string {
    return this.hubs.map((hub) => hub.describe()).join("\n\n");
  }
}
