// A release of the chart in a cluster, and the work of a kubelet for it: containers are started as plain processes, with the files that
// their volumes would hold, read from the cluster.
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, mkdirSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import type { ApiAnswer, Cluster } from "../support/cluster.ts";
import { ROOT, until } from "../support/federation.ts";
import type { Tool } from "../support/tools.ts";
import { CHART, EXAMPLES, type Ran } from "./fixture.ts";

const MAIN = join(ROOT, "cli/main.ts");
const LONGEST_MS = 60_000;

/** exec runs a program without holding up this one, which plays the kubelet meanwhile. */
export function exec(command: string, args: readonly string[], env: NodeJS.ProcessEnv = {}, cwd = ROOT): Promise<Ran> {
  const child = spawn(command, args, { cwd, env: { ...process.env, ...env }, stdio: ["ignore", "pipe", "pipe"] });
  let out = "";
  let err = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => (out += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => (err += text));
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code) => resolve({ code, out, err }));
  });
}

/** Pod is a container of the hub that runs here: with an address of its own, as a pod has. */
export interface Pod {
  readonly component: string;
  readonly host: string;
  /** Container of the manifest. */
  readonly container: ApiAnswer["body"];
  readonly process: ChildProcess;
  readonly logFile: string;
}

/** Release is a release in a namespace of its own. */
export class Release {
  readonly cluster: Cluster;
  readonly namespace: string;
  /** Name of the Job that the hook runs. */
  readonly #hookJob: string;
  readonly #helm: Tool;
  readonly #pods: Pod[] = [];

  constructor(cluster: Cluster, helm: Tool, namespace: string, fullname = "example-foedus") {
    this.cluster = cluster;
    this.#helm = helm;
    this.namespace = namespace;
    this.#hookJob = `${fullname}-certificates-first`;
  }

  /** in makes the namespace of a release; nothing is installed yet. */
  static async in(cluster: Cluster, helm: Tool, namespace: string): Promise<Release> {
    await cluster.namespace(namespace);
    return new Release(cluster, helm, namespace);
  }

  /** helm runs Helm in the namespace. */
  helm(...args: string[]): Promise<Ran> {
    const env = { HELM_CACHE_HOME: join(this.cluster.dir, "helm") };
    return exec(this.#helm.path, ["--kubeconfig", this.cluster.kubeconfig, "--namespace", this.namespace, ...args], env);
  }

  /** apply installs or upgrades with an example's values. */
  apply(verb: "install" | "upgrade", example: string, ...more: string[]): Promise<Ran> {
    return this.helm(verb, "example", CHART, ...EXAMPLES.get(example)!.flatMap((file) => ["--values", file]), ...more);
  }

  path(group: string, kind: string, name = ""): string {
    return `/${group === "v1" ? "api" : "apis"}/${group}/namespaces/${this.namespace}/${kind}${name === "" ? "" : `/${name}`}`;
  }

  async names(group: string, kind: string): Promise<string[]> {
    const { items } = (await this.cluster.must("GET", this.path(group, kind))) as { items: { metadata: { name: string } }[] };
    return items.map(({ metadata }) => metadata.name).sort();
  }

  /** secret is the decoded data of a Secret. */
  async secret(name: string): Promise<Record<string, string>> {
    const { data } = (await this.cluster.must("GET", this.path("v1", "secrets", name))) as { data: Record<string, string> };
    return Object.fromEntries(Object.entries(data).map(([key, value]) => [key, Buffer.from(value, "base64").toString("utf8")]));
  }

  /** mount writes what a volume holds into a folder, and answers the folder. */
  async #mount(folder: string, volume: ApiAnswer["body"]): Promise<string> {
    mkdirSync(folder, { recursive: true });
    const data: Record<string, string> =
      volume.secret !== undefined
        ? await this.secret(volume.secret.secretName as string)
        : volume.configMap !== undefined
          ? (await this.cluster.must("GET", this.path("v1", "configmaps", volume.configMap.name as string))).data
          : {};
    for (const [name, text] of Object.entries(data)) writeFileSync(join(folder, name), text, { mode: 0o600 });
    return folder;
  }

  /** job runs the container of a Job, or of a CronJob's, to its end. */
  async job(kind: "jobs" | "cronjobs", name: string): Promise<Ran> {
    const { cluster, namespace } = this;
    const { spec } = await cluster.must("GET", this.path("batch/v1", kind, name));
    const pod = (spec.jobTemplate?.spec ?? spec).template.spec;
    const folder = join(cluster.dir, namespace, name);
    const plan = await this.#mount(join(folder, "plan"), pod.volumes[0]);
    const account = await this.#mount(join(folder, "account"), {});
    const request = { apiVersion: "authentication.k8s.io/v1", kind: "TokenRequest", spec: {} };
    const { status } = await cluster.must("POST", `${this.path("v1", "serviceaccounts", pod.serviceAccountName)}/token`, request);
    writeFileSync(join(account, "token"), status.token as string, { mode: 0o600 });
    writeFileSync(join(account, "namespace"), namespace);
    writeFileSync(join(account, "ca.crt"), cluster.ca);
    const args = (pod.containers[0].args as string[]).map((arg) => arg.replace("/etc/foedus/plan", plan));
    const env = { KUBERNETES_SERVICE_HOST: cluster.host, KUBERNETES_SERVICE_PORT: String(cluster.port) };
    return exec(process.execPath, [MAIN, ...args, "--service-account", account], env);
  }

