import { CommandForwardingService } from "#gen/foedus/command_forwarding/v1alpha1/command_forwarding_service_pb.ts";
import { DiscoveryService } from "#gen/foedus/discovery/v1alpha1/discovery_service_pb.ts";
import { RegistrySyncService } from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import type { TelemetryService } from "#gen/foedus/telemetry/v1alpha1/telemetry_service_pb.ts";
import type { PeerSource, SessionReporter } from "#runtime/peers.ts";
import type { ClientOf } from "#runtime/rpc/call.ts";
import type { Platform, ServiceModule } from "#runtime/service/module.ts";
import { expectedPeerOf } from "#runtime/tls/peer-identity.ts";
import type { JwtVerifier } from "#runtime/tokens/verify.ts";
import { type CommandForwardingPorts, createCommandForwarding, type LocalCommandHandler } from "../command-forwarding/index.ts";
import { createDiscovery, type ServiceEndpoint } from "../discovery/index.ts";
import { createRegistrySync } from "../registry-sync/index.ts";
import { createTelemetry } from "../telemetry/index.ts";
import type { AutomationSeat } from "./compose/automation.ts";
import { DirectoryFeed } from "./compose/directory.ts";
import { createPresence } from "./compose/presence.ts";
import { createSharePolicy } from "./compose/share-policy.ts";
import type { HubConfig, ServiceName } from "./config.ts";
import type { Credentials } from "./credentials.ts";
import { FederationFile, syncIntervalMs } from "./files/federation-file.ts";
import type { LiveConfig } from "./files/live-config.ts";

/** Clients of this hub's own services, in this process or elsewhere. */
export interface OwnClients {
  (service: "discovery"): ClientOf<typeof DiscoveryService>;
  (service: "registry-sync"): ClientOf<typeof RegistrySyncService>;
  (service: "command-forwarding"): ClientOf<typeof CommandForwardingService>;
  (service: "telemetry"): ClientOf<typeof TelemetryService>;
}

/** Wiring is what the process gives to its modules. */
export interface Wiring {
  /** The configuration of the start; what may change while the process runs is asked of `live`. */
  readonly config: HubConfig;
  readonly live: LiveConfig;
  readonly folder: string;
  readonly credentials: Credentials;
  readonly verifier: JwtVerifier;
  readonly platform: (service: ServiceName) => Platform;
  readonly peers: (service: ServiceName) => PeerSource;
  readonly sessions: (service: ServiceName) => SessionReporter;
  readonly client: OwnClients;
  readonly endpoints: () => readonly ServiceEndpoint[];
  readonly onFatal: (error: unknown) => void;
  /** What is to be read again when an operator asks for it (SIGHUP). */
  readonly reloads: (() => void)[];
  /** Rules that run in this process, if there are any. */
  readonly automation: AutomationSeat | undefined;
  /** Runs commands for own nodes that have no other executor (S0-20). */
  readonly localCommands: LocalCommandHandler | undefined;
}

/** The module table: "all" is just every row of it. */
const TABLE: Readonly<Record<ServiceName, (wiring: Wiring) => ServiceModule>> = {
  telemetry: (wiring) =>
    createTelemetry({ platform: wiring.platform("telemetry"), config: wiring.config.telemetry, onFatal: wiring.onFatal }),
  "registry-sync": registrySync,
  "command-forwarding": commandForwarding,
  discovery,
};

/** createModules makes the modules of some services. Nothing runs before they are started. */
export function createModules(wiring: Wiring, services: readonly ServiceName[]): ServiceModule[] {
  return services.map((service) => TABLE[service](wiring));
}

