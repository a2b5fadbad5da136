import { cpSync } from "node:fs";
import { join } from "node:path";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { NodeSchema } from "#gen/foedus/common/v1/node_pb.ts";
import { Freshness, ValueType } from "#gen/foedus/common/v1/value_pb.ts";
import {
  GetNodeRequestSchema,
  ListNodesRequestSchema,
  type NodeRecord,
} from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import { sha256 } from "#runtime/crypto.ts";
import type { PeerView } from "#runtime/peers.ts";
import { RegistryClient } from "../../clients/typescript/registry-client.ts";
import { RegistryHub } from "../../test/registry/fixture.ts";
import { failureOfCall, until } from "../../test/rpc/fixture.ts";
import { type TestHub, testHub } from "../../test/testca/index.ts";
import type { StateChange } from "./index.ts";

type NodeInit = MessageInitShape<typeof NodeSchema>;

let cas: readonly [TestHub, TestHub];
beforeAll(async () => {
  cas = await Promise.all([testHub("alpha"), testHub("beta")]);
});

const sensor = (nodeId: string, type = "sensor"): NodeInit => ({
  nodeId,
  type,
  capabilities: [
    { name: "temperature", type: ValueType.DOUBLE, readable: true },
    { name: "on", type: ValueType.BOOL, readable: true, invocable: true },
    { name: "secret", type: ValueType.STRING, readable: true },
  ],
});

/** listOf gives all nodes of a hub as another one knows them. */
async function listOf(at: RegistryHub, hubId: string): Promise<NodeRecord[]> {
  const operator = at.local({ kind: "operator" });
  return (await operator.listNodes(create(ListNodesRequestSchema, { filter: { hubIds: [hubId] }, pageSize: 1_000 }))).records;
}

const stateOf = (record: NodeRecord | undefined, key: string): unknown =>
  record?.state.find((state) => state.key === key)?.value?.kind.value;
const idsOf = (records: readonly NodeRecord[]): string[] => records.map(({ name }) => name?.nodeId ?? "");
const snapshots = (hub: RegistryHub): number => hub.events.filter(({ text }) => text === "snapshot taken in").length;

/** pair lets both hubs know each other. */
function pair(a: RegistryHub, b: RegistryHub, aSeesB: Partial<PeerView> = {}, bSeesA: Partial<PeerView> = {}): void {
  a.setPeers([a.viewOf(b, aSeesB)]);
  b.setPeers([b.viewOf(a, bSeesA)]);
}

const synced = (hub: RegistryHub): boolean =>
  hub.reports.some(({ state }) => state === "OPERATIONAL") && hub.reports.every((report) => report.synced);

