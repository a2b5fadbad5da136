import * as z from "zod";
import { LIMITS } from "#kernel/bounds/limits.ts";
import type { NodeRule, ShareRules } from "./messages.ts";
import { memoryPlan } from "./table/cost.ts";

/** FULL_SHARE is the share that shows everything and lets everything be invoked; it always exists. */
export const FULL_SHARE = "full";

const pattern = z.string().min(1).max(255);
const patterns = (description: string) =>
  z.array(pattern).max(1_000).meta({ unit: "patterns, * stands for any run of characters", description });

const KINDS = { any: 0, device: 1, agent: 2 } as const;

/** nodeRule is a rule of a share, or of what is taken in, written in full. */
export const nodeRule = z.strictObject({
  ids: patterns("node ids it selects, without the hub: my-lamp, not home/my-lamp; empty selects any").default([]),
  types: patterns("node types it selects; empty selects any").default([]),
  kind: z.enum(["any", "device", "agent"]).default("any").meta({ description: "kind of node it selects" }),
  labels: z
    .record(z.string().min(1).max(63), pattern)
    .default({})
    .meta({ description: "labels that a node must have, with a pattern for the value" }),
  allow: z.boolean().default(true).meta({ description: "false hides what the rule selects from the rules after it" }),
  keys: patterns("capabilities, with their state, that are shown; default: the keys of the share").optional(),
  invoke: patterns("capabilities, among those shown, that may be invoked; default: the invoke list of the share").optional(),
});

/** A rule is written in full, or as a pattern for the node id. */
const nodeSelector = z.union([pattern, nodeRule]);

/** What a peer may show of a node, and let be invoked, is for the rules of its share: here a node is taken in whole, or not at all. */
const importSelector = z.union([pattern, nodeRule.omit({ keys: true, invoke: true })]);
const WHOLE = "what is taken in is chosen by node; ask the peer to leave capabilities out of its share";

/** Names with `*` in the rules of one list: each is compared with each node, which takes some hundred nanoseconds. Ids that are spelled out are looked up. */
const STARS_MAX = 1_000;
const starsOf = (selector: string | { readonly ids: readonly string[]; readonly types: readonly string[] }): number =>
  (typeof selector === "string" ? [selector] : [...selector.ids, ...selector.types]).filter((name) => name.includes("*")).length;
const fewStars = (selectors: readonly Parameters<typeof starsOf>[0][]): boolean =>
  selectors.reduce((sum, selector) => sum + starsOf(selector), 0) <= STARS_MAX;
const TOO_MANY_STARS = `at most ${STARS_MAX} ids and types with * in one list of rules; spell ids out, or select by a label`;

const share = z.strictObject({
  nodes: z
    .array(nodeSelector)
    .max(1_000)
    .refine(fewStars, TOO_MANY_STARS)
    .default([])
    .meta({ description: "rules, read in order: the first that matches a node decides; a node that none matches is not shared" }),
  keys: patterns("capabilities that rules show unless they say otherwise").default(["*"]),
  invoke: patterns("capabilities that rules allow to be invoked unless they say otherwise; empty: the share is read-only").default([]),
});

/** Name of a share: a DNS label, as it stands in log names and in peers' stores. */
const shareName = z
  .string()
  .regex(/^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/, "must be 1 to 63 of a-z, 0-9 and -")
  .refine((name) => name !== FULL_SHARE, "the share full shows everything and takes no rules; use another name");

