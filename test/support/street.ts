// Three real hubs that decide together, programs at two of them, and an agent that counts under commands.
import { randomBytes } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import { systemClock } from "#channel/clock.ts";
import { ListMigrationsRequestSchema, MigrateAgentRequestSchema } from "#gen/foedus/coordination/v1alpha1/agents_pb.ts";
import {
  FederationState,
  FoundFederationRequestSchema,
  GetFederationRequestSchema,
  JoinFederationRequestSchema,
} from "#gen/foedus/coordination/v1alpha1/coordination_service_pb.ts";
import { MigrationStatus, MigrationStepSchema } from "#gen/foedus/coordination/v1alpha1/migration_pb.ts";
import { CountingClient, CountingProgram, connectTo } from "./counting-agent.ts";
import { type Clients, Federation, type FederationOptions, until } from "./federation.ts";

/** HUBS of the street. */
export const HUBS = ["home", "factory", "lab"] as const;
/** HubId is one of them. */
export type HubId = (typeof HUBS)[number];
const all = (id: string) => HUBS.filter((hub) => hub !== id).map((hub) => ({ hub }));

/** Moved are the times of a move, ms: of all of it, of the longest pause between two answers, and of its steps in the log. */
export interface Moved {
  readonly total: number;
  readonly pause: number;
  readonly steps: string;
}

/** Street is three hubs of a federation, with programs at home and at the factory. */
export class Street {
  readonly federation: Federation;
  readonly clients: Readonly<Record<HubId, Clients>>;
  programs!: Readonly<Record<"home" | "factory", CountingProgram>>;
  client!: CountingClient;

  private constructor(federation: Federation) {
    this.federation = federation;
    this.clients = Object.fromEntries(HUBS.map((id) => [id, federation.hub(id).clients()])) as Street["clients"];
  }

  /** start starts it: the sources, or what `entry` (arguments of node before the verb) and `env` say. */
  static async start(
    mode: "single" | "split",
    ballast: number,
    { env, ...options }: Omit<FederationOptions, "hubs"> & { readonly env?: Readonly<Record<string, string>> } = {},
  ): Promise<Street> {
    const specs = HUBS.map((id) => ({ id, mode, peers: all(id), ...(env === undefined ? {} : { env }) }));
    const federation = await Federation.start({ ...options, hubs: specs });
    const street = new Street(federation);
    await federation.operational(60_000);
    const { home } = street.clients;
    const found = create(FoundFederationRequestSchema, { federationId: "street", founders: ["factory", "lab"] });
    await until("founding", async () => (await home.coordination.foundFederation(found)).state === FederationState.FOUNDING, 10_000);
    const status = (id: HubId) => street.clients[id].coordination.getFederation(create(GetFederationRequestSchema));
    for (const id of ["factory", "lab"] as const) {
      await until("the invitation", async () => (await status(id)).invitations.length === 1, 10_000);
      const join = create(JoinFederationRequestSchema, { federationId: "street" });
      await until(`${id} joining`, async () => (await street.clients[id].coordination.joinFederation(join)).state > 0, 10_000);
    }
    for (const id of HUBS) await until(`${id} deciding`, async () => (await status(id)).canDecide, 10_000);
    street.programs = {
      home: await CountingProgram.at(federation.hub("home"), { ballast: randomBytes(ballast) }),
      factory: await CountingProgram.at(federation.hub("factory")),
    };
    await until("the agent running at home", () => street.programs.home.has, 10_000);
    const hubs = new Map(
      await Promise.all(
        (["home", "factory"] as const).map(async (id) => [id, await connectTo(federation.hub(id), "operator-admin")] as const),
      ),
    );
    street.client = new CountingClient(hubs, "home");
    street.client.start();
    await until("commands being answered", () => street.client.answers.length > 20, 10_000);
    return street;
  }

  async stop(): Promise<void> {
    await this.client?.abandon();
    for (const program of Object.values(this.programs ?? {})) program.close();
    await this.federation.stop();
  }

  /** move moves the agent, and resolves when the move is over. */
  async move(to: HubId): Promise<Moved> {
    const began = systemClock.mono();
    const { transfer } = await this.clients.lab.coordination.migrateAgent(
      create(MigrateAgentRequestSchema, { agent: "counter", toHubId: to }),
    );
    const place = this.programs[to as "home"];
    await until(
      `the agent running at ${to}`,
      async () => {
        if (place.has) return true;
        throw new Error(`${this.client.lastRefusal}; ${place.problem}; ${await this.doing()}`);
      },
      30_000,
    );
    const answered = this.client.answers.length;
    await until(
      "commands being answered there",
      () => {
        if (this.client.answers.length > answered + 20 && this.client.answers.at(-1)?.hub === to) return true;
        throw new Error(this.client.lastRefusal);
      },
      10_000,
    );
    const { times } = await until("the release", async () => {
      const { migrations } = await this.clients.lab.coordination.listMigrations(create(ListMigrationsRequestSchema));
      return migrations.find((one) => one.transfer === transfer && one.status === MigrationStatus.RELEASED);
    });
    const first = Number(times[0]?.at);
    const steps = times.map(({ at }, step) => `${MigrationStepSchema.values[step + 1]?.localName} ${Number(at) - first}`).join(", ");
    return { total: place.startedAt - began, pause: this.client.pauseSince(began), steps };
  }

  async doing(): Promise<string> {
    const lists = HUBS.map((id) => this.clients[id].coordination.listMigrations(create(ListMigrationsRequestSchema)));
    return (await Promise.all(lists))
      .flatMap(({ doing, migrations }) => [...doing, ...migrations.map(({ step, message }) => `${step} ${message}`)])
      .join("; ");
  }
}
