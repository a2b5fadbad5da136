import { create } from "@bufbuild/protobuf";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Clock, systemClock } from "#channel/clock.ts";
import { NodeSchema } from "#gen/foedus/common/v1/node_pb.ts";
import { ValueType } from "#gen/foedus/common/v1/value_pb.ts";
import { ListNodesRequestSchema } from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import { fail } from "#kernel/error.ts";
import { RegistryHub } from "../../test/registry/fixture.ts";
import { LateNetwork } from "../../test/registry/late-network.ts";
import { until } from "../../test/support/until.ts";
import { testHub } from "../../test/testca/index.ts";
import { KeptNodes } from "./kept-nodes.ts";
import { type NodeInit, RegistryClient } from "./registry-client.ts";

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

/** seen are the nodes of the hub with such ids, and their types. */
async function seen(prefix: string): Promise<string[]> {
  const { records } = await hub.local({ kind: "operator" }).listNodes(create(ListNodesRequestSchema, { filter: { nodeIdPrefix: prefix } }));
  return records.map(({ node }) => `${node?.nodeId} ${node?.type}`);
}

/** Hold keeps calls under way: before the hub has them, or before the program has the answer. */
interface Hold {
  readonly when: "before" | "after";
  readonly until: Promise<void>;
  readonly reached: () => void;
}

type Call = "registerNode" | "registerNodes" | "deregisterNode";

/** stage is a program with an updater that keeps nodes, over a network that the test delivers. */
async function stage(nodes: readonly NodeInit[]) {
  const inner = hub.local({ kind: "gateway", name: "sim", spiffeId: "spiffe://alpha/gateway/sim" });
  const network = new LateNetwork(inner);
  const holds = new Map<Call, Hold>();
  const calls: string[][] = [];
  const held = async <T>(name: Call, call: () => Promise<T>): Promise<T> => {
    const hold = holds.get(name);
    holds.delete(name);
    const wait = (when: Hold["when"]): Promise<void> | undefined => {
      if (hold?.when !== when) return undefined;
      hold.reached();
      return hold.until;
    };
    await wait("before");
    const answer = await call();
    await wait("after");
    return answer;
  };
  const client = {
    ...network.client,
    registerNode: (...args: Parameters<typeof inner.registerNode>) => held("registerNode", () => inner.registerNode(...args)),
    registerNodes: (...args: Parameters<typeof inner.registerNodes>) => {
      calls.push(args[0].nodes.map(({ nodeId }) => nodeId));
      return held("registerNodes", () => inner.registerNodes(...args));
    },
    deregisterNode: (...args: Parameters<typeof inner.deregisterNode>) => held("deregisterNode", () => inner.deregisterNode(...args)),
  };
  const registry = RegistryClient.connect(client);
  const refused: string[] = [];
  const updater = registry.updater({
    clock: hasty,
    nodes,
    onRefused: ({ nodeId, failure }) => refused.push(`${nodeId} ${failure.reason}`),
  });
  const told = async (nodeId: string, value: number): Promise<void> => {
    updater.set(nodeId, "t", value);
    let done = false;
    const drain = updater.drain().finally(() => {
      done = true;
    });
    while (!done) {
      network.newest?.deliver();
      await turn();
    }
    await drain;
  };
  /** hold keeps the next such call under way; `reached` resolves when it got there. */
  const hold = (name: Call, when: Hold["when"]) => {
    const released = Promise.withResolvers<void>();
    const reached = Promise.withResolvers<void>();
    holds.set(name, { when, until: released.promise, reached: reached.resolve });
    return { reached: reached.promise, release: released.resolve };
  };
  return { network, registry, updater, refused, calls, told, hold };
}

const nodeOf = (nodeId: string, type = "v1"): NodeInit => ({
  nodeId,
  type,
  capabilities: [{ name: "t", type: ValueType.DOUBLE, readable: true }],
});

