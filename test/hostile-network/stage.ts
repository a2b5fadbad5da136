// Two hubs as real processes in a network of their own, and the users that they have.

import { join } from "node:path";
import { systemClock } from "#channel/clock.ts";
import { sleep } from "#runtime/clock.ts";
import { doorOf } from "../bench/parts.ts";
import { type Part, startPart } from "../bench/worker.ts";
import { Federation } from "../support/federation.ts";
import { allOf } from "../support/processes.ts";
import { forgetNewFields } from "../upgrade/previous.ts";
import { HUBS, type Hub, Net } from "./net.ts";
import { type Answered, PARTS_FILE, type Seen, type Sent } from "./parts.ts";
import type { Scenario } from "./scenarios.ts";

/** Both is one of something at each hub. */
export type Both<T> = Readonly<Record<Hub, T>>;

/** Entries are what node is started with, for a hub of today and for one of the version before. */
export interface Entries {
  readonly present: readonly string[];
  readonly previous: readonly string[];
}

/** Stage is where a scenario runs. */
export class Stage {
  readonly short: boolean;
  readonly #net: Net;
  readonly #federation: Federation;
  readonly #old: Hub | undefined;
  readonly #parts: Part<unknown>[] = [];

  private constructor(short: boolean, net: Net, federation: Federation, old: Hub | undefined) {
    this.short = short;
    this.#old = old;
    this.#net = net;
    this.#federation = federation;
  }

  static async make({ bufferBytes, mode, network, old }: Scenario, entries: Entries, short: boolean): Promise<Stage> {
    const net = await Net.make({ bufferBytes });
    let federation: Federation | undefined;
    try {
      const config = { discovery: { backoff_base_ms: 100, backoff_max_ms: 1_000 } };
      const hubs = HUBS.map((id) => ({ id, mode, peers: [{ hub: otherOf(id) }], config, host: net.address(id), launch: net.launch(id) }));
      federation = await Federation.prepare({ hubs, entry: entries.present, logLevel: "info" });
      if (old !== undefined) {
        const hub = federation.hub(old);
        hub.entry = entries.previous;
        forgetNewFields(join(hub.dir, "hub.json"), hub.entry);
      }
      await allOf([...federation.hubs.values()].map((hub) => hub.start()));
      await federation.operational(60_000);
      network?.(net);
      return new Stage(short, net, federation, old);
    } catch (error) {
      await federation?.stop();
      await net.close();
      throw error;
    }
  }

  other(hub: Hub): Hub {
    return otherOf(hub);
  }

  /** each does something for both hubs at once. */
  async each<T>(work: (hub: Hub) => Promise<T>): Promise<Both<T>> {
    const [a, b] = await Promise.all([work("a"), work("b")]);
    return { a, b };
  }

  #start<R>(role: string, argument: (hub: Hub) => object): Promise<Both<Part<R>>> {
    return this.each(async (hub) => {
      const part = await startPart<R>(PARTS_FILE, role, argument(hub));
      this.#parts.push(part);
      return part;
    });
  }

  /** pushers register nodes at both hubs and send their state. */
  pushers(nodes: { nodes: number; fill: number }): Promise<Both<Part<Sent>>> {
    return this.#start("pusher", (hub) => ({
      door: doorOf(this.#federation.hub(hub), "gateway-zigbee"),
      plain: hub === this.#old,
      ...nodes,
    }));
  }

  /** viewers watch at each hub what comes of the other one. */
  viewers(): Promise<Both<Part<Seen>>> {
    return this.#start("viewer", (hub) => ({
      door: doorOf(this.#federation.hub(hub), "operator-admin"),
      hub: otherOf(hub),
      plain: hub === this.#old,
    }));
  }

  /** devices run commands at both hubs. */
  devices(): Promise<Both<Part<number>>> {
    return this.#start("device", (hub) => ({ door: doorOf(this.#federation.hub(hub), "gateway-agents") }));
  }

  /** callers command at each hub the device of the other one; they are here when that works. */
  callers(): Promise<Both<Part<Answered>>> {
    return this.#start("caller", (hub) => ({ door: doorOf(this.#federation.hub(hub), "gateway-agents"), hub: otherOf(hub) }));
  }

  /** downs counts how often a session of registry or commands was lost, as the hubs' logs tell. */
  downs(): number {
    return this.losses().length;
  }

  /** losses are the sessions of registry or commands that were lost: the hub, the time and why. */
  losses(): string[] {
    const found: string[] = [];
    for (const hub of this.#federation.hubs.values())
      for (const process of hub.pids.keys())
        for (const line of hub.log(process).split("\n"))
          if (/"service":"(registry-sync|command-forwarding)"/.test(line) && line.includes('"message":"session is down"')) {
            const { time, service, failure } = JSON.parse(line) as { time: string; service: string; failure: { message: string } };
            found.push(`${time.slice(11, 19)} ${hub.id} ${service}: ${failure.message}`);
          }
    return found.sort();
  }

  /** freeze stops all processes of a hub and lets them go on. */
  async freeze(hub: Hub, ms: number): Promise<void> {
    await pause(1_000);
    const pids = [...this.#federation.hub(hub).pids.values()];
    for (const pid of pids) process.kill(pid, "SIGSTOP");
    await pause(ms);
    for (const pid of pids) process.kill(pid, "SIGCONT");
  }

  /** deafen cuts what arrives at a hub, and lets it through again. */
  async deafen(hub: Hub, ms: number): Promise<void> {
    await pause(1_000);
    this.#net.deafen(hub);
    await pause(ms);
    this.#net.heal();
  }

  /** disorder makes the link lose, delay and reorder, both ways; the answer says how. */
  disorder(): string {
    const [how] = HUBS.map((hub) => this.#net.disorder(hub));
    return how ?? "";
  }

  /** slow limits what both hubs send over the link. */
  slow(kilobitsPerSecond: number): void {
    for (const hub of HUBS) this.#net.slow(hub, kilobitsPerSecond);
  }

  /** apart ends the links between the hubs. */
  async apart(): Promise<void> {
    await this.#enable(false);
  }

  /** operational fails when the links between the hubs do not stand. */
  async operational(): Promise<void> {
    await this.#federation.operational(5_000);
  }

  async together(): Promise<void> {
    await this.#enable(true);
  }

  /** enable does to the link, at both ends, what an operator does. */
  async #enable(enabled: boolean): Promise<void> {
    await this.each(async (hub) => {
      const clients = this.#federation.hub(hub).clients();
      await clients.discovery.setPeerEnabled({
        $typeName: "foedus.discovery.v1alpha1.SetPeerEnabledRequest",
        hubId: otherOf(hub),
        enabled,
      });
      clients.close();
    });
  }

  async close(): Promise<void> {
    await allOf(this.#parts.map((part) => part.stop()));
    await this.#federation.stop();
    await this.#net.close();
  }
}

function otherOf(hub: Hub): Hub {
  return hub === "a" ? "b" : "a";
}

/** pause lets the load go on: how long a hub stands still or a link is cut is what a scenario is about. */
async function pause(ms: number): Promise<void> {
  await sleep(systemClock, ms);
}
