import type { GenService, GenServiceMethods } from "@bufbuild/protobuf/codegenv2";
import type { ClientOf } from "#channel/call.ts";
import type { PeerSource, SessionReporter } from "#runtime/peers.ts";
import type { Platform, ServiceModule } from "#runtime/service/module.ts";
import type { JwtVerifier } from "#runtime/tokens/verify.ts";
import type { LocalCommandHandler } from "../command-forwarding/index.ts";
import type { SeatPort, ServiceEndpoint } from "../discovery/index.ts";
import type { RegistryNodes } from "../registry-sync/index.ts";
import type { AutomationSeat } from "./compose/automation.ts";
import type { Credentials } from "./credentials.ts";

/** Live is the configuration while the process runs: what may change is asked for each time. */
export interface Live<Config> {
  readonly current: Config;
  /** onChange is called after each change of what is live. */
  onChange(listener: (config: Config, before: Config) => void): void;
}

/** SeatOfHub is this installation's place among those of its hub. */
export interface SeatOfHub extends SeatPort {
  /** doubt says why the data here may be older than what another installation of this hub has; undefined if it is not. */
  readonly doubt: () => string | undefined;
}

/**
 * Wiring is what the process gives to one of its services. `Config` is as much of the configuration as that service is made of, so that
 * what makes it does not depend on which other services there are.
 */
export interface Wiring<Config> {
  /** The configuration of the start; what may change while the process runs is asked of `live`. */
  readonly config: Config;
  readonly live: Live<Config>;
  /** Folder that relative paths of the configuration start from. */
  readonly folder: string;
  readonly credentials: Credentials;
  readonly verifier: JwtVerifier;
  readonly platform: Platform;
  /** Peers, with the addresses of this service's counterparts. */
  readonly peers: PeerSource;
  /** sessions makes the port through which this service tells discovery of its sessions. */
  readonly sessions: () => SessionReporter;
  /** client gives a client of one of this hub's services, in this process or elsewhere. */
  readonly client: <S extends GenService<GenServiceMethods>>(service: S) => ClientOf<S>;
  /** beside is what services of one process give to those that are made after them. */
  readonly beside: Beside;
  /** endpoints are what peers are told of this hub's services. */
  readonly endpoints: () => readonly ServiceEndpoint[];
  /** seat is this installation's among those of its hub. */
  readonly seat: SeatOfHub;
  /** onFatal is called when a core failed an assertion: the process must end with a failure (DC6). */
  readonly onFatal: (error: unknown) => void;
  /** What is to be read again when an operator asks for it (SIGHUP). */
  readonly reloads: (() => void)[];
  /** Rules that run in this process, if there are any. */
  readonly automation: AutomationSeat | undefined;
  /** Runs commands for own nodes that have no other executor (S0-20). */
  readonly localCommands: LocalCommandHandler | undefined;
}

/** Beside is what is in memory once, where several services of a process need it. */
export interface Beside {
  /** Nodes as registry-sync holds them; undefined where it runs elsewhere. */
  nodes?: RegistryNodes;
}

/** extend adds what the composition root runs beside a module. */
export function extend(module: ServiceModule, afterStart: () => void, beforeStop: () => void): ServiceModule {
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
