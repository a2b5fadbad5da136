// The chart's life in a cluster: Helm against a real API server, and a hub that runs from what is in the cluster afterwards.
import { X509Certificate } from "node:crypto";
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { get } from "node:https";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { SERVICES } from "../../services/hub/index.ts";
import { type ApiAnswer, Cluster } from "../support/cluster.ts";
import { until } from "../support/federation.ts";
import { anyMissing, tool } from "../support/tools.ts";
import { read } from "../tidy/files.ts";
import { EXAMPLES, HELMS, SCHEMAS } from "./fixture.ts";
import { exec, type Pod, Release } from "./release.ts";

const etcd = tool("etcd");
const apiserver = tool("kube-apiserver");
const grpcurl = tool("grpcurl");
const kubectl = tool("kubectl");
const openssl = tool("openssl");
const helm = HELMS["helm 4"]!;
const MINUTE_MS = 60_000;

describe.skipIf(anyMissing(etcd, apiserver) || !existsSync(SCHEMAS))("the chart in a cluster", () => {
  let cluster: Cluster;
  beforeAll(async () => {
    cluster = await Cluster.start(etcd, apiserver);
  }, 2 * MINUTE_MS);
  afterAll(() => cluster?.stop());

  describe.each(Object.entries(HELMS))("with %s", (name, program) => {
    test.skipIf(anyMissing(program))(
      "installs, upgrades, rolls back and leaves, with certificates from its Job",
      { timeout: 4 * MINUTE_MS },
      async () => {
        const release = await Release.in(cluster, program, `life-${name.replace(" ", "")}`);
        const [installed] = await Promise.all([release.apply("install", "ha"), release.hook()]);
        expect(installed, installed.err).toMatchObject({ code: 0 });
        // The server warns of workloads that the standard would refuse, and Helm repeats it.
        expect(installed.err).not.toMatch(/would violate|warning/i);
        expect(await release.names("apps/v1", "statefulsets")).toHaveLength(SERVICES.length);

        const ca = await release.secret("example-foedus-ca");
        const leaf = await release.secret("example-foedus-registry-sync-tls");
        expect(leaf["ca.crt"]).toBe(ca["tls.crt"]);
        const certificate = new X509Certificate(leaf["tls.crt"]!);
        expect(certificate.verify(new X509Certificate(ca["tls.crt"]!).publicKey)).toBe(true);
        for (const san of ["URI:spiffe://factory/service/registry-sync", `DNS:example-foedus-registry-sync.${release.namespace}.svc`])
          expect(certificate.subjectAltName).toContain(san);
        expect(certificate.subjectAltName).toContain("IP Address:198.51.100.7");

        // What is good is kept: the upgrade's Job changes no Secret.
        await release.hookGone();
        const [upgraded, again] = await Promise.all([release.apply("upgrade", "ha", "--set", "config.log.level=debug"), release.hook()]);
        expect(upgraded, upgraded.err).toMatchObject({ code: 0 });
        expect(again.out).not.toMatch(/created|renewed/);
        expect(await release.secret("example-foedus-registry-sync-tls")).toEqual(leaf);
        const level = async () => {
          const { data } = await cluster.must("GET", release.path("v1", "configmaps", "example-foedus-config"));
          return (JSON.parse(data["hub.json"] as string) as { log?: { level: string } }).log?.level;
        };
        expect(await level()).toBe("debug");

        const back = await release.helm("rollback", "example", "1");
        expect(back, back.err).toMatchObject({ code: 0 });
        expect(await level()).toBeUndefined();

        const gone = await release.helm("uninstall", "example");
        expect(gone, gone.err).toMatchObject({ code: 0 });
        expect(await release.names("apps/v1", "statefulsets")).toEqual([]);
        // Peers have pinned that CA: it is not Helm's to delete.
        expect(await release.names("v1", "secrets")).toContain("example-foedus-ca");
      },
    );
  });

  test.skipIf(anyMissing(helm)).each([...EXAMPLES.keys()])(
    "the server takes every object of %s, and every pod of it in a restricted namespace",
    { timeout: MINUTE_MS },
    async (example) => {
      const release = await Release.in(cluster, helm, `takes-${example}`);
      const installed = await release.apply("install", example, "--no-hooks");
      expect(installed, installed.err).toMatchObject({ code: 0 });
      expect(installed.err).not.toMatch(/would violate|warning/i);
      const lists = ["statefulsets", "deployments"].map(async (kind) => (await cluster.must("GET", release.path("apps/v1", kind))).items);
      const workloads = (await Promise.all(lists)).flat() as { metadata: { name: string }; spec: ApiAnswer["body"] }[];
      expect(workloads.length).toBeGreaterThan(0);
      for (const { metadata, spec } of workloads) {
        const volumes = spec.template.spec.volumes as object[];
        // The StatefulSet's controller would add the claim that it made.
        const claims = (spec.volumeClaimTemplates ?? []).map(() => ({ name: "data", persistentVolumeClaim: { claimName: "data" } }));
        const labels = spec.template.metadata.labels as object;
        const pod = { metadata: { name: metadata.name, labels }, spec: { ...spec.template.spec, volumes: [...volumes, ...claims] } };
        await cluster.must("POST", `${release.path("v1", "pods")}?dryRun=All&fieldValidation=Strict`, pod);
      }
      expect(await release.helm("uninstall", "example", "--no-hooks")).toMatchObject({ code: 0 });
    },
  );

  test.skipIf(anyMissing(helm))("the commands of the README's section Deploy do what it says", { timeout: 4 * MINUTE_MS }, async () => {
    const section = /^## Deploy$([\s\S]*?)^## /m.exec(read("README.md"))![1]!;
    const blocks = [...section.matchAll(/^```sh\n([\s\S]*?)^```/gm)].map(([, body]) => body!.replaceAll("\\\n", " "));
    const commands = blocks.flatMap((body) => body.split("\n")).filter((line) => line !== "");
    expect(commands.length).toBeGreaterThanOrEqual(2);
    const release = new Release(cluster, helm, "federation", "factory-foedus");
    for (const command of commands) {
      expect(command).toMatch(/^helm (install|upgrade|uninstall) factory /);
      const env = { KUBECONFIG: cluster.kubeconfig, PATH: `${join(helm.path, "..")}:${process.env["PATH"]}` };
      const hooked = command.startsWith("helm uninstall") ? undefined : release.hookGone().then(() => release.hook());
      const [ran] = await Promise.all([exec("bash", ["-euc", command], env), hooked]);
      expect(ran, command + ran.err).toMatchObject({ code: 0 });
    }
    expect(await release.names("apps/v1", "statefulsets")).toEqual(["factory-foedus-hub"]);
  });

  describe.skipIf(anyMissing(helm))("the Job that keeps the certificates", () => {
    const job = () => release.job("cronjobs", "example-foedus-certificates");
    const remove = (name: string) => cluster.must("DELETE", release.path("v1", "secrets", name));
    let release: Release;
    beforeAll(async () => {
      release = await Release.in(cluster, helm, "certificates");
      expect(await release.apply("install", "split", "--no-hooks")).toMatchObject({ code: 0 });
      expect(await job()).toMatchObject({ code: 0 });
    }, MINUTE_MS);

    test("completes what a run that was cut off left", { timeout: MINUTE_MS }, async () => {
      const before = await release.secret("example-foedus-ca");
      await remove("example-foedus-telemetry-tls");
      const { code, out } = await job();
      expect(code).toBe(0);
      expect(out).toMatch(/telemetry-tls +created/);
      expect(await release.secret("example-foedus-ca")).toEqual(before);
      expect((await release.secret("example-foedus-telemetry-tls"))["ca.crt"]).toBe(before["tls.crt"]);
    });

    test("makes no new CA while certificates of the old one are there", { timeout: MINUTE_MS }, async () => {
      const { metadata, type, data } = await cluster.must("GET", release.path("v1", "secrets", "example-foedus-ca"));
      await remove("example-foedus-ca");
      const { code, err } = await job();
      expect(code).toBe(1);
      expect(err).toMatch(/the secret example-foedus-ca with the CA is gone.*Restore it from a backup/s);
      expect(await release.names("v1", "secrets")).not.toContain("example-foedus-ca");
      await cluster.must("POST", release.path("v1", "secrets"), { metadata: { name: metadata.name, labels: metadata.labels }, type, data });
      expect(await job()).toMatchObject({ code: 0 });
    });

    test("may do no more than its Role says, and says what is missing", { timeout: MINUTE_MS }, async () => {
      const role = `/apis/rbac.authorization.k8s.io/v1/namespaces/${release.namespace}/roles/example-foedus-certificates`;
      const { rules } = (await cluster.must("GET", role)) as { rules: object[] };
      await cluster.must("PATCH", role, { rules: [rules[0]] }, "application/merge-patch+json");
      const { code, err } = await job();
      expect(code).toBe(4);
      expect(err).toMatch(/did not read the secret example-foedus-\S+ in certificates \(403\)/);
      expect(err).toContain("Give its service account the Role that comes with the chart");
      await cluster.must("PATCH", role, { rules }, "application/merge-patch+json");
      expect(await job()).toMatchObject({ code: 0 });
    });

    test("refuses a Secret that holds something else", { timeout: MINUTE_MS }, async () => {
      await remove("example-foedus-telemetry-tls");
      const foreign = { metadata: { name: "example-foedus-telemetry-tls" }, stringData: { a: "b" } };
      await cluster.must("POST", release.path("v1", "secrets"), foreign);
      const { code, err } = await job();
      expect(code).toBe(1);
      expect(err).toContain("the secret example-foedus-telemetry-tls has no tls.crt");
    });
  });

  describe.skipIf(anyMissing(helm)).each(["split", "single"])("a hub in mode %s, from what is in the cluster", (example) => {
    let release: Release;
    let pods: readonly Pod[] = [];
    beforeAll(async () => {
      release = await Release.in(cluster, helm, `runs-${example}`);
      expect(await release.apply("install", example, "--no-hooks", "--set", "metrics.serviceMonitor.enabled=true")).toMatchObject({
        code: 0,
      });
      expect(await release.job("cronjobs", "example-foedus-certificates")).toMatchObject({ code: 0 });
      pods = await release.run("statefulsets");
    }, MINUTE_MS);
    afterAll(() => release?.stop().then(() => undefined));

    const portOf = ({ container }: Pod, name: string): number =>
      (container.ports as { name: string; containerPort: number }[]).find((port) => port.name === name)!.containerPort;

    const ended = ({ process: child }: Pod): boolean => child.exitCode !== null || child.signalCode !== null;

    test("D-6 passes its startup, readiness and liveness probes", { timeout: MINUTE_MS }, async () => {
      expect(pods).toHaveLength(example === "split" ? SERVICES.length : 1);
      for (const pod of pods)
        for (const probe of ["startupProbe", "readinessProbe", "livenessProbe"]) {
          const { path, port } = pod.container[probe].httpGet as { path: string; port: string };
          await until(
            `${probe} of ${pod.component}`,
            async () => ended(pod) || (await fetch(`http://${pod.host}:${portOf(pod, port)}${path}`)).ok,
            45_000,
          ).catch((error: unknown) => {
            throw new Error(`${String(error)}; its log ends:\n${readFileSync(pod.logFile, "utf8").slice(-2_000)}`);
          });
          expect(ended(pod), readFileSync(pod.logFile, "utf8").slice(-2_000)).toBe(false);
        }
    });

    test("answers Prometheus as the ServiceMonitor says, and nobody without a certificate", { timeout: MINUTE_MS }, async () => {
      const monitor = await cluster.must("GET", release.path("monitoring.coreos.com/v1", "servicemonitors", "example-foedus"));
      const { path, port, tlsConfig } = monitor.spec.endpoints[0];
      const secret = await release.secret(tlsConfig.cert.secret.name as string);
      const { ca, cert, keySecret } = tlsConfig as {
        ca: { secret: { key: string } };
        cert: { secret: { key: string } };
        keySecret: { key: string };
      };
      const material = { ca: secret[ca.secret.key]!, cert: secret[cert.secret.key]!, key: secret[keySecret.key]! };
      for (const pod of pods) {
        const scrape = (tls: object): Promise<string> =>
          new Promise((resolve, reject) => {
            const options = {
              host: pod.host,
              port: portOf(pod, port),
              path,
              servername: tlsConfig.serverName as string,
              agent: false,
              ...tls,
            };
            get(options, (response) => {
              let body = "";
              response.setEncoding("utf8").on("data", (part: string) => (body += part));
              response.on("end", () => resolve(body));
            }).on("error", reject);
          });
        expect(await scrape(material)).toMatch(/^foedus_cert_expiry_seconds\{.*spiffe:\/\/\w+\/service\/[-\w]+"\} \d/m);
        await expect(scrape({ ca: material.ca })).rejects.toThrow();
        expect((await fetch(`http://${pod.host}:${portOf(pod, "health")}/metrics`)).status).toBe(404);
      }
    });

    test.skipIf(anyMissing(kubectl, grpcurl, openssl))(
      "can be called with the lines that Helm prints at the end",
      { timeout: MINUTE_MS },
      async () => {
        const { out } = await release.helm("get", "notes", "example");
        const lines = out.split("\n").flatMap((line) => (/^ {2}(for|kubectl|openssl|grpcurl) /.test(line) ? [line.trim()] : []));
        // Nothing forwards ports here: the pod is called where it is, under the name that the forwarded port would have.
        const forwarded = lines.filter((line) => line.includes("port-forward"));
        expect(forwarded).toHaveLength(1);
        expect(lines.at(-1)).toMatch(/^grpcurl /);
        const target = pods.find(({ component }) => forwarded[0]!.includes(`service/example-foedus-${component} `))!;
        const direct = lines
          .filter((line) => !/port-forward|rollout/.test(line))
          .map((line) => line.replace(/localhost:(\d+)/, `-authority localhost ${target.host}:$1`));
        const folder = join(cluster.dir, release.namespace, "operator");
        mkdirSync(folder, { recursive: true });
        const path = [kubectl.path, grpcurl.path].map((program) => join(program, "..")).join(":");
        const script = direct.join("\n");
        const ran = await exec(
          "bash",
          ["-euc", script],
          { KUBECONFIG: cluster.kubeconfig, PATH: `${path}:${process.env["PATH"]}` },
          folder,
        );
        expect(ran, script).toMatchObject({ code: 0, err: "" });
        const digest = new X509Certificate((await release.secret("example-foedus-ca"))["tls.crt"]!).fingerprint256;
        expect(ran.out).toContain(digest.replaceAll(":", "").toLowerCase());
        expect(JSON.parse(ran.out.slice(ran.out.indexOf("{")))).toEqual(expect.any(Object));
      },
    );

    test("D-2 ends cleanly within its grace", { timeout: MINUTE_MS }, async () => {
      const started = pods.length;
      expect(await release.stop()).toEqual(Array.from({ length: started }, () => 0));
    });
  });
});
