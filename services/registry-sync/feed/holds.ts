import { utf8 } from "../codec/wire.ts";
import type { StoreReader } from "../ports.ts";
import { readHolds } from "../table/stored-records.ts";
import type { World } from "../world.ts";

const SPACE = "holds";

/** Holds are the shares that each peer may hold something of: noted before anything is sent, until the peer says it has forgotten it. */
export class Holds {
  readonly #world: World;
  readonly #holds = new Map<string, Set<string>>();

  constructor(world: World) {
    this.#world = world;
  }

  /** of are the shares of a peer, in order. */
  of(peer: string): string[] {
    return [...(this.#holds.get(peer) ?? [])].sort();
  }

  add(peer: string, share: string): void {
    if (this.#holds.get(peer)?.has(share)) return;
    this.#holds.set(peer, (this.#holds.get(peer) ?? new Set()).add(share));
    this.#persist(peer);
  }

  remove(peer: string, share: string): void {
    const holds = this.#holds.get(peer);
    if (holds?.delete(share) !== true) return;
    if (holds.size === 0) this.#holds.delete(peer);
    this.#persist(peer);
  }

  restore(reader: StoreReader): void {
    for (const { key, bytes } of reader.space(SPACE)) this.#holds.set(key, new Set(readHolds(key, bytes)));
  }

  #persist(key: string): void {
    const holds = this.of(key);
    this.#world.persist([
      holds.length === 0 ? { op: "delete", space: SPACE, key } : { op: "put", space: SPACE, key, bytes: utf8(JSON.stringify(holds)) },
    ]);
  }
}
