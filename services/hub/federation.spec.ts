// Hubs as this package composes them, in this process, over real mutual TLS.

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { create, fromBinary, getExtension } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { systemClock } from "#channel/clock.ts";
import { createPeerCredentials } from "#channel/tls/peer-credentials.ts";
import {
  AttachExecutorRequestSchema,
  ExecuteRequestSchema,
} from "#gen/foedus/command_forwarding/v1alpha1/command_forwarding_service_pb.ts";
import { Outcome } from "#gen/foedus/command_forwarding/v1alpha1/command_pb.ts";
import { access, Principal } from "#gen/foedus/common/v1/access_pb.ts";
import { ErrorReason } from "#gen/foedus/common/v1/error_pb.ts";
import { type Node, NodeSchema } from "#gen/foedus/common/v1/node_pb.ts";
import { type Value, ValueSchema, ValueType } from "#gen/foedus/common/v1/value_pb.ts";
import { LinkState } from "#gen/foedus/discovery/v1alpha1/peer_pb.ts";
import {
  ListNodesRequestSchema,
  RegisterNodesRequestSchema,
  UpdateStateRequestSchema,
} from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import { Health, HealthCheckRequestSchema, HealthCheckResponse_ServingStatus as Serving } from "#gen/grpc/health/v1/health_pb.ts";
import { ServerReflection, ServerReflectionRequestSchema } from "#gen/grpc/reflection/v1/reflection_pb.ts";
import { createClient } from "#runtime/rpc/client/client.ts";
import { type Clients, Federation, type FederationOptions, until } from "../../test/support/federation.ts";
import {
  type Automation,
  type AutomationHub,
  type CommandOutcome,
  loadHubConfig,
  type RunningHub,
  type StartHubOptions,
  startHub,
} from "./index.ts";
import { withSessions } from "./services.ts";

const text = (value: string): Value => create(ValueSchema, { kind: { case: "stringValue", value } });
const number = (value: number): Value => create(ValueSchema, { kind: { case: "doubleValue", value } });
const device = (nodeId: string): Node =>
  create(NodeSchema, {
    nodeId,
    type: "light",
    name: nodeId,
    capabilities: [
      { name: "state", type: ValueType.STRING, readable: true, invocable: true },
      { name: "power", type: ValueType.DOUBLE, readable: true },
    ],
  });

type Extras = Pick<StartHubOptions, "automation" | "localCommands">;

/** Hubs is a federation whose hubs run in this process. */
class Hubs {
  readonly federation: Federation;
  readonly running = new Map<string, RunningHub>();
  readonly #clients: Clients[] = [];

  private constructor(federation: Federation) {
    this.federation = federation;
  }

  static async prepare(hubs: FederationOptions["hubs"]): Promise<Hubs> {
    return new Hubs(await Federation.prepare({ hubs, logLevel: "error" }));
  }

  async start(id: string, extras: Extras = {}): Promise<RunningHub> {
    const hub = await startHub({ ...loadHubConfig({ file: join(this.federation.hub(id).dir, "hub.json") }), runs: "hub", ...extras });
    this.running.set(id, hub);
    return hub;
  }

  clients(id: string, principal: "operator-admin" | "gateway-zigbee"): Clients {
    const clients = this.federation.hub(id).clients(principal);
    this.#clients.push(clients);
    return clients;
  }

  /** linked resolves when `id` sees the link to `peer` as OPERATIONAL. */
  async linked(id: string, peer: string): Promise<void> {
    const { discovery } = this.clients(id, "operator-admin");
    await until(`the link of ${id} to ${peer}`, async () => {
      const { peers } = await discovery.listPeers({ $typeName: "foedus.discovery.v1alpha1.ListPeersRequest" });
      return peers.some(({ hubId, state }) => hubId === peer && state === LinkState.OPERATIONAL);
    });
  }

