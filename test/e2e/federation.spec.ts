// The whole line, with real processes over real mutual TLS: discover, prove, share, see change, command, survive.
import { create } from "@bufbuild/protobuf";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Outcome } from "#gen/foedus/command_forwarding/v1alpha1/command_pb.ts";
import { TrustLevel } from "#gen/foedus/common/v1/access_pb.ts";
import { Freshness } from "#gen/foedus/common/v1/value_pb.ts";
import { GetPeerRequestSchema, ListPeersRequestSchema } from "#gen/foedus/discovery/v1alpha1/discovery_service_pb.ts";
import { ListNodesRequestSchema } from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import { ListEventsRequestSchema } from "#gen/foedus/telemetry/v1alpha1/telemetry_service_pb.ts";
import { attach, deregister, execute, get, lamp, number, register, stateOf, text, update } from "../support/acts.ts";
import { type Clients, Federation, until } from "../support/federation.ts";

describe.each(["single", "split"] as const)("three hubs in %s mode", (mode) => {
  let federation: Federation;
  let home: Clients;
  let factory: Clients;
  let lab: Clients;
  let gateways: Readonly<Record<"home" | "factory" | "lab", Clients>>;

  beforeAll(async () => {
    federation = await Federation.start({
      hubs: [
        { id: "home", mode, peers: [{ hub: "factory" }, { hub: "lab" }] },
        { id: "factory", mode, peers: [{ hub: "home" }, { hub: "lab", maxTrust: "minimal" }] },
        // No port of the lab is reachable: it is a full member all the same.
        { id: "lab", mode, reachable: false, peers: [{ hub: "home" }, { hub: "factory" }] },
      ],
    });
    [home, factory, lab] = ["home", "factory", "lab"].map((id) => federation.hub(id).clients()) as [Clients, Clients, Clients];
    gateways = {
      home: federation.hub("home").clients("gateway-zigbee"),
      factory: federation.hub("factory").clients("gateway-zigbee"),
      lab: federation.hub("lab").clients("gateway-zigbee"),
    };
    await federation.operational(30_000);
  }, 90_000);

  afterAll(() => federation?.stop());

  test("S0-1 S1-28 every link is operational, seen from both ends, and says why it is trusted", async () => {
    const { peers } = await home.discovery.listPeers(create(ListPeersRequestSchema));
    expect(peers.map((peer) => [peer.hubId, peer.level])).toEqual([
      ["factory", TrustLevel.FULL],
      ["lab", TrustLevel.FULL],
    ]);
    for (const peer of peers) {
      expect(
        peer.evidence
          .filter((evidence) => evidence.valid)
          .map((evidence) => evidence.method)
          .sort(),
      ).toEqual(["certificate", "operator-pin"]);
      expect(peer.decision).not.toBe("");
    }
    const { peer } = await factory.discovery.getPeer(create(GetPeerRequestSchema, { hubId: "lab" }));
    expect(peer?.level).toBe(TrustLevel.MINIMAL);
  });

  test("S0-14 S0-17 S0-21 nodes and state changes of one hub are seen at the others, with their freshness", async () => {
    await register(gateways.factory, lamp("lamp-1"), lamp("lamp-2"));
    await update(gateways.factory, "lamp-1", { state: text("OFF"), power: number(0.5) });
    const record = await until("lamp-1 at home", async () => {
      const found = await get(home, "factory", "lamp-1");
      return stateOf(found, "power") === 0.5 && found;
    });
    expect(record).toMatchObject({ name: { hubId: "factory", nodeId: "lamp-1" }, online: true, freshness: Freshness.FRESH });
    await update(gateways.factory, "lamp-1", { power: number(7) });
    await until("the change at home", async () => stateOf(await get(home, "factory", "lamp-1"), "power") === 7);
  });

  test("S0-15 S0-16 B0-4 a command runs at the other hub, its value comes back, and the state follows", async () => {
    const executor = attach(gateways.factory, ["lamp-1"]);
    const { result } = await until("the executor", () => execute(home, "factory", "lamp-1", "state", text("ON")));
    expect(result).toMatchObject({ outcome: Outcome.DONE, value: { kind: { case: "stringValue", value: "ON" } } });
    expect(executor.ran).toEqual(["lamp-1.state=ON"]);
    await until("the state at home", async () => stateOf(await get(home, "factory", "lamp-1"), "state") === "ON");
    executor.stop();
  });

  test("B0-1 a hub that can only dial out is commanded like any other", async () => {
    await register(gateways.lab, lamp("bench"));
    const executor = attach(gateways.lab, ["bench"]);
    await until("bench at home", () => get(home, "lab", "bench"));
    const { result } = await until("the executor", () => execute(home, "lab", "bench", "brightness", number(100)));
    expect(result?.outcome).toBe(Outcome.DONE);
    expect(executor.ran).toEqual(["bench.brightness=100"]);
    executor.stop();
  });

  test("S4-6 what a MINIMAL peer may not see it does not have", async () => {
    const { hubs, records } = await lab.registry.listNodes(create(ListNodesRequestSchema, { filter: { hubIds: ["factory"] } }));
    expect(records).toEqual([]);
    expect(hubs.filter((hub) => hub.hubId === "factory" && hub.nodes > 0)).toEqual([]);
    // The lab cannot even tell whether there is such a node: there is no session that would carry commands.
    await expect(execute(lab, "factory", "lamp-1", "state", text("ON"))).rejects.toMatchObject({ failure: { reason: "PEER_UNREACHABLE" } });
  });

  test.each([
    ["factory", "nothing", "state", text("ON"), "NODE_NOT_FOUND"],
    ["factory", "lamp-1", "colour", text("red"), "CAPABILITY_NOT_FOUND"],
    ["factory", "lamp-1", "power", number(1), "CAPABILITY_ACCESS"],
    ["factory", "lamp-1", "brightness", number(255), "VALUE_OUT_OF_RANGE"],
    ["factory", "lamp-1", "brightness", text("bright"), "VALUE_OUT_OF_RANGE"],
  ] as const)("%s/%s %s is refused with the reason", async (hubId, nodeId, capability, value, reason) => {
    await expect(execute(home, hubId, nodeId, capability, value)).rejects.toMatchObject({ failure: { reason } });
  });

  test("D-3 what is removed while a hub is away is gone when it is back; the rest is resumed; nothing acknowledged is lost", async () => {
    await update(gateways.factory, "lamp-2", { power: number(41) });
    await federation.hub("home").end("SIGKILL");
    expect(await deregister(gateways.factory, "lamp-1")).toBe(true);
    await update(gateways.factory, "lamp-2", { power: number(42) });
    await federation.hub("home").start();
    await until("the change at home", async () => stateOf(await get(home, "factory", "lamp-2"), "power") === 42, 30_000);
    await expect(get(home, "factory", "lamp-1")).rejects.toMatchObject({ failure: { reason: "NODE_NOT_FOUND" } });
  }, 60_000);

  test("D-7 B0-5 nodes of a hub that was killed are not empty but get stale; it comes back with what it had acknowledged", async () => {
    await update(gateways.factory, "lamp-2", { power: number(77) });
    await federation.hub("factory").end("SIGKILL");
    const { records } = await home.registry.listNodes(create(ListNodesRequestSchema, { filter: { hubIds: ["factory"] } }));
    expect(records.map((record) => record.name?.nodeId)).toEqual(["lamp-2"]);
    await expect(execute(home, "factory", "lamp-2", "state", text("ON"), 1_000)).rejects.toThrow();
    await federation.hub("factory").start();
    const own = federation.hub("factory").clients();
    expect(stateOf(await get(own, "factory", "lamp-2"), "power")).toBe(77);
    await federation.operational(60_000);
    await update(federation.hub("factory").clients("gateway-zigbee"), "lamp-2", { power: number(78) });
    await until("the change at home", async () => stateOf(await get(home, "factory", "lamp-2"), "power") === 78, 30_000);
  }, 120_000);

  test("what happened is told as events", async () => {
    const { events } = await home.telemetry.listEvents(create(ListEventsRequestSchema, { pageSize: 1_000 }));
    expect(events.some((event) => event.peer === "factory" && event.text !== "")).toBe(true);
  });
});
