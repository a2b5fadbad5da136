// A stop whose last commits do not reach the disk is not a clean one, whichever service's they are.

import { X509Certificate } from "node:crypto";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { Registry } from "prom-client";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { systemClock } from "#channel/clock.ts";
import { systemEntropy } from "#channel/entropy.ts";
import { EventKind, ReportEventsRequestSchema, Severity, TelemetryService } from "#gen/foedus/telemetry/v1alpha1/telemetry_service_pb.ts";
import { silentLogger } from "#runtime/log/log.ts";
import { createLocalClient } from "#runtime/rpc/client/local-client.ts";
import type { Platform, ServiceModule } from "#runtime/service/module.ts";
import { Supervisor } from "#runtime/service/supervisor.ts";
import { MemoryStore } from "../../test/fakes/memory-store.ts";
import { testTokens } from "../../test/rpc/fixture.ts";
import { type TestHub, testHub } from "../../test/testca/index.ts";
import { createCommandForwarding } from "../command-forwarding/index.ts";
import { createDiscovery } from "../discovery/index.ts";
import { createRegistrySync } from "../registry-sync/index.ts";
import { createTelemetry } from "../telemetry/index.ts";
import { hubConfig } from "./config.ts";
import { startHub } from "./index.ts";

let folder: string;
let home: TestHub;
let store: MemoryStore;
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "foedus-stop-"));
  home = await testHub("home");
  store = new MemoryStore();
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const config = hubConfig.parse({ hub_id: "home", tls: { ca: "ca.pem", cert: "c.pem", key: "k.pem" } });
const onFatal = (error: unknown): void => {
  throw error;
};
const platform = (): Platform => ({
  hubId: "home",
  clock: systemClock,
  entropy: systemEntropy,
  log: silentLogger,
  metrics: new Registry(),
  events: { report: () => undefined },
  incarnation: 1,
  packages: [],
  software: "test",
  dataDir: folder,
  store: () => store,
});
const nobody = { current: () => [], subscribe: () => () => undefined };
const unused = (): never => {
  throw new Error("nobody is dialled here");
};

interface Case {
  readonly module: ServiceModule;
  /** write makes the module owe something to its disk. */
  write(): void;
}

function telemetry(): Case {
  const module = createTelemetry({ platform: platform(), config: config.telemetry, onFatal });
  const spiffeId = "spiffe://home/service/hub";
  const caller = { kind: "service", hubId: "home", name: "hub", spiffeId, thumbprint: "", notAfterWall: Number.MAX_SAFE_INTEGER } as const;
  const client = createLocalClient(TelemetryService, module.bindings[0]!, {
    caller: { ...caller, level: 0, role: 0, prefixes: [] },
    clock: systemClock,
    log: silentLogger,
    ids: systemEntropy,
  });
  const events = [{ kind: EventKind.CLOCK, severity: Severity.INFO, text: "the last one" }];
  const report = create(ReportEventsRequestSchema, { service: "hub", events });
  return { module, write: () => void client.reportEvents(report).catch(() => undefined) };
}

function discovery(): Case {
  const leaf = new X509Certificate(home.service().certificatePem).raw;
  const module = createDiscovery({
    platform: platform(),
    config: config.discovery,
    ports: { dialPeer: unused, ownEndpoints: () => [], ownLeaf: () => leaf, tokens: testTokens() },
    onFatal,
  });
  const peer = { hubId: "b", addresses: [], cas: [{ pem: home.caPem, digest: "00" }], revoked: [], maxTrust: 2, share: "" } as const;
  return { module, write: () => void module.setFederation({ peers: [peer], syncIntervalMs: 30_000 }) };
}

function registrySync(): Case {
  const { certificatePem: cert, keyPem: key } = home.service();
  const module = createRegistrySync({
    platform: platform(),
    config: config.registry_sync,
    ports: { peers: nobody, sessions: { report: () => undefined }, connect: unused, tokens: testTokens(), identity: () => ({ cert, key }) },
    onFatal,
  });
  return { module, write: () => undefined };
}

function commandForwarding(): Case {
  const module = createCommandForwarding({
    platform: platform(),
    config: config.command_forwarding,
    ports: { directory: { subscribe: () => () => undefined }, presence: { report: () => undefined } },
    onFatal,
  });
  return { module, write: () => undefined };
}

test.each([
  ["telemetry", telemetry],
  ["discovery", discovery],
  ["registry-sync", registrySync],
  ["command-forwarding", commandForwarding],
])("S0-12 %s: a disk that refuses the last commits makes the stop of the hub unclean, and else it is clean", async (_name, make) => {
  for (const broken of [false, true]) {
    store = new MemoryStore();
    const { module, write } = make();
    const supervisor = new Supervisor({ modules: [{ module }], clock: systemClock, log: silentLogger });
    expect(await supervisor.start()).toBe(true);
    if (broken) store.failAll("io");
    write();
    expect(await supervisor.stop(200), broken ? "with a broken disk" : "with a good disk").toBe(!broken);
  }
});

test.each(["before it is started", "while it waits"])(
  "a hub whose machine's clock is not set stops when it is told to %s",
  async (when) => {
    vi.useFakeTimers({ toFake: ["Date"], now: Date.UTC(2001, 0, 1) });
    try {
      const stop = new AbortController();
      const log = join(folder, "hub.log");
      if (when === "before it is started") stop.abort();
      const config = hubConfig.parse({
        hub_id: "home",
        ops: { port: 0 },
        tls: { ca: "ca.pem", cert: "c.pem", key: "k.pem" },
        log: { destination: "hub.log" },
      });
      const started = startHub({ config, folder, runs: "hub", stopped: stop.signal });
      if (when === "while it waits")
        await vi.waitUntil(() => existsSync(log) && readFileSync(log, "utf8").includes("clock is not set"), { timeout: 20_000 });
      stop.abort();
      expect(await (await started).stop()).toBe(true);
    } finally {
      vi.useRealTimers();
    }
  },
);
