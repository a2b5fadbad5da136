// New certificates written into place while calls run: nothing fails, new connections show the new one, sessions move over.

import { X509Certificate } from "node:crypto";
import { cpSync, mkdirSync, readdirSync, readFileSync, renameSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { connect } from "node:tls";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { systemClock } from "#channel/clock.ts";
import { writePki } from "../../certs/issue.ts";
import { type ExecutorAnswer, type ExecutorClient, type ExecutorTask, Hub } from "../../clients/typescript/index.ts";
import { get, isOperational, lamp, peer, register, stateOf } from "../support/acts.ts";
import { type Clients, Federation, type HubProcess, SERVICES, until } from "../support/federation.ts";

/** How often the hubs look at their files, ms. */
const RELOAD_MS = 200;

type Mode = "single" | "split";

/** How new certificates come: written over the old ones, or as a mounted secret is changed, by swapping the link to a folder. */
type Delivery = "files" | "mounted secret";

/** mount puts a hub's files behind a link, as Kubernetes mounts a secret. */
function mount(hub: HubProcess): void {
  const first = `${hub.pkiDir}-0`;
  renameSync(hub.pkiDir, first);
  mkdirSync(hub.pkiDir, { mode: 0o700 });
  symlinkSync(first, join(hub.pkiDir, "..data"));
  for (const file of readdirSync(first)) symlinkSync(join("..data", file), join(hub.pkiDir, file));
}

let renewals = 0;

/** renew issues new keys and certificates for all processes of a hub and delivers them. */
async function renew(hub: HubProcess, delivery: Delivery): Promise<void> {
  const dir = delivery === "files" ? hub.pkiDir : `${hub.pkiDir}-${++renewals}`;
  if (delivery === "mounted secret") cpSync(join(hub.pkiDir, "..data"), dir, { recursive: true, dereference: true });
  await writePki(dir, hub.id, {
    now: new Date(systemClock.wall()),
    leaves: leavesOf(hub).map((name) => ({ profile: "service", name, ips: [hub.host] })),
    force: true,
  });
  if (delivery === "files") return;
  const link = join(hub.pkiDir, "..data_tmp");
  symlinkSync(dir, link);
  renameSync(link, join(hub.pkiDir, "..data"));
}

/** leavesOf names the certificates that a hub's processes show. */
const leavesOf = (hub: HubProcess): readonly string[] => (hub.split ? SERVICES : ["hub"]);

describe.each<[Mode, Delivery]>([
  ["single", "files"],
  ["single", "mounted secret"],
  ["split", "mounted secret"],
])("D-13 certificates renewed under load, %s mode, %s", (mode, delivery) => {
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
        { id: "home", mode, reachable: false, peers: [{ hub: "factory" }] },
        { id: "factory", mode, peers: [{ hub: "home" }] },
      ],
    });
    for (const hub of federation.hubs.values()) {
      const file = join(hub.dir, "hub.json");
      const config = JSON.parse(readFileSync(file, "utf8")) as { tls: object };
      writeFileSync(file, JSON.stringify({ ...config, tls: { ...config.tls, reload_ms: RELOAD_MS } }));
      if (delivery === "mounted secret") mount(hub);
    }
    await Promise.all([...federation.hubs.values()].map((hub) => hub.start()));
    await federation.operational();
    home = federation.hub("home").clients();
    factory = federation.hub("factory").clients();
    gateway = federation.hub("factory").clients("gateway-zigbee");
    await register(gateway, lamp("lamp-1"));
    executor = Hub.over(gateway).serve({ nodeIds: ["lamp-1"], run: record });
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
    const hub = Hub.over(home);
    const one = { hubId: "factory", nodeId: "lamp-1", capability: "state", value: "ON", timeoutMs: 5_000 };
    while (!stopped) {
      const { outcome, failure } = await hub.execute(one);
      if (outcome !== "DONE") failures.push(`command: ${outcome} ${failure?.reason} ${failure?.message}`);
      else answered++;
    }
    hub.close();
  }

  /** write sends one change after the other to the factory. */
  async function write(): Promise<void> {
    const updater = Hub.over(gateway).updater({
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

  /** shown are the fingerprints of the certificates that a hub's processes show to new connections. */
  const shown = (hub: HubProcess): Promise<string[]> => Promise.all(leavesOf(hub).map((_, index) => shownAt(hub, hub.basePort + index)));

  function shownAt(hub: HubProcess, port: number): Promise<string> {
    const files = hub.pki("operator-admin");
    const [ca, cert, key] = [files.ca, files.cert, files.key].map((file) => readFileSync(file, "utf8"));
    return new Promise((resolve, reject) => {
      const socket = connect({ host: hub.host, port, ca, cert, key, ALPNProtocols: ["h2"], checkServerIdentity: () => undefined });
      socket.once("secureConnect", () => {
        resolve(socket.getPeerX509Certificate()?.fingerprint256 ?? "");
        socket.destroy();
      });
      socket.once("error", reject);
    });
  }

  const onDisk = (hub: HubProcess): string[] =>
    leavesOf(hub).map((name) => new X509Certificate(readFileSync(hub.pki(`service-${name}`).cert)).fingerprint256);

  /** sessionsUp counts how often a session of each service came up at a hub so far. */
  const sessionsUp = (hub: HubProcess): readonly number[] =>
    ["discovery", "registry-sync", "command-forwarding"].map((service) => {
      const lines = hub.log(hub.split ? service : "hub").split("\n");
      return lines.filter((line) => line.includes('"session is up"') && line.includes(`"service":"${service}"`)).length;
    });

  test.each([
    ["factory, which accepts the sessions: they go on as they are", "factory"],
    ["home, which dials the sessions: each moves to the new certificate", "home"],
  ])(
    "a new key and certificate for %s",
    async (_name, id) => {
      const hub = federation.hub(id);
      const before = onDisk(hub);
      expect(await shown(hub)).toEqual(before);
      const sessions = sessionsUp(hub);
      expect(sessions.every((times) => times > 0)).toBe(true);
      const at = { answered, acknowledged };
      await renew(hub, delivery);
      const renewed = onDisk(hub);
      for (const [index, fingerprint] of renewed.entries()) expect(fingerprint).not.toBe(before[index]);
      await until("new connections showing it", async () => String(await shown(hub)) === String(renewed), 20_000);
      // Hello for the new leaf gives a new token, and every service's session is dialled again with both.
      if (id === "home")
        await until(
          "the sessions moving over",
          () =>
            sessionsUp(hub).every((times, service) => times > (sessions[service] ?? 0)) ||
            Promise.reject(new Error(sessionsUp(hub).join())),
          30_000,
        );
      await until("the load going on", () => answered > at.answered + 50 && acknowledged > at.acknowledged + 50, 30_000);
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
    const [name] = leavesOf(hub);
    const good = onDisk(hub);
    const { key } = hub.pki(`service-${name}`);
    writeFileSync(key, readFileSync(federation.hub("home").pki(`service-${name}`).key), { mode: 0o600 });
    await until("the warning", () => hub.log(name!).includes("certificate on disk not usable, last good one kept"));
    expect(await shown(hub)).toEqual(good);
    expect(await isOperational(home, "factory")).toBe(true);
  });
});