  async stop(): Promise<void> {
    for (const clients of this.#clients) clients.close();
    await Promise.all([...this.running.values()].map((hub) => hub.stop()));
    await this.federation.stop();
  }
}

const register = (clients: Clients, ...nodeIds: string[]) =>
  clients.registry.registerNodes(create(RegisterNodesRequestSchema, { nodes: nodeIds.map(device) }));

async function setPower(clients: Clients, nodeId: string, value: number): Promise<void> {
  const stream = clients.registry.updateState();
  stream.send(
    create(UpdateStateRequestSchema, {
      frame: { case: "named", value: { seq: 1n, updates: [{ nodeId, key: "power", value: number(value) }] } },
    }),
  );
  for await (const { frame } of stream.responses) if (frame.case === "ack") break;
  stream.cancel();
}

/** attach serves commands for a node; `answer` false leaves them open. */
async function attach(clients: Clients, nodeId: string, answer = true): Promise<{ readonly ran: string[]; stop(): void }> {
  const stream = clients.commands.attachExecutor();
  const ran: string[] = [];
  const attached = Promise.withResolvers<void>();
  stream.send(create(AttachExecutorRequestSchema, { frame: { case: "attach", value: { nodeIds: [nodeId], maxInFlight: 16 } } }));
  const serve = async (): Promise<void> => {
    for await (const { frame } of stream.responses) {
      if (frame.case === "attached") attached.resolve();
      if (frame.case !== "tasks") continue;
      ran.push(...frame.value.tasks.map((task) => `${task.nodeId}=${String(task.value?.kind.value)}`));
      const results = frame.value.tasks.map((task) => ({ taskId: task.taskId, value: task.value! }));
      if (answer) stream.send(create(AttachExecutorRequestSchema, { frame: { case: "results", value: { results } } }));
    }
  };
  serve().catch(() => undefined);
  await attached.promise;
  return { ran, stop: () => stream.cancel() };
}

const execute = (clients: Clients, hubId: string, nodeId: string, value: string, timeoutMs?: number) =>
  clients.commands.execute(
    create(ExecuteRequestSchema, {
      command: { target: { hubId, nodeId }, capability: "state", value: text(value), ...(timeoutMs === undefined ? {} : { timeoutMs }) },
    }),
  );

/** seat is an automation that hands out its hub and writes down what it is told. */
function seat(name: string, told: string[]): Automation & { hub: AutomationHub | undefined } {
  return {
    name,
    hub: undefined,
    onChange(change, hub) {
      this.hub = hub;
      told.push(`${name} ${change.hubId}/${change.nodeId}.${change.key}=${String(change.value)}`);
    },
  };
}

describe("two hubs with an automation", () => {
  let hubs: Hubs;
  let home: Clients;
  let factory: Clients;
  const told: string[] = [];
  const atHome = seat("at-home", told);
  const atFactory = seat("at-factory", told);
  const bridged: string[] = [];
  const outcomes: Promise<CommandOutcome>[] = [];

  beforeAll(async () => {
    hubs = await Hubs.prepare([
      { id: "home", peers: [{ hub: "factory" }] },
      { id: "factory", peers: [{ hub: "home" }] },
    ]);
    await hubs.start("home", {
      automation: {
        name: "at-home",
        onChange: (change, hub) => {
          atHome.onChange(change, hub);
          if (change.hubId === "factory" && change.key === "power" && change.value === 99)
            for (const target of [{ nodeId: "bus-1" }, { nodeId: "lamp-1" }, { hubId: "factory", nodeId: "press-1" }])
              outcomes.push(hub.submit({ ...target, capability: "state", value: { kind: { case: "stringValue", value: "OFF" } } }));
          if (change.value === 666) throw new Error("a broken rule");
        },
      },
      localCommands: (task) => {
        bridged.push(`${task.nodeId}=${String(task.value?.kind.value)}`);
        return { kind: { case: "stringValue", value: "bridged" } };
      },
    });
    await hubs.start("factory", { automation: atFactory });
    home = hubs.clients("home", "gateway-zigbee");
    factory = hubs.clients("factory", "gateway-zigbee");
    await register(home, "bus-1", "lamp-1");
    await register(factory, "press-1");
    await hubs.linked("home", "factory");
    await hubs.linked("factory", "home");
  }, 60_000);
  afterAll(() => hubs?.stop());

  test("S0-25 a local report reaches the own automation first and the federation after it", async () => {
    for (let i = 1; i <= 20; i++) {
      await setPower(factory, "press-1", i);
      await until(`change ${i} at home`, () => told.includes(`at-home factory/press-1.power=${i}`));
      expect(told.indexOf(`at-factory factory/press-1.power=${i}`)).toBeGreaterThanOrEqual(0);
      expect(told.indexOf(`at-factory factory/press-1.power=${i}`)).toBeLessThan(told.indexOf(`at-home factory/press-1.power=${i}`));
    }
  });

  test("S0-26 S0-20 a change at a peer makes an automation run commands at the bridge, at an attached executor and at the peer", async () => {
    const lamp = await attach(home, "lamp-1");
    const press = await attach(factory, "press-1");
    const operator = hubs.clients("home", "operator-admin");
    await until("press-1 taking commands from home", async () => {
      const { result } = await execute(operator, "factory", "press-1", "READY", 1_000);
      return result?.outcome === Outcome.DONE;
    });
    await setPower(factory, "press-1", 99);
    await until("the automation", () => outcomes.length === 3);
    const done = await Promise.all(outcomes);
    expect(done.map(({ outcome }) => outcome)).toEqual([Outcome.DONE, Outcome.DONE, Outcome.DONE]);
    expect(done[0]?.value?.kind.value).toBe("bridged");
    expect([bridged, lamp.ran, press.ran]).toEqual([["bus-1=OFF"], ["lamp-1=OFF"], ["press-1=READY", "press-1=OFF"]]);
    lamp.stop();
    press.stop();
  });

  test("S0-27 forwardToFederation says whether anything was sent", () => {
    const command = { nodeId: "press-1", capability: "state", value: { kind: { case: "stringValue" as const, value: "ON" } } };
    expect(atHome.hub?.forwardToFederation({ ...command, hubId: "factory" })).toBe(true);
    expect(atHome.hub?.forwardToFederation({ ...command, hubId: "nobody" })).toBe(false);
  });

  test("S0-24 a rule that throws stops neither the change nor the hub", async () => {
    await setPower(home, "lamp-1", 666);
    await until("the change at the factory", () => told.includes("at-factory home/lamp-1.power=666"));
    expect(await hubs.federation.hub("home").ops("/readyz", "hub")).toContain("ready");
  });

  test("S0-19 a command that names no deadline has 10 s", async () => {
    const silent = await attach(factory, "press-1", false);
    const operator = hubs.clients("home", "operator-admin");
    const before = systemClock.mono();
    const failure: unknown = await execute(operator, "factory", "press-1", "ON").catch((error: unknown) => error);
    expect(failure).toMatchObject({ failure: { reason: expect.stringMatching(/DEADLINE|UNKNOWN/) } });
    expect(systemClock.mono() - before).toBeGreaterThan(9_500);
    expect(systemClock.mono() - before).toBeLessThan(13_000);
    silent.stop();
  }, 30_000);

  test("each service answers grpc.health.v1, and reflection keeps the access option", async () => {
    const { pki, address } = hubs.federation.hub("home");
    const files = pki.call(hubs.federation.hub("home"), "operator-viewer");
    const material = { ca: [readFileSync(files.ca, "utf8")], cert: readFileSync(files.cert, "utf8"), key: readFileSync(files.key, "utf8") };
    const options = {
      address: address.call(hubs.federation.hub("home"), "discovery"),
      credentials: createPeerCredentials({ hubId: "home", name: "hub" }, material, systemClock),
      clock: systemClock,
    };
    const health = createClient(Health, options);
    for (const service of [
      "",
      "discovery.v1alpha1.Discovery",
      "registry_sync.v1alpha1.RegistrySync",
      "command_forwarding.v1alpha1.CommandForwarding",
      "telemetry.v1alpha1.Telemetry",
      "hub.v1alpha1.Hub",
    ])
      expect(
        (await health.check(create(HealthCheckRequestSchema, { service: service === "" ? "" : `foedus.${service}Service` }))).status,
      ).toBe(Serving.SERVING);
    const reflection = createClient(ServerReflection, options);
    const call = reflection.serverReflectionInfo();
    call.send(
      create(ServerReflectionRequestSchema, {
        messageRequest: { case: "fileContainingSymbol", value: "foedus.command_forwarding.v1alpha1.CommandForwardingService" },
      }),
    );
    call.end();
    for await (const { messageResponse } of call.responses) {
      if (messageResponse.case !== "fileDescriptorResponse") throw new Error(`answered with ${messageResponse.case}`);
      const [file] = messageResponse.value.fileDescriptorProto.map((bytes) => fromBinary(FileDescriptorProtoSchema, bytes));
      const execute = file?.service[0]?.method.find(({ name }) => name === "Execute");
      expect(getExtension(execute!.options!, access).principals).toContain(Principal.OPERATOR);
    }
    health.close();
    reflection.close();
  });
});

describe("a hub by itself", () => {
  let hubs: Hubs | undefined;
  afterEach(async () => {
    await hubs?.stop();
    hubs = undefined;
  });

  test("S0-23 S0-27 without a federation file everything local works and nothing is federated", async () => {
    hubs = await Hubs.prepare([{ id: "home", peers: [], config: { federation_config_path: "" } }]);
    const told: string[] = [];
    const rules = seat("rules", told);
    await hubs.start("home", { automation: rules, localCommands: (task) => task.value });
    const gateway = hubs.clients("home", "gateway-zigbee");
    await register(gateway, "lamp-1");
    await setPower(gateway, "lamp-1", 3);
    await until("the automation", () => told.includes("rules home/lamp-1.power=3"));
    const operator = hubs.clients("home", "operator-admin");
    const { result } = await until("the handler", () => execute(operator, "home", "lamp-1", "ON"));
    expect(result).toMatchObject({ outcome: Outcome.DONE, value: { kind: { value: "ON" } } });
    const command = { nodeId: "lamp-1", capability: "state" };
    expect(rules.hub?.forwardToFederation({ ...command, hubId: "factory" })).toBe(false);
    expect(rules.hub?.forwardToFederation(command)).toBe(false);
    expect((await operator.discovery.listPeers({ $typeName: "foedus.discovery.v1alpha1.ListPeersRequest" })).peers).toEqual([]);
  }, 30_000);

  test("S0-24 S0-11 D-6 peers that never answer are dialled from the start and stop neither hub nor bridge", async () => {
    hubs = await Hubs.prepare([
      { id: "home", peers: [{ hub: "factory" }, { hub: "lab" }] },
      { id: "factory", peers: [{ hub: "home" }] },
      { id: "lab", peers: [{ hub: "home" }] },
    ]);
    await hubs.start("home", { localCommands: (task) => task.value });
    await register(hubs.clients("home", "gateway-zigbee"), "lamp-1");
    const operator = hubs.clients("home", "operator-admin");
    expect((await until("the handler", () => execute(operator, "home", "lamp-1", "ON"))).result?.outcome).toBe(Outcome.DONE);
    const { peers } = await operator.discovery.listPeers({ $typeName: "foedus.discovery.v1alpha1.ListPeersRequest" });
    expect(peers.map((peer) => peer.hubId)).toEqual(["factory", "lab"]);
    expect(peers.some((peer) => peer.state === LinkState.OPERATIONAL)).toBe(false);
    expect((await fetch(`http://${hubs.federation.hub("home").host}:${hubs.running.get("home")!.opsPort}/readyz`)).status).toBe(200);
  }, 30_000);

  test("S4-5 S4-8 a limited peer sees and invokes what the rules of its share say, and nothing else", async () => {
    const open = {
      nodes: [
        { ids: ["open-*"], keys: ["state"] },
        { ids: ["look-*"], invoke: [] },
      ],
      keys: ["*"],
      invoke: ["state"],
    };
    hubs = await Hubs.prepare([
      { id: "home", peers: [{ hub: "factory" }] },
      {
        id: "factory",
        peers: [{ hub: "home", maxTrust: "limited", share: "limited" }],
        config: { registry_sync: { shares: { limited: open } } },
      },
    ]);
    await hubs.start("factory", { localCommands: (task) => task.value });
    await hubs.start("home");
    const factory = hubs.clients("factory", "gateway-zigbee");
    await register(factory, "open-1", "look-1", "secret-1");
    await setPower(factory, "open-1", 5);
    const home = hubs.clients("home", "operator-admin");
    const seen = await until("the shared nodes at home", async () => {
      const { records } = await home.registry.listNodes(create(ListNodesRequestSchema, { filter: { hubIds: ["factory"] } }));
      return records.length === 2 && records;
    });
    expect(seen.map(({ name }) => name?.nodeId).sort()).toEqual(["look-1", "open-1"]);
    const opened = seen.find(({ name }) => name?.nodeId === "open-1");
    expect([opened?.node?.capabilities.map(({ name }) => name), opened?.state]).toEqual([["state"], []]);
    expect((await until("a command", () => execute(home, "factory", "open-1", "ON"))).result?.outcome).toBe(Outcome.DONE);
    for (const [nodeId, reason] of [
      ["look-1", /^(CAPABILITY_ACCESS|NOT_SHARED)$/],
      ["secret-1", /NODE_NOT_FOUND/],
    ] as const)
      await expect(execute(home, "factory", nodeId, "ON")).rejects.toMatchObject({ failure: { reason: expect.stringMatching(reason) } });
  }, 40_000);

  test("S0-12 stop ends commands that wait for a peer, and the links", async () => {
    hubs = await Hubs.prepare([
      { id: "home", peers: [{ hub: "factory" }], config: { stop_grace_ms: 300 } },
      { id: "factory", peers: [{ hub: "home" }] },
    ]);
    const told: string[] = [];
    const rules = seat("rules", told);
    const home = await hubs.start("home", { automation: rules });
    await hubs.start("factory");
    const factory = hubs.clients("factory", "gateway-zigbee");
    await register(factory, "press-1");
    await hubs.linked("home", "factory");
    const executor = await attach(factory, "press-1", false);
    await setPower(factory, "press-1", 1);
    await until("the automation", () => rules.hub !== undefined);
    const value = { kind: { case: "stringValue" as const, value: "ON" } };
    const pending = rules.hub!.submit({ hubId: "factory", nodeId: "press-1", capability: "state", value, timeoutMs: 60_000 });
    const outcome = pending.then(
      ({ outcome, failure }) => ({ outcome, reason: failure?.reason }),
      (error: unknown) => error,
    );
    await until("the command at the factory", () => executor.ran.length > 0);
    const before = systemClock.mono();
    await home.stop();
    expect(systemClock.mono() - before).toBeLessThan(8_000);
    expect(await outcome).toMatchObject({ outcome: Outcome.UNKNOWN });
    const operator = hubs.clients("factory", "operator-admin");
    await until("the factory seeing that home is gone", async () => {
      const { peers } = await operator.discovery.listPeers({ $typeName: "foedus.discovery.v1alpha1.ListPeersRequest" });
      return peers[0]?.state !== LinkState.OPERATIONAL;
    });
  }, 40_000);

  test("S0-3 S0-13 S0-22 sync_interval of the federation file is how often heads are told; each hub's nodes are kept apart", async () => {
    hubs = await Hubs.prepare([
      { id: "home", peers: [{ hub: "factory" }] },
      { id: "factory", peers: [{ hub: "home" }] },
    ]);
    for (const hub of hubs.federation.hubs.values()) {
      const file = join(hub.dir, "federation.json");
      writeFileSync(file, JSON.stringify({ ...(JSON.parse(readFileSync(file, "utf8")) as object), sync_interval: 1 }));
      await hubs.start(hub.id);
      await register(hubs.clients(hub.id, "gateway-zigbee"), "lamp-1");
    }
    await hubs.linked("home", "factory");
    const { registry } = hubs.clients("home", "operator-admin");
    const feed = async (hubId: string) =>
      (await registry.listFeeds({ $typeName: "foedus.registry_sync.v1alpha1.ListFeedsRequest" })).feeds.find(
        ({ head }) => head?.hubId === hubId,
      );
    await until("both hubs' nodes", async () => (await feed("factory"))?.nodes === 1 && (await feed("home"))?.nodes === 1);
    // Nothing changes, yet the age falls back once a second: each head that is told proves that nothing is missing.
    const before = systemClock.mono();
    for (let i = 0; i < 3; i++) {
      await until("the age growing", async () => Number((await feed("factory"))?.ageMs) > 600, 3_000);
      await until("a head being told", async () => Number((await feed("factory"))?.ageMs) < 400, 3_000);
    }
    expect(systemClock.mono() - before).toBeLessThan(9_000);
  }, 40_000);
});

describe("a link that an operator ends", () => {
  let hubs: Hubs;
  beforeAll(async () => {
    hubs = await Hubs.prepare([
      { id: "home", peers: [{ hub: "factory" }] },
      { id: "factory", peers: [{ hub: "home" }] },
    ]);
    // Only home dials: factory has no address of it.
    const file = join(hubs.federation.hub("factory").dir, "federation.json");
    const { peers } = JSON.parse(readFileSync(file, "utf8")) as { peers: { host?: string; port?: number }[] };
    writeFileSync(file, JSON.stringify({ peers: peers.map(({ host: _host, port: _port, ...peer }) => peer) }));
    await hubs.start("home");
    await hubs.start("factory");
    await hubs.linked("home", "factory");
    await hubs.linked("factory", "home");
  }, 60_000);
  afterAll(() => hubs?.stop());

  test("F-24 the peer that dialled is told on every session, and is not dialled by a hub that has no address of it", async () => {
    const at = async (id: string, peer: string) => {
      const { peers } = await hubs
        .clients(id, "operator-admin")
        .discovery.listPeers({ $typeName: "foedus.discovery.v1alpha1.ListPeersRequest" });
      return peers.find(({ hubId }) => hubId === peer);
    };
    expect((await at("home", "factory"))?.sessions.map(({ dialer }) => dialer)).toEqual(withSessions().map(() => "home"));
    await hubs
      .clients("factory", "operator-admin")
      .discovery.setPeerEnabled({ $typeName: "foedus.discovery.v1alpha1.SetPeerEnabledRequest", hubId: "home", enabled: false });
    const told = new Map<string, Set<number>>();
    await until("the word of factory on all sessions", async () => {
      for (const { service, failure } of (await at("home", "factory"))?.sessions ?? [])
        told.set(service, (told.get(service) ?? new Set()).add(failure?.reason ?? 0));
      return [...told.values()].every((reasons) => reasons.has(ErrorReason.TERMINATED));
    });
    expect([...told.keys()].sort()).toEqual(withSessions().sort());
  });
});
