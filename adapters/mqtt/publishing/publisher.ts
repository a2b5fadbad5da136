import {
  type Clock,
  type Hub,
  type Mirror,
  NO_SLOT,
  type NodeInit,
  type SetValue,
  SOURCE_FRESHNESS,
  type Timer,
} from "../../../clients/typescript/index.ts";
import { fromBinary, node as schema } from "../../../clients/typescript/schema.ts";
import { isTree, parseJson } from "../../shared/values.ts";
import { type Out, shortened } from "../mapping.ts";
import { idOf, type PublishedDevice, publishedDevice } from "./devices.ts";

/** How often it is looked whether a peer's part is still current. */
const LOOK_MS = 2_000;
/** Nodes of peers that are published. */
const PUBLISHED_MAX = 10_000;
/** Commands to peers that may be under way. */
const COMMANDS_MAX = 256;
/** Messages that the broker has not taken yet; of each topic the newest waits behind them. */
const SENDING_MAX = 256;
/** Configurations of an earlier run that are looked at. */
const FOUND_MAX = 2 * PUBLISHED_MAX;

/** PublisherOptions say which nodes are published, and where. */
export interface PublisherOptions {
  /** This hub, whose own nodes are never published. */
  readonly hubId: string;
  /** Patterns of `hub/node`. */
  readonly patterns: readonly string[];
  readonly base: string;
  readonly discovery: string;
  readonly clock: Clock;
}

/** Shown is a node of a peer at the broker. */
interface Shown {
  readonly hubId: string;
  readonly nodeId: string;
  readonly id: string;
  readonly topic: string;
  readonly device: PublishedDevice;
  /** What was said last, by topic. */
  readonly said: Map<string, string>;
  there: boolean | undefined;
}

/** matcher makes what tells whether a name is one of some patterns. */
export function matcher(patterns: readonly string[]): (name: string) => boolean {
  const words = patterns.map(
    (pattern) =>
      new RegExp(
        `^${pattern
          .split("*")
          .map((part) => part.replace(/[.\\+?^${}()|[\]]/g, "\\$&"))
          .join(".*")}$`,
        "su",
      ),
  );
  return (name) => words.some((word) => word.test(name));
}

/**
 * Publisher shows nodes of peers to Home Assistant, by way of the broker, and runs there what is asked of them.
 *
 * PN1 only nodes of peers are published, and under an origin that the mapping of Home Assistant leaves out: nothing comes back as a device.
 * PN2 a retained command is never run: it was meant for another time.
 * PN3 what is not published any more is taken away at the broker, also what an earlier run left there.
 * PN4 of each topic the newest message is the last, and few are under way, however fast values change.
 */
export class Publisher {
  readonly #hub: Hub;
  readonly #o: PublisherOptions;
  readonly #out: Out;
  readonly #matches: (name: string) => boolean;
  /** By `hub/node`. */
  readonly #shown = new Map<string, Shown>();
  /** By what their topics have. */
  readonly #byId = new Map<string, Shown>();
  /** Configurations of this hub's publisher that the broker has. */
  readonly #found = new Set<string>();
  /** Newest message of each topic that waits. */
  readonly #waiting = new Map<string, string>();
  #sending = 0;
  #mirror: Mirror | undefined;
  #timer: Timer | undefined;
  #connected = false;
  #ready = false;
  #commands = 0;
  #failed = 0;

  constructor(hub: Hub, options: PublisherOptions, out: Out) {
    this.#hub = hub;
    this.#o = options;
    this.#out = out;
    this.#matches = matcher(options.patterns);
  }

  /** counts are what is published, and what became of commands. */
  counts(): Readonly<Record<string, number>> {
    return { published_nodes: this.#shown.size, commands_out: this.#commands, commands_out_failed: this.#failed };
  }

  /** start follows the registry. */
  start(): void {
    const mirror = this.#hub.watch({
      onNode: ({ hubId }, { info, bytes, online }) => this.#node(hubId, info.nodeId, fromBinary(schema.NodeSchema, bytes), online),
      onRemoved: ({ hubId }, nodeId) => this.#remove(`${hubId}/${nodeId}`),
      onReplaced: (feed, gone) => this.#replaced(feed.hubId, gone),
      onBatch: ({ hubId, table }, batch, slots) => {
        if (hubId === this.#o.hubId) return;
        const touched = new Set<Shown>();
        for (let i = 0; i < batch.count; i++) {
          const entry = slots[i] === NO_SLOT ? undefined : table.node(batch.ref[i] as number);
          const shown = entry === undefined ? undefined : this.#shown.get(`${hubId}/${entry.info.nodeId}`);
          if (shown !== undefined) touched.add(shown);
        }
        for (const shown of touched) this.#values(shown);
      },
      onLink: () => this.#look(),
    });
    this.#mirror = mirror;
    mirror.ready.then(
      () => {
        this.#ready = true;
        this.#sweep();
      },
      () => undefined,
    );
    const again = (): void => {
      this.#look();
      this.#timer = this.#o.clock.setTimer(LOOK_MS, again);
    };
    again();
  }

