// A real Prometheus that scrapes hubs of a federation over mutual TLS, configured by the file that operators are given.

import { type ChildProcess, spawn } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { systemClock } from "#channel/clock.ts";
import { type HubProcess, ROOT } from "./federation.ts";
import { endProcess, isRunning } from "./processes.ts";
import { GivenUp, until } from "./until.ts";

/** Sample is one series of an answer to an instant query. */
export interface Sample {
  readonly metric: Readonly<Record<string, string>>;
  readonly value: readonly [number, string];
}

/** Alert is one that is pending or fires, as Prometheus tells it. */
export interface Alert {
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  readonly state: "pending" | "firing";
}

/** Target is a process that is scraped. */
export interface Target {
  readonly labels: Readonly<Record<string, string>>;
  readonly health: "up" | "down" | "unknown";
  readonly lastError: string;
  readonly scrapeUrl: string;
}

interface Rule {
  readonly name: string;
  readonly health: "ok" | "err" | "unknown";
  readonly lastError?: string;
}

/** PrometheusOptions say what to scrape. */
export interface PrometheusOptions {
  /** The program. */
  readonly path: string;
  readonly dir: string;
  /** `host:port` to listen on. */
  readonly listen: string;
  readonly hubs: readonly HubProcess[];
  /** Name of the certificate in each hub's PKI that it shows. */
  readonly principal: string;
}

/** configOf is the documented configuration with a job per hub, for the hub's own PKI and ports, and every second. */
function configOf({ hubs, principal }: PrometheusOptions): string {
  const documented = readFileSync(join(ROOT, "ops/prometheus/prometheus.yml"), "utf8");
  const start = documented.indexOf("  # One job per hub");
  const end = documented.indexOf("# Where alerts go");
  const job = documented.slice(start, end);
  const head = documented.slice(0, start).replaceAll("15s", "1s").replace("scrape_interval", "scrape_timeout: 1s\n  scrape_interval");
  const jobs = hubs.map((hub) => {
    const targets = hub.processes.map((name) => `"${hub.host}:${hub.metricsPort(name)}"`);
    return job
      .replace("job_name: foedus", `job_name: foedus-${hub.id}`)
      .replaceAll("pki/operator-prometheus", `pki/${principal}`)
      .replaceAll(/(_file: )pki\//g, `$1${hub.pkiDir}/`)
      .replace('["127.0.0.1:18811"]', `[${targets.join(", ")}]`);
  });
  return head + jobs.join("");
}

/** rules are the alerts as they ship, except that they fire a second after their condition holds: nobody wants to wait ten minutes in a test. */
function rules(): string {
  return readFileSync(join(ROOT, "ops/prometheus/alerts.yaml"), "utf8").replaceAll(/^( +for:) .*$/gm, "$1 1s");
}

/** Prometheus is the running program. */
export class Prometheus {
  readonly #child: ChildProcess;
  readonly #url: string;
  #log = "";

  private constructor(child: ChildProcess, url: string) {
    this.#child = child;
    this.#url = url;
    for (const stream of [child.stdout!, child.stderr!]) stream.setEncoding("utf8").on("data", (text: string) => (this.#log += text));
  }

  /** start writes its configuration, starts it and resolves when it answers. */
  static async start(options: PrometheusOptions): Promise<Prometheus> {
    const { path, dir, listen } = options;
    mkdirSync(dir, { recursive: true });
    const file = join(dir, "prometheus.yml");
    writeFileSync(file, configOf(options));
    writeFileSync(join(dir, "alerts.yaml"), rules());
    const flags = [`--config.file=${file}`, `--storage.tsdb.path=${join(dir, "data")}`, `--web.listen-address=${listen}`];
    const child = spawn(path, [...flags, "--enable-feature=exemplar-storage"], { stdio: ["ignore", "pipe", "pipe"] });
    const prometheus = new Prometheus(child, `http://${listen}`);
    try {
      await until(
        "Prometheus getting ready",
        async () => {
          if (!isRunning(child)) throw new GivenUp("Prometheus ended");
          return (await fetch(`${prometheus.#url}/-/ready`)).ok;
        },
        60_000,
      );
    } catch (error) {
      await prometheus.stop();
      throw new Error(`${error instanceof Error ? error.message : String(error)}; it wrote:\n${prometheus.#log.slice(-2_000)}`, {
        cause: error,
      });
    }
    return prometheus;
  }

  async stop(): Promise<void> {
    await endProcess(this.#child, "Prometheus", "SIGKILL");
  }

  async #get<T>(path: string, parameters: Readonly<Record<string, string>> = {}): Promise<T> {
    const answer = await fetch(`${this.#url}/api/v1/${path}?${new URLSearchParams(parameters).toString()}`);
    const body = (await answer.json()) as { status: string; error?: string; data: T };
    if (body.status !== "success") throw new Error(`${path}: ${body.error}`);
    return body.data;
  }

  /** query evaluates an expression now; one that gives a scalar gives one sample without labels. */
  async query(expression: string): Promise<readonly Sample[]> {
    const data = await this.#get<{ resultType: string; result: readonly Sample[] | Sample["value"] }>("query", { query: expression });
    return data.resultType === "scalar" ? [{ metric: {}, value: data.result as Sample["value"] }] : (data.result as readonly Sample[]);
  }

  async targets(): Promise<readonly Target[]> {
    return (await this.#get<{ activeTargets: readonly Target[] }>("targets")).activeTargets;
  }

  async alerts(): Promise<readonly Alert[]> {
    return (await this.#get<{ alerts: readonly Alert[] }>("alerts")).alerts;
  }

  /** traces lists the trace ids of the exemplars of a metric within the last hour. */
  async traces(metric: string): Promise<readonly string[]> {
    const now = systemClock.wall() / 1_000;
    const range = { query: metric, start: String(now - 3_600), end: String(now + 60) };
    const found = await this.#get<readonly { exemplars: readonly { labels: Readonly<Record<string, string>> }[] }[]>(
      "query_exemplars",
      range,
    );
    return found.flatMap(({ exemplars }) => exemplars.map(({ labels }) => labels["trace_id"] ?? ""));
  }

  async rules(): Promise<readonly Rule[]> {
    return (await this.#get<{ groups: readonly { rules: readonly Rule[] }[] }>("rules")).groups.flatMap((group) => group.rules);
  }
}
