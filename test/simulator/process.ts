import type { DescMethod } from "@bufbuild/protobuf";
import { Registry } from "prom-client";
import { CommandForwardingService } from "#gen/foedus/command_forwarding/v1alpha1/command_forwarding_service_pb.ts";
import { RegistrySyncService } from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import { TelemetryService } from "#gen/foedus/telemetry/v1alpha1/telemetry_service_pb.ts";
import { Prng } from "#kernel/prng.ts";
import type { Logger } from "#runtime/log/log.ts";
import type { Platform, ServiceModule } from "#runtime/module.ts";
import type { PeerSource, PeerView } from "#runtime/peers.ts";
import type { Caller, ClientOf, ServiceBinding } from "#runtime/rpc/call.ts";
import { createLocalClient } from "#runtime/rpc/local-client.ts";
import type { CommandCore } from "../../services/command-forwarding/core.ts";
import { type CommandForwarding, commandForwardingConfig, createCommandForwarding } from "../../services/command-forwarding/index.ts";
import { DirectoryFeed } from "../../services/hub/directory.ts";
import { createPresence } from "../../services/hub/presence.ts";
import { createSharePolicy } from "../../services/hub/share-policy.ts";
import { createRegistrySync, type RegistrySync, type RegistrySyncConfig } from "../../services/registry-sync/index.ts";
import { Activities, nameOfPair } from "./activities.ts";
import { createChannel, type Flow } from "./channel.ts";
import type { ProcessClock } from "./clock.ts";
import type { Federation } from "./federation.ts";
import { SimGround } from "./ground.ts";
import { SILENT, seededEntropy } from "./host.ts";
import type { SimHub } from "./hub.ts";
import { lookAt, nameOfCommands, nameOfRegistry } from "./look.ts";
import { configOf } from "./nodes.ts";
import { KEY_LIFE_MS } from "./options.ts";
import { SimServer, TOKEN_EXPIRES_AT_WALL } from "./server.ts";
import { SimTelemetry } from "./telemetry.ts";

const PACKAGES = ["foedus.registry_sync.v1alpha1", "foedus.command_forwarding.v1alpha1"];
const STOP_GRACE_MS = 2_000;
/** Keys live as short as they may, so that they expire before the end of a run. */
const COMMANDS = commandForwardingConfig.parse({ idempotency_key_life_ms: KEY_LIFE_MS });

/** With so little ahead of a session, commands wait in the queue to their owner on half of the hubs. */
const LITTLE_AHEAD = { aheadBytes: 512 };

/** A token that does not say to which certificate it is bound. */
const UNBOUND = "e30.e30.e30";

/** peerOf is the SPIFFE id with which a hub's services call another hub. */
const peerOf = (hubId: string): string => `spiffe://${hubId}/service/hub`;

/** SimPeers is what discovery would tell the services of one process: the trust of the simulated operators. */
export class SimPeers implements PeerSource {
  readonly synced = true;
  readonly #views: () => readonly PeerView[];
  readonly #listeners = new Set<(views: readonly PeerView[]) => void>();

  constructor(views: () => readonly PeerView[]) {
    this.#views = views;
  }

  current(): readonly PeerView[] {
    return this.#views();
  }

