import type { Registry } from "prom-client";
import type { Clock } from "#channel/clock.ts";
import type { Entropy } from "#channel/entropy.ts";
import type { Noted } from "#runtime/config/follow.ts";
import type { Logger, LogLevel } from "#runtime/log/log.ts";
import type { LocalCommandHandler } from "../command-forwarding/index.ts";
import type { Automation } from "./compose/automation.ts";
import type { HubConfig } from "./config.ts";
import type { EventForwarder } from "./events.ts";
import { resolveFrom } from "./files/identity.ts";
import type { LiveConfig } from "./files/live-config.ts";
import { type ServiceName, startOrder } from "./services.ts";

/** ProcessOptions say what this process runs. */
export interface ProcessOptions {
  readonly config: HubConfig;
  /** Folder that relative paths of the configuration start from. */
  readonly folder: string;
  /** again reads the configuration when its file changed; undefined: it stays as it is. */
  readonly again?: ((noted: Noted) => HubConfig) | undefined;
  /** setLogLevel follows `log.level`. */
  readonly setLogLevel?: (level: LogLevel) => void;
  /** "hub": all services on one port; else the one service of a split hub. */
  readonly runs: "hub" | ServiceName;
  readonly clock: Clock;
  readonly entropy: Entropy;
  readonly log: Logger;
  /** How the output of the log fares, for the metrics. */
  readonly logSink?: { readonly failing: string | undefined; readonly lost: number };
  /** onFatal is called when a core failed an assertion: the process must end with a failure (DC6). */
  readonly onFatal: (error: unknown) => void;
  readonly automation?: Automation;
  readonly localCommands?: LocalCommandHandler;
  /** How `foedus` is started, for adapters that run as processes of their own; without it this process runs none. */
  readonly command?: readonly string[];
}

/** Ground is what all parts of a process stand on, from before its start until after its end. */
export interface Ground extends ProcessOptions {
  /** metrics of this process. */
  readonly metrics: Registry;
  readonly events: EventForwarder;
  readonly live: LiveConfig;
  /** When the process was made, monotonic ms. */
  readonly startedAt: number;
}

/** servicesOf are the services of this process, in the order in which they start. */
export function servicesOf({ runs }: Pick<Ground, "runs">): readonly ServiceName[] {
  return runs === "hub" ? startOrder() : [runs];
}

/** dataDirOf is the folder of the stores and keys. */
export function dataDirOf({ config, folder }: Pick<Ground, "config" | "folder">): string {
  return resolveFrom(folder, config.data_dir);
}

/** certificateFilesOf are the files of this process's own certificate. */
export function certificateFilesOf({ config, folder, runs }: Pick<Ground, "config" | "folder" | "runs">): {
  readonly certFile: string;
  readonly keyFile: string;
} {
  const own = runs === "hub" ? undefined : config.services[runs];
  const files = own === undefined || own.cert === "" ? config.tls : own;
  return { certFile: resolveFrom(folder, files.cert), keyFile: resolveFrom(folder, files.key) };
}

/** listenOf is where this process serves gRPC, and the field that chooses the port. */
export function listenOf({ config, runs }: Pick<Ground, "config" | "runs">): {
  readonly host: string;
  readonly port: number;
  readonly setting: string;
} {
  return runs === "hub" ? { ...config.listen, setting: "listen.port" } : { ...config.services[runs], setting: `services.${runs}.port` };
}
