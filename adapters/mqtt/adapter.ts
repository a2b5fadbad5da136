import { readFileSync } from "node:fs";
import type { Clock, ExecutorAnswer, ExecutorTask, Failure, Hub, Timer } from "../../clients/typescript/index.ts";
import { Confirmations } from "../shared/confirmations.ts";
import { Gateway } from "../shared/gateway.ts";
import type { Adapter, AdapterStatus, OnRefused } from "../shared/port.ts";
import { Tally } from "../shared/tally.ts";
import { Broker, type BrokerAddress } from "./broker.ts";
import type { MqttConfig } from "./config.ts";
import { HomeAssistant } from "./homeassistant/homeassistant.ts";
import { type Mapping, type Out, refuse, shortened } from "./mapping.ts";
import { Publisher } from "./publishing/publisher.ts";
import { Zigbee2Mqtt } from "./zigbee2mqtt/zigbee2mqtt.ts";

/** A list of devices, or what a program announces of itself, may be as long. */
const LIST_MAX_BYTES = 32 * 1024 * 1024;
const ANNOUNCED_MAX_BYTES = 1024 * 1024;
/** The broker gives back what it is given within this time, or it does not let this client write there. */
const MARK_MS = 5_000;
/** How often it is looked whether an earlier run left nodes behind, until that is known. */
const LEFTOVERS_MS = 5_000;
/** A stop waits so long for the hub. */
const STOP_MS = 2_000;
/** Time that a command has before its deadline to say what became of it. */
const ANSWER_MS = 200;

/** MqttAdapterOptions are what the adapter is made of. */
export interface MqttAdapterOptions {
  readonly config: MqttConfig;
  readonly hub: Hub;
  readonly clock: Clock;
  readonly seed: number;
  /** file resolves a path of the configuration. */
  readonly file: (path: string) => string;
  readonly onRefused: OnRefused;
  /** Told when one of the two sides is reached or lost. */
  readonly onChange: (what: string) => void;
  /** It cannot go on: somebody must change something first. */
  readonly onOver: (failure: Failure) => void;
}

/** MqttAdapter joins an MQTT broker to a hub: it owns the two connections, and gives each message to the mapping that it is for. */
export class MqttAdapter implements Adapter {
  readonly #o: MqttAdapterOptions;
  readonly #gateway: Gateway;
  readonly #broker: Broker;
  readonly #mappings: readonly Mapping[];
  readonly #publisher: Publisher | undefined;
  readonly #confirmations = new Confirmations();
  readonly #tally: Tally;
  /** What the broker is given to give back: whatever comes before it was there before. */
  readonly #mark: string;
  #marks = 0;
  #synced = false;
  #timer: Timer | undefined;
  #timerAt = Number.POSITIVE_INFINITY;
  #markTimer: Timer | undefined;
  #leftoversTimer: Timer | undefined;
  /** Mappings of which that is not known. */
  #unswept: readonly Mapping[];
  #stopped = false;
  #problem = "";

