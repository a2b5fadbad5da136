// A real broker for tests: mosquitto on a free port of loopback, with its store in a folder that the test owns.
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import mqtt, { type IClientOptions, type MqttClient } from "mqtt";
import { endProcess } from "../support/processes.ts";
import { tool } from "../support/tools.ts";
import { until } from "../support/until.ts";

const MOSQUITTO = tool("mosquitto");

/** NO_BROKER: mosquitto is not on this machine, and tests that need one are skipped. */
export const NO_BROKER = MOSQUITTO.reason !== undefined;

/** MosquittoOptions are further lines of its configuration. */
export interface MosquittoOptions {
  readonly lines?: readonly string[];
  /** TLS: certificate, key, and the CA of both. */
  readonly tls?: { readonly cert: string; readonly key: string; readonly ca: string };
}

/** freePort is a port of loopback that nobody had a moment ago. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  await new Promise<void>((resolve) => server.close(() => resolve()));
  return typeof address === "object" && address !== null ? address.port : 0;
}

/** Mosquitto is one broker, which may be ended and started again with what it had. */
export class Mosquitto {
  readonly port: number;
  readonly dir: string;
  readonly #tls: boolean;
  readonly #clients: MqttClient[] = [];
  #child: ChildProcess | undefined;
  #text = "";

  private constructor(port: number, dir: string, tls: boolean) {
    this.port = port;
    this.dir = dir;
    this.#tls = tls;
  }

  /** start starts a broker. Tests that need it skip nowhere: without the program they fail. */
  static async start({ lines = [], tls }: MosquittoOptions = {}): Promise<Mosquitto> {
    if (MOSQUITTO.reason !== undefined) throw new Error(MOSQUITTO.reason);
    const dir = mkdtempSync(join(tmpdir(), "foedus-mosquitto-"));
    const broker = new Mosquitto(await freePort(), dir, tls !== undefined);
    const files = tls === undefined ? [] : [`certfile ${tls.cert}`, `keyfile ${tls.key}`, `cafile ${tls.ca}`];
    const own = [`listener ${broker.port} 127.0.0.1`, ...files, "persistence true", `persistence_location ${dir}/`, "autosave_interval 1"];
    const config = [
      ...own,
      "user root",
      ...(lines.some((line) => line.startsWith("allow_anonymous")) ? [] : ["allow_anonymous true"]),
      ...lines,
    ];
    writeFileSync(join(dir, "mosquitto.conf"), `${config.join("\n")}\n`);
    await broker.begin();
    return broker;
  }

  /** pid of its process. */
  get pid(): number {
    return this.#child?.pid ?? 0;
  }

  /** log is what it wrote. */
  get log(): string {
    return this.#text;
  }

  /** url of the broker. */
  get url(): string {
    return `${this.#tls ? "mqtts" : "mqtt"}://localhost:${this.port}`;
  }

  /** begin starts it, again after `end`. */
  async begin(): Promise<void> {
    const child = spawn(MOSQUITTO.path, ["-c", join(this.dir, "mosquitto.conf")], { stdio: ["ignore", "pipe", "pipe"] });
    this.#child = child;
    const add = (text: string): void => {
      this.#text += text;
    };
    child.stdout?.setEncoding("utf8").on("data", add);
    child.stderr?.setEncoding("utf8").on("data", add);
    const before = this.#text.length;
    await until("mosquitto running", () => {
      if (child.exitCode !== null) throw new Error(`mosquitto ended: ${this.#text}`);
      return this.#text.slice(before).includes("running");
    });
  }

  /** end ends it; SIGKILL leaves what it had on disk last. */
  async end(signal: NodeJS.Signals = "SIGTERM"): Promise<void> {
    const child = this.#child;
    this.#child = undefined;
    if (child !== undefined) await endProcess(child, "mosquitto", signal);
  }

  /** client is a program at the broker. */
  async client(options: IClientOptions = {}): Promise<MqttClient> {
    const client = await mqtt.connectAsync(this.url, { protocolVersion: 5, reconnectPeriod: 100, ...options });
    this.#clients.push(client);
    return client;
  }

  /** stop ends all, and removes its folder. */
  async stop(): Promise<void> {
    await Promise.all(this.#clients.map((client) => client.endAsync(true)));
    await this.end();
    rmSync(this.dir, { recursive: true, force: true });
  }
}
