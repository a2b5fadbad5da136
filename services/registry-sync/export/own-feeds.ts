import type { StoreOp } from "#kernel/core.ts";
import { changeRules, type FeedMeta, OwnFeed } from "../feed/feed.ts";
import type { PeerShare, ShareRules } from "../messages.ts";
import { EPOCH_REASON, type StoreReader } from "../ports.ts";
import { fillView, noShareOf, ShareView } from "../share/share.ts";
import { readMeta } from "../table/stored-records.ts";
import type { FeedTable } from "../table/table.ts";
import type { World } from "../world.ts";

/** OwnFeeds are the feeds that this hub writes: the full one, and one for each share that some peer sees. */
export class OwnFeeds {
  readonly #world: World;
  readonly #close: () => void;
  readonly #cancelJobs: (share: string) => void;
  table: FeedTable;
  readonly full: OwnFeed;
  /** Active feeds besides `full`. */
  readonly derived = new Map<string, OwnFeed>();
  #rules = new Map<string, ShareRules>();
  readonly #peers = new Map<string, PeerShare>();
  /** Epochs of feeds that are not active now. */
  readonly #dropped = new Map<string, number>();

  /** `close` closes the open segment, `cancelJobs` gives up the snapshots of a feed. */
  constructor(world: World, table: FeedTable, close: () => void, cancelJobs: (share: string) => void) {
    this.#world = world;
    this.table = table;
    this.#close = close;
    this.#cancelJobs = cancelJobs;
    this.full = new OwnFeed(world, new ShareView(undefined, world.o.codec));
    for (const share of world.o.shares) this.#rules.set(share.name, share);
  }

  /** feed is the one of a share; undefined if it is not active. */
  feed(share: string): OwnFeed | undefined {
    return share === "full" ? this.full : this.derived.get(share);
  }

  /** feeds are those that are active, the full one first. */
  feeds(): OwnFeed[] {
    return [this.full, ...[...this.derived.values()].sort((a, b) => (a.share < b.share ? -1 : 1))];
  }

  /** shareOf is the share that a peer sees; undefined if it sees nothing. */
  shareOf(peer: string): string | undefined {
    const mapping = this.#peers.get(peer);
    if (mapping === undefined || noShareOf(mapping, (share) => this.#rules.has(share)) !== undefined) return undefined;
    return mapping.share;
  }

  /** knows tells whether there is a peer of this name. */
  knows(peer: string): boolean {
    return this.#peers.has(peer);
  }

  /** setPeers says which peer sees which share: of some peers, or of all that there are. */
  setPeers(peers: readonly PeerShare[], complete: boolean): void {
    if (complete) this.#peers.clear();
    for (const peer of peers) this.#peers.set(peer.hubId, peer);
  }

  /** setShares takes other rules for shares. */
  setShares(shares: readonly ShareRules[]): void {
    this.#close();
    this.#rules = new Map(shares.filter((share) => share.name !== "full").map((share) => [share.name, share]));
    for (const feed of [...this.derived.values()]) {
      const rules = this.#rules.get(feed.share);
      if (rules === undefined) this.#deactivate(feed);
      else if (JSON.stringify(rules.rules) !== JSON.stringify(feed.view.rules)) {
        this.#cancelJobs(feed.share);
        changeRules(this.#world, this.table, feed, rules.rules, () => this.#world.hlc.tick(this.#world.now.wall));
        this.#world.persist([feed.metaOp(true)]);
      }
    }
  }

  /** deactivateUnused drops the feeds of shares that no peer sees. */
  deactivateUnused(): void {
    const used = new Set([...this.#peers.keys()].map((peer) => this.shareOf(peer)));
    for (const feed of [...this.derived.values()]) if (!used.has(feed.share)) this.#deactivate(feed);
  }

  #deactivate(feed: OwnFeed): void {
    this.#cancelJobs(feed.share);
    this.derived.delete(feed.share);
    this.#dropped.set(feed.share, feed.epoch);
    const ops: StoreOp[] = [];
    feed.drop(ops);
    this.#world.persist(ops);
  }

  /** activate gives the feed of a share, and fills it if it was not active. */
  activate(share: string): OwnFeed {
    const known = this.feed(share);
    if (known !== undefined) return known;
    this.#close();
    const feed = new OwnFeed(this.#world, new ShareView(this.#rules.get(share), this.#world.o.codec));
    feed.epoch = this.#dropped.get(share) ?? 0;
    fillView(feed.view, this.table);
    this.derived.set(share, feed);
    feed.openEpoch(feed.epoch === 0 ? EPOCH_REASON.CREATED : EPOCH_REASON.RENUMBERED, 0, this.#world.hlc.tick(this.#world.now.wall));
    return feed;
  }

  /** restore brings back the feeds that were active, after the table is there. */
  restore(reader: StoreReader): OwnFeed[] {
    const changed: OwnFeed[] = [];
    for (const { key } of reader.space("meta")) {
      const share = key.startsWith("feed/") ? key.slice(5) : "full";
      if (share === "full") continue;
      const meta = readMeta<FeedMeta>(reader, key);
      if (meta === undefined) continue;
      const rules = this.#rules.get(share);
      if (!meta.active || rules === undefined) {
        this.#dropped.set(share, meta.epoch);
        continue;
      }
      const feed = new OwnFeed(this.#world, new ShareView(rules, this.#world.o.codec));
      feed.restore(reader, () => {});
      feed.epoch = Math.max(feed.epoch, meta.epoch);
      fillView(feed.view, this.table);
      this.derived.set(share, feed);
      if (meta.rules !== JSON.stringify(rules.rules) || feed.seq === 0) changed.push(feed);
    }
    return changed;
  }
}
