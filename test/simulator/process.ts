import type { X509Certificate } from "node:crypto";
import type { DescMethod } from "@bufbuild/protobuf";
import { Registry } from "prom-client";
import type { ClientOf } from "#channel/call.ts";
import { parseCertificates } from "#channel/tls/material.ts";
import { checkServer, expectedPeerOf } from "#channel/tls/peer-identity.ts";
import { CommandForwardingService } from "#gen/foedus/command_forwarding/v1alpha1/command_forwarding_service_pb.ts";
import { DiscoveryService } from "#gen/foedus/discovery/v1alpha1/discovery_service_pb.ts";
import { RegistrySyncService } from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import { TelemetryService } from "#gen/foedus/telemetry/v1alpha1/telemetry_service_pb.ts";
import { fail } from "#kernel/error.ts";
import { Prng } from "#kernel/prng.ts";
import type { Logger } from "#runtime/log/log.ts";
import type { PeerSource, PeerView, SessionReporter } from "#runtime/peers.ts";
import type { Caller, ServiceBinding } from "#runtime/rpc/call.ts";
import { createLocalClient } from "#runtime/rpc/client/local-client.ts";
import type { Platform, ServiceModule } from "#runtime/service/module.ts";
import type { CommandCore } from "../../services/command-forwarding/core.ts";
import { type CommandForwarding, commandForwardingConfig, createCommandForwarding } from "../../services/command-forwarding/index.ts";
import type { DiscoveryCore } from "../../services/discovery/core.ts";
import { type Directory, DirectoryFeed, SharedDirectory } from "../../services/hub/compose/directory.ts";
import { createPresence } from "../../services/hub/compose/presence.ts";
import { createSharePolicy } from "../../services/hub/compose/share-policy.ts";
import type { ServiceName } from "../../services/hub/services.ts";
import { createRegistrySync, type RegistrySync, type RegistrySyncConfig } from "../../services/registry-sync/index.ts";
import { Activities, nameOfPair } from "./activities.ts";
import { createChannel, type Flow } from "./channel.ts";
import type { ProcessClock } from "./clock.ts";
import { SimDiscovery, type Target } from "./discovery.ts";
import type { Federation } from "./federation.ts";
import { SimGround } from "./ground.ts";
import { SILENT, seededEntropy } from "./host.ts";
import type { SimHub } from "./hub.ts";
import { lookAt, nameOfCommands, nameOfRegistry } from "./look.ts";
import { configOf } from "./nodes.ts";
import { KEY_LIFE_MS } from "./options.ts";
import { SimServer } from "./server.ts";
import { callerOf, peerOf, SimPeers } from "./table.ts";
import { SimTelemetry } from "./telemetry.ts";

const PACKAGES = ["foedus.discovery.v1alpha1", "foedus.registry_sync.v1alpha1", "foedus.command_forwarding.v1alpha1"];
const STOP_GRACE_MS = 2_000;
/** Keys live as short as they may, so that they expire before the end of a run. */
const COMMANDS = commandForwardingConfig.parse({ idempotency_key_life_ms: KEY_LIFE_MS });

/** With so little ahead of a session, commands wait in the queue to their owner on half of the hubs. */
const LITTLE_AHEAD = { aheadBytes: 512 };

const bundles = new Map<string, readonly X509Certificate[]>();

/** bundleOf parses CAs, the same ones once. */
function bundleOf(pems: readonly string[]): readonly X509Certificate[] {
  const text = pems.join();
  const known = bundles.get(text) ?? parseCertificates(pems);
  bundles.set(text, known);
  return known;
}

/** targetOf is where a peer's service is, as its view says. */
function targetOf({ hubId, endpoint, caPems, revoked }: PeerView): Target {
  const expected = expectedPeerOf(endpoint?.spiffeId ?? "");
  if (endpoint === undefined || expected?.hubId !== hubId) throw fail("NOT_CONFIGURED", `${hubId} has no address`);
  return { host: endpoint.host, expected, caPems, revoked };
}

/** SimLive is the configuration of one process that follows its file. */
class SimLive {
  readonly #hubId: string;
  readonly #listeners: ((config: never, before: never) => void)[] = [];
  #registry: RegistrySyncConfig;

  constructor(hubId: string, registry: RegistrySyncConfig) {
    this.#hubId = hubId;
    this.#registry = registry;
  }