  /** connected: the broker is there, and is told everything. */
  connected(): void {
    this.#connected = true;
    const { base, hubId, discovery } = this.#o;
    this.#found.clear();
    this.#waiting.clear();
    this.#sending = 0;
    this.#out.subscribe([`${base}/${hubId}/+/+/set`, `${discovery}/device/+/config`, `${discovery}/status`]);
    this.#out.publish(`${base}/${hubId}/status`, "online", { retain: true });
    for (const shown of this.#shown.values()) this.#announce(shown);
  }

  /** take reads a message that is for this; false if it may be for others as well. */
  take(topic: string, payload: Buffer, retained: boolean): boolean {
    const { base, hubId, discovery } = this.#o;
    if (topic === `${discovery}/status`) {
      // Home Assistant has started: it knows what is retained, and is told again all the same.
      if (payload.toString() === "online" && !retained) for (const shown of this.#shown.values()) this.#announce(shown);
      return true;
    }
    if (topic.startsWith(`${base}/${hubId}/`)) {
      const [id = "", key = "", set] = topic.slice(base.length + hubId.length + 2).split("/");
      if (set === "set") this.#command(topic, id, key, payload, retained);
      return true;
    }
    const [, id] = topic.startsWith(`${discovery}/device/`) ? topic.slice(discovery.length).split("/").slice(1) : [];
    if (id === undefined || !id.startsWith(`foedus_${idOf(hubId)}_`)) return false;
    this.#configuration(topic, id, payload);
    return true;
  }

  /** stop says at the broker that nothing here is current any more. */
  async stop(): Promise<void> {
    this.#timer?.cancel();
    this.#mirror?.close();
    if (!this.#connected) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#out.publish(`${this.#o.base}/${this.#o.hubId}/status`, "offline", { retain: true }, () => resolve());
    const timer = this.#o.clock.setTimer(LOOK_MS, resolve);
    await promise;
    timer.cancel();
  }

  /** configuration notes what the broker has of an earlier run. */
  #configuration(topic: string, id: string, payload: Buffer): void {
    if (payload.length === 0) return void this.#found.delete(topic);
    const origin = parseJson(payload.toString());
    if (!isTree(origin) || this.#found.size >= FOUND_MAX) return;
    this.#found.add(topic);
    if (this.#ready && !this.#byId.has(id)) this.#sweep();
  }

  #sweep(): void {
    if (!this.#ready || !this.#connected) return;
    for (const topic of this.#found) {
      const id = topic.split("/").at(-2) ?? "";
      if (!this.#byId.has(id)) this.#say(topic, "");
    }
  }

  #replaced(hubId: string, gone: boolean): void {
    if (hubId === this.#o.hubId) return;
    const here = new Set<string>();
    if (!gone)
      for (const { hubId: of, table } of this.#mirror?.feeds() ?? []) {
        if (of !== hubId) continue;
        for (const { info, bytes, online } of table.entries()) {
          here.add(`${hubId}/${info.nodeId}`);
          this.#node(hubId, info.nodeId, fromBinary(schema.NodeSchema, bytes), online);
        }
      }
    for (const [name, shown] of this.#shown) if (shown.hubId === hubId && !here.has(name)) this.#remove(name);
  }

  #node(hubId: string, nodeId: string, node: NodeInit, online: boolean): void {
    const name = `${hubId}/${nodeId}`;
    if (hubId === this.#o.hubId || !this.#matches(name)) return;
    const { base, hubId: own, discovery } = this.#o;
    const id = `foedus_${idOf(own)}_${idOf(hubId)}_${idOf(nodeId)}`;
    const topic = `${base}/${own}/${id}`;
    const device = publishedDevice(hubId, node, { id, base: topic, availability: [`${base}/${own}/status`, `${topic}/availability`] });
    const known = this.#shown.get(name);
    if (device === undefined) return this.#remove(name);
    if (known?.device.config === device.config) return this.#presence(known, online);
    if (known === undefined && this.#shown.size >= PUBLISHED_MAX)
      return this.#out.refused({ about: shortened(name), why: `${PUBLISHED_MAX} nodes are published already` });
    const shown: Shown = { hubId, nodeId, id, topic, device, said: new Map(), there: undefined };
    this.#shown.set(name, shown);
    this.#byId.set(id, shown);
    this.#found.add(`${discovery}/device/${id}/config`);
    this.#announce(shown);
    this.#presence(shown, online);
  }

  #announce(shown: Shown): void {
    shown.said.clear();
    this.#say(`${this.#o.discovery}/device/${shown.id}/config`, shown.device.config);
    this.#say(`${shown.topic}/availability`, shown.there === true ? "online" : "offline");
    this.#values(shown);
  }

  /** values says what is not said yet; `again`: also what is. */
  #values({ hubId, nodeId, topic, device, said }: Shown, again = false): void {
    if (!this.#connected) return;
    for (const { key, value } of this.#mirror?.state(hubId, nodeId) ?? []) {
      const published = device.byName.get(key);
      const text = published?.show(value as SetValue);
      if (published === undefined || text === undefined || (!again && said.get(published.id) === text)) continue;
      said.set(published.id, text);
      this.#say(`${topic}/${published.id}`, text);
    }
  }

  /** say gives the broker a message that it keeps: however fast a peer's values change, few are under way, and the newest is the last. */
  #say(topic: string, text: string): void {
    if (!this.#connected) return;
    if (this.#sending >= SENDING_MAX || this.#waiting.has(topic)) return void this.#waiting.set(topic, text);
    this.#sending++;
    this.#out.publish(topic, text, { retain: true }, () => this.#sent());
  }

  #sent(): void {
    if (this.#sending > 0) this.#sending--;
    const [next] = this.#waiting;
    if (next === undefined || this.#sending >= SENDING_MAX) return;
    this.#waiting.delete(next[0]);
    this.#say(...next);
  }

  #remove(name: string): void {
    const shown = this.#shown.get(name);
    if (shown === undefined) return;
    this.#shown.delete(name);
    this.#byId.delete(shown.id);
    if (!this.#connected) return;
    for (const topic of [`${this.#o.discovery}/device/${shown.id}/config`, `${shown.topic}/availability`]) this.#say(topic, "");
    for (const { id } of shown.device.byName.values()) this.#say(`${shown.topic}/${id}`, "");
  }

  /** look tells what has become of the way to each peer. */
  #look(): void {
    const mirror = this.#mirror;
    if (mirror === undefined) return;
    for (const shown of this.#shown.values()) {
      const online = mirror.node(shown.hubId, shown.nodeId)?.entry.online ?? false;
      this.#presence(shown, online);
    }
  }

  #presence(shown: Shown, online: boolean): void {
    const mirror = this.#mirror;
    const link = mirror?.hubs().find(({ hubId }) => hubId === shown.hubId)?.freshness;
    const source = mirror?.state(shown.hubId, shown.nodeId).find(({ key }) => key === SOURCE_FRESHNESS)?.value;
    const there = online && link !== undefined && link !== "UNKNOWN" && source !== "UNKNOWN";
    if (there === shown.there) return;
    shown.there = there;
    this.#say(`${shown.topic}/availability`, there ? "online" : "offline");
  }

  #command(topic: string, id: string, key: string, payload: Buffer, retained: boolean): void {
    if (payload.length === 0) return;
    const refused = (why: string): void => this.#out.refused({ about: shortened(topic), why });
    if (retained) return refused("a retained command is not run");
    const shown = this.#byId.get(id);
    const published = shown?.device.byId.get(key);
    if (shown === undefined || published?.ask === undefined) return refused("nothing that is published here takes a command on that topic");
    const value = published.ask(payload.toString());
    if (value === undefined) return refused("it is no value of that capability");
    if (this.#commands >= COMMANDS_MAX) return refused("too many commands are under way");
    this.#commands++;
    const { hubId, nodeId } = shown;
    this.#hub.execute({ hubId, nodeId, capability: published.name, value }).then(
      ({ outcome, failure }) => {
        this.#commands--;
        if (outcome === "DONE") return;
        this.#failed++;
        refused(`${hubId}/${nodeId} ${published.name}: ${outcome} ${failure?.message ?? ""}`);
        // What was asked for is not so: the app shows again what is.
        this.#values(shown, true);
      },
      (error: unknown) => {
        this.#commands--;
        this.#failed++;
        refused(error instanceof Error ? error.message : String(error));
      },
    );
  }
}
