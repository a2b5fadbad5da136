import { dirname } from "node:path";
import type { Clock } from "#channel/clock.ts";
import { FollowedFiles, type Noted } from "#runtime/config/follow.ts";
import { ConfigError } from "#runtime/config/load.ts";
import { nearest } from "#runtime/config/shape.ts";
import type { EventSink } from "#runtime/events.ts";
import { readText } from "#runtime/files.ts";
import type { Logger } from "#runtime/log/log.ts";
import {
  type DiscoveryConfig,
  type Federation,
  type FederationOptions,
  loadFederation,
  parseFederation,
  parseSeeds,
} from "../../discovery/index.ts";
import { FULL_SHARE, type RegistrySyncConfig } from "../../registry-sync/index.ts";
import { resolveFrom } from "./identity.ts";

/** Short enough that what an operator withdraws has ended everywhere within two seconds (D-15). */
const LOOK_MS = 1_000;

/** FederationSettings are what of the configuration the federation file is read with. */
export interface FederationSettings {
  readonly hub_id: string;
  readonly federation_config_path: string;
  readonly seeds: readonly string[];
  readonly discovery: DiscoveryConfig;
  readonly registry_sync: RegistrySyncConfig;
}

/**
 * readFederation reads the federation file of a configuration; undefined when federation is off (S0-23). `noted` is told of each file
 * before it is read. Throws ConfigError.
 */
export function readFederation(config: FederationSettings, folder: string, noted: Noted = () => undefined): Federation | undefined {
  if (config.federation_config_path === "") return undefined;
  const read = (path: string, maxBytes?: number): string => {
    noted(path);
    return readText(path, maxBytes);
  };
  return loadFederation(resolveFrom(folder, config.federation_config_path), { ...optionsOf(config, folder), readText: read }).federation;
}

/**
 * checkFederation judges the text of a federation file as the hub would if it stood in the file: before it is written. Without the
 * seeds of the configuration, so that the addresses of a peer are its own. Throws ConfigError.
 */
export function checkFederation(config: FederationSettings, folder: string, text: string): Federation {
  const path = resolveFrom(folder, config.federation_config_path);
  return parseFederation(text, { ...optionsOf(config, folder), seeds: [], folder: dirname(path), source: `file ${path}` });
}

function optionsOf(config: FederationSettings, folder: string): FederationOptions {
  const bundles = Object.fromEntries(Object.entries(config.discovery.trust.bundles).map(([hub, path]) => [hub, resolveFrom(folder, path)]));
  return { hubId: config.hub_id, bundles, seeds: parseSeeds(config.seeds), syncIntervalMs: config.registry_sync.sync_interval_ms };
}

/**
 * syncIntervalMs is how often registry-sync tells its heads at least: the federation file's `sync_interval` (S0-3), else the
 * configuration's. In split mode the file may be at discovery only; then the configuration's counts.
 */
export function syncIntervalMs(config: FederationSettings, folder: string, log: Logger): number {
  try {
    return readFederation(config, folder)?.syncIntervalMs ?? config.registry_sync.sync_interval_ms;
  } catch (error) {
    log.warn(
      { error, syncIntervalMs: config.registry_sync.sync_interval_ms },
      "federation file cannot be read here; the configured interval is used",
    );
    return config.registry_sync.sync_interval_ms;
  }
}

/** UndefinedShare is a share that peers are given and that the configuration does not define: they see nothing, whatever was meant. */
export interface UndefinedShare {
  readonly share: string;
  /** Hubs that are given it. */
  readonly hubs: readonly string[];
  /** What is wrong, as a part of a sentence. */
  readonly message: string;
  /** What to do, one sentence. */
  readonly fix: string;
}