describe("two hubs over mutual TLS", { timeout: 30_000 }, () => {
  let a: RegistryHub;
  let b: RegistryHub;
  let gateway: RegistryClient;
  const changes: StateChange[] = [];

  beforeAll(async () => {
    a = await new RegistryHub(cas[0], { config: { shares: { limited: { nodes: ["open-*"], keys: ["temperature", "on"] } } } }).start([
      cas[1],
    ]);
    b = await new RegistryHub(cas[1], { automation: { enabled: true, onChange: (change) => void changes.push(change) } }).start([cas[0]]);
    gateway = RegistryClient.connect(a.remote(cas[0].gateway("zigbee")));
    await gateway.registerAll([sensor("open-1"), sensor("open-2"), sensor("private-1")]);
  });
  afterAll(async () => {
    gateway.close();
    await Promise.all([a.stop(), b.stop()]);
    for (const hub of [a, b]) hub.remove();
    expect([...a.fatal, ...b.fatal]).toEqual([]);
  });

  test("S0-13 S0-17 what is registered and set at one is seen at the other, with its value and freshness", async () => {
    pair(a, b);
    await until(async () => (await listOf(b, "alpha")).length === 3);
    const updater = gateway.updater();
    updater.set("open-1", "temperature", 21.5);
    updater.set("open-1", "on", true);
    updater.set("open-2", "secret", "s3cret");
    await updater.drain();
    await until(async () => stateOf((await listOf(b, "alpha"))[1], "secret") === "s3cret");
    const [first] = await listOf(b, "alpha");
    expect(first).toMatchObject({ name: { hubId: "alpha", nodeId: "open-1" }, online: true, freshness: Freshness.FRESH });
    expect([stateOf(first, "temperature"), stateOf(first, "on")]).toEqual([21.5, true]);
    await until(() => synced(a) && synced(b));
    expect(snapshots(b)).toBe(1);
  });

  test("S0-26 the automation of the other hub hears of it by name", async () => {
    const updater = gateway.updater();
    updater.set("open-2", "temperature", -3);
    await updater.drain();
    await until(() => changes.some(({ nodeId, key, value }) => nodeId === "open-2" && key === "temperature" && value === -3));
    expect(changes.every(({ hubId }) => hubId === "alpha")).toBe(true);
  });

  test("reading as often as one likes does not end the session with the hub that is asked for a sign of life", async () => {
    const service = b.local({ kind: "service" });
    const ended = [a, b].map((hub) => hub.module.links?.().map(({ fatal }) => fatal));
    const now = create(GetNodeRequestSchema, { name: { nodeId: "open-1" }, maxStalenessMs: 0n });
    const reads: Promise<unknown>[] = [];
    for (let i = 0; i < 200; i++) {
      reads.push(failureOfCall(service.getNode(now)));
      // As long as it takes the other hub to answer.
      await gateway.client.getNode(create(GetNodeRequestSchema, { name: { nodeId: "open-1" } }));
    }
    await Promise.all(reads);
    expect([a, b].map((hub) => hub.module.links?.().map(({ fatal }) => fatal))).toEqual(ended);
  });

  test("S0-21 D-7 bare names are looked up, staleness is checked with one ping before it is an error", async () => {
    const service = b.local({ kind: "service" });
    const get = (nodeId: string, maxStalenessMs?: bigint) =>
      service.getNode(create(GetNodeRequestSchema, { name: { nodeId }, ...(maxStalenessMs === undefined ? {} : { maxStalenessMs }) }));
    expect((await get("open-1")).record?.name?.hubId).toBe("alpha");
    await until(async () => ((await get("open-1")).record?.ageMs ?? 0n) > 600n);
    expect((await get("open-1", 500n)).record?.ageMs).toBeLessThanOrEqual(500n);
    expect(await failureOfCall(get("open-1", 0n))).toMatchObject({ reason: "TOO_STALE" });
    b.setPeers([]);
  });

  test("D-3 a peer that is removed takes its nodes with it", async () => {
    // Nothing has pushed a list of peers that is not empty since: the one above was the whole list.
    await until(async () => (await listOf(b, "alpha")).length === 0);
    pair(a, b);
    await until(async () => (await listOf(b, "alpha")).length === 3);
  });

  test("D-3 a restart resumes without a snapshot, and learns of what was deleted and changed meanwhile", async () => {
    await until(async () => stateOf((await listOf(b, "alpha"))[0], "temperature") === 21.5);
    const before = snapshots(b);
    await b.stop();
    await gateway.deregisterNode("open-2");
    await gateway.registerNode(sensor("open-3"));
    const updater = gateway.updater();
    updater.set("open-1", "temperature", 30);
    updater.set("open-3", "temperature", 3);
    await updater.drain();
    await b.start([cas[0]]);
    expect(idsOf(await listOf(b, "alpha"))).toEqual(["open-1", "open-2", "private-1"]);
    expect((await listOf(b, "alpha"))[0]?.freshness).toBe(Freshness.UNKNOWN);
    pair(a, b);
    await until(async () => stateOf((await listOf(b, "alpha"))[1], "temperature") === 3);
    expect(idsOf(await listOf(b, "alpha"))).toEqual(["open-1", "open-3", "private-1"]);
    expect(stateOf((await listOf(b, "alpha"))[0], "temperature")).toBe(30);
    expect(snapshots(b)).toBe(before);
  });

  test("the owner restarts: its nodes, refs and values are as they were, and the other side goes on", async () => {
    const port = a.fixture.port;
    await a.stop();
    await a.start([cas[1]]);
    expect(a.fixture.port).not.toBe(0);
    expect(port).toBeGreaterThan(0);
    pair(a, b);
    gateway.close();
    gateway = RegistryClient.connect(a.remote(cas[0].gateway("zigbee")));
    const updater = gateway.updater();
    updater.set("open-1", "temperature", 31);
    await updater.drain();
    await until(async () => stateOf((await listOf(b, "alpha"))[0], "temperature") === 31);
    expect(idsOf(await listOf(a, "alpha"))).toEqual(["open-1", "open-3", "private-1"]);
  });

  test("S4-5 another share hides nodes and keys: the old one is forgotten first", async () => {
    a.setPeers([a.viewOf(b, { level: 2, share: "limited" })]);
    await until(async () => idsOf(await listOf(b, "alpha")).join() === "open-1,open-3");
    const [first] = await listOf(b, "alpha");
    expect(first?.node?.capabilities.map(({ name, invocable }) => [name, invocable])).toEqual([
      ["temperature", false],
      ["on", false],
    ]);
    const updater = gateway.updater();
    updater.set("open-1", "secret", "hidden");
    updater.set("private-1", "temperature", 1);
    updater.set("open-1", "temperature", 32);
    await updater.drain();
    await until(async () => stateOf((await listOf(b, "alpha"))[0], "temperature") === 32);
    expect(stateOf((await listOf(b, "alpha"))[0], "secret")).toBeUndefined();
  });

  test("S4-4 at MINIMAL nothing is seen, and no session is allowed", async () => {
    const b2 = await new RegistryHub(cas[1]).start([cas[0]]);
    a.fixture.authority.levels.set("beta", 1);
    a.setPeers([a.viewOf(b2, { level: 1 })]);
    b2.setPeers([b2.viewOf(a)]);
    const client = b2.viewOf(a);
    expect(client.level).toBe(3);
    await until(() => b2.reports.some(({ failure }) => failure !== undefined));
    expect(b2.reports[0]?.failure?.reason).toBe("TRUST_TOO_LOW");
    expect(await listOf(b2, "alpha")).toEqual([]);
    expect(
      await failureOfCall(
        b2.local({ kind: "service" }).getNode(create(GetNodeRequestSchema, { name: { hubId: "alpha", nodeId: "open-1" } })),
      ),
    ).toMatchObject({ reason: "NODE_NOT_FOUND" });
    await b2.stop();
    b2.remove();
  });
});