  get current(): never {
    return { hub_id: this.#hubId, registry_sync: this.#registry } as never;
  }

  onChange(listener: (config: never, before: never) => void): void {
    this.#listeners.push(listener);
  }

  set(registry: RegistrySyncConfig): void {
    const before = this.current;
    this.#registry = registry;
    for (const listener of this.#listeners) listener(this.current, before);
  }
}

/** HubProcess is one process of a hub, from start to crash: the shipping services, joined as the hub joins them. */
export class HubProcess {
  readonly #f: Federation;
  readonly #hub: SimHub;
  readonly clock: ProcessClock;
  readonly registry: RegistrySync;
  readonly commands: CommandForwarding;
  readonly reader: ClientOf<typeof RegistrySyncService>;
  readonly telemetry: SimTelemetry;
  commandCore: CommandCore | undefined;
  discoveryCore: DiscoveryCore | undefined;
  readonly activities: Activities;
  readonly #directory: Directory;
  readonly #presence: ReturnType<typeof createPresence>;
  /** Undefined in a run without it: who trusts whom is a table then. */
  readonly discovery: SimDiscovery | undefined;
  readonly #table: SimPeers;
  #server: SimServer | undefined;
  readonly #live: SimLive;
  readonly #flow: Flow;
  readonly #prng: Prng;
  readonly #log: Logger;
  readonly #answered = new Set<string>();

  constructor(f: Federation, hub: SimHub, clock: ProcessClock, seed: number) {
    this.#f = f;
    this.#hub = hub;
    this.clock = clock;
    this.#prng = new Prng(seed);
    this.#flow = { windowBytes: f.options.transportBytes, slowMs: () => hub.slowMs(), clock };
    this.#log = { ...SILENT, warn: (_fields: unknown, text?: unknown) => this.#note(`log ${String(text)}`), child: () => this.#log };
    this.activities = new Activities({
      now: () => f.scheduler.now,
      onOverlap: (began, meanwhile) => this.#note(nameOfPair(began, meanwhile)),
      onBegin: (activity) => f.onActivity(hub, activity),
    });
    if (hub.disks.registry.full) this.activities.begin("disk full");
    this.#live = new SimLive(hub.hubId, configOf(hub.rules, hub.imports));
    this.telemetry = this.#telemetry();
    this.#table = new SimPeers(f, hub);
    this.discovery = f.options.discovery ? this.#discovery() : undefined;
    this.registry = this.#registry();
    this.reader = this.#local("hub");
    // As a hub in one process does it, and every third one as a split hub does.
    this.#directory = hub.no % 3 === 2 ? new DirectoryFeed(clock) : new SharedDirectory(hub.hubId, this.registry.nodes);
    this.#presence = createPresence(() => this.#local("command-forwarding"), clock, SILENT, new Registry());
    this.commands = this.#commands();
  }

  start(): void {
    const { network } = this.#f;
    const { no } = this.#hub;
    this.telemetry.start().catch((error: unknown) => this.#f.fatal(no, "telemetry", error));
    this.#run(this.registry);
    this.#run(this.commands);
    this.#directory.start(
      () => this.#local("command-forwarding"),
      (error) => this.#f.fatal(no, "directory", error),
    );
    const server = new SimServer({
      bindings: [...this.registry.bindings, ...this.commands.bindings, ...(this.discovery?.module.bindings ?? [])],
      peers: this.discovery,
      remoteOf: (from) => this.#f.hubIds[from] ?? "client",
      ids: seededEntropy(new Prng(this.#prng.u32())),
      flow: this.#flow,
      callerOf: (spiffeId) => this.#callerOf(spiffeId),
      onSend: (from, method, bytes) => this.#onSend(from, method, bytes),
      onBug: (error) => this.#f.fatal(no, "handler", error),
    });
    this.#server = server;
    network.listen(no, server.accept);
    this.discovery?.start();
  }

  /** stop is a clean end, as the composition root does it. */
  async stop(): Promise<void> {
    this.activities.begin("stop");
    this.#f.network.listen(this.#hub.no, undefined);
    this.#directory.stop();
    this.#presence.stop();
    await this.discovery?.stop(STOP_GRACE_MS);
    for (const module of [this.commands, this.registry, this.telemetry]) await module.stop(STOP_GRACE_MS).catch(() => undefined);
  }

  /** changed: trust or shares are others now. */
  changed(): void {
    this.discovery?.changed();
    this.#table.changed();
  }

  reconfigure(): void {
    this.#live.set(configOf(this.#hub.rules, this.#hub.imports));
  }

  describe(): string {
    return `${this.discovery?.module.describe() ?? "no discovery"}\n${this.registry.describe()}\n${this.commands.describe()}`;
  }

  /** shows tells whether a peer calls here with a certificate. */
  shows(thumbprint: string): boolean {
    return this.#server?.shows(thumbprint) === true;
  }

  /** stalls counts how often a session waited for credit. */
  stalls(): number {
    return [...this.#linksOf(this.registry), ...this.#linksOf(this.commands)].reduce((sum, { backpressure }) => sum + backpressure, 0);
  }

  /** waits tells whether a session waits for credit now. */
  waits(): boolean {
    return [...this.#linksOf(this.registry), ...this.#linksOf(this.commands)].some(({ waiting }) => waiting);
  }

  #linksOf(module: ServiceModule) {
    return module.links?.() ?? [];
  }

  #run(module: ServiceModule): void {
    module.start().catch((error: unknown) => this.#f.fatal(this.#hub.no, module.name, error));
  }

  #note(what: string, detail?: () => string): void {
    this.#f.trace.note(this.#f.scheduler.now, this.#hub.no, what, detail);
  }

  #platform(service: "registry" | "commands" | "discovery", seed = this.#prng.u32()): Platform {
    const sink = this.telemetry.sink(service === "registry" ? "registry-sync" : service === "commands" ? "command-forwarding" : service);
    return {
      ...this.#base(service, seed),
      events: {
        report: (event) => {
          this.#note(`event ${event.kind}`, () => event.text);
          sink.report(event);
        },
      },
    };
  }

  #base(service: keyof SimHub["disks"], seed: number): Omit<Platform, "events"> {
    const { hubId, incarnation, disks } = this.#hub;
    return {
      hubId,
      clock: this.clock,
      entropy: seededEntropy(new Prng(seed)),
      log: this.#log,
      metrics: new Registry(),
      incarnation,
      packages: PACKAGES,
      software: "simulated",
      dataDir: "",
      store: () => disks[service].store,
    };
  }

  #telemetry(): SimTelemetry {
    const { no, hubId, incarnation } = this.#hub;
    // Seeds of their own: that there is telemetry changes nothing in what happens to the others.
    const seed = 1_000 * no + incarnation;
    return new SimTelemetry({
      platform: this.#base("telemetry", seed),
      connect: ({ bindings }) =>
        createLocalClient(TelemetryService, bindings[0] as ServiceBinding, {
          caller: this.#callerOf(`spiffe://${hubId}/service/hub`),
          clock: this.clock,
          log: SILENT,
          ids: seededEntropy(new Prng(seed + 1)),
        }),
      onFatal: (error) => this.#f.fatal(no, "telemetry", error),
    });
  }

  #discovery(): SimDiscovery {
    const { sabotage, hubIds } = this.#f;
    const hub = this.#hub;
    const { no, hubId, incarnation } = hub;
    const seed = 1_000_000 + 1_000 * no + incarnation;
    return new SimDiscovery({
      platform: this.#platform("discovery", seed),
      self: this.#callerOf(peerOf(hubId)),
      operator: this.#callerOf(`spiffe://${hubId}/operator/sim`),
      ids: seededEntropy(new Prng(seed + 1)),
      leaf: () => hub.leaf,
      ownCas: hub.authority.bundle,
      dialable: hub.listens,
      peers: () => hub.federation(),
      terminated: (peer) => this.#f.trustOf(no, hubIds.indexOf(peer)).terminated,
      server: () => this.#server,
      dial: (target) => createChannel(DiscoveryService, this.#channel(target)),
      drive: (core) => {
        this.discoveryCore = core;
        return sabotage.discovery?.(core, no) ?? core;
      },
      onUnable: () => hub.unable(this),
      onFatal: (error) => this.#f.fatal(no, "discovery", error),
    });
  }

  #peers(service: ServiceName): PeerSource {
    return this.discovery?.peers(service) ?? this.#table;
  }

