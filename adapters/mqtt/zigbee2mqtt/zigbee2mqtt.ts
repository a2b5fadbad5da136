import { type ExecutorAnswer, type NodeInit, type SetValue, SOURCE_REFRESH, VALUE_TYPE } from "../../../clients/typescript/index.ts";
import { type Confirmations, contains, sameNumber } from "../../shared/confirmations.ts";
import { nodeIdOf, textOf } from "../../shared/node-id.ts";
import { shownAs, sourceCapabilities } from "../../shared/source.ts";
import { Standing } from "../../shared/standing.ts";
import { isTree, isUnreadable, parseJson, readValue } from "../../shared/values.ts";
import { type MappedTask, type Mapping, type Out, plainOf, refuse, shortened } from "../mapping.ts";
import { type Exposed, exposedBy, type Key, typeOf, wireOf } from "./exposes.ts";

/** Zigbee2MqttOptions shape the mapping. */
export interface Zigbee2MqttOptions {
  /** Topics begin with it. */
  readonly base: string;
  /** Ids of nodes begin with it. */
  readonly prefix: string;
  readonly maxNodes: number;
  readonly confirmMs: number;
  /** Devices that are asked for their values in a second, after the broker was reached again. */
  readonly askPerSecond: number;
}

/** A device that is a node. */
interface Device {
  readonly nodeId: string;
  /** As its topics have it. */
  readonly name: string;
  readonly keys: ReadonlyMap<string, Key>;
  readonly standing: Standing;
  /** What was said of it last: who says the same again changes nothing. */
  readonly said: string;
}

/**
 * Zigbee2Mqtt makes nodes of the devices of one Zigbee2MQTT.
 *
 * ZM1 the list of devices is whole: a device that is not in it is gone, and so is its node.
 * ZM2 a command is done when the device has reported what was asked for; a retained or queued message confirms nothing.
 * ZM3 what cannot be read is told and counted, and changes nothing else.
 */
export class Zigbee2Mqtt implements Mapping {
  readonly source: string;
  readonly #o: Zigbee2MqttOptions;
  readonly #out: Out;
  readonly #confirmations: Confirmations;
  /** As many as there may be nodes. */
  #devices = new Map<string, Device>();
  #byName = new Map<string, Device>();
  #connected = false;
  #bridge: boolean | undefined;
  #asking: Device[] = [];
  #askAt = Number.POSITIVE_INFINITY;
  #unmapped = 0;
  #listed = false;

  constructor(options: Zigbee2MqttOptions, out: Out, confirmations: Confirmations) {
    this.source = sourceOf(options.base);
    this.#o = options;
    this.#out = out;
    this.#confirmations = confirmations;
  }

  get settled(): boolean {
    return this.#listed;
  }

  connected(now: number): void {
    this.#connected = true;
    this.#bridge = undefined;
    this.#out.subscribe([`${this.#o.base}/#`]);
    this.#reach(now);
  }

