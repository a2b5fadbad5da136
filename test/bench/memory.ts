// What nodes take in the memory of a hub: an empty one, one with own nodes and those of a peer, and that one after a restart.
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { type Node, NodeSchema } from "#gen/foedus/common/v1/node_pb.ts";
import { ValueType } from "#gen/foedus/common/v1/value_pb.ts";
import { register } from "../support/acts.ts";
import { Federation, type HubProcess, ROOT, until } from "../support/federation.ts";
import { launch } from "./hubs.ts";
import { context, cpuOf, type Row } from "./measure.ts";
import { hubEntry } from "./rig.ts";

/** Nodes of the hub itself, and as many of its peer; MEMORY_NODES names another number. */
const NODES = Number(process.env["MEMORY_NODES"] ?? 100_000);
const PROBE = join(ROOT, "test/bench/heap-probe.ts");
const BATCH = 500;
const WAIT_MS = 900_000;

const ON = { name: "state", type: ValueType.BOOL, readable: true, invocable: true, idempotent: true };
const LEVEL = { type: ValueType.DOUBLE, readable: true, invocable: true, idempotent: true, min: 0, max: 254, step: 1 };
const LINK = { name: "linkquality", type: ValueType.DOUBLE, readable: true, unit: "lqi", min: 0, max: 255 };
const BATTERY = { name: "battery", type: ValueType.DOUBLE, readable: true, unit: "%", min: 0, max: 100 };
const read = (name: string, unit: string) => ({ name, type: ValueType.DOUBLE, readable: true, unit });

/** Models as a building has them: lamps, plugs, sensors, each with what it can do. */
const MODELS = [
  { type: "light", vendor: "Lumen", model: "LX-2 dimmable bulb", capabilities: [ON, { name: "brightness", ...LEVEL }, LINK] },
  {
    type: "light",
    vendor: "Lumen",
    model: "LX-4 white spectrum bulb",
    capabilities: [ON, { name: "brightness", ...LEVEL }, { name: "color_temp", ...LEVEL, min: 153, max: 500 }, LINK],
  },
  { type: "plug", vendor: "Volta", model: "P16 metering plug", capabilities: [ON, read("power", "W"), read("energy", "kWh"), LINK] },
  {
    type: "sensor",
    vendor: "Aer",
    model: "T1 climate sensor",
    capabilities: [read("temperature", "°C"), read("humidity", "%"), BATTERY, LINK],
  },
  {
    type: "sensor",
    vendor: "Aer",
    model: "C1 contact sensor",
    capabilities: [{ name: "contact", type: ValueType.BOOL, readable: true }, BATTERY, LINK],
  },
  {
    type: "climate",
    vendor: "Calor",
    model: "V3 radiator valve",
    capabilities: [
      read("local_temperature", "°C"),
      { name: "occupied_heating_setpoint", ...LEVEL, min: 5, max: 30, step: 0.5, unit: "°C" },
      { name: "system_mode", type: ValueType.STRING, readable: true, invocable: true, idempotent: true, allowed: ["off", "auto", "heat"] },
      BATTERY,
      LINK,
    ],
  },
];
const ROOMS = ["kitchen", "hall", "office", "workshop", "store", "meeting room"];

/** deviceNode is a node of a few capabilities as a gateway registers it, with a name, a place and a serial of its own. */
export function deviceNode(hub: string, index: number): Node {
  const { type, vendor, model, capabilities } = MODELS[index % MODELS.length]!;
  const room = ROOMS[Math.floor(index / MODELS.length) % ROOMS.length]!;
  const floor = Math.floor(index / 5_000);
  return create(NodeSchema, {
    nodeId: `${hub}-0x${(0x158d_0000_0000 + index * 2_654_435).toString(16).padStart(16, "0")}`,
    type,
    name: `${room} ${type} ${index}`,
    vendor,
    description: model,
    labels: { floor: String(floor), room },
    capabilities,
  });
}

/** Use is memory of a process after all garbage was collected, MiB. */
interface Use {
  readonly rss: number;
  readonly heap: number;
  /** Outside of V8's heap: array buffers and the like. */
  readonly external: number;
}

