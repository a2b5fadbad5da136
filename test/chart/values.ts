// What may stand in the chart's values: the one source of values.yaml, values.schema.json and the table in the chart's README.
import * as z from "zod";
import { hubConfig } from "../../services/hub/config.ts";
import { DEFAULT_PORT, portsOf, SERVICES, type ServiceName, TABLE } from "../../services/hub/services.ts";

/** Fields of hub.json that the chart sets from other values. They are refused in `config`, by the chart itself, with the remedy. */
export const OWNED = [
  "hub_id",
  "data_dir",
  "listen",
  "advertise_host",
  "advertise_port",
  "services",
  "tls",
  "ops",
  "federation_config_path",
];

const text = (description: string, fallback = "") => z.string().default(fallback).meta({ description });
const flag = (fallback: boolean, description: string) => z.boolean().default(fallback).meta({ description });
const map = (description: string) => z.record(z.string(), z.string()).default({}).meta({ description });
const objects = (description: string) => z.array(z.looseObject({})).default([]).meta({ description });
const port = (fallback: number, description: string) => z.int().min(1).max(65_535).default(fallback).meta({ description });
const zeroOrPort = (description: string) => z.int().min(0).max(65_535).default(0).meta({ description });

const quantity = z.union([z.string().regex(/^[0-9.]+(?:m|k|M|G|T|Ki|Mi|Gi|Ti)?$/), z.number()]);
const amounts = z.strictObject({ cpu: quantity.optional(), memory: quantity.optional(), "ephemeral-storage": quantity.optional() });
const resources = (requests: z.input<typeof amounts>, limits: z.input<typeof amounts>, source: string) =>
  z
    .strictObject({ requests: amounts.default(requests), limits: amounts.default(limits) })
    .prefault({})
    .meta({ description: source });

const size = (fallback: string) =>
  z
    .string()
    .regex(/^[0-9]+(?:Mi|Gi|Ti)$/)
    .default(fallback)
    .meta({ description: "size of the volume" });

/**
 * The requests are for a hub with 10 idle links, as docs/BENCHMARKS.md ("idle") measures it. What a hub needs under load is
 * beyond that, so memory has room above it.
 */
const HUB_RESOURCES = resources(
  { cpu: "50m", memory: "160Mi" },
  { memory: "512Mi" },
  "requests for an idle hub with 10 links in one process, with room (docs/BENCHMARKS.md); no limit of cpu, which only adds latency",
);
const SPLIT_RESOURCES = resources(
  { cpu: "25m", memory: "128Mi" },
  { memory: "512Mi" },
  "requests for the service of an idle hub with 10 links, with room (docs/BENCHMARKS.md); no limit of cpu, which only adds latency",
);

const common = (name: string, number: number, memory: typeof HUB_RESOURCES, volume: string) => ({
  port: port(number, `port of ${name}`),
  resources: memory,
  persistence: z.strictObject({ size: size(volume) }).prefault({}),
});

const advertise = (whose: string) =>
  z
    .strictObject({
      host: text(`host name or address that peers are told of ${whose}; empty: advertise.host, with TLSRoute a host name made of it`),
      port: zeroOrPort("port that peers are told; 0: that of the Service, of the node or of the Gateway"),
    })
    .prefault({});

const peerFacing = (name: string, number: number, memory: typeof HUB_RESOURCES, volume: string) =>
  z
    .strictObject({
      ...common(name, number, memory, volume),
      nodePort: zeroOrPort("with expose.type NodePort: its port on every node; 0 for other types"),
      advertise: advertise(name),
    })
    .prefault({});

/** perService makes a value for each service, under its name. */
const perService = <Schema extends z.ZodType>(make: (name: ServiceName) => Schema): Record<ServiceName, Schema> =>
  Object.fromEntries(SERVICES.map((name) => [name, make(name)])) as Record<ServiceName, Schema>;

const secret = (whose: string) => text(`Secret (ca.crt, tls.crt, tls.key) of ${whose}, with certificates.source existing`);

const leaf = z.strictObject({
  secret: z.string().min(1).meta({ description: "name of the Secret to make" }),
  kind: z.enum(["service", "node", "gateway", "operator"]),
  name: z.string().min(1),
  role: z.enum(["metrics", "viewer", "admin"]).optional(),
  prefixes: z.array(z.string()).optional(),
});

const peer = z.strictObject({
  hub_id: z.string(),
  host: z.string().optional(),
  port: z.int().min(1).max(65_535).optional(),
  ca: z.string().regex(/-----BEGIN CERTIFICATE-----/),
  max_trust: z.enum(["full", "limited", "minimal"]).optional(),
  share: z.string().optional(),
  revoked: z
    .array(z.string().regex(/^(?:[0-9A-Fa-f]{2}:?){31}[0-9A-Fa-f]{2}$/))
    .optional()
    .meta({ description: "SHA-256 fingerprints of certificates of the peer that must be refused" }),
});

