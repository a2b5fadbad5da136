// A hub that is flooded by five of its peers at once, with each type of frame in turn: what its own callers, another peer, its log and its
// memory notice (`make flood`).

import { execFile } from "node:child_process";
import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { systemClock } from "#channel/clock.ts";
import { INSTALLED } from "../../cli/build.ts";
import { Hub } from "../../clients/typescript/index.ts";
import { execute, isOperational, text } from "../support/acts.ts";
import { type Clients, Federation, type HubProcess, until } from "../support/federation.ts";
import { meter } from "../support/load.ts";

/** Types of frames that peers send. */
export const TYPES = [
  "announce",
  "nack",
  "results",
  "invocations",
  "segment",
  "ack",
  "feedOffer",
  "feedOpen",
  "snapshot",
  "snapshotPart",
  "forget",
  "forgetDone",
  "credit",
] as const;

/** CALM is no flood at all, but a process that takes as much of the processor: what is measured then is this machine. */
export const CALM = "calm";

/** PeerFiles are a peer's name and certificate. */
export interface PeerFiles {
  readonly hubId: string;
  readonly cert: string;
  readonly key: string;
}

/** FloodOrder is what the flooding process is told. */
export interface FloodOrder {
  readonly hubId: string;
  readonly address: string;
  readonly ca: string;
  readonly peers: readonly PeerFiles[];
  readonly type: string;
  readonly ms: number;
}

/** Seen is what was measured while one type was flooded. */
export interface Seen {
  readonly type: string;
  readonly sent: number;
  readonly sessions: number;
  readonly commands: number;
  readonly failed: number;
  readonly p99Ms: number;
  readonly maxMs: number;
  /** Commands of the honest peer to this hub and back, which contain one round trip between them. */
  readonly peerP99Ms: number;
  readonly logBytesPerMinute: number;
  readonly rssMiB: number;
}

const FLOODERS = ["flood1", "flood2", "flood3", "flood4", "flood5"];
const PAUSE_MS = 5;

const p99 = (took: readonly number[]): number =>
  Math.round([...took].sort((a, b) => a - b)[Math.floor(took.length * 0.99)] ?? Number.POSITIVE_INFINITY);

/** rssOf a process in MiB. */
export function rssOf(pid: number): number {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]) / 1_024;
}

/** Flood is a hub with an honest peer, and five peers that only flood. */
export class Flood {
  readonly federation: Federation;
  readonly home: HubProcess;
  readonly #gateway: Hub;
  readonly #operator: Clients;
  readonly #barn: Clients;

  private constructor(federation: Federation, gateway: Hub) {
    this.federation = federation;
    this.home = federation.hub("home");
    this.#gateway = gateway;
    this.#operator = this.home.clients();
    this.#barn = federation.hub("barn").clients();
  }

  static async start(trust: "full" | "limited" | "minimal", env: Readonly<Record<string, string>> = {}): Promise<Flood> {
    const federation = await Federation.prepare({
      entry: [...INSTALLED.flags, join(import.meta.dirname, "../../cli/main.ts")],
      hubs: [
        { id: "home", peers: [{ hub: "barn" }, ...FLOODERS.map((hub) => ({ hub, maxTrust: trust }))], env: { ...INSTALLED.env, ...env } },
        { id: "barn", peers: [{ hub: "home" }] },
        ...FLOODERS.map((id) => ({ id, peers: [{ hub: "home" }], reachable: false })),
      ],
    });
    await Promise.all(["home", "barn"].map((id) => federation.hub(id).start()));
    const home = federation.hub("home");
    const gateway = Hub.over(home.clients("gateway-agents"));
    await gateway.register(meter("meter"));
    gateway.serve({ nodeIds: ["meter"], run: ({ value }) => ({ value: String(value) }) });
    const made = new Flood(federation, gateway);
    await until("the honest peer", () => isOperational(made.#operator, "barn"));
    await until("commands of both", async () => {
      for (const clients of [made.#operator, made.#barn]) await made.#command(clients);
      return true;
    });
    return made;
  }

  /** ask sends commands, one after the other, until it is over. */
  async #ask(clients: Clients, over: () => boolean, onFailed: () => void): Promise<number[]> {
    const took: number[] = [];
    while (!over()) {
      await this.#command(clients).then((each) => took.push(each), onFailed);
      await new Promise<void>((resolve) => void systemClock.setTimer(PAUSE_MS, () => resolve()));
    }
    return took;
  }

  async #command(clients: Clients): Promise<number> {
    const started = systemClock.mono();
    const { result } = await execute(clients, "home", "meter", "order", text("on"), 20_000);
    if (result === undefined) throw new Error("a command without a result");
    return systemClock.mono() - started;
  }

  /** run floods with one type and measures meanwhile. */
  async run(type: string, ms: number): Promise<Seen> {
    const pid = this.home.pids.get("hub")!;
    const logFile = join(this.home.dir, "log", "hub.log");
    const before = statSync(logFile).size;
    const took: number[] = [];
    let failed = 0;
    let rss = 0;
    let over = false;
    const flooding = this.#flood(type, ms).finally(() => {
      over = true;
    });
    const started = systemClock.mono();
    const peers = this.#ask(
      this.#barn,
      () => over,
      () => failed++,
    );
    while (!over) {
      await this.#command(this.#operator).then(
        (each) => took.push(each),
        () => failed++,
      );
      rss = Math.max(rss, rssOf(pid));
      await new Promise<void>((resolve) => void systemClock.setTimer(PAUSE_MS, () => resolve()));
    }
    const told = await flooding;
    const minutes = (systemClock.mono() - started) / 60_000;
    return {
      type,
      ...told,
      commands: took.length,
      failed,
      p99Ms: p99(took),
      maxMs: Math.round(Math.max(...took)),
      peerP99Ms: p99(await peers),
      logBytesPerMinute: Math.round((statSync(logFile).size - before) / minutes),
      rssMiB: Math.round(rss),
    };
  }

  async #flood(type: string, ms: number): Promise<{ sent: number; sessions: number }> {
    const peers = FLOODERS.map((hubId) => ({ hubId, ...this.federation.hub(hubId).pki("service-hub") }));
    const { home } = this;
    const order: FloodOrder = { hubId: "home", address: home.address("discovery"), ca: home.pki("ca").ca, peers, type, ms };
    const args = ["-n", "19", process.execPath, join(import.meta.dirname, "flooder.ts"), JSON.stringify(order)];
    return new Promise((resolve, reject) =>
      execFile("nice", args, (error, stdout, stderr) =>
        error === null ? resolve(JSON.parse(stdout) as { sent: number; sessions: number }) : reject(new Error(stderr, { cause: error })),
      ),
    );
  }

  async stop(): Promise<void> {
    this.#gateway.close();
    await this.federation.stop();
  }
}
