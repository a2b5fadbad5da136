import { once } from "node:events";
import { dirname, resolve } from "node:path";
import { systemEntropy } from "#channel/entropy.ts";
import { A2A_CONFIG, type A2aConfig, configProblems, Imported, keysOf, Serving, signerOf } from "../../adapters/a2a/index.ts";
import { isLoopback, type ListenOptions } from "../../adapters/shared/http/index.ts";
import { callerOf, FoedusError, Hub, type TargetOptions } from "../../clients/typescript/index.ts";
import { EXIT, type ExitCode, usage } from "../exit.ts";
import type { Io } from "../io.ts";
import { clean } from "../print/format.ts";
import { type OutputFlags, printJson } from "../verb.ts";
import { privateIn, readSecret, tokenIn, tokenOf } from "./secrets.ts";

/** AdapterFlags are the options of an adapter. */
export interface AdapterFlags extends OutputFlags {
  readonly config?: string;
}

/** run joins a hub with agents of the Agent2Agent protocol until it is stopped. */
export async function run(io: Io, _args: readonly string[], options: AdapterFlags): Promise<ExitCode | undefined> {
  const file = resolve(io.cwd, options.config ?? "a2a.json");
  const config = configOf(await readSecret(file, "the configuration"), file);
  const at = (path: string): string => resolve(dirname(file), path);
  const target = targetOf(config, at);
  const caller = callerOf(target);
  if (caller.kind !== "gateway")
    throw usage(
      `the certificate is that of a ${caller.kind}, and adapters are gateways`,
      "Use a gateway's certificate, as `foedus pki issue gateway a2a` makes it.",
    );
  const onError = (error: unknown): void => io.error(`foedus adapter a2a: ${clean(textOf(error))}\n`);
  const hub = await Hub.connect({ ...target, onError });
  const parts = { hub, clock: io.clock, id: () => systemEntropy.id(), onError };
  const imported: Imported[] = [];
  let serving: Serving | undefined;
  try {
    if (config.serve !== undefined)
      serving = await Serving.open(await listenOf(io, config.serve, at), {
        ...parts,
        timeoutMs: config.serve.timeout_ms,
        signer: await signerFor(config.serve, at),
      });
    for (const agent of config.agents) {
      const keys = agent.keys === undefined ? undefined : keysOf(await readSecret(at(agent.keys), "the keys"));
      const token = agent.token_file === undefined ? undefined : await tokenIn(at(agent.token_file));
      const onChange = (node: string, problem: string | undefined): void => io.note(`${node}: ${clean(problem ?? "reachable")}\n`);
      const seed = systemEntropy.seed();
      imported.push(new Imported({ node: agent.node, url: agent.url, keys, token }, { ...parts, seed, onChange }));
    }
    const where = serving === undefined ? {} : { url: serving.origin };
    if (options.json) await printJson(io, { hub_id: hub.hubId, agents: config.agents.map(({ node }) => node), ...where }, "line");
    else io.note(`joined ${hub.hubId}${serving === undefined ? "" : `, serving at ${serving.origin}`}; press Ctrl-C to end\n`);
    if (!io.stopped.aborted) await once(io.stopped, "abort");
  } finally {
    for (const one of imported) one.close();
    await serving?.close();
    hub.close();
  }
  return EXIT.ok;
}

function textOf(error: unknown): string {
  if (error instanceof FoedusError) return error.message;
  return error instanceof Error ? error.message : String(error);
}

/** configOf reads a configuration. Throws CliError (usage) with all that is wrong with it. */
function configOf(text: string, file: string): A2aConfig {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw usage(`${file} is not JSON: ${textOf(error)}`, "Correct it and try again.", error);
  }
  const { success, data, error } = A2A_CONFIG.safeParse(json);
  const problems = success ? configProblems(data, isLoopback) : error.issues.map(({ path, message }) => `${path.join(".")}: ${message}`);
  if (!success || problems.length > 0)
    throw usage(`${file} cannot be used: ${problems.slice(0, 8).join("; ")}`, "Correct it and try again.");
  return data;
}

function targetOf({ hub: { context, contexts, address, ca, cert, key } }: A2aConfig, at: (path: string) => string): TargetOptions {
  return {
    ...(context === undefined ? {} : { context }),
    ...(contexts === undefined ? {} : { contexts: at(contexts) }),
    ...(address === undefined ? {} : { address }),
    ...(ca === undefined ? {} : { ca: at(ca) }),
    ...(cert === undefined ? {} : { cert: at(cert) }),
    ...(key === undefined ? {} : { key: at(key) }),
  };
}

async function signerFor(
  { sign_key: file }: NonNullable<A2aConfig["serve"]>,
  at: (path: string) => string,
): Promise<ReturnType<typeof signerOf> | undefined> {
  return file === undefined ? undefined : signerOf(await privateIn(at(file), "the key that signs cards,"));
}

async function listenOf(io: Io, serve: NonNullable<A2aConfig["serve"]>, at: (path: string) => string): Promise<ListenOptions> {
  const { host, port, token_file: tokenFile, tls_cert: certFile, tls_key: keyFile } = serve;
  const token = await tokenOf(io, at(tokenFile));
  const hosts = [host, ...(isLoopback(host) ? ["localhost", "127.0.0.1", "::1"] : [])];
  const guard = { hosts, origins: [], loopbackOrigins: isLoopback(host), token };
  if (certFile === undefined || keyFile === undefined) return { host, port, guard, tls: undefined };
  const [cert, key] = await Promise.all([readSecret(at(certFile), "the certificate"), readSecret(at(keyFile), "the key")]);
  return { host, port, guard, tls: { cert, key, clientCa: undefined } };
}
