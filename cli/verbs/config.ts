import type { ConfigChange } from "#runtime/config/describe.ts";
import { CliError, EXIT, type ExitCode } from "../exit.ts";
import type { Io } from "../io.ts";
import { type Cell, table } from "../print/table.ts";
import { connect, endpointsOf } from "../reach/connect.ts";
import { type OperatorFlags, printJson } from "../verb.ts";
import { runningConfig } from "./running-config.ts";

/** ConfigVerbFlags are the options of `config`. */
export interface ConfigVerbFlags extends OperatorFlags {
  readonly file?: string;
  readonly diff?: string;
}

/** run prints the effective configuration of the running hub, or of a file; with --diff what another file would change. */
export async function run(io: Io, _args: readonly string[], options: ConfigVerbFlags): Promise<ExitCode | undefined> {
  // The hub's code comes with its schema, so it is loaded only when a file is read.
  const files = (): Promise<typeof import("../own/config-file.ts")> => import("../own/config-file.ts");
  const config = options.file === undefined ? await ofRunningHub(io, options) : (await files()).rendered(io, options.file);
  if (options.diff === undefined) {
    await printJson(io, config as object);
    return EXIT.ok;
  }
  const { changesBetween, rendered } = await files();
  const changes = changesBetween(config, rendered(io, options.diff));
  if (options.json) await printJson(io, { changes });
  else if (changes.length === 0) io.note("nothing would change\n");
  else await io.out(changesText(io, changes));
  return EXIT.ok;
}

async function ofRunningHub(io: Io, options: ConfigVerbFlags): Promise<unknown> {
  using connection = await connect(options, io);
  const [endpoint] = endpointsOf(connection.target);
  if (endpoint === undefined) return {};
  const json = await runningConfig(io, connection, endpoint);
  try {
    return JSON.parse(json);
  } catch (error) {
    throw new CliError(EXIT.failed, "the hub's configuration is not JSON", "Upgrade this command to the hub's version.", { cause: error });
  }
}

function changesText(io: Io, changes: readonly ConfigChange[]): string {
  const columns = [{ title: "FIELD" }, { title: "NOW", flexible: true }, { title: "THEN", flexible: true }, { title: "TAKES EFFECT" }];
  const show = (value: unknown): string => (value === undefined ? "-" : JSON.stringify(value));
  const rows = changes.map(({ path, from, to, applies }): Cell[] => [
    path,
    show(from),
    show(to),
    applies === "restart" ? { text: "at restart", style: "yellow" } : { text: "at once", style: "green" },
  ]);
  return table(io, columns, rows);
}
