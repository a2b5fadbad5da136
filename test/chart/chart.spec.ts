// The chart as Helm 4 and Helm 3 see it, its objects as Kubernetes' own schemas and security rules judge them.
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { HTTP_PORT, SERVICES, withSessions } from "../../services/hub/services.ts";
import { anyMissing, tool } from "../support/tools.ts";
import { read } from "../tidy/files.ts";
import { CHART, EXAMPLES, find, HELMS, helmTemplate, KUBERNETES, objectsOf, render, run, SCHEMAS } from "./fixture.ts";

const kubeconform = tool("kubeconform");
const podSecurity = tool("pod-security");
const helm = HELMS["helm 4"]!;
const schemasMissing = anyMissing(helm, kubeconform) || !existsSync(SCHEMAS);

const golden = (name: string): string => join(CHART, "goldens", `${name}.yaml`);

/** shortened leaves out the files of others that the chart carries along: a test of their own keeps those copies equal. */
function shortened(manifests: string): string {
  return ["alerts.yaml", "dashboard.json"].reduce(
    (text, file) => {
      const carried = read(`helm/foedus/files/${file}`).trimEnd().split("\n");
      const depth = file === "alerts.yaml" ? "  " : "    ";
      return text.replace(carried.map((line) => (depth + line).trimEnd()).join("\n"), `${depth}# files/${file}`);
    },
    manifests.replaceAll(/[ \t]+$/gm, ""),
  );
}

/** judge checks manifests against the schemas of Kubernetes and of the extensions. */
function judge(manifests: string) {
  const at = (path: string): string[] => ["-schema-location", `${SCHEMAS}/${path}{{.ResourceKind}}_{{.ResourceAPIVersion}}.json`];
  return run(kubeconform.path, ["-strict", "-summary", "-output", "json", ...at("{{.Group}}/"), ...at("")], manifests);
}

describe.each(Object.entries(HELMS))("the chart with %s", (name, program) => {
  test.skipIf(anyMissing(program)).each([...EXAMPLES])("lint finds nothing in %s", (_, files) => {
    const args = ["lint", "--strict", "--kube-version", KUBERNETES, CHART, ...files.flatMap((file) => ["--values", file])];
    const { code, out, err } = run(program.path, args);
    expect({ code, text: `${out}${err}`.includes("[WARNING]") || `${out}${err}`.includes("[ERROR]") }, out + err).toEqual({
      code: 0,
      text: false,
    });
  });

  test.skipIf(anyMissing(program)).each([...EXAMPLES])("renders %s as its golden shows (make test-update)", (example, files) => {
    const { code, out: whole, err } = helmTemplate(program, files);
    expect({ code, err }).toEqual({ code: 0, err: "" });
    const out = shortened(whole);
    if (example === "ha") expect(out).toContain("# files/alerts.yaml");
    if (process.env["FOEDUS_UPDATE_TRANSCRIPTS"] === "1" && name === "helm 4") writeFileSync(golden(example), out);
    const wanted = readFileSync(golden(example), "utf8");
    // Helm 3 puts the same objects in another order and leaves other empty lines.
    const sorted = (text: string) => objectsOf(text).sort((a, b) => key(a).localeCompare(key(b)));
    const key = (o: { kind: string; metadata: { name: string } }): string => `${o.kind}/${o.metadata.name}`;
    expect(sorted(out)).toEqual(sorted(wanted));
    if (name === "helm 4") expect(out).toBe(wanted);
  });
});

describe("the objects of the chart", () => {
  test.skipIf(schemasMissing).each([...EXAMPLES])(
    "%s is valid for Kubernetes, prometheus-operator, cert-manager and Gateway API",
    (_, files) => {
      const manifests = helmTemplate(helm, files).out;
      const { code, out } = judge(manifests);
      const { resources, summary } = JSON.parse(out) as { resources: unknown[]; summary: Record<string, number> };
      expect({ code, resources: resources ?? [], summary }).toEqual({
        code: 0,
        resources: [],
        summary: { valid: objectsOf(manifests).length, invalid: 0, errors: 0, skipped: 0 },
      });
    },
  );

  test.skipIf(schemasMissing)("a field that Kubernetes does not know would be found", () => {
    const manifests = helmTemplate(helm, EXAMPLES.get("split")!).out;
    const spoilt = manifests.replace("terminationGracePeriodSeconds:", "terminationGraceSeconds:");
    expect(spoilt).not.toBe(manifests);
    const { code, out } = judge(spoilt);
    expect(code).toBe(1);
    expect(out).toContain("terminationGraceSeconds");
  });

  test.skipIf(anyMissing(helm, podSecurity)).each([...EXAMPLES])(
    "every workload of %s passes the Pod Security Standard restricted",
    (_, files) => {
      const manifests = helmTemplate(helm, files).out;
      const { code, out, err } = run(podSecurity.path, [], manifests);
      expect({ code, err, refused: out.split("\n").filter((line) => line.includes("refused")) }).toEqual({ code: 0, err: "", refused: [] });
      const workloads = objectsOf(manifests).filter(({ kind }) => /^(StatefulSet|Deployment|Job|CronJob)$/.test(kind));
      expect(out.trim().split("\n")).toHaveLength(workloads.length);
    },
  );

  test.skipIf(anyMissing(helm, podSecurity))("a workload that may gain rights would be refused", () => {
    const manifests = helmTemplate(helm, EXAMPLES.get("split")!).out;
    const { code, out } = run(podSecurity.path, [], manifests.replace("allowPrivilegeEscalation: false", "allowPrivilegeEscalation: true"));
    expect(code).toBe(1);
    expect(out).toMatch(/refused: .*allowPrivilegeEscalation/);
  });
});

