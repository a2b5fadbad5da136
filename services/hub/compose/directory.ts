import { fromBinary } from "@bufbuild/protobuf";
import type { ClientOf } from "#channel/call.ts";
import type { Clock, Timer } from "#channel/clock.ts";
import { NodeSchema } from "#gen/foedus/common/v1/node_pb.ts";
import type { RegistrySyncService } from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import { type Mirror, type MirrorFeed, type NodeEntry, RegistryClient } from "../../../clients/typescript/registry-client.ts";
import type { CapabilityInfo, DirectoryChange, DirectorySource, NodeTable, TableNode } from "../../command-forwarding/index.ts";
import type { RegistryNode, RegistryNodes } from "../../registry-sync/index.ts";

/** Changes that are told in one turn: some milliseconds of work for who listens. */
const CHANGES_MAX = 1_000;

/** Directory is what this hub's commands and share rules know of nodes. */
export interface Directory extends DirectorySource {
  /** node gives what is known of a node, for share rules. */
  node(hubId: string, nodeId: string): Pick<RegistryNode, "info"> | undefined;
  /** start follows the registry; `onError` is told of faults in here, which must not end the hub. */
  start(client: () => ClientOf<typeof RegistrySyncService>, onError: (error: unknown) => void): void;
  stop(): void;
}

/** SharedDirectory is the directory where registry-sync is in this process: its tables themselves, so that each node is in memory once. */
export class SharedDirectory implements Directory {
  readonly table: NodeTable;
  readonly #hubId: string;
  readonly #nodes: RegistryNodes;
  #listener: ((changes: readonly DirectoryChange[]) => void) | undefined;
  #end: (() => void) | undefined;

  constructor(hubId: string, nodes: RegistryNodes) {
    this.#hubId = hubId;
    this.#nodes = nodes;
    this.table = {
      node: (hub, nodeId) => nodes.node(hub, nodeId),
      capabilities: (node: TableNode) => capabilitiesOf((node as RegistryNode).bytes),
      hubIds: () => nodes.hubIds(),
      nodes: (hub) => nodes.nodes(hub),
      count: (hub) => nodes.count(hub),
    };
  }

  subscribe(listener: (changes: readonly DirectoryChange[]) => void): () => void {
    this.#listener = listener;
    return () => {
      this.#listener = undefined;
    };
  }

  node(hubId: string, nodeId: string): RegistryNode | undefined {
    return this.#nodes.node(hubId, nodeId);
  }

  start(): void {
    const hubId = this.#hubId;
    this.#end = this.#nodes.onCame((nodeIds) => this.#listener?.(nodeIds.map((nodeId) => ({ kind: "came", hubId, nodeId }))));
  }

  stop(): void {
    this.#end?.();
  }
}

/** DirectoryFeed is the directory where registry-sync is another process: a mirror of it without state, told as changes. */
export class DirectoryFeed implements Directory {
  readonly #clock: Clock;
  /** Hubs whose nodes were told. */
  readonly #told = new Set<string>();
  #mirror: Mirror | undefined;
  #listener: ((changes: readonly DirectoryChange[]) => void) | undefined;
  #pending: DirectoryChange[] = [];
  #scheduled: Timer | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  subscribe(listener: (changes: readonly DirectoryChange[]) => void): () => void {
    this.#listener = listener;
    this.#schedule();
    return () => {
      this.#listener = undefined;
    };
  }

  node(hubId: string, nodeId: string): NodeEntry | undefined {
    return this.#mirror?.node(hubId, nodeId)?.entry;
  }

  start(client: () => ClientOf<typeof RegistrySyncService>, onError: (error: unknown) => void): void {
    this.#mirror = RegistryClient.connect(client()).mirror({
      clock: this.#clock,
      nodesOnly: true,
      onError,
      onNode: (feed, entry) => this.#add(putOf(feed.hubId, entry)),
      onRemoved: (feed, nodeId) => this.#add({ kind: "removed", hubId: feed.hubId, nodeId }),
      onReplaced: (feed, gone) => this.#replaced(feed, gone),
    });
  }

  stop(): void {
    this.#scheduled?.cancel();
    this.#mirror?.close();
  }

  #replaced(feed: MirrorFeed, gone: boolean): void {
    if (this.#told.has(feed.hubId)) this.#add({ kind: "hub-gone", hubId: feed.hubId });
    this.#told.delete(feed.hubId);
    if (gone) return;
    this.#told.add(feed.hubId);
    for (const entry of feed.table.entries()) this.#add(putOf(feed.hubId, entry));
  }

  #add(change: DirectoryChange): void {
    this.#pending.push(change);
    this.#schedule();
  }

  /**
   * Changes go together, but a first copy of a large registry in parts, so that it does not hold up everything else. One that takes the
   * place of another goes at once: between the parts nodes would be missing that were there.
   */
  #schedule(): void {
    if (this.#scheduled !== undefined || this.#pending.length === 0) return;
    this.#scheduled = this.#clock.setImmediate(() => {
      this.#scheduled = undefined;
      if (this.#listener === undefined) return;
      const replaces = this.#pending.some(({ kind }) => kind === "hub-gone");
      this.#listener(this.#pending.splice(0, replaces ? Number.POSITIVE_INFINITY : CHANGES_MAX));
      this.#schedule();
    });
  }
}

function putOf(hubId: string, entry: NodeEntry): DirectoryChange {
  return { kind: "put", hubId, nodeId: entry.info.nodeId, online: entry.online, capabilities: () => capabilitiesOf(entry.bytes) };
}

function capabilitiesOf(bytes: Uint8Array): CapabilityInfo[] {
  return fromBinary(NodeSchema, bytes, { readUnknownFields: false }).capabilities.map(
    ({ name, type, invocable, readable, idempotent, secret, min, max, step, allowed }) => ({
      name,
      type,
      invocable,
      readable,
      idempotent,
      secret,
      min,
      max,
      step,
      allowed,
    }),
  );
}
