import { X509Certificate } from "node:crypto";
import { mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { Registry } from "prom-client";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { ClientOf } from "#channel/call.ts";
import { validateRequest } from "#channel/validation.ts";
import type { RegistrySyncService, ReportPresenceRequest } from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import { ReportPresenceResponseSchema } from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import {
  type ReportEventsRequest,
  ReportEventsRequestSchema,
  ReportEventsResponseSchema,
  type TelemetryService,
} from "#gen/foedus/telemetry/v1alpha1/telemetry_service_pb.ts";
import { fail } from "#kernel/error.ts";
import { describeConfig } from "#runtime/config/describe.ts";
import type { EventReport, LinkCounters } from "#runtime/events.ts";
import { silentLogger } from "#runtime/log/log.ts";
import type { PeerView } from "#runtime/peers.ts";
import { ManualClock } from "../../test/fakes/manual-clock.ts";
import { memoryLogger } from "../../test/fakes/memory-logger.ts";
import { testHub } from "../../test/testca/index.ts";
import { createPresence } from "./compose/presence.ts";
import { type HubConfig, hubConfig, opsPorts } from "./config.ts";
import { EventForwarder } from "./events.ts";
import { FederationFile } from "./files/federation-file.ts";
import { nextIncarnation, resolveFrom } from "./files/identity.ts";
import { LiveConfig } from "./files/live-config.ts";
import { loadHubConfig } from "./index.ts";
import { ViewAuthority } from "./peers/authority.ts";
import { SERVICES } from "./services.ts";

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
    for (const text of ["garbage", String(Number.MAX_SAFE_INTEGER)]) {
      writeFileSync(file, text);
      expect(nextIncarnation(file)).toBe(1);
    }
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
    });
    expect(config.services["command-forwarding"].port).toBe(18_802);
    expect(opsPorts(config, "hub").health.port).toBe(18_810);
  });

  const [own, all] = [{ services: { telemetry: { ops_port: 1, metrics_port: 0 } } }, { ops: { port: 0, metrics_port: 2 } }];
  test.each([
    [
      "without a word each service has its own, and single mode that of discovery",
      {},
      [18_810, 18_811],
      [18_810, 18_811],
      [18_816, 18_817],
    ],
    ["a service has another one", own, [18_810, 18_811], [18_810, 18_811], [1, 0]],
    ["ops.port and ops.metrics_port are for all, and win", { ...own, ...all }, [0, 2], [0, 2], [0, 2]],
  ])("ports of health and metrics: %s", (_name, more, hub, discovery, telemetry) => {
    const config = hubConfig.parse({ ...minimal, ...more });
    const portsOf = (runs: "hub" | "discovery" | "telemetry"): number[] => {
      const { health, metrics } = opsPorts(config, runs);
      return [health.port, metrics.port];
    };
    expect([portsOf("hub"), portsOf("discovery"), portsOf("telemetry")]).toEqual([hub, discovery, telemetry]);
  });

  test("no two ports of a split hub on one machine are the same unless they are configured so", () => {
    const config = hubConfig.parse(minimal);
    const ports = SERVICES.flatMap((service) => {
      const { health, metrics } = opsPorts(config, service);
      return [config.services[service].port, health.port, metrics.port];
    });
    expect(new Set(ports).size).toBe(3 * SERVICES.length);
  });

  test("a port that is taken names the field to change: in split mode not the one that is for all", () => {
    const settings = (more: object, runs: "hub" | "telemetry"): string =>
      opsPorts(hubConfig.parse({ ...minimal, ...more }), runs).health.setting;
    expect([settings({}, "hub"), settings(all, "hub")]).toEqual(["ops.port", "ops.port"]);
    expect([settings({}, "telemetry"), settings(all, "telemetry")]).toEqual([
      "services.telemetry.ops_port",
      "services.telemetry.ops_port instead of ops.port",
    ]);
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
    [{ ...minimal, ops: { port: 65_536 } }, /ops\.port/],
    [{ ...minimal, services: { telemetry: { ops_port: 65_536, metrics_port: -1 } } }, /telemetry\.ops_port.*\n.*telemetry\.metrics_port/],
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
    // A new token comes often, and would else have every caller's certificate verified again.
    const settled = authority.version();
    const token = { jwt: "next", issuedAtWall: 1, expiresAtWall: 2 };
    authority.update([view("a", { caPems: [a.caPem], terminated: true, token })], silentLogger);
    expect(authority.version()).toBe(settled);
  });
});

