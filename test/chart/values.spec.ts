// What the chart refuses, and what it writes for the hub, as the hub reads it.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { loadConfig } from "#runtime/config/load.ts";
import { writePki } from "../../certs/issue.ts";
import { type IssueRequest, organisationalUnitsOf, PROFILES, sansOf } from "../../certs/profiles.ts";
import { parseFederation } from "../../services/discovery/sources/federation.ts";
import { hubConfig } from "../../services/hub/config.ts";
import { withSessions } from "../../services/hub/services.ts";
import { anyMissing } from "../support/tools.ts";
import { EXAMPLES, find, HELMS, helmTemplate, type K8sObject, render, type Values } from "./fixture.ts";

const helm = HELMS["helm 4"]!;
const SPLIT = EXAMPLES.get("split")!;
const PEER = { hub_id: "home", ca: "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n" };

/** Values over ci/split-values.yaml, and what Helm says. */
const WRONG: readonly (readonly [what: string, values: Values, says: string])[] = [
  ["no hub id", { hubId: "" }, "hubId is missing: give the hub its name"],
  ["no image", { image: { repository: "" } }, "image.repository is missing: build the image"],
  [
    "a name that StatefulSets cannot have",
    { fullnameOverride: "a".repeat(34) },
    "has 34 characters, and with the names of the services that is more than Kubernetes takes: use at most 33",
  ],
  [
    "one address for four load balancers",
    { expose: { type: "LoadBalancer" }, advertise: { host: "h.example.org" } },
    "set services.registry-sync.advertise.host, or mode single, or expose.sharedAddress",
  ],
  ["a shared address without load balancers", { expose: { sharedAddress: true } }, "take it out"],
  ["a fingerprint that is none", { federation: { peers: [{ ...PEER, revoked: ["stolen"] }] } }, "/federation/peers/0/revoked/0"],
  ["a hub id that is no DNS label", { hubId: "Not A Hub" }, "/hubId"],
  ["an unknown value", { replicaCount: 3 }, "replicaCount"],
  ["a mode that does not exist", { mode: "both" }, "/mode"],
  ["an unknown field of hub.json", { config: { regstry_sync: {} } }, "regstry_sync"],
  ["a field of hub.json out of bounds", { config: { registry_sync: { pace_ms: 7 } } }, "/config/registry_sync/pace_ms"],
  ["a field of hub.json that the chart owns", { config: { hub_id: "other" } }, "config.hub_id is set by the chart: use hubId"],
  ["a certificate file in hub.json", { config: { tls: { cert: "/x" } } }, "config.tls.cert is set by the chart"],
  ["a grace that the kubelet cuts", { config: { stop_grace_ms: 30_000 } }, "terminationGracePeriodSeconds 30: make the latter larger"],
  ["exposed but not advertised", { expose: { type: "LoadBalancer" } }, "set advertise.host"],
  [
    "node ports that nobody is told",
    { expose: { type: "NodePort" }, advertise: { host: "h.example.org" } },
    "set services.discovery.nodePort",
  ],
  ["a node port without the type", { services: { discovery: { nodePort: 30_800 } } }, "set expose.type to NodePort"],
  ["a node port of telemetry", { services: { telemetry: { nodePort: 30_803 } } }, "nodePort"],
  ["a port advertised without a host", { services: { discovery: { advertise: { port: 443 } } } }, "set advertise.host"],
  [
    "a route by name to an address",
    { expose: { type: "TLSRoute", gateway: { name: "g" } }, advertise: { host: "192.0.2.1" }, mode: "single" },
    "advertise a host name",
  ],
  ["a route without a Gateway", { expose: { type: "TLSRoute" }, advertise: { host: "h.example.org" } }, "set expose.gateway.name"],
  ["a Gateway without a route", { expose: { gateway: { name: "g" } } }, "set expose.type to TLSRoute"],
  [
    "two services behind one route name",
    {
      expose: { type: "TLSRoute", gateway: { name: "g" } },
      advertise: { host: "h.example.org" },
      services: { discovery: { advertise: { host: "one.example.org" } }, "registry-sync": { advertise: { host: "one.example.org" } } },
    },
    "both advertised as one.example.org",
  ],
  ["source ranges without a load balancer", { expose: { loadBalancerSourceRanges: ["192.0.2.0/24"] } }, "need expose.type LoadBalancer"],
  ["existing certificates that are not named", { certificates: { source: "existing" } }, "set certificates.existing.discovery to a Secret"],
  ["a Secret that is not used", { certificates: { existing: { discovery: "x" } } }, "set certificates.source to existing"],
  [
    "an issuer that is not used",
    { certificates: { certManager: { issuerRef: { name: "x" } } } },
    "set certificates.source to cert-manager",
  ],
  [
    "two certificates in one Secret",
    { certificates: { extra: [{ secret: "example-foedus-admin-tls", kind: "operator", name: "eve", role: "viewer" }] } },
    "choose another name",
  ],
  [
    "an operator without a role",
    { certificates: { extra: [{ secret: "x", kind: "operator", name: "eve" }] } },
    "needs a role: metrics, viewer or admin",
  ],
  [
    "a gateway with a role",
    { certificates: { extra: [{ secret: "x", kind: "gateway", name: "g", role: "admin" }] } },
    "only operators have a role",
  ],
  [
    "a node with prefixes",
    { certificates: { extra: [{ secret: "x", kind: "node", name: "n", prefixes: ["a"] }] } },
    "only gateways have prefixes",
  ],
  [
    "a scrape without a certificate",
    {
      mode: "single",
      certificates: { source: "existing", existing: { hub: "x" } },
      metrics: { serviceMonitor: { enabled: true } },
    },
    "set certificates.existing.metrics",
  ],
  ["itself as a peer", { federation: { peers: [{ ...PEER, hub_id: "factory" }] } }, "this hub itself"],
  ["a peer twice", { federation: { peers: [PEER, PEER] } }, "names home twice"],
  ["a peer without a CA", { federation: { peers: [{ hub_id: "home" }] } }, "ca"],
  [
    "peers on a volume that is not there",
    { federation: { managedBy: "hub" }, persistence: { enabled: false } },
    "persistence.enabled is false",
  ],
  ["one port for two listeners", { services: { discovery: { port: 18_810 } } }, "are both 18810"],
  ["one port for probes and metrics", { ops: { metricsPort: 18_810 } }, "ops.port and ops.metricsPort are the same"],
  ["one pod that is to be spread", { mode: "single", spread: { enabled: true } }, "spread.enabled has no meaning in mode single"],
  [
    "rules of a policy that is off",
    { networkPolicy: { enabled: false, clientsFrom: [{ podSelector: {} }] } },
    "enable it, or take the rules out",
  ],
];

