import type { Effect, Leaf, Push } from "./messages.ts";
import { dialledFor, type Peer, viewOf } from "./peers/peer.ts";

interface Watcher {
  /** Services of the process that watches. */
  readonly services: readonly string[];
  readonly leaf: Leaf | undefined;
  /** Peers whose view may have changed since it was last sent. */
  readonly dirty: Set<string>;
  /** What was sent last, by peer, as text. */
  readonly sent: Map<string, string>;
  synced: boolean;
  ready: boolean;
}

/** Watchers keeps which of this hub's services watch the peers, with which certificates, and what each of them knows. */
export class Watchers {
  readonly #watchers = new Map<number, Watcher>();
  #leaves = new Map<string, Leaf>();

  get size(): number {
    return this.#watchers.size;
  }

  /** leaves are the certificates with which this hub's processes dial, by thumbprint. */
  get leaves(): ReadonlyMap<string, Leaf> {
    return this.#leaves;
  }

  /** leafOf is the newest certificate of a service. */
  leafOf(service: string): Leaf | undefined {
    return [...this.#watchers.values()].findLast((watcher) => watcher.services.includes(service) && watcher.leaf !== undefined)?.leaf;
  }

  add(watch: number, services: readonly string[], leaf: Leaf | undefined, peers: Iterable<string>): void {
    this.#watchers.set(watch, { services, leaf, dirty: new Set(peers), sent: new Map(), synced: false, ready: true });
    this.#collect();
  }

  /** remove ends a watch and answers those of its services for which no other process watches. */
  remove(watch: number): string[] {
    const services = this.#watchers.get(watch)?.services ?? [];
    this.#watchers.delete(watch);
    this.#collect();
    return services.filter((service) => !this.watched(service));
  }

  /** watched tells whether a service watches. */
  watched(service: string): boolean {
    for (const watcher of this.#watchers.values()) if (watcher.services.includes(service)) return true;
    return false;
  }

  ready(watch: number): void {
    const watcher = this.#watchers.get(watch);
    if (watcher !== undefined) watcher.ready = true;
  }

  /** touch notes that a peer may look different now. */
  touch(hubId: string): void {
    for (const { dirty } of this.#watchers.values()) dirty.add(hubId);
  }

  /** push sends what changed to every watcher that took its last push. */
  push(peerOf: (hubId: string) => Peer | undefined, nowWall: number, out: Effect[]): void {
    for (const [watch, watcher] of this.#watchers) {
      if (!watcher.ready || (watcher.synced && watcher.dirty.size === 0)) continue;
      const pushes: Push[] = [];
      for (const hubId of watcher.dirty) {
        const push = this.#pushOf(watcher, hubId, peerOf(hubId), nowWall);
        if (push !== undefined) pushes.push(push);
      }
      watcher.dirty.clear();
      if (!watcher.synced) pushes.push({ kind: "synced" });
      watcher.synced = true;
      if (pushes.length === 0) continue;
      watcher.ready = false;
      out.push({ kind: "push", watch, pushes });
    }
  }

  #pushOf(watcher: Watcher, hubId: string, peer: Peer | undefined, nowWall: number): Push | undefined {
    if (peer === undefined) return watcher.sent.delete(hubId) ? { kind: "removed", hubId } : undefined;
    const [service = "", ...others] = watcher.services;
    const view = viewOf(peer, service, watcher.leaf?.thumbprint, nowWall);
    const also = others.map((other) => dialledFor(peer, other)).filter((endpoint) => endpoint !== undefined);
    const text = JSON.stringify([view, also]);
    if (watcher.sent.get(hubId) === text) return undefined;
    watcher.sent.set(hubId, text);
    return { kind: "view", view, also };
  }

  #collect(): void {
    this.#leaves = new Map();
    for (const { leaf } of this.#watchers.values()) if (leaf !== undefined) this.#leaves.set(leaf.thumbprint, leaf);
  }
}