describe("events on their way to telemetry", () => {
  function telemetry(): { client: ClientOf<typeof TelemetryService>; got: ReportEventsRequest[]; away: (on: boolean) => void } {
    const got: ReportEventsRequest[] = [];
    let failing = false;
    const reportEvents = (request: ReportEventsRequest): Promise<unknown> => {
      if (failing) return Promise.reject(fail("SHUTTING_DOWN", "away"));
      got.push(request);
      return Promise.resolve(create(ReportEventsResponseSchema));
    };
    return {
      client: { reportEvents } as unknown as ClientOf<typeof TelemetryService>,
      got,
      away: (on) => {
        failing = on;
      },
    };
  }

  test("while telemetry is away the oldest are kept and the rest is counted as dropped", async () => {
    const clock = new ManualClock();
    const { client, got, away } = telemetry();
    const metrics = new Registry();
    const forwarder = new EventForwarder({ clock, log: silentLogger, metrics });
    const sink = forwarder.sink("discovery");
    away(true);
    forwarder.connect(client);
    for (let i = 0; i < 1_200; i++) sink.report({ kind: "LINK_STATE", severity: "INFO", peer: `p${i}`, text: `event ${i}` });
    await clock.advance(500);
    expect(got).toEqual([]);
    away(false);
    for (let i = 0; i < 10; i++) await clock.advance(500);
    const events = got.flatMap((request) => request.events);
    expect(events.map((event) => event.text)).toEqual(Array.from({ length: 1_000 }, (_, i) => `event ${i}`));
    expect(got.reduce((sum, request) => sum + Number(request.dropped), 0)).toBe(200);
    expect(await metrics.metrics()).toContain('foedus_events_dropped_total{service="discovery"} 200');
    await forwarder.stop();
  });
});

describe("link counters on their way to telemetry", () => {
  const LINK = {
    peer: "beta",
    mount: "link",
    framesIn: 0,
    framesOut: 0,
    bytesIn: 0,
    bytesOut: 0,
    ready: 0,
    backpressure: 0,
    fatal: 0,
    waiting: false,
    lastEvent: "up",
    lastFrameAgeMs: 0,
  } as const;

  test("of a peer that never said anything are such as telemetry takes, with those of the others", async () => {
    const clock = new ManualClock();
    const problems: unknown[] = [];
    const ages: bigint[] = [];
    const reportEvents = (request: ReportEventsRequest): Promise<unknown> => {
      problems.push(validateRequest(ReportEventsRequestSchema, request));
      ages.push(...request.links.map(({ lastFrameAgeMs }) => lastFrameAgeMs));
      return Promise.resolve(create(ReportEventsResponseSchema));
    };
    const forwarder = new EventForwarder({ clock, log: silentLogger, metrics: new Registry() });
    forwarder.addLinks({
      service: "discovery",
      links: () => [
        { ...LINK, lastFrameAgeMs: 12.4 },
        { ...LINK, peer: "lab", lastFrameAgeMs: -1 },
      ],
    });
    forwarder.connect({ reportEvents } as unknown as ClientOf<typeof TelemetryService>);
    await clock.advance(1_000);
    expect(problems).toEqual([undefined]);
    expect(ages).toEqual([12n, 0n]);
    await forwarder.stop();
  });

  test("are told each second while something happens, every 5 s while it is quiet, and again after a failure", async () => {
    const clock = new ManualClock();
    let link: LinkCounters = LINK;
    let failing = false;
    const told: string[] = [];
    const reportEvents = ({ links }: { links: { framesIn: bigint; lastEvent: string }[] }): Promise<unknown> => {
      if (failing) return Promise.reject(new Error("away"));
      told.push(...links.map(({ framesIn, lastEvent }) => `${clock.mono()} ${framesIn} ${lastEvent}`));
      return Promise.resolve({});
    };
    const forwarder = new EventForwarder({ clock, log: silentLogger, metrics: new Registry() });
    forwarder.addLinks({ service: "discovery", links: () => [link] });
    forwarder.connect({ reportEvents } as unknown as ClientOf<typeof TelemetryService>);
    const start = clock.mono();
    const during = async (seconds: number): Promise<string[]> => {
      told.length = 0;
      for (let i = 0; i < seconds; i++) await clock.advance(1_000);
      return told.map((line) => line.replace(/^\d+/, (at) => String((Number(at) - start) / 1_000)));
    };
    expect(await during(4)).toEqual(["1 0 up"]);
    expect(await during(8)).toEqual(["6 0 up", "11 0 up"]);
    link = { ...LINK, framesIn: 20 };
    expect(await during(2)).toEqual(["13 20 up"]);
    link = { ...LINK, framesIn: 20, lastEvent: "down" };
    failing = true;
    expect(await during(2)).toEqual([]);
    failing = false;
    expect(await during(2)).toEqual(["17 20 down"]);
    await forwarder.stop();
  });
});

