import { create } from "@bufbuild/protobuf";
import {
  AbortMigrationRequestSchema,
  ListAgentsRequestSchema,
  type ListAgentsResponse,
  ListAgentsResponseSchema,
  ListMigrationsRequestSchema,
  type ListMigrationsResponse,
  ListMigrationsResponseSchema,
  MigrateAgentRequestSchema,
} from "#gen/foedus/coordination/v1alpha1/agents_pb.ts";
import {
  type Migration,
  MigrationSchema,
  MigrationStatus,
  MigrationStatusSchema,
  MigrationStepSchema,
} from "#gen/foedus/coordination/v1alpha1/migration_pb.ts";
import { sleep } from "#runtime/clock.ts";
import { EXIT, type ExitCode } from "../exit.ts";
import { withMembers } from "../federation/members.ts";
import type { Io } from "../io.ts";
import { parseCount, parseDuration, parseHub } from "../parse.ts";
import { clean, label, since } from "../print/format.ts";
import { type Cell, table } from "../print/table.ts";
import { corrected } from "../reach/candidates.ts";
import { type Connection, connect } from "../reach/connect.ts";
import { didYouMean } from "../reach/did-you-mean.ts";
import { everyPage } from "../reach/pages.ts";
import { messageJson, type OperatorFlags, printJson } from "../verb.ts";

/** How often a move is looked at, ms. */
const LOOK_MS = 200;

type Coordination = Pick<Connection, "coordination">;

async function allAgents({ coordination }: Coordination, signal: AbortSignal): Promise<ListAgentsResponse> {
  const pages = await everyPage("agents", (after) => coordination.listAgents(create(ListAgentsRequestSchema, { after }), { signal }));
  const agents = pages.flatMap((page) => page.agents);
  const formerly = pages.flatMap((page) => page.formerly);
  return { ...(pages[0] as ListAgentsResponse), agents, formerly, next: "" };
}

/** One that ended while they were read is there once. */
async function allMigrations({ coordination }: Coordination, signal: AbortSignal): Promise<ListMigrationsResponse> {
  const read = (after: string) => coordination.listMigrations(create(ListMigrationsRequestSchema, { after }), { signal });
  const pages = await everyPage("moves", read);
  const migrations = new Map(pages.flatMap((page) => page.migrations).map((one) => [one.transfer, one]));
  return { ...(pages[0] as ListMigrationsResponse), migrations: [...migrations.values()], next: "" };
}

/** list lists the agents of the federation. */
export async function list(io: Io, _args: readonly string[], options: OperatorFlags): Promise<ExitCode | undefined> {
  using connection = await connect(options, io);
  const response = await allAgents(connection, io.stopped);
  if (options.json) await printJson(io, messageJson(ListAgentsResponseSchema, response));
  else if (options.quiet) await io.out(response.agents.map(({ agent }) => `${clean(agent?.agent ?? "")}\n`).join(""));
  else if (response.agents.length === 0) io.note("no program of this federation has agents that can move\n");
  else {
    const rows = response.agents.map(({ agent, connected, runs }): Cell[] => [
      clean(agent?.agent ?? ""),
      clean(agent?.owner ?? ""),
      String(agent?.fence ?? 0),
      since(agent?.since ?? 0n, io.clock.wall()),
      agent?.lost === true
        ? { text: "lost with its hub", style: "red" }
        : runs
          ? { text: "runs here", style: "green" }
          : connected
            ? { text: "here, does not run", style: "yellow" }
            : "not here",
    ]);
    const columns = [
      { title: "AGENT" },
      { title: "HUB" },
      { title: "FENCE", align: "right" as const },
      { title: "SINCE" },
      { title: "AT THIS HUB" },
    ];
    await io.out(table(io, columns, rows));
  }
  return EXIT.ok;
}

/** withAgents makes a call about an agent; if the federation has none of that name, the error names the one that was probably meant. */
function withAgents<T>({ coordination }: Coordination, agent: string, signal: AbortSignal, call: () => Promise<T>): Promise<T> {
  return corrected("NODE_NOT_FOUND", call, async () => {
    const { agents } = await allAgents({ coordination }, signal);
    const known = agents.map((one) => one.agent?.agent ?? "");
    if (known.includes(agent)) return undefined;
    const remedy = didYouMean(agent, known, "List them with `foedus agents list`.");
    return { message: `no hub of this federation has an agent ${clean(agent)}`, remedy };
  });
}

