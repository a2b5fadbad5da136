// etcd as a log to compare with: three members of `tools/etcd-peer` on one disk, and its own load client.

import { type ChildProcess, execFile, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { get } from "node:http";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { promisify } from "node:util";
import { create } from "@bufbuild/protobuf";
import { systemClock } from "#channel/clock.ts";
import { createPeerCredentials } from "#channel/tls/peer-credentials.ts";
import { createClient } from "#runtime/rpc/client/client.ts";
import { writePki } from "../../certs/issue.ts";
import { KV, PutRequestSchema } from "../proto/etcd-rpc.gen.ts";
import { ROOT } from "../support/federation.ts";
import { allOf, endProcess, isRunning } from "../support/processes.ts";
import { tool } from "../support/tools.ts";
import { GivenUp, until } from "../support/until.ts";
import type { LogEndpoint, LogUnderTest, Putter } from "./log-load.ts";

/** ETCD_PEER is the program. */
export const ETCD_PEER = tool("etcd-peer");

const HUB = "etcd";
const SERVICE = "etcd";
const NAMES = ["a", "b", "c"] as const;
const PORTS = { client: 2_379, peer: 2_380, metrics: 2_381 };
/** Ports between those of one member and those of the next. */
const STRIDE = 10;
const RUN_MS = 120_000;

/** etcdVersion is the version that `tools/etcd-peer` is made of. */
export function etcdVersion(): string {
  const module = readFileSync(join(ROOT, "tools/etcd-peer/go.mod"), "utf8");
  return /etcd\/server\/v3 v(\S+)/.exec(module)?.[1] ?? "unknown";
}

/** GoFigures are what `etcd-peer load` prints; latencies in ms. */
export interface GoFigures {
  readonly puts: number;
  readonly puts_per_s: number;
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
}

/** Etcd is a cluster of three members that sync each write to disk, with mutual TLS between them and towards clients. */
export class Etcd implements LogUnderTest {
  readonly name = `etcd ${etcdVersion()}`;
  /** A loopback address of its own, so that its ports are free. */
  readonly #host = `127.${100 + (process.pid % 100)}.${Math.floor(process.pid / 100) % 250}.11`;
  readonly #children: ChildProcess[] = [];
  #pki: LogEndpoint["pki"] = { ca: "", cert: "", key: "" };

  async start(dir: string): Promise<readonly LogEndpoint[]> {
    this.#pki = await this.pkiIn(join(dir, "pki"));
    try {
      await allOf(NAMES.map((name, i) => this.#member(name, i, dir)));
      const leader = await until("a leader of etcd", () => this.#leader());
      const order = [leader, ...NAMES.keys()].filter((i, at, all) => all.indexOf(i) === at);
      return order.map((i) => ({ hub: HUB, address: this.#address("client", i), pki: this.#pki }));
    } catch (error) {
      await this.stop();
      throw error;
    }
  }

  /** pkiIn issues an authority and the one certificate that all members and clients show. */
  async pkiIn(dir: string): Promise<LogEndpoint["pki"]> {
    const leaves = [{ profile: "service" as const, name: SERVICE, ips: [this.#host] }];
    await writePki(dir, HUB, { now: new Date(systemClock.wall()), leaves });
    return { ca: join(dir, "ca.pem"), cert: join(dir, `service-${SERVICE}.pem`), key: join(dir, `service-${SERVICE}.key`) };
  }

  /** open makes a client with a connection of its own; called in the process that loads. */
  open(endpoint: LogEndpoint, client: number): Putter {
    const { pki, address } = endpoint;
    const material = { ca: [readFileSync(pki.ca, "utf8")], cert: readFileSync(pki.cert, "utf8"), key: readFileSync(pki.key, "utf8") };
    const credentials = createPeerCredentials({ hubId: HUB, name: SERVICE }, material, systemClock);
    const kv = createClient(KV, { address, credentials, clock: systemClock });
    const key = Buffer.from(`client-${client}`);
    return {
      put: async (value) => {
        await kv.put(create(PutRequestSchema, { key, value }));
      },
      close: () => kv.close(),
    };
  }

  async syncs(): Promise<number> {
    const leader = await this.#leader();
    return leader === undefined ? Number.NaN : this.#metric(leader, "etcd_disk_wal_fsync_duration_seconds_count");
  }

  pids(): readonly number[] {
    return this.#children.map(({ pid }) => pid!);
  }

  /** load has etcd's own client put values, in a process of its own. */
  async load(endpoint: LogEndpoint, clients: number, seconds: number, bytes: number): Promise<GoFigures> {
    const { stdout } = await promisify(execFile)(
      ETCD_PEER.path,
      [
        "load",
        `--endpoints=https://${endpoint.address}`,
        `--clients=${clients}`,
        `--seconds=${seconds}`,
        `--bytes=${bytes}`,
        ...this.#tls(),
      ],
      { timeout: RUN_MS },
    );
    return JSON.parse(stdout) as GoFigures;
  }

  async stop(): Promise<void> {
    await allOf(this.#children.map((child) => endProcess(child, "etcd-peer")));
  }

  #address(door: keyof typeof PORTS, index: number): string {
    return `${this.#host}:${PORTS[door] + index * STRIDE}`;
  }

  #tls(): string[] {
    return Object.entries(this.#pki).map(([flag, file]) => `--${flag}=${file}`);
  }

  /** #member starts one, and resolves when the cluster answers it. */
  async #member(name: string, index: number, dir: string): Promise<void> {
    const peers = NAMES.map((peer, i) => `${peer}=https://${this.#address("peer", i)}`);
    const child = spawn(
      ETCD_PEER.path,
      [
        "member",
        `--name=${name}`,
        `--data-dir=${join(dir, name)}`,
        `--client-url=https://${this.#address("client", index)}`,
        `--peer-url=https://${this.#address("peer", index)}`,
        `--metrics-url=http://${this.#address("metrics", index)}`,
        `--initial-cluster=${peers.join(",")}`,
        ...this.#tls(),
      ],
      { stdio: ["ignore", "pipe", "inherit"] },
    );
    this.#children.push(child);
    let ready = false;
    createInterface(child.stdout).on("line", (line) => {
      ready ||= line.startsWith("{");
    });
    await until(`member ${name} of etcd`, () => {
      if (!isRunning(child)) throw new GivenUp(`member ${name} of etcd ended before it was ready`);
      return ready;
    });
  }

  async #leader(): Promise<number | undefined> {
    const leads = await Promise.all(NAMES.map((_, i) => this.#metric(i, "etcd_server_is_leader")));
    const leader = leads.indexOf(1);
    return leader < 0 ? undefined : leader;
  }

  async #metric(index: number, name: string): Promise<number> {
    const text = await fetchText(`http://${this.#address("metrics", index)}/metrics`);
    return Number(new RegExp(`^${name} (\\S+)$`, "m").exec(text)?.[1] ?? Number.NaN);
  }
}

function fetchText(url: string): Promise<string> {
  return new Promise((resolve, reject) => {
    get(url, (response) => {
      let text = "";
      response
        .setEncoding("utf8")
        .on("data", (chunk: string) => {
          text += chunk;
        })
        .on("end", () => resolve(text));
    }).on("error", reject);
  });
}
