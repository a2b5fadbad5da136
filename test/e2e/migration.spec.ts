// An agent of a real program moves between real hubs, under commands.
import { create } from "@bufbuild/protobuf";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ListAgentsRequestSchema } from "#gen/foedus/coordination/v1alpha1/agents_pb.ts";
import { type Moved, Street } from "../support/street.ts";

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
