import { create } from "@bufbuild/protobuf";
import { afterAll, beforeAll, expect, test } from "vitest";
import { ListAgentsResponseSchema } from "#gen/foedus/coordination/v1alpha1/agents_pb.ts";
import { GetFederationResponseSchema } from "#gen/foedus/coordination/v1alpha1/coordination_service_pb.ts";
import { fail } from "#kernel/error.ts";
import { type FixedHub, fixedHub } from "../../test/cli/fixture.ts";

let home: FixedHub;

beforeAll(async () => {
  home = await fixedHub({
    coordination: {
      migrateAgent: ({ agent, toHubId }) => {
        if (agent !== "counter") throw fail("NODE_NOT_FOUND", `no hub of this federation has an agent ${agent}`, { field: "agent" });
        throw fail("PEER_NOT_FOUND", `${toHubId} is no member of the federation`, { field: "to_hub_id" });
      },
      listAgents: () =>
        create(ListAgentsResponseSchema, {
          agents: [{ agent: { agent: "counter", owner: "home", fence: 1n, nodeKey: new Uint8Array(32) } }],
        }),
      getFederation: () => create(GetFederationResponseSchema, { members: [{ hubId: "home" }, { hubId: "factory" }] }),
    },
  });
});
afterAll(() => home.close());

test.each([
  ["cuonter", "factory", "no hub of this federation has an agent cuonter. Did you mean counter?"],
  ["counter", "facotry", "hub facotry is no member of the federation. Did you mean factory?"],
])("a move of %s to %s says what was probably meant", async (agent, to, sentence) => {
  const { code, err } = await home.foedus("agents", "migrate", agent, "--to", to);
  expect([code, err]).toEqual([5, `foedus: ${sentence}\n`]);
});
