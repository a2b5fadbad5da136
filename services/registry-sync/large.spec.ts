import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { NodeSchema } from "#gen/foedus/common/v1/node_pb.ts";
import { ValueType } from "#gen/foedus/common/v1/value_pb.ts";
import {
  GetNodeRequestSchema,
  ListNodesRequestSchema,
  type WatchEvent,
  WatchRequestSchema,
} from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import { RegistryClient } from "../../clients/typescript/registry-client.ts";
import { RegistryHub } from "../../test/registry/fixture.ts";
import { testHub } from "../../test/testca/index.ts";

type NodeInit = MessageInitShape<typeof NodeSchema>;

let hub: RegistryHub;
let gateway: RegistryClient;
beforeAll(async () => {
  hub = await new RegistryHub(await testHub("alpha")).start();
  gateway = RegistryClient.connect(hub.remote(hub.hub.gateway("zigbee")));
});
afterAll(async () => {
  gateway.close();
  await hub.stop();
  hub.remove();
  expect(hub.fatal).toEqual([]);
});

/** longNode has capabilities of one type, and about so many bytes. */
function longNode(nodeId: string, capabilities: number, type: ValueType, bytes = 0): NodeInit {
  const schema = "s".repeat(Math.floor(bytes / capabilities));
  return {
    nodeId,
    capabilities: Array.from({ length: capabilities }, (_, i) => ({ name: `c${i}`, type, readable: true, schema })),
  };
}

describe("what does not fit into one message of 1 MiB + 64 KiB", { timeout: 60_000 }, () => {
  test("long nodes are registered in several calls and listed on as many pages as it takes, none left out", async () => {
    const ids = Array.from({ length: 40 }, (_, i) => `long-${String(i).padStart(2, "0")}`);
    await gateway.registerAll(ids.map((id) => longNode(id, 10, ValueType.STRING, 120_000)));
    const operator = hub.remote(hub.hub.operator());
    const seen: string[] = [];
    let pages = 0;
    for (let pageToken = ""; pages === 0 || pageToken !== ""; pages++) {
      const request = create(ListNodesRequestSchema, { filter: { nodeIdPrefix: "long-" }, pageSize: 1_000, pageToken });
      const page = await operator.listNodes(request);
      expect(page.total).toBe(40);
      seen.push(...page.records.map(({ name }) => name?.nodeId ?? ""));
      pageToken = page.nextPageToken;
    }
    expect(seen).toEqual(ids);
    expect(pages).toBeGreaterThan(4);
  });

  test("a node with more state than fits says how much is missing; a watch has all of it", async () => {
    await gateway.registerNode(longNode("state", 100, ValueType.JSON));
    const updater = gateway.updater();
    const text = (i: number): string => JSON.stringify(`${i}-${"x".repeat(16_000)}`);
    for (let i = 0; i < 100; i++) updater.field("state", `c${i}`, ValueType.JSON);
    for (let i = 0; i < 100; i++) updater.set("state", `c${i}`, text(i));
    await updater.drain();
    const operator = hub.remote(hub.hub.operator());
    const { record } = await operator.getNode(create(GetNodeRequestSchema, { name: { nodeId: "state" } }));
    expect(record?.stateOmitted).toBeGreaterThan(50);
    expect((record?.state.length ?? 0) + (record?.stateOmitted ?? 0)).toBe(100);
    const { records } = await operator.listNodes(create(ListNodesRequestSchema, { filter: { nodeIdPrefix: "state" } }));
    expect(records[0]?.stateOmitted).toBe(record?.stateOmitted);
    const events: WatchEvent[] = [];
    for await (const { push } of operator.watch(create(WatchRequestSchema, { filter: { nodeIdPrefix: "state" } }))) {
      if (push.case === "events") events.push(...push.value.events);
      if (push.case === "bookmark") break;
    }
    const states = events.flatMap(({ change }) => (change.case === "state" ? [change.value] : []));
    expect(states.map(({ key, value }) => [key, value?.kind.value])).toEqual(Array.from({ length: 100 }, (_, i) => [`c${i}`, text(i)]));
  });
});
