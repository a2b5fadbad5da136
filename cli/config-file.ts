import { resolve } from "node:path";
import { configDiff, type HubConfig, type LoadedHubConfig, loadHubConfig, renderConfig } from "../services/hub/index.ts";
import { usage } from "./exit.ts";
import type { Io } from "./io.ts";

/** ConfigFlags say where a hub's configuration comes from. */
export interface ConfigFlags {
  readonly config?: string;
  /** `path=value` pairs that win over file and environment. */
  readonly set?: readonly string[];
}

/** readConfig loads and checks a hub's configuration: defaults, the file, FOEDUS_… variables, --set. Throws ConfigError that lists every problem. */
export function readConfig(io: Pick<Io, "cwd" | "env">, flags: ConfigFlags): LoadedHubConfig {
  const file = flags.config ?? (io.env["FOEDUS_CONFIG"] || undefined);
  const pairs = (flags.set ?? []).map((text): [string, string] => {
    const at = text.indexOf("=");
    if (at < 1) throw usage(`"${text}" sets nothing`, "Write path=value, e.g. listen.port=0.");
    return [text.slice(0, at), text.slice(at + 1)];
  });
  return loadHubConfig({ env: io.env, flags: Object.fromEntries(pairs), ...(file === undefined ? {} : { file: resolve(io.cwd, file) }) });
}

/** rendered is the configuration of a file for people, secrets redacted. */
export function rendered(io: Pick<Io, "cwd" | "env">, file: string): unknown {
  return renderConfig(readConfig(io, { config: file }).config);
}

/** changesBetween compares two rendered configurations: a running hub only gives its own with secrets redacted. */
export function changesBetween(from: unknown, to: unknown): ReturnType<typeof configDiff> {
  return configDiff(from as HubConfig, to as HubConfig);
}
