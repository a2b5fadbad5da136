// What people set, one kind after the other: each must give objects that Kubernetes admits, in a namespace that enforces the Pod
// Security Standard "restricted", with the names and labels that controllers derive from them.
import { existsSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { SERVICES } from "../../services/hub/services.ts";
import { anyMissing, tool } from "../support/tools.ts";
import { CHART, HELMS, type K8sObject, KUBERNETES, NAMESPACE, objectsOf, run, SCHEMAS, type Values } from "./fixture.ts";

const helm = HELMS["helm 4"]!;
const kubeconform = tool("kubeconform");
const podSecurity = tool("pod-security");
const missing = anyMissing(helm, kubeconform, podSecurity) || !existsSync(SCHEMAS);

const IMAGE = { image: { repository: "registry.example.org/foedus" } };
const LONGEST_RELEASE = "release-of-fifty-three-characters-which-is-the-longest";
const SHARED = { expose: { type: "LoadBalancer", sharedAddress: true }, advertise: { host: "h.example.org" } };
const MONITORED = { metrics: { serviceMonitor: { enabled: true }, prometheusRule: { enabled: true }, dashboard: { enabled: true } } };
const CA = "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n";

interface Kind {
  readonly values: Values;
  readonly release?: string;
  readonly more?: readonly string[];
}

const KINDS: Readonly<Record<string, Kind>> = {
  "the least": { values: {} },
  "a workload per service": { values: { mode: "split" } },
  "the longest release name": { values: {}, release: LONGEST_RELEASE.slice(0, 53) },
  "the longest release name in split mode": { values: { mode: "split", ...MONITORED }, release: LONGEST_RELEASE.slice(0, 53) },
  "a release name of 27 characters in split mode": { values: { mode: "split" }, release: "a23456789b123456789c1234567" },
  "the longest release name behind load balancers": { values: { mode: "split", ...SHARED }, release: LONGEST_RELEASE.slice(0, 53) },
  "the longest override": { values: { mode: "split", fullnameOverride: "f".repeat(33) } },
  "the longest override in one workload": { values: { fullnameOverride: "f".repeat(39) } },
  "a long name instead of the chart's": { values: { mode: "split", nameOverride: "n".repeat(63) } },
  "a hub id of 63 characters": { values: { hubId: "h".repeat(63), mode: "split" } },
  "IPv6 only": { values: { ip: { families: ["IPv6"], policy: "SingleStack" } } },
  "both, with IPv6 first": { values: { mode: "split", ip: { families: ["IPv6", "IPv4"], policy: "RequireDualStack" } } },
  "an IPv6 address that is advertised": { values: { advertise: { host: "2001:db8::7" }, expose: { type: "LoadBalancer" } } },
  OpenShift: { values: { mode: "split" }, more: ["--api-versions", "security.openshift.io/v1"] },
  "users that the cluster chooses": { values: { podSecurity: { runAsUser: null, runAsGroup: null, fsGroup: null } } },
  "another user": { values: { podSecurity: { runAsUser: 1_000_680_000, runAsGroup: 1_000_680_000, fsGroup: 1_000_680_000 } } },
  "no network policies": { values: { networkPolicy: { enabled: false } } },
  "peers in a range, one of IPv6 excepted": { values: { mode: "split", networkPolicy: { peersToExcept: ["10.0.0.0/8", "fd00::/8"] } } },
  "external certificates": {
    values: { certificates: { source: "existing", existing: { hub: "own", metrics: "own-metrics" } }, ...MONITORED },
  },
  "external certificates in split mode": {
    values: {
      mode: "split",
      certificates: {
        source: "existing",
        existing: Object.fromEntries(SERVICES.map((name) => [name, name])),
      },
    },
  },
  "cert-manager": { values: { mode: "split", certificates: { source: "cert-manager" } } },
  "a cluster's issuer": {
    values: { certificates: { source: "cert-manager", certManager: { issuerRef: { name: "hub-ca", kind: "ClusterIssuer" } } } },
  },
  "a trial without volumes": { values: { mode: "split", persistence: { enabled: false } } },
  "node ports": {
    values: { expose: { type: "NodePort" }, advertise: { host: "192.0.2.1" }, services: { hub: { nodePort: 30_800 } } },
  },
  "load balancers on one address": { values: { mode: "split", ...SHARED } },
  "a Gateway": {
    values: {
      mode: "split",
      expose: { type: "TLSRoute", gateway: { name: "edge" } },
      advertise: { host: "h.example.org" },
    },
  },
  "peers that the hub keeps itself": { values: { mode: "split", federation: { managedBy: "hub", peers: [{ hub_id: "b", ca: CA }] } } },
  "a revoked certificate of a peer": { values: { federation: { peers: [{ hub_id: "b", ca: CA, revoked: ["0f".repeat(32)] }] } } },
  "a Secret for tracing": {
    values: {
      extraVolumes: [{ name: "tracing", secret: { secretName: "collector" } }],
      extraVolumeMounts: [{ name: "tracing", mountPath: "/etc/foedus/tracing", readOnly: true }],
      config: { tracing: { endpoint: "https://collector.example.org/v1/traces", headers_file: "/etc/foedus/tracing/headers.json" } },
    },
  },
  "spread over a small cluster": { values: { mode: "split", spread: { enabled: true, whenUnsatisfiable: "DoNotSchedule" } } },
  "everything that watches": { values: { mode: "split", ...MONITORED } },
  "pulled with a secret, on chosen nodes": {
    values: {
      imagePullSecrets: [{ name: "pull" }],
      nodeSelector: { "kubernetes.io/arch": "arm64" },
      tolerations: [{ key: "edge", operator: "Exists" }],
      podLabels: { team: "a" },
      podAnnotations: { note: "b" },
      priorityClassName: "high",
    },
  },
};

function template({ values, release = "example", more = [] }: Kind): string {
  const { code, out, err } = run(
    helm.path,
    ["template", release, CHART, "--namespace", NAMESPACE, "--kube-version", KUBERNETES, "--values", "-", ...more],
    JSON.stringify({ hubId: "factory", ...IMAGE, ...values }),
  );
  if (code !== 0) throw new Error(err);
  return out;
}

const LABEL = /^(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$/;
const DNS_LABEL = /^[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?$/;

/** Longest name by kind: controllers add a revision (11 characters) or the minute (11) and put the result into a label. */
const LONGEST: Readonly<Record<string, number>> = { StatefulSet: 52, CronJob: 52, Deployment: 52, Job: 63, Service: 63 };

/** derived says what is wrong with the names and labels of an object, beyond what schemas know. */
function derived(object: K8sObject): string[] {
  const { kind, metadata } = object;
  const wrong: string[] = [];
  if (metadata.name.length > (LONGEST[kind] ?? 253)) wrong.push(`${kind} ${metadata.name} has ${metadata.name.length} characters`);
  if (kind === "Service" && !DNS_LABEL.test(metadata.name)) wrong.push(`Service ${metadata.name} is no DNS label`);
  const labels = [metadata, object["spec"]?.template?.metadata, object["spec"]?.jobTemplate?.spec?.template?.metadata].flatMap((at) =>
    Object.entries((at?.labels ?? {}) as Record<string, unknown>),
  );
  for (const [key, value] of labels)
    if (typeof value !== "string" || !LABEL.test(value)) wrong.push(`${kind} ${metadata.name}: label ${key}=${String(value)}`);
  return wrong;
}

describe.skipIf(missing)("the chart with", () => {
  test.each(Object.entries(KINDS))("%s", (_, kind) => {
    const manifests = template(kind);
    const objects = objectsOf(manifests);
    expect(objects.flatMap(derived)).toEqual([]);
    const names = objects.map((object) => `${object["apiVersion"]} ${object.kind}/${object.metadata.name}`);
    expect(new Set(names).size, "two objects of one name").toBe(names.length);
    const at = (path: string): string[] => ["-schema-location", `${SCHEMAS}/${path}{{.ResourceKind}}_{{.ResourceAPIVersion}}.json`];
    const judged = run(kubeconform.path, ["-strict", "-summary", "-output", "json", ...at("{{.Group}}/"), ...at("")], manifests);
    expect(JSON.parse(judged.out)).toMatchObject({ summary: { valid: objects.length, invalid: 0, errors: 0, skipped: 0 } });
    const admitted = run(podSecurity.path, [], manifests);
    expect(
      admitted.out.split("\n").filter((line) => line.includes("refused")),
      admitted.err,
    ).toEqual([]);
  });

  const of = (name: string): K8sObject[] => objectsOf(template(KINDS[name]!));
  const pods = (objects: K8sObject[]) =>
    objects.filter(({ kind }) => /^(StatefulSet|Deployment|Job)$/.test(kind)).map((workload) => workload["spec"].template.spec);

  test("two long release names stay two", () => {
    const [one, two] = ["a", "b"].map((end) => objectsOf(template({ values: {}, release: `${LONGEST_RELEASE.slice(0, 52)}${end}` })));
    expect(one!.find(({ kind }) => kind === "StatefulSet")!.metadata.name).not.toBe(
      two!.find(({ kind }) => kind === "StatefulSet")!.metadata.name,
    );
  });

  test.each(["OpenShift", "users that the cluster chooses"])("%s: no pod names a user", (name) => {
    expect(pods(of(name)).length).toBeGreaterThan(1);
    for (const { securityContext } of pods(of(name))) {
      expect(securityContext).toMatchObject({ runAsNonRoot: true, seccompProfile: { type: "RuntimeDefault" } });
      expect(Object.keys(securityContext)).not.toContain("runAsUser");
      expect(Object.keys(securityContext)).not.toContain("fsGroup");
    }
  });

  test("IPv6: the hub listens on it, probes included", () => {
    const objects = of("IPv6 only");
    const config = JSON.parse(objects.find(({ metadata }) => metadata.name === "example-foedus-config")!["data"]["hub.json"]);
    expect([config.listen.host, config.ops.host]).toEqual(["::", "::"]);
    expect(objects.find(({ kind }) => kind === "Service")!["spec"]).toMatchObject({ ipFamilies: ["IPv6"], ipFamilyPolicy: "SingleStack" });
    const split = of("both, with IPv6 first").filter(({ kind }) => kind === "StatefulSet");
    for (const workload of split)
      expect(workload["spec"].template.spec.containers[0].args).toContainEqual(expect.stringMatching(/host=::$/));
  });

  test("where a namespace denies all by default, the first Job may reach the API before anything else is installed", () => {
    const hooks = of("the least").filter(({ metadata }) => metadata.annotations?.["helm.sh/hook"] !== undefined);
    const policy = hooks.find(({ kind }) => kind === "NetworkPolicy")!;
    const job = hooks.find(({ kind }) => kind === "Job")!;
    expect(Number(policy.metadata.annotations!["helm.sh/hook-weight"])).toBeLessThan(
      Number(job.metadata.annotations!["helm.sh/hook-weight"]),
    );
    expect(job["spec"].template.metadata.labels).toMatchObject(policy["spec"].podSelector.matchLabels);
    expect(policy["spec"].egress[0].ports).toContainEqual({ port: 6443, protocol: "TCP" });
  });

  test("spread over a small cluster does not count nodes that no pod of the hub may run on", () => {
    const [constraint] = pods(of("spread over a small cluster"))[0].topologySpreadConstraints;
    expect(constraint).toMatchObject({ nodeTaintsPolicy: "Honor", whenUnsatisfiable: "DoNotSchedule" });
  });

  test("Prometheus holds a certificate that reads metrics and nothing else", () => {
    const plan = of("everything that watches").find(
      ({ kind, metadata }) => kind === "ConfigMap" && metadata.name === "example-foedus-certificates",
    )!;
    const { leaves } = JSON.parse(plan["data"]["plan.json"]) as { leaves: { secret: string; role?: string }[] };
    expect(leaves.find(({ secret }) => secret === "example-foedus-metrics-tls")?.role).toBe("metrics");
  });
});