function discovery(wiring: Wiring): ServiceModule {
  const { config, live, folder, credentials, reloads } = wiring;
  const platform = wiring.platform("discovery");
  const file = new FederationFile({
    folder,
    config: () => live.current,
    clock: platform.clock,
    log: platform.log,
    events: platform.events,
    apply: (next) => module.setFederation(next),
  });
  const federation = file.first();
  const module = createDiscovery({
    platform,
    config: config.discovery,
    ports: {
      dialPeer: ({ address, hubId, caPems, revoked, spiffeId }) => {
        const expected = spiffeId === undefined ? { hubId } : (expectedPeerOf(spiffeId) ?? { hubId });
        return credentials.client(DiscoveryService, { ...address, expected, caPems, revoked });
      },
      ownEndpoints: wiring.endpoints,
      ownLeaf: () => credentials.certificate.leaf.raw,
      tokens: wiring.verifier,
    },
    ...(federation === undefined ? {} : { federation }),
    onFatal: wiring.onFatal,
  });
  credentials.onLeaf(() => module.leafChanged());
  if (federation === undefined) return module;
  live.onChange(({ seeds, discovery: { trust } }, before) => {
    if (JSON.stringify([seeds, trust]) !== JSON.stringify([before.seeds, before.discovery.trust])) file.reread();
    else file.checkShares();
  });
  reloads.push(() => file.reread());
  return extend(
    module,
    () => file.start(),
    () => file.stop(),
  );
}

function registrySync(wiring: Wiring): ServiceModule {
  const { config, live, folder, credentials, automation } = wiring;
  const platform = wiring.platform("registry-sync");
  const module = createRegistrySync({
    platform,
    config: { ...config.registry_sync, sync_interval_ms: syncIntervalMs(config, folder, platform.log) },
    ports: {
      peers: wiring.peers("registry-sync"),
      sessions: wiring.sessions("registry-sync"),
      connect: (view, options) => credentials.peerClient(RegistrySyncService, view, options),
      tokens: wiring.verifier,
      identity: () => credentials.certificate,
      ...(automation === undefined ? {} : { automation }),
    },
    onFatal: wiring.onFatal,
  });
  live.onChange(({ registry_sync }, before) => {
    if (JSON.stringify(registry_sync.shares) !== JSON.stringify(before.registry_sync.shares)) module.setShares(registry_sync);
  });
  return module;
}

function commandForwarding(wiring: Wiring): ServiceModule {
  const { config, automation, localCommands } = wiring;
  const platform = wiring.platform("command-forwarding");
  const directory = new DirectoryFeed(platform.clock);
  const presence = createPresence(() => wiring.client("registry-sync"), platform.clock, platform.log, platform.metrics);
  const module = createCommandForwarding({
    platform,
    config: config.command_forwarding,
    ports: { directory, presence, ...commandFederation(wiring, directory) },
    onFatal: wiring.onFatal,
  });
  automation?.connect(module);
  return extend(
    module,
    () => {
      directory.start(wiring.client("registry-sync"), (err) => platform.log.error({ err }, "directory of nodes: a change was not told"));
      if (localCommands !== undefined) module.setLocalCommandHandler(localCommands);
    },
    () => {
      directory.stop();
      presence.stop();
    },
  );
}

/** commandFederation is what commands between hubs need; nothing while federation is off (S0-23). */
function commandFederation(wiring: Wiring, directory: DirectoryFeed): Pick<CommandForwardingPorts, "federation"> {
  const { config, live, credentials } = wiring;
  if (config.federation_config_path === "") return {};
  const peers = wiring.peers("command-forwarding");
  return {
    federation: {
      peers,
      sessions: wiring.sessions("command-forwarding"),
      sharePolicy: createSharePolicy(live, peers, directory),
      connect: (view, options) => credentials.peerClient(CommandForwardingService, view, options),
      tokens: wiring.verifier,
    },
  };
}

/** extend adds what the composition root runs beside a module. */
function extend(module: ServiceModule, afterStart: () => void, beforeStop: () => void): ServiceModule {
  return {
    name: module.name,
    bindings: module.bindings,
    start: async () => {
      await module.start();
      afterStart();
    },
    readiness: () => module.readiness(),
    describe: () => module.describe(),
    ...(module.links === undefined ? {} : { links: () => module.links!() }),
    stop: async (graceMs) => {
      beforeStop();
      await module.stop(graceMs);
    },
  };
}
