import type { DirectoryChange } from "../../services/command-forwarding/messages.ts";
import type { ChangeEvent, WatchPush } from "../../services/registry-sync/messages.ts";
import { capabilitiesOf, versionOf } from "./nodes.ts";
import type { Oracle } from "./oracle.ts";

/** Copy is a node as the watcher has put it together. */
export interface Copy {
  node: Uint8Array;
  online: boolean;
  readonly state: Map<string, string>;
}

/**
 * Watcher follows one hub's registry by its Watch, in events, and keeps a copy of it. It is at the same time what feeds the node
 * directory of the command service, and the checker of what watchers are shown: whether events make sense in their order.
 */
export class Watcher {
  readonly #oracle: Oracle;
  readonly #hub: number;
  readonly #hubIds: readonly string[];
  /** Copies by hub and node. */
  readonly hubs = new Map<string, Map<string, Copy>>();
  /** Highest version ever shown of a node, and the version at its last removal outside of a reset. */
  readonly #removed = new Map<string, number>();

  constructor(oracle: Oracle, hub: number, hubIds: readonly string[]) {
    this.#oracle = oracle;
    this.#hub = hub;
    this.#hubIds = hubIds;
  }

  /** take follows pushes and answers what they mean for the node directory. */
  take(pushes: readonly WatchPush[]): DirectoryChange[] {
    const changes: DirectoryChange[] = [];
    for (const push of pushes) {
      if (push.kind === "events") for (const event of push.events) this.#event(event, changes);
      else if (push.kind === "reset" || push.kind === "gone") {
        this.hubs.delete(push.position.hubId);
        changes.push({ kind: "hub-gone", hubId: push.position.hubId });
      } else if (push.kind === "bookmark")
        for (const { hubId, freshness } of push.hubs) changes.push({ kind: "freshness", hubId, freshness });
    }
    return changes;
  }

  #event({ name, change }: ChangeEvent, changes: DirectoryChange[]): void {
    const { hubId, nodeId } = name;
    const copies = this.hubs.get(hubId) ?? new Map<string, Copy>();
    this.hubs.set(hubId, copies);
    const copy = copies.get(nodeId);
    if (change.kind === "put") {
      this.#checkVersion(hubId, nodeId, versionOf(change.node), copy);
      const online = copy?.online ?? false;
      copies.set(nodeId, { node: change.node, online, state: copy?.state ?? new Map() });
      changes.push({ kind: "put", hubId, nodeId, online, capabilities: capabilitiesOf(change.node) });
      return;
    }
    if (copy === undefined) {
      this.#oracle.violate(
        "watch",
        "correctness",
        `hub-${this.#hub} was shown ${change.kind} of ${hubId}/${nodeId}, which it had not been shown`,
      );
      return;
    }
    if (change.kind === "removed") {
      this.#removed.set(`${hubId}/${nodeId}`, versionOf(copy.node));
      copies.delete(nodeId);
      changes.push({ kind: "removed", hubId, nodeId });
    } else if (change.kind === "online") {
      copy.online = change.online;
      changes.push({ kind: "online", hubId, nodeId, online: change.online });
    } else copy.state.set(change.state.key, String(change.state.value));
  }

  /** An older version after a newer one, or after a removal, is a node that came back from the dead (B2-4). */
  #checkVersion(hubId: string, nodeId: string, version: number, copy: Copy | undefined): void {
    if (this.#oracle.rewound[this.#hubIds.indexOf(hubId)] || this.#oracle.rewound[this.#hub]) return;
    const newest = Math.max(copy === undefined ? 0 : versionOf(copy.node), this.#removed.get(`${hubId}/${nodeId}`) ?? 0);
    if (version < newest)
      this.#oracle.violate(
        "resurrection",
        "correctness",
        `hub-${this.#hub} was shown ${hubId}/${nodeId} version ${version} after version ${newest}`,
      );
  }
}
