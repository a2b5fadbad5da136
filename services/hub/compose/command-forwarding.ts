import { CommandForwardingService } from "#gen/foedus/command_forwarding/v1alpha1/command_forwarding_service_pb.ts";
import { CoordinationService } from "#gen/foedus/coordination/v1alpha1/coordination_service_pb.ts";
import { RegistrySyncService } from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import { TelemetryService } from "#gen/foedus/telemetry/v1alpha1/telemetry_service_pb.ts";
import type { ServiceModule } from "#runtime/service/module.ts";
import {
  type AgentPlacesSource,
  type CommandForwardingConfig,
  type CommandForwardingPorts,
  createCommandForwarding,
} from "../../command-forwarding/index.ts";
import { extend, type Wiring } from "../wiring.ts";
import { createAgentPlaces } from "./agent-places.ts";
import { createAuditSink } from "./audit-sink.ts";
import { type Directory, DirectoryFeed, SharedDirectory } from "./directory.ts";
import { createPresence } from "./presence.ts";
import { createSharePolicy, type ShareSettings } from "./share-policy.ts";

/** CommandSettings are what of the configuration commands depend on. */
export type CommandSettings = ShareSettings & {
  readonly federation_config_path: string;
  readonly command_forwarding: CommandForwardingConfig;
};

/** commandForwarding makes the service that runs commands, with its read model of the nodes. */
export function commandForwarding(wiring: Wiring<CommandSettings>): ServiceModule {
  const { config, automation, localCommands, platform } = wiring;
  const { nodes } = wiring.beside;
  const directory = nodes === undefined ? new DirectoryFeed(platform.clock) : new SharedDirectory(platform.hubId, nodes);
  const presence = createPresence(() => wiring.client(RegistrySyncService), platform.clock, platform.log, platform.metrics);
  const places = createAgentPlaces(() => wiring.client(CoordinationService), platform.clock);
  const federation = commandFederation(wiring, directory, places);
  const module = createCommandForwarding({
    platform,
    config: config.command_forwarding,
    ports: { directory, presence, audit: createAuditSink(() => wiring.client(TelemetryService)), ...federation },
    onFatal: wiring.onFatal,
  });
  automation?.connect(module);
  return extend(
    module,
    () => {
      directory.start(
        () => wiring.client(RegistrySyncService),
        (err) => platform.log.error({ err }, "directory of nodes: a change was not told"),
      );
      if (federation.federation !== undefined) places.start();
      if (localCommands !== undefined) module.setLocalCommandHandler(localCommands);
    },
    () => {
      directory.stop();
      places.stop();
      presence.stop();
    },
  );
}

/** commandFederation is what commands between hubs need; nothing while federation is off (S0-23). */
function commandFederation(
  wiring: Wiring<CommandSettings>,
  directory: Directory,
  places: AgentPlacesSource,
): Pick<CommandForwardingPorts, "federation"> {
  const { config, live, credentials, peers } = wiring;
  if (config.federation_config_path === "") return {};
  return {
    federation: {
      peers,
      sessions: wiring.sessions(),
      sharePolicy: createSharePolicy(live, peers, directory),
      places,
      connect: (view, options) => credentials.peerClient(CommandForwardingService, view, options),
      tokens: wiring.verifier,
    },
  };
}
