// Real hubs as real processes over real mutual TLS on loopback: for end-to-end tests, the demo and the benches.

import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import type { GenService, GenServiceMethods } from "@bufbuild/protobuf/codegenv2";
import type { ClientOf } from "#channel/call.ts";
import { systemClock } from "#channel/clock.ts";
import { createPeerCredentials } from "#channel/tls/peer-credentials.ts";
import { CommandForwardingService } from "#gen/foedus/command_forwarding/v1alpha1/command_forwarding_service_pb.ts";
import { CoordinationService } from "#gen/foedus/coordination/v1alpha1/coordination_service_pb.ts";
import { DiscoveryService } from "#gen/foedus/discovery/v1alpha1/discovery_service_pb.ts";
import { LinkState } from "#gen/foedus/discovery/v1alpha1/peer_pb.ts";
import { HubService } from "#gen/foedus/hub/v1alpha1/hub_service_pb.ts";
import { RegistrySyncService } from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import { TelemetryService } from "#gen/foedus/telemetry/v1alpha1/telemetry_service_pb.ts";
import { createClient } from "#runtime/rpc/client/client.ts";
import { writePki } from "../../certs/issue.ts";
import { nameOfRpc, SERVICES, type ServiceName } from "../../services/hub/services.ts";
import { allOf, endProcess, isRunning } from "./processes.ts";
import { GivenUp, until } from "./until.ts";

export { until } from "./until.ts";

/** ROOT is the project's folder. */
export const ROOT = join(import.meta.dirname, "../..");

export { SERVICES };

/** PeerSpec is a line of a hub's federation file. */
export interface PeerSpec {
  readonly hub: string;
  readonly maxTrust?: "full" | "limited" | "minimal";
  readonly share?: string;
}

/** HubSpec describes a hub of a federation. */
export interface HubSpec {
  readonly id: string;
  readonly peers: readonly PeerSpec[];
  /** False: it has no address that peers could dial; it only dials out. */
  readonly reachable?: boolean;
  readonly mode?: "single" | "split";
  /** True: /metrics and /statusz are not on the plain port but on one of their own, over mutual TLS. */
  readonly metricsTls?: boolean;
  /** Further configuration, merged over what the harness writes. */
  readonly config?: Readonly<Record<string, unknown>>;
  /** Added to the environment of its processes. */
  readonly env?: Readonly<Record<string, string>>;
  /** Address that it listens at and is reached at, if not one of the loopback interface. */
  readonly host?: string;
  /** Command that its processes are started with, which must become them: a network namespace to enter, for example. */
  readonly launch?: readonly string[];
}

/** FederationOptions say what to start. */
export interface FederationOptions {
  readonly hubs: readonly HubSpec[];
  /** Folder for everything; a temporary one that is removed at the end if not given. */
  readonly dir?: string;
  /** Base port of the first hub on 127.0.0.1; without it each federation has loopback addresses of its own and the default ports. */
  readonly basePort?: number;
  /** Folder with a PKI per hub (`<pkiDir>/<hub>/ca.pem` and so on); without it each hub gets one in its own folder. */
  readonly pkiDir?: string;
  /** Arguments of node before the entry point, e.g. a bundled entry point instead of the sources. */
  readonly entry?: readonly string[];
  readonly logLevel?: string;
}

/** Principal names a certificate of a hub's PKI. */
export type Principal = "operator-admin" | "operator-viewer" | "gateway-zigbee" | "gateway-agents" | "service-hub";

/** Credential is a principal, or the files of another certificate. */
export type Credential = Principal | { readonly ca: string; readonly cert: string; readonly key: string };

/** Clients of one hub, for one principal. */
export interface Clients {
  readonly discovery: ClientOf<typeof DiscoveryService>;
  readonly registry: ClientOf<typeof RegistrySyncService>;
  readonly commands: ClientOf<typeof CommandForwardingService>;
  readonly telemetry: ClientOf<typeof TelemetryService>;
  readonly coordination: ClientOf<typeof CoordinationService>;
  readonly hub: ClientOf<typeof HubService>;
  close(): void;
}

let federations = 0;

/** loopbackAddress is a loopback address that no other federation on this machine uses: process id and two counters make it. */
function loopbackAddress(federation: number, hub: number): string {
  const n = (process.pid * 31 + federation) % (250 * 250);
  return `127.${1 + (n % 250)}.${1 + Math.floor(n / 250)}.${1 + hub}`;
}

