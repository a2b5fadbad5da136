import { create } from "@bufbuild/protobuf";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Freshness } from "#gen/foedus/common/v1/value_pb.ts";
import { ListNodesRequestSchema } from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import { execute, get, metric, number, stateOf, text } from "../support/acts.ts";
import { type Clients, Federation, until } from "../support/federation.ts";
import { Bridge, LAMP } from "./bridge.ts";
import { Mosquitto, NO_BROKER } from "./mosquitto.ts";

let broker: Mosquitto;
let federation: Federation;
let bridge: Bridge;
let home: Clients;
let factory: Clients;

beforeAll(async () => {
  broker = await Mosquitto.start();
  const adapters = {
    mqtt: {
      enabled: true,
      broker: broker.url,
      plaintext: true,
      cert: "pki/gateway-zigbee.pem",
      key: "pki/gateway-zigbee.key",
      confirm_ms: 1_000,
      zigbee2mqtt: { ask_per_second: 100 },
    },
  };
  federation = await Federation.start({
    hubs: [
      { id: "home", peers: [{ hub: "factory" }], config: { adapters } },
      { id: "factory", peers: [{ hub: "home" }] },
    ],
  });
  bridge = new Bridge(await broker.client());
  home = federation.hub("home").clients();
  factory = federation.hub("factory").clients();
  await federation.operational();
});
afterAll(async () => {
  await federation?.stop();
  await broker?.stop();
});

const FRESHNESS: Readonly<Record<number, string>> = {
  [Freshness.FRESH]: "FRESH",
  [Freshness.STALE]: "STALE",
  [Freshness.UNKNOWN]: "UNKNOWN",
};
const lamp = (clients: Clients) => get(clients, "home", "lamp");
const shows = (what: string, clients: Clients, wanted: Readonly<Record<string, unknown>>) =>
  until(what, async () => {
    const record = await lamp(clients);
    const seen = Object.fromEntries(
      Object.keys(wanted).map((key) => [key, key === "freshness" ? FRESHNESS[record?.freshness ?? 0] : stateOf(record, key)]),
    );
    if (JSON.stringify(seen) !== JSON.stringify(wanted)) throw new Error(JSON.stringify(seen));
    return true;
  });

test.skipIf(NO_BROKER)(
  "a lamp of Zigbee2MQTT is a node, here and at a peer, its state flows, and a command comes back as the state that confirms it",
  async () => {
    await bridge.start([LAMP]);
    await until("the lamp at home", () => lamp(home));
    await bridge.say("lamp", { state: "OFF", brightness: 10, linkquality: 80 });
    await shows("its state at the factory", factory, { state: "OFF", brightness: 10, linkquality: 80, freshness: "FRESH" });
    const { result } = await execute(factory, "home", "lamp", "state", text("ON"));
    expect(result?.value?.kind.value).toBe("ON");
    expect(bridge.asked).toContain('lamp/set {"state":"ON"}');
    await shows("what it did", factory, { state: "ON" });
    const record = await lamp(factory);
    expect(record?.node?.vendor).toBe("Acme");
    expect(record?.node?.labels).toMatchObject({ source: "zigbee2mqtt/zigbee2mqtt", model: "LED1" });
  },
);

test.skipIf(NO_BROKER)(
  "each kind of access: what cannot be set is refused, what reports nothing is done when it was told, and a value is asked for",
  async () => {
    await expect(execute(home, "home", "lamp", "linkquality", number(3))).rejects.toMatchObject({ reason: "CAPABILITY_ACCESS" });
    await expect(execute(home, "home", "lamp", "brightness", number(999))).rejects.toMatchObject({ reason: "VALUE_OUT_OF_RANGE" });
    expect((await execute(home, "home", "lamp", "effect", text("blink"))).result?.value?.kind.value).toBe("blink");
    expect((await execute(home, "home", "lamp", "source:refresh", text("brightness"))).result?.value?.kind.value).toBe("brightness");
    expect((await execute(home, "home", "lamp", "state", text("TOGGLE"))).result?.value?.kind.value).toBe("OFF");
    expect(bridge.asked).toEqual(
      expect.arrayContaining(['lamp/set {"effect":"blink"}', 'lamp/get {"brightness":""}', 'lamp/set {"state":"TOGGLE"}']),
    );
  },
);

