import { RegistrySyncService } from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import type { ServiceModule } from "#runtime/service/module.ts";
import { createRegistrySync } from "../../registry-sync/index.ts";
import { type FederationSettings, syncIntervalMs } from "../files/federation-file.ts";
import type { Wiring } from "../wiring.ts";

/** registrySync makes the service that knows the nodes. */
export function registrySync(wiring: Wiring<FederationSettings>): ServiceModule {
  const { config, live, folder, credentials, automation, platform } = wiring;
  const module = createRegistrySync({
    platform,
    config: { ...config.registry_sync, sync_interval_ms: syncIntervalMs(config, folder, platform.log) },
    ports: {
      peers: wiring.peers,
      sessions: wiring.sessions(),
      connect: (view, options) => credentials.peerClient(RegistrySyncService, view, options),
      tokens: wiring.verifier,
      identity: () => credentials.certificate,
      ...(automation === undefined ? {} : { automation }),
    },
    onFatal: wiring.onFatal,
  });
  wiring.beside.nodes = module.nodes;
  live.onChange(({ registry_sync }, before) => {
    if (JSON.stringify(registry_sync.shares) !== JSON.stringify(before.registry_sync.shares)) module.setShares(registry_sync);
  });
  return module;
}