/** HubProcess is one hub: one process, or one per service. */
export class HubProcess {
  readonly spec: HubSpec;
  readonly dir: string;
  readonly host: string;
  readonly basePort: number;
  readonly pkiDir: string;
  /** Arguments of node before the verb; a test of upgrades changes them between two starts. */
  entry: readonly string[];
  /** Services that `start` starts in split mode; a version before the present one may have fewer. */
  services: readonly ServiceName[] = SERVICES;
  readonly #children = new Map<string, ChildProcess>();
  readonly #clients: Clients[] = [];

  constructor(spec: HubSpec, dir: string, pkiDir: string, host: string, basePort: number, entry: readonly string[]) {
    this.spec = spec;
    this.dir = dir;
    this.pkiDir = pkiDir;
    this.host = host;
    this.basePort = basePort;
    this.entry = entry;
  }

  get id(): string {
    return this.spec.id;
  }

  get split(): boolean {
    return this.spec.mode === "split";
  }

  /** processes are the names of all its processes: "hub" in single mode, its services in split mode. */
  get processes(): readonly string[] {
    return this.split ? this.services : ["hub"];
  }

  /** processOf names the process in which a service runs. */
  processOf(service: ServiceName): string {
    return this.split ? service : "hub";
  }

  /** pids of the running processes, by service ("hub" in single mode). */
  get pids(): ReadonlyMap<string, number> {
    return new Map([...this.#children].filter(([, child]) => isRunning(child)).map(([name, child]) => [name, child.pid!]));
  }

  /** address of a service. */
  address(service: ServiceName): string {
    return `${this.host}:${this.split ? this.basePort + SERVICES.indexOf(service) : this.basePort}`;
  }

  /** opsPort of a process. */
  opsPort(process: string): number {
    return this.basePort + 10 + (process === "hub" ? 0 : SERVICES.indexOf(process as ServiceName));
  }

  /** metricsPort of a process of a hub with `metricsTls`. */
  metricsPort(process: string): number {
    return this.opsPort(process) + SERVICES.length;
  }

  pki(name: string): { readonly ca: string; readonly cert: string; readonly key: string } {
    return { ca: join(this.pkiDir, "ca.pem"), cert: join(this.pkiDir, `${name}.pem`), key: join(this.pkiDir, `${name}.key`) };
  }

  /** start starts all processes and resolves when each is ready. */
  async start(): Promise<void> {
    this.spawn();
    await this.ready();
  }

  /** spawn starts all processes, and does not wait until they are ready. */
  spawn(): void {
    for (const name of this.processes) this.startProcess(name);
  }

  /** startProcess starts one process ("hub", or a service in split mode). */
  startProcess(name: string): void {
    const file = join(this.dir, "log", `${name}.log`);
    mkdirSync(dirname(file), { recursive: true });
    const log = openSync(file, "a");
    const verb = name === "hub" ? ["hub"] : ["serve", name];
    const flags = ["--config", join(this.dir, "hub.json"), "--set", `ops.port=${this.opsPort(name)}`];
    // A hub that does not listen on loopback has that port as well, by default next to the plain one, where another process has its own.
    if (this.spec.metricsTls === true || this.spec.host !== undefined) flags.push("--set", `ops.metrics_port=${this.metricsPort(name)}`);
    const [program = process.execPath, ...before] = [...(this.spec.launch ?? []), process.execPath];
    const child = spawn(program, [...before, ...this.entry, ...verb, ...flags], {
      cwd: this.dir,
      env: { ...process.env, ...this.spec.env },
      stdio: ["ignore", log, log],
    });
    closeSync(log);
    this.#children.set(name, child);
  }

  /** ready resolves when a process, or each of them, answers that it is ready; it fails at once when one ends. */
  async ready(name?: string, timeoutMs = 60_000): Promise<void> {
    await Promise.all((name === undefined ? this.processes : [name]).map((process) => this.#ready(process, timeoutMs)));
  }

  async #ready(name: string, timeoutMs: number): Promise<void> {
    const child = this.#children.get(name)!;
    await until(
      `${this.id} ${name} getting ready`,
      async () => {
        if (!isRunning(child)) throw new GivenUp(`${this.id} ${name} ended (${child.exitCode ?? child.signalCode})`);
        const answer = await fetch(`http://${this.host}:${this.opsPort(name)}/readyz`);
        if (!answer.ok) throw new Error(await answer.text());
        return true;
      },
      timeoutMs,
    ).catch((error: unknown) => {
      throw this.#withLog(name, error);
    });
  }

  /** running throws GivenUp, with the end of its log, if a process has ended that nobody ended: what waits for what it does waits in vain. */
  running(): void {
    for (const [name, child] of this.#children)
      if (!isRunning(child))
        throw new GivenUp(this.#withLog(name, `${this.id} ${name} ended (${child.exitCode ?? child.signalCode})`).message);
  }

  #withLog(name: string, error: unknown): Error {
    const message = error instanceof Error ? error.message : String(error);
    return new Error(`${message}; its log ends:\n${this.log(name).slice(-2_000)}`, { cause: error });
  }

  /** log is what a process wrote. */
  log(name: string): string {
    const file = join(this.dir, "log", `${name}.log`);
    return existsSync(file) ? readFileSync(file, "utf8") : "";
  }

  /** ops gets a page of the ops server. */
  async ops(page: string, name: string = this.processOf("registry-sync")): Promise<string> {
    return (await fetch(`http://${this.host}:${this.opsPort(name)}${page}`)).text();
  }

  /**
   * end sends a signal to the processes and resolves with their exit codes when they are gone. One that does not end in time is
   * killed, and then end fails.
   */
  async end(signal: NodeJS.Signals = "SIGTERM", only?: string): Promise<ReadonlyMap<string, number | null>> {
    const ended = [...this.#children].filter(([name]) => only === undefined || only === name);
    return new Map(
      await allOf(
        ended.map(async ([name, child]) => {
          try {
            return [name, await endProcess(child, `${this.id} ${name}`, signal)] as const;
          } catch (error) {
            throw this.#withLog(name, error);
          } finally {
            this.#children.delete(name);
          }
        }),
      ),
    );
  }

  /** client talks to one service of this hub, whichever the table has; who makes it closes it. */
  client<S extends GenService<GenServiceMethods>>(service: S, principal: Credential = "operator-admin"): ClientOf<S> {
    // What is none of the table's, such as HubService, is at every process.
    const name = nameOfRpc(service.typeName) ?? "discovery";
    const files = typeof principal === "string" ? this.pki(principal) : principal;
    const material = { ca: [readFileSync(files.ca, "utf8")], cert: readFileSync(files.cert, "utf8"), key: readFileSync(files.key, "utf8") };
    const expected = { hubId: this.id, name: this.processOf(name) };
    return createClient(service, {
      address: this.address(name),
      credentials: createPeerCredentials(expected, material, systemClock),
      clock: systemClock,
      channelOptions: { "grpc.max_reconnect_backoff_ms": 500 },
    });
  }

  /** clients talk to this hub as one of its principals, or with other credentials. */
  clients(principal: Credential = "operator-admin"): Clients {
    const made = {
      discovery: this.client(DiscoveryService, principal),
      registry: this.client(RegistrySyncService, principal),
      commands: this.client(CommandForwardingService, principal),
      telemetry: this.client(TelemetryService, principal),
      coordination: this.client(CoordinationService, principal),
      hub: this.client(HubService, principal),
    };
    const clients: Clients = {
      ...made,
      close: () => {
        for (const client of Object.values(made)) client.close();
      },
    };
    this.#clients.push(clients);
    return clients;
  }

  closeClients(): void {
    for (const clients of this.#clients.splice(0)) clients.close();
  }
}

/** Federation is several hubs that know each other. */
export class Federation {
  readonly dir: string;
  readonly hubs: ReadonlyMap<string, HubProcess>;
  readonly #temporary: boolean;

  private constructor(dir: string, hubs: ReadonlyMap<string, HubProcess>, temporary: boolean) {
    this.dir = dir;
    this.hubs = hubs;
    this.#temporary = temporary;
  }

  /** prepare issues a PKI per hub and writes the configuration; nothing runs yet. */
  static async prepare(options: FederationOptions): Promise<Federation> {
    const temporary = options.dir === undefined;
    const dir = options.dir ?? mkdtempSync(join(tmpdir(), "foedus-"));
    const number = federations++;
    const entry = options.entry ?? [join(ROOT, "cli/main.ts")];
    const hubs = new Map(
      options.hubs.map((spec, index) => {
        const host = spec.host ?? (options.basePort === undefined ? loopbackAddress(number, index) : "127.0.0.1");
        const basePort = options.basePort === undefined ? 18_800 : options.basePort + 20 * index;
        return [
          spec.id,
          new HubProcess(
            spec,
            join(dir, spec.id),
            options.pkiDir === undefined ? join(dir, spec.id, "pki") : join(options.pkiDir, spec.id),
            host,
            basePort,
            entry,
          ),
        ];
      }),
    );
    await Promise.all([...hubs.values()].map((hub) => issue(hub)));
    for (const hub of hubs.values()) writeConfig(hub, hubs, options.logLevel ?? "info");
    return new Federation(dir, hubs, temporary);
  }

  /** start prepares and starts all hubs, and resolves when each is ready; links may still be coming up. */
  static async start(options: FederationOptions): Promise<Federation> {
    const federation = await Federation.prepare(options);
    try {
      await Promise.all([...federation.hubs.values()].map((hub) => hub.start()));
    } catch (error) {
      await federation.stop();
      throw error;
    }
    return federation;
  }

  hub(id: string): HubProcess {
    const hub = this.hubs.get(id);
    if (hub === undefined) throw new Error(`there is no hub ${id}`);
    return hub;
  }

  /** operational resolves when every link that the configuration asks for is OPERATIONAL, seen from both of its ends. */
  async operational(timeoutMs = 20_000): Promise<void> {
    await Promise.all(
      [...this.hubs.values()].map(async (hub) => {
        if (hub.pids.size === 0) return;
        const clients = hub.clients();
        await until(
          `${hub.id}'s links becoming operational`,
          async () => {
            const { peers } = await clients.discovery.listPeers({ $typeName: "foedus.discovery.v1alpha1.ListPeersRequest" });
            const wanted = hub.spec.peers.filter((peer) => this.hub(peer.hub).pids.size > 0);
            const bad = wanted.filter(({ hub: id }) => peers.find((peer) => peer.hubId === id)?.state !== LinkState.OPERATIONAL);
            if (bad.length > 0)
              throw new Error(
                peers
                  .map((peer) => `${peer.hubId} state=${peer.state} level=${peer.level} ${peer.decision} ${peer.failure?.message ?? ""}`)
                  .join("; "),
              );
            return true;
          },
          timeoutMs,
        );
        clients.close();
      }),
    );
  }

  /** stop ends every process of this federation and removes its folder if it is a temporary one. */
  async stop(signal: NodeJS.Signals = "SIGTERM"): Promise<void> {
    try {
      await allOf(
        [...this.hubs.values()].map(async (hub) => {
          hub.closeClients();
          await hub.end(signal);
        }),
      );
    } finally {
      if (this.#temporary && process.env["FOEDUS_KEEP"] === undefined) rmSync(this.dir, { recursive: true, force: true });
    }
  }
}

async function issue(hub: HubProcess): Promise<void> {
  await writePki(hub.pkiDir, hub.id, {
    now: new Date(systemClock.wall()),
    leaves: [
      ...["hub", ...SERVICES].map((name) => ({ profile: "service" as const, name, ips: [hub.host] })),
      { profile: "gateway", name: "zigbee" },
      { profile: "gateway", name: "agents" },
      { profile: "operator", name: "admin", role: "admin" },
      { profile: "operator", name: "viewer", role: "viewer" },
    ],
  });
}

function writeConfig(hub: HubProcess, hubs: ReadonlyMap<string, HubProcess>, logLevel: string): void {
  const reachable = hub.spec.reachable !== false;
  const peers = hub.spec.peers.map((peer) => {
    const other = hubs.get(peer.hub)!;
    const address = other.spec.reachable === false ? {} : { host: other.host, port: other.basePort };
    return { hub_id: peer.hub, ...address, ca: other.pki("ca").ca, max_trust: peer.maxTrust ?? "full", share: peer.share ?? "full" };
  });
  mkdirSync(hub.dir, { recursive: true });
  writeFileSync(join(hub.dir, "federation.json"), `${JSON.stringify({ peers }, undefined, 2)}\n`);
  const own = (name: string) => ({ cert: hub.pki(`service-${name}`).cert, key: hub.pki(`service-${name}`).key });
  const config = {
    hub_id: hub.id,
    data_dir: "data",
    listen: { host: hub.host, port: hub.basePort },
    advertise_host: reachable ? hub.host : "",
    tls: { ca: hub.pki("ca").ca, ...own("hub") },
    ops: { host: hub.host, port: hub.basePort + 10, metrics_host: hub.spec.metricsTls === true ? hub.host : "" },
    federation_config_path: "federation.json",
    log: { level: logLevel },
    ...(hub.split
      ? {
          services: Object.fromEntries(SERVICES.map((name, index) => [name, { host: hub.host, port: hub.basePort + index, ...own(name) }])),
        }
      : {}),
    ...hub.spec.config,
  };
  writeFileSync(join(hub.dir, "hub.json"), `${JSON.stringify(config, undefined, 2)}\n`);
}
