import { create, toBinary } from "@bufbuild/protobuf";
import { type AgentFormerly, AgentFormerlySchema, type AgentView, AgentViewSchema } from "#gen/foedus/coordination/v1alpha1/agents_pb.ts";
import { type Migration as MigrationMessage, MigrationSchema } from "#gen/foedus/coordination/v1alpha1/migration_pb.ts";
import type { Answer } from "../messages.ts";
import type { Migration } from "../migration/messages.ts";
import { agentToView, migrationToView } from "./agents.ts";
import { newestFirst, numberPlace, type Page, pageOf } from "./pages.ts";

type Agents = Pick<Extract<Answer, { kind: "agents" }>, "agents" | "formerly">;

/** AgentPage is a page of agents, and of names that they had. */
export interface AgentPage {
  readonly agents: AgentView[];
  readonly formerly: AgentFormerly[];
  readonly next: string;
}

/** agentPage gives a page of agents by name, and behind them of old names. */
export function agentPage({ agents, formerly }: Agents, after: string): AgentPage {
  const views = agents.map((one) => ({ place: one.agent.agent, view: agentToView(one.agent, one.connected, one.runs) }));
  // No name of an agent begins with a tilde, which is behind all letters.
  const names = formerly.map(({ hub, agent }) => ({ place: `~${agent} ${hub}`, name: create(AgentFormerlySchema, { hubId: hub, agent }) }));
  const { items, next } = pageOf([...views, ...names], after, {
    placeOf: ({ place }) => place,
    write: (item) => item,
    sizeOf: (item) => ("view" in item ? toBinary(AgentViewSchema, item.view).length : toBinary(AgentFormerlySchema, item.name).length),
  });
  return {
    agents: items.flatMap((item) => ("view" in item ? [item.view] : [])),
    formerly: items.flatMap((item) => ("name" in item ? [item.name] : [])),
    next,
  };
}

/** migrationPage gives a page of migrations: the first `open` of them are not over, and stand first, by number; of the others the newest first. */
export function migrationPage(all: readonly Migration[], open: number, after: string): Page<MigrationMessage> {
  const placeOf = ({ transfer, index }: Migration, i: number): string =>
    i < open ? `0${numberPlace(transfer)}` : `1${newestFirst(index)}${newestFirst(transfer)}`;
  return pageOf(all, after, { placeOf, write: migrationToView, sizeOf: (one) => toBinary(MigrationSchema, one).length });
}
