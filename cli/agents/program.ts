import type { Command } from "commander";
import type { Declare } from "../declare.ts";

/** agentVerbs declares what agents that can move are seen and moved by. `operator` adds the options of verbs that talk to a hub. */
export function agentVerbs(verb: Declare, program: Command, operator: (command: Command) => Command): void {
  const agents = program.command("agents").description("agents of the federation, and their moves between hubs");
  const load = async (): Promise<typeof import("./agents.ts")> => import("./agents.ts");
  operator(verb(agents, "list", "list the agents of the federation, and where each is", async () => (await load()).list));
  operator(verb(agents, "migrate <agent>", "move an agent to another hub of the federation", async () => (await load()).migrate))
    .requiredOption("--to <hub>", "member to which it goes")
    .option("--why <text>", "why, for people")
    .option("--step <duration>", "how long each step may take before the agent stays, e.g. 30s (default: 1m)")
    .option("--no-wait", "return when the move is under way");
  operator(verb(agents, "migrations", "list moves, those that are not over first", async () => (await load()).migrations));
  operator(
    verb(agents, "abort <migration>", "give up a move that is not committed: the agent stays", async () => (await load()).abort),
  ).option("--why <text>", "why, for people");
}
