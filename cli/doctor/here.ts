import { resolve } from "node:path";
import type { Io } from "../io.ts";
import { CONFIG_FILE, type OwnHub, type OwnHubFlags, ownContext } from "../own/own-hub.ts";
import { contextsOption } from "../reach/advice.ts";
import { shellWord, typedPath } from "../reach/near-path.ts";

/** Here is what a command needs so that it means the hub that was looked at, in the folder where the finding is read. */
export interface Here {
  /** Options of verbs on the hub's own files. */
  readonly own: string;
  /** Options of verbs that ask the running hub. */
  readonly ask: string;
}

/** hereOf finds it out: in the hub's folder nothing is needed, elsewhere the context that --hub named, or the path of the configuration. */
export async function hereOf(io: Io, hub: OwnHub, given: OwnHubFlags, flags: OwnHubFlags): Promise<Here> {
  const atHome = given.hub === undefined && hub.file === resolve(io.cwd, CONFIG_FILE);
  if (atHome) return { own: "", ask: "" };
  const named = await ownContext(io, hub, flags);
  const ask = named === undefined ? "" : ` --hub ${shellWord(named.name)}${contextsOption(named, io)}`;
  const byContext = given.hub !== undefined && given.config === undefined && named?.context.config !== undefined;
  const config = hub.file === resolve(io.cwd, io.env["FOEDUS_CONFIG"] || CONFIG_FILE) ? "" : ` --config ${typedPath(io.cwd, hub.file)}`;
  return { own: byContext ? ask : config, ask };
}

/** Commands of a fix; those after "there: " are for the operator of another hub. */
const COMMAND = /(?<!there: )`foedus (pki (?:list|revoke)|[a-z]+)\b([^`]*)`/g;
const OWN = new Set(["peer", "doctor", "pki list", "pki revoke"]);
const ASKING = new Set(["status", "peers", "nodes", "node", "events", "links", "feeds"]);

/** reachable completes the commands of a fix with what they need here. */
export function reachable(fix: string, { own, ask }: Here): string {
  return fix.replace(COMMAND, (command, verb: string, rest: string) => {
    const options = OWN.has(verb) ? own : ASKING.has(verb) ? ask : "";
    return options === "" ? command : `\`foedus ${verb}${rest}${options}\``;
  });
}
