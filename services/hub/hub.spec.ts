import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { Registry } from "prom-client";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { RegistrySyncService, ReportPresenceRequest } from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import { ReportPresenceResponseSchema } from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import {
  type ReportEventsRequest,
  ReportEventsResponseSchema,
  type TelemetryService,
} from "#gen/foedus/telemetry/v1alpha1/telemetry_service_pb.ts";
import { silentLogger } from "#runtime/log/log.ts";
import type { PeerView } from "#runtime/peers.ts";
import type { ClientOf } from "#runtime/rpc/call.ts";
import { ManualClock } from "../../test/fakes/manual-clock.ts";
import { testHub } from "../../test/testca/index.ts";
import { hubConfig } from "./config.ts";
import { EventForwarder } from "./events.ts";
import { FederationFile } from "./federation-file.ts";
import { nextIncarnation, resolveFrom } from "./identity.ts";
import { loadHubConfig } from "./index.ts";
import { ViewAuthority } from "./peers.ts";
import { createPresence } from "./presence.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "foedus-hub-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const view = (hubId: string, more: Partial<PeerView>): PeerView => ({
  hubId,
  level: 0,
  share: "",
  endpoint: undefined,
  token: undefined,
  caPems: [],
  bundleSeq: 1,
  revoked: [],
  minTokenIssuedAtWall: 0,
  terminated: false,
  wake: 0,
  ...more,
});

describe("the boot counter", () => {
  test("rises with each start and survives damage of its file without falling", () => {
    const file = join(folder, "data/hub.incarnation");
    expect([nextIncarnation(file), nextIncarnation(file), nextIncarnation(file)]).toEqual([1, 2, 3]);
    expect(statSync(file).mode & 0o777).toBe(0o600);
    writeFileSync(file, "garbage");
    expect(nextIncarnation(file)).toBe(1);
  });

  test("a folder that cannot be written is said in words", () => {
    writeFileSync(join(folder, "data"), "a file, not a folder");
    expect(() => nextIncarnation(join(folder, "data/hub.incarnation"))).toThrow(/cannot (?:read|write).*hub\.incarnation/);
  });
});

describe("configuration of a process", () => {
  const minimal = { hub_id: "home", tls: { ca: "ca.pem", cert: "c.pem", key: "k.pem" } };

  test("S0-2 S0-23 the smallest file has the documented defaults: port 18800, federation off, durable", () => {
    const config = hubConfig.parse(minimal);
    expect(config).toMatchObject({
      listen: { port: 18_800 },
      federation_config_path: "",
      durability: "full",
      advertise_host: "",
      ops: { port: 18_810 },
    });
    expect(config.services["command-forwarding"].port).toBe(18_802);
  });

  test("S2-15 SEEDS adds addresses, empty items are dropped", () => {
    const file = join(folder, "hub.json");
    writeFileSync(file, JSON.stringify({ ...minimal, seeds: ["a:1"] }));
    const { config, folder: from } = loadHubConfig({ file, env: { SEEDS: " b:2,, c:3 ," } });
    expect(config.seeds).toEqual(["a:1", "b:2", "c:3"]);
    expect(from).toBe(folder);
  });

  test.each([
    [{ ...minimal, hub_idd: "x" }, /hub_idd/],
    [{ ...minimal, hub_id: "Not A Label" }, /DNS label/],
    [{ ...minimal, listen: { port: 70_000 } }, /listen\.port/],
    [{ ...minimal, durability: "none" }, /durability/],
    ["not an object", /object/],
  ])("a malformed file is refused with the field's path: %j", (content, message) => {
    const file = join(folder, "hub.json");
    writeFileSync(file, JSON.stringify(content));
    expect(() => loadHubConfig({ file })).toThrow(message);
  });

  test("paths are relative to the file's folder", () => {
    expect(resolveFrom("/etc/foedus", "pki/ca.pem")).toBe("/etc/foedus/pki/ca.pem");
    expect(resolveFrom("/etc/foedus", "/keys/ca.pem")).toBe("/keys/ca.pem");
  });
});

describe("who is who, from the last views", () => {
  test("D-10 bundles are never merged; one that cannot be read admits nobody", async () => {
    const [a, b] = [await testHub("a"), await testHub("b")];
    const authority = new ViewAuthority("own", () => []);
    authority.update(
      [
        view("a", { level: 3, caPems: [a.caPem] }),
        view("b", { level: 1, caPems: [b.caPem], revoked: ["bad"] }),
        view("c", { caPems: ["-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"] }),
      ],
      silentLogger,
    );
    expect(authority.bundle("a")).toHaveLength(1);
    expect(authority.bundle("a")![0]!.subject).not.toBe(authority.bundle("b")![0]!.subject);
    expect(authority.bundle("c")).toBeUndefined();
    expect(authority.bundle("nobody")).toBeUndefined();
    expect([authority.level("a"), authority.level("b"), authority.level("nobody")]).toEqual([3, 1, 0]);
    expect([authority.revoked("bad"), authority.revoked("good")]).toEqual([true, false]);
  });

  test("D-15 every change moves the version, and a terminated peer's CA is no longer offered to TLS", async () => {
    const a = await testHub("a");
    const authority = new ViewAuthority("own", () => []);
    const before = authority.version();
    authority.update([view("a", { caPems: [a.caPem] })], silentLogger);
    expect(authority.pems()).toEqual([a.caPem]);
    authority.update([view("a", { caPems: [a.caPem], terminated: true })], silentLogger);
    expect(authority.pems()).toEqual([]);
    expect(authority.version()).toBeGreaterThan(before + 1);
  });
});

