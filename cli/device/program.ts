import { type Command, Option } from "commander";
import type { Declare } from "../declare.ts";
import { DEVICE_TYPES } from "./kinds.ts";
import { LANGUAGES } from "./starter.ts";

const many = (text: string, list: readonly string[] = []): string[] => [...list, text];

/** place adds the options that say at which hub a node is, and with which certificate. */
function place(command: Command): Command {
  return command
    .option("--json", "machine output: one JSON document, or one per line for streams")
    .option("-q, --quiet", "values or the program only, and no notes")
    .option("--hub <context>", "context of the hub (default: that of this folder, or hub.json here)")
    .option("--contexts <file>", "contexts file (default: the nearest .foedus/contexts.json, then the user's)")
    .option("--config <file>", "configuration file of the hub, instead of a context")
    .option("--address <address>", "host:port, or service=host:port for each service in split mode (repeatable)", many)
    .option("--ca <file>", "CA certificate of the hub, with --address")
    .option("--cert <file>", "certificate of the node, or of a gateway (default: the hub's CA issues one, if it is here)")
    .option("--key <file>", "key of that certificate");
}

/** deviceVerbs declares `device …`. */
export function deviceVerbs(verb: Declare, program: Command): void {
  const device = program.command("device").description("devices to try things out with");
  const simulate = verb(
    device,
    "simulate [name]",
    "play a device on this terminal: it registers, reports its state and does what it is told",
    async () => (await import("./simulate.ts")).run,
  );
  place(simulate)
    .addOption(new Option("--type <type>", "what is simulated (default: lamp)").choices(DEVICE_TYPES))
    .option("--keep", "at the end leave the device in the registry, as offline");
}

/** nodeAddVerb declares `node add`. */
export function nodeAddVerb(verb: Declare, node: Command): void {
  const add = verb(
    node,
    "add <id>",
    "issue the certificate of a new node, and print a program to begin with",
    async () => (await import("./add.ts")).run,
  );
  place(add).addOption(
    new Option("--language <language>", "language of the program (default: typescript)").choices(Object.keys(LANGUAGES)),
  );
}
