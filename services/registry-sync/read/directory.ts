import { LIMITS } from "#kernel/bounds/limits.ts";
import { type Freshness, SOURCE_FRESHNESS, sourceFreshness } from "#kernel/freshness.ts";
import { type NodeName, resolveNode } from "#kernel/node-name.ts";
import { own } from "#kernel/own.ts";
import type { Ring } from "#kernel/ring.ts";
import { utf8Length } from "../codec/wire.ts";
import type { OwnFeed } from "../feed/feed.ts";
import type { SegmentItem } from "../feed/segment.ts";
import type { ImportFeed } from "../import/import-feed.ts";
import type { Answer, FeedPosition, HubFreshness, NodeFilter, NodeRecord, Scalar, StateValue } from "../messages.ts";
import type { NodeSummary, SegmentCodec } from "../ports.ts";
import { imageOf } from "../table/scan.ts";
import { type FeedTable, type KeyEntry, type NodeEntry, type NodeImage, scalarOf } from "../table/table.ts";
import { failure } from "../world.ts";

/** Source is one hub's part of the registry, own or imported, as readers see it. */
export interface Source {
  readonly hubId: string;
  readonly own: boolean;
  readonly table: FeedTable;
  readonly head: FeedPosition;
  readonly ring: Ring<SegmentItem>;
  /** Changes when the table was replaced or is another one. */
  readonly generation: number;
  /** If something that the import rules let in is not here yet: the digest of the snapshot from which the rest has come. */
  readonly gaps: Uint8Array | undefined;
  readonly freshness: Freshness;
  readonly ageMs: number;
}

/** ownSource is this hub's own part. */
export function ownSource(table: FeedTable, { head, ring }: Pick<OwnFeed, "head" | "ring">): Source {
  return { hubId: head.hubId, own: true, table, head, ring, generation: 0, gaps: undefined, freshness: "FRESH", ageMs: 0 };
}

/** importedSource is the part of a peer. */
export function importedSource(feed: ImportFeed): Source {
  const { hubId, table, head, ring, generation } = feed;
  const gaps = feed.refetch.wanted ? feed.snapshotDigest : undefined;
  return { hubId, own: false, table, head, ring, generation, gaps, freshness: feed.freshness(), ageMs: feed.ageMs() };
}

/**
 * matchesFilter tells whether a node passes, apart from hub and online. Its capabilities are looked at only if it comes to them,
 * and not when one of its keys (`krefs`) is among those with the name in question (`named`).
 */
export function matchesFilter(
  filter: NodeFilter,
  info: NodeSummary,
  codec: Pick<SegmentCodec, "hasCapability">,
  bytes: Uint8Array,
  named: readonly number[] = [],
  krefs: readonly number[] = [],
): boolean {
  if (!info.nodeId.startsWith(filter.nodeIdPrefix)) return false;
  if (filter.type !== "" && info.type !== filter.type) return false;
  if (filter.kind !== 0 && filter.kind !== (info.kind === 2 ? 2 : 1)) return false;
  for (const label in filter.labels) if (own(info.labels, label) !== own(filter.labels, label)) return false;
  if (filter.capability === "") return true;
  if (named.some((kref) => krefs.includes(kref))) return true;
  return codec.hasCapability(bytes, filter.capability);
}

/** filtersNothing tells whether every node passes. */
export function filtersNothing(filter: NodeFilter): boolean {
  return (
    filter.nodeIdPrefix === "" &&
    filter.type === "" &&
    filter.kind === 0 &&
    filter.capability === "" &&
    !filter.onlineOnly &&
    Object.keys(filter.labels).length === 0
  );
}

/** Bytes of a record besides its node and state. */
const RECORD_BYTES = 512;
/** Bytes of a value besides its key and content. */
const VALUE_BYTES = 24;
/**
 * Memory that an answer may take for each of its bytes before it is encoded. What takes more counts as more bytes, so that an answer of
 * 768 KiB takes some 24 MiB at most, whatever its nodes are made of.
 */
const MEMORY_PER_BYTE = 32;

