import { create } from "@bufbuild/protobuf";
import {
  AbortMigrationResponseSchema,
  AgentFormerlySchema,
  ListAgentsResponseSchema,
  ListMigrationsResponseSchema,
  MigrateAgentResponseSchema,
} from "#gen/foedus/coordination/v1alpha1/agents_pb.ts";
import type { CoordinationService } from "#gen/foedus/coordination/v1alpha1/coordination_service_pb.ts";
import type { Handlers } from "#runtime/rpc/call.ts";
import { agentToView, migrationToView } from "../codec/agents.ts";
import type { MigrationAnswer } from "../migration/messages.ts";
import type { AgentPrograms } from "./agent-programs.ts";
import type { Ask } from "./ask.ts";

/** agentHandlers serves programs that have agents, and operators who move them. */
export function agentHandlers(
  ask: Ask,
  programs: AgentPrograms,
): Pick<Handlers<typeof CoordinationService>, "hostAgents" | "migrateAgent" | "listAgents" | "listMigrations" | "abortMigration"> {
  return {
    hostAgents: (...call) => programs.attach(...call),
    migrateAgent: async ({ agent, toHubId, stepMs, why }, context) => {
      const { value } = await ask("changed", { kind: "migrate", agent, to: toHubId, stepMs: Number(stepMs), why }, context);
      const { transfer, fence } = value as MigrationAnswer;
      return create(MigrateAgentResponseSchema, { transfer: BigInt(transfer), fence: BigInt(fence) });
    },
    listAgents: async ({ unlessIndex }, context) => {
      const { agents, formerly, index, ageMs } = await ask("agents", { kind: "agents", unless: Number(unlessIndex) }, context);
      const views = agents.map(({ agent, connected, runs }) => agentToView(agent, connected, runs));
      const names = formerly.map(({ hub, agent }) => create(AgentFormerlySchema, { hubId: hub, agent }));
      return create(ListAgentsResponseSchema, { agents: views, formerly: names, index: BigInt(index), ageMs: BigInt(Math.ceil(ageMs)) });
    },
    listMigrations: async (_request, context) => {
      const { migrations, doing, ageMs } = await ask("migrations", { kind: "migrations" }, context);
      const views = migrations.map(migrationToView);
      return create(ListMigrationsResponseSchema, { migrations: views, doing: [...doing], ageMs: BigInt(Math.ceil(ageMs)) });
    },
    abortMigration: async ({ transfer, why }, context) => {
      await ask("changed", { kind: "abort_migration", transfer: Number(transfer), why }, context);
      return create(AbortMigrationResponseSchema);
    },
  };
}