describe("presence on its way to the registry", () => {
  /** advance moves time on, and lets the answers to what was sent arrive. */
  async function advance(clock: ManualClock, ms: number): Promise<void> {
    clock.advance(ms);
    for (let i = 0; i < 500; i++) await Promise.resolve();
  }

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

  test("the whole list is repeated every 20 s although something changes all the time", async () => {
    const clock = new ManualClock();
    const { client, got } = registry();
    const presence = createPresence(() => client, clock, silentLogger, new Registry());
    presence.report(["steady", "flapping"], true);
    for (let i = 0; i < 100; i++) {
      await advance(clock, 1_000);
      presence.report(["flapping"], i % 2 === 0);
    }
    await advance(clock, 10);
    const whole = got.flatMap(({ replace, attached }, i) => (replace ? [{ i, attached }] : []));
    expect(whole.length).toBeGreaterThanOrEqual(5);
    expect(whole.length).toBeLessThanOrEqual(7);
    expect(whole.every(({ attached }) => attached.includes("steady"))).toBe(true);
    presence.stop();
  });

  test("a long list goes in parts of one round, and one that is refused is counted, said, and does not keep the others back", async () => {
    const clock = new ManualClock();
    const metrics = new Registry();
    const log = memoryLogger();
    const got: ReportPresenceRequest[] = [];
    const reportPresence = (request: ReportPresenceRequest): Promise<unknown> => {
      if (request.attached.includes("x3000")) return Promise.reject(fail("INVALID_FIELD", "no"));
      got.push(request);
      return Promise.resolve(create(ReportPresenceResponseSchema));
    };
    const presence = createPresence(() => ({ reportPresence }) as never, clock, log, metrics);
    const ids = Array.from({ length: 120_000 }, (_, i) => `x${i}`);
    presence.report(ids, true);
    await advance(clock, 10);
    expect(got.flatMap(({ attached }) => attached)).toEqual([...ids.slice(0, 2_000), ...ids.slice(4_000)]);
    expect(got.map(({ replace }) => replace)).toEqual([...Array(58).fill(false), true]);
    expect(new Set(got.map(({ round }) => round)).size).toBe(1);
    expect(await metrics.getSingleMetricAsString("foedus_command_forwarding_presence_refused_total")).toMatch(/ 1$/);
    expect(log.lines.filter(({ level }) => level === "error")).toHaveLength(1);
    presence.stop();
  });

  test("changes are told at once; after a failure and after a pause the whole list", async () => {
    const clock = new ManualClock();
    const { client, got, state } = registry();
    const presence = createPresence(() => client, clock, silentLogger, new Registry());
    presence.report(["a", "b"], true);
    await advance(clock, 10);
    expect(got.at(-1)).toEqual({ attached: ["a", "b"], detached: [], replace: true });
    presence.report(["a"], false);
    await advance(clock, 10);
    expect(got.at(-1)).toEqual({ attached: [], detached: ["a"], replace: false });
    state.failing = true;
    presence.report(["c"], true);
    await advance(clock, 100);
    state.failing = false;
    await advance(clock, 1_000);
    expect(got.at(-1)).toEqual({ attached: ["b", "c"], detached: [], replace: true });
    const told = got.length;
    await advance(clock, 25_000);
    expect(got.length).toBeGreaterThan(told);
    expect(got.at(-1)).toEqual({ attached: ["b", "c"], detached: [], replace: true });
    presence.stop();
  });
});

