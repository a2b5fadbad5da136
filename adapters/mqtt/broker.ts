import mqtt, { type IClientOptions, type MqttClient } from "mqtt";
import { Backoff, type BackoffConfig } from "#kernel/backoff.ts";
import { Prng } from "#kernel/prng.ts";
import type { Clock, Timer } from "../../clients/typescript/index.ts";

/** Waits between two attempts to reach the broker. */
const BACKOFF: BackoffConfig = { baseMs: 500, maxMs: 30_000, factor: 2, jitter: 0.5 };
const CONNECT_MS = 10_000;
/** How long the broker keeps what comes while this client is away. */
const SESSION_S = 3_600;
/** Topics of one SUBSCRIBE. */
const TOPICS = 100;
/** A session that is over leaves nothing to be waited for. */
const END_MS = 1_000;

/** Delivery says how a message is sent. */
export interface Delivery {
  readonly retain?: boolean;
  /** The broker forgets it after this time, if it can (MQTT 5.0). */
  readonly expiryMs?: number;
}

/** BrokerAddress says where the broker is, and with what it is shown who calls. */
export interface BrokerAddress {
  readonly url: string;
  readonly version: "5.0" | "3.1.1";
  readonly clientId: string;
  readonly keepaliveS: number;
  readonly username: string;
  readonly password: string;
  readonly ca: string | undefined;
  readonly cert: string | undefined;
  readonly key: string | undefined;
  /** Messages that the broker gives before it must be told that they came. */
  readonly inFlight: number;
  /** Longest packet that is taken, bytes. */
  readonly maxPacketBytes: number;
  /** What the broker says when this client is lost. */
  readonly will: { readonly topic: string; readonly payload: string } | undefined;
}

/** BrokerOptions say who is told what. */
export interface BrokerOptions {
  readonly clock: Clock;
  readonly seed: number;
  /** Read anew for each connection. What it throws is why there is none. */
  readonly address: () => BrokerAddress;
  readonly onUp: () => void;
  readonly onDown: (why: string) => void;
  readonly onMessage: (topic: string, payload: Buffer, retained: boolean) => void;
  /** Resolves when what came is kept elsewhere: then the broker may forget it. */
  readonly stored: () => Promise<void>;
}

/**
 * Broker is the connection to a broker: it is made again after a cut, with growing waits.
 *
 * BR1 each connection is a new client: nothing of an earlier one is sent again, so that no command is given twice or late.
 * BR2 the session at the broker outlives connections. A message of QoS 1 is acknowledged when the hub has it, so that one that was not is
 *    given again; but so many only wait for that as leave room for others, for a broker drops what it cannot give.
 */
export class Broker {
  readonly #o: BrokerOptions;
  readonly #backoff: Backoff;
  #client: MqttClient | undefined;
  #connected = false;
  #timer: Timer | undefined;
  #closed = false;
  /** Why the last attempt failed. */
  #why = "";
  #acks: (() => void)[] = [];
  /** Acknowledgements that wait for the hub, and how many may. */
  #held: (() => void)[] = [];
  #holdMost = 0;
  #acking = false;

  constructor(options: BrokerOptions) {
    this.#o = options;
    this.#backoff = new Backoff(new Prng(options.seed), BACKOFF);
  }

  /** connected tells whether the broker is reached. */
  get connected(): boolean {
    return this.#connected;
  }

  /** problem is why it is not; empty if it is. */
  get problem(): string {
    return this.#connected ? "" : this.#why;
  }

