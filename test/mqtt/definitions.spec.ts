// Every device definition that Zigbee2MQTT has: as the list of a bridge, through a real broker, to a real hub.
import { create } from "@bufbuild/protobuf";
import { afterAll, beforeAll, expect, test } from "vitest";
import { NodeSchema } from "#gen/foedus/common/v1/node_pb.ts";
import { ListNodesRequestSchema } from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import { exposedBy, type Key } from "../../adapters/mqtt/zigbee2mqtt/exposes.ts";
import { VALUE_TYPE } from "../../clients/typescript/index.ts";
import { valueOfPlain } from "../../clients/typescript/plain.ts";
import { type Defined, loadDefinitions, loadInventory } from "../demo/inventory.ts";
import { execute, get, stateOf, text } from "../support/acts.ts";
import { type Clients, Federation, until } from "../support/federation.ts";
import { AdapterProcess } from "./adapter-process.ts";
import { Bridge } from "./bridge.ts";
import { Mosquitto, NO_BROKER } from "./mosquitto.ts";

let all: readonly Defined[];
let broker: Mosquitto;
let federation: Federation;
let adapter: AdapterProcess;
let bridge: Bridge;
let home: Clients;

beforeAll(async () => {
  all = await loadDefinitions();
  broker = await Mosquitto.start({ lines: ["max_queued_messages 0"] });
  federation = await Federation.start({ hubs: [{ id: "home", peers: [] }] });
  home = federation.hub("home").clients();
  adapter = new AdapterProcess(federation.hub("home"), { broker: broker.url, plaintext: true, zigbee2mqtt: { ask_per_second: 0 } });
  await adapter.start();
  bridge = new Bridge(await broker.client());
});
afterAll(async () => {
  await adapter?.end("SIGTERM");
  await federation?.stop();
  await broker?.stop();
});

const nameOf = (n: number): string => `device-${n}`;

test.skipIf(NO_BROKER)("each feature becomes the capability that another reader of the same definitions makes of it", async () => {
  const { nodes } = await loadInventory();
  expect(nodes.length).toBe(all.length);
  expect(all.length).toBeGreaterThanOrEqual(4_516);
  const shape = (capabilities: readonly { name?: string; type?: number; readable?: boolean; invocable?: boolean }[]) =>
    capabilities.map(({ name, type, readable, invocable }) => `${name} ${type} ${readable ?? false} ${invocable ?? false}`).sort();
  const different = all.flatMap(({ definition, exposes }, at) => {
    const ours = create(NodeSchema, { capabilities: [...exposedBy(exposes).keys.values()].map(({ capability }) => capability) });
    const [a, b] = [shape(ours.capabilities), shape(nodes[at]!.capabilities)];
    return a.join() === b.join()
      ? []
      : [`${definition.model}: ${a.filter((one) => !b.includes(one))} instead of ${b.filter((one) => !a.includes(one))}`];
  });
  expect(different).toEqual([]);
  expect(all.flatMap(({ exposes }) => exposedBy(exposes).unmapped)).toEqual([]);
});

test.skipIf(NO_BROKER)("all of them appear as nodes", { timeout: 180_000 }, async () => {
  const devices = all.map(({ definition: { model, vendor, description }, exposes }, n) => ({
    ieee_address: `0x${n.toString(16).padStart(16, "0")}`,
    friendly_name: nameOf(n),
    type: "Router",
    definition: { model, vendor, description, exposes },
  }));
  await bridge.start(devices);
  const total = async () =>
    (await home.registry.listNodes(create(ListNodesRequestSchema, { filter: { hubIds: ["home"] }, pageSize: 1 }))).total;
  await until("all nodes", async () => (await total()) === all.length, 150_000);
  expect(adapter.status.counts["refused"] ?? 0).toBe(0);
});

/** valueFor is a value that a key may be told, and what it reports. */
function valueFor({
  capability: { type, min, max, allowed = [] },
}: Key): { readonly plain: string | number | boolean; readonly wire: unknown } | undefined {
  if (type === VALUE_TYPE.BOOL) return { plain: true, wire: true };
  if (type === VALUE_TYPE.DOUBLE) return { plain: min ?? max ?? 1, wire: min ?? max ?? 1 };
  const word = allowed[0];
  return type === VALUE_TYPE.STRING && word !== undefined ? { plain: word, wire: word } : undefined;
}

test.skipIf(NO_BROKER)("each kind of access, of each type, goes there and back", { timeout: 120_000 }, async () => {
  const samples = new Map<string, { readonly n: number; readonly key: Key }>();
  for (const [n, { exposes }] of all.entries())
    for (const key of exposedBy(exposes).keys.values()) {
      const { reported, settable, gettable, capability } = key;
      const kind = `${capability.type} ${reported ? "state" : ""} ${settable ? "set" : ""} ${gettable ? "get" : ""}`;
      if (!samples.has(kind) && valueFor(key) !== undefined && !key.wire.has("inverted")) samples.set(kind, { n, key });
    }
  // Of a number, a yes-or-no and a word: read, set, both, and asked for.
  expect(samples.size).toBeGreaterThanOrEqual(10);
  for (const { n, key } of samples.values()) {
    const { name, type } = key.capability;
    const { plain, wire } = valueFor(key)!;
    if (key.settable) {
      const { result } = await execute(home, "home", nameOf(n), name, valueOfPlain(plain)!);
      expect(result?.value?.kind.value).toBe(plain);
      // What reports nothing is done when the broker has it, which may be before the bridge has.
      await until(`${nameOf(n)} being told`, () => bridge.asked.some((line) => line.startsWith(`${nameOf(n)}/set {"${name}":`)));
    } else {
      await expect(execute(home, "home", nameOf(n), name, valueOfPlain(plain)!)).rejects.toMatchObject({ reason: "CAPABILITY_ACCESS" });
      await bridge.say(nameOf(n), { [name]: wire });
    }
    if (key.reported) await until(`${name} (${type}) of ${n}`, async () => stateOf(await get(home, "home", nameOf(n)), name) === plain);
    if (!key.gettable) continue;
    const { result } = await execute(home, "home", nameOf(n), "source:refresh", text(name));
    expect(result?.value?.kind.value).toBe(name);
  }
});
