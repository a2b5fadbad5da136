import { expectedPeerOf } from "#channel/tls/peer-identity.ts";
import { DiscoveryService } from "#gen/foedus/discovery/v1alpha1/discovery_service_pb.ts";
import type { ServiceModule } from "#runtime/service/module.ts";
import { createDiscovery } from "../../discovery/index.ts";
import { FederationFile, type FederationSettings } from "../files/federation-file.ts";
import { extend, type Wiring } from "../wiring.ts";

/** discovery makes the service that knows the peers, and has it follow the federation file. */
export function discovery(wiring: Wiring<FederationSettings>): ServiceModule {
  const { config, live, folder, credentials, reloads, platform } = wiring;
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
      seat: wiring.seat,
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
