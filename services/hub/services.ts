import type { GenService, GenServiceMethods } from "@bufbuild/protobuf/codegenv2";
import type { ZodType } from "zod";
import { CommandForwardingService } from "#gen/foedus/command_forwarding/v1alpha1/command_forwarding_service_pb.ts";
import { CoordinationService } from "#gen/foedus/coordination/v1alpha1/coordination_service_pb.ts";
import { DiscoveryService } from "#gen/foedus/discovery/v1alpha1/discovery_service_pb.ts";
import { RegistrySyncService } from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import { TelemetryService } from "#gen/foedus/telemetry/v1alpha1/telemetry_service_pb.ts";
import type { ServiceModule } from "#runtime/service/module.ts";
import type { Store } from "#runtime/store/port.ts";
import { commandForwardingConfig } from "../command-forwarding/config.ts";
import { coordinationConfig } from "../coordination/config.ts";
import { discoveryConfigOf } from "../discovery/config.ts";
import { registrySyncConfig } from "../registry-sync/config.ts";
import { type TelemetryConfig, telemetryConfig } from "../telemetry/config.ts";
import type { CommandSettings } from "./compose/command-forwarding.ts";
import type { CoordinationSettings } from "./compose/coordination.ts";
import type { FederationSettings } from "./files/federation-file.ts";
import type { Data } from "./seat/whole.ts";
import type { Wiring } from "./wiring.ts";

/** ServiceRow is all that is known of one service outside of its own folder. Whatever lists services is derived from these rows. */
export interface ServiceRow {
  /** Its gRPC service. The package of the file is told to peers as spoken. */
  readonly rpc: GenService<GenServiceMethods>;
  /** Port of its process in split mode; those for health and metrics follow from it (`portsOf`). */
  readonly port: number;
  /** Section of the configuration. `sessions` are the other services that have sessions with peers. */
  readonly config: (others: { readonly sessions: readonly string[] }) => ZodType;
  /** after: what must have been started before it, if it is there: other services, or `rpc`, the server. */
  readonly after: readonly string[];
  /** sessions: it has sessions with its counterparts at peers, so peers connect to it, and what it tells of them counts for the link. */
  readonly sessions: boolean;
  /** calls: services of this hub that it calls, besides discovery and telemetry, which every process calls (`callsOf`). */
  readonly calls: readonly string[];
  /** Size of its volume in the chart. */
  readonly volume: string;
  /**
   * data loads how its store is read before an installation serves its hub, whose every process waits for those that have it to find theirs.
   * Without it the store of an installation that takes over has to be there, whatever it holds.
   */
  readonly data?: () => Promise<(store: Pick<Store, "get">, hub: string) => Data>;
  /** Heading of its metrics in docs/METRICS.md. */
  readonly heading: string;
  /** make loads its code and makes its module; nothing runs before that is started. A process loads only what it runs. */
  readonly make: (wiring: never) => Promise<ServiceModule>;
}

/** TABLE has a row per service, by its name: folder, component of the chart, and word after `foedus serve`. In the order of their ports. */
export const TABLE = {
  discovery: {
    rpc: DiscoveryService,
    port: 18_800,
    config: ({ sessions }) => discoveryConfigOf(sessions),
    // It tells peers where the others are, and dials: both only once the port is open.
    after: ["rpc"],
    sessions: true,
    calls: [],
    volume: "1Gi",
    heading: "Discovery",
    make: async (wiring: Wiring<FederationSettings>) => (await import("./compose/discovery.ts")).discovery(wiring),
  },
  "registry-sync": {
    rpc: RegistrySyncService,
    port: 18_801,
    config: () => registrySyncConfig,
    after: [],
    sessions: true,
    calls: [],
    volume: "2Gi",
    heading: "Registry",
    data: async () => {
      const { feedProblem } = await import("../registry-sync/index.ts");
      return (store, hub) => ({ problem: feedProblem(store, hub) });
    },
    make: async (wiring: Wiring<FederationSettings>) => (await import("./compose/registry-sync.ts")).registrySync(wiring),
  },
  "command-forwarding": {
    rpc: CommandForwardingService,
    port: 18_802,
    config: () => commandForwardingConfig,
    // Its read model of the nodes comes from there.
    after: ["registry-sync"],
    sessions: true,
    // Where agents are that move, it asks coordination.
    calls: ["registry-sync", "coordination"],
    volume: "1Gi",
    heading: "Commands",
    make: async (wiring: Wiring<CommandSettings>) => (await import("./compose/command-forwarding.ts")).commandForwarding(wiring),
  },
  telemetry: {
    rpc: TelemetryService,
    port: 18_803,
    config: () => telemetryConfig,
    after: [],
    sessions: false,
    calls: [],
    volume: "1Gi",
    heading: "Telemetry",
    make: async ({ platform, config, onFatal }: Wiring<{ readonly telemetry: TelemetryConfig }>) =>
      (await import("../telemetry/index.ts")).createTelemetry({ platform, config: config.telemetry, onFatal }),
  },
  coordination: {
    rpc: CoordinationService,
    port: 18_804,
    config: () => coordinationConfig,
    after: [],
    sessions: true,
    calls: [],
    volume: "1Gi",
    heading: "Coordination",
    data: async () => {
      const { heldReplica } = await import("../coordination/index.ts");
      return (store) => ({ replica: heldReplica(store) });
    },
    make: async (wiring: Wiring<CoordinationSettings>) => (await import("./compose/coordination.ts")).coordination(wiring),
  },
} as const satisfies Readonly<Record<string, ServiceRow>>;