const limits = z
  .strictObject({
    nodes_per_peer: z.int().min(1).max(1_000_000).default(LIMITS.nodesPerPeer).meta({
      unit: "nodes",
      description:
        "most nodes that one peer may share with this hub; what is held when it is lowered is kept, but does not grow. This hub itself may have 100,000, or as many as this if that is more",
    }),
    snapshot_bytes: z.int().min(16_777_216).max(1_073_741_824).default(LIMITS.snapshotBytes).meta({
      unit: "bytes",
      description:
        "most bytes of a snapshot before it is compressed, taken from one peer or built for peers: 2.6 KiB for each of 100,000 nodes with its state. While one comes in, so much memory may be needed",
    }),
    bytes_per_peer: z.int().min(1_048_576).max(8_589_934_592).default(LIMITS.bytesPerPeer).meta({
      unit: "bytes",
      description:
        "most memory for the nodes and texts of one peer, counted as about what they take in the process: 2 KiB for a node and twice its encoded bytes, 64 bytes for each of its capabilities, 288 for each label and 240 for each text besides its own. What is held when it is lowered is kept, but does not grow",
    }),
    bytes_per_caller: z.int().min(1_048_576).max(8_589_934_592).default(LIMITS.bytesPerCaller).meta({
      unit: "bytes",
      description: "the same for all nodes for which one gateway or node of this hub speaks",
    }),
    incoming_bytes: z.int().min(16_777_216).max(8_589_934_592).default(LIMITS.incomingBytes).meta({
      unit: "bytes",
      description:
        "most memory for snapshots that are coming in, of all peers together, as they were sent and what was read out of them, until each is whole; when it is more, the longest is given up",
    }),
    memory_bytes: z.int().min(8_388_608).max(68_719_476_736).optional().meta({
      unit: "bytes",
      description:
        "memory for the registry as a whole: a quarter for the nodes of this hub, a quarter for those of all peers, the rest for snapshots that come in, segments for those who are behind, lists and watchers. Nobody has more than three quarters of such a quarter while others have little; bounds of this page that are greater than their part of it are lowered to that. Default: the heap of the process (--max-old-space-size) less 56 MiB. More than that ends the process when it is used",
    }),
    streams: z.int().min(1).max(10_000).default(256).meta({
      unit: "streams",
      description: "most UpdateState streams at a time, an eighth of them (at least 8) for one caller; each may hold a batch in memory",
    }),
    watchers: z
      .int()
      .min(1)
      .max(10_000)
      .default(64)
      .meta({ unit: "streams", description: "most Watch streams at a time, an eighth of them (at least 8) for one caller" }),
    segment_updates: z
      .int()
      .min(50)
      .max(16_000)
      .default(LIMITS.segmentUpdates)
      .meta({ unit: "updates", description: "most updates in one segment; more saves work per update and adds delay under load" }),
    tail_segments: z
      .int()
      .min(16)
      .max(65_536)
      .default(4_096)
      .meta({ unit: "segments", description: "segments of a feed kept in memory; a peer that is further behind gets a snapshot" }),
    tail_bytes: z
      .int()
      .min(1_048_576)
      .max(1_073_741_824)
      .default(33_554_432)
      .meta({ unit: "bytes", description: "bytes of those segments" }),
    listings: z
      .int()
      .min(1)
      .max(256)
      .default(16)
      .meta({ unit: "listings", description: "listings kept open for their next pages; the oldest gives way and its reader starts again" }),
    listing_records: z.int().min(1_000).max(1_000_000).default(1_000_000).meta({
      unit: "nodes",
      description:
        "nodes named by all open listings together, about 13 bytes of memory each, and one for each node of the same hub that the filter leaves out",
    }),
  })
  .prefault({});

