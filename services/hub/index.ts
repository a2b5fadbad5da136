import { dirname, resolve } from "node:path";
import { whenAborted } from "#channel/abort.ts";
import { systemClock } from "#channel/clock.ts";
import { systemEntropy } from "#channel/entropy.ts";
import { diffConfig, renderEffective } from "#runtime/config/describe.ts";
import type { Noted } from "#runtime/config/follow.ts";
import { loadConfig } from "#runtime/config/load.ts";
import { createLogger } from "#runtime/log/log.ts";
import { isTerminal, type SinkState, tellStderr } from "#runtime/log/sink.ts";
import { coalesced } from "#runtime/service/coalesce.ts";
import type { LocalCommandHandler } from "../command-forwarding/index.ts";
import type { Automation } from "./compose/automation.ts";
import { type HubConfig, hubConfig } from "./config.ts";
import { resolveFrom } from "./files/identity.ts";
import { HubProcess } from "./process.ts";
import type { ServiceName } from "./services.ts";

export type { CommandOutcome, CommandRequest, LocalCommandHandler, LocalTask } from "../command-forwarding/index.ts";
export type { Federation } from "../discovery/index.ts";
export {
  type CapabilityAccess,
  explainImport,
  explainShare,
  FULL_SHARE,
  type ImportDecision,
  importsOf,
  type NodeAccess,
  type NodeRule,
  type Offered,
  type RegistrySyncConfig,
  type RuleField,
  registrySyncConfig,
  type ShareRules,
  type StateChange,
  sharesOf,
} from "../registry-sync/index.ts";
export type { Automation, AutomationHub } from "./compose/automation.ts";
export { type HubConfig, hubConfig } from "./config.ts";
export { checkFederation, undefinedShares } from "./files/federation-file.ts";
export { resolveFrom } from "./files/identity.ts";
export { encodeRevoked, type RevokedEntry, refusedNow } from "./files/revoked-file.ts";
export { Superseded } from "./seat/seat.ts";
export { SERVICES, type ServiceName } from "./services.ts";
export { SOFTWARE } from "./version.ts";

/** LoadedHubConfig is a configuration and the folder that its relative paths start from. */
export interface LoadedHubConfig {
  readonly config: HubConfig;
  readonly folder: string;
  /** again reads it from the same places when its file changed, for a running hub; without it nothing changes. Throws ConfigError. */
  readonly again?: (noted: Noted) => HubConfig;
}

/** Variables of ours that are not configuration. */
const OTHER_VARIABLES = [
  "FOEDUS_HUB",
  "FOEDUS_ADDRESS",
  "FOEDUS_CA",
  "FOEDUS_CERT",
  "FOEDUS_KEY",
  "FOEDUS_DEBUG",
  "FOEDUS_CONTEXTS",
  "FOEDUS_CONFIG",
  "FOEDUS_KEEP",
  "FOEDUS_UPDATE_TRANSCRIPTS",
  "FOEDUS_DEMO_DIR",
  "FOEDUS_DEMO_PORT",
];

/** loadHubConfig reads file, environment and flags; SEEDS adds to `seeds`, empty items are dropped (S2-15). Throws ConfigError. */
export function loadHubConfig(inputs: {
  readonly file?: string;
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly flags?: Readonly<Record<string, unknown>>;
}): LoadedHubConfig {
  const more = (inputs.env?.["SEEDS"] ?? "").split(",").flatMap((seed) => (seed.trim() === "" ? [] : [seed.trim()]));
  const read = (): HubConfig => {
    const { config } = loadConfig(hubConfig, { ...inputs, ignoreEnv: OTHER_VARIABLES });
    return { ...config, seeds: [...config.seeds, ...more] };
  };
  const { file } = inputs;
  if (file === undefined) return { config: read(), folder: resolve(".") };
  const again = (noted: Noted): HubConfig => {
    noted(file);
    return read();
  };
  return { config: read(), folder: dirname(resolve(file)), again };
}

/** renderConfig is the effective configuration with secrets redacted. */
export function renderConfig(config: HubConfig): unknown {
  return renderEffective(hubConfig, config);
}