/** MigrateFlags are the options of `foedus agents migrate`. */
export interface MigrateFlags extends OperatorFlags {
  readonly to?: string;
  readonly why?: string;
  readonly step?: string;
  readonly wait?: boolean;
}

/** migrate moves an agent, and says how that ended. Fails (1) if the agent stays. */
export async function migrate(io: Io, [agent = ""]: readonly string[], options: MigrateFlags): Promise<ExitCode | undefined> {
  using connection = await connect(options, io);
  const stepMs = BigInt(options.step === undefined ? 0 : parseDuration(options.step));
  const toHubId = parseHub(options.to ?? "");
  const request = create(MigrateAgentRequestSchema, { agent, toHubId, stepMs, why: options.why ?? "" });
  const call = () => connection.coordination.migrateAgent(request, { signal: io.stopped });
  const { transfer } = await withMembers(connection, [toHubId], io.stopped, () => withAgents(connection, agent, io.stopped, call));
  const look = async (): Promise<Migration | undefined> => {
    const { migrations: all } = await allMigrations(connection, io.stopped);
    return all.find((one) => one.transfer === transfer);
  };
  let migration = await look();
  while (options.wait !== false && migration?.status === MigrationStatus.OPEN) {
    await sleep(io.clock, LOOK_MS);
    migration = await look();
  }
  if (options.json) await printJson(io, { transfer: String(transfer), ...(migration && messageJson(MigrationSchema, migration)) });
  else if (options.quiet) await io.out(`${transfer}\n`);
  else await io.out(`migration ${transfer}: ${migration === undefined ? "under way" : sentence(migration)}\n`);
  return migration?.status === MigrationStatus.ABORTED ? EXIT.failed : EXIT.ok;
}

function sentence({ agent, from, to, status, message }: Migration): string {
  switch (status) {
    case MigrationStatus.OPEN:
      return `${clean(agent)} is on its way from ${clean(from)} to ${clean(to)}`;
    case MigrationStatus.ABORTED:
      return `${clean(agent)} stays at ${clean(from)}: ${clean(message)}`;
    default:
      return `${clean(agent)} is at ${clean(to)} now`;
  }
}

/** migrations lists moves. */
export async function migrations(io: Io, _args: readonly string[], options: OperatorFlags): Promise<ExitCode | undefined> {
  using connection = await connect(options, io);
  const response = await allMigrations(connection, io.stopped);
  if (options.json) await printJson(io, messageJson(ListMigrationsResponseSchema, response));
  else if (options.quiet) await io.out(response.migrations.map(({ transfer }) => `${transfer}\n`).join(""));
  else if (response.migrations.length === 0) io.note("no agent has moved, or is to\n");
  else {
    const rows = response.migrations.map((one): Cell[] => [
      String(one.transfer),
      clean(one.agent),
      clean(one.from),
      clean(one.to),
      label(MigrationStepSchema, one.step),
      { text: label(MigrationStatusSchema, one.status), style: one.status === MigrationStatus.ABORTED ? "yellow" : "green" },
      clean(one.message || one.why),
    ]);
    const columns = [
      { title: "NUMBER", align: "right" as const },
      { title: "AGENT" },
      { title: "FROM" },
      { title: "TO" },
      { title: "STEP" },
      { title: "STATUS" },
      { title: "WHY", flexible: true, prose: true },
    ];
    await io.out(table(io, columns, rows));
    for (const line of response.doing) io.note(`${clean(line)}\n`);
  }
  return EXIT.ok;
}

/** abort gives up a move. */
export async function abort(
  io: Io,
  [number = ""]: readonly string[],
  options: OperatorFlags & { readonly why?: string },
): Promise<ExitCode | undefined> {
  using connection = await connect(options, io);
  const transfer = parseCount(number);
  const request = create(AbortMigrationRequestSchema, { transfer: BigInt(transfer), why: options.why ?? "" });
  await connection.coordination.abortMigration(request, { signal: io.stopped });
  if (options.json) await printJson(io, { transfer: String(transfer), aborted: true });
  else if (!options.quiet) await io.out(`migration ${transfer} is aborted: the agent stays where it is\n`);
  return EXIT.ok;
}
