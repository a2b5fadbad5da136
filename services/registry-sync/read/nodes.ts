import type { NodeSummary } from "../ports.ts";
import type { FeedTable } from "../table/table.ts";

/**
 * RegistryNode is a node as the registry holds it. It is not a copy: `online` changes, and another object takes its place when the node is
 * registered anew.
 */
export interface RegistryNode {
  readonly info: NodeSummary;
  /** The encoded Node. */
  readonly bytes: Uint8Array;
  readonly online: boolean;
}

/**
 * RegistryNodes is the registry's own nodes and those of its peers for whoever else is in this process, so that nobody there needs a copy.
 * What is read is what is in memory at that moment, which a commit may still be on its way for.
 */
export interface RegistryNodes {
  node(hubId: string, nodeId: string): RegistryNode | undefined;
  /** hubIds are the hubs of which something is held. */
  hubIds(): Iterable<string>;
  nodes(hubId: string): Iterable<RegistryNode>;
  count(hubId: string): number;
  /** onCame is told of nodes that were registered here and are new, once they are durable. One listener; the answer ends it. */
  onCame(listener: (nodeIds: readonly string[]) => void): () => void;
}

/** Tables are where the nodes are. */
interface Tables {
  tableOf(hubId: string): FeedTable | undefined;
  sources(): readonly { readonly hubId: string }[];
}

/** SharedNodes gives the tables of a core to the rest of the process. */
export class SharedNodes implements RegistryNodes {
  readonly #onFollowed: (followed: boolean) => void;
  /** Undefined before the start: there are no nodes yet. */
  tables: Tables | undefined;
  #listener: ((nodeIds: readonly string[]) => void) | undefined;

  /** `onFollowed` hears whether anybody wants to be told of new nodes. */
  constructor(onFollowed: (followed: boolean) => void) {
    this.#onFollowed = onFollowed;
  }

  get followed(): boolean {
    return this.#listener !== undefined;
  }

  node(hubId: string, nodeId: string): RegistryNode | undefined {
    return this.tables?.tableOf(hubId)?.byId(nodeId);
  }

  hubIds(): Iterable<string> {
    return this.tables?.sources().map(({ hubId }) => hubId) ?? [];
  }

  nodes(hubId: string): Iterable<RegistryNode> {
    return this.tables?.tableOf(hubId)?.entries() ?? [];
  }

  count(hubId: string): number {
    return this.tables?.tableOf(hubId)?.size ?? 0;
  }

  onCame(listener: (nodeIds: readonly string[]) => void): () => void {
    this.#listener = listener;
    this.#onFollowed(true);
    return () => {
      this.#listener = undefined;
      this.#onFollowed(false);
    };
  }

  /** came tells of nodes that are new. */
  came(nodeIds: readonly string[]): void {
    this.#listener?.(nodeIds);
  }
}
