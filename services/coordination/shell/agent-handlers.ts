import { create } from "@bufbuild/protobuf";
import {
  AbortMigrationResponseSchema,
  ListAgentsResponseSchema,
  ListMigrationsResponseSchema,
  MigrateAgentResponseSchema,
} from "#gen/foedus/coordination/v1alpha1/agents_pb.ts";
import type { CoordinationService } from "#gen/foedus/coordination/v1alpha1/coordination_service_pb.ts";
import type { Handlers } from "#runtime/rpc/call.ts";
import { agentPage, migrationPage } from "../codec/agent-pages.ts";
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
    listAgents: async ({ unlessIndex, after }, context) => {
      const { index, ageMs, ...all } = await ask("agents", { kind: "agents", unless: Number(unlessIndex) }, context);
      return create(ListAgentsResponseSchema, { ...agentPage(all, after), index: BigInt(index), ageMs: BigInt(Math.ceil(ageMs)) });
    },
    listMigrations: async ({ after }, context) => {
      const { migrations, open, doing, ageMs } = await ask("migrations", { kind: "migrations" }, context);
      const { items, next } = migrationPage(migrations, open, after);
      const first = after === "" ? [...doing] : [];
      return create(ListMigrationsResponseSchema, { migrations: items, next, doing: first, ageMs: BigInt(Math.ceil(ageMs)) });
    },
    abortMigration: async ({ transfer, why }, context) => {
      await ask("changed", { kind: "abort_migration", transfer: Number(transfer), why }, context);
      return create(AbortMigrationResponseSchema);
    },
  };
}