/** configDiff lists what differs between two configurations and whether it takes a restart. */
export function configDiff(from: HubConfig, to: HubConfig): ReturnType<typeof diffConfig> {
  return diffConfig(hubConfig, from, to);
}

/** RunningHub is a started process of a hub. */
export interface RunningHub {
  readonly port: number;
  readonly opsPort: number;
  /** Where /metrics is served; the ops port if that is on loopback. */
  readonly metricsPort: number;
  /** Modules that failed, by now: the process serves without them. */
  readonly failed: readonly string[];
  /**
   * broken resolves with the reason if a core failed an assertion: end the process with a failure (DC6). With Superseded another installation
   * of the hub acts: stop this one, and start it again to have it stand by.
   */
  readonly broken: Promise<unknown>;
  /** reload opens the log again and looks at configuration, federation file and certificates now, instead of within seconds. */
  reload(): Promise<void>;
  /** stop resolves true if everything that was acknowledged is durable and the stop was clean. */
  stop(): Promise<boolean>;
}

/** StartHubOptions say what is run. */
export interface StartHubOptions extends LoadedHubConfig {
  readonly runs: "hub" | ServiceName;
  /** Rules that run in the hub's process ("hub" only): they are told of state changes and run commands (S0-25, S0-26). */
  readonly automation?: Automation;
  /** Runs commands for own nodes that have no executor attached, e.g. a bridge to a field bus (S0-20, S0-24). */
  readonly localCommands?: LocalCommandHandler;
  /** How `foedus` is started, for adapters that run as processes of their own; without it this process runs none. */
  readonly command?: readonly string[];
  /** Aborted to give up a start that waits for the machine's clock. */
  readonly stopped?: AbortSignal;
}

/** startHub runs all services of a hub ("hub"), or one of them. It rejects for what an operator must mend. */
export async function startHub(options: StartHubOptions): Promise<RunningHub> {
  const { config, folder, again, runs, automation, localCommands, command, stopped } = options;
  const { level, destination, pretty } = config.log;
  const place = destination === "stdout" || destination === "stderr" ? destination : resolveFrom(folder, destination);
  let tell: ((state: SinkState) => void) | undefined;
  const onState = (state: SinkState): void => {
    // Where else: the log is what fails. A log on stderr has nowhere else to go but the event and the metric.
    if (place !== "stderr") tellStderr(`foedus: ${state.text}`);
    tell?.(state);
  };
  const log = createLogger({ level, destination: place, pretty: pretty || isTerminal(place), onState });
  const { promise: broken, resolve: onFatal } = Promise.withResolvers<unknown>();
  const hub = new HubProcess({
    config,
    folder,
    again,
    setLogLevel: (level) => log.setLevel(level),
    runs,
    clock: systemClock,
    entropy: systemEntropy,
    log: log.child({ hub: config.hub_id }),
    logSink: log.sink,
    onFatal,
    ...(automation === undefined ? {} : { automation }),
    ...(localCommands === undefined ? {} : { localCommands }),
    ...(command === undefined ? {} : { command }),
  });
  tell = (state) => hub.logState(state);
  whenAborted(stopped, () => hub.interrupt());
  try {
    await hub.start();
  } catch (error) {
    await hub.stop();
    await log.close();
    throw error;
  }
  return running(hub, log, broken);
}

/** running is a hub for who started it. */
function running(hub: HubProcess, log: ReturnType<typeof createLogger>, broken: Promise<unknown>): RunningHub {
  return {
    get port() {
      return hub.port;
    },
    get opsPort() {
      return hub.opsPort;
    },
    get metricsPort() {
      return hub.metricsPort;
    },
    get failed() {
      return hub.failed;
    },
    broken,
    // SIGHUP may be sent faster than files are read: reloads that pile up would leave no time for anything else.
    reload: coalesced(async () => {
      log.reopen();
      await hub.reload();
    }),
    stop: async () => {
      const clean = await hub.stop();
      log.info({ clean }, "hub stopped");
      await log.close();
      return clean;
    },
  };
}