describe("events on their way to telemetry", () => {
  function telemetry(): { client: ClientOf<typeof TelemetryService>; got: ReportEventsRequest[]; fail: (on: boolean) => void } {
    const got: ReportEventsRequest[] = [];
    let failing = false;
    const reportEvents = (request: ReportEventsRequest): Promise<unknown> => {
      if (failing) return Promise.reject(new Error("away"));
      got.push(request);
      return Promise.resolve(create(ReportEventsResponseSchema));
    };
    return {
      client: { reportEvents } as unknown as ClientOf<typeof TelemetryService>,
      got,
      fail: (on) => {
        failing = on;
      },
    };
  }

  test("while telemetry is away the oldest are kept and the rest is counted as dropped", async () => {
    const clock = new ManualClock();
    const { client, got, fail } = telemetry();
    const metrics = new Registry();
    const forwarder = new EventForwarder({ clock, log: silentLogger, metrics });
    const sink = forwarder.sink("discovery");
    fail(true);
    forwarder.connect(client);
    for (let i = 0; i < 1_200; i++) sink.report({ kind: "LINK_STATE", severity: "INFO", text: `event ${i}` });
    await clock.advance(500);
    expect(got).toEqual([]);
    fail(false);
    await clock.advance(5_000);
    const events = got.flatMap((request) => request.events);
    expect(events.map((event) => event.text)).toEqual(Array.from({ length: 1_000 }, (_, i) => `event ${i}`));
    expect(got.reduce((sum, request) => sum + Number(request.dropped), 0)).toBe(200);
    expect(await metrics.metrics()).toContain('foedus_events_dropped_total{service="discovery"} 200');
    await forwarder.stop();
  });
});

describe("presence on its way to the registry", () => {
  function registry() {
    const got: { attached: string[]; detached: string[]; replace: boolean }[] = [];
    const state = { failing: false };
    const reportPresence = ({ attached, detached, replace }: ReportPresenceRequest): Promise<unknown> => {
      if (state.failing) return Promise.reject(new Error("away"));
      got.push({ attached: [...attached].sort(), detached: [...detached].sort(), replace });
      return Promise.resolve(create(ReportPresenceResponseSchema));
    };
    return { client: { reportPresence } as unknown as ClientOf<typeof RegistrySyncService>, got, state };
  }

  test("changes are told at once; after a failure and after a pause the whole list", async () => {
    const clock = new ManualClock();
    const { client, got, state } = registry();
    const presence = createPresence(() => client, clock, silentLogger);
    presence.report(["a", "b"], true);
    await clock.advance(10);
    expect(got.at(-1)).toEqual({ attached: ["a", "b"], detached: [], replace: true });
    presence.report(["a"], false);
    await clock.advance(10);
    expect(got.at(-1)).toEqual({ attached: [], detached: ["a"], replace: false });
    state.failing = true;
    presence.report(["c"], true);
    await clock.advance(100);
    state.failing = false;
    await clock.advance(1_000);
    expect(got.at(-1)).toEqual({ attached: ["b", "c"], detached: [], replace: true });
    const told = got.length;
    await clock.advance(25_000);
    expect(got.length).toBeGreaterThan(told);
    expect(got.at(-1)).toEqual({ attached: ["b", "c"], detached: [], replace: true });
    presence.stop();
  });
});

describe("the federation file while the hub runs", () => {
  test("D-11 a changed file takes effect, a bad one is reported and the last good one stays", async () => {
    const clock = new ManualClock();
    const path = join(folder, "federation.json");
    writeFileSync(path, "1");
    const applied: number[] = [];
    const read = () => {
      const n = Number(readFileSync(path, "utf8"));
      if (Number.isNaN(n)) throw new Error("bad");
      return { peers: Array.from({ length: n }), syncIntervalMs: 30_000 } as unknown as ReturnType<
        ConstructorParameters<typeof FederationFile>[0]["read"]
      >;
    };
    const file = new FederationFile({ path, clock, log: silentLogger, read, apply: (federation) => applied.push(federation.peers.length) });
    file.start();
    await clock.advance(5_000);
    expect(applied).toEqual([]);
    writeFileSync(path, "22");
    await clock.advance(2_500);
    writeFileSync(path, "bad");
    await clock.advance(2_500);
    expect(applied).toEqual([22]);
    writeFileSync(path, "3333");
    await clock.advance(2_500);
    expect(applied).toEqual([22, 3_333]);
    file.stop();
  });
});
