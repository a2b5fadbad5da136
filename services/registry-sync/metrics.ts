import type { Registry } from "prom-client";
import type { EventKind, EventSink } from "#runtime/events.ts";
import { counter, LabelBound, type Sampler, sampledCounter, sampledGauge } from "#runtime/metrics/declare.ts";
import type { Event, FeedStatus } from "./messages.ts";
import type { NumberSpace } from "./table/renumber.ts";

/** Gauges are what is read from the core when someone scrapes. */
export interface Gauges {
  readonly feeds: () => readonly FeedStatus[];
  readonly watchers: () => number;
  readonly streams: () => number;
  /** Memory that the nodes of this hub's callers take, bytes. */
  readonly callers: () => readonly { readonly bytes: number }[];
  /** Numbers of the own feeds. */
  readonly numbers: () => NumberSpace & { readonly renumberings: number };
}

const KINDS: Readonly<Partial<Record<Event["event"], EventKind>>> = {
  node: "NODE",
  feed: "FEED",
  fork: "FEED",
  snapshot: "FEED",
  segment_refused: "FEED",
  limit: "LIMIT",
  clock: "CLOCK",
  checkpoint: "STORE",
};

/** Peers that get series of their own. */
const MAX_PEERS = 256;

/** RegistryMetrics are the metrics and events of this service. */
export class RegistryMetrics {
  readonly #segments;
  readonly #entries;
  readonly #bytes;
  readonly #refused;
  readonly #snapshots;
  readonly #peers = new LabelBound(MAX_PEERS);
  readonly #hubId: string;
  readonly #events: EventSink;
  readonly #unsample: (() => void)[] = [];
  readonly #perPeer = new Map<string, (() => void)[]>();
  readonly #lag: Sampler<"peer">;
  readonly #age: Sampler<"peer">;
  readonly #frozen: Sampler<"peer">;
  readonly #dropped: Sampler<"peer">;
  readonly #gauges: Gauges;

