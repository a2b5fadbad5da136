import * as z from "zod";
import { isHubId } from "#kernel/hub-id.ts";
import { commandForwardingConfig } from "../command-forwarding/config.ts";
import { discoveryConfig } from "../discovery/config.ts";
import { registrySyncConfig } from "../registry-sync/config.ts";
import { telemetryConfig } from "../telemetry/config.ts";

const path = (description: string) => z.string().min(1).meta({ description, unit: "path, relative to the configuration file" });
const port = (fallback: number, description: string) =>
  z.int().min(0).max(65_535).default(fallback).meta({ unit: "TCP port", description });

/** SERVICES in the order of their default ports in split mode. */
export const SERVICES = ["discovery", "registry-sync", "command-forwarding", "telemetry"] as const;

/** ServiceName is a service that this software can run. */
export type ServiceName = (typeof SERVICES)[number];

/** Ports of split mode; single mode uses the first for everything. */
export const DEFAULT_PORTS: Readonly<Record<ServiceName, number>> = {
  discovery: 18_800,
  "registry-sync": 18_801,
  "command-forwarding": 18_802,
  telemetry: 18_803,
};

const keyPair = z.strictObject({ cert: path("certificate chain, PEM, leaf first"), key: path("private key, PEM, mode 0600") });

const serviceAddress = (name: ServiceName) =>
  z
    .strictObject({
      host: z
        .string()
        .min(1)
        .default("127.0.0.1")
        .meta({ description: "address it listens on, and at which this hub's other services reach it" }),
      port: port(DEFAULT_PORTS[name], "port it listens on in split mode"),
      advertise_host: z.string().default("").meta({ description: "host name that peers are told; empty: the hub's advertise_host" }),
      advertise_port: z
        .int()
        .min(0)
        .max(65_535)
        .default(0)
        .meta({ unit: "TCP port", description: "port that peers are told; 0: the listening port" }),
      cert: z.string().default("").meta({ unit: "path", description: "certificate of this service in split mode; empty: tls.cert" }),
      key: z.string().default("").meta({ unit: "path", description: "its key; empty: tls.key" }),
    })
    .prefault({});

/** hubConfig is what the process itself needs; each service adds its own section. */
export const hubShape = {
  hub_id: z
    .string()
    .refine(isHubId, "must be a DNS label: 1 to 63 of a-z, 0-9 and -, not starting or ending with -")
    .meta({ description: "name of this hub; its certificates carry spiffe://<hub_id>", restart: true }),
  data_dir: path("folder of the stores and keys; created with mode 0700").default("data").meta({ restart: true }),
  listen: z
    .strictObject({
      host: z.string().min(1).default("127.0.0.1").meta({ description: "address of the single port in single mode" }),
      port: port(18_800, "the single port in single mode; 0 takes a free one"),
    })
    .prefault({})
    .meta({ restart: true }),
  advertise_host: z
    .string()
    .default("")
    .meta({ description: "host name or address that peers are told; empty: this hub only dials out and is fully usable all the same" }),
  advertise_port: z
    .int()
    .min(0)
    .max(65_535)
    .default(0)
    .meta({ unit: "TCP port", description: "port that peers are told in single mode; 0: the listening port" }),
  services: z
    .strictObject({
      discovery: serviceAddress("discovery"),
      "registry-sync": serviceAddress("registry-sync"),
      "command-forwarding": serviceAddress("command-forwarding"),
      telemetry: serviceAddress("telemetry"),
    })
    .prefault({})
    .meta({ description: "where each service is in split mode", restart: true }),
  tls: z.strictObject({
    ca: path("CA certificates of this hub, PEM"),
    ...keyPair.shape,
    reload_ms: z
      .int()
      .min(100)
      .max(86_400_000)
      .default(10_000)
      .meta({ unit: "ms", description: "how often certificate files are looked at for renewal" }),
  }),
  federation_config_path: z
    .string()
    .default("")
    .meta({ unit: "path", description: "federation file with the peers; empty: federation is off (S0-23)" }),
  seeds: z
    .array(z.string())
    .default([])
    .meta({ unit: "host:port", description: "further addresses of pinned hubs; SEEDS in the environment adds to it (S2-15)" }),
  durability: z.enum(["full", "process"]).default("full").meta({
    description: "what an acknowledged write survives: power loss (full), or only the end of the process (process, for slow disks)",
    restart: true,
  }),
  log: z
    .strictObject({
      level: z.enum(["debug", "info", "warn", "error"]).default("info").meta({ description: "least level that is logged" }),
      destination: z.string().default("stderr").meta({ description: "stdout, stderr or the path of a file" }),
      pretty: z.boolean().default(false).meta({ description: "lines for people instead of JSON" }),
    })
    .prefault({}),
  ops: z
    .strictObject({
      host: z.string().min(1).default("127.0.0.1").meta({ description: "address of /healthz, /readyz, /metrics and /statusz" }),
      port: port(18_810, "ops port; 0 takes a free one"),
      metrics_port: port(18_811, "with a host that is not loopback: port of /metrics and /statusz over mutual TLS"),
    })
    .prefault({})
    .meta({ restart: true }),
  stop_grace_ms: z
    .int()
    .min(0)
    .max(600_000)
    .default(5_000)
    .meta({ unit: "ms", description: "time that running calls get when the hub stops" }),
} as const;

/** hubConfig is the whole configuration of a hub's process: its own and one section per service. */
export const hubConfig = z.strictObject({
  ...hubShape,
  discovery: discoveryConfig,
  registry_sync: registrySyncConfig,
  command_forwarding: commandForwardingConfig,
  telemetry: telemetryConfig,
});

/** HubConfig is the effective configuration. */
export type HubConfig = z.infer<typeof hubConfig>;