  #sessions(service: ServiceName): SessionReporter {
    return this.discovery?.sessions(service) ?? { report: () => undefined };
  }

  #tokens() {
    return this.discovery === undefined ? {} : { tokens: this.discovery.verifier };
  }

  #registry(): RegistrySync {
    const { options, sabotage } = this.#f;
    const { ringSegments, tailSegments, checkpointSegments, partBytes, windowBytes, zstd } = options;
    const hub = this.#hub;
    const { no } = hub;
    const ground = new SimGround({
      clock: this.clock,
      bootId: `boot-${hub.boots}`,
      workMs: () => 1 + 20 * this.#prng.unit(),
      zstd,
      keySerial: hub.keySerial,
      revokesUpTo: hub.revokesUpTo,
      certificate: () => hub.certificate,
      core: { ringSegments, tailSegments, checkpointSegments, partBytes, ...sabotage.options },
      drive: (core) => {
        this.#f.restarts.restarted(no, core.feeds());
        return lookAt(sabotage.registry?.(core, no) ?? core, {
          before: (input) => this.activities.input(input),
          output: (effect) => {
            this.activities.output(effect);
            const name = nameOfRegistry(effect);
            if (name !== undefined) this.#note(name, () => (effect.kind === "observe" ? `${effect.hub} ${effect.text}` : ""));
          },
        });
      },
    });
    const module = createRegistrySync({
      platform: this.#platform("registry"),
      config: configOf(hub.rules, hub.imports),
      ground,
      ports: {
        peers: this.#peers("registry-sync"),
        sessions: this.#sessions("registry-sync"),
        connect: (view) => createChannel(RegistrySyncService, this.#channel(targetOf(view))),
        ...this.#tokens(),
        identity: () => ({ cert: "", key: "" }),
        tuning: { windowBytes },
      },
      onFatal: (error) => this.#f.fatal(no, "registry-sync", error),
    });
    this.#live.onChange(({ registry_sync }: { registry_sync: RegistrySyncConfig }) => module.setShares(registry_sync));
    return module;
  }

  #commands(): CommandForwarding {
    const { options, sabotage } = this.#f;
    const { no } = this.#hub;
    return createCommandForwarding({
      platform: this.#platform("commands"),
      config: COMMANDS,
      settings: no % 2 === 1 ? LITTLE_AHEAD : {},
      drive: (core) => {
        this.commandCore = core;
        return lookAt(sabotage.commands?.(core, no) ?? core, {
          output: (effect) => {
            if (effect.kind === "reply") this.#replied(effect.client, effect.corr);
            const name = nameOfCommands(effect);
            if (name !== undefined) this.#note(name);
          },
        });
      },
      ports: {
        directory: this.#directory,
        presence: this.#presence,
        federation: {
          peers: this.#peers("command-forwarding"),
          sessions: this.#sessions("command-forwarding"),
          sharePolicy: createSharePolicy(this.#live, this.#peers("command-forwarding"), this.#directory),
          connect: (view) => createChannel(CommandForwardingService, this.#channel(targetOf(view))),
          ...this.#tokens(),
          links: { windowBytes: options.windowBytes },
        },
      },
      onFatal: (error) => this.#f.fatal(no, "command-forwarding", error),
    });
  }

  /** The SDK takes the first answer to a call only: whether there was another is seen here. */
  #replied(client: number, corr: number): void {
    const call = `${client} ${corr}`;
    if (this.#answered.has(call))
      this.#f.oracle.violate("answered", "correctness", `call ${call} of hub-${this.#hub.no} was answered 2 times`);
    this.#answered.add(call);
  }

  #channel({ host, expected, caPems, revoked }: Target) {
    const { network, hubIds } = this.#f;
    const to = hubIds.indexOf(host);
    // What TLS does: the certificate of who answers there is judged by the shipping rules.
    const refuse = () => checkServer(this.#f.hub(to).leaf.certificate, expected, bundleOf(caPems), this.clock.wall(), revoked);
    return {
      network,
      from: this.#hub.no,
      to,
      ...(this.discovery === undefined ? { caller: peerOf(this.#hub.hubId) } : { caller: this.#hub.leaf, refuse }),
      flow: this.#flow,
      onSend: (method: DescMethod, bytes: Buffer) => this.#onSend(to, method, bytes),
    };
  }

  #onSend(to: number, method: DescMethod, bytes: Buffer): readonly Buffer[] {
    return this.#f.tamper(this.#hub.no, to, method, bytes);
  }

  #callerOf(spiffeId: string): Caller {
    return callerOf(this.#f, this.#hub, spiffeId);
  }

  #local(service: string): ClientOf<typeof RegistrySyncService> {
    const spiffeId = `spiffe://${this.#hub.hubId}/service/${service}`;
    return createLocalClient(RegistrySyncService, this.registry.bindings[0] as ServiceBinding, {
      caller: this.#callerOf(spiffeId),
      clock: this.clock,
      log: SILENT,
      ids: seededEntropy(new Prng(this.#prng.u32())),
    });
  }
}
