import { once } from "node:events";
import { systemEntropy } from "#channel/entropy.ts";
import { FoedusError } from "#kernel/error.ts";
import { type Caller, Gate, Keys, type ServerParts, serveHttp, serveOverStdio } from "../../adapters/mcp/index.ts";
import { isLoopback, type ListenOptions } from "../../adapters/shared/http/index.ts";
import { callerOf, caOf, Hub, remedyOf, type TargetOptions } from "../../clients/typescript/index.ts";
import { readSecret, tokenOf } from "../adapter/secrets.ts";
import { EXIT, type ExitCode, usage } from "../exit.ts";
import type { Io } from "../io.ts";
import { parseDuration } from "../parse.ts";
import { clean } from "../print/format.ts";
import { type OperatorFlags, printJson } from "../verb.ts";
import { VERSION } from "../version.ts";

/** McpFlags are the options of `mcp`. */
export interface McpFlags extends OperatorFlags {
  readonly http?: string | true;
  readonly tokenFile?: string;
  readonly tlsCert?: string;
  readonly tlsKey?: string;
  readonly mutualTls?: boolean;
  readonly allowOrigin?: readonly string[];
  readonly allowHost?: readonly string[];
}

const DEFAULT_HOST = "127.0.0.1";
const DEFAULT_PORT = 18_828;

/** run serves a hub's tools to agents: over stdio to the program that started it, or over HTTP. */
export async function run(io: Io, _args: readonly string[], options: McpFlags): Promise<ExitCode | undefined> {
  const http = options.http === undefined ? undefined : await httpOptions(io, options);
  if (http === undefined) refuseHttpFlags(options);
  const target: TargetOptions = targetOf(options);
  const caller = asUsage(() => callerOf(target));
  if (caller.kind !== "operator")
    throw usage(
      `the certificate is that of a ${caller.kind}, and tools are for operators`,
      "Use an operator's certificate, as `foedus pki issue operator <name>` makes it.",
    );
  const timeout = options.timeout === undefined ? {} : { timeoutMs: parseDuration(options.timeout) };
  const hub = await Hub.connect({ ...target, ...timeout, onError: (error) => told(io, error) });
  const parts: ServerParts = {
    hub,
    keys: new Keys(systemEntropy.id()),
    gate: new Gate(io.clock),
    clock: io.clock,
    version: VERSION,
    onError: (error) => told(io, error),
  };
  // Read again each time: a certificate that was renewed may have another role.
  const callerNow = (): Caller => {
    const { name, role = "metrics" } = callerOf(target);
    return { id: `operator/${name}`, role };
  };
  try {
    if (http === undefined) await serveOverStdio({ input: process.stdin, output: process.stdout }, callerNow, parts, io.stopped);
    else await serveUntilStopped(io, http, callerNow, parts, options);
  } finally {
    hub.close();
  }
  return EXIT.ok;
}

/** told writes what went wrong to stderr: stdout belongs to the protocol. */
function told(io: Io, error: unknown): void {
  io.error(`foedus mcp: ${clean(error instanceof Error ? error.message : String(error))}\n`);
}

async function serveUntilStopped(
  io: Io,
  http: ListenOptions,
  callerNow: () => Caller,
  parts: ServerParts,
  options: McpFlags,
): Promise<void> {
  const listener = await serveHttp(http, callerNow, parts);
  if (options.json) await printJson(io, { url: listener.url }, "line");
  else io.note(`serving ${parts.hub.hubId} at ${listener.url}; press Ctrl-C to end\n`);
  if (!io.stopped.aborted) await once(io.stopped, "abort");
  await listener.close();
}

function targetOf({ address, ca, cert, key, hub, contexts }: McpFlags): TargetOptions {
  if (address !== undefined && hub !== undefined) throw usage("--hub and --address cannot be used together", "Give only one of them.");
  return {
    ...(address === undefined ? {} : { address: address.join(",") }),
    ...(ca === undefined ? {} : { ca }),
    ...(cert === undefined ? {} : { cert }),
    ...(key === undefined ? {} : { key }),
    ...(hub === undefined ? {} : { context: hub }),
    ...(contexts === undefined ? {} : { contexts }),
  };
}

/** asUsage makes a mistake of the command line of what the SDK refuses. */
function asUsage<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw error instanceof FoedusError ? usage(error.message, remedyOf(error), error) : error;
  }
}

function refuseHttpFlags({ tokenFile, tlsCert, tlsKey, mutualTls, allowOrigin, allowHost }: McpFlags): void {
  if ([tokenFile, tlsCert, tlsKey, mutualTls, allowOrigin, allowHost].some((flag) => flag !== undefined))
    throw usage(
      "these options are for serving over HTTP",
      "Add --http, or leave them out: over stdio only the program that started this one calls.",
    );
}

/** httpOptions reads how HTTP is served. It is never open to whoever finds it. Throws CliError (usage). */
async function httpOptions(io: Io, flags: McpFlags): Promise<ListenOptions> {
  const { tokenFile, tlsCert, tlsKey, mutualTls = false, allowOrigin = [], allowHost = [] } = flags;
  const { host, port } = parseListen(flags.http === true ? "" : (flags.http ?? ""));
  if (tokenFile === undefined && !mutualTls)
    throw usage("nobody could be told apart at this address", "Give --token-file <file> (it is made if it is not there), or --mutual-tls.");
  if ((tlsCert === undefined) !== (tlsKey === undefined)) throw usage("--tls-cert and --tls-key belong together", "Give both.");
  if (mutualTls && tlsCert === undefined) throw usage("--mutual-tls needs a certificate of this server", "Give --tls-cert and --tls-key.");
  if (tlsCert === undefined && !isLoopback(host))
    throw usage(`a token would cross the network in the clear to ${host}`, "Give --tls-cert and --tls-key, or listen on 127.0.0.1.");
  const odd = allowOrigin.find((origin) => !/^https?:\/\/[A-Za-z0-9.:[\]-]+$/.test(origin));
  if (odd !== undefined) throw usage(`"${odd}" is not an origin`, "Write a scheme and a host, such as https://console.example.org.");
  const token = tokenFile === undefined ? undefined : await tokenOf(io, tokenFile);
  const tls = tlsCert === undefined || tlsKey === undefined ? undefined : await tlsOf(tlsCert, tlsKey, mutualTls ? flags : undefined);
  const hosts = [host, ...(isLoopback(host) ? ["localhost", "127.0.0.1", "::1"] : []), ...allowHost].map((name) => name.toLowerCase());
  return { host, port, guard: { hosts, origins: allowOrigin, loopbackOrigins: isLoopback(host), token }, tls };
}

function parseListen(text: string): { readonly host: string; readonly port: number } {
  if (text === "") return { host: DEFAULT_HOST, port: DEFAULT_PORT };
  const [, bracketed, plain, port = ""] = /^(?:\[([0-9a-fA-F:.]+)\]|([A-Za-z0-9.-]+)):(\d{1,5})$/.exec(text) ?? [];
  const host = bracketed ?? plain;
  if (host === undefined || Number(port) > 65_535)
    throw usage(`"${text}" is not an address to listen at`, "Write host:port, such as 127.0.0.1:18828.");
  return { host, port: Number(port) };
}

async function tlsOf(certFile: string, keyFile: string, mutual: McpFlags | undefined): Promise<NonNullable<ListenOptions["tls"]>> {
  const [cert, key] = await Promise.all([readSecret(certFile, "the certificate"), readSecret(keyFile, "the key")]);
  return { cert, key, clientCa: mutual === undefined ? undefined : asUsage(() => caOf(targetOf(mutual))) };
}
