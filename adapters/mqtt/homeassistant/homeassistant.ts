import type { ExecutorAnswer } from "../../../clients/typescript/index.ts";
import { VALUE_TYPE } from "../../../clients/typescript/index.ts";
import type { Confirmations } from "../../shared/confirmations.ts";
import { textOf } from "../../shared/node-id.ts";
import { shownAs } from "../../shared/source.ts";
import { isUnreadable, readValue } from "../../shared/values.ts";
import { type MappedTask, type Mapping, type Out, plainOf, refuse, shortened } from "../mapping.ts";
import { Availability } from "./availability.ts";
import { mapped } from "./components.ts";
import { type Announcement, announcementOf, type Component, discoveryTopic } from "./discovery.ts";
import { type Commanding, Unmapped } from "./entity.ts";
import { type Announced, type Bound, type Entity, Group } from "./groups.ts";

/** HomeAssistantOptions shape the mapping. */
export interface HomeAssistantOptions {
  /** Discovery topics begin with it. */
  readonly discovery: string;
  readonly prefix: string;
  readonly maxNodes: number;
  readonly confirmMs: number;
  /** Asks devices to announce themselves, as Home Assistant does when it starts. */
  readonly birth: boolean;
  /** Leaves out what Zigbee2MQTT announces: its devices are nodes already. */
  readonly withoutZigbee2Mqtt: boolean;
}

/** ORIGIN is what this program calls itself where it announces nodes of peers: those are never taken for devices. */
export const ORIGIN = "Foedus";

/** What was not announced again so long after the broker was reached is gone. */
const FORGET_MS = 60_000;
/** Discovery topics of which something is kept, for each node. */
const ANNOUNCED_PER_NODE = 64;

/**
 * HomeAssistant makes nodes of what announces itself to Home Assistant.
 *
 * HD1 a device is one node, however many topics and in whichever form its parts are announced; which is announced first does not matter.
 * HD2 an empty announcement takes away what was announced there, and a node that nothing announces is gone, with its subscriptions.
 * HD3 what this program announces itself, for nodes of peers, is never a device here.
 */
export class HomeAssistant implements Mapping {
  readonly source: string;
  readonly #o: HomeAssistantOptions;
  readonly #out: Out;
  readonly #confirmations: Confirmations;
  readonly #groups = new Map<string, Group>();
  readonly #byNode = new Map<string, Group>();
  readonly #announced = new Map<string, { readonly announced: Announced; readonly group: Group }>();
  /** Discovery topic of each unique id, by `platform/unique id`. */
  readonly #unique = new Map<string, string>();
  readonly #states = new Map<string, Set<Bound>>();
  readonly #availabilities = new Map<string, Set<{ readonly entity: Entity; readonly group: Group }>>();
  #connected = false;
  #nextExpiry = Number.POSITIVE_INFINITY;
  #forgetAt = Number.POSITIVE_INFINITY;
  #left = 0;
  #settled = false;

  constructor(options: HomeAssistantOptions, out: Out, confirmations: Confirmations) {
    this.source = `homeassistant/${options.discovery}`;
    this.#o = options;
    this.#out = out;
    this.#confirmations = confirmations;
  }

  get settled(): boolean {
    return this.#settled;
  }