describe("a hub with much to tell", { timeout: 60_000 }, () => {
  test("S1-25 S1-12 comes as one snapshot in compressed parts; both hubs restart and stay equal", async () => {
    const a = await new RegistryHub(cas[0]).start([cas[1]]);
    const b = await new RegistryHub(cas[1]).start([cas[0]]);
    const gateway = RegistryClient.connect(a.remote(cas[0].gateway("zigbee")));
    // Letters that differ from node to node, so that the parts stay large when they are compressed.
    const noise = (i: number): string =>
      Buffer.from(sha256(Buffer.from(`node ${i}`)))
        .toString("hex")
        .repeat(30);
    await gateway.registerAll(
      Array.from({ length: 3_000 }, (_, i) => ({ ...sensor(`n-${String(i).padStart(4, "0")}`), description: noise(i) })),
    );
    const updater = gateway.updater();
    for (let i = 0; i < 3_000; i++) updater.set(`n-${String(i).padStart(4, "0")}`, "temperature", i);
    await updater.drain();
    pair(a, b);
    const nodes = async (at: RegistryHub): Promise<number> =>
      (await at.local({ kind: "operator" }).listNodes(create(ListNodesRequestSchema, { filter: { hubIds: ["alpha"] }, pageSize: 1 })))
        .total;
    await until(async () => (await nodes(b)) === 3_000);
    expect(snapshots(b)).toBe(1);
    const read = async (at: RegistryHub, nodeId: string) =>
      stateOf(
        (await at.local({ kind: "operator" }).getNode(create(GetNodeRequestSchema, { name: { hubId: "alpha", nodeId } }))).record,
        "temperature",
      );
    expect(await read(b, "n-2999")).toBe(2_999);
    gateway.close();
    await Promise.all([a.stop(), b.stop()]);
    await Promise.all([a.start([cas[1]]), b.start([cas[0]])]);
    expect([await nodes(a), await nodes(b), await read(a, "n-1234"), await read(b, "n-1234")]).toEqual([3_000, 3_000, 1_234, 1_234]);
    pair(a, b);
    await until(() => synced(a) && synced(b));
    expect(snapshots(b)).toBe(1);
    await Promise.all([a.stop(), b.stop()]);
    for (const hub of [a, b]) hub.remove();
  });
});

