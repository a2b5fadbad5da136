// Measures the adapter under load: devices at a real broker, hub A with the adapter, hub B with a watcher. `node test/mqtt/load.ts [options]`
// prints one JSON line: how many state messages were sent, in which time, how late the watcher saw them, and whether the last value of
// each device arrived.
import { parseArgs } from "node:util";
import type { MqttClient } from "mqtt";
import { systemClock } from "#channel/clock.ts";
import { sleep } from "#runtime/clock.ts";
import { Hub, type Mirror, NO_SLOT, numbersOf } from "../../clients/typescript/index.ts";
import { cpuDuring } from "../bench/measure.ts";
import { Federation, ROOT, until } from "../support/federation.ts";
import { Bridge, type Z2mDevice } from "./bridge.ts";
import { Mosquitto } from "./mosquitto.ts";

/** Load is what is sent. */
export interface Load {
  readonly devices: number;
  readonly perSecond: number;
  readonly seconds: number;
  /** Messages that the broker gives the adapter before it must say that it has them; mosquitto's own default is 20. */
  readonly inFlight: number;
  /** Arguments of node before the verb: the sources, or a bundle. */
  readonly entry?: readonly string[];
}

/** Seen is what came of it. Latencies are from the call that publishes to the callback of the watcher, ms. */
export interface Seen {
  readonly sent: number;
  readonly sentPerSecond: number;
  readonly arrived: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
  /** Devices whose last value is not at the second hub. */
  readonly wrong: number;
}

const TURN_MS = 5;
const WARM_SECONDS = 5;

const device = (n: number): Z2mDevice => ({
  ieee_address: `0x${(0x00158d0000000000n + BigInt(n)).toString(16).padStart(16, "0")}`,
  friendly_name: `sensor-${n}`,
  type: "EndDevice",
  definition: {
    model: "T1",
    vendor: "Acme",
    description: "A sensor",
    exposes: [{ type: "numeric", name: "temperature", property: "temperature", access: 1, unit: "°C" }],
  },
});

/** Measured is that, with what it cost: microseconds of processor time per message, by process. */
export interface Measured extends Seen {
  readonly cpuUs: Readonly<Record<string, number>>;
}

/** measure runs a load on hubs and a broker of its own. */
export async function measure({ devices, perSecond, seconds, inFlight, entry }: Load): Promise<Measured> {
  const broker = await Mosquitto.start({ lines: [`max_inflight_messages ${inFlight}`, "max_queued_messages 0"] });
  const mqtt = {
    enabled: true,
    broker: broker.url,
    plaintext: true,
    in_flight: inFlight,
    cert: "pki/gateway-zigbee.pem",
    key: "pki/gateway-zigbee.key",
  };
  const adapters = { mqtt: { ...mqtt, zigbee2mqtt: { ask_per_second: 0 } } };
  const hubs = [
    { id: "a", peers: [{ hub: "b" }], config: { adapters } },
    { id: "b", peers: [{ hub: "a" }] },
  ];
  const federation = await Federation.start({ hubs, logLevel: "warn", ...(entry === undefined ? {} : { entry }) });
  const b = federation.hub("b");
  const hub = await Hub.connect({ address: b.address("registry-sync"), ...b.pki("operator-admin") });
  try {
    await federation.operational(30_000);
    const publisher = await broker.client();
    await new Bridge(publisher).start(Array.from({ length: devices }, (_, n) => device(n)));
    const watcher = new Watcher(hub);
    await until("all devices at the second hub", () => watcher.nodes >= devices, 60_000);
    const adapter = Number(/mqtt pid=(\d+)/.exec(await federation.hub("a").ops("/statusz"))?.[1]);
    const pids = {
      broker: [broker.pid],
      adapter: [adapter],
      "hub A": [...federation.hub("a").pids.values()],
      "hub B": [...b.pids.values()],
      "publisher and watcher": [process.pid],
    };
    const { result, cpu } = await cpuDuring(pids, () => watcher.measure(publisher, { devices, perSecond, seconds, inFlight }));
    const messages = result.sent + WARM_SECONDS * perSecond;
    const cpuUs = Object.fromEntries(Object.entries(cpu).map(([name, used]) => [name, Math.round((used / messages) * 1e6)]));
    return { ...result, cpuUs };
  } finally {
    hub.close();
    await federation.stop();
    await broker.stop();
  }
}

