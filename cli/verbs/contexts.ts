import { dirname, join, relative, resolve } from "node:path";
import { own } from "#kernel/own.ts";
import { contextsFileOf, userContextsFile } from "../../clients/typescript/reach/target.ts";
import { CliError, EXIT, type ExitCode, usage } from "../exit.ts";
import type { Io } from "../io.ts";
import { parseHub } from "../parse.ts";
import { type Cell, table } from "../print/table.ts";
import {
  type ContextsFile,
  type HubContext,
  noContexts,
  readContexts,
  unknownContext,
  writeContexts,
  writeCurrent,
} from "../reach/contexts-file.ts";
import type { OutputFlags } from "../verb.ts";

/** ContextFlags are the options of `contexts`. */
export interface ContextFlags extends OutputFlags {
  readonly contexts?: string;
}

/** AddFlags are the options of `contexts add`. */
export interface AddFlags extends ContextFlags {
  readonly hubId?: string;
  readonly address?: readonly string[];
  readonly ca?: string;
  readonly cert?: string;
  readonly key?: string;
}

async function load(io: Io, options: ContextFlags): Promise<ContextsFile> {
  const file = contextsFileOf(options.contexts, io);
  if (file === undefined) throw noContexts(EXIT.notFound);
  return readContexts(file);
}

/** list prints the contexts; the current one has a star. */
export async function list(io: Io, _args: readonly string[], options: ContextFlags): Promise<ExitCode | undefined> {
  const { file, current, contexts } = await load(io, options);
  const entries = Object.entries(contexts);
  if (options.json) await io.out(`${JSON.stringify({ file, current, contexts }, undefined, 2)}\n`);
  else if (options.quiet) await io.out(entries.map(([name]) => `${name}\n`).join(""));
  else {
    const rows = entries.map(([name, context]): Cell[] => [
      name === current ? { text: "*", style: "green" } : "",
      name,
      context.hub_id,
      context.address ??
        Object.entries(context.services ?? {})
          .map(([service, address]) => `${service}=${address}`)
          .join(" "),
    ]);
    await io.out(table(io, [{ title: "" }, { title: "CONTEXT" }, { title: "HUB" }, { title: "ADDRESS", flexible: true }], rows));
    io.note(`from ${file}\n`);
  }
  return EXIT.ok;
}

/** use makes a context the current one. */
export async function use(io: Io, [name = ""]: readonly string[], options: ContextFlags): Promise<ExitCode | undefined> {
  const contexts = await load(io, options);
  if (!Object.hasOwn(contexts.contexts, name)) throw unknownContext(contexts, name, false);
  await writeCurrent(contexts, name);
  io.note(`the current context is ${name}\n`);
  return EXIT.ok;
}

/**
 * add adds a context, or changes one: what is not given stays as it is, and addresses are given all together. The first context becomes
 * the current one. Files are kept as paths relative to the contexts file.
 */
export async function add(io: Io, [name = ""]: readonly string[], options: AddFlags): Promise<ExitCode | undefined> {
  const file = contextsFileOf(options.contexts, io) ?? userContextsFile(io.env) ?? join(io.cwd, ".foedus", "contexts.json");
  const known = await readContexts(file).catch((error: unknown) => {
    if (error instanceof CliError && error.cause instanceof Error && "code" in error.cause && error.cause.code === "ENOENT")
      return { file, current: "", contexts: {} };
    throw error;
  });
  const before = own<HubContext>(known.contexts, name);
  const path = (given: string | undefined, present: string | undefined): string | undefined =>
    given === undefined ? present : relative(dirname(file), resolve(io.cwd, given));
  const [ca, cert, key] = [path(options.ca, before?.ca), path(options.cert, before?.cert), path(options.key, before?.key)];
  const { address, services = {} } = options.address === undefined ? (before ?? {}) : splitAddresses(options.address);
  const addressed = address !== undefined || Object.keys(services).length > 0;
  if (ca === undefined || cert === undefined || key === undefined || !addressed)
    throw usage(
      "a new context needs --address, --ca, --cert and --key",
      "Give the hub's address and CA, and an operator's certificate and key.",
    );
  const context: HubContext = {
    hub_id: parseHub(options.hubId ?? before?.hub_id ?? name),
    ...(address === undefined ? {} : { address }),
    ca,
    cert,
    key,
    // No option gives it; `hub init` writes it.
    ...(before?.config === undefined ? {} : { config: before.config }),
    ...(Object.keys(services).length === 0 ? {} : { services }),
  };
  await writeContexts({ file, current: known.current === "" ? name : known.current, contexts: { ...known.contexts, [name]: context } });
  io.note(`${name} is in ${file}\n`);
  return EXIT.ok;
}

function splitAddresses(texts: readonly string[]): { readonly address: string | undefined; readonly services: Record<string, string> } {
  const pairs = texts.map((text) => text.split("=", 2));
  return {
    address: pairs.find((pair) => pair.length === 1)?.[0],
    services: Object.fromEntries(pairs.filter((pair): pair is [string, string] => pair.length === 2)),
  };
}
