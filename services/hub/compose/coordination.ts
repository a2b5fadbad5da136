import { create } from "@bufbuild/protobuf";
import { CoordinationService } from "#gen/foedus/coordination/v1alpha1/coordination_service_pb.ts";
import {
  DiscoveryService,
  ReportDialledRequestSchema,
  ReportMisconductRequestSchema,
} from "#gen/foedus/discovery/v1alpha1/discovery_service_pb.ts";
import type { ServiceModule } from "#runtime/service/module.ts";
import { type CoordinationConfig, createCoordination, type Dialled } from "../../coordination/index.ts";
import { ownAddress } from "../seat/address.ts";
import type { Wiring } from "../wiring.ts";

/** CoordinationSettings are what of the configuration deciding together depends on. */
export interface CoordinationSettings {
  readonly coordination: CoordinationConfig;
}

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
    // Members dial discovery, which tells them where the other services are.
    endpoint: () => ownAddress(platform.hubId, wiring.endpoints()),
    misconduct: conductReporter(wiring),
    dialled: dialledReporter(wiring),
    doubt: () => wiring.seat.doubt(),
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

/** dialledReporter tells discovery where members with standbys are dialled, until it has taken it; what is newer takes the place of the rest. */
function dialledReporter({ client, platform }: Wiring<CoordinationSettings>): (report: Dialled) => void {
  let newest: Dialled | undefined;
  const tell = async (report: Dialled): Promise<void> => {
    const { voters, confirmed } = report;
    const members = report.members.map(({ endpoint, fence, incarnation, ...rest }) => ({
      ...rest,
      ...endpoint,
      fence: BigInt(fence),
      incarnation: BigInt(incarnation),
    }));
    const request = create(ReportDialledRequestSchema, { members, voters: [...voters], confirmed });
    try {
      await client(DiscoveryService).reportDialled(request, { timeoutMs: 2_000 });
    } catch (error) {
      platform.log.debug({ error }, "coordination: discovery did not take where members are dialled; it is told again");
      // What was confirmed is not confirmed any more by then.
      platform.clock.setTimer(AGAIN_MS, () => newest === report && void tell((newest = { ...report, confirmed: false })));
    }
  };
  return (report) => void tell((newest = report));
}
