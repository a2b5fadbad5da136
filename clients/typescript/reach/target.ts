import { closeSync, constants, existsSync, fstatSync, openSync, readFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { env as environment, cwd as workingFolder } from "node:process";
import { own } from "#kernel/own.ts";
import { ADDRESS, contextProblem, contextsOf, type HubContext } from "./contexts.ts";
import { misconfigured } from "./misconfigured.ts";

/** SERVICE_NAMES are the services of a hub that have an address of their own when each is a process. `make generate` writes the list. */
export const SERVICE_NAMES = ["discovery", "registry-sync", "command-forwarding", "telemetry", "coordination"] as const;

/** ServiceName is one of them. */
export type ServiceName = (typeof SERVICE_NAMES)[number];

/** Addresses say where a hub is: at one address, or each service at its own. */
export interface Addresses {
  /** `host:port` of everything; of discovery where services have their own. */
  readonly address: string | undefined;
  /** By service: a hub may have more of them than are known here. */
  readonly services: Readonly<Partial<Record<string, string>>>;
}

/** TargetOptions say which hub is meant, and with what to prove who calls. */
export interface TargetOptions {
  /**
   * `host:port` of the hub, an IPv6 host in brackets; where each service is a process of its own, the address of each. Default:
   * `FOEDUS_ADDRESS`, several as `service=host:port` with commas between them.
   */
  readonly address?: string | Readonly<Partial<Record<ServiceName, string>>>;
  /** The hub's CA: a file, or PEM text. Default: `FOEDUS_CA`. */
  readonly ca?: string;
  /** The certificate of this program, leaf first: a file, or PEM text. Default: `FOEDUS_CERT`. */
  readonly cert?: string;
  /** Its private key, unencrypted: a file, or PEM text. Default: `FOEDUS_KEY`. */
  readonly key?: string;
  /** Name of a context that `foedus contexts add` made, in place of all the above. Default: `FOEDUS_HUB`, then the current one. */
  readonly context?: string;
  /** The file with the contexts. Default: `FOEDUS_CONTEXTS`, then `.foedus/contexts.json` here, in a folder above, or of the user. */
  readonly contexts?: string;
}

/** Target is a hub that can be called. Files are absolute. */
export interface Target extends Addresses {
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
  /** Id of the hub, if a context says it. */
  readonly hubId: string | undefined;
}

/** Surroundings are what a program was started with. */
export interface Surroundings {
  readonly cwd: string;
  readonly env: Readonly<Record<string, string | undefined>>;
}

const CONTEXTS = join(".foedus", "contexts.json");

/** addressesOf reads `host:port`, or `service=host:port` for each of the `known` services. Throws FoedusError (NOT_CONFIGURED). */
export function addressesOf(texts: readonly string[], known: readonly string[] = SERVICE_NAMES): Addresses {
  let address: string | undefined;
  const services: Partial<Record<string, string>> = {};
  for (const text of texts) {
    const [, service, where = ""] = /^(?:([a-z-]+)=)?(.*)$/.exec(text) ?? [];
    if (!ADDRESS.test(where))
      throw misconfigured(`"${text}" is not an address`, "Write host:port, or service=host:port for each service in split mode.");
    if (service === undefined) address = where;
    else if (known.includes(service)) services[service] = where;
    else throw misconfigured(`there is no service "${service}"`, `Services are ${known.join(", ")}.`);
  }
  return { address, services };
}

/** Endpoint is where a service answers. */
export interface Endpoint {
  readonly address: string;
  /** "hub" for the one process of single mode, else the service. */
  readonly service: string;
}

/** endpointOf finds a service. Without addresses per service the hub is one process and all are at one. Throws FoedusError (NOT_CONFIGURED). */
export function endpointOf({ address, services }: Addresses, service: string): Endpoint {
  const own = services[service];
  if (own !== undefined) return { address: own, service };
  if (Object.keys(services).length === 0 && address !== undefined) return { address, service: "hub" };
  // Where services have their own addresses, the hub's main one is discovery's.
  if (service === "discovery" && address !== undefined) return { address, service };
  throw misconfigured(
    `the address of ${service} is not known`,
    `Add it to the context's services, or give --address ${service}=host:port.`,
  );
}

/** userContextsFile is the contexts file of the user (XDG Base Directory Specification), whether it exists or not. */
export function userContextsFile(env: Surroundings["env"]): string | undefined {
  const { XDG_CONFIG_HOME: config = "", HOME: home = "" } = env;
  if (config !== "") return join(config, "foedus", "contexts.json");
  return home === "" ? undefined : join(home, ".config", "foedus", "contexts.json");
}

/** nearest is the file of that name in a folder, or else in the nearest one above that has it; undefined if none has. */
export function nearest(cwd: string, name: string): string | undefined {
  for (let folder = resolve(cwd); ; folder = dirname(folder)) {
    const file = join(folder, name);
    if (existsSync(file)) return file;
    if (folder === dirname(folder)) return undefined;
  }
}

/** findContextsFile looks for `.foedus/contexts.json` in a folder and upwards, then in the user's configuration folder. */
function findContextsFile({ cwd, env }: Surroundings): string | undefined {
  const near = nearest(cwd, CONTEXTS);
  if (near !== undefined) return near;
  const file = userContextsFile(env);
  return file !== undefined && existsSync(file) ? file : undefined;
}

/** contextsFileOf finds the contexts file: the one that is named, else `FOEDUS_CONTEXTS`, else the nearest. */
export function contextsFileOf(named: string | undefined, { cwd, env }: Surroundings): string | undefined {
  const given = named ?? (env["FOEDUS_CONTEXTS"] || undefined);
  return given === undefined ? findContextsFile({ cwd, env }) : resolve(cwd, given);
}

/** Given is what a program, or its environment, says of the hub that is meant. */
export interface Given {
  /** `host:port`, or `service=host:port` for each service. Undefined: a context is meant. */
  readonly address: readonly string[] | undefined;
  readonly ca: string | undefined;
  readonly cert: string | undefined;
  readonly key: string | undefined;
  readonly context: string | undefined;
}

/**
 * withEnvironment adds FOEDUS_ADDRESS (several: comma), FOEDUS_HUB, FOEDUS_CA, FOEDUS_CERT and FOEDUS_KEY to what is given. What is given
 * decides between an address and a context; only without both does the environment.
 */
export function withEnvironment(given: Partial<Given>, env: Surroundings["env"]): Given {
  const or = (value: string | undefined, name: string): string | undefined => value ?? (env[name] || undefined);
  return {
    address: given.address ?? (given.context === undefined ? or(undefined, "FOEDUS_ADDRESS")?.split(",") : undefined),
    ca: or(given.ca, "FOEDUS_CA"),
    cert: or(given.cert, "FOEDUS_CERT"),
    key: or(given.key, "FOEDUS_KEY"),
    context: or(given.context, "FOEDUS_HUB"),
  };
}

/** resolveTarget decides which hub is meant: by an address, else by a context. Throws FoedusError (NOT_CONFIGURED). */
export function resolveTarget(options: TargetOptions, { cwd, env }: Surroundings = { cwd: workingFolder(), env: environment }): Target {
  const texts = typeof options.address === "string" ? options.address.split(",") : options.address && servicesText(options.address);
  const { address, ca, cert, key, context } = withEnvironment({ ...options, address: texts }, env);
  if (address === undefined) return fromContext(context, contextsFileOf(options.contexts, { cwd, env }));
  if (ca === undefined || cert === undefined || key === undefined)
    throw misconfigured(
      "an address needs ca, cert and key",
      "Give the hub's CA and a certificate with its key, as `foedus pki issue` made them, or a context.",
    );
  const at = (text: string): string => (isPem(text) ? text : resolve(cwd, text));
  return { ...addressesOf(address), ca: at(ca), cert: at(cert), key: at(key), hubId: undefined };
}

const servicesText = (services: Readonly<Partial<Record<string, string>>>): string[] =>
  Object.entries(services).map(([service, where]) => `${service}=${where}`);

/** isPem tells PEM text from the name of a file. */
export function isPem(text: string): boolean {
  return text.includes("-----BEGIN ");
}

function fromContext(named: string | undefined, file: string | undefined): Target {
  if (file === undefined)
    throw misconfigured(
      "nothing says where the hub is: no address, and no .foedus/contexts.json here or in a folder above",
      "Give address, ca, cert and key, or make a context with `foedus contexts add`.",
    );
  const { current, contexts } = contextsOf(readJson(file));
  const name = named ?? current;
  const context = own(contexts, name);
  if (context === undefined) throw misconfigured(`${file} has no context "${name}"`, "`foedus contexts list` lists those that are there.");
  const problem = contextProblem(context);
  if (problem !== undefined)
    throw misconfigured(`the context "${name}" of ${file} cannot be used: ${problem}`, "Correct it with `foedus contexts add`.");
  const { hub_id: hubId, address, services = {}, ca, cert, key } = context as HubContext;
  const at = (path: string): string => resolve(dirname(file), path);
  return { address, services, ca: at(ca), cert: at(cert), key: at(key), hubId };
}

function readJson(file: string): unknown {
  try {
    return JSON.parse(readText(file));
  } catch (error) {
    throw misconfigured(
      `${file} cannot be read: ${error instanceof Error ? error.message : String(error)}`,
      "Correct it, or name another one.",
      error,
    );
  }
}

/** Largest file that is read: contexts, or a bundle of some thousand certificates. */
const READ_MAX_BYTES = 8 * 1024 * 1024;

/** readText reads a file, without the byte order mark that some editors put before it. A pipe would hold the program until somebody writes. */
export function readText(file: string): string {
  // Without O_NONBLOCK the open itself waits for a pipe's other end.
  const handle = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const stats = fstatSync(handle);
    if (!stats.isFile()) throw new Error("it is not a file");
    if (stats.size > READ_MAX_BYTES) throw new Error(`it has more than ${READ_MAX_BYTES} bytes`);
    return readFileSync(handle, "utf8").replace(/^\uFEFF/, "");
  } finally {
    closeSync(handle);
  }
}