test.skipIf(NO_BROKER)(
  "a device that does not say what it did leaves an unknown outcome, and one that is not available takes no command",
  async () => {
    bridge.reports = false;
    await expect(execute(factory, "home", "lamp", "state", text("ON"))).rejects.toMatchObject({
      reason: "OUTCOME_UNKNOWN",
      message: expect.stringContaining("did not report state as asked within 1000 ms"),
    });
    bridge.reports = true;
    await bridge.available("lamp", "offline");
    await shows("it being away", factory, { freshness: "UNKNOWN" });
    expect((await lamp(factory))?.online).toBe(false);
    await expect(execute(factory, "home", "lamp", "state", text("ON"))).rejects.toMatchObject({ reason: "NODE_OFFLINE" });
    await bridge.available("lamp", "online");
    await shows("it being back", factory, { freshness: "FRESH" });
  },
);

test.skipIf(NO_BROKER)("after the broker was restarted, what it kept is stale until something live confirms it", async () => {
  await bridge.say("lamp", { state: "ON", brightness: 77, linkquality: 90 }, true);
  await shows("its state", factory, { state: "ON", brightness: 77, linkquality: 90, freshness: "FRESH" });
  bridge.reports = false;
  await broker.end();
  await shows("the broker's absence", factory, { freshness: "UNKNOWN" });
  await broker.begin();
  await shows("what was retained", factory, { brightness: 77, freshness: "STALE" });
  expect(JSON.parse(String(stateOf(await lamp(factory), "source:stale")))).toEqual(["brightness", "linkquality", "state"]);
  bridge.reports = true;
  // It asks by itself for what can be asked for; what is only reported comes with the next report.
  await until("being asked", () => bridge.asked.filter((line) => line.startsWith("lamp/get")).length > 1);
  await bridge.say("lamp", { state: "ON", brightness: 77, linkquality: 91 });
  await shows("what is live", factory, { brightness: 77, linkquality: 91, freshness: "FRESH" });
});

test.skipIf(NO_BROKER)("a device that is gone from the list is gone everywhere, and one that is renamed is another node", async () => {
  await bridge.list([{ ...LAMP, friendly_name: "lamp two" }]);
  const names = async (clients: Clients) =>
    (await clients.registry.listNodes(create(ListNodesRequestSchema, { filter: { hubIds: ["home"] } }))).records.map(
      ({ name }) => name?.nodeId,
    );
  await until("the new name", async () => (await names(factory)).join().startsWith("lamp_two-"));
  await bridge.list([]);
  await until("nothing left", async () => (await names(factory)).length === 0);
});

test.skipIf(NO_BROKER)("a hub shows how its adapter fares, and goes on without it", async () => {
  const hub = federation.hub("home");
  await until("its status", async () => /mqtt pid=\d+ hub=up other=up nodes=0/.test(await hub.ops("/statusz")));
  expect(await metric(hub, "foedus_adapter_up", { adapter: "mqtt" })).toBe(1);
  const pid = Number(/mqtt pid=(\d+)/.exec(await hub.ops("/statusz"))?.[1]);
  process.kill(pid, "SIGKILL");
  await until("its end", async () => (await metric(hub, "foedus_adapter_ends_total", { adapter: "mqtt" })) === 1);
  expect((await fetch(`http://${hub.host}:${hub.opsPort("hub")}/readyz`)).ok).toBe(true);
  await until("its return", async () => (await metric(hub, "foedus_adapter_up", { adapter: "mqtt" })) === 1);
});
