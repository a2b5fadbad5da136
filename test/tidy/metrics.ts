// The reference of metrics, from the registry of a running hub.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "#channel/clock.ts";
import { systemEntropy } from "#channel/entropy.ts";
import { silentLogger } from "#runtime/log/log.ts";
import { writePki } from "../../certs/issue.ts";
import { loadHubConfig } from "../../services/hub/index.ts";
import { HubProcess } from "../../services/hub/process.ts";
import { SERVICES, sectionOf, TABLE } from "../../services/hub/services.ts";

/** Declared is a metric as it is declared, with the names of its labels. */
export interface Declared {
  readonly name: string;
  readonly help: string;
  readonly type: string;
  readonly labelNames: readonly string[];
}

/** declaredMetrics starts a hub with federation and gives every metric that it declares, by name. */
export async function declaredMetrics(): Promise<Declared[]> {
  const folder = mkdtempSync(join(tmpdir(), "foedus-metrics-"));
  try {
    await writePki(join(folder, "pki"), "docs", { now: new Date(systemClock.wall()), leaves: [{ profile: "service", name: "hub" }] });
    writeFileSync(join(folder, "federation.json"), '{ "peers": [] }');
    const tls = { ca: "pki/ca.pem", cert: "pki/service-hub.pem", key: "pki/service-hub.key" };
    const ports = { listen: { port: 0 }, ops: { port: 0 }, federation_config_path: "federation.json" };
    // Metrics of tracing are declared where it is on; nothing is sent.
    const tracing = { endpoint: "http://127.0.0.1:9", ratio: 0 };
    // So are those of HTTP, and of webhooks, of which the one here gets nothing.
    writeFileSync(join(folder, "secret"), `whsec_${Buffer.alloc(32).toString("base64")}`, { mode: 0o600 });
    const doors = { http: { enabled: true, port: 0 }, webhooks: { docs: { url: "http://127.0.0.1:9/", secret_file: "secret" } } };
    writeFileSync(join(folder, "hub.json"), JSON.stringify({ hub_id: "docs", tls, ...ports, ...doors, tracing }));
    const loaded = loadHubConfig({ file: join(folder, "hub.json") });
    const onFatal = (error: unknown): never => {
      throw error;
    };
    const hub = new HubProcess({ ...loaded, runs: "hub", clock: systemClock, entropy: systemEntropy, log: silentLogger, onFatal });
    await hub.start();
    const metrics = hub.metrics.getMetricsAsArray() as unknown as Declared[];
    await hub.stop();
    return metrics.toSorted((a, b) => (a.name < b.name ? -1 : 1));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const GROUPS = [
  ["gRPC", (name: string) => name.startsWith("grpc_")],
  ...SERVICES.map((service) => [TABLE[service].heading, (name: string) => name.startsWith(`foedus_${sectionOf(service)}_`)] as const),
  ["Hub", (name: string) => name.startsWith("foedus_")],
  ["Process", () => true],
] as const;

/** metricsPage writes the page. */
export function metricsPage(metrics: readonly Declared[]): string {
  const lines = [
    "# Metrics",
    "",
    "Generated from the registry of a running hub by `make generate`; a test fails when this page lies.",
    "",
    "`GET http://127.0.0.1:18810/metrics`; over mutual TLS on port 18811 when `ops.metrics_host` is set or `ops.host` is not loopback, for",
    "certificates of this hub's operators and services. Prometheus text format, or OpenMetrics with exemplars for scrapers that ask for it. Each",
    "process of a split hub has its own page, at ports of its own ([INSTALL.md](INSTALL.md)). Labels that outsiders could choose, such as peers,",
    "show configured peers only.",
    "",
    "`ops/prometheus` has a configuration and alerts, [RUNBOOK.md](RUNBOOK.md) says what to do about each, `ops/grafana/foedus.json` is a dashboard.",
  ];
  const left = new Set(metrics);
  for (const [title, belongs] of GROUPS) {
    const group = [...left].filter(({ name }) => belongs(name));
    for (const metric of group) left.delete(metric);
    if (group.length === 0) continue;
    lines.push("", `## ${title}`, "", "| metric | kind | labels | what it says |", "|---|---|---|---|");
    lines.push(
      ...group.map(
        ({ name, type, labelNames, help }) => `| \`${name}\` | ${type} | ${labelNames.join(", ")} | ${help.replaceAll("|", "\\|")} |`,
      ),
    );
  }
  return `${lines.join("\n")}\n`;
}