  synced(now: number): void {
    if (this.#o.askPerSecond === 0) return;
    this.#asking = [...this.#devices.values()];
    this.#askAt = now;
  }

  disconnected(now: number): void {
    this.#connected = false;
    this.#asking = [];
    this.#askAt = Number.POSITIVE_INFINITY;
    this.#reach(now);
  }

  take(topic: string, payload: Buffer, live: boolean, now: number): boolean {
    const { base } = this.#o;
    if (!topic.startsWith(`${base}/`)) return false;
    const rest = topic.slice(base.length + 1);
    if (rest === "bridge/devices") this.#list(payload, now);
    else if (rest === "bridge/state") this.#bridgeState(payload, now);
    else if (!rest.startsWith("bridge/")) this.#ofDevice(topic, rest, payload, live, now);
    return true;
  }

  counts(): Readonly<Record<string, number>> {
    return { devices: this.#devices.size, unmapped_features: this.#unmapped };
  }

  deadline(): number {
    return this.#askAt;
  }

  tick(now: number): void {
    if (now < this.#askAt) return;
    const device = this.#asking.shift();
    if (device !== undefined && this.#devices.get(device.nodeId) === device) this.#ask(device);
    this.#askAt = this.#asking.length === 0 ? Number.POSITIVE_INFINITY : now + 1_000 / this.#o.askPerSecond;
  }

  run(task: MappedTask, now: number): Promise<ExecutorAnswer> | ExecutorAnswer | undefined {
    const device = this.#devices.get(task.nodeId);
    if (device === undefined) return undefined;
    if (!device.standing.isThere) return refuse("NODE_OFFLINE", `${task.nodeId} cannot be reached by way of Zigbee2MQTT`);
    if (task.capability === SOURCE_REFRESH) return this.#refresh(device, task, now);
    const key = device.keys.get(task.capability);
    if (key === undefined || !key.settable) return refuse("CAPABILITY_ACCESS", `${task.capability} of ${task.nodeId} cannot be set`);
    const value = typeof task.value === "object" && "json" in task.value ? task.value.json : task.value;
    const read = valueOf(key, value);
    if (isUnreadable(read)) return refuse("VALUE_OUT_OF_RANGE", `${task.capability} of ${task.nodeId}: ${read.problem}`);
    return this.#set(device, key, read, task, now);
  }

  #set(device: Device, key: Key, value: SetValue, { nodeId, capability, timeoutMs }: MappedTask, now: number): Promise<ExecutorAnswer> {
    const { promise, resolve } = Promise.withResolvers<ExecutorAnswer>();
    const { type } = key.capability;
    const wire = wireOf(key, value);
    const forMs = Math.min(this.#o.confirmMs, timeoutMs);
    if (key.reported)
      this.#confirmations.add({ nodeId, key: capability, accepts: (said) => confirms(key, value, wire, said) }, now, forMs, resolve);
    this.#out.publish(`${this.#o.base}/${device.name}/set`, JSON.stringify({ [capability]: wire }), { expiryMs: timeoutMs }, (taken) => {
      // What reports nothing is done as far as anybody can tell.
      if (taken && !key.reported) resolve({ value: plainOf(type, value) });
      if (!taken) resolve({ failure: { reason: "OUTCOME_UNKNOWN", message: "the broker was lost while it was told" } });
    });
    return promise;
  }

  #refresh(device: Device, { nodeId, value, timeoutMs }: MappedTask, now: number): Promise<ExecutorAnswer> | ExecutorAnswer {
    const key = device.keys.get(String(value));
    if (key === undefined || !key.gettable) return refuse("VALUE_OUT_OF_RANGE", `${nodeId} has no value of that name to be asked for`);
    const { promise, resolve } = Promise.withResolvers<ExecutorAnswer>();
    const { name } = key.capability;
    const answer = (done: ExecutorAnswer): void => resolve(done.failure === undefined ? { value: name } : done);
    this.#confirmations.add({ nodeId, key: name, accepts: () => true }, now, Math.min(this.#o.confirmMs, timeoutMs), answer);
    this.#out.publish(`${this.#o.base}/${device.name}/get`, JSON.stringify({ [name]: "" }), { expiryMs: timeoutMs });
    return promise;
  }

  /** ask asks a device for all that it can be asked for; only what a device reports confirms its values. */
  #ask(device: Device): void {
    const wanted = [...device.keys.values()].filter(({ gettable }) => gettable).map(({ capability }) => [capability.name, ""] as const);
    if (wanted.length > 0) this.#out.publish(`${this.#o.base}/${device.name}/get`, JSON.stringify(Object.fromEntries(wanted)), {});
  }

