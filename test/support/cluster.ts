// A Kubernetes API server with its etcd, both real, on loopback: for tests of what is said to it. Nothing runs pods in it; a test that
// needs a container's work does it itself, as a kubelet would.
import { type ChildProcess, spawn } from "node:child_process";
import { generateKeyPairSync, randomUUID } from "node:crypto";
import { mkdirSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { request } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseAllDocuments } from "yaml";
import { ROOT } from "./federation.ts";
import { endProcess, isRunning } from "./processes.ts";
import type { Tool } from "./tools.ts";
import { GivenUp, until } from "./until.ts";

const PORT = 6_443;
const ETCD_PORT = 2_379;
const STARTED_MS = 60_000;

/** Answer of the API server. */
export interface ApiAnswer {
  readonly status: number;
  // biome-ignore lint/suspicious/noExplicitAny: objects of the API have no type here; the server judges them.
  readonly body: any;
}

/** Cluster is a running API server. */
export class Cluster {
  /** Address of the server: a loopback address of its own, so that its ports are free. */
  readonly host = `127.${100 + (process.pid % 100)}.${Math.floor(process.pid / 100) % 250}.10`;
  readonly port = PORT;
  readonly dir = mkdtempSync(join(tmpdir(), "foedus-cluster-"));
  readonly #token = randomUUID();
  readonly #children: ChildProcess[] = [];

  /** start starts etcd and the API server and installs the resource definitions of the extensions. */
  static async start(etcd: Tool, apiserver: Tool): Promise<Cluster> {
    const cluster = new Cluster();
    try {
      await cluster.#start(etcd, apiserver);
    } catch (error) {
      await cluster.stop();
      throw error;
    }
    return cluster;
  }

  /** kubeconfig of an administrator. */
  get kubeconfig(): string {
    return join(this.dir, "kubeconfig");
  }

  /** caFile is the certificate that the server presents, which is its own authority. */
  get caFile(): string {
    return join(this.dir, "certs", "apiserver.crt");
  }

  /** ca is what clients have to trust. */
  get ca(): Buffer {
    return readFileSync(this.caFile);
  }

