import { create } from "@bufbuild/protobuf";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Clock, systemClock } from "#channel/clock.ts";
import { ValueType } from "#gen/foedus/common/v1/value_pb.ts";
import { GetNodeRequestSchema, ListNodesRequestSchema } from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import { fail, type Reason } from "#kernel/error.ts";
import { Fields } from "../../services/registry-sync/codec/fields.ts";
import { VALUE_TYPE } from "../../services/registry-sync/ports.ts";
import { RegistryHub } from "../../test/registry/fixture.ts";
import { LateNetwork } from "../../test/registry/late-network.ts";
import { until } from "../../test/support/until.ts";
import { testHub } from "../../test/testca/index.ts";
import { type NodeInit, RegistryClient } from "./registry-client.ts";
import type { UpdaterOptions } from "./updater-options.ts";

const hasty: Clock = { ...systemClock, setTimer: (_delay, fn) => systemClock.setImmediate(fn) };
const turn = () => new Promise<void>((resolve) => void systemClock.setImmediate(resolve));

let hub: RegistryHub;
beforeAll(async () => {
  hub = await new RegistryHub(await testHub("alpha")).start();
});
afterAll(async () => {
  await hub.stop();
  hub.remove();
  expect(hub.fatal).toEqual([]);
});

/** stage is a program that sets values of nodes over a network that the test delivers. */
function stage(nodes?: readonly NodeInit[], more: UpdaterOptions = {}) {
  const client = hub.local({ kind: "gateway", name: "sim", spiffeId: "spiffe://alpha/gateway/sim" });
  const network = new LateNetwork(client);
  const registry = RegistryClient.connect(network.client);
  const refused: string[] = [];
  const updater = registry.updater({
    clock: hasty,
    ...more,
    ...(nodes === undefined ? {} : { nodes }),
    onRefused: ({ nodeId, key, failure }) => refused.push(`${nodeId}.${key} ${failure.reason}`),
  });
  const drained = async (): Promise<void> => {
    let done = false;
    const drain = updater.drain().finally(() => {
      done = true;
    });
    drain.catch(() => undefined);
    while (!done) {
      network.newest?.deliver();
      await turn();
    }
    await drain;
  };
  /** told sets a value and answers what was refused until it was drained. */
  const told = async (nodeId: string, value: number): Promise<readonly string[]> => {
    refused.length = 0;
    updater.set(nodeId, "t", value);
    await drained();
    return [...refused];
  };
  const valueOf = async (nodeId: string): Promise<unknown> => {
    const { record } = await hub.local({ kind: "operator" }).getNode(create(GetNodeRequestSchema, { name: { nodeId } }));
    return record?.state.find(({ key }) => key === "t")?.value?.kind.value;
  };
  return { client, network, registry, updater, refused, told, valueOf };
}

const nodeOf = (nodeId: string) => ({ nodeId, type: "m", capabilities: [{ name: "t", type: ValueType.DOUBLE, readable: true }] });

describe("an updater whose stream ends", () => {
  const ends = async (reason: Reason): Promise<{ told: unknown[]; go: ReturnType<typeof stage> }> => {
    const told: unknown[] = [];
    const go = stage(undefined, { onLink: (failure, willRetry) => told.push([failure?.reason, willRetry]) });
    await go.registry.registerNode(nodeOf("lamp"));
    expect(await go.told("lamp", 1)).toEqual([]);
    go.network.newest?.cut(reason);
    await turn();
    return { told, go };
  };

  test.each(["FOREIGN_CA", "IDENTITY_MISMATCH", "UNKNOWN_IDENTITY"] as const)(
    "%s: another server may have the port for a while",
    async (reason) => {
      const { told, go } = await ends(reason);
      expect(told.at(-1)).toEqual([reason, true]);
      expect(await go.told("lamp", 2)).toEqual([]);
      expect(await go.valueOf("lamp")).toBe(2);
      go.registry.close();
    },
  );

  test.each(["SESSION_REPLACED", "ACCESS_DENIED"] as const)("%s: it says that it will not come back", async (reason) => {
    const { told, go } = await ends(reason);
    expect(told.at(-1)).toEqual([reason, false]);
    await expect(go.updater.drain()).rejects.toMatchObject({ failure: { reason } });
    go.registry.close();
  });
});

test("who writes as fast as the hub takes it ends when the updater is closed", async () => {
  const { registry, updater } = stage(undefined, { batchUpdates: 1, windowBatches: 1 });
  let waits = 0;
  const writer = (async () => {
    for (let value = 0; value < 1_000; value++) {
      if (updater.set("lamp", "t", value)) continue;
      waits++;
      await updater.writable();
    }
  })();
  const ended = expect(writer).rejects.toMatchObject({ reason: "SHUTTING_DOWN" });
  await turn();
  expect(waits).toBe(1);
  registry.close();
  await ended;
  await expect(updater.writable()).rejects.toMatchObject({ reason: "SHUTTING_DOWN" });
});

test("UP1 what the callback of a refusal sets and sends is newer than the batch that it was left out of", async () => {
  const { registry, network, valueOf } = stage();
  await registry.registerNode(nodeOf("porch"));
  let drains: Promise<void> | undefined;
  let refusals = 0;
  const updater = registry.updater({
    clock: hasty,
    onRefused: () => {
      if (++refusals < 2) return;
      updater.set("porch", "t", 2);
      drains = updater.drain();
    },
  });
  const delivered = async (done: () => boolean): Promise<void> => {
    for (let i = 0; i < 500 && !done(); i++) {
      network.newest?.deliver();
      await turn();
    }
  };
  updater.set("unknown", "t", 1);
  updater.set("porch", "t", 0);
  await delivered(() => refusals === 1 && updater.pending === 0);
  updater.set("unknown", "t", 1);
  updater.set("porch", "t", 1);
  await delivered(() => refusals === 2 && updater.pending === 0);
  await drains;
  expect(await valueOf("porch")).toBe(2);
  updater.close();
});