describe("the federation file while the hub runs", () => {
  const minimal = { hub_id: "home", tls: { ca: "ca.pem", cert: "c.pem", key: "k.pem" }, federation_config_path: "federation.json" };
  const entry = (hubId: string, ca: string) => ({ hub_id: hubId, ca });
  const write = (...peers: readonly object[]): void => writeFileSync(join(folder, "federation.json"), JSON.stringify({ peers }));

  /** follow gives the digests of the peers' CAs as they are applied, and the events. */
  function follow(config: () => HubConfig) {
    const clock = new ManualClock();
    const applied: string[] = [];
    const told: EventReport[] = [];
    const file = new FederationFile({
      folder,
      config,
      clock,
      log: silentLogger,
      events: { report: (event) => told.push(event) },
      apply: ({ peers }) => applied.push(peers.map(({ hubId, cas }) => `${hubId} ${cas.map(({ digest }) => digest).join("+")}`).join()),
    });
    return { clock, applied, told, file };
  }
  const digestOf = (pem: string): string => new X509Certificate(pem).fingerprint256.replaceAll(":", "").toLowerCase();

  test("D-11 a changed file takes effect, a bad one is reported and the last good one stays", async () => {
    const b = await testHub("b");
    write(entry("b", b.caPem));
    const { clock, applied, told, file } = follow(() => hubConfig.parse(minimal));
    expect(file.first()?.peers.map(({ hubId }) => hubId)).toEqual(["b"]);
    file.start();
    await clock.advance(5_000);
    expect(applied).toEqual([]);
    write(entry("b", b.caPem), entry("c", b.caPem));
    await clock.advance(2_000);
    writeFileSync(join(folder, "federation.json"), "bad");
    await clock.advance(2_000);
    expect(applied).toEqual([`b ${digestOf(b.caPem)},c ${digestOf(b.caPem)}`]);
    expect(told.map(({ kind, severity }) => `${kind} ${severity}`)).toEqual(["CONFIGURATION INFO", "CONFIGURATION ERROR"]);
    write();
    await clock.advance(2_000);
    expect(applied).toHaveLength(2);
    file.stop();
  });

  test("a share that hub.json does not define is told, with what to do, at the start and after a change of either file; the hub goes on", async () => {
    const b = await testHub("b");
    let config = hubConfig.parse(minimal);
    write({ ...entry("b", b.caPem), share: "limitd" });
    const { clock, applied, told, file } = follow(() => config);
    expect(file.first()?.peers[0]?.share).toBe("limitd");
    const sentence =
      'the configuration defines no share "limitd", so b sees nothing of this hub; did you mean limited? Define it under registry_sync.shares, or give another one: `foedus peer add b --share limited`.';
    expect(told).toEqual([{ kind: "CONFIGURATION", severity: "WARNING", text: sentence, fields: { share: "limitd" } }]);
    file.start();
    write({ ...entry("b", b.caPem), share: "limitd" }, { ...entry("c", b.caPem), share: "constructor" });
    await clock.advance(2_000);
    expect(applied).toHaveLength(1);
    const warnings = (): string[] => told.filter(({ severity }) => severity === "WARNING").map(({ fields }) => fields?.["share"] ?? "");
    expect(warnings()).toEqual(["limitd", "constructor", "limitd"]);
    config = hubConfig.parse({ ...minimal, registry_sync: { shares: { limitd: {}, constructor: {} } } });
    file.checkShares();
    expect(warnings()).toHaveLength(3);
    config = hubConfig.parse({ ...minimal, registry_sync: { shares: { limitd: {} } } });
    file.checkShares();
    file.checkShares();
    expect(warnings().slice(3)).toEqual(["constructor"]);
    file.stop();
  });

  test("D-10 a CA file is followed, whether the entry or trust.bundles names it, and also when it changes between two starts of reading", async () => {
    const [b, next] = [await testHub("b"), await testHub("b")];
    write(entry("b", "b.pem"), { hub_id: "c" });
    writeFileSync(join(folder, "b.pem"), b.caPem);
    writeFileSync(join(folder, "c.pem"), b.caPem);
    const config = hubConfig.parse({ ...minimal, discovery: { trust: { bundles: { c: "c.pem" } } } });
    const { clock, applied, file } = follow(() => config);
    file.first();
    // Before the first look, as between reading at the start and following.
    writeFileSync(join(folder, "b.pem"), next.caPem);
    file.start();
    await clock.advance(2_000);
    expect(applied).toEqual([`b ${digestOf(next.caPem)},c ${digestOf(b.caPem)}`]);
    writeFileSync(join(folder, "c.pem"), next.caPem);
    await clock.advance(2_000);
    expect(applied.at(-1)).toBe(`b ${digestOf(next.caPem)},c ${digestOf(next.caPem)}`);
    file.stop();
  });
});

