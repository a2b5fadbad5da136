import * as z from "zod";
import { isHubId } from "#kernel/hub-id.ts";
import { ADAPTERS } from "./adapters/adapters.ts";
import {
  CONSOLE_PORT,
  DEFAULT_PORT,
  HTTP_PORT,
  portsOf,
  SERVICES,
  type ServiceName,
  type Snake,
  sectionOf,
  TABLE,
  withSessions,
} from "./services.ts";
import { webhooksConfig } from "./webhooks/config.ts";

const path = (description: string) => z.string().min(1).meta({ description, unit: "path, relative to the configuration file" });
const anyPort = z.int().min(0).max(65_535);
const port = (fallback: number, description: string) => anyPort.default(fallback).meta({ unit: "TCP port", description });
/** A port of every process of the hub, whatever it runs; not given, each service has the one of its own in `services`. */
const portOfAll = (description: string) => anyPort.optional().meta({ unit: "TCP port", description });

const LOOPBACK = /^(localhost|127(\.\d{1,3}){3}|\[::1\])$/;

/** isCollector tells what may be a collector's address: what callers do leaves this machine encrypted only. Empty is none. */
function isCollector(text: string): boolean {
  if (text === "") return true;
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || url.username !== "" || url.password !== "" || url.search !== "" || url.hash !== "") return false;
  return url.protocol === "https:" || (url.protocol === "http:" && LOOPBACK.test(url.hostname));
}

/** A token bucket of each caller; what a class of calls is, stands at each RPC in the schema. */
const rate = (perSecond: number, burst: number, what: string) =>
  z
    .strictObject({
      per_second: z
        .int()
        .min(1)
        .max(1_000_000)
        .default(perSecond)
        .meta({
          unit: "calls/s",
          description: `${what}: so many from one certificate in the long run; more are refused with RATE_LIMITED`,
        }),
      burst: z.int().min(1).max(1_000_000).default(burst).meta({ unit: "calls", description: "and so many at once" }),
    })
    .prefault({});

const keyPair = z.strictObject({ cert: path("certificate chain, PEM, leaf first"), key: path("private key, PEM, mode 0600") });

const single = (name: ServiceName) => (name === "discovery" ? ", and of a hub in single mode" : "");