  connected(now: number): void {
    this.#connected = true;
    for (const { announced } of this.#announced.values()) announced.seen = false;
    const { discovery } = this.#o;
    this.#out.subscribe([`${discovery}/+/+/config`, `${discovery}/+/+/+/config`]);
    this.#out.subscribe([...new Set([...this.#states.keys(), ...this.#availabilities.keys()])]);
    this.#reach(now);
  }

  synced(now: number): void {
    this.#forgetAt = now + FORGET_MS;
    if (this.#o.birth) this.#out.publish(`${this.#o.discovery}/status`, "online", {});
  }

  disconnected(now: number): void {
    this.#connected = false;
    this.#forgetAt = Number.POSITIVE_INFINITY;
    for (const group of this.#groups.values()) for (const { availability } of group.entities()) availability.lost();
    this.#reach(now);
  }

  counts(): Readonly<Record<string, number>> {
    return { announced: this.#announced.size, topics: this.#states.size + this.#availabilities.size, left_out: this.#left };
  }

  take(topic: string, payload: Buffer, live: boolean, now: number): boolean {
    const found = discoveryTopic(this.#o.discovery, topic);
    if (found !== undefined) {
      this.#announce(topic, payload, now);
      return true;
    }
    const [states, availabilities] = [this.#states.get(topic), this.#availabilities.get(topic)];
    if (states === undefined && availabilities === undefined) return false;
    const text = payload.toString();
    const touched = new Set<Group>();
    for (const { entity, group } of availabilities ?? []) {
      entity.availability.take(topic, text);
      touched.add(group);
    }
    for (const bound of states ?? []) {
      if (this.#state(bound, topic, text, live, now)) touched.add(bound.group);
    }
    for (const group of touched) this.#show(group, now);
    return true;
  }

  deadline(): number {
    return Math.min(this.#nextExpiry, this.#forgetAt);
  }

  tick(now: number): void {
    if (now >= this.#forgetAt) {
      this.#forgetAt = Number.POSITIVE_INFINITY;
      this.#settled = true;
      for (const [topic, { announced }] of this.#announced) if (!announced.seen) this.#forget(topic, now);
    }
    if (now < this.#nextExpiry) return;
    this.#nextExpiry = Number.POSITIVE_INFINITY;
    for (const group of this.#groups.values()) {
      this.#show(group, now);
      this.#nextExpiry = Math.min(this.#nextExpiry, group.standing.deadline());
    }
  }

  run(task: MappedTask, now: number): Promise<ExecutorAnswer> | ExecutorAnswer | undefined {
    const group = this.#byNode.get(task.nodeId);
    if (group === undefined) return undefined;
    const bound = group.bounds.get(task.capability);
    const commanding = bound?.key.commanding;
    if (bound === undefined || commanding === undefined)
      return refuse("CAPABILITY_ACCESS", `${task.capability} of ${task.nodeId} cannot be set`);
    if (!group.standing.isThere || !bound.entity.availability.available)
      return refuse("NODE_OFFLINE", `${task.nodeId} is not available, as its program says`);
    const given = typeof task.value === "object" && "json" in task.value ? task.value.json : task.value;
    const plain = typeof given === "bigint" ? Number(given) : given;
    const { type } = bound.key;
    const value = type === VALUE_TYPE.JSON ? String(plain) : readValue(type, plain);
    if (isUnreadable(value)) return refuse("VALUE_OUT_OF_RANGE", `${task.capability} of ${task.nodeId}: ${value.problem}`);
    const payload = commanding.payload(value);
    if (isUnreadable(payload)) return refuse("VALUE_OUT_OF_RANGE", `${task.capability} of ${task.nodeId}: ${payload.problem}`);
    return this.#command(bound, commanding, value, payload, task, now);
  }

  #command(
    bound: Bound,
    { topic, retain, confirmedBy, accepts }: Commanding,
    value: Parameters<Commanding["payload"]>[0],
    payload: string,
    { nodeId, timeoutMs }: MappedTask,
    now: number,
  ): Promise<ExecutorAnswer> {
    const { promise, resolve } = Promise.withResolvers<ExecutorAnswer>();
    const by = confirmedBy === undefined ? undefined : bound.group.boundOf(bound.entity, confirmedBy);
    const forMs = Math.min(this.#o.confirmMs, timeoutMs);
    const done: ExecutorAnswer = { value: plainOf(bound.key.type, value) };
    if (by !== undefined) {
      const expected = { nodeId, key: by.name, accepts: (said: typeof value) => accepts(value, said) };
      this.#confirmations.add(expected, now, forMs, (answer) => resolve(answer.failure === undefined ? done : answer));
    }
    this.#out.publish(topic, payload, { retain, ...(retain ? {} : { expiryMs: timeoutMs }) }, (taken) => {
      // What reports nothing is done as far as anybody can tell.
      if (taken && by === undefined) resolve(done);
      if (!taken) resolve({ failure: { reason: "OUTCOME_UNKNOWN", message: "the broker was lost while it was told" } });
    });
    return promise;
  }

  #state({ name, key, entity, group }: Bound, topic: string, text: string, live: boolean, now: number): boolean {
    const value = key.reading?.of(text);
    if (value === undefined) return false;
    if (isUnreadable(value)) {
      this.#out.refused({ about: shortened(`${topic} ${name}`), why: value.problem });
      return false;
    }
    this.#out.set(group.nodeId, name, value);
    const current = live && entity.availability.available;
    group.standing.told(name, current, now, entity.expireMs);
    if (current && entity.expireMs < Number.POSITIVE_INFINITY) this.#nextExpiry = Math.min(this.#nextExpiry, now + entity.expireMs);
    if (live) this.#confirmations.reported(group.nodeId, name, value, plainOf(key.type, value));
    return true;
  }

  #reach(now: number): void {
    for (const group of this.#groups.values()) {
      group.standing.reached(this.#connected);
      this.#show(group, now);
    }
  }

  #show(group: Group, now: number): void {
    let there = false;
    for (const { entity, name } of group.bounds.values()) {
      if (entity.availability.available) there = true;
      else group.standing.doubt(name);
    }
    group.standing.available(there);
    const shown = group.standing.changed(now);
    if (shown !== undefined) for (const [key, value] of shownAs(shown)) this.#out.set(group.nodeId, key, value);
  }

  #announce(topic: string, payload: Buffer, now: number): void {
    if (payload.length === 0) return this.#forget(topic, now);
    const found = discoveryTopic(this.#o.discovery, topic);
    if (found === undefined) return;
    const known = this.#announced.get(topic);
    const text = payload.toString();
    if (known?.announced.text === text && !known.announced.migrates) {
      // Programs say the same again whenever somebody asks.
      known.announced.seen = true;
      return;
    }
    const announcement = announcementOf(found, text);
    if (typeof announcement === "string") return this.#out.refused({ about: shortened(topic), why: announcement });
    if (announcement.migrates) {
      if (known !== undefined) known.announced.migrates = known.announced.seen = true;
      return;
    }
    if (this.#isOthers(announcement)) return;
    if (known !== undefined && known.group.deviceKey !== announcement.deviceKey) this.#forget(topic, now);
    const group = this.#groupOf(topic, announcement);
    if (group === undefined) return;
    const announced: Announced = { topic, text, announcement, entities: [], migrates: false, seen: true };
    this.#forgetUnique(topic);
    announced.entities = announcement.components.flatMap((component) => this.#entity(topic, component, now));
    group.announced.set(topic, announced);
    this.#announced.set(topic, { announced, group });
    this.#rebuild(group, now, announced.entities);
  }

  /** isOthers tells what is a node already, or is one of a peer that is announced here. */
  #isOthers({ origin, device }: Announcement): boolean {
    if (origin["name"] === ORIGIN || textOf(device["manufacturer"], 64) === ORIGIN) return true;
    return this.#o.withoutZigbee2Mqtt && origin["name"] === "Zigbee2MQTT";
  }

  #groupOf(topic: string, { deviceKey }: Announcement): Group | undefined {
    const refused = (why: string): undefined => void this.#out.refused({ about: shortened(topic), why });
    const known = this.#groups.get(deviceKey);
    if (known !== undefined) {
      const room = known.announced.has(topic) || known.announced.size < 8 * ANNOUNCED_PER_NODE;
      return room ? known : refused("its device has too many announcements");
    }
    const { maxNodes, prefix } = this.#o;
    if (this.#groups.size >= maxNodes) return refused(`there are ${maxNodes} nodes already (max_nodes)`);
    if (this.#announced.size >= maxNodes * ANNOUNCED_PER_NODE) return refused("there are too many announcements");
    const group = new Group(prefix, deviceKey);
    if (this.#byNode.has(group.nodeId)) return refused(`another device is ${group.nodeId} already`);
    group.standing.reached(this.#connected);
    this.#groups.set(deviceKey, group);
    this.#byNode.set(group.nodeId, group);
    return group;
  }

  #entity(topic: string, component: Component, now: number): Entity[] {
    const about = shortened(`${topic} ${component.id}`);
    const unique = `${component.platform}/${component.uniqueId}`;
    const holder = component.uniqueId === "" ? undefined : this.#unique.get(unique);
    if (holder !== undefined && holder !== topic) {
      if (this.#announced.get(holder)?.announced.migrates !== true) {
        this.#out.refused({ about, why: `its unique_id is announced on ${shortened(holder)} already` });
        return [];
      }
      this.#move(holder, unique, now);
    }
    const made = mapped(component.platform, component.options);
    if (typeof made === "string") {
      this.#out.refused({ about, why: made });
      return [];
    }
    for (const why of made.problems) this.#out.refused({ about, why });
    const { expire_after: expires } = component.options;
    const expireMs = typeof expires === "number" && expires > 0 ? expires * 1_000 : Number.POSITIVE_INFINITY;
    try {
      const availability = new Availability(component.options);
      if (availability.problem !== "") this.#out.refused({ about, why: availability.problem });
      if (component.uniqueId !== "") this.#unique.set(unique, topic);
      return [{ component, keys: made.keys, availability, expireMs }];
    } catch (error) {
      if (!(error instanceof Unmapped)) throw error;
      this.#out.refused({ about, why: error.message });
      return [];
    }
  }

  /** move takes an entity from the topic that announced it before: another one announces it now. */
  #move(topic: string, unique: string, now: number): void {
    const found = this.#announced.get(topic);
    this.#unique.delete(unique);
    if (found === undefined) return;
    const { announced, group } = found;
    announced.entities = announced.entities.filter(({ component }) => `${component.platform}/${component.uniqueId}` !== unique);
    if (announced.entities.length === 0) this.#drop(topic, group);
    // A node of its own that has nothing left goes; one that is announced anew is rebuilt with what comes.
    if (group.announced.size === 0) this.#end(group);
    else this.#rebuild(group, now);
  }

  #forgetUnique(topic: string): void {
    for (const { component } of this.#announced.get(topic)?.announced.entities ?? []) {
      const unique = `${component.platform}/${component.uniqueId}`;
      if (this.#unique.get(unique) === topic) this.#unique.delete(unique);
    }
  }

  #drop(topic: string, group: Group): void {
    this.#forgetUnique(topic);
    this.#announced.delete(topic);
    group.announced.delete(topic);
  }

  #forget(topic: string, now: number): void {
    const found = this.#announced.get(topic);
    if (found === undefined) return;
    this.#drop(topic, found.group);
    this.#rebuild(found.group, now);
  }

  /** rebuild gives a node what its announcements say now. */
  #rebuild(group: Group, now: number, fresh: readonly Entity[] = []): void {
    if (group.entities().length === 0) return this.#end(group);
    const before = this.#unbind(group);
    const left = group.bind();
    if (left > 0) this.#out.refused({ about: group.nodeId, why: `${left} of its capabilities have no place in a node` });
    this.#left += left;
    this.#bind(group);
    const node = group.node(this.source);
    const said = JSON.stringify(node);
    if (said !== group.said) this.#out.put(node);
    group.said = said;
    // Its standing is told anew with the node.
    this.#show(group, now);
    this.#resubscribe(before, fresh.flatMap(topicsOf));
  }

  #end(group: Group): void {
    const before = this.#unbind(group);
    this.#groups.delete(group.deviceKey);
    this.#byNode.delete(group.nodeId);
    for (const topic of [...group.announced.keys()]) this.#drop(topic, group);
    if (group.said !== "") this.#out.remove(group.nodeId);
    this.#resubscribe(before, []);
  }

  #bind(group: Group): void {
    const add = <T>(table: Map<string, Set<T>>, topic: string, item: T): void => {
      const items = table.get(topic) ?? new Set<T>();
      items.add(item);
      table.set(topic, items);
    };
    for (const bound of group.bounds.values()) if (bound.key.reading !== undefined) add(this.#states, bound.key.reading.topic, bound);
    for (const entity of group.entities())
      for (const topic of entity.availability.topics) add(this.#availabilities, topic, { entity, group });
  }

  #unbind(group: Group): Set<string> {
    const topics = new Set<string>();
    for (const { entity } of group.bounds.values()) for (const topic of topicsOf(entity)) topics.add(topic);
    for (const topic of topics)
      for (const table of [this.#states, this.#availabilities] as readonly Map<string, Set<{ readonly group: Group }>>[]) {
        const items = table.get(topic);
        for (const item of items ?? []) if (item.group === group) items?.delete(item);
        if (items?.size === 0) table.delete(topic);
      }
    return topics;
  }

  /** resubscribe asks for the topics of entities that are new, which may be retained, and no longer for what nobody needs. */
  #resubscribe(before: ReadonlySet<string>, fresh: readonly string[]): void {
    const gone = [...before].filter((topic) => !this.#states.has(topic) && !this.#availabilities.has(topic));
    if (gone.length > 0) this.#out.unsubscribe(gone);
    if (fresh.length > 0) this.#out.subscribe([...new Set(fresh)]);
  }
}

function topicsOf({ keys, availability }: Entity): string[] {
  return [...keys.flatMap(({ reading }) => reading?.topic ?? []), ...availability.topics];
}
