import type { CapabilityInfo, DirectoryChange } from "../messages.ts";
import type { NodeTable, TableNode } from "../ports.ts";

/** ToldNode is a node as a change told it. */
interface ToldNode extends TableNode {
  online: boolean;
  /** Its capabilities, as they are or read out of what the registry's copy holds. */
  readonly source: readonly CapabilityInfo[] | (() => readonly CapabilityInfo[]);
}

/** ToldNodes is a table of nodes that is made of changes: the directory of a process that does not have the registry's own. */
export class ToldNodes implements NodeTable {
  readonly #hubs = new Map<string, Map<string, ToldNode>>();
  readonly #onGone: (node: TableNode) => void;

  /** `onGone` is told of each node that is no longer in the table, or that another one took the place of. */
  constructor(onGone: (node: TableNode) => void) {
    this.#onGone = onGone;
  }

  node(hubId: string, nodeId: string): TableNode | undefined {
    return this.#hubs.get(hubId)?.get(nodeId);
  }

  capabilities(node: TableNode): readonly CapabilityInfo[] {
    const { source } = node as ToldNode;
    return typeof source === "function" ? source() : source;
  }

  hubIds(): Iterable<string> {
    return this.#hubs.keys();
  }

  nodes(hubId: string): Iterable<TableNode> {
    return this.#hubs.get(hubId)?.values() ?? [];
  }

  count(hubId: string): number {
    return this.#hubs.get(hubId)?.size ?? 0;
  }

  apply(change: DirectoryChange): void {
    switch (change.kind) {
      case "put": {
        let nodes = this.#hubs.get(change.hubId);
        if (nodes === undefined) this.#hubs.set(change.hubId, (nodes = new Map()));
        const before = nodes.get(change.nodeId);
        if (before !== undefined) this.#onGone(before);
        nodes.set(change.nodeId, { online: change.online, source: change.capabilities });
        return;
      }
      case "online": {
        const node = this.#hubs.get(change.hubId)?.get(change.nodeId);
        if (node !== undefined) node.online = change.online;
        return;
      }
      case "removed": {
        const nodes = this.#hubs.get(change.hubId);
        const node = nodes?.get(change.nodeId);
        if (nodes === undefined || node === undefined) return;
        this.#onGone(node);
        nodes.delete(change.nodeId);
        if (nodes.size === 0) this.#hubs.delete(change.hubId);
        return;
      }
      case "hub-gone":
        for (const node of this.nodes(change.hubId)) this.#onGone(node);
        this.#hubs.delete(change.hubId);
        return;
      case "reset":
        for (const nodes of this.#hubs.values()) for (const node of nodes.values()) this.#onGone(node);
        this.#hubs.clear();
        return;
      case "came":
      case "freshness":
        return;
    }
  }
}
