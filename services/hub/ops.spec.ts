import { X509Certificate } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { request } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { systemClock } from "#channel/clock.ts";
import { organisationalUnits, roleOf } from "#channel/tls/peer-identity.ts";
import { authorise } from "#runtime/rpc/access.ts";
import { writePki } from "../../certs/issue.ts";
import { hubConfig } from "./config.ts";
import { type RunningHub, startHub } from "./index.ts";

let folder: string;
let hub: RunningHub | undefined;
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "foedus-ops-"));
  const leaves = [
    { profile: "service" as const, name: "hub" },
    { profile: "operator" as const, name: "viewer", role: "viewer" as const },
    { profile: "operator" as const, name: "prometheus", role: "metrics" as const },
    { profile: "gateway" as const, name: "devices" },
  ];
  await writePki(join(folder, "pki"), "home", { now: new Date(systemClock.wall()), leaves });
});
afterEach(async () => {
  await hub?.stop();
  hub = undefined;
  rmSync(folder, { recursive: true, force: true });
});

async function start(opsHost: string, metricsHost = ""): Promise<RunningHub> {
  const config = hubConfig.parse({
    hub_id: "home",
    data_dir: "data",
    listen: { port: 0 },
    ops: { host: opsHost, port: 0, metrics_host: metricsHost, metrics_port: 0 },
    tls: { ca: "pki/ca.pem", cert: "pki/service-hub.pem", key: "pki/service-hub.key" },
    log: { level: "error" },
  });
  hub = await startHub({ config, folder, runs: "hub" });
  return hub;
}

/** metrics asks over TLS; the answer is the status, or the error's code. */
function metrics(port: number, certificate = "", path = "/metrics"): Promise<number | string> {
  const pem = (name: string): string => readFileSync(join(folder, "pki", name), "utf8");
  const own = certificate === "" ? {} : { cert: pem(`${certificate}.pem`), key: pem(`${certificate}.key`) };
  return new Promise((resolve) => {
    const asked = request({ host: "localhost", port, path, ca: pem("ca.pem"), agent: false, ...own }, (answer) => {
      answer.resume();
      resolve(answer.statusCode ?? 0);
    });
    asked.on("error", (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
    asked.end();
  });
}

test("on loopback one plain port answers everything", async () => {
  const { opsPort, metricsPort } = await start("127.0.0.1");
  expect(metricsPort).toBe(opsPort);
  for (const page of ["healthz", "readyz", "metrics", "statusz"])
    expect((await fetch(`http://127.0.0.1:${opsPort}/${page}`)).status).toBe(200);
});

test("beyond loopback metrics have a port of their own, for certificates of this hub only", async () => {
  const { opsPort, metricsPort } = await start("0.0.0.0");
  expect(metricsPort).not.toBe(opsPort);
  const plain = await Promise.all(["healthz", "readyz", "metrics", "statusz"].map((page) => fetch(`http://127.0.0.1:${opsPort}/${page}`)));
  expect(plain.map((answer) => answer.status)).toEqual([200, 200, 404, 404]);
  expect(await metrics(metricsPort, "operator-viewer")).toBe(200);
  expect(await metrics(metricsPort)).not.toBe(200);
});

test("a port of its own for metrics can be had on loopback too; operators and services read there, gateways do not", async () => {
  const { opsPort, metricsPort } = await start("127.0.0.1", "127.0.0.1");
  expect(metricsPort).not.toBe(opsPort);
  const plain = await Promise.all(["readyz", "metrics", "statusz"].map((page) => fetch(`http://127.0.0.1:${opsPort}/${page}`)));
  expect(plain.map((answer) => answer.status)).toEqual([200, 404, 404]);
  expect(await metrics(metricsPort, "operator-viewer")).toBe(200);
  expect(await metrics(metricsPort, "service-hub")).toBe(200);
  expect(await metrics(metricsPort, "gateway-devices")).toBe(403);
  expect(await metrics(metricsPort)).not.toBe(200);
});

test("an operator with the role metrics reads /metrics, not /statusz, and no RPC admits it", async () => {
  const { metricsPort } = await start("127.0.0.1", "127.0.0.1");
  expect(await metrics(metricsPort, "operator-prometheus")).toBe(200);
  expect(await metrics(metricsPort, "operator-prometheus", "/statusz")).toBe(403);
  expect(await metrics(metricsPort, "operator-prometheus", "/metrics/../statusz")).toBe(403);
  expect(await metrics(metricsPort, "operator-viewer", "/statusz")).toBe(200);
  const units = organisationalUnits(new X509Certificate(readFileSync(join(folder, "pki/operator-prometheus.pem"))));
  for (const minRole of [1, 2])
    expect(
      authorise(
        { kind: "operator", level: 0, role: roleOf(units) },
        { principals: new Set(["operator"]), minTrust: 0, minRole, cost: "cheap", longLived: false, tokenless: false },
      ),
    ).toMatchObject({ reason: "ACCESS_DENIED", facts: { role: "metrics" } });
});
