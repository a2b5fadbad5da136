// `foedus adapter mqtt` as a process of its own.
import { type ChildProcess, spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { type HubProcess, ROOT } from "../support/federation.ts";
import { endProcess } from "../support/processes.ts";
import { until } from "../support/until.ts";

interface Status {
  readonly hub: boolean;
  readonly other: boolean;
  readonly counts: Readonly<Record<string, number>>;
}

/** AdapterProcess is one adapter beside a hub. */
export class AdapterProcess {
  readonly #file: string;
  #child: ChildProcess | undefined;
  #text = "";
  status: Status = { hub: false, other: false, counts: {} };

  /** The adapter gets a file of its own in the hub's folder. */
  constructor(hub: HubProcess, mqtt: Readonly<Record<string, unknown>>) {
    this.#file = join(hub.dir, "mqtt.json");
    const { ca, cert, key } = hub.pki("gateway-zigbee");
    const target = { hub_id: hub.id, address: hub.address("registry-sync"), ca };
    writeFileSync(this.#file, JSON.stringify({ hub: target, mqtt: { cert, key, ...mqtt } }));
  }

  /** log is what it wrote. */
  get log(): string {
    return this.#text;
  }

  /** start starts it, and resolves when it reaches both sides. */
  async start(): Promise<void> {
    const child = spawn(process.execPath, [join(ROOT, "cli/main.ts"), "adapter", "mqtt", "--config", this.#file, "--json"], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.#child = child;
    this.status = { hub: false, other: false, counts: {} };
    child.stderr.setEncoding("utf8").on("data", (text: string) => void (this.#text += text));
    let rest = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      this.#text += text;
      const lines = `${rest}${text}`.split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) {
        const read = JSON.parse(line) as { readonly status?: Status };
        if (read.status !== undefined) this.status = read.status;
      }
    });
    await until("the adapter between the two", () => {
      if (child.exitCode !== null) throw new Error(`it ended: ${this.#text}`);
      return this.status.hub && this.status.other;
    });
  }

  /** end ends it, and gives its exit code. */
  async end(signal: NodeJS.Signals): Promise<number | null> {
    const child = this.#child;
    this.#child = undefined;
    return child === undefined ? null : endProcess(child, "the adapter", signal);
  }
}
