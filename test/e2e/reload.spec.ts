// What an operator changes in files while hubs run: shares, revoked certificates, the CA.

import { X509Certificate } from "node:crypto";
import { copyFileSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { afterEach, describe, expect, test } from "vitest";
import { systemClock } from "#channel/clock.ts";
import { ListEventsRequestSchema } from "#gen/foedus/telemetry/v1alpha1/telemetry_service_pb.ts";
import { writePki } from "../../certs/issue.ts";
import { type ExecutorClient, Hub } from "../../clients/typescript/index.ts";
import { execute, get, isOperational, lamp, peer, register, text } from "../support/acts.ts";
import { type Clients, Federation, type HubProcess, type HubSpec, until } from "../support/federation.ts";

let federation: Federation | undefined;
let executor: ExecutorClient | undefined;
afterEach(async () => {
  executor?.close();
  await federation?.stop();
  federation = executor = undefined;
}, 30_000);

/** edit changes a JSON file of a hub. */
function edit(hub: HubProcess, name: string, change: (value: Record<string, unknown>) => object): void {
  const file = join(hub.dir, name);
  writeFileSync(file, JSON.stringify(change(JSON.parse(readFileSync(file, "utf8")) as Record<string, unknown>)));
}

const hangUp = (hub: HubProcess): void => {
  for (const pid of hub.pids.values()) process.kill(pid, "SIGHUP");
};

const reasonOf = (call: Promise<unknown>): Promise<string> =>
  call.then(
    () => "DONE",
    (error: { failure?: { reason?: string } }) => error.failure?.reason ?? String(error),
  );

const eventsOf = async (clients: Clients, word: string): Promise<number> => {
  const { events } = await clients.telemetry.listEvents(create(ListEventsRequestSchema, { pageSize: 500 }));
  return events.filter((event) => event.text.includes(word)).length;
};

async function start(...hubs: readonly HubSpec[]): Promise<Federation> {
  federation = await Federation.start({ hubs });
  return federation;
}

describe.each(["single", "split"] as const)("a running hub follows its configuration, %s mode", (mode) => {
  test("S4-5 D-11 a right to invoke that is taken away is gone at SIGHUP; a rule for what is shown reaches the peer; a bad file changes nothing", async () => {
    const shares = (invoke: readonly string[], ...nodes: string[]) => ({ shares: { limited: { nodes, invoke } } });
    const hubs = await start(
      { id: "home", peers: [{ hub: "factory" }] },
      {
        id: "factory",
        mode,
        peers: [{ hub: "home", maxTrust: "limited", share: "limited" }],
        config: { registry_sync: shares(["state"], "open-*") },
      },
    );
    await hubs.operational();
    const [factory, home] = [hubs.hub("factory"), hubs.hub("home").clients()];
    const [gateway, operator] = [factory.clients("gateway-zigbee"), factory.clients()];
    await register(gateway, lamp("open-1"), lamp("more-1"));
    executor = Hub.over(gateway).serve({ nodeIds: ["open-1"], run: ({ value }) => ({ value }) });
    const invoke = (): Promise<string> => reasonOf(execute(home, "factory", "open-1", "state", text("ON"), 2_000));
    await until("a command", async () => (await invoke()) === "DONE");
    expect(await reasonOf(get(home, "factory", "more-1"))).toBe("NODE_NOT_FOUND");

    const configured = () => operator.hub.getConfig({ $typeName: "foedus.hub.v1alpha1.GetConfigRequest" });
    edit(factory, "hub.json", (config) => ({ ...config, registry_sync: { shares: { limited: { nodes: 3 } } } }));
    const { json, problem } = await configured();
    expect(problem).toContain("registry_sync.shares.limited.nodes: ");
    expect(JSON.parse(json)).toMatchObject({ registry_sync: shares(["state"], "open-*") });
    hangUp(factory);
    await until("the complaint", async () => (await eventsOf(operator, "is not valid; what was in force stays")) > 0);
    expect(await invoke()).toBe("DONE");

    edit(factory, "hub.json", (config) => ({ ...config, registry_sync: shares([], "open-*", "more-*"), log: { level: "debug" } }));
    hangUp(factory);
    // Both what the peer is told of the node and what the owner answers: either may come first.
    await until("the refusal", async () => /^(NOT_SHARED|CAPABILITY_ACCESS)$/.test(await invoke()), 5_000);
    await until("the other node", async () => (await reasonOf(get(home, "factory", "more-1"))) === "DONE", 5_000);
    const now = await configured();
    expect(now.problem).toBe("");
    expect(JSON.parse(now.json)).toMatchObject({ log: { level: "debug" }, registry_sync: { shares: { limited: { invoke: [] } } } });
    await until("lines at the new level", () => factory.log(mode === "split" ? "discovery" : "hub").includes('"level":"debug"'));

    // Without a signal it is seen within seconds.
    edit(factory, "hub.json", (config) => ({ ...config, registry_sync: shares(["state"], "open-*"), data_dir: "elsewhere" }));
    await until("the right again", async () => (await invoke()) === "DONE", 8_000);
    await until("the word that one field waits", async () => (await eventsOf(operator, "waits for the next start: data_dir")) > 0);

    edit(factory, "hub.json", (config) => ({ ...config, rates: { cheap: { per_second: 1, burst: 5 } } }));
    hangUp(factory);
    const listed = (): Promise<string> =>
      reasonOf(operator.discovery.listPeers({ $typeName: "foedus.discovery.v1alpha1.ListPeersRequest" }));
    await until("too many calls of one caller", async () =>
      (await Promise.all(Array.from({ length: 10 }, listed))).includes("RATE_LIMITED"),
    );
    expect(await invoke()).toBe("DONE");
  }, 90_000);
});

describe("D-15 a certificate that was stolen", () => {
  test.each([
    ["the revoked hub dials", { reachable: false }, {}],
    ["the revoking hub dials", {}, { reachable: false }],
  ])(
    "its sessions end within two seconds, and it is let in with another certificate only: %s",
    async (_name, ofFactory, ofHome) => {
      const hubs = await start(
        { id: "home", peers: [{ hub: "factory" }], ...ofHome },
        { id: "factory", peers: [{ hub: "home" }], ...ofFactory, config: { discovery: { backoff_max_ms: 1_000 } } },
      );
      await hubs.operational();
      const [home, factory] = [hubs.hub("home"), hubs.hub("factory")];
      const [homeClients, factoryClients] = [home.clients(), factory.clients()];
      const { cert } = factory.pki("service-hub");
      const stolen = new X509Certificate(readFileSync(cert, "utf8")).fingerprint256;
      type Peers = { readonly peers: readonly object[] };
      const down = async (clients: Clients, hubId: string): Promise<boolean> =>
        (await peer(clients, hubId)).sessions.every(({ state }) => state !== 5) && !(await isOperational(clients, hubId));
      const at = systemClock.mono();
      edit(home, "federation.json", (file) => ({
        ...file,
        peers: (file as unknown as Peers).peers.map((one) => ({ ...one, revoked: [stolen] })),
      }));
      await until("the end of the link", async () => (await down(homeClients, "factory")) && (await down(factoryClients, "home")), 10_000);
      // Two seconds on a machine that has time; a busy one gets more.
      expect(systemClock.mono() - at).toBeLessThan(5_000);
      expect((await peer(homeClients, "factory")).revokedSha256).toEqual([stolen.replaceAll(":", "").toLowerCase()]);

      // Each side tries again and again, and is told why not.
      const why = async (): Promise<string> =>
        (await Promise.all([peer(homeClients, "factory"), peer(factoryClients, "home")])).map(({ failure }) => failure?.message).join(" ");
      await until("a refusal with its reason", async () => /revoked/.test(await why()), 15_000);
      expect(await isOperational(homeClients, "factory")).toBe(false);

      const { leaves } = { leaves: [{ profile: "service" as const, name: "hub", ips: [factory.host] }] };
      await writePki(factory.pkiDir, "factory", { now: new Date(systemClock.wall()), leaves, force: true });
      hangUp(factory);
      await hubs.operational(60_000);
    },
    120_000,
  );
});

describe("D-10 the CA of a hub in split mode is replaced while it runs", () => {
  test("its processes reach each other under the new one as well, also those that are started again", async () => {
    const hubs = await start({ id: "home", mode: "split", peers: [] });
    const home = hubs.hub("home");
    const ca = home.pki("ca").ca;
    const old = readFileSync(ca, "utf8");
    // The new authority is made elsewhere, as an operator does.
    const next = join(home.dir, "pki-next");
    const names = [...home.pids.keys()];
    const leaves = names.map((name) => ({ profile: "service" as const, name, ips: [home.host] }));
    await writePki(next, "home", {
      now: new Date(systemClock.wall()),
      leaves: [...leaves, { profile: "operator", name: "admin", role: "admin" }],
    });
    writeFileSync(ca, old + readFileSync(join(next, "ca.pem"), "utf8"));
    hangUp(home);
    await until("the CA set alone being taken", () => names.every((name) => home.log(name).includes("CA certificates replaced")));
    for (const name of names)
      for (const end of ["key", "pem"]) copyFileSync(join(next, `service-${name}.${end}`), join(home.pkiDir, `service-${name}.${end}`));
    hangUp(home);
    await until("the new certificates", () => names.every((name) => home.log(name).includes("certificate replaced")));

    // New connections to it are the proof: telemetry takes events only over them.
    await home.end("SIGTERM", "telemetry");
    home.startProcess("telemetry");
    await home.ready("telemetry");
    const operator = home.clients();
    edit(home, "hub.json", (config) => ({ ...config, log: { level: "debug" } }));
    await until("events of each process", async () => (await eventsOf(operator, "was read again; in force now: log.level")) >= 4, 20_000);
  }, 120_000);
});