describe("what an updater registers on a new stream", () => {
  test("KN1 is what the hub acknowledged last: a node that was replaced, added or deregistered since stays so", async () => {
    const { network, registry, told, refused } = await stage([
      nodeOf("a-other"),
      nodeOf("a-retired"),
      nodeOf("a-steady"),
      nodeOf("a-twice"),
    ]);
    await told("a-other", 1);
    await registry.registerNode(nodeOf("a-steady", "v2"));
    await registry.registerAll([nodeOf("a-twice", "v2"), nodeOf("a-added")]);
    await registry.registerNode(nodeOf("a-twice", "v3"));
    expect(await registry.deregisterNode("a-retired")).toBe(true);
    const said = await seen("a-");
    expect(said).toEqual(["a-added v1", "a-other v1", "a-steady v2", "a-twice v3"]);
    // Forgotten by the hub, as by one that lost its store.
    await hub.local({ kind: "gateway", name: "sim", spiffeId: "spiffe://alpha/gateway/sim" }).deregisterNode({
      $typeName: "foedus.registry_sync.v1alpha1.DeregisterNodeRequest",
      nodeId: "a-added",
    });
    network.newest?.cut();
    await told("a-other", 2);
    expect(await seen("a-")).toEqual(said);
    expect(refused).toEqual([]);
    registry.close();
  });

  test("KN1 is as it was when the program gave it, whatever it does with the object", async () => {
    const node = { nodeId: "g-first", type: "v1" };
    const { network, registry, told } = await stage([nodeOf("g-other"), node]);
    await told("g-other", 1);
    node.nodeId = "g-second";
    network.newest?.cut();
    await told("g-other", 2);
    expect(await seen("g-")).toEqual(["g-first v1", "g-other v1"]);
    registry.close();
  });

  test.each([
    ["before the hub has it", "before"],
    ["before its answer is here", "after"],
  ] as const)("KN2 a change that is under way during a cut, %s, is what the hub has when it is acknowledged", async (_name, when) => {
    const p = `b${when}`;
    const { network, registry, told, hold } = await stage([nodeOf(`${p}-other`), nodeOf(`${p}-retired`), nodeOf(`${p}-steady`)]);
    await told(`${p}-other`, 1);
    const holds = [hold("registerNode", when), hold("deregisterNode", when)];
    const changes = [registry.registerNode(nodeOf(`${p}-steady`, "v2")), registry.deregisterNode(`${p}-retired`)];
    await Promise.all(holds.map(({ reached }) => reached));
    network.newest?.cut();
    // The other nodes do not wait for it.
    await told(`${p}-other`, 2);
    for (const { release } of holds) release();
    expect(await Promise.all(changes)).toEqual([undefined, true]);
    expect(await seen(p)).toEqual([`${p}-other v1`, `${p}-steady v2`]);
    network.newest?.cut();
    await told(`${p}-other`, 3);
    expect(await seen(p)).toEqual([`${p}-other v1`, `${p}-steady v2`]);
    registry.close();
  });

  test("KN2 a change that is made while a repetition is under way is what the hub has when it is acknowledged", async () => {
    const { network, registry, told, hold } = await stage([nodeOf("c-many"), nodeOf("c-other"), nodeOf("c-retired"), nodeOf("c-steady")]);
    await told("c-other", 1);
    const late = hold("registerNodes", "before");
    network.newest?.cut();
    const drained = told("c-other", 2);
    await late.reached;
    let acknowledged = 0;
    const changes = [
      registry.registerNode(nodeOf("c-steady", "v2")),
      registry.deregisterNode("c-retired"),
      registry.registerAll([nodeOf("c-many", "v2")]),
    ].map(async (change) => {
      await change;
      acknowledged++;
    });
    await until("the changes at the hub", async () => (await seen("c-")).join() === "c-many v2,c-other v1,c-steady v2");
    expect(acknowledged).toBe(0);
    late.release();
    await Promise.all(changes);
    await drained;
    expect(await seen("c-")).toEqual(["c-many v2", "c-other v1", "c-steady v2"]);
    registry.close();
  });
});

