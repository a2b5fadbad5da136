import { resolve } from "node:path";
import { configDiff, type HubConfig, type LoadedHubConfig, loadHubConfig, renderConfig } from "../../services/hub/index.ts";
import { usage } from "../exit.ts";
import type { Io } from "../io.ts";

/** ConfigFlags say where a hub's configuration comes from. */
export interface ConfigFlags {
  readonly config?: string;
  /** `path=value` pairs that win over file and environment. */
  readonly set?: readonly string[];
}

/** Names of what is read once and has no folder: stdin, and the pipes that shells make. */
const STREAM = /^(-|\/dev\/(stdin|fd\/\d+)|\/proc\/(self|\d+)\/fd\/\d+)$/;

/** mustBeFile refuses to read a configuration from a stream. Throws CliError (usage). */
export function mustBeFile(file: string): void {
  if (STREAM.test(file))
    throw usage(
      `the configuration cannot be read from ${file}: its paths are relative to its folder, and a running hub reads it again`,
      "Write it to a file and give that, or give single fields with --set and FOEDUS_ variables.",
    );
}

/** readConfig loads and checks a hub's configuration: defaults, the file, FOEDUS_… variables, --set. Throws ConfigError that lists every problem. */
export function readConfig(io: Pick<Io, "cwd" | "env">, flags: ConfigFlags): LoadedHubConfig {
  const file = flags.config ?? (io.env["FOEDUS_CONFIG"] || undefined);
  if (file !== undefined) mustBeFile(file);
  const pairs = (flags.set ?? []).map((text): [string, string] => {
    const at = text.indexOf("=");
    if (at < 1) throw usage(`"${text}" sets nothing`, "Write path=value, for example listen.port=0.");
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
