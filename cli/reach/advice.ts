import { existsSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { FoedusError } from "#kernel/error.ts";
import { contextsFileOf } from "../../clients/typescript/reach/target.ts";
import { AdvisedError, EXIT, exitCodeOf, refusedInTls } from "../exit.ts";
import type { Io } from "../io.ts";
import { driftOf, type NamedContext } from "./context-drift.ts";
import { typedPath } from "./near-path.ts";

/**
 * advised says what to do about a hub of this machine that did not answer: its context may have the ports of before, or it has to be
 * started. Errors of other kinds, and those of hubs elsewhere, stay as they are.
 */
export async function advised(error: unknown, named: NamedContext | undefined, io: Pick<Io, "cwd" | "env">): Promise<unknown> {
  if (!(error instanceof FoedusError) || named === undefined) return error;
  const away = exitCodeOf(error) === EXIT.connect && error.failure.reason === "PEER_UNREACHABLE";
  if (!away && !refusedInTls(error)) return error;
  const file = named.context.config === undefined ? undefined : resolve(dirname(named.file), named.context.config);
  const here = file !== undefined && existsSync(file);
  const drift = here ? await driftFrom(named, file, io) : undefined;
  if (drift !== undefined) return new AdvisedError(error, drift);
  if (error.failure.reason === "FOREIGN_CA") return new AdvisedError(error, another(named, io));
  if (!away || !here) return error;
  return new AdvisedError(error, `If it does not run, start it: \`foedus hub --config ${typedPath(io.cwd, file)}\`.`);
}

/** another says whose certificate was expected: on a machine with several hubs, another one listens where this one was. */
function another({ name, file, context }: NamedContext, io: Pick<Io, "cwd">): string {
  const of = `The context ${name} in ${typedPath(io.cwd, file)} is for the hub ${context.hub_id}.`;
  return `${of} Perhaps another hub listens there: choose its context with --hub or --contexts, or correct this one (\`foedus contexts list\`).`;
}

/** driftFrom reads the configuration, which loads the hub's code: only what went wrong is worth that. One that is not valid says nothing. */
async function driftFrom(named: NamedContext, file: string, io: Pick<Io, "cwd" | "env">): Promise<string | undefined> {
  const { readConfig } = await import("../own/config-file.ts");
  try {
    const drift = driftOf(named, readConfig(io, { config: file }).config, contextsOption(named, io));
    return drift === undefined ? undefined : `Perhaps ${drift.message}: \`${drift.command}\`.`;
  } catch {
    return undefined;
  }
}

/** contextsOption is what a command needs so that it changes this very contexts file. */
export function contextsOption({ file }: NamedContext, io: Pick<Io, "cwd" | "env">): string {
  const found = contextsFileOf(undefined, io);
  return found === file ? "" : ` --contexts ${typedPath(io.cwd, file)}`;
}