  /** connect begins, and goes on until `close`. */
  connect(): void {
    if (this.#closed) return;
    let client: MqttClient;
    try {
      const address = this.#o.address();
      this.#holdMost = Math.floor(address.inFlight / 2);
      const { url, ...rest } = optionsOf(address);
      client = mqtt.connect(url, rest);
    } catch (error) {
      return this.#lost(undefined, error instanceof Error ? error.message : String(error));
    }
    this.#client = client;
    let why = "the connection was closed";
    client.on("connect", () => {
      if (client !== this.#client) return;
      this.#connected = true;
      this.#backoff.succeeded();
      this.#o.onUp();
    });
    client.on("error", (error) => {
      why = error.message || String(error);
    });
    client.on("message", (topic, payload, packet) => {
      if (client === this.#client) this.#o.onMessage(topic, payload, packet.retain);
    });
    client.on("close", () => this.#lost(client, why));
    this.#acknowledgeLate(client);
  }

  /** subscribe asks for topics; of those that are not its `own`, what this client says itself does not come back (MQTT 5.0). */
  subscribe(topics: readonly string[], own = false): void {
    for (let at = 0; at < topics.length; at += TOPICS)
      // A broker that refuses some, by its rules, does not send them: nothing else becomes of it.
      this.#client?.subscribe(topics.slice(at, at + TOPICS), { qos: 1, nl: !own }, () => undefined);
  }

  /** unsubscribe asks for topics no longer. */
  unsubscribe(topics: readonly string[]): void {
    for (let at = 0; at < topics.length; at += TOPICS) this.#client?.unsubscribe(topics.slice(at, at + TOPICS), () => undefined);
  }

  /** publish sends a message; `done` is told whether the broker has taken it. */
  publish(topic: string, payload: string, { retain = false, expiryMs }: Delivery, done?: (taken: boolean) => void): void {
    const client = this.#client;
    if (client === undefined || !this.#connected) return done?.(false);
    const properties = expiryMs === undefined ? {} : { properties: { messageExpiryInterval: Math.max(1, Math.ceil(expiryMs / 1_000)) } };
    client.publish(topic, payload, { qos: 1, retain, ...properties }, (error) => done?.(error === undefined || error === null));
  }

  /** close ends the connection in good order. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#timer?.cancel();
    const client = this.#client;
    this.#client = undefined;
    this.#connected = false;
    if (client === undefined) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = this.#o.clock.setTimer(END_MS, () => {
      client.end(true);
      resolve();
    });
    client.end(false, {}, () => resolve());
    await promise;
    timer.cancel();
  }

  #lost(client: MqttClient | undefined, why: string): void {
    if (this.#closed || client !== this.#client) return;
    const news = this.#connected || why !== this.#why;
    this.#client = undefined;
    this.#connected = false;
    this.#acks = [];
    this.#held = [];
    this.#why = why;
    client?.removeAllListeners();
    client?.on("error", () => undefined);
    client?.end(true);
    if (news) this.#o.onDown(why);
    this.#timer = this.#o.clock.setTimer(this.#backoff.failed(this.#o.clock.mono()), () => this.connect());
  }

  /** acknowledgeLate takes PUBACKs out of the library's hands, which would hold up all messages behind one (BR2). */
  #acknowledgeLate(client: MqttClient): void {
    const inner = client as unknown as { _sendPacket(packet: { cmd: string }, ...rest: unknown[]): void };
    const send = inner._sendPacket.bind(client);
    inner._sendPacket = (packet, ...rest) => {
      if (packet.cmd !== "puback") return send(packet, ...rest);
      this.#acks.push(() => send(packet));
      const [next] = rest;
      if (typeof next === "function") next();
      void this.#acknowledge();
    };
  }

  async #acknowledge(): Promise<void> {
    for (const ack of this.#acks.splice(0, this.#acks.length + this.#held.length - this.#holdMost)) ack();
    if (this.#acking) return;
    this.#acking = true;
    while (this.#acks.length > 0) {
      // What comes in one turn goes to the hub together.
      await new Promise<void>((resolve) => void this.#o.clock.setImmediate(resolve));
      this.#held = this.#acks.splice(0);
      await this.#o.stored();
      for (const ack of this.#held.splice(0)) ack();
    }
    this.#acking = false;
  }
}

function optionsOf(address: BrokerAddress): IClientOptions & { readonly url: string } {
  const five = address.version === "5.0";
  const { will } = address;
  return {
    url: address.url,
    protocolVersion: five ? 5 : 4,
    clientId: address.clientId,
    clean: false,
    keepalive: address.keepaliveS,
    reconnectPeriod: 0,
    connectTimeout: CONNECT_MS,
    queueQoSZero: false,
    resubscribe: false,
    ...(five
      ? { properties: { sessionExpiryInterval: SESSION_S, maximumPacketSize: address.maxPacketBytes, receiveMaximum: address.inFlight } }
      : {}),
    ...(address.username === "" ? {} : { username: address.username }),
    ...(address.password === "" ? {} : { password: address.password }),
    ...(address.ca === undefined ? {} : { ca: address.ca }),
    ...(address.cert === undefined ? {} : { cert: address.cert }),
    ...(address.key === undefined ? {} : { key: address.key }),
    ...(will === undefined ? {} : { will: { topic: will.topic, payload: Buffer.from(will.payload), qos: 1 as const, retain: true } }),
    rejectUnauthorized: true,
  };
}
