// The chart through the real Helm, and its objects for tests to look at.
import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { parseAllDocuments } from "yaml";
import { ROOT } from "../support/federation.ts";
import { type Tool, tool } from "../support/tools.ts";

/** CHART is the chart's folder. */
export const CHART = join(ROOT, "helm/foedus");

/** SCHEMAS is where `make tools` puts the JSON schemas of Kubernetes and of the extensions. */
export const SCHEMAS = join(ROOT, ".tools/schemas");

/** KUBERNETES is the version that charts are rendered for, that of the schemas in tools/kube-schemas/modules.txt. */
export const KUBERNETES = "1.36.3";

/** HELMS are the programs that must agree on the chart. */
export const HELMS: Readonly<Record<string, Tool>> = { "helm 4": tool("helm"), "helm 3": tool("helm3") };

/** RELEASE and NAMESPACE of rendered examples. */
export const RELEASE = "example";
export const NAMESPACE = "federation";

const LONGEST_MS = 60_000;

/** EXAMPLES are the value files of each example, by name: ci/<name>-values.yaml, over values-ha.yaml for the one of that name. */
export const EXAMPLES: ReadonlyMap<string, readonly string[]> = new Map(
  readdirSync(join(CHART, "ci"))
    .sort()
    .map((file) => {
      const name = file.replace("-values.yaml", "");
      const own = join(CHART, "ci", file);
      return [name, name === "ha" ? [join(CHART, "values-ha.yaml"), own] : [own]];
    }),
);

/** Ran is a command that is over. */
export interface Ran {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

/** run runs a program to its end. */
export function run(command: string, args: readonly string[], input?: string, env?: NodeJS.ProcessEnv): Ran {
  const { status, stdout, stderr, error } = spawnSync(command, args, {
    cwd: ROOT,
    encoding: "utf8",
    timeout: LONGEST_MS,
    maxBuffer: 64 << 20,
    ...(input === undefined ? {} : { input }),
    ...(env === undefined ? {} : { env: { ...process.env, ...env } }),
  });
  if (error !== undefined) throw error;
  return { code: status, out: stdout, err: stderr };
}

/** Values are values that a test gives, as they stand in a file. */
export type Values = Readonly<Record<string, unknown>>;

/** helmTemplate renders the chart with value files and further values. */
export function helmTemplate(helm: Tool, files: readonly string[], values: Values = {}, more: readonly string[] = []): Ran {
  const given = files.flatMap((file) => ["--values", file]);
  const args = ["template", RELEASE, CHART, "--namespace", NAMESPACE, "--kube-version", KUBERNETES, ...given, "--values", "-", ...more];
  return run(helm.path, args, JSON.stringify(values));
}

/** K8sObject is an object of the chart, read loosely. */
// biome-ignore lint/suspicious/noExplicitAny: manifests have no type here; their schemas are checked by kubeconform.
export type K8sObject = { kind: string; metadata: { name: string; annotations?: Record<string, string> }; [key: string]: any };

/** objectsOf reads manifests. */
export function objectsOf(manifests: string): K8sObject[] {
  return parseAllDocuments(manifests)
    .map((document) => document.toJS() as K8sObject | null)
    .filter((object) => object !== null);
}

/** render gives the objects of the chart; it throws what Helm says if it does not render. */
export function render(values: Values, files: readonly string[] = [], helm: Tool = HELMS["helm 4"]!): K8sObject[] {
  const { code, out, err } = helmTemplate(helm, files, values);
  if (code !== 0) throw new Error(err);
  return objectsOf(out);
}

/** find is the object of a kind and name; it throws if there is none. */
export function find(objects: readonly K8sObject[], kind: string, name: string): K8sObject {
  const found = objects.find((object) => object.kind === kind && object.metadata.name === name);
  if (found === undefined)
    throw new Error(`there is no ${kind} ${name}; there are ${objects.map((o) => `${o.kind}/${o.metadata.name}`).join(", ")}`);
  return found;
}
