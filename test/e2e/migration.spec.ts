// An agent of a real program moves between real hubs, under commands.
import { create } from "@bufbuild/protobuf";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ListAgentsRequestSchema } from "#gen/foedus/coordination/v1alpha1/agents_pb.ts";
import { ListNodesRequestSchema } from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import { movedTo } from "../../clients/typescript/index.ts";
import { connectTo } from "../support/counting-agent.ts";
import { until } from "../support/federation.ts";
import { type Moved, Street } from "../support/street.ts";

/** registered are the names of the agent in the registry of a hub that has no part in the move. */
async function registered(street: Street): Promise<readonly string[]> {
  const { records } = await street.clients.lab.registry.listNodes(create(ListNodesRequestSchema));
  return records.map(({ name }) => `${name?.hubId}/${name?.nodeId}`).filter((name) => name.endsWith("/counter"));
}

describe.each(["single", "split"] as const)("S1-13 S1-14 S1-39 an agent that counts, in %s mode", (mode) => {
  let street: Street;
  beforeAll(async () => {
    street = await Street.start(mode, 10 * 1024 * 1024);
  }, 120_000);
  afterAll(() => street?.stop(), 30_000);

  test("moves with 10 MB from home to the factory and back, under commands, with no count lost or repeated", async () => {
    const { ballast } = street.programs.home;
    const there = await street.move("factory");
    expect(street.programs.home.has).toBe(false);
    expect(street.programs.factory.ballast.equals(ballast)).toBe(true);
    // The registry has followed it, and its old name is answered with the new one at a hub that has no part in the move.
    const third = await connectTo(street.federation.hub("lab"), "operator-admin");
    const ask = (hubId: string) => third.execute({ hubId, nodeId: "counter", capability: "count", value: 1n, timeoutMs: 3_000 });
    await until(
      "the old name being answered with the new one",
      async () => {
        const { failure } = await ask("home");
        if (failure !== undefined && movedTo(failure) === "factory") return true;
        throw new Error(`${failure?.reason} ${failure?.message}`);
      },
      10_000,
    );
    await until(
      "the agent at its new name",
      async () => {
        const { outcome, failure } = await ask("factory");
        if (outcome === "DONE") return true;
        throw new Error(`${failure?.reason} ${failure?.message}`);
      },
      10_000,
    );
    await until("tasks with the new fence", () => street.programs.factory.fences.has(2), 10_000);
    expect(await registered(street)).toEqual(["factory/counter"]);
    third.close();
    const back = await street.move("home");
    await street.client.stop();
    const expected = Array.from({ length: street.client.sent }, (_none, at) => at + 1);
    expect(street.programs.home.serials).toEqual(expected);
    expect(street.programs.home.ballast.equals(ballast)).toBe(true);
    expect(street.programs.factory.stored).toBe(false);
    const { agents } = await street.clients.lab.coordination.listAgents(create(ListAgentsRequestSchema));
    expect(agents.map(({ agent }) => `${agent?.agent} ${agent?.owner} ${agent?.fence}`)).toEqual(["counter home 3"]);
    const shown = ({ total, pause, steps }: Moved): string => `${Math.round(total)} ms in all, pause ${Math.round(pause)} ms (${steps})`;
    process.stdout.write(
      `an agent with 10 MB, ${mode} mode: there ${shown(there)}; back ${shown(back)}; ${street.client.sent} commands, ${street.client.redirected} redirected, ${street.client.repeated} repeated\n`,
    );
    expect(there.total).toBeLessThan(10_000);
  }, 60_000);
});