  constructor(options: MqttAdapterOptions) {
    const { config, hub, clock, seed, onRefused } = options;
    this.#o = options;
    this.#tally = new Tally(() => clock.mono(), onRefused);
    this.#mark = `${config.publish.base}/adapter/${this.#clientId}`;
    this.#gateway = new Gateway(hub, {
      clock,
      seed,
      run: (task) => this.#run(task),
      onRefused: (refused) => this.#tally.refused(refused),
      onLink: (up, failure, over) => this.#onHub(up, failure, over),
    });
    this.#broker = new Broker({
      clock,
      seed: seed + 1,
      address: () => this.#address(),
      onUp: () => this.#onUp(),
      onDown: (why) => this.#onDown(why),
      onMessage: (topic, payload, retained) => this.#onMessage(topic, payload, retained),
      stored: () => this.#gateway.stored(),
    });
    const out = this.#out();
    const common = { prefix: config.prefix, maxNodes: config.max_nodes, confirmMs: config.confirm_ms };
    const { zigbee2mqtt, homeassistant } = config;
    const publishes = config.publish.nodes.length > 0;
    this.#mappings = [
      ...(zigbee2mqtt.enabled
        ? [new Zigbee2Mqtt({ ...common, base: zigbee2mqtt.base, askPerSecond: zigbee2mqtt.ask_per_second }, out, this.#confirmations)]
        : []),
      ...(homeassistant.enabled
        ? [
            new HomeAssistant(
              { ...common, discovery: homeassistant.prefix, birth: homeassistant.birth, withoutZigbee2Mqtt: zigbee2mqtt.enabled },
              out,
              this.#confirmations,
            ),
          ]
        : []),
    ];
    this.#unswept = this.#mappings;
    this.#publisher = publishes
      ? new Publisher(
          hub,
          { hubId: hub.hubId, patterns: config.publish.nodes, base: config.publish.base, discovery: homeassistant.prefix, clock },
          out,
        )
      : undefined;
  }

  start(): void {
    this.#publisher?.start();
    this.#broker.connect();
    this.#sweepLater();
  }

  status(): AdapterStatus {
    const mapped = Object.assign({}, ...this.#mappings.map((mapping) => mapping.counts()), this.#publisher?.counts() ?? {});
    return {
      hub: this.#gateway.up,
      other: this.#broker.connected,
      nodes: this.#gateway.size,
      counts: { ...this.#tally.counts(), ...mapped, unconfirmed: this.#confirmations.size },
      problem: this.#problem !== "" ? this.#problem : this.#broker.problem,
    };
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#timer?.cancel();
    this.#markTimer?.cancel();
    this.#leftoversTimer?.cancel();
    await this.#publisher?.stop();
    const now = this.#o.clock.mono();
    for (const mapping of this.#mappings) mapping.disconnected(now);
    await this.#broker.close();
    await this.#gateway.close(STOP_MS);
  }

  #sweepLater(): void {
    if (this.#unswept.length === 0 || this.#stopped) return;
    this.#leftoversTimer = this.#o.clock.setTimer(LEFTOVERS_MS, () => void this.#sweep().finally(() => this.#sweepLater()));
  }

  async #sweep(): Promise<void> {
    if (!this.#gateway.up) return;
    for (const mapping of this.#unswept) {
      if (!mapping.settled) continue;
      try {
        const left = await this.#gateway.leftovers({ source: mapping.source, ...this.#label });
        if (left > 0) this.#o.onChange(`${left} nodes of an earlier run are not there any more`);
        this.#unswept = this.#unswept.filter((other) => other !== mapping);
      } catch {
        // The hub is away: the next look asks again.
      }
    }
  }

  /** label tells the nodes of this adapter from those of another one at the same hub. */
  get #label(): Readonly<Record<string, string>> {
    return { adapter: `mqtt/${this.#clientId}` };
  }

  get #clientId(): string {
    const { config, hub } = this.#o;
    return config.client_id !== "" ? config.client_id : `foedus-${hub.hubId}`.slice(0, 23);
  }

  #address(): BrokerAddress {
    const { config, file, hub } = this.#o;
    const read = (path: string): string | undefined => (path === "" ? undefined : readFileSync(file(path), "utf8"));
    return {
      url: config.broker,
      version: config.version,
      clientId: this.#clientId,
      keepaliveS: config.keepalive_s,
      username: config.username,
      password: (read(config.password_file) ?? "").split("\n")[0]?.trim() ?? "",
      ca: read(config.ca),
      cert: read(config.client_cert),
      key: read(config.client_key),
      inFlight: config.in_flight,
      maxPacketBytes: LIST_MAX_BYTES,
      will: this.#publisher === undefined ? undefined : { topic: `${config.publish.base}/${hub.hubId}/status`, payload: "offline" },
    };
  }

  #out(): Out {
    return {
      put: (node) => this.#gateway.put({ ...node, labels: { ...node.labels, ...this.#label } }),
      remove: (nodeId) => this.#gateway.remove(nodeId),
      set: (nodeId, key, value) => this.#gateway.set(nodeId, key, value),
      publish: (topic, payload, delivery, done) => {
        this.#tally.count("published");
        this.#broker.publish(topic, payload, delivery, done);
      },
      subscribe: (topics) => this.#broker.subscribe(topics),
      unsubscribe: (topics) => this.#broker.unsubscribe(topics),
      refused: (refused) => this.#tally.refused(refused),
    };
  }

  #onHub(up: boolean, failure: Failure | undefined, over: boolean): void {
    if (this.#stopped) return;
    this.#problem = failure?.message ?? "";
    this.#o.onChange(up ? "the hub is reached" : `the hub is not reached: ${failure?.message ?? "it is stopping"}`);
    if (over && failure !== undefined) this.#o.onOver(failure);
  }

  #onUp(): void {
    const { clock } = this.#o;
    const now = clock.mono();
    this.#synced = false;
    this.#o.onChange("the broker is reached");
    this.#broker.subscribe([this.#mark], true);
    for (const mapping of this.#mappings) mapping.connected(now);
    this.#publisher?.connected();
    const mark = String(++this.#marks);
    this.#broker.publish(this.#mark, mark, { expiryMs: MARK_MS });
    this.#markTimer?.cancel();
    this.#markTimer = clock.setTimer(MARK_MS, () => this.#onSynced());
    this.#schedule();
  }

  #onDown(why: string): void {
    const now = this.#o.clock.mono();
    this.#markTimer?.cancel();
    this.#synced = false;
    for (const mapping of this.#mappings) mapping.disconnected(now);
    this.#o.onChange(`the broker is not reached: ${shortened(why)}`);
  }

  #onSynced(): void {
    this.#markTimer?.cancel();
    if (this.#synced || !this.#broker.connected) return;
    this.#synced = true;
    const now = this.#o.clock.mono();
    for (const mapping of this.#mappings) mapping.synced(now);
    this.#schedule();
  }

  #onMessage(topic: string, payload: Buffer, retained: boolean): void {
    if (topic === this.#mark) {
      if (payload.toString() === String(this.#marks)) this.#onSynced();
      return;
    }
    this.#tally.count("received");
    const most = this.#longest(topic);
    if (payload.length > most) {
      this.#tally.count("too_long");
      return this.#tally.refused({ about: shortened(topic), why: `the message has ${payload.length} bytes; at most ${most} are taken` });
    }
    const now = this.#o.clock.mono();
    try {
      const live = this.#synced && !retained;
      if (this.#publisher?.take(topic, payload, retained) === true) return;
      for (const mapping of this.#mappings) if (mapping.take(topic, payload, live, now)) break;
    } catch (error) {
      // What one message breaks is that message.
      this.#tally.count("failed");
      this.#tally.refused({ about: shortened(topic), why: error instanceof Error ? error.message : String(error) });
    }
    this.#schedule();
  }

  #longest(topic: string): number {
    const { zigbee2mqtt, homeassistant, max_payload_bytes: most } = this.#o.config;
    if (topic === `${zigbee2mqtt.base}/bridge/devices`) return LIST_MAX_BYTES;
    return topic.startsWith(`${homeassistant.prefix}/`) ? ANNOUNCED_MAX_BYTES : most;
  }

  #run(task: ExecutorTask): Promise<ExecutorAnswer> | ExecutorAnswer {
    this.#tally.count("commands");
    const now = this.#o.clock.mono();
    if (!this.#broker.connected) return refuse("NODE_OFFLINE", "the broker of this node is not reached");
    const inTime = { ...task, timeoutMs: Math.max(1, task.timeoutMs - ANSWER_MS) };
    for (const mapping of this.#mappings) {
      const answer = mapping.run(inTime, now);
      if (answer === undefined) continue;
      this.#schedule();
      return answer;
    }
    return refuse("NODE_OFFLINE", `${task.nodeId} is not known at the broker`);
  }

  /** schedule sets the one timer to what is due next. */
  #schedule(): void {
    let next = this.#confirmations.deadline();
    for (const mapping of this.#mappings) next = Math.min(next, mapping.deadline());
    if (this.#stopped || next === this.#timerAt) return;
    this.#timer?.cancel();
    this.#timerAt = next;
    if (next === Number.POSITIVE_INFINITY) return;
    this.#timer = this.#o.clock.setTimer(Math.max(0, next - this.#o.clock.mono()), () => {
      this.#timerAt = Number.POSITIVE_INFINITY;
      const now = this.#o.clock.mono();
      this.#confirmations.expire(now);
      for (const mapping of this.#mappings) mapping.tick(now);
      this.#schedule();
    });
  }
}
