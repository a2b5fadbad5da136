import type { Freshness } from "#kernel/freshness.ts";
import { type NodeName, resolveNode } from "#kernel/node-name.ts";
import type { Ring } from "#kernel/ring.ts";
import type { Answer, FeedPosition, FeedStatus, HubFreshness, NodeFilter, NodeRecord, Query } from "./messages.ts";
import type { NodeInfo } from "./ports.ts";
import type { SegmentItem } from "./segment.ts";
import type { FeedTable, NodeEntry } from "./table.ts";
import { failure } from "./world.ts";

/** Source is one hub's part of the registry, own or imported, as readers see it. */
export interface Source {
  readonly hubId: string;
  readonly own: boolean;
  readonly table: FeedTable;
  readonly head: FeedPosition;
  readonly ring: Ring<SegmentItem>;
  /** Changes when the table was replaced or is another one. */
  readonly generation: number;
  readonly freshness: Freshness;
  readonly ageMs: number;
}

/** matchesFilter tells whether a node passes, apart from hub and online. */
export function matchesFilter(filter: NodeFilter, info: NodeInfo): boolean {
  if (!info.nodeId.startsWith(filter.nodeIdPrefix)) return false;
  if (filter.type !== "" && info.type !== filter.type) return false;
  if (filter.kind !== 0 && filter.kind !== (info.kind === 2 ? 2 : 1)) return false;
  if (filter.capability !== "" && !info.capabilities.some((capability) => capability.name === filter.capability)) return false;
  for (const label in filter.labels) if (info.labels[label] !== filter.labels[label]) return false;
  return true;
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

/** onlineIn: what is not known to be current counts as offline (B0-5). */
export function onlineIn(source: Source, entry: NodeEntry): boolean {
  return entry.online && source.freshness !== "UNKNOWN";
}

/** recordOf describes one node. */
export function recordOf(source: Source, entry: NodeEntry): NodeRecord {
  return {
    name: { hubId: source.hubId, nodeId: entry.info.nodeId },
    node: entry.bytes,
    state: source.table.state(entry),
    online: onlineIn(source, entry),
    freshness: source.freshness,
    ageMs: source.ageMs,
    version: source.head,
  };
}

/** hubOf says how current one hub's part is. */
export function hubOf(source: Source): HubFreshness {
  return { hubId: source.hubId, freshness: source.freshness, ageMs: source.ageMs, nodes: source.table.size };
}

/** selected are the sources that a filter allows, by hub id. */
export function selected(sources: readonly Source[], hubIds: readonly string[]): Source[] {
  const chosen = hubIds.length === 0 ? [...sources] : sources.filter((source) => hubIds.includes(source.hubId));
  return chosen.sort((a, b) => (a.hubId < b.hubId ? -1 : 1));
}

/** answerQuery answers from memory. */
export function answerQuery(ownHubId: string, sources: readonly Source[], query: Query, feeds: () => readonly FeedStatus[]): Answer {
  switch (query.type) {
    case "get":
      return getNode(ownHubId, sources, query.name, query.maxStalenessMs);
    case "list":
      return listNodes(sources, query);
    case "feeds":
      return { type: "feeds", feeds: feeds() };
  }
}

function getNode(ownHubId: string, sources: readonly Source[], name: NodeName, maxStalenessMs: number | undefined): Answer {
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
  return { type: "node", record: recordOf(source, source.table.byId(name.nodeId) as NodeEntry) };
}

/** listNodes gives one page in the order (hub, node), after a name: a node that is there all the time is on exactly one page. */
function listNodes(sources: readonly Source[], query: Extract<Query, { type: "list" }>): Answer {
  const { filter, after } = query;
  const limit = Math.max(1, query.limit);
  const all = filtersNothing(filter);
  const records: NodeRecord[] = [];
  const chosen = selected(sources, filter.hubIds);
  let total = 0;
  let more = false;
  for (const source of chosen) {
    const ids = source.table.sortedIds();
    if (all) total += ids.length;
    const past = after !== undefined && source.hubId < after.hubId;
    let index = after !== undefined && source.hubId === after.hubId ? firstAfter(ids, after.nodeId) : past ? ids.length : 0;
    if (!all) for (const nodeId of ids) if (passes(source, filter, nodeId)) total++;
    for (; index < ids.length && !more; index++) {
      const nodeId = ids[index] as string;
      if (!all && !passes(source, filter, nodeId)) continue;
      if (records.length === limit) more = true;
      else records.push(recordOf(source, source.table.byId(nodeId) as NodeEntry));
    }
  }
  return { type: "nodes", records, more, total, hubs: chosen.map(hubOf) };
}

function passes(source: Source, filter: NodeFilter, nodeId: string): boolean {
  const entry = source.table.byId(nodeId) as NodeEntry;
  return matchesFilter(filter, entry.info) && (!filter.onlineOnly || onlineIn(source, entry));
}

function firstAfter(ids: readonly string[], nodeId: string): number {
  let low = 0;
  let high = ids.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((ids[middle] as string) <= nodeId) low = middle + 1;
    else high = middle;
  }
  return low;
}
