import { type Command, Option } from "commander";
import type { Declare } from "../declare.ts";

const many = (text: string, list: readonly string[] = []): string[] => [...list, text];

const KINDS = `
Kinds: agents:<type>, compute:inference|batch|analysis, storage:weights|data|cache, network:bandwidth|pooling.
Amounts: agents, cpu-milli and gpu-milli (thousandths), memory-mb, storage-mb, network-kbps.
Agents are counted in the first four, compute in cpu-milli, gpu-milli and memory-mb.`;
const OFFER = `${KINDS}
Examples:
  foedus resources offer bots agents:planner --with ada --with bob
  foedus resources offer box compute:inference gpu-milli=4000 --with llama-3`;
const REQUEST = `${KINDS}
Examples:
  foedus resources request agents:planner agents=1 --for 30m
  foedus resources request storage:data storage-mb=500 --of factory`;

/** told puts a text below the help of a command, wrapped as commander wraps the rest. */
function told(command: Command, text: string): Command {
  return command.addHelpText("after", () => command.createHelp().boxWrap(text, command.configureOutput().getOutHelpWidth?.() ?? 80));
}

/** resourceVerbs declares what hubs lend each other by. `operator` adds the options of verbs that talk to a hub. */
export function resourceVerbs(verb: Declare, program: Command, operator: (command: Command) => Command): void {
  const resources = program.command("resources").description("lend and borrow between the hubs of a federation");
  const load = async (): Promise<typeof import("./verbs.ts")> => import("./verbs.ts");
  operator(verb(resources, "offers [owner]", "list what is offered", async () => (await load()).offers));
  told(
    operator(
      verb(
        resources,
        "offer <name> <kind> [amounts...]",
        "offer agents, compute, storage or network of this hub",
        async () => (await load()).offer,
      ),
    ),
    OFFER,
  )
    .option("--with <name>", "agent or model of the offer (repeatable)", many)
    .option("--price <amount>", "units per unit and hour, e.g. agents=0.5 (repeatable)", many)
    .option("--ask", "answer each request by hand; else the policy decides at once");
  operator(verb(resources, "withdraw <name>", "lend no more of an offer", async () => (await load()).withdraw));
  borrowVerbs(verb, resources, operator);
  operator(verb(resources, "policy", "set the limits under which this hub lends, as a whole", async () => (await load()).policy))
    .option("--max-agents <n>", "agents that one borrower has at a time (default: 5)")
    .option("--max-duration <duration>", "longest lease (default: 2h)")
    .option("--type <type>", "type that is lent (repeatable; default: all)", many)
    .option("--ceiling <percent>", "how much of each capacity may be lent (default: 80)")
    .option("--max-priority <priority>", "highest priority that requests of others have here (default: high)")
    .option("--no-preemption", "take nothing back early for a request that goes before it")
    .addOption(
      new Option("--on-disconnect <what>", "what becomes of what a hub has that is gone (default: keep)").choices([
        "keep",
        "stop",
        "hand-back",
      ]),
    );
  operator(
    verb(
      resources,
      "quota <offer> <hub>",
      "set what a hub may count on, and have at the most, of an offer",
      async () => (await load()).quota,
    ),
  )
    .option("--nominal <amount>", "what it may count on, e.g. agents=2 (repeatable)", many)
    .option("--limit <amount>", "what it has at the most (repeatable; what is not named has no limit)", many);
  operator(verb(resources, "audit", "compare what was decided with what runs and is used", async () => (await load()).audit));
}

function borrowVerbs(verb: Declare, resources: Command, operator: (command: Command) => Command): void {
  const load = async (): Promise<typeof import("./verbs.ts")> => import("./verbs.ts");
  told(
    operator(
      verb(resources, "request <what> <amounts...>", "borrow agents, compute, storage or network", async () => (await load()).request),
    ),
    REQUEST,
  )
    .option("--of <hub[/offer]>", "of this hub, and this offer of it (default: of any)")
    .option("--for <duration>", "for how long (default: 1h)")
    .option("--model <name>", "model that must be there, of compute")
    .option("--priority <priority>", "low, medium (default), high or critical")
    .option("--max-cost <units>", "what it may cost (default: nothing)")
    .option("--wait <duration>", "wait so long for room (default: do not)")
    .option("--id <id>", "id of the request: the same again is answered as the first time")
    .option("--keep", "renew it until it is released")
    .option("--no-hold", "only reserve it; foedus resources confirm takes it")
    .option("--why <text>", "what it is for");
  operator(verb(resources, "confirm <request>", "take what was reserved for a request", async () => (await load()).confirm)).option(
    "--keep",
    "renew it until it is released",
  );
  operator(verb(resources, "requests", "list requests", async () => (await load()).requests)).option(
    "--mine",
    "only those that this hub is to answer",
  );
  operator(
    verb(
      resources,
      "answer <borrower> <request> <answer>",
      "accept, counter or decline the terms of a request",
      async () => (await load()).answer,
    ),
  )
    .option("--amount <amount>", "other amounts, of counter (repeatable)", many)
    .option("--for <duration>", "another time, of counter")
    .option("--cost <units>", "another cost, of counter")
    .option("--keep", "renew what is accepted for this hub until it is released");
  operator(verb(resources, "allocations", "list what is reserved, lent, or not back yet", async () => (await load()).allocations))
    .option("--owner <hub>", "only of this owner")
    .option("--borrower <hub>", "only of this borrower");
  operator(verb(resources, "release <allocation>", "give an allocation back", async () => (await load()).release))
    .option("--fence <fence>", "fence in force (default: the one that the hub knows)")
    .option("--reclaim", "the owner's notice that it wants it back");
  operator(
    verb(resources, "renew <allocation> <duration>", "have an allocation end so long from now", async () => (await load()).renew),
  ).option("--fence <fence>", "fence in force (default: the one that the hub knows)");
}