describe("the configuration while the hub runs", () => {
  const minimal = { hub_id: "home", tls: { ca: "ca.pem", cert: "c.pem", key: "k.pem" } };

  test("only what is followed is marked live; a bad edit changes nothing and is said; what waits for a restart is said", async () => {
    const live = describeConfig(hubConfig).flatMap(({ path, applies }) =>
      applies === "live" ? [path.replace(/\.\*\..*/, ".*").replace(/^(adapters\.\w+)\..*/, "$1")] : [],
    );
    expect([...new Set(live)]).toEqual([
      "seeds",
      "log.level",
      "stop_grace_ms",
      "rates.cheap.per_second",
      "rates.cheap.burst",
      "rates.normal.per_second",
      "rates.normal.burst",
      "rates.expensive.per_second",
      "rates.expensive.burst",
      "adapters.mqtt",
      "discovery.trust.bundles",
      "registry_sync.shares.*",
    ]);
    const file = join(folder, "hub.json");
    const write = (more: object): void => writeFileSync(file, JSON.stringify({ ...minimal, ...more }));
    write({});
    const { config, again } = loadHubConfig({ file, env: { FOEDUS_STOP_GRACE_MS: "77" } });
    const clock = new ManualClock();
    const told: EventReport[] = [];
    const logged: unknown[] = [];
    const log = { ...silentLogger, error: (...words: unknown[]) => void logged.push(words) };
    const following = new LiveConfig({ config, again, clock, log, events: { report: (event) => told.push(event) } });
    const levels: string[] = [];
    following.onChange(({ log }) => levels.push(log.level));
    following.onChange(() => {
      throw new Error("a listener that fails keeps nothing from the others");
    });
    following.onChange(({ log }) => levels.push(log.level));
    following.start();
    await clock.advance(5_000);
    expect(told).toEqual([]);
    write({ log: { level: "debug", pretty: true }, rates: { cheap: { burst: 3 } }, stop_grace_ms: 5 });
    await clock.advance(2_000);
    expect(levels).toEqual(["debug", "debug"]);
    expect(following.current).toEqual({ ...config, log: { ...config.log, level: "debug" }, rates: following.current.rates });
    expect(following.current.stop_grace_ms).toBe(77);
    expect(following.rates.cheap).toEqual({ perSecond: 10_000, burst: 3 });
    expect(told.map(({ severity, fields }) => [severity, fields?.["fields"]])).toEqual([
      ["INFO", "log.level rates.cheap.burst"],
      ["WARNING", "log.pretty"],
    ]);
    logged.length = 0;
    write({ log: { level: "loud" } });
    expect(following.problem).toBe("");
    await clock.advance(4_000);
    // The event is logged; a stack of our own says nothing more to whoever has to correct the file.
    expect(logged).toEqual([]);
    expect(following.current.log.level).toBe("debug");
    expect(told.slice(2)).toEqual([
      expect.objectContaining({ kind: "CONFIGURATION", severity: "ERROR", text: expect.stringContaining("log.level") }),
    ]);
    expect(following.problem).toMatch(/^log\.level: .* \(.*hub\.json\)$/);
    write({});
    following.reread();
    expect([following.problem, following.current]).toEqual(["", config]);
    // Who asks does not wait for the next look of the clock.
    write({ log: { level: "louder" } });
    following.look();
    expect([following.problem, following.current]).toEqual([expect.stringContaining("log.level"), config]);
    write({ log: { level: "warn" } });
    following.look();
    expect([following.problem, following.current.log.level]).toEqual(["", "warn"]);
    following.stop();
  });
});
