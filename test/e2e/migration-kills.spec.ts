// SIGKILL of a hub at each step of a move: exactly one place runs the agent afterwards, and its checkpoint is intact. `make migrations` runs
// every party at every step; the suite runs some.
import { create } from "@bufbuild/protobuf";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  ListAgentsRequestSchema,
  ListMigrationsRequestSchema,
  MigrateAgentRequestSchema,
} from "#gen/foedus/coordination/v1alpha1/agents_pb.ts";
import { GetFederationRequestSchema } from "#gen/foedus/coordination/v1alpha1/coordination_service_pb.ts";
import { type Migration, MigrationStatus, MigrationStepSchema } from "#gen/foedus/coordination/v1alpha1/migration_pb.ts";
import type { CountingProgram } from "../support/counting-agent.ts";
import { until } from "../support/federation.ts";
import { HUBS, type HubId, Street } from "../support/street.ts";

const PARTIES = ["source", "destination", "leader"] as const;
const STEPS = ["REQUEST", "VALIDATE", "ACCEPT", "PREPARE", "CHECKPOINT", "TRANSFER", "CONFIRM", "RELEASE"] as const;
/** STAGED is while the program at the destination stores what may come: between PREPARE and TRANSFER. */
type Step = (typeof STEPS)[number] | "STAGED";

/** At these the program at one end keeps the move; at the others the move goes on while the kill is on its way. */
const HELD: Readonly<
  Partial<Record<Step, { readonly at: "source" | "destination"; readonly what: NonNullable<CountingProgram["hold"]>["what"] }>>
> = {
  PREPARE: { at: "source", what: "checkpoint" },
  CHECKPOINT: { at: "source", what: "freeze" },
  STAGED: { at: "destination", what: "stage" },
  CONFIRM: { at: "destination", what: "resume" },
};

const FEW: readonly (readonly [(typeof PARTIES)[number], Step])[] = [
  ["source", "CHECKPOINT"],
  ["destination", "STAGED"],
  ["leader", "TRANSFER"],
  ["destination", "CONFIRM"],
];
const CASES =
  process.env["MIGRATIONS"] === "all"
    ? [...STEPS, "STAGED" as const].flatMap((step) => PARTIES.map((party) => [party, step] as const))
    : FEW;

/** listed is a move as a hub that is up has it. */
async function listed(street: Street, transfer: bigint, by: HubId): Promise<Migration | undefined> {
  const { migrations } = await street.clients[by].coordination.listMigrations(create(ListMigrationsRequestSchema));
  return migrations.find((one) => one.transfer === transfer);
}

async function leaderOf(street: Street): Promise<HubId> {
  return until("a leader", async () => {
    const { leader } = await street.clients.lab.coordination.getFederation(create(GetFederationRequestSchema));
    return leader === "" ? undefined : (leader as HubId);
  });
}

describe("S1-13 after SIGKILL of a hub exactly one place runs the agent, with its checkpoint", () => {
  let street: Street;
  let ballast: Buffer;
  beforeAll(async () => {
    street = await Street.start("single", 1024 * 1024);
    ({ ballast } = street.programs.home);
  }, 180_000);
  afterAll(() => street?.stop(), 60_000);

  test.each(CASES)(
    "%s at %s",
    async (party, step) => {
      const { programs, clients, federation, client } = street;
      const from = programs.home.has ? "home" : "factory";
      const to = from === "home" ? "factory" : "home";
      const ends = { source: programs[from], destination: programs[to] };
      const victim: HubId = party === "leader" ? await leaderOf(street) : party === "source" ? from : to;
      const watcher = HUBS.find((id) => id !== victim)!;
      const reached = Promise.withResolvers<void>();
      const go = Promise.withResolvers<void>();
      const held = HELD[step];
      if (held !== undefined) ends[held.at].hold = { what: held.what, held: reached.resolve, go: go.promise };
      const { transfer } = await clients[watcher].coordination.migrateAgent(
        create(MigrateAgentRequestSchema, { agent: "counter", toHubId: to, stepMs: 20_000n }),
      );
      let seen = "";
      const shows = async (): Promise<boolean> => {
        const one = await listed(street, transfer, watcher);
        seen = MigrationStepSchema.values.find(({ number }) => number === one?.step)?.localName ?? "";
        return STEPS.indexOf(seen as (typeof STEPS)[number]) >= STEPS.indexOf(step === "STAGED" ? "PREPARE" : step);
      };
      while (!(await shows()));
      if (held !== undefined) await reached.promise;
      await federation.hub(victim).end("SIGKILL");
      go.resolve();
      for (const end of Object.values(ends)) end.hold = undefined;
      await federation.hub(victim).start();
      const over = await until(
        "the end of the move",
        async () => {
          if (programs.home.has && programs.factory.has) throw new Error("it runs at two places");
          const one = await listed(street, transfer, watcher);
          if (one?.status === MigrationStatus.ABORTED || one?.status === MigrationStatus.RELEASED) return one;
          throw new Error(`${seen}; ${await street.doing()}`);
        },
        90_000,
      );
      const { owner, other } =
        over.status === MigrationStatus.RELEASED ? ({ owner: to, other: from } as const) : ({ owner: from, other: to } as const);
      await until("one place", () => programs[owner].has && !programs[other].has, 30_000);
      await until("nothing staged", () => !programs.home.staged && !programs.factory.staged, 10_000);
      const { agents } = await clients[watcher].coordination.listAgents(create(ListAgentsRequestSchema));
      expect(agents.map(({ agent }) => agent?.owner)).toEqual([owner]);
      const answered = client.answers.length;
      await until(
        "commands being answered",
        () => {
          if (client.answers.length > answered + 5) return true;
          throw new Error(client.lastRefusal);
        },
        30_000,
      );
      expect(programs[owner].ballast.equals(ballast)).toBe(true);
      const serials = new Set(programs[owner].serials);
      expect(Array.from({ length: client.sent - 1 }, (_none, at) => at + 1).filter((serial) => !serials.has(serial))).toEqual([]);
      process.stdout.write(
        `${party} ${victim} killed at ${step} (${seen} when it was sent): ${over.status === MigrationStatus.RELEASED ? "moved" : "stayed"}, at ${owner}\n`,
      );
    },
    180_000,
  );
});