  async #start(etcd: Tool, apiserver: Tool): Promise<void> {
    const { dir, host } = this;
    mkdirSync(join(dir, "certs"));
    const store = `http://${host}:${ETCD_PORT}`;
    this.#spawn(etcd.path, [
      `--data-dir=${join(dir, "etcd")}`,
      `--listen-client-urls=${store}`,
      `--advertise-client-urls=${store}`,
      `--listen-peer-urls=http://${host}:${ETCD_PORT + 1}`,
      `--initial-advertise-peer-urls=http://${host}:${ETCD_PORT + 1}`,
      `--initial-cluster=default=http://${host}:${ETCD_PORT + 1}`,
      "--unsafe-no-fsync",
    ]);
    const { privateKey, publicKey } = generateKeyPairSync("rsa", {
      modulusLength: 2_048,
      privateKeyEncoding: { type: "pkcs8", format: "pem" },
      publicKeyEncoding: { type: "spki", format: "pem" },
    });
    writeFileSync(join(dir, "accounts.key"), privateKey, { mode: 0o600 });
    writeFileSync(join(dir, "accounts.pub"), publicKey);
    writeFileSync(join(dir, "tokens.csv"), `${this.#token},admin,1,system:masters\n`, { mode: 0o600 });
    this.#spawn(apiserver.path, [
      `--etcd-servers=${store}`,
      `--bind-address=${host}`,
      `--advertise-address=${host}`,
      `--secure-port=${PORT}`,
      `--cert-dir=${join(dir, "certs")}`,
      `--token-auth-file=${join(dir, "tokens.csv")}`,
      "--authorization-mode=RBAC",
      "--endpoint-reconciler-type=none",
      "--service-cluster-ip-range=10.96.0.0/16",
      "--service-account-issuer=https://cluster.local",
      `--service-account-signing-key-file=${join(dir, "accounts.key")}`,
      `--service-account-key-file=${join(dir, "accounts.pub")}`,
    ]);
    const ready = async (): Promise<boolean> => {
      const ended = this.#children.find((child) => !isRunning(child));
      if (ended !== undefined)
        throw new GivenUp(`${ended.spawnfile} ended:\n${readFileSync(this.#log(ended.spawnfile), "utf8").slice(-2_000)}`);
      return (await this.call("GET", "/readyz")).status === 200;
    };
    await until("the API server getting ready", ready, STARTED_MS);
    writeFileSync(this.kubeconfig, JSON.stringify(this.#kubeconfig()), { mode: 0o600 });
    await this.#define();
  }

  #log(command: string): string {
    return join(this.dir, `${command.split("/").at(-1)}.log`);
  }

  #spawn(command: string, args: readonly string[]): void {
    const log = openSync(this.#log(command), "a");
    this.#children.push(spawn(command, args, { cwd: this.dir, stdio: ["ignore", log, log] }));
  }

  #kubeconfig(): object {
    const ca = this.ca.toString("base64");
    return {
      apiVersion: "v1",
      kind: "Config",
      clusters: [{ name: "test", cluster: { server: `https://${this.host}:${PORT}`, "certificate-authority-data": ca } }],
      users: [{ name: "admin", user: { token: this.#token } }],
      contexts: [{ name: "test", context: { cluster: "test", user: "admin" } }],
      "current-context": "test",
    };
  }

  /** define installs the resource definitions that `make tools` took from their projects, and waits until they are served. */
  async #define(): Promise<void> {
    const folder = join(ROOT, ".tools/schemas/definitions");
    const wanted = /(servicemonitors|prometheusrules|certificates|issuers|tlsroutes)\.yaml$/;
    const names: string[] = [];
    for (const file of readdirSync(folder).filter((name) => wanted.test(name))) {
      for (const document of parseAllDocuments(readFileSync(join(folder, file), "utf8"))) {
        const object = document.toJS() as { kind?: string; metadata: { name: string } } | null;
        if (object?.kind !== "CustomResourceDefinition") continue;
        await this.must("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", object);
        names.push(object.metadata.name);
      }
    }
    for (const name of names)
      await until(`${name} being served`, async () => {
        const { body } = await this.call("GET", `/apis/apiextensions.k8s.io/v1/customresourcedefinitions/${name}`);
        const conditions = (body.status?.conditions ?? []) as { type: string; status: string }[];
        return conditions.some(({ type, status }) => type === "Established" && status === "True");
      });
  }

  /** call speaks to the API as an administrator. */
  call(method: string, path: string, body?: object, type = "application/json"): Promise<ApiAnswer> {
    const text = body === undefined ? undefined : JSON.stringify(body);
    return new Promise((resolve, reject) => {
      const headers = {
        authorization: `Bearer ${this.#token}`,
        ...(text === undefined ? {} : { "content-type": type, "content-length": Buffer.byteLength(text) }),
      };
      // The server makes its certificate while it starts, and this is how it is asked whether it has started.
      const call = request({ host: this.host, port: PORT, path, method, headers, ca: this.ca, agent: false }, (response) => {
        let answer = "";
        response.setEncoding("utf8").on("data", (part: string) => (answer += part));
        response.on("end", () => {
          const json = answer.startsWith("{");
          resolve({ status: response.statusCode ?? 0, body: json ? (JSON.parse(answer) as unknown) : answer });
        });
      });
      call.on("error", reject);
      call.end(text);
    });
  }

  /** must is a call that has to succeed. */
  async must(method: string, path: string, body?: object, type?: string): Promise<ApiAnswer["body"]> {
    const answer = await this.call(method, path, body, type);
    if (answer.status < 200 || answer.status > 299) throw new Error(`${method} ${path}: ${answer.status} ${JSON.stringify(answer.body)}`);
    return answer.body;
  }

  /** namespace makes a namespace that admits only pods of the Pod Security Standard restricted, and warns of workloads with others. */
  async namespace(name: string): Promise<void> {
    const labels = { "pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/warn": "restricted" };
    await this.must("POST", "/api/v1/namespaces", { metadata: { name, labels } });
  }

  /** stop ends the processes and removes their folder. */
  async stop(): Promise<void> {
    for (const child of this.#children.splice(0).reverse()) await endProcess(child, child.spawnfile, "SIGKILL");
    rmSync(this.dir, { recursive: true, force: true });
  }
}
