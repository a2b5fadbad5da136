// What the hubs do all the while, and what must hold of it. Values of a key only rise, so an older one is one that is smaller.
import { systemClock } from "#channel/clock.ts";
import { Prng } from "#kernel/prng.ts";
import { sleep } from "#runtime/clock.ts";
import { Hub, type Mirror, numbersOf, type OutcomeName } from "../../clients/typescript/index.ts";
import { meter } from "../support/load.ts";
import { until } from "../support/until.ts";
import { HUBS, type HubName, type Stage } from "./hubs.ts";

/** Each hub has this many nodes, writes them this often a second (1,500 updates), and sends so many commands a second. */
const NODES = 50;
const ROUNDS_PER_S = 30;
const COMMANDS_PER_S = 50;
const COMMAND_MS = 3_000;

/** nodesOf names the nodes of a hub; half of them are in the share `limited`. */
export const nodesOf = (hub: HubName): readonly string[] =>
  Array.from({ length: NODES }, (_, i) => `${hub}-${i % 2 === 0 ? "even" : "odd"}-${i}`);

/** Counts are what a run found. */
export interface Counts {
  updates: number;
  done: number;
  unsure: number;
  refused: number;
  watched: number;
}

/** Load writes, commands and watches at all hubs, and remembers what each was told. */
export class Load {
  readonly counts: Counts = { updates: 0, done: 0, unsure: 0, refused: 0, watched: 0 };
  /** What must not have happened, in words. */
  readonly wrong: string[] = [];
  readonly #stage: Stage;
  readonly #prng: Prng;
  /** One command in so many has an idempotency key. */
  readonly #keyedEvery: number;
  /** Newest acknowledged value of a node. */
  readonly #acked = new Map<string, number>();
  /** Times that each command had its effect, and those whose caller was told DONE. */
  readonly #effects = new Map<string, number>();
  readonly #done = new Set<string>();
  readonly #open = new Set<string>();
  readonly #mirrors = new Map<HubName, Mirror>();
  readonly #closers: (() => void)[] = [];
  readonly #running: Promise<void>[] = [];
  #stopped = false;

  constructor(stage: Stage, seed: number, keyedEvery: number) {
    this.#stage = stage;
    this.#keyedEvery = keyedEvery;
    this.#prng = new Prng(seed);
  }

