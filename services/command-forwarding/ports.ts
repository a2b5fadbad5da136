import type { AgentPlaces, CapabilityInfo, DirectoryChange, SharePolicy } from "./messages.ts";

/** TableNode is a node in a table of another part of this process. Another object means that something in it was replaced. */
export interface TableNode {
  readonly online: boolean;
}

/**
 * NodeTable is the nodes that are known, for reading where they are kept: memory of this process, so that asking costs no more than a
 * look into a map. What is read is what the table says at that moment; a node is not to be held from one step to the next.
 */
export interface NodeTable {
  node(hubId: string, nodeId: string): TableNode | undefined;
  /** capabilities reads those of a node that this table gave. */
  capabilities(node: TableNode): readonly CapabilityInfo[];
  /** hubIds are the hubs of which nodes are known, or were. */
  hubIds(): Iterable<string>;
  nodes(hubId: string): Iterable<TableNode>;
  count(hubId: string): number;
}

/**
 * DirectorySource is the port to the node directory, never a query per command: either the table of a registry in this process, or a
 * subscription that the Watch of one in another process feeds.
 */
export interface DirectorySource {
  readonly table?: NodeTable;
  /**
   * subscribe calls back with every change, in their order; a batch is applied as a whole. Without a table that is everything known and
   * then what becomes of it, with one it is `came` for each node that this hub has anew. The returned function ends it.
   */
  subscribe(listener: (changes: readonly DirectoryChange[]) => void): () => void;
}

/** SharePolicySource is the port to the shares' invoke rules, pushed as a pure function; until the first push nothing may be invoked. */
export interface SharePolicySource {
  subscribe(listener: (policy: SharePolicy) => void): () => void;
}

/** AgentPlacesSource is the port to what the hubs decided about where agents are, pushed whenever it changes. */
export interface AgentPlacesSource {
  subscribe(listener: (places: AgentPlaces) => void): () => void;
}

/** AuditSink is the port to telemetry's copy of the audit. */
export interface AuditSink {
  /**
   * copy gives it batches of records in their order, or none to ask, and resolves with the epoch and the number of the last record that it has
   * for good. It rejects when telemetry does not take them now.
   */
  copy(batches: readonly Uint8Array[]): Promise<{ readonly epoch: number; readonly number: number }>;
}

/** PresenceSink is the port that tells registry-sync which nodes have an executor. It never blocks and never throws. */
export interface PresenceSink {
  report(nodeIds: readonly string[], online: boolean): void;
}
