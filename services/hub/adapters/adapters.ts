import type { Registry } from "prom-client";
import type { Clock, Timer } from "#channel/clock.ts";
import type { Entropy } from "#channel/entropy.ts";
import { Prng } from "#kernel/prng.ts";
import type { EventSink } from "#runtime/events.ts";
import type { Logger } from "#runtime/log/log.ts";
import { sampledCounter, sampledGauge } from "#runtime/metrics/declare.ts";
import type { ServiceModule } from "#runtime/service/module.ts";
import { mqttConfig } from "../../../adapters/mqtt/config.ts";
import { Child } from "./child.ts";
import { Restarts } from "./restarts.ts";
import { type Status, said } from "./said.ts";

/** ADAPTERS are the adapters that a hub can run, each with the schema of its configuration. */
export const ADAPTERS = { mqtt: mqttConfig } as const;

/** AdapterName is one of them. */
export type AdapterName = keyof typeof ADAPTERS;

/** AdapterSettings are the configuration of an adapter: whatever it has, and whether the hub runs it. */
export interface AdapterSettings {
  readonly enabled: boolean;
}

/** AdaptersOptions are what the adapters of a hub are run with. */
export interface AdaptersOptions {
  readonly clock: Clock;
  readonly entropy: Entropy;
  readonly log: Logger;
  readonly events: EventSink;
  readonly metrics: Registry;
  /** How `foedus` is started; undefined: this process cannot run any. */
  readonly command: readonly string[] | undefined;
  /** given is what an adapter gets on its stdin, with its configuration as it is now. */
  readonly given: (name: AdapterName) => string;
  readonly settings: (name: AdapterName) => AdapterSettings;
}

/** Counts of an adapter that are metrics; all others are in /statusz only. */
const COUNTED = ["received", "published", "commands", "refused", "too_long", "failed"] as const;

const NOTHING: Status = { hub: false, other: false, nodes: 0, counts: {}, problem: "" };
const GRACE_MS = 5_000;

/** One adapter, and its runs. */
class Kept {
  readonly name: AdapterName;
  readonly #o: AdaptersOptions;
  readonly #restarts: Restarts;
  /** Counts of the runs before this one. */
  readonly #before: Record<string, number> = {};
  #child: Child | undefined;
  #timer: Timer | undefined;
  /** What the run that is under way was given. */
  #given = "";
  #ends = 0;
  #how = "";
  status: Status = NOTHING;

  constructor(name: AdapterName, options: AdaptersOptions) {
    this.name = name;
    this.#o = options;
    this.#restarts = new Restarts(new Prng(options.entropy.seed()));
  }

  get runs(): boolean {
    return this.#child !== undefined;
  }

  get ends(): number {
    return this.#ends;
  }

  /** counted is how often something happened, in all runs. */
  counted(what: string): number {
    return (this.#before[what] ?? 0) + (this.status.counts[what] ?? 0);
  }

  /** look starts, stops or renews it, as its configuration is now. */
  async look(): Promise<void> {
    const { enabled } = this.#o.settings(this.name);
    const given = enabled ? this.#o.given(this.name) : "";
    if (given === this.#given) return;
    this.#given = given;
    this.#restarts.reset();
    await this.stop(GRACE_MS);
    this.#given = given;
    if (enabled) this.#start();
  }

  async stop(graceMs: number): Promise<void> {
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#given = "";
    const child = this.#child;
    this.#child = undefined;
    if (child === undefined) return;
    await child.stop(graceMs);
    this.#over();
    this.#o.log.info({ adapter: this.name }, "adapter stopped");
  }

  describe(): string {
    const { hub, other, nodes, counts, problem } = this.status;
    if (!this.runs) return `${this.name} ${this.#given === "" ? "off" : `waits to be started again: ${this.#how}`} ends=${this.#ends}`;
    const all = Object.entries(counts).map(([what, count]) => `${what}=${count}`);
    const state = `pid=${this.#child?.pid ?? 0} hub=${hub ? "up" : "down"} other=${other ? "up" : "down"} nodes=${nodes} ends=${this.#ends}`;
    return `${this.name} ${state} ${all.join(" ")}${problem === "" ? "" : ` problem=${problem}`}`;
  }

  #start(): void {
    const { clock, command, log } = this.#o;
    if (command === undefined) {
      log.warn({ adapter: this.name }, "adapter is not run by this process; start it with foedus adapter");
      return;
    }
    this.#restarts.started(clock.mono());
    const child: Child = new Child({
      clock,
      command: [...command, "adapter", this.name, "--supervised"],
      given: this.#given,
      onLine: (line) => this.#said(line),
      onError: (line) => {
        this.#how = said(JSON.stringify({ message: line })).kind === "log" ? line.slice(0, 300) : "";
        log.warn({ adapter: this.name, line: line.slice(0, 1_000) }, "adapter wrote to stderr");
      },
      onEnd: (how) => {
        if (this.#child === child) this.#ended(how);
      },
    });
    this.#child = child;
    log.info({ adapter: this.name, pid: child.pid }, "adapter started");
  }

  #said(line: string): void {
    const one = said(line);
    if (one.kind === "status") this.status = one.status;
    else this.#o.log[one.level]({ adapter: this.name, about: one.about, text: one.message }, "adapter");
  }

  #ended(how: string): void {
    const { clock, log, events } = this.#o;
    this.#child = undefined;
    this.#over();
    this.#ends++;
    const why = this.#how === "" ? how : `${how}: ${this.#how}`;
    this.#how = why;
    const waitMs = Math.round(this.#restarts.ended(clock.mono()));
    log.error({ adapter: this.name, how: why, waitMs }, "adapter ended; it is started again");
    events.report({ kind: "MODULE", severity: "ERROR", text: `the adapter ${this.name} ended and is started again: ${why}`.slice(0, 500) });
    this.#timer = clock.setTimer(waitMs, () => {
      this.#timer = undefined;
      this.#start();
    });
  }