/** undefinedShares lists the shares of a federation file that the configuration does not define. */
export function undefinedShares({ registry_sync }: Pick<FederationSettings, "registry_sync">, { peers }: Federation): UndefinedShare[] {
  const known = [FULL_SHARE, ...Object.keys(registry_sync.shares)];
  const used = new Set(peers.map(({ share }) => share).filter((share) => share !== "" && !known.includes(share)));
  return [...used].sort().map((share): UndefinedShare => {
    const hubs = peers.filter((peer) => peer.share === share).map(({ hubId }) => hubId);
    const near = nearest(share, known);
    // What is proposed exists, and shows everything only where there is nothing else.
    const other = near ?? Object.keys(registry_sync.shares)[0] ?? FULL_SHARE;
    return {
      share,
      hubs,
      message: `the configuration defines no share "${share}", so ${hubs.join(", ")} ${hubs.length === 1 ? "sees" : "see"} nothing of this hub${near === undefined ? "" : `; did you mean ${near}?`}`,
      fix: `Define it under registry_sync.shares, or give another one: \`foedus peer add ${hubs[0]} --share ${other}\`.`,
    };
  });
}

/** FederationFileOptions say which file is followed, and by whom. */
export interface FederationFileOptions {
  readonly folder: string;
  /** config is the configuration as it is now: bundles and seeds in it may change too. */
  readonly config: () => FederationSettings;
  readonly clock: Clock;
  readonly log: Logger;
  readonly events: EventSink;
  /** apply takes the peers of a changed file. */
  readonly apply: (federation: Federation) => void;
}

/**
 * FederationFile follows the federation file and every CA file that it or `discovery.trust.bundles` names while the hub runs (D-11): a
 * change takes effect within two seconds, a bad one is reported and the last good one stays.
 */
export class FederationFile {
  readonly #o: FederationFileOptions;
  readonly #files: FollowedFiles<Federation | undefined>;
  #federation: Federation | undefined;
  /** What was told of shares last: the same is not told again. */
  #toldShares = "";

  constructor(options: FederationFileOptions) {
    this.#o = options;
    this.#files = new FollowedFiles({
      clock: options.clock,
      intervalMs: LOOK_MS,
      read: (noted) => readFederation(options.config(), options.folder, noted),
      apply: (federation) => this.#apply(federation),
      failed: (error) => this.#failed(error),
    });
  }

  /** first reads the file at the start; undefined when federation is off. Throws ConfigError. */
  first(): Federation | undefined {
    this.#federation = this.#files.first();
    this.checkShares();
    return this.#federation;
  }

  /** checkShares tells of shares that are not defined, after each change of the file or of the shares. They do not keep a hub from running. */
  checkShares(): void {
    const { config, log, events } = this.#o;
    const found = this.#federation === undefined ? [] : undefinedShares(config(), this.#federation);
    const told = found.map(({ message }) => message).join("\n");
    if (told === this.#toldShares) return;
    this.#toldShares = told;
    for (const { share, hubs, message, fix } of found) {
      log.warn({ share, peers: hubs, fix }, "share of a peer is not defined, so it sees nothing of this hub");
      events.report({
        kind: "CONFIGURATION",
        severity: "WARNING",
        text: `${message}${message.endsWith("?") ? "" : "."} ${fix}`,
        fields: { share },
      });
    }
  }

  start(): void {
    this.#files.start();
  }

  stop(): void {
    this.#files.stop();
  }

  /** reread reads the file, and every CA that it names, whether they changed or not. */
  reread(): void {
    this.#files.reread();
  }

  #apply(federation: Federation | undefined): void {
    if (federation === undefined) return;
    const { log, events, apply } = this.#o;
    apply(federation);
    this.#federation = federation;
    this.checkShares();
    log.info({ peers: federation.peers.length }, "federation file was read again");
    events.report({
      kind: "CONFIGURATION",
      severity: "INFO",
      text: `the federation file was read again: ${federation.peers.length} peers`,
    });
  }

  #failed(error: unknown): void {
    const { config, log, events } = this.#o;
    const file = config().federation_config_path;
    // What the operator has to correct is in the event, which is logged too; only a bug needs its stack.
    if (!(error instanceof ConfigError)) log.error({ file, error }, "federation file could not be read; the last good one stays");
    const text = `the federation file is not valid; the last good one stays: ${oneLine(error)}`;
    events.report({ kind: "CONFIGURATION", severity: "ERROR", text });
  }
}

/** oneLine is what went wrong as part of a sentence; a log has it in full. */
export function oneLine(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return text.replaceAll(/\s+/g, " ").slice(0, 400);
}
