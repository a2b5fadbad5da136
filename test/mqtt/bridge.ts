// Plays Zigbee2MQTT: the list of its devices, and devices that do what they are told and say so.
import type { MqttClient } from "mqtt";

type State = Record<string, unknown>;

/** Z2mDevice is a device as the list has it; only what tests need. */
export interface Z2mDevice {
  readonly ieee_address: string;
  readonly friendly_name: string;
  readonly type?: string;
  readonly definition: {
    readonly model: string;
    readonly vendor: string;
    readonly description: string;
    readonly exposes: readonly unknown[];
  } | null;
}

/** LAMP is a lamp with all that a lamp has. */
export const LAMP: Z2mDevice = {
  ieee_address: "0x00158d0000000001",
  friendly_name: "lamp",
  type: "Router",
  definition: {
    model: "LED1",
    vendor: "Acme",
    description: "A lamp",
    exposes: [
      {
        type: "light",
        features: [
          { type: "binary", name: "state", property: "state", access: 7, value_on: "ON", value_off: "OFF", value_toggle: "TOGGLE" },
          { type: "numeric", name: "brightness", property: "brightness", access: 7, value_min: 0, value_max: 254 },
        ],
      },
      { type: "numeric", name: "linkquality", property: "linkquality", access: 1, unit: "lqi", value_min: 0, value_max: 255 },
      { type: "enum", name: "effect", property: "effect", access: 2, values: ["blink", "breathe"] },
    ],
  },
};

/** Bridge is a Zigbee2MQTT with its devices. */
export class Bridge {
  readonly #client: MqttClient;
  readonly #base: string;
  readonly states = new Map<string, State>();
  /** Messages to devices, as they came: `name/set payload`. */
  readonly asked: string[] = [];
  /** False: devices do what they are told, and say nothing. */
  reports = true;
  #devices: readonly Z2mDevice[] = [];

  constructor(client: MqttClient, base = "zigbee2mqtt") {
    this.#client = client;
    this.#base = base;
    client.on("message", (topic, payload) => this.#onMessage(topic, payload.toString()));
  }

  /** start lists devices, and answers for them. */
  async start(devices: readonly Z2mDevice[]): Promise<void> {
    await this.#client.subscribeAsync(`${this.#base}/+/set`, { qos: 1 });
    await this.#client.subscribeAsync(`${this.#base}/+/get`, { qos: 1 });
    await this.bridge("online");
    await this.list(devices);
  }

  /** bridge says whether the bridge is there. */
  async bridge(state: "online" | "offline"): Promise<void> {
    await this.#client.publishAsync(`${this.#base}/bridge/state`, JSON.stringify({ state }), { qos: 1, retain: true });
  }

  /** list says which devices there are. */
  async list(devices: readonly Z2mDevice[]): Promise<void> {
    this.#devices = devices;
    const coordinator = { ieee_address: "0x00124b0000000000", type: "Coordinator", friendly_name: "Coordinator", definition: null };
    await this.#client.publishAsync(`${this.#base}/bridge/devices`, JSON.stringify([coordinator, ...devices]), { qos: 1, retain: true });
  }

  /** say publishes a part of a device's state. */
  async say(name: string, state: State | string, retain = false): Promise<void> {
    const text = typeof state === "string" ? state : JSON.stringify(state);
    if (typeof state !== "string") this.states.set(name, { ...this.states.get(name), ...state });
    await this.#client.publishAsync(`${this.#base}/${name}`, text, { qos: 1, retain });
  }

  /** available says whether a device is there. */
  async available(name: string, state: "online" | "offline"): Promise<void> {
    await this.#client.publishAsync(`${this.#base}/${name}/availability`, JSON.stringify({ state }), { qos: 1, retain: true });
  }

  #onMessage(topic: string, text: string): void {
    const [name = "", verb = ""] = topic.slice(this.#base.length + 1).split("/");
    this.asked.push(`${name}/${verb} ${text}`);
    if (!this.reports || !this.#devices.some(({ friendly_name }) => friendly_name === name)) return;
    const asked = JSON.parse(text) as State;
    const known = this.states.get(name) ?? {};
    if (verb === "get") {
      const answer = Object.fromEntries(Object.keys(asked).flatMap((key) => (Object.hasOwn(known, key) ? [[key, known[key]]] : [])));
      void this.say(name, answer);
      return;
    }
    if (asked["state"] === "TOGGLE") asked["state"] = known["state"] === "ON" ? "OFF" : "ON";
    void this.say(name, { ...known, ...asked });
  }
}