  constructor(hubId: string, registry: Registry, events: EventSink, gauges: Gauges) {
    this.#hubId = hubId;
    this.#events = events;
    this.#gauges = gauges;
    this.#segments = counter(registry, {
      name: "foedus_registry_sync_segments_total",
      help: "Segments closed by this hub (peer empty) or taken in from a peer.",
      labels: ["peer"],
    });
    this.#entries = counter(registry, {
      name: "foedus_registry_sync_entries_total",
      help: "Entries of segments that this hub closed (peer empty) or took in from a peer.",
      labels: ["peer"],
    });
    this.#bytes = counter(registry, {
      name: "foedus_registry_sync_bytes_total",
      help: "Bytes of segments that this hub closed (peer empty) or took in from a peer.",
      labels: ["peer"],
    });
    this.#refused = counter(registry, {
      name: "foedus_registry_sync_refused_total",
      help: "Segments and snapshots that were refused, by the peer that they came from or went to.",
      labels: ["peer"],
    });
    this.#snapshots = counter(registry, {
      name: "foedus_registry_sync_snapshots_total",
      help: "Snapshots taken in, by peer.",
      labels: ["peer"],
    });
    this.#lag = sampledGauge(registry, {
      name: "foedus_registry_sync_peer_lag_segments",
      help: "Segments that a peer has not acknowledged.",
      labels: ["peer"],
    });
    this.#age = sampledGauge(registry, {
      name: "foedus_registry_sync_freshness_age_seconds",
      help: "Age of the last proof that what is held of a peer is complete; -1 if never proven, NaN if nothing is held of it.",
      labels: ["peer"],
    });
    this.#frozen = sampledGauge(registry, {
      name: "foedus_registry_sync_feed_frozen",
      help: "1 while a peer's feed is not taken in any more, because two different segments were signed for one place in it.",
      labels: ["peer"],
    });
    this.#dropped = sampledGauge(registry, {
      name: "foedus_registry_sync_dropped_entries",
      help: "Entries of a peer's feed that are not held because of limits.",
      labels: ["peer"],
    });
    this.#unsample.push(...this.#contents(registry), ...this.#numbers(registry));
  }

  /** contents measures what is held and who looks at it. */
  #contents(registry: Registry): (() => void)[] {
    const gauges = this.#gauges;
    const nodes = sampledGauge(registry, {
      name: "foedus_registry_sync_nodes",
      help: "Nodes known, own and of peers.",
      labels: ["origin"],
    });
    const count = (own: boolean): number =>
      gauges.feeds().reduce((sum, feed) => (feed.own === own && (!own || feed.head.share === "full") ? sum + feed.nodes : sum), 0);
    const open = sampledGauge(registry, { name: "foedus_registry_sync_streams", help: "Streams open now.", labels: ["kind"] });
    const memory = sampledGauge(registry, {
      name: "foedus_registry_sync_memory_bytes",
      help: "Memory that nodes and their texts take, about: of this hub, of the caller of this hub with most, of peers, of the peer with most, and snapshots that are coming in.",
      labels: ["what"],
    });
    const peersBytes = (): number[] => gauges.feeds().flatMap(({ own, bytes }) => (own ? [] : [bytes]));
    return [
      memory({ what: "own" }, () => sumOf(gauges.feeds().flatMap(({ own, bytes }) => (own ? [bytes] : [])))),
      memory({ what: "largest_caller" }, () => mostOf(gauges.callers().map(({ bytes }) => bytes))),
      memory({ what: "peers" }, () => sumOf(peersBytes())),
      memory({ what: "largest_peer" }, () => mostOf(peersBytes())),
      memory({ what: "incoming" }, () => sumOf(gauges.feeds().map(({ incoming }) => incoming))),
      nodes({ origin: "own" }, () => count(true)),
      nodes({ origin: "peers" }, () => count(false)),
      open({ kind: "watch" }, gauges.watchers),
      open({ kind: "update" }, gauges.streams),
    ];
  }

  #numbers(registry: Registry): (() => void)[] {
    const { numbers } = this.#gauges;
    const used = sampledGauge(registry, {
      name: "foedus_registry_sync_numbers_used_ratio",
      help: "Part of the numbers of this hub's feed, of nodes and of names of capabilities, that was given out. From 0.75 on they are given out anew.",
      labels: ["of"],
    });
    const held = sampledGauge(registry, {
      name: "foedus_registry_sync_numbers_held_ratio",
      help: "Part of the numbers of this hub's feed, of nodes and of names of capabilities, that stand for something that is registered now.",
      labels: ["of"],
    });
    const renumberings = sampledCounter(registry, {
      name: "foedus_registry_sync_renumberings_total",
      help: "How often the numbers of this hub's feed were given out anew: each time all peers take a snapshot.",
      labels: [],
    });
    return [
      used({ of: "nodes" }, () => numbers().refs.used / numbers().refs.max),
      used({ of: "keys" }, () => numbers().keys.used / numbers().keys.max),
      held({ of: "nodes" }, () => numbers().refs.held / numbers().refs.max),
      held({ of: "keys" }, () => numbers().keys.held / numbers().keys.max),
      renumberings({}, () => numbers().renumberings),
    ];
  }

  /** observe counts what the core did; what people should know goes to telemetry. */
  observe(event: Event): void {
    const peer = this.#peers.of(event.hub);
    switch (event.event) {
      case "segment_closed":
      case "segment_applied":
        this.#segments.inc({ peer });
        this.#entries.inc({ peer }, event.count);
        this.#bytes.inc({ peer }, event.bytes);
        return;
      case "segment_refused":
        this.#refused.inc({ peer });
        break;
      case "snapshot":
        this.#snapshots.inc({ peer });
    }
    if (event.severity !== "DEBUG") this.#report(event);
  }

  #report({ event, severity, hub, share, text, count, fields }: Event): void {
    // The core names nodes of this hub by their id alone.
    const node = fields["node"] === undefined || hub !== "" ? {} : { node: `${this.#hubId}/${fields["node"]}` };
    const more = { ...fields, ...(share === "" ? {} : { share }), ...(count === 0 ? {} : { count: String(count) }) };
    this.#events.report({ kind: KINDS[event] ?? "FEED", severity, text, fields: more, ...node, ...(hub === "" ? {} : { peer: hub }) });
  }

  /** follow makes series for these peers and ends those of others. */
  follow(peers: readonly string[]): void {
    const wanted = new Set(peers.slice(0, MAX_PEERS));
    for (const [peer, remove] of this.#perPeer) {
      if (wanted.has(peer)) continue;
      for (const end of remove) end();
      this.#perPeer.delete(peer);
      this.#peers.forget(peer);
    }
    for (const peer of wanted) {
      if (this.#perPeer.has(peer)) continue;
      // A counter that appears with its first event hides that event from rate() and increase().
      for (const count of [this.#segments, this.#refused, this.#snapshots]) count.inc({ peer: this.#peers.of(peer) }, 0);
      this.#perPeer.set(peer, [
        this.#lag({ peer }, () => this.#lagOf(peer)),
        this.#age({ peer }, () => this.#ageOf(peer)),
        this.#frozen({ peer }, () => (this.#feedOf(peer)?.frozen === true ? 1 : 0)),
        this.#dropped({ peer }, () => this.#feedOf(peer)?.dropped ?? 0),
      ]);
    }
  }

  #lagOf(peer: string): number {
    for (const feed of this.#gauges.feeds()) for (const cursor of feed.cursors) if (cursor.hubId === peer) return cursor.lag;
    return 0;
  }

  #feedOf(peer: string): FeedStatus | undefined {
    return this.#gauges.feeds().find((feed) => !feed.own && feed.head.hubId === peer);
  }

  #ageOf(peer: string): number {
    const feed = this.#feedOf(peer);
    if (feed === undefined) return Number.NaN;
    return Number.isFinite(feed.ageMs) ? feed.ageMs / 1_000 : -1;
  }

  /** stop removes the series. */
  stop(): void {
    this.follow([]);
    for (const end of this.#unsample) end();
  }
}

function sumOf(numbers: readonly number[]): number {
  return numbers.reduce((sum, number) => sum + number, 0);
}

function mostOf(numbers: readonly number[]): number {
  return numbers.reduce((most, number) => Math.max(most, number), 0);
}
