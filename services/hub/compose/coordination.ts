import { create } from "@bufbuild/protobuf";
import { CoordinationService } from "#gen/foedus/coordination/v1alpha1/coordination_service_pb.ts";
import { DiscoveryService, ReportMisconductRequestSchema } from "#gen/foedus/discovery/v1alpha1/discovery_service_pb.ts";
import type { ServiceModule } from "#runtime/service/module.ts";
import { type CoordinationConfig, createCoordination } from "../../coordination/index.ts";
import type { Wiring } from "../wiring.ts";

/** CoordinationSettings are what of the configuration deciding together depends on. */
export interface CoordinationSettings {
  readonly coordination: CoordinationConfig;
}

/** Port that is named where none is known, as of a hub that only dials out. */
const PORT = 18_804;

/** coordination makes the service that decides together with others. */
export function coordination(wiring: Wiring<CoordinationSettings>): ServiceModule {
  const { platform, config, credentials } = wiring;
  return createCoordination({
    platform,
    config: config.coordination,
    peers: wiring.peers,
    sessions: wiring.sessions(),
    connect: (view, options) => credentials.peerClient(CoordinationService, view, options),
    tokens: wiring.verifier,
    endpoint: () => {
      const own = wiring.endpoints().find(({ service }) => service === "coordination");
      return own === undefined || own.port === 0 ? { host: platform.hubId, port: PORT } : { host: own.host, port: own.port };
    },
    misconduct: conductReporter(wiring),
    onFatal: wiring.onFatal,
  });
}

/** A report that discovery did not take is tried again so much later, ms. */
const AGAIN_MS = 5_000;

/** conductReporter tells discovery what peers were proved to have done, until it has taken it. */
function conductReporter({ client, platform }: Wiring<CoordinationSettings>): (hubId: string, sentence: string) => void {
  const report = async (hubId: string, sentence: string): Promise<void> => {
    try {
      const request = create(ReportMisconductRequestSchema, { hubId, service: "coordination", sentence: sentence.slice(0, 500) });
      await client(DiscoveryService).reportMisconduct(request, { timeoutMs: 2_000 });
    } catch (error) {
      platform.log.warn({ error, peer: hubId }, "coordination: discovery did not take what a peer did; it is told again");
      platform.clock.setTimer(AGAIN_MS, () => void report(hubId, sentence));
    }
  };
  return (hubId, sentence) => void report(hubId, sentence);
}