test("what is set after close is refused, by the first set already", () => {
  const { updater } = stage();
  updater.set("porch", "t", 1);
  updater.close();
  for (const value of [2, true, 3n, "4"])
    expect(() => updater.set("porch", `of ${typeof value}`, value)).toThrow(expect.objectContaining({ reason: "SHUTTING_DOWN" }));
});

test("who closes an updater for its first refusal is told of no other", async () => {
  const { network, registry, updater, refused } = stage();
  const told: string[] = [];
  const closing = registry.updater({
    clock: hasty,
    onRefused: ({ nodeId }) => {
      told.push(nodeId);
      closing.close();
    },
  });
  for (const nodeId of ["none", "neither"]) closing.set(nodeId, "t", 1);
  const drained = expect(closing.drain()).rejects.toMatchObject({ reason: "SHUTTING_DOWN" });
  for (let i = 0; i < 200 && told.length === 0; i++) {
    network.newest?.deliver();
    await turn();
  }
  await drained;
  expect([told, refused]).toEqual([["none"], []]);
  updater.close();
});

describe("updates of a field that the hub refused to bind", () => {
  test("UP3 each is reported before drain resolves, once, until the node is registered", async () => {
    const { registry, told, valueOf } = stage();
    expect(await told("ghost", 1)).toEqual(["ghost.t NODE_NOT_FOUND"]);
    expect(await told("ghost", 2)).toEqual(["ghost.t NODE_NOT_FOUND"]);
    await registry.registerNode(nodeOf("ghost"));
    expect(await told("ghost", 3)).toEqual([]);
    expect(await valueOf("ghost")).toBe(3);
    registry.close();
  });

  test("UP3 a newer stream is asked again: others may have registered the node", async () => {
    const { client, network, registry, told, valueOf } = stage();
    await registry.registerNode(nodeOf("known"));
    expect(await told("known", 1)).toEqual([]);
    expect(await told("late", 1)).toEqual(["late.t NODE_NOT_FOUND"]);
    await RegistryClient.connect(client).registerNode(nodeOf("late"));
    expect(await told("late", 2)).toEqual(["late.t NODE_NOT_FOUND"]);
    network.newest?.cut();
    expect(await told("known", 2)).toEqual([]);
    expect(await told("late", 3)).toEqual([]);
    expect([await valueOf("known"), await valueOf("late")]).toEqual([2, 3]);
    registry.close();
  });

  test("UP4 nodes that an updater keeps are registered before it sends, and again at a hub that has forgotten them", async () => {
    const twice = {
      nodeId: "bad",
      capabilities: [
        { name: "t", type: ValueType.DOUBLE },
        { name: "t", type: ValueType.BOOL },
      ],
    };
    const { client, network, registry, refused, told, valueOf } = stage([nodeOf("kept"), twice]);
    // Also without a change of state: a program that only runs commands has none.
    await until("the refusal", () => refused.length > 0);
    expect(refused).toEqual(["bad. INVALID_FIELD"]);
    expect(await told("kept", 1)).toEqual([]);
    expect(await valueOf("kept")).toBe(1);
    // What is left of a store that was lost, as far as this node is concerned.
    await RegistryClient.connect(client).deregisterNode("kept");
    network.newest?.cut();
    expect(await told("kept", 2)).toEqual(["bad. INVALID_FIELD"]);
    expect(await valueOf("kept")).toBe(2);
    registry.close();
  });

  test("UP4 a registration that fails is told, and tried again until the hub takes it", async () => {
    const { client, network, registry } = stage();
    let failures = 2;
    const flaky = {
      ...network.client,
      registerNodes: (...args: Parameters<typeof client.registerNodes>) =>
        failures-- > 0 ? Promise.reject(fail("OVERLOADED", "not now")) : client.registerNodes(...args),
    };
    const errors: unknown[] = [];
    const keeper = RegistryClient.connect(flaky);
    keeper.updater({ clock: hasty, nodes: [nodeOf("late-kept")], onError: (error) => errors.push(error) });
    await until("the node", async () => {
      network.newest?.deliver();
      const { records } = await hub.local({ kind: "operator" }).listNodes(create(ListNodesRequestSchema));
      return records.some(({ name }) => name?.nodeId === "late-kept");
    });
    expect(errors.map(String)).toEqual(Array.from({ length: 2 }, () => expect.stringContaining("not now")));
    keeper.close();
    registry.close();
  });

  test("FD1 a node that is registered while a Bind is under way is bound again: the answer is older than that", () => {
    const fields = new Fields();
    fields.add("a", "t", VALUE_TYPE.DOUBLE);
    const first = fields.next();
    if (first === undefined) throw new Error("nothing is to be bound");
    fields.accept(first, [7], [1]);
    fields.add("b", "t", VALUE_TYPE.DOUBLE);
    const second = fields.next();
    if (second === undefined) throw new Error("nothing is to be bound");
    fields.revive("a");
    fields.accept(second, [8], [1]);
    expect(fields.bound).toBe(0);
    expect(fields.next()?.nodeIds).toEqual(["a", "b"]);
  });
});