/** registrySyncConfig is the configuration of this service. Durability is the hub's own `durability`. */
export const registrySyncConfig = z
  .strictObject({
    shares: z
      .record(shareName, share)
      .refine((shares) => Object.keys(shares).length < LIMITS.shares, `at most ${LIMITS.shares - 1} shares besides full`)
      .default({ limited: { nodes: [], keys: ["*"], invoke: [] } })
      .meta({
        description:
          "named audiences: what each sees and what it may invoke; besides them there is always full, which sees all; limited sees nothing until it gets rules",
        live: true,
      }),
    imports: z
      .strictObject(
        {
          nodes: z
            .array(importSelector)
            .max(1_000)
            .refine(fewStars, TOO_MANY_STARS)
            .default([])
            .meta({ description: "rules, read in order: the first that matches a node decides; a node that none matches is not taken in" }),
        },
        { error: (issue) => (issue.code === "unrecognized_keys" ? `${issue.keys?.join()}: ${WHOLE}` : undefined) },
      )
      .optional()
      .meta({ description: "what is taken in of what peers share; without it everything is" }),
    sync_interval_ms: z.int().min(1_000).max(600_000).default(30_000).meta({
      unit: "ms",
      description:
        "how often the heads of the feeds are told to connected peers on an idle link, so that both know that nothing is missing (S0-3, S0-13)",
    }),
    gateway_lease_ms: z
      .int()
      .min(5_000)
      .max(3_600_000)
      .default(90_000)
      .meta({ unit: "ms", description: "a local node is online so long after the last sign of its gateway; any update renews it" }),
    pace_ms: z.number().min(0).max(2).default(0).meta({
      unit: "ms",
      description:
        "shortest time between commits at low rates: with 2 a steady stream takes a fifth less of the processor, and a change is about 2 ms later",
    }),
    ack_hold_ms: z.int().min(0).max(20).default(20).meta({
      unit: "ms",
      description:
        "interval between acknowledgements of a stream while even the fastest peer is more than 4 segments behind; slows senders down to the pace of the peers; 0 disables it",
    }),
    checkpoint_ms: z.int().min(100).max(600_000).default(60_000).meta({
      unit: "ms",
      description: "how often the table of nodes is written behind the log; longer means a longer start after a crash",
    }),
    clock_skew_ms: z
      .int()
      .min(1_000)
      .max(3_600_000)
      .default(LIMITS.clockSkewMs)
      .meta({ unit: "ms", description: "how far a peer's clock may run ahead before its segments are refused" }),
    limits,
  })
  .prefault({});

/** RegistrySyncConfig is the configuration of this service. */
export type RegistrySyncConfig = z.infer<typeof registrySyncConfig>;

type Share = z.infer<typeof share>;

function rulesOf(share: Share): NodeRule[] {
  return share.nodes.map((selector) => {
    const rule: z.infer<typeof nodeRule> = typeof selector === "string" ? nodeRule.parse({ ids: [selector] }) : selector;
    return {
      ids: rule.ids,
      types: rule.types,
      kind: KINDS[rule.kind],
      labels: rule.labels,
      allow: rule.allow,
      capabilities: rule.keys ?? share.keys,
      invoke: rule.invoke ?? share.invoke,
    };
  });
}

/** sharesOf gives the rules of the shares besides full, by name. */
export function sharesOf(config: RegistrySyncConfig): ShareRules[] {
  return Object.entries(config.shares)
    .map(([name, value]) => ({ name, rules: rulesOf(value) }))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** importsOf gives the rules for what is taken in of peers; undefined takes everything. */
export function importsOf(config: RegistrySyncConfig): readonly NodeRule[] | undefined {
  return config.imports === undefined ? undefined : rulesOf({ nodes: config.imports.nodes, keys: ["*"], invoke: [] });
}

/** coreOptionsOf gives the numbers of a core in a process with a heap of so many bytes. */
export function coreOptionsOf(config: RegistrySyncConfig, heapBytes: number) {
  const { limits } = config;
  const plan = memoryPlan(heapBytes, limits.memory_bytes);
  return {
    limits: {
      ...LIMITS,
      ownNodes: Math.max(LIMITS.ownNodes, limits.nodes_per_peer),
      nodesPerPeer: limits.nodes_per_peer,
      snapshotBytes: limits.snapshot_bytes,
      bytesPerPeer: limits.bytes_per_peer,
      bytesPerCaller: limits.bytes_per_caller,
      ownBytes: plan.ownBytes,
      peersBytes: plan.peersBytes,
      incomingBytes: Math.min(limits.incoming_bytes, plan.incomingBytes),
      listingBytes: Math.min(LIMITS.listingBytes, plan.listingBytes),
      scanBytes: Math.min(LIMITS.scanBytes, plan.scanBytes),
      segmentUpdates: limits.segment_updates,
      clockSkewMs: config.clock_skew_ms,
    },
    shares: sharesOf(config),
    importRules: importsOf(config),
    ringSegments: limits.tail_segments,
    ringBytes: Math.min(limits.tail_bytes, plan.tailBytes),
    checkpointMs: config.checkpoint_ms,
    leaseMs: config.gateway_lease_ms,
    ackHoldMs: config.ack_hold_ms,
    watches: limits.watchers,
    listings: limits.listings,
    listingRecords: limits.listing_records,
  };
}