/** Watcher follows hub A at hub B: each value is the number of its message, so that it is known when that was sent. */
class Watcher {
  readonly #mirror: Mirror;
  readonly #sentAt: number[] = [];
  readonly #late: number[] = [];
  #newest = 0;
  /** Messages up to this one are not counted. */
  #from = 0;

  constructor(hub: Hub) {
    this.#mirror = hub.watch({
      hubIds: ["a"],
      onBatch: (_feed, batch, slots) => {
        const now = systemClock.mono();
        const numbers = numbersOf(batch);
        for (let i = 0; i < batch.numCount; i++) {
          const at = slots[i] === NO_SLOT ? undefined : this.#sentAt[numbers[i] as number];
          if (at !== undefined && (numbers[i] as number) > this.#from) this.#late.push(now - at);
        }
      },
    });
  }

  get nodes(): number {
    let nodes = 0;
    for (const { table } of this.#mirror.feeds()) nodes += table.size;
    return nodes;
  }

  async measure(publisher: MqttClient, { devices, perSecond, seconds }: Load): Promise<Seen> {
    // A start that is not counted: the code is not compiled yet.
    await this.#send(publisher, devices, perSecond, WARM_SECONDS);
    this.#from = this.#newest;
    this.#late.length = 0;
    const started = systemClock.mono();
    await this.#send(publisher, devices, perSecond, seconds);
    const took = systemClock.mono() - started;
    const sent = this.#newest - this.#from;
    await until("the last values", () => this.#wrong(devices) === 0, 10_000).catch(() => undefined);
    const late = Float64Array.from(this.#late).sort();
    const at = (part: number): number =>
      Math.round((late[Math.min(late.length - 1, Math.floor(late.length * part))] ?? Number.NaN) * 10) / 10;
    return {
      sent,
      sentPerSecond: Math.round((sent / took) * 1_000),
      arrived: late.length,
      p50Ms: at(0.5),
      p99Ms: at(0.99),
      maxMs: at(1),
      wrong: this.#wrong(devices),
    };
  }

  async #send(publisher: MqttClient, devices: number, perSecond: number, seconds: number): Promise<void> {
    const started = systemClock.mono();
    const pending = new Set<Promise<unknown>>();
    for (let done = 0, total = perSecond * seconds; done < total; ) {
      const due = Math.min(total, Math.floor(((systemClock.mono() - started) / 1_000) * perSecond));
      for (; done < due; done++) {
        const number = ++this.#newest;
        this.#sentAt[number] = systemClock.mono();
        const one = publisher.publishAsync(`zigbee2mqtt/sensor-${number % devices}`, `{"temperature":${number}}`, { qos: 1 });
        pending.add(one);
        void one.finally(() => pending.delete(one));
      }
      await sleep(systemClock, TURN_MS);
    }
    await Promise.all(pending);
  }

  #wrong(devices: number): number {
    let wrong = 0;
    for (let n = 0; n < devices; n++) {
      const last = this.#newest - ((this.#newest - n) % devices);
      const said = this.#mirror.state("a", `sensor-${n}`).find(({ key }) => key === "temperature")?.value;
      if (last > 0 && last <= this.#newest && said !== last) wrong++;
    }
    return wrong;
  }
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      devices: { type: "string", default: "2000" },
      rate: { type: "string", default: "5000" },
      seconds: { type: "string", default: "20" },
      "in-flight": { type: "string", default: "1000" },
      bundle: { type: "boolean", default: false },
    },
  });
  const load = {
    devices: Number(values.devices),
    perSecond: Number(values.rate),
    seconds: Number(values.seconds),
    inFlight: Number(values["in-flight"]),
  };
  const seen = await measure(values.bundle ? { ...load, entry: [`${ROOT}/dist/foedus.mjs`] } : load);
  process.stdout.write(`${JSON.stringify({ ...load, ...seen })}\n`);
}