  subscribe(_service: string, listener: (views: readonly PeerView[]) => void): () => void {
    this.#listeners.add(listener);
    listener(this.#views());
    return () => this.#listeners.delete(listener);
  }

  changed(): void {
    for (const listener of [...this.#listeners]) listener(this.#views());
  }
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
  readonly activities: Activities;
  readonly #directory: DirectoryFeed;
  readonly #presence: ReturnType<typeof createPresence>;
  readonly #peers: SimPeers;
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
    this.#peers = new SimPeers(() => this.#views());
    this.#live = new SimLive(hub.hubId, configOf(hub.rules, hub.imports));
    this.telemetry = this.#telemetry();
    this.registry = this.#registry();
    this.reader = this.#local("hub");
    this.#directory = new DirectoryFeed(clock);
    this.#presence = createPresence(() => this.#local("command-forwarding"), clock, SILENT);
    this.commands = this.#commands();
  }

  start(): void {
    const { network } = this.#f;
    const { no } = this.#hub;
    this.telemetry.start().catch((error: unknown) => this.#f.fatal(no, "telemetry", error));
    this.#run(this.registry);
    this.#run(this.commands);
    this.#directory.start(this.#local("command-forwarding"), (error) => this.#f.fatal(no, "directory", error));
    const server = new SimServer({
      bindings: [...this.registry.bindings, ...this.commands.bindings],
      ids: seededEntropy(new Prng(this.#prng.u32())),
      flow: this.#flow,
      callerOf: (spiffeId) => this.#callerOf(spiffeId),
      onSend: (from, method, bytes) => this.#onSend(from, method, bytes),
      onBug: (error) => this.#f.fatal(no, "handler", error),
    });
    network.listen(no, server.accept);
  }

  /** stop is a clean end, as the composition root does it. */
  async stop(): Promise<void> {
    this.activities.begin("stop");
    this.#f.network.listen(this.#hub.no, undefined);
    this.#directory.stop();
    this.#presence.stop();
    for (const module of [this.commands, this.registry, this.telemetry]) await module.stop(STOP_GRACE_MS).catch(() => undefined);
  }

  /** changed: trust or shares are others now. */
  changed(): void {
    this.#peers.changed();
  }

  reconfigure(): void {
    this.#live.set(configOf(this.#hub.rules, this.#hub.imports));
  }

  describe(): string {
    return `${this.registry.describe()}\n${this.commands.describe()}`;
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

  #platform(service: "registry" | "commands"): Platform {
    const sink = this.telemetry.sink(service === "registry" ? "registry-sync" : "command-forwarding");
    return {
      ...this.#base(service, this.#prng.u32()),
      events: {
        report: (event) => {
          this.#note(`event ${event.kind}`, () => event.text);
          sink.report(event);
        },
      },
    };
  }

  #base(service: "registry" | "commands" | "telemetry", seed: number): Omit<Platform, "events"> {
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
        peers: this.#peers,
        sessions: { report: () => undefined },
        connect: (view) => createChannel(RegistrySyncService, this.#channel(view.hubId)),
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
          peers: this.#peers,
          sessions: { report: () => undefined },
          sharePolicy: createSharePolicy(this.#live, this.#peers, this.#directory),
          connect: (view) => createChannel(CommandForwardingService, this.#channel(view.hubId)),
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

  #channel(peer: string) {
    const { network, hubIds } = this.#f;
    const to = hubIds.indexOf(peer);
    return {
      network,
      from: this.#hub.no,
      to,
      caller: peerOf(this.#hub.hubId),
      flow: this.#flow,
      onSend: (method: DescMethod, bytes: Buffer) => this.#onSend(to, method, bytes),
    };
  }

  #onSend(to: number, method: DescMethod, bytes: Buffer): readonly Buffer[] {
    return this.#f.tamper(this.#hub.no, to, method, bytes);
  }

  #views(): PeerView[] {
    const { hubIds } = this.#f;
    return hubIds.flatMap((hubId, i) => (i === this.#hub.no ? [] : [this.#view(hubId, i)]));
  }

  #view(hubId: string, no: number): PeerView {
    const { level, share, terminated } = this.#f.trustOf(this.#hub.no, no);
    const endpoint = this.#hub.dialable(no) ? { host: hubId, port: 1, spiffeId: peerOf(hubId) } : undefined;
    return {
      hubId,
      level,
      share,
      terminated,
      endpoint,
      token: { jwt: UNBOUND, issuedAtWall: 0, expiresAtWall: TOKEN_EXPIRES_AT_WALL },
      caPems: [],
      bundleSeq: 1,
      revoked: [],
      minTokenIssuedAtWall: 0,
      wake: 0,
    };
  }

  #callerOf(spiffeId: string): Caller {
    const { hubIds } = this.#f;
    const [, , hubId = "", kind = "", name = ""] = spiffeId.split("/");
    const peer = hubId !== this.#hub.hubId;
    return {
      kind: peer ? "peer" : (kind as Caller["kind"]),
      hubId,
      name,
      spiffeId,
      thumbprint: spiffeId,
      notAfterWall: TOKEN_EXPIRES_AT_WALL,
      level: peer ? this.#f.trustOf(this.#hub.no, hubIds.indexOf(hubId)).level : 0,
      role: peer || kind !== "operator" ? 0 : 2,
      prefixes: [],
    };
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