const serviceAddress = (name: ServiceName) =>
  z
    .strictObject({
      host: z
        .string()
        .min(1)
        .default("127.0.0.1")
        .meta({ description: "address it listens on, and at which this hub's other services reach it" }),
      port: port(portsOf(name).port, "port it listens on in split mode"),
      ops_port: port(portsOf(name).ops, `ops port of its process${single(name)}; 0 takes a free one; ops.port wins`),
      metrics_port: port(portsOf(name).metrics, `port for metrics of its process${single(name)}; ops.metrics_port wins`),
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

type ServiceAddress = ReturnType<typeof serviceAddress>;

/** hubShape is the configuration of the process itself; each service adds a section. */
export const hubShape = {
  hub_id: z
    .string()
    .refine(isHubId, "must be a DNS label: 1 to 63 of a-z, 0-9 and -, not starting or ending with -")
    .meta({ description: "name of this hub; its certificates carry spiffe://<hub_id>" }),
  data_dir: path("folder of the stores and keys; created with mode 0700").default("data"),
  listen: z
    .strictObject({
      host: z.string().min(1).default("127.0.0.1").meta({ description: "address of the single port in single mode" }),
      port: port(DEFAULT_PORT, "the single port in single mode; 0 takes a free one"),
    })
    .prefault({}),
  http: z
    .strictObject({
      enabled: z.boolean().default(false).meta({
        description:
          "the services as JSON over HTTPS (the Connect protocol) for curl and scripts, with the same certificates and rules; single mode only",
      }),
      host: z.string().min(1).default("127.0.0.1").meta({ description: "address that it listens on" }),
      port: port(HTTP_PORT, "port that it listens on; 0 takes a free one"),
    })
    .prefault({}),
  console: z
    .strictObject({
      enabled: z.boolean().default(false).meta({
        description: "a page for browsers, which need no certificate: whoever logs in by a link of `foedus console`; single mode only",
      }),
      host: z.string().min(1).default("127.0.0.1").meta({ description: "address that it listens on" }),
      port: port(CONSOLE_PORT, "port that it listens on; 0 takes a free one"),
    })
    .prefault({}),
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
    .strictObject(Object.fromEntries(SERVICES.map((name) => [name, serviceAddress(name)])) as Readonly<Record<ServiceName, ServiceAddress>>)
    .prefault({})
    .meta({ description: "where each service is in split mode" }),
  tls: z.strictObject({
    ca: path("CA certificates of this hub, PEM"),
    ...keyPair.shape,
    revoked: z.string().min(1).default("revoked.json").meta({
      unit: "path",
      description:
        "list of this hub's own certificates that are refused (`foedus pki revoke`), followed while the hub runs; missing: none, or the last good one if it had entries",
    }),
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
  standby: z
    .strictObject({
      enabled: z.boolean().default(false).meta({
        description:
          "this installation stands by for another one of the same hub: it acts only while the federation has its address dialled, and it has the hub's data",
      }),
      hubs: z.array(z.string().refine(isHubId, "must be a hub id")).max(256).default([]).meta({
        description: "members of the federation whose word counts for that; empty: those that the data here knows, else all peers",
      }),
      ask_ms: z.int().min(100).max(60_000).default(2_000).meta({ unit: "ms", description: "how often they are asked who acts" }),
    })
    .prefault({}),
  seeds: z
    .array(z.string())
    .default([])
    .meta({ unit: "host:port", description: "further addresses of pinned hubs; SEEDS in the environment adds to it (S2-15)", live: true }),
  durability: z.enum(["full", "process"]).default("full").meta({
    description: "what an acknowledged write survives: power loss (full), or only the end of the process (process, for slow disks)",
  }),
  log: z
    .strictObject({
      level: z.enum(["debug", "info", "warn", "error"]).default("info").meta({ description: "least level that is logged", live: true }),
      destination: z.string().default("stderr").meta({ description: "stdout, stderr or the path of a file" }),
      pretty: z.boolean().default(false).meta({ description: "lines for people instead of JSON; a terminal always gets them" }),
    })
    .prefault({}),
  ops: z
    .strictObject({
      host: z.string().min(1).default("127.0.0.1").meta({ description: "address of /healthz, /readyz, /metrics and /statusz" }),
      port: portOfAll(
        "ops port of every process of this hub, for services that share no machine; 0 takes a free one; none: services.*.ops_port",
      ),
      metrics_host: z.string().default("").meta({
        description:
          "address of a port for /metrics and /statusz over mutual TLS, which then are not on the plain port; empty: ops.host if that is not loopback, else no such port",
      }),
      metrics_port: portOfAll(
        "that port, of every process; operators and services of this hub may read there; none: services.*.metrics_port",
      ),
    })
    .prefault({}),
  tracing: z
    .strictObject({
      endpoint: z
        .string()
        .refine(isCollector, "must be an https:// URL without credentials or query; http:// only to this machine (127.0.0.1, localhost)")
        .default("")
        .meta({ unit: "URL", description: "where spans go over OTLP/HTTP (protobuf), e.g. https://collector:4318; empty: tracing is off" }),
      ratio: z.number().min(0).max(1).default(0.01).meta({
        description: "share of the traces that begin at this hub which is recorded; a call that comes with a trace follows its sender",
      }),
      ca: z.string().default("").meta({
        unit: "path",
        description:
          "CA certificates of the collector, PEM; empty: this hub's own CA, and the hub shows its certificate; public: the CAs that come with Node",
      }),
      headers_file: z
        .string()
        .default("")
        .meta({ unit: "path", description: "file with headers for the collector, one `name: value` a line; read again for each request" }),
      service_name: z.string().max(127).default("").meta({ description: "service.name of the spans; empty: foedus-<hub_id>" }),
      spans_per_second: z.int().min(1).max(100_000).default(200).meta({
        unit: "spans/s",
        description: "most spans begun, whatever callers ask for; more are dropped and counted; 2 per forwarded command, over both hubs",
      }),
      queue_spans: z
        .int()
        .min(512)
        .max(65_536)
        .default(2_048)
        .meta({ unit: "spans", description: "ended spans that wait for the collector; more are dropped and counted; about 1 KiB each" }),
      interval_ms: z
        .int()
        .min(100)
        .max(60_000)
        .default(5_000)
        .meta({ unit: "ms", description: "longest wait before ended spans are sent" }),
      timeout_ms: z
        .int()
        .min(100)
        .max(60_000)
        .default(10_000)
        .meta({ unit: "ms", description: "time that the collector has to take spans, repetitions included; then they are dropped" }),
    })
    .prefault({}),
  webhooks: webhooksConfig,
  stop_grace_ms: z
    .int()
    .min(0)
    .max(600_000)
    .default(5_000)
    .meta({ unit: "ms", description: "time that running calls get when the hub stops", live: true }),
  rates: z
    .strictObject({
      cheap: rate(10_000, 20_000, "lookups in memory"),
      normal: rate(10_000, 20_000, "ordinary calls; a stream is one call, however much flows on it"),
      expensive: rate(200, 2_000, "calls that sign, verify or write: Hello, Refresh, RegisterNodes"),
    })
    .prefault({})
    .meta({ live: true }),
  adapters: z.strictObject(ADAPTERS).prefault({}),
} as const;

/** Sections are what each service has of its own, by its name in snake case. */
type Sections = { readonly [Name in ServiceName as Snake<Name>]: ReturnType<(typeof TABLE)[Name]["config"]> };

const sections = Object.fromEntries(
  SERVICES.map((name) => [sectionOf(name), TABLE[name].config({ sessions: withSessions().filter((other) => other !== name) })]),
) as unknown as Sections;

/** hubConfig is the whole configuration of a hub's process: its own and one section per service. */
export const hubConfig = z.strictObject({ ...hubShape, ...sections });

/** HubConfig is the effective configuration. */
export type HubConfig = z.infer<typeof hubConfig>;

/** OpsPort is a port for operators, and the fields of the configuration by which another one is chosen. */
export interface OpsPort {
  readonly port: number;
  readonly setting: string;
}

/** opsPorts are where a process answers probes (`health`) and, if they have a listener of their own, `metrics`. Port 0 is any free one. */
export function opsPorts({ ops, services }: HubConfig, runs: "hub" | ServiceName): { readonly health: OpsPort; readonly metrics: OpsPort } {
  const name = runs === "hub" ? "discovery" : runs;
  const own = services[name];
  const pick = (ofAll: number | undefined, fieldOfAll: string, port: number, field: string): OpsPort => {
    const ownField = `services.${name}.${field}`;
    // One process has one ops port, whatever gives its default: people choose it with the field of all.
    if (runs === "hub") return { port: ofAll ?? port, setting: fieldOfAll };
    return ofAll === undefined ? { port, setting: ownField } : { port: ofAll, setting: `${ownField} instead of ${fieldOfAll}` };
  };
  return {
    health: pick(ops.port, "ops.port", own.ops_port, "ops_port"),
    metrics: pick(ops.metrics_port, "ops.metrics_port", own.metrics_port, "metrics_port"),
  };
}
