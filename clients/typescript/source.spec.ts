// What a gateway needs that speaks for what may be away while it is there itself.

import { create } from "@bufbuild/protobuf";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Freshness } from "#gen/foedus/common/v1/value_pb.ts";
import { GetNodeRequestSchema } from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import { fail } from "#kernel/error.ts";
import { HubHere } from "../../test/support/hub-here.ts";
import { until } from "../../test/support/until.ts";
import { type Hub, SOURCE_FRESHNESS, VALUE_TYPE } from "./index.ts";

let here: HubHere;
let gateway: Hub;
let operator: Hub;
beforeAll(async () => {
  here = await HubHere.start();
  gateway = await here.connect("gateway-zigbee");
  operator = await here.connect("operator-admin");
});
afterAll(() => here?.stop());

const node = (nodeId: string) => ({
  nodeId,
  capabilities: [
    { name: "state", type: VALUE_TYPE.STRING, readable: true, invocable: true },
    { name: SOURCE_FRESHNESS, type: VALUE_TYPE.STRING, readable: true },
  ],
});
const send = (nodeId: string) => operator.execute({ hubId: "home", nodeId, capability: "state", value: "ON", timeoutMs: 2_000 });

test("an executor offers other nodes while it runs, and what is under way goes on", async () => {
  await gateway.register(node("a"), node("b"));
  const held = Promise.withResolvers<{ value: string }>();
  const ran: string[] = [];
  const attached = Promise.withResolvers<void>();
  const executor = gateway.serve({
    nodeIds: ["a"],
    onAttached: () => attached.resolve(),
    run: ({ nodeId }) => {
      ran.push(nodeId);
      return nodeId === "a" ? held.promise : { value: "done" };
    },
  });
  await attached.promise;
  const slow = send("a");
  await until("it being under way", () => ran.length === 1);
  executor.offer(["b"]);
  await until("the offer of b", async () => (await send("b")).outcome === "DONE");
  expect(await send("a")).toMatchObject({ outcome: "REJECTED", failure: { reason: "NO_EXECUTOR" } });
  held.resolve({ value: "late" });
  expect(await slow).toMatchObject({ outcome: "DONE", value: "late" });
  executor.close();
});

test("an executor that cannot tell whether it did it says so, and that is the outcome", async () => {
  await gateway.register(node("c"));
  const executor = gateway.serve({
    nodeIds: ["c"],
    run: () => {
      throw fail("OUTCOME_UNKNOWN", "the device did not say what it did");
    },
  });
  const result = await until("an outcome", async () => {
    const one = await send("c");
    return one.outcome === "REJECTED" ? undefined : one;
  });
  expect(result).toMatchObject({
    outcome: "UNKNOWN",
    failure: { reason: "OUTCOME_UNKNOWN", message: "the device did not say what it did" },
  });
  executor.close();
});

test("a node is never fresher than its source says", async () => {
  const updater = gateway.updater({ nodes: [node("d")] });
  const record = async () =>
    (await operator.clients.registry.getNode(create(GetNodeRequestSchema, { name: { hubId: "home", nodeId: "d" } }))).record;
  for (const [said, freshness, online] of [
    ["FRESH", Freshness.FRESH, true],
    ["STALE", Freshness.STALE, true],
    ["UNKNOWN", Freshness.UNKNOWN, false],
    ["nonsense", Freshness.FRESH, true],
  ] as const) {
    updater.set("d", SOURCE_FRESHNESS, said);
    await updater.drain();
    expect(await record()).toMatchObject({ freshness, online });
  }
});