/** userOrGroup is an id of the pod's processes; null leaves it to the cluster. */
const userOrGroup = (description: string) => z.int().min(1).nullable().default(65_532).meta({ description });

/** hubSettings is hub.json without required fields: what the chart owns is refused in its templates, where the remedy can be said. */
function hubSettings(): Record<string, unknown> {
  const schema = z.toJSONSchema(hubConfig, { io: "input", unrepresentable: "any", target: "draft-7" });
  const { $schema: _, required: _required, ...rest } = schema;
  const properties = { ...(rest["properties"] as Record<string, unknown>) };
  for (const key of OWNED) properties[key] = {};
  return { ...rest, properties };
}

const chartValues = z.strictObject({
  hubId: z
    .string()
    .regex(/^(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)?$/)
    .default("")
    .meta({ description: "required: the hub ID; its certificates carry spiffe://<hubId>, so it can never change" }),
  mode: z.enum(["split", "single"]).default("single").meta({
    description:
      "single: one workload with all services, and one address; split: a workload per service. A change keeps no data: volumes belong to workloads, so an upgrade that would change the mode is refused",
  }),
  image: z
    .strictObject({
      repository: text("required: image without tag; build it with `make image` and push it to your registry"),
      tag: text("image tag; empty: the chart's appVersion"),
      digest: text("sha256:… pins the image and overrides the tag"),
      pullPolicy: z.enum(["IfNotPresent", "Always", "Never"]).default("IfNotPresent"),
    })
    .prefault({}),
  imagePullSecrets: z
    .array(z.strictObject({ name: z.string() }))
    .default([])
    .meta({ description: "Secrets with credentials for the registry" }),
  nameOverride: text("replaces the chart's name in object names"),
  fullnameOverride: z
    .string()
    .regex(/^(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)?$/)
    .default("")
    .meta({ description: "replaces release and chart name in object names; at most 33 characters in mode split, 39 in mode single" }),
  advertise: z
    .strictObject({
      host: text("host name or address that peers are told; empty: this hub only dials out and is fully usable all the same"),
    })
    .prefault({}),
  expose: z
    .strictObject({
      type: z.enum(["ClusterIP", "NodePort", "LoadBalancer", "TLSRoute"]).default("ClusterIP").meta({
        description:
          "how peers outside the cluster reach the peer-facing services; mutual TLS must reach the pod, so never through a proxy that ends TLS. ClusterIP: not at all",
      }),
      annotations: map("annotations of the Services of type NodePort or LoadBalancer"),
      sharedAddress: flag(
        false,
        "with LoadBalancer in mode split: your implementation puts the Services on one address (by annotations); else each has an address of its own, and each needs a services.<name>.advertise.host",
      ),
      loadBalancerClass: text("with LoadBalancer: which implementation; empty: the cluster's own"),
      loadBalancerSourceRanges: z.array(z.string()).default([]).meta({ description: "with LoadBalancer: CIDRs that may connect" }),
      externalTrafficPolicy: z.enum(["Cluster", "Local"]).default("Local").meta({
        description: "Local keeps the address of the peer, for NetworkPolicy and logs; Cluster also takes traffic on other nodes",
      }),
      gateway: z
        .strictObject({
          name: text("with TLSRoute: Gateway with a TLS listener in mode Passthrough"),
          namespace: text("its namespace; empty: the release's"),
          sectionName: text("its listener; empty: all that fit"),
          port: port(443, "port of that listener, which peers are told"),
          apiVersion: text("version of TLSRoute in the cluster", "gateway.networking.k8s.io/v1"),
        })
        .prefault({}),
    })
    .prefault({}),
  services: z
    .strictObject({
      hub: peerFacing("the hub in single mode", DEFAULT_PORT, HUB_RESOURCES, "4Gi"),
      ...perService<z.ZodPrefault>((name) => {
        const { port, sessions, volume } = TABLE[name];
        return sessions
          ? peerFacing(name, port, SPLIT_RESOURCES, volume)
          : z.strictObject(common(name, port, SPLIT_RESOURCES, volume)).prefault({});
      }),
    })
    .prefault({})
    .meta({ description: "settings of each workload: `hub` applies in single mode, the others in split mode" }),
  ip: z
    .strictObject({
      families: z
        .array(z.enum(["IPv4", "IPv6"]))
        .max(2)
        .default([])
        .meta({ description: "ipFamilies of all Services; empty: the cluster's default. With IPv6 the hub listens on ::" }),
      policy: z
        .enum(["", "SingleStack", "PreferDualStack", "RequireDualStack"])
        .default("")
        .meta({ description: "ipFamilyPolicy of all Services; empty: the cluster's default" }),
    })
    .prefault({}),
  ops: z
    .strictObject({
      port: port(portsOf("discovery").ops, "plain HTTP for the kubelet's probes: /healthz and /readyz, nothing else"),
      metricsPort: port(portsOf("discovery").metrics, "mutual TLS for Prometheus and operators: /metrics and /statusz"),
    })
    .prefault({}),
  config: z
    .unknown()
    .default({})
    .meta({ description: "further fields of hub.json, as in docs/CONFIG.md; a wrong name or bound fails at render" }),
  federation: z
    .strictObject({
      managedBy: z.enum(["values", "hub"]).default("values").meta({
        description:
          "values: peers below are the peers, and a change reaches the hub without a restart. hub: they are the first ones; afterwards `foedus peer` in the pod of discovery keeps the list on its volume",
      }),
      peers: z
        .array(peer)
        .default([])
        .meta({ description: "entries of the federation file: hub_id and ca (PEM), and host, port, max_trust, share" }),
    })
    .prefault({}),
  certificates: z
    .strictObject({
      source: z.enum(["bootstrap", "cert-manager", "existing"]).default("bootstrap").meta({
        description:
          "bootstrap: a Job makes a CA and certificates before the first install, a CronJob renews them. cert-manager: Certificate resources. existing: Secrets that you make",
      }),
      extraDnsNames: z
        .array(z.string())
        .default([])
        .meta({ description: "additional DNS names in the service certificates; advertised names are included automatically" }),
      extraIps: z
        .array(z.string())
        .default([])
        .meta({ description: "additional addresses in the service certificates; advertised addresses are included automatically" }),
      extra: z
        .array(leaf)
        .default([])
        .meta({ description: "additional certificates, e.g. of gateways: secret, kind, name, and role or prefixes" }),
      bootstrap: z
        .strictObject({
          schedule: text("cron line of the renewal; certificates are renewed when a third of their life is left", "17 3 * * *"),
          resources: resources({ cpu: "50m", memory: "96Mi" }, { memory: "256Mi" }, "resources of the Job, which runs for a few seconds"),
        })
        .prefault({}),
      certManager: z
        .strictObject({
          issuerRef: z
            .strictObject({
              name: text("CA issuer that signs leaves with the hub's own CA directly; empty: the chart makes such a CA and Issuer"),
              kind: z.enum(["Issuer", "ClusterIssuer"]).default("Issuer"),
              group: text("", "cert-manager.io"),
            })
            .prefault({}),
          caDuration: text("lifetime of the CA that the chart creates", "87600h"),
          duration: text("lifetime of service certificates", "2160h"),
          renewBefore: text("how long before expiry they are renewed", "720h"),
        })
        .prefault({}),
      existing: z
        .strictObject({
          hub: secret("the hub in single mode"),
          ...perService(secret),
          metrics: secret("the operator (role metrics) as whom Prometheus scrapes"),
        })
        .prefault({}),
    })
    .prefault({}),
  persistence: z
    .strictObject({
      enabled: flag(
        true,
        "false, for trials only: Deployments that lose everything at each restart; peers see a new hub, and commands may run twice",
      ),
      storageClass: text("storage class; empty: the cluster's default. Use a local disk or block device: SQLite must not be on NFS"),
      accessMode: z.enum(["ReadWriteOnce", "ReadWriteOncePod"]).default("ReadWriteOnce"),
      annotations: map("annotations of the volume claims"),
      whenDeleted: z
        .enum(["Retain", "Delete"])
        .default("Retain")
        .meta({ description: "whether volumes are kept when the release is deleted" }),
    })
    .prefault({}),
  serviceAccount: z
    .strictObject({ annotations: map("annotations of the hub's service account, which has no permissions and no token") })
    .prefault({}),
  podAnnotations: map("annotations of the hub's pods"),
  podLabels: map("labels of the hub's pods"),
  env: objects("additional environment variables of the hub's containers, as in a pod"),
  extraVolumes: objects("additional volumes of the hub's pods, such as a Secret for config.tracing.headers_file"),
  extraVolumeMounts: objects("mounts of these volumes in the hub's containers"),
  podSecurity: z
    .strictObject({
      runAsUser: userOrGroup("user ID of the processes; null lets the cluster choose. On OpenShift the cluster always chooses"),
      runAsGroup: userOrGroup("group ID of the processes; null lets the cluster choose"),
      fsGroup: userOrGroup("group that owns volumes and Secrets; null lets the cluster choose"),
    })
    .prefault({}),
  nodeSelector: map("node selector of all pods"),
  tolerations: objects("tolerations of all pods"),
  affinity: z.looseObject({}).default({}).meta({ description: "affinity of the hub's pods" }),
  priorityClassName: text("priority class of the hub's pods"),
  spread: z
    .strictObject({
      enabled: flag(false, "spread the services of a split hub over different nodes"),
      topologyKey: text("node label that tells locations apart", "kubernetes.io/hostname"),
      whenUnsatisfiable: z.enum(["ScheduleAnyway", "DoNotSchedule"]).default("ScheduleAnyway"),
      nodeTaintsPolicy: z
        .enum(["Honor", "Ignore"])
        .default("Honor")
        .meta({ description: "Honor: nodes that the pods cannot run on, such as control planes, are not counted" }),
    })
    .prefault({}),
  unreachableSeconds: z
    .int()
    .min(0)
    .max(3_600)
    .default(300)
    .meta({ description: "seconds after the loss of a node until its pods are started elsewhere" }),
  terminationGracePeriodSeconds: z
    .int()
    .min(1)
    .max(600)
    .default(30)
    .meta({ description: "seconds that a pod gets to stop; must exceed config.stop_grace_ms" }),
  startupSeconds: z
    .int()
    .min(10)
    .max(3_600)
    .default(300)
    .meta({ description: "maximum seconds for a start; a large store is read before the port opens" }),
  podDisruptionBudget: z
    .strictObject({
      enabled: flag(true, "one disruption budget for all pods of the hub"),
      maxUnavailable: z.int().min(0).max(4).default(1).meta({ description: "1 lets a drain evict one service at a time; 0 blocks drains" }),
    })
    .prefault({}),
  networkPolicy: z
    .strictObject({
      enabled: flag(true, "restrict traffic; needs a network plugin that enforces NetworkPolicy"),
      peersFrom: objects("sources of peers (`from` of a NetworkPolicy); empty: anyone if expose.type is not ClusterIP, else nobody"),
      clientsFrom: objects("sources of gateways, nodes, executors and operators; empty: every pod of the namespace"),
      metricsFrom: objects("sources of scrapes; empty: pods labelled app.kubernetes.io/name=prometheus in any namespace"),
      dnsTo: z
        .array(z.looseObject({}))
        .default([{ namespaceSelector: { matchLabels: { "kubernetes.io/metadata.name": "kube-system" } } }])
        .meta({ description: "DNS servers that the pods may use" }),
      peersTo: objects("destinations of peers; empty: anywhere except peersToExcept"),
      peersToExcept: z
        .array(z.string())
        .default(["169.254.0.0/16"])
        .meta({ description: "IPv4 and IPv6 ranges that are never a peer, such as cloud metadata" }),
      peersPorts: z
        .array(z.strictObject({ port: z.int().min(1).max(65_535), endPort: z.int().min(1).max(65_535).optional() }))
        .min(1)
        .default([
          { port: 443 },
          { port: DEFAULT_PORT, endPort: Math.max(...SERVICES.map((name) => portsOf(name).port)) },
          { port: 30_000, endPort: 32_767 },
        ])
        .meta({ description: "ports that peers advertise; default: those of a Gateway, of a hub with default ports, and node ports" }),
      extraEgress: objects("additional egress rules, e.g. to an OpenTelemetry collector"),
    })
    .prefault({}),
  metrics: z
    .strictObject({
      serviceMonitor: z
        .strictObject({
          enabled: flag(false, "ServiceMonitor that scrapes over mutual TLS; needs the prometheus-operator"),
          interval: text("", "30s"),
          scrapeTimeout: text("", "10s"),
          labels: map("labels that your Prometheus selects by"),
        })
        .prefault({}),
      prometheusRule: z
        .strictObject({
          enabled: flag(false, "PrometheusRule with the alerts; needs the prometheus-operator"),
          labels: map("labels that your Prometheus selects by"),
        })
        .prefault({}),
      dashboard: z
        .strictObject({
          enabled: flag(false, "Grafana dashboard as a ConfigMap for its sidecar"),
          labels: z
            .record(z.string(), z.string())
            .default({ grafana_dashboard: "1" })
            .meta({ description: "labels that the sidecar selects by" }),
        })
        .prefault({}),
    })
    .prefault({}),
});

/** valuesSchema is the JSON schema of the values, with hub.json's own schema for `config`. */
export function valuesSchema(): Record<string, unknown> {
  const schema = z.toJSONSchema(chartValues, { io: "input", unrepresentable: "any", target: "draft-7" });
  const properties = { ...(schema["properties"] as Record<string, Record<string, unknown>>) };
  properties["config"] = { ...hubSettings(), description: properties["config"]?.["description"], default: {} };
  // Helm adds it for charts that are part of others.
  properties["global"] = { type: "object" };
  return { ...schema, properties };
}

/** defaultValues are the values of a chart that nothing is said to. */
export function defaultValues(): Record<string, unknown> {
  return chartValues.parse({}) as Record<string, unknown>;
}