  /** hook does the work of the hook's Job once it is there, and reports that it is complete. */
  async hook(): Promise<Ran> {
    const path = this.path("batch/v1", "jobs", this.#hookJob);
    await until("the hook's Job", async () => (await this.cluster.call("GET", path)).status === 200, LONGEST_MS);
    const ran = await this.job("jobs", this.#hookJob);
    if (ran.code !== 0) throw new Error(ran.err);
    const now = new Date().toISOString().replace(/\.\d+/, "");
    const condition = (type: string) => ({
      type,
      status: "True",
      reason: "CompletionsReached",
      lastTransitionTime: now,
      lastProbeTime: now,
    });
    const conditions = [condition("SuccessCriteriaMet"), condition("Complete")];
    const status = { startTime: now, completionTime: now, succeeded: 1, conditions, uncountedTerminatedPods: {} };
    await this.cluster.must("PATCH", `${path}/status`, { status }, "application/merge-patch+json");
    return ran;
  }

  /** hookGone resolves when the last hook's Job is deleted. */
  async hookGone(): Promise<void> {
    const path = this.path("batch/v1", "jobs", this.#hookJob);
    await until("the last Job being gone", async () => (await this.cluster.call("GET", path)).status === 404, LONGEST_MS);
  }

  /**
   * run starts the container of each workload. What a cluster gives is translated and nothing else: a loopback address is the pod's,
   * folders are its volumes, and names of Services are the addresses behind them.
   */
  async run(kind: "statefulsets" | "deployments"): Promise<readonly Pod[]> {
    const { items } = (await this.cluster.must("GET", this.path("apps/v1", kind))) as { items: ApiAnswer["body"][] };
    const hosts = new Map(items.map(({ metadata }, i) => [metadata.name as string, this.cluster.host.replace(/\d+$/, String(20 + i))]));
    for (const item of items) this.#pods.push(await this.#start(item, hosts));
    return this.#pods;
  }

  async #start(workload: ApiAnswer["body"], hosts: ReadonlyMap<string, string>): Promise<Pod> {
    const name = workload.metadata.name as string;
    const host = hosts.get(name)!;
    const { containers, volumes } = workload.spec.template.spec;
    const container = containers[0];
    const folder = join(this.cluster.dir, this.namespace, name);
    const places = new Map<string, string>();
    for (const { name: volume, mountPath } of container.volumeMounts as { name: string; mountPath: string }[]) {
      const declared = (volumes as ApiAnswer["body"][]).find((candidate) => candidate.name === volume) ?? {};
      places.set(mountPath, await this.#mount(join(folder, volume), declared));
    }
    const given = new Map([["0.0.0.0", host]]);
    for (const [place, real] of places) given.set(`${place}/`, `${real}/`);
    for (const [service, address] of hosts) given.set(`${service}.${this.namespace}.svc`, address);
    // In one pass: what was translated may look like something to translate.
    const pattern = new RegExp([...given.keys()].map((text) => text.replaceAll(".", "\\.")).join("|"), "g");
    const translated = (text: string): string => text.replaceAll(pattern, (found) => given.get(found)!);
    const config = join(places.get("/etc/foedus/config")!, "hub.json");
    writeFileSync(config, translated(readFileSync(config, "utf8")));
    const env = Object.fromEntries(
      (container.env as { name: string; value: string }[]).map(({ name: key, value }) => [key, translated(value)]),
    );
    const logFile = join(dirname(config), "..", "log");
    const log = openSync(logFile, "a");
    // A pod's own address is never a loopback one, and only beyond loopback are metrics on a port of their own.
    const args = [...(container.args as string[]).map(translated), "--set", `ops.metrics_host=${host}`];
    const child = spawn(process.execPath, [MAIN, ...args], { cwd: folder, env: { ...process.env, ...env }, stdio: ["ignore", log, log] });
    closeSync(log);
    return { component: container.name as string, host, container, process: child, logFile };
  }

  /** stop ends what `run` started, as a kubelet does, and answers the exit codes. */
  async stop(): Promise<readonly (number | null)[]> {
    return Promise.all(
      this.#pods.splice(0).map(async ({ process: child }) => {
        if (child.exitCode !== null || child.signalCode !== null) return child.exitCode;
        const gone = new Promise<void>((resolve) => child.once("exit", () => resolve()));
        child.kill("SIGTERM");
        await gone;
        return child.exitCode;
      }),
    );
  }
}
