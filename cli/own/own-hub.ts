import { existsSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { own } from "#kernel/own.ts";
import { contextsFileOf } from "../../clients/typescript/reach/target.ts";
import { type LoadedHubConfig, resolveFrom } from "../../services/hub/index.ts";
import { CliError, EXIT, type ExitCode, usage } from "../exit.ts";
import type { Io } from "../io.ts";
import { clean } from "../print/format.ts";
import { addressText, dialable } from "../reach/address.ts";
import { type Connection, connect } from "../reach/connect.ts";
import type { NamedContext } from "../reach/context-drift.ts";
import { noContexts, readContexts, unknownContext } from "../reach/contexts-file.ts";
import type { ConnectionFlags, OutputFlags } from "../verb.ts";
import { type ConfigFlags, mustBeFile, readConfig } from "./config-file.ts";

/** CONFIG_FILE is the name of a hub's configuration file, unless --config says otherwise. */
export const CONFIG_FILE = "hub.json";

/** OwnHubFlags are the options of verbs that work on a hub's own files, and on the hub itself if it runs. */
export interface OwnHubFlags extends OutputFlags, Pick<ConnectionFlags, "hub" | "contexts" | "timeout"> {
  readonly config?: string;
}

/** OwnHub is a hub whose configuration is at hand. */
export interface OwnHub extends LoadedHubConfig {
  /** The configuration file, absolute. */
  readonly file: string;
}

/** withConfig adds the configuration file that the context --hub names, if neither a flag nor FOEDUS_CONFIG does. Throws CliError (usage). */
export async function withConfig<F extends OwnHubFlags>(io: Io, flags: F): Promise<F> {
  if (flags.hub === undefined || flags.config !== undefined || (io.env["FOEDUS_CONFIG"] || undefined) !== undefined) return flags;
  const file = contextsFileOf(flags.contexts, io);
  const here = existsSync(resolve(io.cwd, CONFIG_FILE));
  // Where no context can say more, the file here is the hub's; connectOwn refuses to ask another than the one that was named.
  if (file === undefined && here) return flags;
  if (file === undefined) throw noContexts();
  const known = await readContexts(file);
  const context = own(known.contexts, flags.hub);
  if (context === undefined) throw unknownContext(known, flags.hub);
  if (context.config !== undefined) return { ...flags, config: resolve(dirname(file), context.config), contexts: file };
  if (here) return flags;
  throw usage(
    `the context ${clean(flags.hub)} of ${file} does not say where the hub's configuration is`,
    "Give its hub.json with --config, or run this in the hub's folder on the hub's machine.",
  );
}

/** configFileOf finds the configuration file: --config, FOEDUS_CONFIG, else hub.json here. Throws CliError (notFound). */
export function configFileOf(io: Pick<Io, "cwd" | "env">, flags: { readonly config?: string }): string {
  const named = flags.config ?? (io.env["FOEDUS_CONFIG"] || CONFIG_FILE);
  mustBeFile(named);
  return existing(resolve(io.cwd, named), EXIT.notFound);
}

function existing(file: string, exitCode: ExitCode): string {
  if (existsSync(file)) return file;
  const remedy = "Go to the hub's folder, give --config or the --hub of a context, or make a hub with `foedus hub init <hub-id>`.";
  throw new CliError(exitCode, `there is no configuration file ${file}`, remedy);
}

/**
 * processConfigOf finds the configuration file of a process that is to be started, where configFileOf does. Without one it is undefined if
 * the environment or --set name the hub, as in a container. Throws CliError (usage: what supervises the process must not restart it).
 */
export function processConfigOf(io: Pick<Io, "cwd" | "env">, flags: ConfigFlags): string | undefined {
  const named = flags.config ?? (io.env["FOEDUS_CONFIG"] || undefined);
  if (named !== undefined) mustBeFile(named);
  const file = resolve(io.cwd, named ?? CONFIG_FILE);
  const without = io.env["FOEDUS_HUB_ID"] !== undefined || flags.set?.some((pair) => pair.startsWith("hub_id=")) === true;
  return named === undefined && without && !existsSync(file) ? undefined : existing(file, EXIT.usage);
}

/** readOwnHub reads the configuration of the hub in this folder, or of --config. Throws CliError (notFound) and ConfigError. */
export function readOwnHub(io: Pick<Io, "cwd" | "env">, flags: { readonly config?: string }): OwnHub {
  const file = configFileOf(io, flags);
  return { ...readConfig(io, { config: file }), file };
}

/**
 * connectOwn prepares a connection to the hub of a configuration: with --hub, else with the context that names this
 * hub in the nearest contexts file, else at the address where it listens with the admin's certificate beside its CA.
 * Undefined if there is no operator's certificate. Throws CliError (usage), also when the flags name another hub.
 */
export async function connectOwn(io: Io, hub: OwnHub, { hub: name, contexts, timeout }: OwnHubFlags): Promise<Connection | undefined> {
  const { hub_id: hubId } = hub.config;
  const wait = timeout === undefined ? {} : { timeout };
  // A hub that is called by its id, where there are no contexts, is found as without --hub.
  if (name !== undefined && (name !== hubId || contextsFileOf(contexts, io) !== undefined)) {
    const connection = await connect({ ...wait, hub: name, ...(contexts === undefined ? {} : { contexts }) }, io);
    if (connection.target.hubId === hubId) return connection;
    throw usage(`${hub.file} is the configuration of ${hubId}, not of ${connection.target.hubId}`, "Correct --hub or --config.");
  }
  const named = await ownContext(io, hub, { contexts });
  if (named !== undefined) return connect({ ...wait, hub: named.name, contexts: named.file }, io);
  const { listen, tls } = hub.config;
  const ca = resolveFrom(hub.folder, tls.ca);
  const [cert, key] = [join(dirname(ca), "operator-admin.pem"), join(dirname(ca), "operator-admin.key")];
  if (listen.port === 0 || !existsSync(ca) || !existsSync(cert) || !existsSync(key)) return undefined;
  return connect({ ...wait, address: [addressText(dialable(listen.host), listen.port)], ca, cert, key }, io);
}

/** ownContext finds the context with which connectOwn asks a hub: --hub, else the one that names this hub; undefined if there is none. */
export async function ownContext(
  io: Io,
  { config, folder }: OwnHub,
  { hub: name, contexts: given }: Pick<OwnHubFlags, "hub"> & { readonly contexts?: string | undefined },
): Promise<NamedContext | undefined> {
  const file = contextsFileOf(given, { env: io.env, cwd: name === undefined ? folder : io.cwd });
  if (file === undefined) return undefined;
  const { contexts } = await readContexts(file);
  const found = Object.entries(contexts).find(
    ([key, { hub_id: hubId }]) => hubId === config.hub_id && (name === undefined || name === key),
  );
  return found === undefined ? undefined : { name: found[0], file, context: found[1] };
}
