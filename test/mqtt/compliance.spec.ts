import { create } from "@bufbuild/protobuf";
import type { MqttClient } from "mqtt";
import { describe } from "vitest";
import { ValueSchema } from "#gen/foedus/common/v1/value_pb.ts";
import { type AdapterWorld, adapterCompliance } from "../compliance/adapter.ts";
import type { HubProcess } from "../support/federation.ts";
import { AdapterProcess } from "./adapter-process.ts";
import { Bridge, type Z2mDevice } from "./bridge.ts";
import { Mosquitto, NO_BROKER } from "./mosquitto.ts";

const LEVEL = "brightness";

const device = (name: string, n: number): Z2mDevice => ({
  ieee_address: `0x${n.toString(16).padStart(16, "0")}`,
  friendly_name: name,
  type: "Router",
  definition: {
    model: "L",
    vendor: "Acme",
    description: "A lamp",
    exposes: [{ type: "numeric", name: LEVEL, property: LEVEL, access: 7, value_min: 0, value_max: 10_000 }],
  },
});

/** world is an adapter between a hub and a Zigbee2MQTT at a real broker. */
function world(version: "5.0" | "3.1.1"): AdapterWorld {
  let broker: Mosquitto;
  let client: MqttClient;
  let bridge: Bridge;
  let adapter: AdapterProcess;
  return {
    name: `MQTT ${version}, Zigbee2MQTT`,
    capability: LEVEL,
    value: (number) => create(ValueSchema, { kind: { case: "doubleValue", value: number } }),
    begin: async () => {
      // A broker drops what it cannot give: by default more than a thousand messages that wait.
      broker = await Mosquitto.start({ lines: ["max_queued_messages 0"] });
      client = await broker.client();
      bridge = new Bridge(client);
      await bridge.start([]);
    },
    start: async (hub: HubProcess) => {
      const zigbee2mqtt = { ask_per_second: 0 };
      adapter ??= new AdapterProcess(hub, { broker: broker.url, plaintext: true, version, confirm_ms: 700, zigbee2mqtt });
      await adapter.start();
    },
    kill: async () => void (await adapter?.end("SIGKILL")),
    stop: () => adapter.end("SIGTERM"),
    end: () => broker.stop(),
    appear: (names) => bridge.list(names.map(device)),
    report: (name, value) => bridge.say(name, { [LEVEL]: value }),
    garbage: async (name) => {
      for (const text of [
        "{",
        "[]",
        "NaN",
        `{"${LEVEL}":"NaN"}`,
        `{"${LEVEL}":9007199254740993}`,
        `{"${LEVEL}":{}}`,
        `{"${LEVEL}":1e999}`,
        '"x"',
      ])
        await client.publishAsync(`zigbee2mqtt/${name}`, text, { qos: 1 });
      await client.publishAsync(`zigbee2mqtt/${name}`, Buffer.from([0xff, 0xfe, 0x00]), { qos: 1 });
      await client.publishAsync(`zigbee2mqtt/${name}`, `{"${LEVEL}":"${"9".repeat(100_000)}"}`, { qos: 1 });
      await client.publishAsync("zigbee2mqtt/bridge/devices", "{ not a list", { qos: 1 });
    },
    obeys: (obeys) => {
      bridge.reports = obeys;
    },
    told: (name) =>
      bridge.asked.flatMap((line) => {
        const [, of, value] = /^(.*)\/set \{"brightness":(\d+)\}$/.exec(line) ?? [];
        return of === name ? [Number(value)] : [];
      }),
    lose: () => broker.end(),
    find: () => broker.begin(),
    refused: () => adapter.status.counts["refused"] ?? 0,
  };
}

describe.skipIf(NO_BROKER)("at a broker", () => {
  adapterCompliance(world("5.0"));
  adapterCompliance(world("3.1.1"));
});