  #over(): void {
    for (const [what, count] of Object.entries(this.status.counts)) this.#before[what] = (this.#before[what] ?? 0) + count;
    this.status = NOTHING;
  }
}

/**
 * Adapters are the adapters that a hub runs, each as a process of its own.
 *
 * AD1 whatever becomes of an adapter, the hub goes on, and is ready.
 * AD2 an adapter that ends is started again after waits that grow; a changed configuration starts it at once.
 * AD3 an adapter ends with its hub, however that ends: its stdin is closed.
 */
export class Adapters implements ServiceModule {
  readonly name = "adapters";
  readonly bindings = [];
  readonly #kept: readonly Kept[];
  readonly #stops: readonly (() => void)[];
  #turn: Promise<void> = Promise.resolve();
  #stopped = false;

  constructor(options: AdaptersOptions) {
    this.#kept = (Object.keys(ADAPTERS) as AdapterName[]).map((name) => new Kept(name, options));
    const { metrics } = options;
    const up = sampledGauge(metrics, {
      name: "foedus_adapter_up",
      help: "1 while an adapter that this hub runs reaches both the hub and what is on its other side.",
      labels: ["adapter"],
    });
    const nodes = sampledGauge(metrics, { name: "foedus_adapter_nodes", help: "Nodes of an adapter.", labels: ["adapter"] });
    const ends = sampledCounter(metrics, {
      name: "foedus_adapter_ends_total",
      help: "How often an adapter ended by itself and was started again.",
      labels: ["adapter"],
    });
    const counts = sampledCounter(metrics, {
      name: "foedus_adapter_messages_total",
      help: "Messages and commands of an adapter, by what became of them.",
      labels: ["adapter", "what"],
    });
    this.#stops = this.#kept.flatMap((kept) => [
      up({ adapter: kept.name }, () => (kept.status.hub && kept.status.other ? 1 : 0)),
      nodes({ adapter: kept.name }, () => kept.status.nodes),
      ends({ adapter: kept.name }, () => kept.ends),
      ...COUNTED.map((what) => counts({ adapter: kept.name, what }, () => kept.counted(what))),
    ]);
  }

  start(): Promise<void> {
    this.look();
    return Promise.resolve();
  }

  /** look puts the configuration in force, one change after the other. */
  look(): void {
    this.#turn = this.#turn.then(async () => {
      if (!this.#stopped) await Promise.all(this.#kept.map((kept) => kept.look()));
    });
  }

  readiness(): { readonly ready: boolean } {
    return { ready: true };
  }

  describe(): string {
    return this.#kept.map((kept) => kept.describe()).join("\n");
  }

  async stop(graceMs: number): Promise<void> {
    this.#stopped = true;
    await this.#turn;
    await Promise.all(this.#kept.map((kept) => kept.stop(graceMs)));
    for (const stop of this.#stops) stop();
  }
}
