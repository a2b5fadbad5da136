// What the demo shows, step by step; each step is checked and fails the tour if it does not hold.

import { create } from "@bufbuild/protobuf";
import { systemClock } from "#channel/clock.ts";
import { ExecuteRequestSchema } from "#gen/foedus/command_forwarding/v1alpha1/command_forwarding_service_pb.ts";
import { Outcome } from "#gen/foedus/command_forwarding/v1alpha1/command_pb.ts";
import { ListNodesRequestSchema } from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import { FoedusError } from "#kernel/error.ts";
import { execute, get, stateOf, text } from "../support/acts.ts";
import { type Clients, type Federation, until } from "../support/federation.ts";
import { DEMO_LAMP } from "./gateways.ts";
import { must, type Stage } from "./stage.ts";
import { found, lend, move, vote } from "./together.ts";

async function total(clients: Clients, hubId: string): Promise<number> {
  return (await clients.registry.listNodes(create(ListNodesRequestSchema, { filter: { hubIds: [hubId] }, pageSize: 1, summary: true })))
    .total;
}

/** Pace is called before each step, with its number and how many there are, and may wait until it has been read. */
export type Pace = (step: number, of: number) => Promise<void>;

/** tour plays all steps and answers how many there were. */
export async function tour(
  federation: Federation,
  { say, atEnd, pace }: Pick<Stage, "say" | "atEnd"> & { readonly pace: Pace },
): Promise<number> {
  const [home, factory, lab] = ["home", "factory", "lab"].map((id) => federation.hub(id).clients()) as [Clients, Clients, Clients];
  const steps = [share, command, change, refusals, secret, agent, found, vote, lend, move, crash] as const;
  for (const [at, step] of steps.entries()) {
    await pace(at + 1, steps.length);
    await step({ federation, home, factory, lab, say, atEnd });
  }
  return steps.length;
}

async function share({ home, factory, lab, say }: Stage): Promise<void> {
  const own = await total(factory, "factory");
  await until(
    "all nodes of the factory at home and in the lab",
    async () => (await total(home, "factory")) === own && (await total(lab, "factory")) === own,
    60_000,
  );
  say(`home and lab see all ${own} nodes of the factory, although nobody can reach the lab: it dialled out`);
}

async function command({ home, say }: Stage): Promise<void> {
  await until("the lamp at home being online", async () => (await get(home, "factory", DEMO_LAMP))?.online === true);
  const { result } = await execute(home, "factory", DEMO_LAMP, "state", text("ON"));
  must("the command is DONE", result?.outcome === Outcome.DONE);
  say(`home switched on a lamp of the factory: DONE in ${result!.durationMs.toFixed(1)} ms, journalled on both sides`);
}

async function change({ home, lab, say }: Stage): Promise<void> {
  const { result } = await execute(home, "factory", DEMO_LAMP, "state", text("OFF"));
  must("the command is DONE", result?.outcome === Outcome.DONE);
  const at = systemClock.mono();
  await until("the change in the lab", async () => stateOf(await get(lab, "factory", DEMO_LAMP), "state") === "OFF");
  say(`home switched it off; the lab saw the state change within ${Math.max(1, Math.round(systemClock.mono() - at))} ms of the answer`);
}

async function refusals({ home, say }: Stage): Promise<void> {
  const refused: string[] = [];
  for (const [node, capability, value] of [
    [DEMO_LAMP, "state", "DIM"],
    [DEMO_LAMP, "linkquality", "5"],
    ["no-such-lamp", "state", "ON"],
  ] as const) {
    const error = await execute(home, "factory", node, capability, text(value)).then(
      () => undefined,
      (caught: unknown) => caught,
    );
    must(`${node} ${capability}=${value} is refused`, error instanceof FoedusError);
    refused.push((error as FoedusError).failure.reason);
  }
  must(`the reasons are right (${refused.join()})`, refused.join() === "VALUE_OUT_OF_RANGE,CAPABILITY_ACCESS,NODE_NOT_FOUND");
  say(`what makes no sense is refused with a reason: ${refused.join(", ")}`);
}

async function secret({ home, factory, lab, say }: Stage): Promise<void> {
  must("the lab has nodes of its own", (await total(factory, "lab")) > 0);
  must("home has none of the lab's", (await total(home, "lab")) === 0);
  const own = await total(lab, "lab");
  const error = await execute(home, "lab", DEMO_LAMP, "state", text("ON")).catch((caught: unknown) => caught);
  must("home cannot command the lab", error instanceof FoedusError && error.failure.reason === "NODE_NOT_FOUND");
  say(`the lab trusts home only up to LIMITED, and shows it nothing: of its ${own} nodes home sees and commands none, the factory all`);
}

async function agent({ lab, say }: Stage): Promise<void> {
  const { records } = await lab.registry.listNodes(
    create(ListNodesRequestSchema, { filter: { hubIds: ["factory"], type: "agent", capability: "route" } }),
  );
  const name = records[0]?.name?.nodeId;
  must("the factory shares an agent that plans routes", name !== undefined);
  const input = JSON.stringify({
    edges: [
      ["dock", "press", 4],
      ["press", "gate", 3],
      ["dock", "gate", 9],
    ],
    from: "dock",
    to: "gate",
  });
  const request = {
    target: { hubId: "factory", nodeId: name! },
    capability: "route",
    value: { kind: { case: "jsonValue" as const, value: input } },
  };
  const { result } = await lab.commands.execute(create(ExecuteRequestSchema, { command: request }));
  const answer = JSON.parse(String(result?.value?.kind.value)) as { path: string[]; length: number };
  must("the route is the shortest", answer.length === 7 && answer.path.join() === "dock,press,gate");
  say(`the lab asked ${name} of the factory for a route: ${answer.path.join(" -> ")}, length ${answer.length}`);
}

async function crash({ federation, home, say }: Stage): Promise<void> {
  const before = await total(home, "factory");
  const hub = federation.hub("factory");
  await hub.end("SIGKILL");
  say("the factory was killed with SIGKILL");
  const record = await get(home, "factory", DEMO_LAMP);
  must("home still knows the factory's nodes", record !== undefined && (await total(home, "factory")) === before);
  say(`home still knows its ${before} nodes, and says how old that is: ${record!.ageMs} ms`);
  const at = systemClock.mono();
  await hub.start();
  const factory = hub.clients();
  must("the factory lost nothing", (await total(factory, "factory")) === before);
  await federation.operational(60_000);
  await until(
    "a command reaching the factory again",
    async () => (await execute(home, "factory", DEMO_LAMP, "state", text("ON"))).result?.outcome === Outcome.DONE,
    60_000,
  );
  say(
    `it came back with all ${before} nodes, its links resumed, and a command works again after ${((systemClock.mono() - at) / 1_000).toFixed(1)} s`,
  );
}
