// A household sees and switches a neighbour's shared lamp in its own app: over TLS and MQTT 3.1.1, without loops.
import { pbkdf2Sync } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import type { MqttClient } from "mqtt";
import { afterAll, beforeAll, expect, test } from "vitest";
import { systemClock } from "#channel/clock.ts";
import { ListNodesRequestSchema } from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import { writePki } from "../../certs/issue.ts";
import { Hub, VALUE_TYPE } from "../../clients/typescript/index.ts";
import { metric } from "../support/acts.ts";
import { Federation, until } from "../support/federation.ts";
import { Mosquitto, NO_BROKER } from "./mosquitto.ts";

interface Component {
  readonly platform: string;
  readonly state_topic?: string;
  readonly command_topic?: string;
  readonly payload_on?: string;
}

let broker: Mosquitto;
let federation: Federation;
let neighbour: Hub;
let app: MqttClient;
/** What the broker has retained, as the app sees it. */
const retained = new Map<string, string>();
const ran: string[] = [];

beforeAll(async () => {
  federation = await Federation.prepare({
    hubs: [
      { id: "home", peers: [{ hub: "factory" }] },
      { id: "factory", peers: [{ hub: "home" }] },
    ],
  });
  const home = federation.hub("home");
  const pki = join(federation.dir, "broker-pki");
  await writePki(pki, "broker", { now: new Date(systemClock.wall()), leaves: [{ profile: "service", name: "hub" }] });
  const [cert, key, ca] = [join(pki, "service-hub.pem"), join(pki, "service-hub.key"), join(pki, "ca.pem")];
  const users = join(federation.dir, "users");
  writeFileSync(users, ["alice", "app"].map((user) => `${user}:${hashOf("sesame")}\n`).join(""), { mode: 0o600 });
  broker = await Mosquitto.start({ lines: ["allow_anonymous false", `password_file ${users}`], tls: { cert, key, ca } });
  writeFileSync(join(home.dir, "password"), "sesame\n", { mode: 0o600 });
  const config = JSON.parse(readFileSync(join(home.dir, "hub.json"), "utf8")) as object;
  const mqtt = {
    enabled: true,
    broker: broker.url,
    ca,
    username: "alice",
    password_file: "password",
    version: "3.1.1",
    cert: "pki/gateway-zigbee.pem",
    key: "pki/gateway-zigbee.key",
    publish: { nodes: ["factory/*"] },
  };
  writeFileSync(join(home.dir, "hub.json"), JSON.stringify({ ...config, adapters: { mqtt } }));
  await Promise.all([...federation.hubs.values()].map((hub) => hub.start()));
  await federation.operational();
  const factory = federation.hub("factory");
  neighbour = await Hub.connect({ address: factory.address("registry-sync"), ...factory.pki("gateway-zigbee") });
  app = await broker.client({ username: "app", password: "sesame", ca: readFileSync(ca) });
  app.on("message", (topic, payload) => {
    if (payload.length === 0) retained.delete(topic);
    else retained.set(topic, payload.toString());
  });
  await app.subscribeAsync(["homeassistant/#", "foedus/#"], { qos: 1 });
});
afterAll(async () => {
  neighbour?.close();
  await federation?.stop();
  await broker?.stop();
});

/** hashOf is a password as mosquitto keeps it. */
function hashOf(password: string): string {
  const salt = Buffer.from("twelve bytes");
  return `$7$101$${salt.toString("base64")}$${pbkdf2Sync(password, salt, 101, 64, "sha512").toString("base64")}`;
}

const config = (): { readonly topic: string; readonly components: Readonly<Record<string, Component>> } | undefined => {
  const found = [...retained].find(([topic, text]) => topic.startsWith("homeassistant/device/") && text.includes("Porch lamp"));
  return found === undefined
    ? undefined
    : { topic: found[0], ...(JSON.parse(found[1]) as { components: Readonly<Record<string, Component>> }) };
};

test.skipIf(NO_BROKER)("the neighbour's lamp is a device of the app, with its state, and follows when it is switched there", async () => {
  const updater = neighbour.updater({
    nodes: [
      {
        nodeId: "porch",
        type: "light",
        name: "Porch lamp",
        capabilities: [
          { name: "state", type: VALUE_TYPE.STRING, readable: true, invocable: true, allowed: ["ON", "OFF"] },
          { name: "power", type: VALUE_TYPE.DOUBLE, readable: true, unit: "W" },
          { name: "level", type: VALUE_TYPE.DOUBLE, readable: true, invocable: true, min: 0, max: 10 },
        ],
      },
    ],
  });
  updater.set("porch", "state", "OFF");
  updater.set("porch", "power", 0);
  neighbour.serve({
    nodeIds: ["porch"],
    run: ({ capability, value, callerHubId }) => {
      ran.push(`${callerHubId} ${capability} ${String(value)}`);
      updater.set("porch", capability, value as string);
      return { value };
    },
  });
  const { components } = await until("the lamp in the app", config);
  expect(Object.fromEntries(Object.entries(components).map(([id, { platform }]) => [id, platform]))).toEqual({
    state: "switch",
    power: "sensor",
    level: "number",
  });
  const { state_topic: state = "", command_topic: command = "" } = components["state"] as Component;
  await until("its state", () => retained.get(state) === "OFF");
  const availability = () => [...retained].filter(([topic]) => /^foedus\/.*\/(availability|status)$/.test(topic));
  await until("both being there", () => availability().length === 2);
  expect(availability().map(([, text]) => text)).toEqual(["online", "online"]);
  await app.publishAsync(command, "ON", { qos: 1 });
  await until("what it did", () => retained.get(state) === "ON");
  expect(ran).toEqual(["home state ON"]);
});

test.skipIf(NO_BROKER)("what the app may not ask is not run: retained commands, values that are none, and what only reports", async () => {
  const { components } = config()!;
  const state = components["state"]!.command_topic!;
  const before = await metric(federation.hub("home"), "foedus_adapter_messages_total", { what: "refused" });
  await app.publishAsync(state, "EXPLODE", { qos: 1 });
  await app.publishAsync(components["level"]!.command_topic!, "NaN", { qos: 1 });
  await app.publishAsync(`${components["power"]!.state_topic}/set`, "1", { qos: 1 });
  await until(
    "three refusals",
    async () => (await metric(federation.hub("home"), "foedus_adapter_messages_total", { what: "refused" })) >= before + 3,
  );
  expect(ran).toEqual(["home state ON"]);
});

test.skipIf(NO_BROKER)("nothing comes back as a device of this hub, also when the adapter starts anew", async () => {
  const hub = federation.hub("home");
  const clients = hub.clients();
  const own = async () =>
    (await clients.registry.listNodes(create(ListNodesRequestSchema, { filter: { hubIds: ["home"] } }))).records.length;
  expect(await own()).toBe(0);
  const pid = Number(/mqtt pid=(\d+)/.exec(await hub.ops("/statusz"))?.[1]);
  process.kill(pid, "SIGKILL");
  await until("its will", () => retained.get("foedus/home/status") === "offline");
  await until("its return", () => retained.get("foedus/home/status") === "online");
  expect(await own()).toBe(0);
});

test.skipIf(NO_BROKER)("what the neighbour shares no longer is gone from the broker, with all that was retained of it", async () => {
  const topics = () => [...retained.keys()].filter((topic) => topic.includes("porch") && !topic.endsWith("/set"));
  expect(topics().length).toBeGreaterThan(3);
  await neighbour.deregister("porch");
  await until("nothing left", () => topics().length === 0);
});
