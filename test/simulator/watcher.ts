import type { ClientOf } from "#channel/call.ts";
import type { Clock } from "#channel/clock.ts";
import type { Node } from "#gen/foedus/common/v1/node_pb.ts";
import {
  type RegistrySyncService,
  WatchEncoding,
  type WatchEvent,
  type WatchResponse,
} from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import type { FeedPosition } from "#gen/foedus/registry_sync/v1alpha1/session_pb.ts";
import { FoedusError } from "#kernel/error.ts";
import { rankOf, valueText, versionOf } from "./nodes.ts";
import type { Oracle } from "./oracle.ts";

/** Copy is a node as the watcher has put it together. */
export interface Copy {
  node: Node;
  online: boolean;
  readonly state: Map<string, string>;
}

/** WatcherOptions say who watches what. */
export interface WatcherOptions {
  readonly client: Pick<ClientOf<typeof RegistrySyncService>, "watch">;
  readonly clock: Clock;
  readonly oracle: Oracle;
  readonly hub: number;
  readonly hubIds: readonly string[];
  readonly latestOnly: boolean;
  readonly onBug: (error: unknown) => void;
}

const RETRY_MS = 700;
const REQUEST = "foedus.registry_sync.v1alpha1.WatchRequest";

function cloned(copies: ReadonlyMap<string, Copy>): Map<string, Copy> {
  return new Map([...copies].map(([nodeId, { node, online, state }]) => [nodeId, { node, online, state: new Map(state) }]));
}

/**
 * Watcher is a client that follows one hub's registry by its Watch, in events, and keeps a copy of it. After a cut it goes on from the last
 * bookmark. It is the checker of what watchers are shown: whether events make sense in their order, and whether anything goes back in time.
 */
export class Watcher {
  readonly #o: WatcherOptions;
  /** Copies by hub and node. */
  readonly hubs = new Map<string, Map<string, Copy>>();
  /** Version of a node at its last removal outside of a reset. */
  readonly #removed = new Map<string, number>();
  /** Newest place seen of what has an order, by hub, node and key; and how it was at the last bookmark, from which a resume goes on. */
  #newest = new Map<string, number>();
  #marked = new Map<string, number>();
  /** The copies as they were at the last bookmark, and those that have changed since. */
  readonly #markedHubs = new Map<string, Map<string, Copy>>();
  readonly #changed = new Set<string>();
  #positions = new Map<string, FeedPosition>();
  #closed = false;
  #calls = 0;

  constructor(options: WatcherOptions) {
    this.#o = options;
    void this.#follow();
  }

  close(): void {
    this.#closed = true;
  }

  async #follow(): Promise<void> {
    const { client, clock, latestOnly, onBug } = this.#o;
    if (this.#closed) return;
    this.#calls++;
    const resume = [...this.#positions.values()];
    this.#goBack();
    try {
      const pushes = client.watch({ $typeName: REQUEST, encoding: WatchEncoding.EVENTS, nodesOnly: false, latestOnly, resume });
      for await (const push of pushes) {
        if (this.#closed) return;
        this.#take(push);
      }
    } catch (error) {
      if (!(error instanceof FoedusError)) return onBug(error);
    }
    clock.setTimer(RETRY_MS, () => void this.#follow());
  }

  #take({ push }: WatchResponse): void {
    switch (push.case) {
      case "events":
        for (const event of push.value.events) this.#event(event);
        return;
      case "reset":
      case "gone": {
        const hubId = push.value.position?.hubId ?? "";
        this.hubs.delete(hubId);
        this.#changed.add(hubId);
        this.#positions.delete(hubId);
        return;
      }
      case "bookmark":
        this.#positions = new Map(push.value.positions.map((position) => [position.hubId, position]));
        this.#mark();
    }
  }

  /** mark keeps the copies as they are at a bookmark. */
  #mark(): void {
    this.#marked = new Map(this.#newest);
    for (const hubId of this.#changed) {
      const copies = this.hubs.get(hubId);
      if (copies === undefined) this.#markedHubs.delete(hubId);
      else this.#markedHubs.set(hubId, cloned(copies));
    }
    this.#changed.clear();
  }

  /**
   * goBack gives up what came after the last bookmark: it comes again. What is not in the bookmark may be half of a copy: without a
   * position it comes anew, or is gone.
   */
  #goBack(): void {
    this.#newest = new Map(this.#marked);
    for (const hubId of this.#changed) {
      const marked = this.#markedHubs.get(hubId);
      if (marked === undefined) this.hubs.delete(hubId);
      else this.hubs.set(hubId, cloned(marked));
    }
    this.#changed.clear();
    for (const hubId of this.hubs.keys()) {
      if (this.#positions.has(hubId)) continue;
      this.hubs.delete(hubId);
      this.#changed.add(hubId);
    }
  }

  #event({ name, change }: WatchEvent): void {
    const { hubId = "", nodeId = "" } = name ?? {};
    const copies = this.hubs.get(hubId) ?? new Map<string, Copy>();
    this.hubs.set(hubId, copies);
    this.#changed.add(hubId);
    const copy = copies.get(nodeId);
    if (change.case === "put") {
      this.#checkVersion(hubId, nodeId, versionOf(change.value), copy);
      copies.set(nodeId, { node: change.value, online: copy?.online ?? false, state: copy?.state ?? new Map() });
      return;
    }
    if (copy === undefined) return this.#violate("watch", `was shown ${change.case} of ${hubId}/${nodeId}, which it had not been shown`);
    if (change.case === "removed") {
      this.#removed.set(`${hubId}/${nodeId}`, versionOf(copy.node));
      copies.delete(nodeId);
    } else if (change.case === "online") copy.online = change.value;
    else if (change.case === "state") {
      const { key, value } = change.value;
      const text = valueText(value);
      this.#checkRank(hubId, nodeId, key, text);
      copy.state.set(key, text);
    }
  }

  #violate(checker: string, text: string): void {
    this.#o.oracle.violate(checker, "correctness", `hub-${this.#o.hub} ${text}`);
  }

  /** Time went back at one of the two, and nobody is asked to hide it. */
  #rewound(hubId: string): boolean {
    const { oracle, hub, hubIds } = this.#o;
    return oracle.rewound[hub] === true || oracle.rewound[hubIds.indexOf(hubId)] === true;
  }

  /** An older version after a newer one, or after a removal, is a node that came back from the dead (B2-4). */
  #checkVersion(hubId: string, nodeId: string, version: number, copy: Copy | undefined): void {
    if (this.#rewound(hubId) || this.#calls > 1) return;
    const newest = Math.max(copy === undefined ? 0 : versionOf(copy.node), this.#removed.get(`${hubId}/${nodeId}`) ?? 0);
    if (version < newest) this.#violate("resurrection", `was shown ${hubId}/${nodeId} version ${version} after version ${newest}`);
  }

  /** A value that its hub got before the one that was shown already is a step back in time (F-22, F-29). */
  #checkRank(hubId: string, nodeId: string, key: string, text: string): void {
    const rank = rankOf(key, text);
    if (rank === undefined || this.#rewound(hubId)) return;
    const name = `${hubId}/${nodeId}.${key}`;
    const newest = this.#newest.get(name) ?? 0;
    if (rank < newest) this.#violate("monotonic", `was shown ${name} = ${text} after something of place ${newest}`);
    else this.#newest.set(name, rank);
  }
}