  #bridgeState(payload: Buffer, now: number): void {
    const state = stateIn(payload);
    if (state === undefined) return this.#out.refused({ about: `${this.#o.base}/bridge/state`, why: "it is neither online nor offline" });
    this.#bridge = state;
    this.#reach(now);
  }

  /** reach tells each node whether its source is there. */
  #reach(now: number): void {
    for (const device of this.#devices.values()) {
      device.standing.reached(this.#connected && this.#bridge !== false);
      this.#show(device, now);
    }
  }

  #show({ nodeId, standing }: Device, now: number): void {
    const shown = standing.changed(now);
    if (shown !== undefined) for (const [key, value] of shownAs(shown)) this.#out.set(nodeId, key, value);
  }

  #list(payload: Buffer, now: number): void {
    const about = `${this.#o.base}/bridge/devices`;
    const list = payload.length === 0 ? [] : parseJson(payload.toString());
    if (!Array.isArray(list)) return this.#out.refused({ about, why: "it is not a list of devices; what was known stays" });
    const before = this.#devices;
    this.#listed = true;
    this.#devices = new Map();
    this.#byName = new Map();
    this.#unmapped = 0;
    for (const item of list) this.#add(item, before, now);
    for (const nodeId of before.keys()) if (!this.#devices.has(nodeId)) this.#out.remove(nodeId);
  }

  #add(item: unknown, before: ReadonlyMap<string, Device>, now: number): void {
    if (!isTree(item) || item["type"] === "Coordinator" || item["disabled"] === true) return;
    const { friendly_name: name, definition } = item;
    const refused = (why: string): void => this.#out.refused({ about: shortened(textOf(name, 255) || "a device without a name"), why });
    if (typeof name !== "string" || name === "" || /[+#\0]/.test(name) || name.startsWith("bridge/"))
      return refused("its name cannot be a part of a topic");
    if (!isTree(definition)) return refused("Zigbee2MQTT does not know what it can do");
    const nodeId = nodeIdOf(this.#o.prefix, name);
    if (this.#devices.has(nodeId)) return refused(`another device is ${nodeId} already; give one of them another name`);
    if (this.#devices.size >= this.#o.maxNodes) return refused(`there are ${this.#o.maxNodes} nodes already (max_nodes)`);
    const exposed = exposedBy(definition["exposes"]);
    this.#unmapped += exposed.unmapped.length;
    const node = nodeInit(nodeId, name, item, definition, exposed, this.#o.base);
    const said = JSON.stringify(node);
    const known = before.get(nodeId);
    const device = known?.said === said ? known : { nodeId, name, keys: exposed.keys, standing: known?.standing ?? new Standing(), said };
    this.#devices.set(nodeId, device);
    this.#byName.set(name, device);
    if (device === known) return;
    for (const [feature, why] of exposed.unmapped.slice(0, 3).map((one) => [one.feature, one.why]))
      refused(`its feature ${shortened(feature ?? "")} is not mapped: ${why}`);
    this.#out.put(node);
    device.standing.reached(this.#connected && this.#bridge !== false);
    this.#show(device, now);
  }

  #ofDevice(topic: string, rest: string, payload: Buffer, live: boolean, now: number): void {
    const device = this.#byName.get(rest);
    if (device !== undefined) return this.#state(topic, device, payload, live, now);
    const at = rest.lastIndexOf("/");
    const about = at < 0 ? undefined : this.#byName.get(rest.slice(0, at));
    if (about === undefined || rest.slice(at + 1) !== "availability") return;
    const state = payload.length === 0 ? undefined : stateIn(payload);
    if (state === undefined && payload.length > 0)
      return this.#out.refused({ about: shortened(topic), why: "it is neither online nor offline" });
    about.standing.available(state);
    this.#show(about, now);
  }

  #state(topic: string, device: Device, payload: Buffer, live: boolean, now: number): void {
    if (payload.length === 0) return;
    const state = parseJson(payload.toString());
    if (!isTree(state)) return this.#out.refused({ about: shortened(topic), why: "the payload is not a JSON object" });
    for (const [name, raw] of Object.entries(state)) {
      if (raw === null) continue;
      const key = device.keys.get(name);
      // What a device says beside what it exposes, such as when it was seen last, is none of the node's.
      if (key === undefined || !key.reported) continue;
      const value = reported(key, raw);
      if (isUnreadable(value)) {
        this.#out.refused({ about: shortened(`${topic} ${name}`), why: value.problem });
        continue;
      }
      this.#out.set(device.nodeId, name, value);
      device.standing.told(name, live, now);
      if (live) this.#confirmations.reported(device.nodeId, name, value, plainOf(key.capability.type, value));
    }
    this.#show(device, now);
  }
}

/** stateIn reads `online` or `offline`, as text or in an object; undefined if it is neither. */
function stateIn(payload: Buffer): boolean | undefined {
  const text = payload.toString();
  const read = text.startsWith("{") || text.startsWith('"') ? parseJson(text) : text;
  const state = isTree(read) ? read["state"] : read;
  return state === "online" ? true : state === "offline" ? false : undefined;
}

/** reported is a value of a device's message as its key has it. */
function reported(key: Key, raw: unknown): ReturnType<typeof readValue> {
  if (key.capability.type === VALUE_TYPE.BOOL && typeof raw === "boolean" && key.wire.get("inverted") === true) return !raw;
  if (key.capability.type !== VALUE_TYPE.STRING) return readValue(key.capability.type, raw);
  return readValue(VALUE_TYPE.STRING, typeof raw === "object" ? JSON.stringify(raw) : raw);
}

/** valueOf is the argument of a command as its key has it, within its bounds. */
function valueOf(key: Key, value: unknown): ReturnType<typeof readValue> {
  const { type, min, max, allowed = [] } = key.capability;
  const plain = typeof value === "bigint" ? Number(value) : value;
  if (type === VALUE_TYPE.DOUBLE && typeof plain !== "number") return { problem: "it takes a number" };
  if (type === VALUE_TYPE.JSON) {
    const read = typeof plain === "string" ? parseJson(plain) : { problem: "it takes JSON" };
    return isUnreadable(read) ? read : readValue(type, read);
  }
  const read = readValue(type, plain);
  if (isUnreadable(read)) return read;
  if (typeof read === "number" && ((min !== undefined && read < min) || (max !== undefined && read > max)))
    return { problem: `it is between ${min ?? "-∞"} and ${max ?? "∞"}` };
  if (typeof read === "string" && allowed.length > 0 && !allowed.includes(read))
    return { problem: `it is one of ${shortened(allowed.join(", "))}` };
  return read;
}

/** confirms tells whether a report says that what was asked for was done. */
function confirms(key: Key, asked: SetValue, wire: unknown, said: SetValue): boolean {
  if (typeof asked === "number" && typeof said === "number") return sameNumber(asked, said, key.capability.step);
  if (key.capability.type === VALUE_TYPE.JSON) return contains(wire, parseJson(String(said)));
  return (typeof asked === "string" && key.verbs.has(asked)) || asked === said;
}

function nodeInit(
  nodeId: string,
  name: string,
  item: Readonly<Record<string, unknown>>,
  definition: Readonly<Record<string, unknown>>,
  { keys }: Exposed,
  base: string,
): NodeInit {
  const model = textOf(definition["model"], 255);
  const refreshes = [...keys.values()].some(({ gettable }) => gettable);
  const address = textOf(item["ieee_address"], 63);
  return {
    nodeId,
    type: typeOf(definition["exposes"]),
    name: textOf(name, 255),
    vendor: textOf(definition["vendor"], 255),
    description: textOf(definition["description"], 1_024),
    capabilities: [...sourceCapabilities(refreshes), ...[...keys.values()].map(({ capability }) => capability)],
    labels: {
      source: sourceOf(base),
      ...(model === "" ? {} : { model }),
      ...(address === "" ? {} : { ieee_address: address }),
    },
  };
}

function sourceOf(base: string): string {
  return `zigbee2mqtt/${base}`;
}
