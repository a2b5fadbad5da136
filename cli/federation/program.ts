import { type Command, Option } from "commander";
import type { Declare } from "../declare.ts";

const many = (text: string, list: readonly string[] = []): string[] => [...list, text];

/** federationVerbs declares what hubs decide together by. `operator` adds the options of verbs that talk to a hub. */
export function federationVerbs(verb: Declare, program: Command, operator: (command: Command) => Command): void {
  const federation = program.command("federation").description("decide together with other hubs");
  const load = async (): Promise<typeof import("./federation.ts")> => import("./federation.ts");
  operator(verb(federation, "status", "show the federation of the hub, and whether it can decide", async () => (await load()).status));
  operator(verb(federation, "members", "list the members", async () => (await load()).members));
  operator(verb(federation, "found <id>", "found a federation, alone or with peers", async () => (await load()).found))
    .option("--with <hub>", "peer that founds it with this hub and has to join (repeatable)", many)
    .addOption(new Option("--engine <engine>", "raft (hubs may fail; default) or bft (up to a third may lie)").choices(["raft", "bft"]))
    .addOption(
      new Option("--admission <rule>", "who lets further hubs in: a ballot (default) or any founder alone").choices(["ballot", "founder"]),
    )
    .option("--title <name>", "name for people (default: the id)");
  operator(
    verb(
      federation,
      "join <id>",
      "join a federation that a peer founds with this hub, or that a member lets in",
      async () => (await load()).join,
    ),
  ).option("--via <hub>", "member to ask (default: the peer that founds it)");
  operator(
    verb(federation, "leave <id>", "leave the federation, or give up founding or joining it", async () => (await load()).leave),
  ).option(
    "--force",
    "leave without a decision, because no quorum can be had any more; the others still count this hub until they remove it",
  );
  operator(
    verb(
      federation,
      "rejoin <id>",
      "take part with another replica that learns everything anew, after the store was restored from a backup",
      async () => (await load()).rejoin,
    ),
  ).option(
    "--trust-store",
    "go on with the store as it is, although it is not the one that ran last: only when all hubs were restored together",
  );
  operator(verb(federation, "lead <hub>", "hand leadership of the log to another voter", async () => (await load()).lead));
  operator(verb(federation, "log", "list what was decided, newest first", async () => (await load()).log)).option(
    "--limit <n>",
    "maximum number of entries (default: 20)",
  );
  operator(
    verb(
      federation,
      "shared [kind]",
      "list what hubs tell each other beside the log: swarms, resources, allocations, facts",
      async () => (await import("./shared.ts")).shared,
    ),
  );
  valueVerbs(verb, federation, operator);
  ballotVerbs(verb, federation, operator);
  roleVerbs(verb, federation, operator);
}

function roleVerbs(verb: Declare, federation: Command, operator: (command: Command) => Command): void {
  const load = async (): Promise<typeof import("./roles.ts")> => import("./roles.ts");
  const local = ["--local", "as this hub has it, also without a quorum"] as const;
  const role = federation.command("role").description("tasks of the federation that one hub has at a time");
  operator(verb(role, "list", "list who has which role, with its fence", async () => (await load()).roles)).option(...local);
  operator(
    verb(role, "check <role> <fence>", "tell whether the hub may act in a role, for programs that do", async () => (await load()).check),
  );
  const standby = federation.command("standby").description("where members are reached when they have failed");
  operator(verb(standby, "list", "list where members are reached now", async () => (await load()).standbys)).option(...local);
  operator(
    verb(
      standby,
      "set [address...]",
      "say where other installations of the hub are, in the order in which they are dialled when it has failed; none takes them away",
      async () => (await load()).setStandbys,
    ),
  ).option("--primary <address>", "where it is dialled first (default: where it is dialled now)");
}

function ballotVerbs(verb: Declare, federation: Command, operator: (command: Command) => Command): void {
  const load = async (): Promise<typeof import("./ballot.ts")> => import("./ballot.ts");
  operator(verb(federation, "ballot [id]", "list ballots, or show one with its votes", async () => (await load()).ballot)).option(
    "--certificate <file>",
    "write the certificate of a decided ballot to a file",
  );
  operator(
    verb(
      federation,
      "propose <what...>",
      "open a ballot: policy <key> <value>, remove <hub>, weight <hub> <n>, role <name> <hub> [standby...], loan <owner> <borrower> <resource> <amount> <duration> [type], priority <allocation> <n>",
      async () => (await load()).propose,
    ),
  )
    .option("--reasoning <text>", "why, for the others")
    .option("--for <duration>", "how long it is open, e.g. 10m (default: what the policy ballot_ms says)");
  operator(
    verb(
      federation,
      "policies",
      "list what the federation has decided for all its hubs: a ballot changes it",
      async () => (await import("./policies.ts")).policies,
    ),
  ).option("--local", "as this hub has them, also without a quorum, with their age");
  operator(
    verb(federation, "vote <ballot> <vote>", "vote approve, reject or abstain; the first vote stands", async () => (await load()).vote),
  ).option("--reasoning <text>", "why, for the others");
  operator(
    verb(
      federation,
      "admit <hub>",
      "let in a hub that asked to join: at once by a founder's word, or by a ballot",
      async () => (await load()).admit,
    ),
  ).option("--weight <n>", "weight of its vote in ballots (default: 1)");
  operator(
    verb(federation, "remove <hub>", "remove a member: at once by a founder's word, or by a ballot", async () => (await load()).remove),
  );
  operator(
    verb(
      federation,
      "founding <file>",
      "write the founding entry to a file, to verify certificates elsewhere",
      async () => (await load()).founding,
    ),
  );
  verb(federation, "verify <certificate>", "verify the certificate of a ballot; no hub is asked", async () => (await load()).verify)
    .option("--founding <file>", "founding entry of the federation")
    .option("--json", "machine output: one JSON document")
    .option("-q, --quiet", "say nothing; the exit code tells");
}

function valueVerbs(verb: Declare, federation: Command, operator: (command: Command) => Command): void {
  const value = federation.command("value").description("values that all hubs of the federation agree on");
  const load = async (): Promise<typeof import("./value.ts")> => import("./value.ts");
  operator(verb(value, "get <key>", "show a value as of now", async () => (await load()).get)).option(
    "--local",
    "as this hub has it, also without a quorum, with its age",
  );
  operator(verb(value, "list [prefix]", "list values as this hub has them", async () => (await load()).list));
  operator(verb(value, "set <key> <value>", "set a value; it is decided when the command returns", async () => (await load()).set)).option(
    "--if-version <n>",
    "only if the value has this version (0: only if there is none)",
  );
  operator(verb(value, "delete <key>", "delete a value", async () => (await load()).remove)).option(
    "--if-version <n>",
    "only if it has this version",
  );
}
