// The real Prometheus and promtool against real hubs: what they scrape, over mutual TLS, is what docs, alerts and dashboard speak of.

import { execFileSync, spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { request } from "node:https";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { systemClock } from "#channel/clock.ts";
import { ExecuteRequestSchema } from "#gen/foedus/command_forwarding/v1alpha1/command_forwarding_service_pb.ts";
import { sleep } from "#runtime/clock.ts";
import { writePki } from "../../certs/issue.ts";
import { type ExecutorClient, Hub } from "../../clients/typescript/index.ts";
import { execute, get, lamp, number, register, text, update } from "../support/acts.ts";
import { Federation, type HubProcess, ROOT, SERVICES, until } from "../support/federation.ts";
import { Prometheus } from "../support/prometheus.ts";
import { anyMissing, tool } from "../support/tools.ts";

const [prometheusTool, promtool] = [tool("prometheus"), tool("promtool")];
const missing = anyMissing(prometheusTool, promtool);
const OPS = join(ROOT, "ops/prometheus");
const DAY_S = 86_400;

describe.skipIf(missing)("S4-20 the files of ops/prometheus", () => {
  const run = (...args: readonly string[]): string => execFileSync(promtool.path, args, { cwd: OPS, encoding: "utf8", timeout: 60_000 });

  test("the rules are valid", () => expect(run("check", "rules", "alerts.yaml")).toMatch(/SUCCESS: \d+ rules found/));

  test("S4-20 each alert is quiet where it must be and fires where it must", () => {
    expect(run("test", "rules", "alerts.test.yaml")).toContain("SUCCESS");
  });

  test("the configuration that operators copy is valid", () => {
    // Its certificates are those of the folder that it is copied to.
    expect(run("check", "config", "--syntax-only", "prometheus.yml")).toContain("SUCCESS");
  });
});

interface Panel {
  readonly title: string;
  readonly targets?: readonly { readonly expr: string }[];
}

const dashboard = JSON.parse(readFileSync(join(ROOT, "ops/grafana/foedus.json"), "utf8")) as {
  readonly panels: readonly Panel[];
  readonly templating: { readonly list: readonly { readonly name: string; readonly definition?: string }[] };
};
const QUERIES = dashboard.panels.flatMap(({ title, targets = [] }) => targets.map(({ expr }): readonly [string, string] => [title, expr]));

/** filled puts values in place of the dashboard's variables, as Grafana does for "All" and a range of a minute. */
function filled(expr: string): string {
  return expr
    .replaceAll("$__rate_interval", "15s")
    .replaceAll("$__range", "1m")
    .replaceAll(/\$(hub|instance)\b/g, ".*");
}

describe.skipIf(missing)("Prometheus over mutual TLS", () => {
  let federation: Federation;
  let prometheus: Prometheus;
  let executor: ExecutorClient;
  let stopped = false;
  let load: Promise<unknown> = Promise.resolve();

  beforeAll(async () => {
    federation = await Federation.prepare({
      hubs: [
        { id: "home", mode: "split", metricsTls: true, peers: [{ hub: "factory" }] },
        { id: "factory", metricsTls: true, peers: [{ hub: "home" }] },
      ],
    });
    for (const { id, pkiDir } of federation.hubs.values()) {
      const now = new Date(systemClock.wall());
      await writePki(pkiDir, id, { now, leaves: [{ profile: "operator", name: "prometheus", role: "viewer" }] });
    }
    await Promise.all([...federation.hubs.values()].map((hub) => hub.start()));
    await federation.operational();
    const { host } = federation.hub("home");
    prometheus = await Prometheus.start({
      path: prometheusTool.path,
      dir: join(federation.dir, "prometheus"),
      // An address that no hub has, on a loopback network that no other federation has.
      listen: `${host.slice(0, host.lastIndexOf("."))}.250:9090`,
      hubs: [...federation.hubs.values()],
      principal: "operator-prometheus",
    });
    load = work();
  }, 150_000);

  afterAll(async () => {
    stopped = true;
    await load;
    executor?.close();
    await prometheus?.stop();
    await federation?.stop();
  }, 60_000);

  /** work is what a federation does all day: reports, reads and commands. It goes on, failing, while the factory is away. */
  async function work(): Promise<void> {
    const [home, gateway] = [federation.hub("home").clients(), federation.hub("factory").clients("gateway-zigbee")];
    await register(gateway, lamp("lamp-1"));
    executor = Hub.over(gateway).serve({ nodeIds: ["lamp-1"], run: ({ value }) => ({ value }) });
    for (let n = 0; !stopped; n++) {
      await Promise.allSettled([
        update(gateway, "lamp-1", { power: number(n) }),
        get(home, "factory", "lamp-1"),
        execute(home, "factory", "lamp-1", "state", text("ON"), 1_000),
      ]);
      await sleep(systemClock, 20);
    }
  }

  /** scrape reads a page of metrics as Prometheus does. */
  function scrape(hub: HubProcess, process: string, accept: string): Promise<{ readonly type: string; readonly body: string }> {
    const { ca, cert, key } = hub.pki("operator-prometheus");
    const [caPem, certPem, keyPem] = [ca, cert, key].map((file) => readFileSync(file, "utf8"));
    const where = { host: hub.host, port: hub.metricsPort(process), path: "/metrics", agent: false, headers: { accept } };
    return new Promise((resolve, reject) => {
      const asked = request({ ...where, ca: caPem, cert: certPem, key: keyPem }, (answer) => {
        let body = "";
        answer.setEncoding("utf8").on("data", (part: string) => (body += part));
        answer.on("end", () => resolve({ type: answer.headers["content-type"] ?? "", body }));
      });
      asked.on("error", reject).end();
    });
  }

  const everyProcess = (): [HubProcess, string][] =>
    [...federation.hubs.values()].flatMap((hub) => hub.processes.map((name): [HubProcess, string] => [hub, name]));

  /** firing lists the alerts that fire, as "name instance peer". */
  const firing = async (): Promise<string[]> =>
    (await prometheus.alerts())
      .filter(({ state }) => state === "firing")
      .map(({ labels }) => `${labels["alertname"]} ${labels["instance"]} ${labels["peer"] ?? ""}`.trim());

  const at = (id: string, process: string): string => `${federation.hub(id).host}:${federation.hub(id).metricsPort(process)}`;

  test("every process is scraped with the certificate of an operator", async () => {
    const targets = await until("all targets up", async () => {
      const all = await prometheus.targets();
      const down = all.filter(({ health }) => health !== "up");
      if (all.length < everyProcess().length) throw new Error(`only ${all.length} are known yet`);
      if (down.length > 0) throw new Error(down.map(({ lastError }) => lastError).join("; "));
      return all;
    });
    expect(targets.map(({ scrapeUrl }) => scrapeUrl).sort()).toEqual(
      everyProcess()
        .map(([{ id }, name]) => `https://${at(id, name)}/metrics`)
        .sort(),
    );
  });

  test("names and help follow the conventions, and docs/METRICS.md has each of them", async () => {
    const documented = new Set(
      [...readFileSync(join(ROOT, "docs/METRICS.md"), "utf8").matchAll(/^\| `(\w+)` \|/gm)].map((match) => match[1]),
    );
    for (const [hub, name] of everyProcess()) {
      const { type, body } = await scrape(hub, name, "text/plain");
      expect(type).toContain("text/plain; version=0.0.4");
      const { status, stdout, stderr } = spawnSync(promtool.path, ["check", "metrics"], { input: body, encoding: "utf8", timeout: 30_000 });
      expect([hub.id, name, status, stdout, stderr]).toEqual([hub.id, name, 0, "", ""]);
      const names = [...body.matchAll(/^# TYPE (\w+) /gm)].map((match) => match[1]!);
      expect(names.length).toBeGreaterThan(40);
      expect(names.filter((metric) => !documented.has(metric))).toEqual([]);
    }
  });

  test("S4-19 the number of series of a process stays small", async () => {
    for (const [{ id }, name] of everyProcess()) {
      const [sample] = await until("a scrape", async () => {
        const found = await prometheus.query(`scrape_samples_scraped{instance="${at(id, name)}"} > 0`);
        return found.length > 0 && found;
      });
      expect(Number(sample!.value[1])).toBeLessThan(3_000);
    }
  });

  test("Prometheus gets OpenMetrics, with the same series", async () => {
    const { type, body } = await scrape(federation.hub("factory"), "hub", "application/openmetrics-text;version=1.0.0,text/plain;q=0.5");
    expect(type).toContain("application/openmetrics-text; version=1.0.0");
    expect(body).toContain("# TYPE foedus_command_forwarding_commands counter\nfoedus_command_forwarding_commands_total{");
    expect(body.endsWith("# EOF\n")).toBe(true);
  });

  test("a command that is traced shows as an exemplar of its latency", async () => {
    const traceId = "4bf92f3577b34da6a3ce929d0e0e4736";
    const home = federation.hub("home").clients();
    const command = {
      target: { hubId: "factory", nodeId: "lamp-1" },
      capability: "state",
      value: text("ON"),
      timeoutMs: 5_000,
      trace: { traceparent: `00-${traceId}-00f067aa0ba902b7-01` },
    };
    await until("a traced command", async () => {
      const { result } = await home.commands.execute(create(ExecuteRequestSchema, { command }));
      return result !== undefined;
    });
    await until("its exemplar", async () =>
      (await prometheus.traces("foedus_command_forwarding_command_seconds_bucket")).includes(traceId),
    );
  });

  test("the dashboard's variables find hubs and processes", async () => {
    const definitions = dashboard.templating.list.flatMap(({ definition = [] }) => definition);
    expect(definitions).toHaveLength(2);
    for (const definition of definitions) {
      const [, selector = "", label = ""] = /^label_values\((.*), (\w+)\)$/.exec(definition) ?? [];
      const values = new Set((await prometheus.query(filled(selector))).map(({ metric }) => metric[label]));
      expect([label, values.size]).toEqual([label, label === "hub" ? 2 : 1 + SERVICES.length]);
    }
  });

  test("the dashboard has queries for every part", () => {
    expect(QUERIES.length).toBeGreaterThan(60);
    expect(QUERIES.filter(([, expr]) => /\$(?!__rate_interval|__range|instance\b)/.test(expr))).toEqual([]);
  });

  test.each(QUERIES)(
    "the dashboard's %s has data: %s",
    async (_title, expr) => {
      await until(
        "data",
        async () => {
          const samples = await prometheus.query(filled(expr));
          if (samples.length === 0) throw new Error("the answer is empty");
          return samples.some(({ value }) => Number.isFinite(Number(value[1]))) || Promise.reject(new Error("there is no number in it"));
        },
        60_000,
      );
    },
    70_000,
  );

  test("every rule can be evaluated, and nothing that is well is called ill", async () => {
    const rules = await until("the rules being evaluated", async () => {
      const all = await prometheus.rules();
      return all.every(({ health }) => health !== "unknown") && all;
    });
    expect(rules.filter(({ health }) => health !== "ok")).toEqual([]);
    expect(rules.length).toBeGreaterThan(25);
    // How fast this machine is does not matter here.
    const speed = /^(FoedusEventLoopSaturated|FoedusCommitsSlow|FoedusDiskAlmostFull|FoedusCommandsFailing) /;
    expect((await firing()).filter((line) => !speed.test(line))).toEqual([]);
  });

  test("D-13 foedus_cert_expiry_seconds follows a renewal, and so does the alert", async () => {
    const hub = federation.hub("factory");
    const left = async (): Promise<number> =>
      Number((await prometheus.query(`foedus_cert_expiry_seconds{instance="${at("factory", "hub")}"}`))[0]?.value[1]);
    const renew = async (lifetimeMs: number): Promise<void> => {
      const leaf = { profile: "service" as const, name: "hub", ips: [hub.host], lifetimeMs };
      await writePki(hub.pkiDir, hub.id, { now: new Date(systemClock.wall()), leaves: [leaf], force: true });
      process.kill(hub.pids.get("hub")!, "SIGHUP");
    };
    expect(await left()).toBeGreaterThan(80 * DAY_S);
    await renew(3_600_000);
    await until("the metric following", async () => (await left()) < DAY_S);
    const alert = `FoedusCertificateExpiresToday ${at("factory", "hub")}`;
    await until("the alert", async () => (await firing()).includes(alert));
    await renew(30 * DAY_S * 1_000);
    await until("the metric following again", async () => (await left()) > 29 * DAY_S);
    await until("the end of the alert", async () => !(await firing()).includes(alert));
  }, 60_000);

  test("S4-20 a hub that is killed is an alert, at Prometheus and by its peer; both end when it is back", async () => {
    const hub = federation.hub("factory");
    await hub.end("SIGKILL");
    const wanted = [`FoedusDown ${at("factory", "hub")}`, `FoedusPeerDisconnected ${at("home", "discovery")} factory`];
    await until(
      "the alerts",
      async () => {
        const lines = await firing();
        return wanted.every((line) => lines.includes(line)) || Promise.reject(new Error(lines.join("; ")));
      },
      30_000,
    );
    const shown = (await prometheus.alerts()).filter(({ labels }) => /^Foedus(Down|PeerDisconnected)$/.test(labels["alertname"]!));
    for (const { annotations } of shown) {
      expect(annotations["runbook_url"]).toMatch(/^docs\/RUNBOOK\.md#foedus/);
      expect(`${annotations["summary"]} ${annotations["description"]}`).not.toMatch(/<no value>|<error/);
      expect(annotations["summary"]).toContain(":");
    }
    await hub.start();
    await until(
      "the end of the alerts",
      async () => {
        const lines = await firing();
        return !wanted.some((line) => lines.includes(line)) || Promise.reject(new Error(lines.join("; ")));
      },
      60_000,
    );
  }, 120_000);
});
