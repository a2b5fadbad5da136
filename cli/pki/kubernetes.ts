// The Secrets of one namespace, over the API of the cluster that this process runs in. Three requests do not need a client library.
import { readFile } from "node:fs/promises";
import { request } from "node:https";
import { join } from "node:path";
import { CliError, EXIT } from "../exit.ts";

/** SERVICE_ACCOUNT is the folder where a pod finds its account's token, the cluster's CA and its namespace. */
export const SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount";

/** The API answers at once or is not well, ms. */
const TIMEOUT_MS = 15_000;
/** Longest answer that is read, bytes: a Secret holds 1 MiB at most. */
const MOST_BYTES = 4 << 20;

/** Secret is what is read and written of one. */
export interface Secret {
  readonly name: string;
  readonly type: "Opaque" | "kubernetes.io/tls";
  readonly labels: Readonly<Record<string, string>>;
  readonly data: Readonly<Record<string, string>>;
  /** Version that was read; a replacement is refused if somebody wrote in between. Undefined for one that is new. */
  readonly version: string | undefined;
}

/** Secrets of the namespace that this process runs in. */
export interface Secrets {
  readonly namespace: string;
  /** get is undefined if there is none of that name. */
  get(name: string): Promise<Secret | undefined>;
  /** put creates a Secret that has no version and replaces one that has. Throws CliError if somebody else was faster. */
  put(secret: Secret): Promise<void>;
}

interface Answer {
  readonly status: number;
  readonly body: Readonly<Record<string, unknown>>;
}

/** connectCluster reads the service account of this pod. Throws CliError outside a cluster. */
export async function connectCluster(env: Readonly<Record<string, string | undefined>>, folder: string): Promise<Secrets> {
  const { KUBERNETES_SERVICE_HOST: host, KUBERNETES_SERVICE_PORT: port = "443" } = env;
  if (host === undefined || host === "") throw outside("KUBERNETES_SERVICE_HOST is not set");
  const read = async (name: string): Promise<string> => {
    try {
      return (await readFile(join(folder, name), "utf8")).trim();
    } catch (cause) {
      throw outside(`${join(folder, name)} cannot be read`, cause);
    }
  };
  const [token, ca, namespace] = await Promise.all([read("token"), read("ca.crt"), read("namespace")]);
  const base = `/api/v1/namespaces/${encodeURIComponent(namespace)}/secrets`;
  const call = (method: string, path: string, body?: object): Promise<Answer> =>
    send({ host, port: Number(port), ca, token, method, path, ...(body === undefined ? {} : { body: JSON.stringify(body) }) });
  return {
    namespace,
    get: async (name) => {
      const answer = await call("GET", `${base}/${name}`);
      if (answer.status === 404) return undefined;
      return secretOf(checked(answer, "read", name, namespace));
    },
    put: async (secret) => {
      const isNew = secret.version === undefined;
      const answer = await call(isNew ? "POST" : "PUT", isNew ? base : `${base}/${secret.name}`, objectOf(secret, namespace));
      checked(answer, isNew ? "create" : "update", secret.name, namespace);
    },
  };
}

function outside(message: string, cause?: unknown): CliError {
  return new CliError(
    EXIT.connect,
    `this is not a pod with a service account: ${message}`,
    "Run it as a Job in the cluster; elsewhere use `foedus pki init` and `kubectl create secret`.",
    { cause },
  );
}

function secretOf(body: Readonly<Record<string, unknown>>): Secret {
  const { metadata, data, type } = body as {
    metadata: { name: string; resourceVersion: string; labels?: Record<string, string> };
    data?: Record<string, string>;
    type: Secret["type"];
  };
  const texts = Object.entries(data ?? {}).map(([key, value]) => [key, Buffer.from(value, "base64").toString("utf8")]);
  return { name: metadata.name, version: metadata.resourceVersion, labels: metadata.labels ?? {}, type, data: Object.fromEntries(texts) };
}

function objectOf({ name, type, labels, data, version }: Secret, namespace: string): object {
  return {
    apiVersion: "v1",
    kind: "Secret",
    metadata: { name, namespace, labels, ...(version === undefined ? {} : { resourceVersion: version }) },
    type,
    data: Object.fromEntries(Object.entries(data).map(([key, value]) => [key, Buffer.from(value).toString("base64")])),
  };
}

function checked({ status, body }: Answer, what: string, name: string, namespace: string): Readonly<Record<string, unknown>> {
  if (status >= 200 && status < 300) return body;
  const said = `the cluster did not ${what} the secret ${name} in ${namespace} (${status}): ${String(body["message"] ?? "no reason given")}`;
  if (status === 401) throw new CliError(EXIT.refused, said, "The token of the service account is not valid; start the pod again.");
  if (status === 403) throw new CliError(EXIT.refused, said, "Give its service account the Role that comes with the chart.");
  if (status === 409)
    throw new CliError(EXIT.failed, said, "Another run changed it at the same time. Run this again; it continues from there.");
  throw new CliError(EXIT.failed, said, "Run it again; what was already done is kept.");
}

function send(options: {
  readonly host: string;
  readonly port: number;
  readonly ca: string;
  readonly token: string;
  readonly method: string;
  readonly path: string;
  readonly body?: string;
}): Promise<Answer> {
  const { host, port, ca, token, method, path, body } = options;
  const headers = {
    authorization: `Bearer ${token}`,
    accept: "application/json",
    ...(body === undefined ? {} : { "content-type": "application/json", "content-length": Buffer.byteLength(body) }),
  };
  return new Promise((resolve, reject) => {
    const failed = (cause: Error): void =>
      reject(
        new CliError(
          EXIT.connect,
          `the API of the cluster at ${host}:${port} does not answer: ${cause.message}`,
          "Allow this pod to reach it (NetworkPolicy), then run it again.",
          { cause },
        ),
      );
    const call = request({ host, port, ca, method, path, headers, agent: false, timeout: TIMEOUT_MS }, (response) => {
      const parts: Buffer[] = [];
      let size = 0;
      response.on("data", (part: Buffer) => {
        parts.push(part);
        size += part.length;
        if (size > MOST_BYTES) call.destroy(new Error("its answer is too long"));
      });
      response.once("error", failed);
      response.once("end", () => resolve({ status: response.statusCode ?? 0, body: parsed(Buffer.concat(parts).toString("utf8")) }));
    });
    call.once("timeout", () => call.destroy(new Error(`nothing came within ${TIMEOUT_MS} ms`)));
    call.once("error", failed);
    call.end(body);
  });
}

/** parsed is empty for an answer that is no object: a proxy in between may answer in its own words. */
function parsed(text: string): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}
