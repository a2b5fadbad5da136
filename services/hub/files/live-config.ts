import type { Clock } from "#channel/clock.ts";
import { type ConfigChange, diffConfig, withLive } from "#runtime/config/describe.ts";
import { FollowedFiles, type Noted } from "#runtime/config/follow.ts";
import { ConfigError } from "#runtime/config/load.ts";
import type { EventSink } from "#runtime/events.ts";
import type { Logger } from "#runtime/log/log.ts";
import type { Rates } from "#runtime/rpc/interceptors/rate.ts";
import { type HubConfig, hubConfig } from "../config.ts";
import { oneLine } from "./federation-file.ts";

/** How long a change of the file stays unseen at most, ms; SIGHUP looks at once. */
const LOOK_MS = 2_000;

/** LiveConfigOptions say what the configuration is and how it is read again. */
export interface LiveConfigOptions {
  readonly config: HubConfig;
  /** again reads it from where it came from. Throws ConfigError. Without it nothing changes. */
  readonly again: ((noted: Noted) => HubConfig) | undefined;
  readonly clock: Clock;
  readonly log: Logger;
  readonly events: EventSink;
}

/**
 * LiveConfig is the configuration of a running process. What is marked `live` in the schema follows the file; what is not stays as it was
 * at the start, and it is said that a change of it waits for the next one. A file that is not valid changes nothing.
 */
export class LiveConfig {
  readonly #o: LiveConfigOptions;
  readonly #listeners: ((config: HubConfig, before: HubConfig) => void)[] = [];
  readonly #files: FollowedFiles<HubConfig> | undefined;
  #current: HubConfig;
  #rates: Rates;
  #problem = "";

  constructor(options: LiveConfigOptions) {
    const { config, again, clock } = options;
    this.#o = options;
    this.#current = config;
    this.#rates = ratesOf(config);
    // The first look reads the file again: it may have changed since the start began.
    this.#files =
      again === undefined
        ? undefined
        : new FollowedFiles({
            clock,
            intervalMs: LOOK_MS,
            read: again,
            apply: (next) => this.#apply(next),
            failed: (error) => this.#failed(error),
          });
  }

  /** current is what is in force. */
  get current(): HubConfig {
    return this.#current;
  }

  /** problem is what is wrong with the file as it was read last: what is in force is of before. Empty if nothing is. */
  get problem(): string {
    return this.#problem;
  }

  /** rates are those in force, as a server asks for them at each call. */
  get rates(): Rates {
    return this.#rates;
  }

  /** onChange is called after each change of what is live. */
  onChange(listener: (config: HubConfig, before: HubConfig) => void): void {
    this.#listeners.push(listener);
  }

  start(): void {
    this.#files?.start();
  }

  stop(): void {
    this.#files?.stop();
  }

  /** look reads the file if it has changed: who asks right after an edit is not told of before. */
  look(): void {
    this.#files?.look();
  }

  /** reread reads the file whether it changed or not. */
  reread(): void {
    this.#files?.reread();
  }

  #apply(next: HubConfig): void {
    this.#problem = "";
    const before = this.#current;
    const changes = diffConfig(hubConfig, before, next);
    const [live, later] = [pathsOf(changes, "live"), pathsOf(changes, "restart")];
    if (live.length > 0) {
      this.#current = withLive(hubConfig, before, next);
      this.#rates = ratesOf(this.#current);
      for (const listener of this.#listeners) this.#tell(listener, before);
      this.#say("INFO", `the configuration was read again; in force now: ${live.join(", ")}`, { fields: live.join(" ") });
      this.#o.log.info({ fields: live }, "configuration was read again");
    }
    if (later.length === 0) return;
    this.#say("WARNING", `a change of the configuration waits for the next start: ${later.join(", ")}`, { fields: later.join(" ") });
    this.#o.log.warn({ fields: later }, "changed configuration waits for the next start");
  }

  #tell(listener: (config: HubConfig, before: HubConfig) => void, before: HubConfig): void {
    try {
      listener(this.#current, before);
    } catch (error) {
      this.#o.log.error({ error }, "changed configuration could not be put in force everywhere");
    }
  }

  #failed(error: unknown): void {
    // What the operator has to correct is in the event, which is logged too; only a bug needs its stack.
    if (!(error instanceof ConfigError)) this.#o.log.error({ error }, "configuration could not be read; what was in force stays");
    this.#problem = oneLine(error).replace(/^configuration is not valid: /, "");
    this.#say("ERROR", `the changed configuration is not valid; what was in force stays: ${this.#problem}`);
  }

  #say(severity: "INFO" | "WARNING" | "ERROR", text: string, fields: Readonly<Record<string, string>> = {}): void {
    this.#o.events.report({ kind: "CONFIGURATION", severity, text, fields });
  }
}

function ratesOf({ rates }: HubConfig): Rates {
  const bucket = ({ per_second: perSecond, burst }: HubConfig["rates"]["cheap"]) => ({ perSecond, burst });
  return { cheap: bucket(rates.cheap), normal: bucket(rates.normal), expensive: bucket(rates.expensive) };
}

function pathsOf(changes: readonly ConfigChange[], applies: ConfigChange["applies"]): string[] {
  return changes.filter((change) => change.applies === applies).map(({ path }) => path);
}
