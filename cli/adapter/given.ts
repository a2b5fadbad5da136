import { dirname } from "node:path";
import { stdin } from "node:process";
import * as z from "zod";
import { own } from "#kernel/own.ts";
import { loadConfig } from "#runtime/config/load.ts";
import { LISTS_MAX_BYTES, readText } from "#runtime/files.ts";
import type { AdapterTask } from "../../adapters/shared/lines.ts";
import { isTree, isUnreadable, parseJson } from "../../adapters/shared/values.ts";
import { loadHubConfig } from "../../services/hub/index.ts";
import { usage } from "../exit.ts";
import type { Io } from "../io.ts";
import { addressText, dialable } from "../reach/address.ts";

/** Given is what an adapter was told to do. */
export interface Given<C> {
  readonly config: C;
  /** Relative paths start here. */
  readonly folder: string;
  readonly hub: { readonly hub_id: string; readonly address: string; readonly ca: string };
  /** Resolves when the hub that runs it is gone. */
  readonly hubGone: Promise<undefined>;
}

const NEVER = new Promise<undefined>(() => undefined);

const target = z.strictObject({
  hub_id: z.string().min(1).meta({ description: "id of the hub" }),
  address: z.string().min(3).meta({ description: "host:port of the hub" }),
  ca: z.string().min(1).meta({ description: "CA of the hub, PEM" }),
});

/** fromFile reads hub.json, or a file `{ "hub": …, "<adapter>": … }` of the adapter's own. Throws CliError and ConfigError. */
export function fromFile<S extends z.ZodType>(io: Pick<Io, "env">, adapter: "mqtt", schema: S, file: string): Given<z.output<S>> {
  let text: string;
  try {
    text = readText(file, LISTS_MAX_BYTES);
  } catch (cause) {
    throw usage(`the configuration ${file} cannot be read`, "Give hub.json, or a file of the adapter's own, with --config.", cause);
  }
  const folder = dirname(file);
  const read = parseJson(text);
  if (isUnreadable(read) || !isTree(read) || own(read, "hub_id") === undefined) {
    const { config } = loadConfig(z.strictObject({ hub: target, [adapter]: schema }), { file });
    const { hub, [adapter]: its } = config as { readonly hub: Given<unknown>["hub"]; readonly mqtt: z.output<S> };
    return { config: its, folder, hub, hubGone: NEVER };
  }
  const { config } = loadHubConfig({ file, env: io.env });
  const { hub_id, listen, tls } = config;
  const hub = { hub_id, address: addressText(dialable(listen.host), listen.port), ca: tls.ca };
  return { config: config.adapters[adapter] as z.output<S>, folder, hub, hubGone: NEVER };
}

/** fromHub reads what the hub that runs this gives it: one line on stdin, which ends with the hub. Throws CliError. */
export async function fromHub<S extends z.ZodType>(io: Pick<Io, "stopped">, schema: S): Promise<Given<z.output<S>>> {
  const gone = Promise.withResolvers<undefined>();
  const first = Promise.withResolvers<string>();
  let text = "";
  let read = false;
  stdin.setEncoding("utf8");
  stdin.on("data", (part: string) => {
    if (read) return;
    text += part;
    const end = text.indexOf("\n");
    if (end < 0 && text.length <= LISTS_MAX_BYTES) return;
    read = true;
    first.resolve(text.slice(0, end));
  });
  const over = (): void => {
    first.resolve("");
    gone.resolve(undefined);
  };
  stdin.on("end", over).on("error", over).on("close", over);
  io.stopped.throwIfAborted();
  const task = parseJson(await first.promise) as AdapterTask;
  if (!isTree(task) || isUnreadable(task) || !isTree(task.hub) || typeof task.folder !== "string")
    throw usage("no configuration came on stdin", "A hub starts adapters with --supervised; give --config instead.");
  return { config: schema.parse(task.config), folder: task.folder, hub: task.hub, hubGone: gone.promise };
}
