// Two hubs that are joined, with the parts that use them: what the push and command benches run on.
import { Federation, ROOT } from "../support/federation.ts";
import { cpuDuring } from "./measure.ts";
import { type CommandResult, type CommandRun, doorOf, type Expected, type Load, PARTS_FILE, type Seen, type Sent } from "./parts.ts";
import { type Part, startPart } from "./worker.ts";

export const NODES = 5_000;

/** Entry point of the hubs: what is shipped, unless BENCH_ENTRY names another (with arguments of node before it). */
export function hubEntry(): readonly string[] {
  return process.env["BENCH_ENTRY"]?.split(" ") ?? [`${ROOT}/dist/foedus.mjs`];
}

/** PushRun is one measured push. */
export interface PushRun extends Seen {
  readonly perSecond: number;
  /** Microseconds of processor time per update, by process. */
  readonly cpuUs: Readonly<Record<string, number>>;
}

interface PushParts {
  readonly generator: Part<Sent>;
  readonly watcher: Part<Seen>;
}

interface CommandParts {
  readonly executor: Part<number>;
  readonly commander: Part<CommandResult>;
}

/** Rig is hub A and hub B, and on demand a generator at A, a watcher at B, a commander at A and an executor at B. */
export class Rig {
  readonly federation: Federation;
  #push: PushParts | undefined;
  #commands: CommandParts | undefined;

  private constructor(federation: Federation) {
    this.federation = federation;
  }

  static async start(mode: "single" | "split", config: Readonly<Record<string, unknown>> = {}): Promise<Rig> {
    const hub = (id: string, peer: string) => ({ id, mode, peers: [{ hub: peer }], config });
    const federation = await Federation.start({ hubs: [hub("a", "b"), hub("b", "a")], entry: hubEntry(), logLevel: "warn" });
    await federation.operational(30_000);
    return new Rig(federation);
  }

  #pids(id: string): number[] {
    return [...this.federation.hub(id).pids.values()];
  }

  async #pushParts(): Promise<PushParts> {
    const [a, b] = [this.federation.hub("a"), this.federation.hub("b")];
    this.#push ??= {
      generator: await startPart<Sent>(PARTS_FILE, "generator", { door: doorOf(a, "gateway-zigbee"), nodes: NODES, register: true }),
      watcher: await startPart<Seen>(PARTS_FILE, "watcher", { door: doorOf(b, "operator-admin"), hub: "a", nodes: NODES }),
    };
    return this.#push;
  }

  /** push sends a load and checks that the watcher saw all of it. */
  async push(load: Load): Promise<PushRun> {
    const { generator, watcher } = await this.#pushParts();
    const pids = { generator: [generator.pid], "hub A": this.#pids("a"), "hub B": this.#pids("b"), watcher: [watcher.pid] };
    const { result, cpu } = await cpuDuring(pids, async () => {
      const sent = await generator.go(load);
      return watcher.go({ kind: load.kind, count: sent.count, sum: sent.sum } satisfies Expected);
    });
    const cpuUs = Object.fromEntries(Object.entries(cpu).map(([name, seconds]) => [name, (seconds / result.count) * 1e6]));
    return { ...result, perSecond: result.count / result.seconds, cpuUs };
  }

  async #commandParts(): Promise<CommandParts> {
    const [a, b] = [this.federation.hub("a"), this.federation.hub("b")];
    this.#commands ??= {
      executor: await startPart<number>(PARTS_FILE, "executor", { door: doorOf(b, "gateway-zigbee"), register: true }),
      commander: await startPart<CommandResult>(PARTS_FILE, "commander", { door: doorOf(a, "gateway-zigbee"), hub: "b" }),
    };
    return this.#commands;
  }

  /** command keeps commands in flight from A to the executor at B; all must end as DONE. */
  async command(run: CommandRun): Promise<CommandResult & { readonly cpuUs: Readonly<Record<string, number>> }> {
    const { executor, commander } = await this.#commandParts();
    const pids = { caller: [commander.pid], "hub A": this.#pids("a"), "hub B": this.#pids("b"), executor: [executor.pid] };
    const { result, cpu } = await cpuDuring(pids, () => commander.go(run));
    return { ...result, cpuUs: Object.fromEntries(Object.entries(cpu).map(([name, seconds]) => [name, (seconds / result.count) * 1e6])) };
  }

  /** stopParts ends the users, so that they do not weigh on what is measured next. */
  async stopParts(): Promise<void> {
    const parts = [this.#push?.generator, this.#push?.watcher, this.#commands?.executor, this.#commands?.commander];
    this.#push = undefined;
    this.#commands = undefined;
    await Promise.all(parts.map((part) => part?.stop()));
  }

  async stop(): Promise<void> {
    await this.stopParts();
    await this.federation.stop();
  }
}

/** showCpu writes microseconds per unit by process. */
export function showCpu(cpuUs: Readonly<Record<string, number>>): string {
  return Object.entries(cpuUs)
    .map(([name, us]) => `${name} ${us.toFixed(2)}`)
    .join(", ");
}
