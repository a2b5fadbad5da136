// New certificates written into place while calls run: nothing fails, new connections show the new one, sessions move over.
import { X509Certificate } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { connect } from "node:tls";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { systemClock } from "#runtime/clock.ts";
import { writePki } from "../../certs/issue.ts";
import {
  CommandStream,
  type ExecutorAnswer,
  ExecutorClient,
  type ExecutorTask,
  OUTCOME,
} from "../../services/command-forwarding/client.ts";
import { Updater } from "../../services/registry-sync/client.ts";
import { get, isOperational, lamp, peer, register, stateOf } from "../support/acts.ts";
import { type Clients, Federation, type HubProcess, until } from "../support/federation.ts";

/** How often the hubs look at their files, ms. */
const RELOAD_MS = 200;

describe("D-13 certificates renewed under load", () => {
  let federation: Federation;
  let home: Clients;
  let factory: Clients;
  let gateway: Clients;
  let executor: ExecutorClient;
  const ran: string[] = [];
  /** record is the executor: it notes what ran and answers with its argument. */
  const record = ({ value }: ExecutorTask): ExecutorAnswer => {
    ran.push(String(value));
    return { value };
  };
  const failures: string[] = [];
  let answered = 0;
  let written = 0;
  let acknowledged = 0;
  let stopped = false;
  let load: Promise<unknown>;

  beforeAll(async () => {
    federation = await Federation.prepare({
      hubs: [
        // Home dials all sessions, so it is home's certificate that they rest on.
        { id: "home", reachable: false, peers: [{ hub: "factory" }] },
        { id: "factory", peers: [{ hub: "home" }] },
      ],
    });
    for (const hub of federation.hubs.values()) {
      const file = join(hub.dir, "hub.json");
      const config = JSON.parse(readFileSync(file, "utf8")) as { tls: object };
      writeFileSync(file, JSON.stringify({ ...config, tls: { ...config.tls, reload_ms: RELOAD_MS } }));
    }
    await Promise.all([...federation.hubs.values()].map((hub) => hub.start()));
    await federation.operational();
    home = federation.hub("home").clients();
    factory = federation.hub("factory").clients();
    gateway = federation.hub("factory").clients("gateway-zigbee");
    await register(gateway, lamp("lamp-1"));
    executor = new ExecutorClient(gateway.commands, { nodeIds: ["lamp-1"], run: record });
    await until("lamp-1 at home", () => get(home, "factory", "lamp-1"));
    load = Promise.all([command(), write()]);
    await until("the load", () => answered > 20 && acknowledged > 20);
    // What failed before the executor was there does not count.
    failures.length = 0;
  }, 90_000);

  afterAll(async () => {
    stopped = true;
    await load;
    executor?.close();
    await federation?.stop();
  }, 30_000);

  /** command sends one command after the other from home to the factory. */
  async function command(): Promise<void> {
    const stream = new CommandStream(home.commands);
    const one = { hubId: "factory", nodeId: "lamp-1", capability: "state", value: "ON", timeoutMs: 5_000 };
    while (!stopped) {
      const { outcome, failure } = await stream.execute(one);
      if (outcome !== OUTCOME.DONE) failures.push(`command: ${outcome} ${failure?.reason} ${failure?.message}`);
      else answered++;
    }
    stream.close();
  }

  /** write sends one change after the other to the factory. */
  async function write(): Promise<void> {
    const updater = new Updater(gateway.registry, {
      onRefused: ({ failure }) => failures.push(`update: ${failure.message}`),
      onLink: (failure) => failure !== undefined && !stopped && failures.push(`update stream: ${failure.message}`),
    });
    while (!stopped) {
      updater.set("lamp-1", "power", ++written);
      await updater.drain();
      acknowledged = written;
    }
    updater.close();
  }

  /** shown is the fingerprint of the certificate that a hub shows to a new connection. */
  function shown(hub: HubProcess): Promise<string> {
    const files = hub.pki("operator-admin");
    const [ca, cert, key] = [files.ca, files.cert, files.key].map((file) => readFileSync(file, "utf8"));
    return new Promise((resolve, reject) => {
      const socket = connect({
        host: hub.host,
        port: hub.basePort,
        ca,
        cert,
        key,
        ALPNProtocols: ["h2"],
        checkServerIdentity: () => undefined,
      });
      socket.once("secureConnect", () => {
        resolve(socket.getPeerX509Certificate()?.fingerprint256 ?? "");
        socket.destroy();
      });
      socket.once("error", reject);
    });
  }

  const onDisk = (hub: HubProcess): string => new X509Certificate(readFileSync(hub.pki("service-hub").cert)).fingerprint256;

  /** sessionsUp counts how often a session of each service came up at a hub so far. */
  const sessionsUp = (hub: HubProcess): readonly number[] => {
    const lines = hub
      .log("hub")
      .split("\n")
      .filter((line) => line.includes('"session is up"'));
    return ["discovery", "registry-sync", "command-forwarding"].map(
      (service) => lines.filter((line) => line.includes(`"service":"${service}"`)).length,
    );
  };

  test.each([
    ["factory, which accepts the sessions: they go on as they are", "factory"],
    ["home, which dials the sessions: each moves to the new certificate", "home"],
  ])(
    "a new key and certificate for %s",
    async (_name, id) => {
      const hub = federation.hub(id);
      const before = await shown(hub);
      expect(before).toBe(onDisk(hub));
      const sessions = sessionsUp(hub);
      expect(sessions.every((times) => times > 0)).toBe(true);
      const at = { answered, acknowledged };
      await writePki(hub.pkiDir, id, {
        now: new Date(systemClock.wall()),
        leaves: [{ profile: "service", name: "hub", ips: [hub.host] }],
        force: true,
      });
      const renewed = onDisk(hub);
      expect(renewed).not.toBe(before);
      await until("new connections showing it", async () => (await shown(hub)) === renewed, 10_000);
      // Hello for the new leaf gives a new token, and every service's session is dialled again with both.
      if (id === "home")
        await until(
          "the sessions moving over",
          () =>
            sessionsUp(hub).every((times, service) => times > (sessions[service] ?? 0)) ||
            Promise.reject(new Error(sessionsUp(hub).join())),
          20_000,
        );
      await until("the load going on", () => answered > at.answered + 50 && acknowledged > at.acknowledged + 50, 20_000);
      await until("both links", async () => (await isOperational(home, "factory")) && (await isOperational(factory, "home")));
      expect(failures).toEqual([]);
    },
    60_000,
  );

  test("what was acknowledged meanwhile is there, at both hubs", async () => {
    stopped = true;
    await load;
    expect(stateOf(await get(factory, "factory", "lamp-1"), "power")).toBe(acknowledged);
    await until("the last change at home", async () => stateOf(await get(home, "factory", "lamp-1"), "power") === acknowledged);
    expect((await peer(home, "factory")).failure).toBeUndefined();
    expect(failures).toEqual([]);
  });

  test("a certificate that cannot be used is not taken, and the last good one stays", async () => {
    const hub = federation.hub("factory");
    const good = onDisk(hub);
    const { key } = hub.pki("service-hub");
    writeFileSync(key, readFileSync(federation.hub("home").pki("service-hub").key), { mode: 0o600 });
    await until("the warning", () => hub.log("hub").includes("certificate on disk not usable, last good one kept"));
    expect(await shown(hub)).toBe(good);
    expect(await isOperational(home, "factory")).toBe(true);
  });
});