/** ServiceName is a service that this software can run. */
export type ServiceName = keyof typeof TABLE;

/** SERVICES are the names of all services, in the order of their ports. */
export const SERVICES = Object.keys(TABLE) as readonly ServiceName[];

/** DEFAULT_PORT is the port of a hub in single mode: the first service's. */
export const DEFAULT_PORT = 18_800;

/** HTTP_PORT is the port of HTTP in single mode: the last before those of health. */
export const HTTP_PORT = 18_809;

/** CONSOLE_PORT is the port of the console in single mode. */
export const CONSOLE_PORT = 18_820;

/** Ports of health begin so far after those of the services, and each is followed by that of metrics: services on one machine need one each. */
const OPS_OFFSET = 10;

/** ServicePorts are the three ports of one process. */
export interface ServicePorts {
  readonly port: number;
  readonly ops: number;
  readonly metrics: number;
}

/** portsOf gives the ports of a service of a split hub whose first port is `base`. A hub in single mode has those of discovery. */
export function portsOf(name: ServiceName, base: number = DEFAULT_PORT): ServicePorts {
  const offset = TABLE[name].port - DEFAULT_PORT;
  const ops = base + OPS_OFFSET + 2 * offset;
  return { port: base + offset, ops, metrics: ops + 1 };
}

/** sectionOf is the name of a service's section of the configuration, and of its proto package and metrics: in snake case. */
export function sectionOf<Name extends string>(name: Name): Snake<Name> {
  return name.replaceAll("-", "_") as Snake<Name>;
}

/** Snake is a name in kebab case, in snake case. */
export type Snake<Name extends string> = Name extends `${infer Head}-${infer Rest}` ? `${Head}_${Snake<Rest>}` : Name;

/** withSessions are the services that have sessions with peers. */
export function withSessions(): ServiceName[] {
  return SERVICES.filter((name) => TABLE[name].sessions);
}

/**
 * startOrder is the order in which the services of one process start: that of the table, each after what it comes after, and those that
 * need the open port last.
 */
export function startOrder(): ServiceName[] {
  const order = new Set<ServiceName>();
  const visit = (name: ServiceName): void => {
    const { after }: ServiceRow = TABLE[name];
    for (const before of SERVICES) if (before !== name && after.includes(before)) visit(before);
    order.add(name);
  };
  const late = (name: ServiceName): boolean => (TABLE[name] as ServiceRow).after.includes("rpc");
  for (const name of SERVICES) if (!late(name)) visit(name);
  for (const name of SERVICES) if (late(name)) visit(name);
  return [...order];
}

/**
 * callsOf are the services that the process of one calls in split mode. Each asks discovery for the peers and for the keys of tokens, and
 * tells telemetry of events.
 */
export function callsOf(name: ServiceName): ServiceName[] {
  const called: readonly string[] = ["discovery", "telemetry", ...TABLE[name].calls];
  return SERVICES.filter((other) => other !== name && called.includes(other));
}

/** nameOfRpc gives the service that serves a gRPC service; undefined for what is none of them, such as HubService. */
export function nameOfRpc(typeName: string): ServiceName | undefined {
  return SERVICES.find((name) => TABLE[name].rpc.typeName === typeName);
}