/** What a security review asks beyond the standard. */
describe.skipIf(anyMissing(helm))("a pod of the hub", () => {
  const podsOf = (example: string) =>
    render({}, EXAMPLES.get(example)!)
      .filter(({ kind }) => kind === "StatefulSet" || kind === "Deployment")
      .map((workload) => ({
        name: workload.metadata.name,
        spec: workload["spec"].template.spec,
        labels: workload["spec"].template.metadata.labels,
      }));

  test.each([...EXAMPLES.keys()])("in %s holds no token, a read-only root and the key of its own service only", (example) => {
    for (const { name, spec, labels } of podsOf(example)) {
      expect(spec.automountServiceAccountToken, name).toBe(false);
      expect(spec.hostNetwork ?? spec.hostPID ?? spec.hostIPC, name).toBeUndefined();
      const component = labels["app.kubernetes.io/component"] as string;
      const secrets = spec.volumes.flatMap((volume: { secret?: { secretName: string } }) => volume.secret?.secretName ?? []);
      expect(secrets, name).toHaveLength(1);
      if (example !== "existing") expect(secrets[0]).toContain(`-${component}-tls`);
      for (const container of [...spec.containers, ...(spec.initContainers ?? [])]) {
        expect(container.securityContext.readOnlyRootFilesystem, name).toBe(true);
        expect(container.resources.requests, name).toMatchObject({ cpu: expect.any(String), memory: expect.any(String) });
        expect(container.resources.limits.memory, name).toBeDefined();
      }
    }
  });

  test("S0-24 split mode has a workload, a volume, a Service and a network policy for each service", () => {
    const objects = render({}, EXAMPLES.get("split")!);
    for (const component of SERVICES) {
      const name = `example-foedus-${component}`;
      const workload = find(objects, "StatefulSet", name);
      expect(workload["spec"].replicas).toBe(1);
      expect(workload["spec"].volumeClaimTemplates).toHaveLength(1);
      expect(workload["spec"].template.spec.containers[0].args.slice(0, 2)).toEqual(["serve", component]);
      find(objects, "Service", name);
      find(objects, "NetworkPolicy", name);
    }
    expect(objects.filter(({ kind }) => kind === "StatefulSet")).toHaveLength(SERVICES.length);
  });

  test("the account of the certificates' Job may touch the Secrets that it makes and no others", () => {
    const objects = render({}, EXAMPLES.get("ha")!);
    const plan = JSON.parse(find(objects, "ConfigMap", "example-foedus-certificates")["data"]["plan.json"]) as {
      authority: string;
      leaves: { secret: string }[];
    };
    const roles = objects.filter(({ kind }) => kind === "Role");
    expect(roles).toHaveLength(2);
    for (const role of roles)
      expect(role["rules"]).toEqual([
        { apiGroups: [""], resources: ["secrets"], verbs: ["create"] },
        {
          apiGroups: [""],
          resources: ["secrets"],
          resourceNames: [plan.authority, ...plan.leaves.map(({ secret }) => secret)],
          verbs: ["get", "update"],
        },
      ]);
    expect(objects.some(({ kind }) => kind.startsWith("Cluster"))).toBe(false);
  });

  test("HTTP has a port where a hub in one pod serves it, for clients and not for peers, and nowhere else", () => {
    const http = { config: { http: { enabled: true } } };
    const single = render(http, EXAMPLES.get("single")!);
    const config = (objects: typeof single) => JSON.parse(find(objects, "ConfigMap", "example-foedus-config")["data"]["hub.json"]);
    expect(config(single).http).toEqual({ enabled: true, host: "0.0.0.0" });
    expect(find(single, "Service", "example-foedus-hub")["spec"].ports).toContainEqual({
      name: "http",
      port: HTTP_PORT,
      targetPort: "http",
    });
    const [container] = find(single, "StatefulSet", "example-foedus-hub")["spec"].template.spec.containers;
    expect(container.ports).toContainEqual({ name: "http", containerPort: HTTP_PORT });
    const rules = find(single, "NetworkPolicy", "example-foedus-hub")["spec"].ingress as { from?: unknown[]; ports: { port: string }[] }[];
    const open = rules.filter(({ ports }) => ports.some(({ port }) => port === "http"));
    expect([open.length, open[0]?.from]).toEqual([1, [{ podSelector: {} }]]);
    const peers = single.filter(({ kind, metadata }) => kind === "Service" && metadata.name.endsWith("-peers"));
    expect(JSON.stringify(peers)).not.toContain("http");
    const own = render({ config: { http: { enabled: true, host: "127.0.0.1", port: 9_000 } } }, EXAMPLES.get("single")!);
    expect(config(own).http).toEqual({ enabled: true, host: "127.0.0.1", port: 9_000 });
    for (const objects of [render({}, EXAMPLES.get("single")!), render(http, EXAMPLES.get("split")!)])
      expect(
        objects
          .filter(({ kind }) => kind !== "ConfigMap")
          .map((object) => JSON.stringify(object))
          .join(),
      ).not.toContain('"http"');
  });

  test("a telemetry service is not for peers: no rule and no Service lets them in", () => {
    const objects = render({}, EXAMPLES.get("ha")!);
    const outside = objects.filter(({ kind, ...o }) => kind === "Service" && o["spec"].type !== "ClusterIP").map((o) => o.metadata.name);
    expect(outside.sort()).toEqual(
      withSessions()
        .map((name) => `example-foedus-${name}-peers`)
        .sort(),
    );
    const rules = find(objects, "NetworkPolicy", "example-foedus-telemetry")["spec"].ingress as { from?: unknown[] }[];
    expect(rules.every(({ from }) => (from ?? []).length > 0)).toBe(true);
  });
});
