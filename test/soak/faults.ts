// What happens to the hubs meanwhile. Each fault has an end, after which its hub is as it should be again.

import { X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import { systemClock } from "#channel/clock.ts";
import type { Prng } from "#kernel/prng.ts";
import { sleep } from "#runtime/clock.ts";
import { writePki } from "../../certs/issue.ts";
import { SERVICES } from "../support/federation.ts";
import { until } from "../support/until.ts";
import { editPeers, HUBS, type HubName, type Stage } from "./hubs.ts";

/** Fault is one thing that can go wrong with one hub. */
interface Fault {
  readonly name: string;
  readonly at: readonly HubName[];
  readonly run: (stage: Stage, hub: HubName, prng: Prng) => Promise<void>;
}

const between = (prng: Prng, low: number, high: number): number => low + prng.below(high - low + 1);
const pause = (ms: number): Promise<void> => sleep(systemClock, ms);

/** A peer's line is changed at one of its peers, and back. */
async function changePeer(stage: Stage, hub: HubName, prng: Prng, change: Readonly<Record<string, unknown>>): Promise<void> {
  const others = HUBS.filter((other) => other !== hub);
  const peer = others[prng.below(others.length)] as HubName;
  const before = new Map<string, unknown>();
  editPeers(stage.hub(hub), (line) => {
    if (line.hub_id !== peer) return line;
    for (const key of Object.keys(change)) before.set(key, line[key]);
    return { ...line, ...change };
  });
  await pause(between(prng, 3_000, 8_000));
  editPeers(stage.hub(hub), (line) => (line.hub_id === peer ? { ...line, ...Object.fromEntries(before) } : line));
}

const leavesOf = (stage: Stage, hub: HubName): readonly string[] => (stage.hub(hub).split ? SERVICES : ["hub"]);

async function renew(stage: Stage, hub: HubName): Promise<void> {
  const process = stage.hub(hub);
  await writePki(process.pkiDir, hub, {
    now: new Date(systemClock.wall()),
    leaves: leavesOf(stage, hub).map((name) => ({ profile: "service" as const, name, ips: [process.host] })),
    force: true,
  });
}

/** revoke renews and then has all peers refuse the certificates before. */
async function revoke(stage: Stage, hub: HubName): Promise<void> {
  const process = stage.hub(hub);
  const lost = leavesOf(stage, hub).map((name) => new X509Certificate(readFileSync(process.pki(`service-${name}`).cert)).fingerprint256);
  await renew(stage, hub);
  await pause(3_000);
  for (const other of HUBS)
    if (other !== hub)
      editPeers(stage.hub(other), (line) =>
        line.hub_id === hub ? { ...line, revoked: [...((line["revoked"] as string[] | undefined) ?? []), ...lost].slice(-16) } : line,
      );
}

async function kill(stage: Stage, hub: HubName, prng: Prng): Promise<void> {
  const process = stage.hub(hub);
  const names = [...process.pids.keys()];
  const name = names[prng.below(names.length)] as string;
  await process.end("SIGKILL", name);
  await pause(between(prng, 0, 1_500));
  process.startProcess(name);
  await process.ready(name);
}

async function freeze(stage: Stage, hub: HubName, prng: Prng, low: number, high: number): Promise<void> {
  const pids = [...stage.hub(hub).pids.values()];
  const pid = pids[prng.below(pids.length)] as number;
  process.kill(pid, "SIGSTOP");
  try {
    await pause(between(prng, low, high));
  } finally {
    process.kill(pid, "SIGCONT");
  }
}

async function network(stage: Stage, hub: HubName, ms: number, mode: "cut" | "stall" | "pass", delayMs = 0): Promise<void> {
  for (const relay of stage.relays.get(hub) ?? []) relay.set(mode, delayMs);
  await pause(ms);
  for (const relay of stage.relays.get(hub) ?? []) relay.set("pass");
}

async function fullDisk(stage: Stage, prng: Prng): Promise<void> {
  const empty = stage.fill();
  await pause(between(prng, 2_000, 5_000));
  empty();
}

const REACHED: readonly HubName[] = ["steady", "split", "cramped"];
const KILLED: readonly HubName[] = ["split", "dialer", "cramped"];

/** FAULTS are drawn with the same chance each; those that come twice are the ones that found the most. */
export const FAULTS: readonly Fault[] = [
  { name: "SIGKILL", at: KILLED, run: kill },
  { name: "SIGKILL", at: KILLED, run: kill },
  { name: "SIGSTOP, short", at: HUBS, run: (stage, hub, prng) => freeze(stage, hub, prng, 200, 5_000) },
  { name: "SIGSTOP, long", at: HUBS, run: (stage, hub, prng) => freeze(stage, hub, prng, 13_000, 40_000) },
  { name: "cut", at: REACHED, run: (stage, hub, prng) => network(stage, hub, between(prng, 100, 4_000), "cut") },
  { name: "stall", at: REACHED, run: (stage, hub, prng) => network(stage, hub, between(prng, 500, 6_000), "stall") },
  {
    name: "delay",
    at: REACHED,
    run: (stage, hub, prng) => network(stage, hub, between(prng, 2_000, 6_000), "pass", between(prng, 20, 200)),
  },
  { name: "renew", at: HUBS, run: renew },
  { name: "revoke", at: HUBS, run: revoke },
  { name: "trust", at: HUBS, run: (stage, hub, prng) => changePeer(stage, hub, prng, { max_trust: "minimal" }) },
  { name: "share", at: HUBS, run: (stage, hub, prng) => changePeer(stage, hub, prng, { share: "limited" }) },
  { name: "full disk", at: ["cramped"], run: (stage, _, prng) => fullDisk(stage, prng) },
];

/** Nemesis causes faults until it is stopped: one every 5 to 10 s, at a hub that has none. */
export class Nemesis {
  readonly counts = new Map<string, number>();
  readonly #stage: Stage;
  readonly #prng: Prng;
  readonly #say: (line: string) => void;
  readonly #busy = new Set<HubName>();
  readonly #running = new Set<Promise<void>>();
  readonly #failed: unknown[] = [];

  constructor(stage: Stage, prng: Prng, say: (line: string) => void) {
    this.#stage = stage;
    this.#prng = prng;
    this.#say = say;
  }

  /** run causes faults for so long and resolves when the last one is over. Throws what a fault itself threw, such as a hub that did not start. */
  async run(ms: number, everyMs: readonly [number, number]): Promise<void> {
    const end = systemClock.mono() + ms;
    while (systemClock.mono() < end && this.#failed.length === 0) {
      this.#draw();
      await pause(Math.min(between(this.#prng, ...everyMs), Math.max(0, end - systemClock.mono())));
    }
    await Promise.all(this.#running);
    if (this.#failed.length > 0) throw this.#failed[0];
    await until("all hubs being ready", () => Promise.all(HUBS.map((hub) => this.#ready(hub))).then(() => true), 60_000);
  }

  async #ready(hub: HubName): Promise<void> {
    const process = this.#stage.hub(hub);
    for (const name of process.pids.keys()) await process.ready(name, 30_000);
  }

  #draw(): void {
    const fault = FAULTS[this.#prng.below(FAULTS.length)] as Fault;
    const free = fault.at.filter((hub) => !this.#busy.has(hub));
    if (free.length === 0 || (fault.name === "full disk" && !this.#stage.mountable)) return;
    const hub = free[this.#prng.below(free.length)] as HubName;
    this.#busy.add(hub);
    this.counts.set(fault.name, (this.counts.get(fault.name) ?? 0) + 1);
    this.#say(`${fault.name} at ${hub}`);
    const running = fault.run(this.#stage, hub, this.#prng).then(
      () => void this.#busy.delete(hub),
      (error: unknown) => void this.#failed.push(error),
    );
    this.#running.add(running);
    void running.then(() => this.#running.delete(running));
  }
}
