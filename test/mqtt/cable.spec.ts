// What happens to values when the way to the broker is lost without a word, and when a device says that it is something else.
import type { MqttClient } from "mqtt";
import { afterAll, beforeAll, expect, test } from "vitest";
import { systemClock } from "#channel/clock.ts";
import { Freshness } from "#gen/foedus/common/v1/value_pb.ts";
import { get, stateOf } from "../support/acts.ts";
import { type Clients, Federation, until } from "../support/federation.ts";
import { Relay } from "../support/relay.ts";
import { AdapterProcess } from "./adapter-process.ts";
import { Bridge, LAMP } from "./bridge.ts";
import { Mosquitto, NO_BROKER } from "./mosquitto.ts";

let broker: Mosquitto;
let cable: Relay;
let federation: Federation;
let adapter: AdapterProcess;
let client: MqttClient;
let bridge: Bridge;
let home: Clients;

beforeAll(async () => {
  broker = await Mosquitto.start();
  cable = await Relay.listen({ host: "127.0.0.1", port: 0 }, { host: "127.0.0.1", port: broker.port });
  federation = await Federation.start({ hubs: [{ id: "home", peers: [] }] });
  home = federation.hub("home").clients();
  adapter = new AdapterProcess(federation.hub("home"), {
    broker: `mqtt://127.0.0.1:${cable.port}`,
    plaintext: true,
    keepalive_s: 1,
    zigbee2mqtt: { ask_per_second: 0 },
  });
  await adapter.start();
  client = await broker.client();
  bridge = new Bridge(client);
  await bridge.start([LAMP]);
});
afterAll(async () => {
  await adapter?.end("SIGTERM");
  await federation?.stop();
  await cable?.close();
  await broker?.stop();
});

const shows = (nodeId: string, key: string, value: unknown, freshness: Freshness): Promise<boolean> =>
  until(`${key} being ${String(value)} (${freshness})`, async () => {
    const record = await get(home, "home", nodeId);
    const said = stateOf(record, key);
    if (said !== value || record?.freshness !== freshness) throw new Error(`it is ${String(said)} (${record?.freshness})`);
    return true;
  });

test.skipIf(NO_BROKER)(
  "a cable that is cut is noticed, what was said meanwhile comes late and is stale, and what is live is fresh",
  async () => {
    await bridge.say("lamp", { brightness: 40 });
    await shows("lamp", "brightness", 40, Freshness.FRESH);
    const cut = systemClock.mono();
    cable.set("stall");
    await bridge.say("lamp", { brightness: 50 });
    await bridge.say("lamp", { brightness: 51 });
    await shows("lamp", "brightness", 40, Freshness.UNKNOWN);
    // Within a few times `keepalive_s`, however busy the machine is.
    expect(systemClock.mono() - cut).toBeLessThan(10_000);
    cable.set("pass");
    await shows("lamp", "brightness", 51, Freshness.STALE);
    await bridge.say("lamp", { brightness: 52 });
    await shows("lamp", "brightness", 52, Freshness.FRESH);
  },
);

test.skipIf(NO_BROKER)("a device that announces a value of another type has it from then on", async () => {
  const announce = (more: object) =>
    client.publishAsync(
      "homeassistant/sensor/meter/level/config",
      JSON.stringify({ dev: { ids: ["meter"] }, stat_t: "meter/level", ...more }),
      {
        qos: 1,
        retain: true,
      },
    );
  await announce({});
  await until("the meter", () => get(home, "home", "meter"));
  await client.publishAsync("meter/level", "7", { qos: 1, retain: true });
  await shows("meter", "level", "7", Freshness.FRESH);
  await announce({ unit_of_meas: "l" });
  await client.publishAsync("meter/level", "8", { qos: 1, retain: true });
  await shows("meter", "level", 8, Freshness.FRESH);
  await shows("lamp", "brightness", 52, Freshness.FRESH);
});
