import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import * as z from "zod";
import { configTable, describeConfig, diffConfig, renderEffective, withLive } from "./describe.ts";
import { ConfigError, type ConfigInputs, loadConfig } from "./load.ts";
import { envName, nearest } from "./shape.ts";

const schema = z.object({
  hubId: z.string().min(1).max(63).meta({ description: "name of this hub" }),
  discovery: z.object({
    port: z.number().int().min(0).max(65_535).default(18_800).meta({ description: "port to listen on" }),
    pingIntervalMs: z.number().min(100).default(15_000).meta({ description: "time between pings", unit: "ms", live: true }),
    seeds: z.array(z.string()).default([]).meta({ description: "where to look for peers" }),
    enabled: z.boolean().default(true).meta({ description: "look for peers at all" }),
  }),
  log: z
    .object({ level: z.enum(["debug", "info"]).default("info").meta({ description: "how much to log" }) })
    .meta({ description: "logging", live: true }),
  invite: z.object({ secret: z.string().default("hunter2").meta({ description: "one-time secret", secret: true }) }),
  peers: z
    .record(z.string(), z.object({ host: z.string(), port: z.number().default(18_800), pin: z.string().optional().meta({ secret: true }) }))
    .default({})
    .meta({ live: true }),
});

describe("config", () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "foedus-config-"));
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  const file = (content: unknown): string => {
    const path = join(folder, "hub.json");
    writeFileSync(path, typeof content === "string" ? content : JSON.stringify(content));
    return path;
  };
  const problems = (inputs: ConfigInputs): readonly string[] => {
    try {
      loadConfig(schema, inputs);
    } catch (error) {
      if (error instanceof ConfigError) return error.problems.map((p) => `${p.path}: ${p.message} (${p.source.split(" ")[0]})`);
      throw error;
    }
    return [];
  };

  test("defaults, then file, then environment, then flags, with sources", () => {
    const path = file({ hubId: "home", discovery: { port: 1, pingIntervalMs: 500 }, peers: { work: { host: "w" } } });
    const env = { FOEDUS_DISCOVERY_PORT: "2", FOEDUS_DISCOVERY_SEEDS: "a, b", FOEDUS_DISCOVERY_ENABLED: "false", HOME: "/root" };
    const loaded = loadConfig(schema, {
      file: path,
      env,
      flags: { "discovery.port": "3", "peers.barn.host": "b", "log.level": undefined },
    });
    expect(loaded.config.discovery).toEqual({ port: 3, pingIntervalMs: 500, seeds: ["a", "b"], enabled: false });
    expect(loaded.config.peers).toEqual({ work: { host: "w", port: 18_800 }, barn: { host: "b", port: 18_800 } });
    expect(loaded.config.log.level).toBe("info");
    expect(loaded.sources.get("discovery.port")).toBe("flag discovery.port");
    expect(loaded.sources.get("discovery.seeds")).toBe("env FOEDUS_DISCOVERY_SEEDS");
    expect(loaded.sources.get("discovery.pingIntervalMs")).toBe(`file ${path}`);
    expect(loaded.sources.has("log.level")).toBe(false);
  });

  test("F-27 keys without end, in number or in length, are told in a few lines and at once", () => {
    const keys = Object.fromEntries(Array.from({ length: 40_000 }, (_, i) => [`discovery_${i}`, 1]));
    const found = problems({ file: file({ hubId: "x", ...keys }) });
    expect(found).toHaveLength(21);
    expect(found.at(-1)).toBe(": and 39980 more (file)");
    const long = problems({ file: file({ hubId: "x", ["k".repeat(900_000)]: 1, peers: { ["p".repeat(100_000)]: { host: 1 } } }) });
    expect(long).toHaveLength(2);
    for (const line of long) expect(line.length).toBeLessThan(400);
    expect(nearest(`${"d".repeat(300)}`, ["d".repeat(299), "d"])).toBeUndefined();
  });

  test("S-18 a file that would take many times its length in memory is refused before it is parsed", () => {
    const deep = (open: string, close: string) => `${open.repeat(100_000)}1${close.repeat(100_000)}`;
    for (const text of [deep("[", "]"), deep('{"a":', "}"), deep('{"a":[', "]}")])
      expect(problems({ file: file(text) })).toEqual([": it has more than 64 lists and objects inside each other (file)"]);
    expect(problems({ file: file(`{"a":[${"[],".repeat(250_000)}1]}`) })).toEqual([": it holds more than 400000 values (file)"]);
    expect(problems({ file: file(`{"a":"${"x".repeat(8 << 20)}"}`) })).toEqual([
      expect.stringMatching(/^: cannot read it: .*hub.json holds more than 8388608 bytes/),
    ]);
    // What stands in a text counts for nothing.
    expect(problems({ file: file({ hubId: "x", discovery: { seeds: [`"\\${"[{,".repeat(200_000)}`] } }) })).toEqual([]);
  });

  test("all problems are listed at once, with path, source and the nearest known key", () => {
    const found = problems({
      file: file({ hubID: "x", discovery: { prot: 1, port: 70_000 }, peers: { work: { hots: "w", host: "w" } } }),
      env: { FOEDUS_DISCOVERY_PING_INTERVAL: "5", FOEDUS_DISCOVERY_PING_INTERVAL_MS: "soon" },
      flags: { "log.levle": "info" },
    });
    expect(found).toEqual([
      "hubID: unknown key; did you mean hubId? (file)",
      "discovery.prot: unknown key; did you mean port? (file)",
      "peers.work.hots: unknown key; did you mean host? (file)",
      ": unknown variable; did you mean FOEDUS_DISCOVERY_PING_INTERVAL_MS, or unset it (env)",
      "log.levle: unknown key; did you mean log.level? (flag)",
      "hubId: is missing; it must be a text (not)",
      "discovery.port: must be at most 65535 (file)",
      "discovery.pingIntervalMs: must be a number (env)",
    ]);
  });

  test("a missing, broken or odd file says so, and nothing of the fields that could not be read", () => {
    expect(problems({ file: join(folder, "no.json") })).toEqual([expect.stringContaining("ENOENT")]);
    expect(problems({ file: file("{ nope") })).toEqual([": it is not JSON: expected property name or '}' at line 1, column 3 (file)"]);
    expect(problems({ file: file('{\n  "hubId": tru,\n}') })).toEqual([
      ": it is not JSON: something unexpected at line 2, column 15 (file)",
    ]);
    expect(problems({ file: file('{"hubId": "h"') })).toEqual([expect.stringContaining("at line 1, column 14")]);
    expect(problems({ file: file("nul") })).toEqual([": it is not JSON: it ends too early at line 1, column 4 (file)"]);
    expect(problems({ file: file(" \n") })).toEqual([": it is empty and must hold JSON (file)"]);
    expect(problems({ file: file("-----BEGIN PRIVATE KEY-----") }).join()).not.toContain("PRIVATE");
    expect(problems({ file: file([1]) })).toEqual([expect.stringContaining("one JSON object")]);
  });

  test("variables that Kubernetes makes for a Service named foedus are not mistakes", () => {
    const env = {
      FOEDUS_SERVICE_HOST: "10.0.0.1",
      FOEDUS_PORT: "tcp://10.0.0.1",
      FOEDUS_PORT_18800_TCP_ADDR: "x",
      FOEDUS_CONFIG: "hub.json",
    };
    expect(problems({ env, flags: { hubId: "home" } })).toEqual([]);
  });

  test("a key named __proto__ is just a key", () => {
    const loaded = loadConfig(schema, { file: file('{"hubId":"h","peers":{"__proto__":{"host":"x"}}}') });
    expect(Object.getPrototypeOf({})).toBe(Object.prototype);
    expect(({} as { host?: string }).host).toBeUndefined();
    expect(loaded.config.hubId).toBe("h");
  });

  test("secrets are redacted, also inside records", () => {
    const { config } = loadConfig(schema, { flags: { hubId: "h", "peers.work.host": "w", "peers.work.pin": "123456" } });
    const text = JSON.stringify(renderEffective(schema, config));
    expect(text).not.toMatch(/hunter2|123456/);
    expect(text).toContain('"host":"w"');
  });

  test("the reference has unit, default, bounds and when a change applies", () => {
    const rows = describeConfig(schema);
    expect(rows.find((r) => r.path === "discovery.port")).toEqual({
      path: "discovery.port",
      env: "FOEDUS_DISCOVERY_PORT",
      type: "number",
      unit: "",
      fallback: "18800",
      bounds: "0 to 65535",
      applies: "restart",
      description: "port to listen on",
    });
    expect(rows.find((r) => r.path === "peers.*.host")?.fallback).toBe("");
    expect(rows.find((r) => r.path === "log.level")?.bounds).toBe("debug, info");
    expect(configTable(rows)).toContain("| `discovery.pingIntervalMs` | ms | `15000` | at least 100 | live | time between pings |");
  });

  test("a diff says what needs a restart", () => {
    const a = loadConfig(schema, { flags: { hubId: "h" } }).config;
    const b = loadConfig(schema, {
      flags: { hubId: "h", "discovery.port": 9, "log.level": "debug", "invite.secret": "new", "peers.w.host": "x" },
    }).config;
    expect(diffConfig(schema, a, b)).toEqual([
      { path: "discovery.port", from: 18_800, to: 9, applies: "restart" },
      { path: "log.level", from: "info", to: "debug", applies: "live" },
      { path: "invite.secret", from: "[redacted]", to: "[redacted]", applies: "restart" },
      { path: "peers.w", from: undefined, to: { host: "x", port: 18_800 }, applies: "live" },
    ]);
  });

  test("what may change while running is taken from the new configuration, all else stays; a fact that nobody reads is a mistake", () => {
    const a = loadConfig(schema, { flags: { hubId: "h", "peers.w.host": "x" } }).config;
    const b = loadConfig(schema, {
      flags: { hubId: "other", "discovery.port": 9, "discovery.pingIntervalMs": 700, "log.level": "debug", "peers.v.host": "y" },
    }).config;
    expect(withLive(schema, a, b)).toEqual({
      ...a,
      discovery: { ...a.discovery, pingIntervalMs: 700 },
      log: { level: "debug" },
      peers: { v: { host: "y", port: 18_800 } },
    });
    expect(withLive(schema, a, a)).toEqual(a);
    expect(() => describeConfig(z.object({ port: z.number().meta({ reload: "live" }) }))).toThrow("unknown fact reload");
  });

  test("names", () => {
    expect(envName(["registry-sync", "heartbeatIntervalMs"])).toBe("FOEDUS_REGISTRY_SYNC_HEARTBEAT_INTERVAL_MS");
    expect(nearest("prot", ["port", "host"])).toBe("port");
    expect(nearest("zzz", ["port", "host"])).toBeUndefined();
  });
});