describe.each(Object.entries(HELMS))("values that cannot be meant, with %s", (_, program) => {
  test.skipIf(anyMissing(program)).each(WRONG)("%s", (_what, values, says) => {
    const { code, out, err } = helmTemplate(program, SPLIT, values);
    expect(out).toBe("");
    expect(err).toContain(says);
    expect(code).not.toBe(0);
  });
});

/** Spec of a Certificate of cert-manager, as far as it is looked at. */
interface Spec {
  readonly uris: string[];
  readonly dnsNames?: string[];
  readonly ipAddresses?: string[];
  readonly usages: string[];
  readonly subject?: { readonly organizationalUnits: string[] };
  readonly duration: string;
  readonly privateKey: object;
}

describe.skipIf(anyMissing(helm))("what the hub is given", () => {
  let dir = "";
  beforeAll(() => {
    dir = mkdtempSync(join(tmpdir(), "foedus-chart-"));
  });
  afterAll(() => rmSync(dir, { recursive: true, force: true }));

  /** configOf reads hub.json as the process of a pod does. */
  function configOf(objects: readonly K8sObject[], workload: string) {
    const file = join(dir, `${workload}.json`);
    writeFileSync(file, find(objects, "ConfigMap", "example-foedus-config")["data"]["hub.json"] as string);
    const pod = objects.find(({ metadata, kind }) => metadata.name === workload && /^(StatefulSet|Deployment)$/.test(kind))!;
    const { args, env } = pod["spec"].template.spec.containers[0] as { args: string[]; env: { name: string; value: string }[] };
    const set = args.flatMap((arg) => (arg.startsWith("--set=") ? [arg.slice(6).split("=") as [string, string]] : []));
    const variables = Object.fromEntries(env.map(({ name, value }) => [name, value]));
    return loadConfig(hubConfig, { file, env: variables, flags: Object.fromEntries(set) }).config;
  }

  test.each([...EXAMPLES])("hub.json of %s is one that the hub takes", (_, files) => {
    const objects = render({}, files);
    const workloads = objects.filter(({ kind }) => kind === "StatefulSet" || kind === "Deployment");
    expect(workloads.length).toBeGreaterThan(0);
    for (const { metadata } of workloads) {
      const config = configOf(objects, metadata.name);
      expect(config.ops).toMatchObject({ host: "0.0.0.0", port: 18_810, metrics_port: 18_811 });
      expect(config.tls.cert).toBe("/etc/foedus/tls/tls.crt");
    }
  });

  test("a service listens on all addresses of its pod and finds the others by their Services", () => {
    const objects = render({}, SPLIT);
    const { services } = configOf(objects, "example-foedus-registry-sync");
    expect(services["registry-sync"]).toMatchObject({ host: "0.0.0.0", port: 18_801 });
    expect(services.discovery).toMatchObject({ host: "example-foedus-discovery.federation.svc", port: 18_800 });
    const service = find(objects, "Service", "example-foedus-discovery");
    expect(service["spec"].ports[0]).toMatchObject({ port: 18_800 });
  });

  test("what peers are told is the way that leads there", () => {
    const told = (example: string) => {
      const { services, advertise_host } = configOf(render({}, EXAMPLES.get(example)!), "example-foedus-discovery");
      return withSessions().map((name) => {
        const at = services[name as "discovery"];
        return `${at.advertise_host || advertise_host}:${at.advertise_port || at.port}`;
      });
    };
    expect(told("ha")).toEqual([
      "factory.example.org:18800",
      "198.51.100.7:18801",
      "commands.factory.example.org:18802",
      "decisions.factory.example.org:18804",
    ]);
    expect(told("cert-manager")).toEqual([30_800, 30_801, 30_802, 30_804].map((port) => `203.0.113.10:${port}`));
    const routes = withSessions().map((name) => `${name}.factory.example.org:443`);
    expect(told("gateway")).toEqual(routes);
    const hostnames = render({}, EXAMPLES.get("gateway")!)
      .filter(({ kind }) => kind === "TLSRoute")
      .map((route) => `${route["spec"].hostnames[0]}:443`);
    expect(hostnames.sort()).toEqual([...routes].sort());
  });

  test("further settings arrive beside what the chart sets", () => {
    const config = configOf(
      render({ config: { tls: { reload_ms: 1_000 }, telemetry: { events_kept: 500 } } }, SPLIT),
      "example-foedus-telemetry",
    );
    expect(config.tls).toMatchObject({ reload_ms: 1_000, ca: "/etc/foedus/tls/ca.crt" });
    expect(config.telemetry.events_kept).toBe(500);
  });

  test("the federation file is one that the hub takes, and a change of it restarts no pod", async () => {
    await writePki(join(dir, "pki"), "home", { now: new Date("2026-06-01"), leaves: [] });
    const peer = {
      hub_id: "home",
      host: "home.example.org",
      port: 443,
      ca: readFileSync(join(dir, "pki/ca.pem"), "utf8"),
      max_trust: "limited",
      share: "full",
      // A stolen certificate is taken out of use without touching the pinned CA.
      revoked: ["AB".repeat(32)],
    };
    const objects = render({ federation: { peers: [peer] } }, SPLIT);
    const text = find(objects, "ConfigMap", "example-foedus-federation")["data"]["federation.json"] as string;
    const { peers } = parseFederation(text, { hubId: "factory" });
    expect(peers).toMatchObject([{ hubId: "home", addresses: [{ host: "home.example.org", port: 443 }], maxTrust: 2, share: "full" }]);
    expect(peers[0]!.revoked).toHaveLength(1);
    expect(peers[0]?.cas).toHaveLength(1);
    const pods = (from: readonly K8sObject[]) => from.filter(({ kind }) => kind === "StatefulSet");
    expect(pods(objects)).toEqual(pods(render({}, SPLIT)));
  });

  test("certificates of cert-manager carry what those of the hub's own authority carry", () => {
    const files = EXAMPLES.get("cert-manager")!;
    const issued = render({}, files).filter(({ kind, ...o }) => kind === "Certificate" && o["spec"].isCA !== true);
    const planned = JSON.parse(
      find(render({ certificates: { source: "bootstrap" } }, files), "ConfigMap", "example-foedus-certificates")["data"][
        "plan.json"
      ] as string,
    ) as {
      leaves: { secret: string; kind: IssueRequest["profile"]; name: string; dns_names?: string[]; ips?: string[]; role?: "admin" }[];
    };
    expect(issued.map(({ metadata }) => metadata.name).sort()).toEqual(planned.leaves.map(({ secret }) => secret).sort());
    for (const { secret, kind, name, dns_names, ips, role } of planned.leaves) {
      const request: IssueRequest = {
        profile: kind,
        name,
        ...(dns_names === undefined ? {} : { dnsNames: dns_names }),
        ...(ips === undefined ? {} : { ips }),
        ...(role === undefined ? {} : { role }),
      };
      const sans = sansOf("factory", request);
      const { spec } = issued.find(({ metadata }) => metadata.name === secret)! as unknown as { spec: Spec };
      expect(spec.uris).toEqual(sans.uris);
      expect([...(spec.dnsNames ?? [])].sort()).toEqual([...sans.dnsNames].sort());
      expect([...(spec.ipAddresses ?? [])].sort()).toEqual([...sans.ips].sort());
      const usages = ["digital signature", ...PROFILES[kind].extKeyUsage.map((usage) => usage.replace("Auth", " auth"))];
      expect([...spec.usages].sort()).toEqual(usages.sort());
      expect(spec.subject?.organizationalUnits ?? []).toEqual(organisationalUnitsOf(request));
      expect(Number.parseInt(spec.duration, 10) * 3_600_000).toBeLessThanOrEqual(PROFILES[kind].lifetimeMs);
      expect(spec.privateKey).toMatchObject({ algorithm: "RSA", size: 2_048 });
    }
  });
});
