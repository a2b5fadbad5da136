import { type Stats, statSync } from "node:fs";
import { dirname } from "node:path";
import type { Clock, Timer } from "#runtime/clock.ts";
import type { Logger } from "#runtime/log/log.ts";
import { type Federation, type FederationOptions, loadFederation, parseFederation, parseSeeds } from "../discovery/index.ts";
import type { HubConfig } from "./config.ts";
import { resolveFrom } from "./identity.ts";

const LOOK_MS = 2_000;

/** readFederation reads the federation file of a configuration; undefined when federation is off (S0-23). Throws ConfigError. */
export function readFederation(config: HubConfig, folder: string): Federation | undefined {
  if (config.federation_config_path === "") return undefined;
  return loadFederation(resolveFrom(folder, config.federation_config_path), optionsOf(config, folder)).federation;
}

/**
 * checkFederation judges the text of a federation file as the hub would if it stood in the file: before it is written. Without the
 * seeds of the configuration, so that the addresses of a peer are its own. Throws ConfigError.
 */
export function checkFederation(config: HubConfig, folder: string, text: string): Federation {
  const path = resolveFrom(folder, config.federation_config_path);
  return parseFederation(text, { ...optionsOf(config, folder), seeds: [], folder: dirname(path), source: `file ${path}` });
}

function optionsOf(config: HubConfig, folder: string): FederationOptions {
  const bundles = Object.fromEntries(Object.entries(config.discovery.trust.bundles).map(([hub, path]) => [hub, resolveFrom(folder, path)]));
  return { hubId: config.hub_id, bundles, seeds: parseSeeds(config.seeds), syncIntervalMs: config.registry_sync.sync_interval_ms };
}

/**
 * syncIntervalMs is how often registry-sync tells its heads at least: the federation file's `sync_interval` (S0-3), else the
 * configuration's. In split mode the file may be at discovery only; then the configuration's counts.
 */
export function syncIntervalMs(config: HubConfig, folder: string, log: Logger): number {
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

/**
 * FederationFile follows the federation file while the hub runs (D-11): a changed file takes effect within two seconds, a bad
 * one is reported and the last good one stays.
 */
export class FederationFile {
  readonly #path: string;
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #read: () => Federation | undefined;
  readonly #apply: (federation: Federation) => void;
  #seen: string;
  #timer: Timer | undefined;

  constructor(options: {
    readonly path: string;
    readonly clock: Clock;
    readonly log: Logger;
    readonly read: () => Federation | undefined;
    readonly apply: (federation: Federation) => void;
  }) {
    this.#path = options.path;
    this.#clock = options.clock;
    this.#log = options.log;
    this.#read = options.read;
    this.#apply = options.apply;
    this.#seen = this.#stamp();
  }

  start(): void {
    this.#timer = this.#clock.setTimer(LOOK_MS, () => {
      this.look();
      this.start();
    });
  }

  stop(): void {
    this.#timer?.cancel();
  }

  /** look reads the file if it changed. */
  look(): void {
    const stamp = this.#stamp();
    if (stamp === this.#seen) return;
    this.#seen = stamp;
    try {
      const federation = this.#read();
      if (federation === undefined) return;
      this.#apply(federation);
      this.#log.info({ peers: federation.peers.length }, "federation file was read again");
    } catch (error) {
      this.#log.error({ file: this.#path, error }, "federation file is not valid; the last good one stays");
    }
  }

  #stamp(): string {
    let stats: Stats;
    try {
      stats = statSync(this.#path);
    } catch {
      return "missing";
    }
    return `${stats.mtimeMs} ${stats.size} ${stats.ino}`;
  }
}
