import { dirname } from "node:path";
import { parseSettings } from "#runtime/config/json.ts";
import { LISTS_MAX_BYTES, makeFolder, readText, writeWhole } from "#runtime/files.ts";
import { type Contexts, contextsOf, contextsProblem } from "../../clients/typescript/reach/contexts.ts";
import { CliError, EXIT, type ExitCode, usage } from "../exit.ts";
import { clean } from "../print/format.ts";
import { didYouMean } from "./did-you-mean.ts";

export type { HubContext } from "../../clients/typescript/reach/contexts.ts";

/** ContextsFile is the content of a contexts file, and where it is. */
export interface ContextsFile extends Contexts {
  readonly file: string;
}

/** MAKE_CONTEXT says which commands make a context. */
const MAKE_CONTEXT =
  "Go to the folder of a hub, where `foedus hub init <hub-id>` made one, or make one with `foedus contexts add` (see its --help).";

/** noContexts is the refusal where there is no contexts file. */
export function noContexts(exitCode: ExitCode = EXIT.usage): CliError {
  return new CliError(
    exitCode,
    "no contexts file says where a hub is: there is no .foedus/contexts.json here or in a folder above",
    MAKE_CONTEXT,
  );
}

/** unknownContext is the refusal of a name that the contexts file does not have; `folderDoes` where a hub's folder does as well as a name. */
export function unknownContext({ file, contexts }: ContextsFile, name: string, folderDoes = true): CliError {
  const known = Object.keys(contexts);
  const exitCode = name === "" ? EXIT.usage : EXIT.notFound;
  if (name === "" && known.length > 0) {
    const remedy = `Give --hub with one of ${known.map(clean).join(", ")}, or choose one with \`foedus contexts use\`.`;
    return new CliError(exitCode, `${file} has no current context`, remedy);
  }
  const folder = folderDoes ? " Or go to the hub's folder." : "";
  const what = name === "" ? `${file} has no contexts` : `${file} has no context "${clean(name)}"`;
  return new CliError(
    exitCode,
    what,
    known.length === 0 ? MAKE_CONTEXT : `${didYouMean(name, known, "`foedus contexts list` lists those that are there.")}${folder}`,
  );
}

/** readContexts reads and checks a contexts file. Throws CliError (usage). */
export async function readContexts(file: string): Promise<ContextsFile> {
  const remedy = "Correct it, or name another one with --contexts.";
  let text: string;
  try {
    text = readText(file, LISTS_MAX_BYTES);
  } catch (error) {
    throw usage(`${file} cannot be read: ${error instanceof Error ? error.message : String(error)}`, remedy, error);
  }
  let value: unknown;
  try {
    value = parseSettings(text);
  } catch (error) {
    throw usage(`${file} cannot be read: ${(error as Error).message}`, remedy, error);
  }
  return { file, ...check(file, value) };
}

function check(file: string, value: unknown): Contexts {
  const problem = contextsProblem(value);
  if (problem === undefined) return contextsOf(value) as Contexts;
  throw usage(`${file} is not a contexts file: ${problem}`, "The format is in cli/README.md.");
}

/** writeCurrent makes another context the current one. The rest of the file stays as it is; it appears whole or not at all. */
export async function writeCurrent(contexts: ContextsFile, name: string): Promise<void> {
  await writeContexts({ ...contexts, current: name });
}

/** writeContexts checks and writes a contexts file in one step, with its folder. Throws CliError (usage). */
export async function writeContexts({ file, current, contexts }: ContextsFile): Promise<void> {
  check(file, { current, contexts });
  makeFolder(dirname(file), 0o700);
  writeWhole(file, `${JSON.stringify({ current, contexts }, undefined, 2)}\n`, 0o600);
}