/** useOf asks the probe in a hub. */
async function useOf(hub: HubProcess): Promise<Use> {
  const lines = (): string[] =>
    hub
      .log("hub")
      .split("\n")
      .filter((line) => line.startsWith("heap-probe {"));
  const before = lines().length;
  process.kill(hub.pids.get("hub")!, "SIGUSR2");
  await until("the answer of the heap probe", () => lines().length > before, 60_000);
  const { rss, heapUsed, external } = JSON.parse(lines().at(-1)!.slice("heap-probe ".length)) as NodeJS.MemoryUsage;
  return { rss: rss / 2 ** 20, heap: heapUsed / 2 ** 20, external: external / 2 ** 20 };
}

/** fill registers the nodes of a hub, some at a time, as gateways do. */
async function fill(hub: HubProcess): Promise<void> {
  const clients = hub.clients("gateway-zigbee");
  for (let from = 0; from < NODES; from += BATCH) {
    const nodes = Array.from({ length: Math.min(BATCH, NODES - from) }, (_, i) => deviceNode(hub.id, from + i));
    // On a busy machine a call may come to its deadline; registering the same again changes nothing.
    await until(`nodes ${from} and on at ${hub.id}`, () => register(clients, ...nodes).then(() => true), WAIT_MS);
  }
  clients.close();
}

/** has resolves when a hub has so many nodes of each hub, in its registry and for its commands. */
async function has(hub: HubProcess, nodes: Readonly<Record<string, number>>): Promise<void> {
  await until(
    `the nodes of ${Object.keys(nodes).join(" and ")} at ${hub.id}`,
    async () => {
      const page = await hub.ops("/statusz");
      return Object.entries(nodes).every(([id, count]) => new RegExp(`^ +${id}: ${count} nodes`, "m").test(page));
    },
    WAIT_MS,
  );
}

/** idle resolves when a process has used next to no processor time for a second. */
async function idle(pid: number): Promise<void> {
  let before = Number.NaN;
  let at = 0;
  await until(
    "the hub becoming idle",
    () => {
      if (performance.now() - at < 1_000) return false;
      const now = cpuOf(pid);
      const used = now - before;
      before = now;
      at = performance.now();
      return used < 0.05;
    },
    WAIT_MS,
  );
}

/** memory measures what 100,000 own nodes and 100,000 of a peer take in a hub that runs as the installed command does. */
export async function memory(): Promise<Row[]> {
  const { flags, env } = launch();
  const entry = ["--import", PROBE, ...flags, ...hubEntry()];
  const hub = (id: string, peer: string) => ({ id, env, peers: [{ hub: peer }] });
  const federation = await Federation.start({ hubs: [hub("home", "factory"), hub("factory", "home")], entry, logLevel: "warn" });
  try {
    await federation.operational(60_000);
    const [home, factory] = [federation.hub("home"), federation.hub("factory")];
    const pid = (): number => home.pids.get("hub")!;
    await idle(pid());
    const empty = await useOf(home);
    await fill(home);
    await fill(factory);
    await has(home, { home: NODES, factory: NODES });
    await idle(pid());
    const full = await useOf(home);
    console.error(row("after they came", empty, full));
    home.closeClients();
    await home.end();
    await home.start();
    await has(home, { home: NODES, factory: NODES });
    await federation.operational(60_000);
    await idle(pid());
    const again = await useOf(home);
    return [row("after they came", empty, full), row("after a restart", empty, again)];
  } finally {
    await federation.stop();
  }
}

function row(when: string, empty: Use, full: Use): Row {
  const above = (use: (of: Use) => number): string => (use(full) - use(empty)).toFixed(0);
  const name = `${NODES.toLocaleString("en")} own nodes and as many of a peer, ${when}`;
  const note = `resident memory above that of the empty hub (${empty.rss.toFixed(0)} MiB), all garbage collected; heap ${above(({ heap }) => heap)}, external ${above(({ external }) => external)} MiB`;
  return context("memory", name, `${above(({ rss }) => rss)} MiB`, note);
}