  async start(): Promise<void> {
    for (const hub of HUBS) {
      const gateway = this.#connect(hub, "gateway-zigbee");
      const operator = this.#connect(hub, "operator-admin");
      await gateway.register(...nodesOf(hub).map(meter));
      this.#watch(hub, operator);
      this.#execute(hub, gateway);
      this.#running.push(this.#write(hub, gateway), this.#command(hub, operator));
    }
    await until("the first values everywhere", () => this.counts.done > 50 && this.#everywhere().length === 0, 60_000);
  }

  #connect(hub: HubName, principal: "gateway-zigbee" | "operator-admin"): Hub {
    const clients = this.#stage.hub(hub).clients(principal);
    const connected = Hub.over(clients);
    this.#closers.push(() => {
      connected.close();
      clients.close();
    });
    return connected;
  }

  async #write(hub: HubName, gateway: Hub): Promise<void> {
    const updater = gateway.updater();
    const nodes = nodesOf(hub);
    const started = systemClock.mono();
    for (let n = 1; !this.#stopped; n++) {
      for (const node of nodes) updater.set(node, "count", n);
      await updater.drain();
      for (const node of nodes) this.#acked.set(node, n);
      this.counts.updates += nodes.length;
      // No faster than that on average, and no burst after a pause.
      await sleep(systemClock, Math.min(1_000 / ROUNDS_PER_S, Math.max(0, started + (n * 1_000) / ROUNDS_PER_S - systemClock.mono())));
    }
  }

  #execute(hub: HubName, gateway: Hub): void {
    gateway.serve({
      nodeIds: [...nodesOf(hub)],
      backoff: { baseMs: 100, maxMs: 1_000, factor: 2, jitter: 0.5 },
      run: ({ value }) => {
        const name = String(value);
        const times = (this.#effects.get(name) ?? 0) + 1;
        this.#effects.set(name, times);
        if (times > 1) this.#found(`command ${name} ran ${times} times`);
        return { value: name };
      },
    });
  }

  async #command(hub: HubName, operator: Hub): Promise<void> {
    const others = HUBS.filter((other) => other !== hub);
    for (let n = 1; !this.#stopped; n++) {
      const target = others[this.#prng.below(others.length)] as HubName;
      const nodeId = nodesOf(target)[this.#prng.below(NODES)] as string;
      const name = `${hub}.${n}`;
      this.#open.add(name);
      const keyed = n % this.#keyedEvery === 0 ? { idempotencyKey: name } : {};
      const command = { hubId: target, nodeId, capability: "order", value: name, timeoutMs: COMMAND_MS, ...keyed };
      void operator.execute(command).then(
        ({ outcome }) => this.#told(name, outcome),
        (error: unknown) => this.#found(`command ${name} had no outcome: ${String(error)}`),
      );
      await sleep(systemClock, 1_000 / COMMANDS_PER_S);
    }
    await until(`outcomes of ${hub}`, () => ![...this.#open].some((name) => name.startsWith(`${hub}.`)), COMMAND_MS + 20_000).catch(() =>
      this.#found(`${[...this.#open].filter((name) => name.startsWith(`${hub}.`)).length} commands of ${hub} have no outcome`),
    );
  }

  #told(name: string, outcome: OutcomeName): void {
    this.#open.delete(name);
    if (outcome === "DONE") {
      this.counts.done++;
      this.#done.add(name);
      if (this.#effects.get(name) !== 1) this.#found(`command ${name} is DONE and ran ${this.#effects.get(name) ?? 0} times`);
    } else if (outcome === "UNKNOWN" || outcome === "FAILED") this.counts.unsure++;
    else {
      this.counts.refused++;
      if (this.#effects.has(name)) this.#found(`command ${name} was refused (${outcome}) and ran`);
    }
  }

  /** watch holds a copy of all that a hub shows, and looks at every value that comes. */
  #watch(hub: HubName, operator: Hub): void {
    const seen = new Map<string, number>();
    const look = (node: string, value: number): void => {
      this.counts.watched++;
      const before = seen.get(node) ?? 0;
      if (value < before) this.#found(`${hub} showed ${node} ${value} after ${before}`);
      else seen.set(node, value);
    };
    const mirror = operator.watch({
      onBatch: ({ table }, batch) => {
        const numbers = numbersOf(batch);
        for (let i = 0; i < batch.numCount; i++) {
          const node = table.node(batch.ref[i] as number)?.info.nodeId;
          if (node !== undefined) look(node, numbers[i] as number);
        }
      },
      onReplaced: ({ hubId }, gone) => {
        if (gone) return;
        for (const node of nodesOf(hubId as HubName)) {
          const value = valueIn(mirror, hubId, node);
          if (value !== undefined) look(node, value);
        }
      },
      onError: (error) => this.#found(`the watcher of ${hub} threw ${String(error)}`),
    });
    this.#mirrors.set(hub, mirror);
  }

  /** everywhere lists acknowledged values that a hub does not show, or shows older. */
  #everywhere(acked: ReadonlyMap<string, number> = this.#acked): string[] {
    return HUBS.flatMap((viewer) =>
      HUBS.flatMap((owner) =>
        nodesOf(owner)
          .filter((node) => (valueIn(this.#mirrors.get(viewer) as Mirror, owner, node) ?? 0) < (acked.get(node) ?? 0))
          .map((node) => `${viewer} does not show ${node} ${acked.get(node)}`),
      ),
    );
  }

  /** converged waits until every hub shows what was acknowledged before the call. */
  async converged(withinMs: number): Promise<void> {
    const acked = new Map(this.#acked);
    const left = (): string[] => this.#everywhere(acked);
    await until("every hub showing what was acknowledged", () => left().length === 0, withinMs).catch(() => {
      const missing = left();
      this.#found(`${missing.length} acknowledged values are missing, such as: ${missing.slice(0, 3).join("; ")}`);
    });
  }

  /** stop ends the load, waits for what is under way, and looks at all hubs a last time. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await Promise.all(this.#running);
    await this.converged(60_000);
    for (const name of this.#done) if (this.#effects.get(name) !== 1) this.#found(`command ${name} is DONE and did not run once`);
  }

  close(): void {
    for (const close of this.#closers.splice(0)) close();
  }

  #found(what: string): void {
    if (this.wrong.length < 100) this.wrong.push(what);
  }
}

function valueIn(mirror: Mirror, hubId: string, node: string): number | undefined {
  if (mirror.node(hubId, node) === undefined) return undefined;
  const value = mirror.state(hubId, node).find(({ key }) => key === "count")?.value;
  return typeof value === "number" ? value : undefined;
}