/** answerBytes is what a node counts in an answer: its bytes, or more if little becomes much. */
export function answerBytes(codec: Pick<SegmentCodec, "nodeSize">, node: Uint8Array): number {
  return Math.max(node.length, Math.ceil(codec.nodeSize(node) / MEMORY_PER_BYTE));
}

/** Recorded is a record and the bytes that it takes in an answer, without those of the node. */
export interface Recorded {
  readonly record: NodeRecord;
  readonly bytes: number;
}

/** recordOf describes one node as it was in an image. State that does not fit into an answer beside the longest node is left out. */
export function recordOf(source: Source, image: NodeImage): Recorded {
  const room = LIMITS.messageBytes - LIMITS.nodeBytes - RECORD_BYTES;
  const state: StateValue[] = [];
  let stateBytes = 0;
  let { freshness } = source;
  for (const { kref, low, high, text } of image.values) {
    const value = scalarOf(source.table.key(kref) as KeyEntry, low, high, text);
    if (value.key === SOURCE_FRESHNESS) freshness = sourceFreshness(freshness, value.value);
    const bytes = VALUE_BYTES + utf8Length(value.key) + contentBytes(value.value);
    if (stateBytes + bytes > room) continue;
    stateBytes += bytes;
    state.push(value);
  }
  const record: NodeRecord = {
    name: { hubId: source.hubId, nodeId: image.entry.info.nodeId },
    node: image.bytes,
    state,
    omitted: image.values.length - state.length,
    online: image.online && freshness !== "UNKNOWN",
    freshness,
    ageMs: source.ageMs,
    version: source.head,
  };
  return { record, bytes: RECORD_BYTES + stateBytes };
}

function contentBytes(value: Scalar): number {
  return typeof value === "string" ? utf8Length(value) : value instanceof Uint8Array ? value.length : 0;
}

/** hubOf says how current one hub's part is. Only this hub's own has no age: of others it goes on while nothing is told. */
export function hubOf({ hubId, own, freshness, ageMs, table }: Source): HubFreshness {
  return { hubId, freshness, ageMs: own ? 0 : Math.max(1, ageMs), nodes: table.size };
}

/** concerns tells whether there is anything of a source to be told to who wants these hubs, or all. */
export function concerns({ hubId, head }: Source, hubIds: readonly string[]): boolean {
  return head.epoch > 0 && (hubIds.length === 0 || hubIds.includes(hubId));
}

/** selected are the sources that a filter allows, by hub id. */
export function selected(sources: readonly Source[], hubIds: readonly string[]): Source[] {
  const chosen = hubIds.length === 0 ? [...sources] : sources.filter((source) => hubIds.includes(source.hubId));
  return chosen.sort((a, b) => (a.hubId < b.hubId ? -1 : 1));
}

/** getNode finds a node by its name and answers what is known of it. */
export function getNode(ownHubId: string, sources: readonly Source[], name: NodeName, maxStalenessMs: number | undefined): Answer {
  const holders = sources.filter((source) => source.table.byId(name.nodeId) !== undefined);
  const resolution = resolveNode(
    name.hubId,
    ownHubId,
    holders.map((source) => source.hubId),
  );
  if (resolution.kind === "ambiguous") {
    const facts = { node: name.nodeId, candidates: resolution.candidates.join(",") };
    return { type: "failed", failure: failure("NODE_AMBIGUOUS", "several hubs have a node of that id; say which hub", facts) };
  }
  if (resolution.kind === "not-found")
    return {
      type: "failed",
      failure: failure("NODE_NOT_FOUND", "no hub that is known here shares such a node", { node: name.nodeId, hub: name.hubId }),
    };
  const source = holders.find((holder) => holder.hubId === resolution.hubId) as Source;
  if (maxStalenessMs !== undefined && source.ageMs > maxStalenessMs) {
    const facts = { age_ms: String(source.ageMs), freshness: source.freshness };
    return { type: "failed", failure: failure("TOO_STALE", "what is held of the node is older than allowed", facts) };
  }
  const entry = source.table.byId(name.nodeId) as NodeEntry;
  return { type: "node", record: recordOf(source, imageOf(source.table, entry, entry)).record };
}