describe("the client", { timeout: 30_000 }, () => {
  let hub: RegistryHub;
  let client: RegistryClient;
  beforeAll(async () => {
    hub = await new RegistryHub(cas[0]).start();
  });
  afterAll(async () => {
    await hub.stop();
    hub.remove();
  });
  beforeEach(async () => {
    client = RegistryClient.connect(hub.remote(cas[0].gateway("zigbee")));
    await client.registerAll(Array.from({ length: 50 }, (_, i) => sensor(`n-${i}`)));
    return () => client.close();
  });

  test("an updater sends what was set in one turn together, and a mirror has it when drain resolves", async () => {
    const mirror = RegistryClient.connect(hub.remote(cas[0].service("hub"))).mirror();
    await mirror.ready;
    const updater = client.updater();
    for (let i = 0; i < 50; i++) expect(updater.set(`n-${i}`, "temperature", i / 2)).toBe(true);
    await updater.drain();
    expect(updater.ackedSeq).toBeLessThanOrEqual(2);
    await until(() => mirror.state("alpha", "n-49").some(({ value }) => value === 24.5));
    for (let i = 0; i < 50; i++) expect(mirror.state("alpha", `n-${i}`)[0]).toMatchObject({ key: "temperature", value: i / 2 });
    expect(mirror.resolve("", "n-7", "alpha")).toEqual({ kind: "found", hubId: "alpha" });
    mirror.close();
  });

  test("back-pressure: set answers false when too much waits, and nothing is lost", async () => {
    const updater = client.updater({ batchUpdates: 10, windowBatches: 2 });
    const field = updater.field("n-1", "temperature", ValueType.DOUBLE);
    let full = 0;
    for (let i = 0; i < 5_000; i++) {
      if (updater.setNumber(field, i)) continue;
      full++;
      await updater.writable();
    }
    await updater.drain();
    expect(full).toBeGreaterThan(0);
    expect(updater.pending).toBe(0);
    const { record } = await hub.local({ kind: "operator" }).getNode(create(GetNodeRequestSchema, { name: { nodeId: "n-1" } }));
    expect(stateOf(record, "temperature")).toBe(4_999);
  });

  test("what the hub refuses is reported, and the rest of its batch is taken", async () => {
    const refused: string[] = [];
    const updater = client.updater({ onRefused: ({ nodeId, key, failure }) => refused.push(`${nodeId} ${key} ${failure.reason}`) });
    updater.set("n-1", "temperature", 1);
    updater.set("nobody", "temperature", 2);
    updater.set("n-2", "nothing", 3);
    updater.set("n-3", "temperature", Number.NaN);
    updater.set("n-4", "temperature", 4);
    await updater.drain();
    expect(refused.sort()).toEqual([
      "n-2 nothing CAPABILITY_NOT_FOUND",
      "n-3 temperature INVALID_FIELD",
      "nobody temperature NODE_NOT_FOUND",
    ]);
    const read = async (nodeId: string) =>
      stateOf((await hub.local({ kind: "operator" }).getNode(create(GetNodeRequestSchema, { name: { nodeId } }))).record, "temperature");
    expect([await read("n-1"), await read("n-4")]).toEqual([1, 4]);
    await client.registerNode(sensor("nobody"));
    updater.set("nobody", "temperature", 5);
    await updater.drain();
    expect(await read("nobody")).toBe(5);
  });

  test("a value of another type than the key's is refused at once", () => {
    const updater = client.updater();
    updater.field("n-1", "on", ValueType.BOOL);
    expect(() => updater.set("n-1", "on", 3)).toThrowError(
      expect.objectContaining({ failure: expect.objectContaining({ reason: "VALUE_OUT_OF_RANGE" }) }),
    );
  });

  test("after a cut both updater and mirror go on, and what was not acknowledged is sent again", async () => {
    const watcher = RegistryClient.connect(hub.remote(cas[0].service("hub")));
    let replaced = 0;
    const mirror = watcher.mirror({ onReplaced: () => void replaced++ });
    await mirror.ready;
    const updater = client.updater();
    updater.set("n-1", "temperature", 100);
    await updater.drain();
    const copies = replaced;
    for (let i = 0; i < 50; i++) updater.set(`n-${i}`, "temperature", 1_000 + i);
    hub.fixture.server.cut(() => true);
    updater.set("n-1", "on", true);
    await updater.drain();
    await until(() => mirror.state("alpha", "n-49").some(({ value }) => value === 1_049));
    await until(() => mirror.state("alpha", "n-1").some(({ key, value }) => key === "on" && value === true));
    expect(replaced).toBe(copies);
    watcher.close();
  });

  test("a client whose certificate may not update is told so, and does not try for ever", async () => {
    const stranger = RegistryClient.connect(hub.remote(cas[0].operator())).updater();
    stranger.set("n-1", "temperature", 1);
    expect(await failureOfCall(stranger.drain())).toMatchObject({ reason: "ACCESS_DENIED" });
  });
});

test("EP4 a hub that was restored from a backup believes a peer that shows what it signed, and opens an epoch", {
  timeout: 60_000,
}, async () => {
  const [a, b] = [new RegistryHub(cas[0]), new RegistryHub(cas[1])];
  const store = join(a.dir, "registry-sync.db");
  try {
    await Promise.all([a.start([cas[1]]), b.start([cas[0]])]);
    const say = async (nodeId: string): Promise<void> => {
      const gateway = RegistryClient.connect(a.remote(cas[0].gateway("zigbee")));
      await gateway.registerAll([sensor(nodeId)]);
      gateway.close();
      pair(a, b);
      await until(async () => idsOf(await listOf(b, "alpha")).includes(nodeId));
    };
    await say("kept");
    await a.stop();
    cpSync(store, `${store}.backup`);
    await a.start([cas[1]]);
    await say("lost");
    await a.stop();
    cpSync(`${store}.backup`, store);
    await a.start([cas[1]]);
    await say("new");
    expect(idsOf(await listOf(b, "alpha"))).toEqual(["kept", "new"]);
    const told = a.events.map(({ text }) => text);
    expect(told).toContain("a peer showed that it holds more of this hub's feed than this hub does");
    expect(told.filter((text) => text.includes("without proof"))).toEqual([]);
  } finally {
    await Promise.all([a.stop(), b.stop()]);
    for (const hub of [a, b]) hub.remove();
  }
});