describe("a node that no hub takes", () => {
  const many = Array.from({ length: 600 }, (_, n) => nodeOf(`d-${String(n).padStart(3, "0")}`));
  const bad: NodeInit = { nodeId: "not a name!", type: "x".repeat(100_000) };
  const wrong = { nodeId: "d-wrong", capabilities: [{ name: "t", type: 1.5 as ValueType }] };

  test("keeps no other from being registered, and is told once for each stream", async () => {
    const { network, registry, told, refused, calls } = await stage([...many.slice(0, 311), bad, wrong, ...many.slice(311)]);
    await told("d-599", 1);
    expect(refused.toSorted()).toEqual(["d-wrong INVALID_FIELD", "not a name! INVALID_FIELD"]);
    expect(calls.length).toBeLessThan(25);
    for (const { nodeId } of many) expect(calls.some((ids) => ids.includes(nodeId ?? "") && !ids.includes("not a name!"))).toBe(true);
    refused.length = 0;
    network.newest?.cut();
    await told("d-000", 2);
    expect(refused.toSorted()).toEqual(["d-wrong INVALID_FIELD", "not a name! INVALID_FIELD"]);
    // Until the program says what is right.
    refused.length = 0;
    await registry.registerNode(nodeOf("d-wrong"));
    expect(await registry.deregisterNode("d-598")).toBe(true);
    network.newest?.cut();
    await told("d-000", 3);
    expect(refused).toEqual(["not a name! INVALID_FIELD"]);
    registry.close();
  });

  test("is not sent again by the attempts that another refusal makes necessary", async () => {
    const inner = hub.local({ kind: "gateway", name: "sim", spiffeId: "spiffe://alpha/gateway/sim" });
    const network = new LateNetwork(inner);
    const sent: string[][] = [];
    // A hub that takes four calls, and is then busy for one.
    const busy = {
      ...network.client,
      registerNodes: (...args: Parameters<typeof inner.registerNodes>) => {
        sent.push(args[0].nodes.map(({ nodeId }) => nodeId));
        return sent.length % 5 === 0 ? Promise.reject(fail("OVERLOADED", "not now")) : inner.registerNodes(...args);
      },
    };
    const registry = RegistryClient.connect(busy);
    const refused: string[] = [];
    const nodes = [nodeOf("e-0"), bad, nodeOf("e-1"), { ...bad, nodeId: "nor this!" }, nodeOf("e-2")];
    registry.updater({ clock: hasty, nodes, onError: () => undefined, onRefused: ({ nodeId }) => refused.push(nodeId) });
    await until("the nodes", async () => {
      network.newest?.deliver();
      return (await seen("e-")).length === 3 && refused.length === 2;
    });
    expect(refused).toEqual(["not a name!", "nor this!"]);
    registry.close();
  });
});

test("KN3 of two changes of a node that are not awaited, the later one is what the hub is told last", async () => {
  const kept = new KeptNodes();
  kept.start([{ nodeId: "n" }]);
  const said: string[] = [];
  const repetition = Promise.withResolvers<void>();
  const slow = Promise.withResolvers<void>();
  const repeated = kept.repeat(["n"], () => repetition.promise);
  const change = (type: string, answer?: Promise<void>): Promise<void> =>
    kept.change(
      ["n"],
      async () => {
        said.push(type);
        await answer;
      },
      () => kept.put({ nodeId: "n", type }),
    );
  const first = change("first", slow.promise);
  const second = change("second");
  await turn();
  repetition.resolve();
  await repeated;
  await turn();
  slow.resolve();
  await Promise.all([first, second]);
  expect(said.at(-1)).toBe("second");
  await kept.repeat(["n"], async ([node]) => expect(node?.type).toBe("second"));
});

test("KN3 a program may go on with its message while the call waits for an earlier one", async () => {
  const heard: string[] = [];
  const answers: (() => void)[] = [];
  const registerNode = ({ node }: { node?: { nodeId: string; name: string } | undefined }) => {
    heard.push(`${node?.nodeId}=${node?.name}`);
    return new Promise<never>((resolve) => answers.push(resolve as () => void));
  };
  const registry = RegistryClient.connect({ registerNode } as never);
  const node = create(NodeSchema, { nodeId: "lamp", name: "v1" });
  const all = [registry.registerNode(node)];
  node.name = "v2";
  all.push(registry.registerNode(node));
  node.nodeId = "door";
  node.name = "d1";
  all.push(registry.registerNode(node));
  while (heard.length < 3) {
    await turn();
    for (const answer of answers.splice(0)) answer();
  }
  for (const answer of answers.splice(0)) answer();
  await Promise.all(all);
  expect(heard.toSorted()).toEqual(["door=d1", "lamp=v1", "lamp=v2"]);
});
