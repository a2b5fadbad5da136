import type { StoreOp } from "#kernel/core.ts";
import type { Failure } from "#kernel/error.ts";
import { changeRules, type FeedMeta, OwnFeed } from "./feed.ts";
import type { FeedPosition, PeerShare, ShareRules } from "./messages.ts";
import { EPOCH_REASON, type EpochReason, type StoreReader } from "./ports.ts";
import type { PeerSession } from "./session.ts";
import { ShareView } from "./share.ts";
import { SnapshotJob } from "./snapshot.ts";
import type { FeedTable } from "./table.ts";
import { EMPTY, equalBytes, hex, textOf, utf8 } from "./wire.ts";
import { readMeta, type World } from "./world.ts";

/** Level from which a peer is offered a feed: LIMITED. */
const LEVEL_LIMITED = 2;
/** A peer whose acknowledgements stand still for so long does not count as live for the backlog rule. */
const LIVE_MS = 1_000;
/** Pause after a refusal, doubled with each in a row up to the maximum. */
const NACK_PAUSE_MS = 100;
const NACK_PAUSE_MAX_MS = 30_000;
/** A peer may make us open a new epoch (by knowing more of us than we do) once in this time. */
const RESTORE_EVERY_MS = 10_000;
/** A feed that is too long for a snapshot is looked at again after this. */
const TOO_LONG_PAUSE_MS = 600_000;
/** Largest epoch that is believed. */
const MAX_EPOCH = 2 ** 48;

/**
 * Exporter offers each peer the feed of its share and serves cursors over it.
 *
 * E1 a peer gets one share; another one is offered only after it has forgotten the old one durably.
 * E2 nothing is queued per peer: a cursor reads the feed's ring while it has credit; one that falls off gets the snapshot.
 * E3 nothing that came from a peer is ever in a feed (D-5).
 * E4 a peer that knows more of a feed than its owner makes the owner open an epoch higher than any heard.
 */
export class Exporter {
  readonly #world: World;
  readonly #table: FeedTable;
  readonly #close: () => void;
  readonly full: OwnFeed;
  /** Active feeds besides `full`. */
  readonly derived = new Map<string, OwnFeed>();
  #rules = new Map<string, ShareRules>();
  readonly #peers = new Map<string, PeerShare>();
  /** Shares that a peer may hold something of. */
  readonly #holds = new Map<string, Set<string>>();
  readonly #sessions: ReadonlyMap<number, PeerSession>;
  readonly #jobs = new Map<number, SnapshotJob>();
  #nextJob = 1;
  readonly #restoredAt = new Map<string, number>();
  /** Shares that are too long for a snapshot, and until when none is built: 8 at most. */
  readonly #tooLongUntil = new Map<string, number>();

  constructor(world: World, table: FeedTable, sessions: ReadonlyMap<number, PeerSession>, close: () => void) {
    this.#world = world;
    this.#table = table;
    this.#sessions = sessions;
    this.#close = close;
    this.full = new OwnFeed(world, new ShareView(undefined, world.o.codec));
    for (const share of world.o.shares) this.#rules.set(share.name, share);
  }

  feed(share: string): OwnFeed | undefined {
    return share === "full" ? this.full : this.derived.get(share);
  }

  feeds(): OwnFeed[] {
    return [this.full, ...[...this.derived.values()].sort((a, b) => (a.share < b.share ? -1 : 1))];
  }

  shareOf(peer: string): string | undefined {
    const mapping = this.#peers.get(peer);
    if (mapping === undefined || mapping.level < LEVEL_LIMITED || mapping.share === "") return undefined;
    return mapping.share === "full" || this.#rules.has(mapping.share) ? mapping.share : undefined;
  }

  // ---- what peers there are, and what they may see

  setPeers(peers: readonly PeerShare[], complete: boolean): void {
    if (complete) this.#peers.clear();
    for (const peer of peers) this.#peers.set(peer.hubId, peer);
    this.#deactivateUnused(complete);
    for (const session of this.#sessions.values()) this.#reoffer(session);
  }

  setShares(shares: readonly ShareRules[]): void {
    this.#close();
    this.#rules = new Map(shares.filter((share) => share.name !== "full").map((share) => [share.name, share]));
    for (const feed of [...this.derived.values()]) {
      const rules = this.#rules.get(feed.share);
      if (rules === undefined) this.#deactivate(feed);
      else if (JSON.stringify(rules.rules) !== JSON.stringify(feed.view.rules)) {
        this.#cancelJobs(feed.share);
        changeRules(this.#world, this.#table, feed, rules.rules, () => this.#world.hlc.tick(this.#world.now.wall));
        this.#world.persist([feed.metaOp(true)]);
      }
    }
    for (const session of this.#sessions.values()) this.#reoffer(session);
    this.pull();
  }

  #deactivateUnused(complete: boolean): void {
    if (!complete) return;
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

  /** Epochs of feeds that are not active now. */
  readonly #dropped = new Map<string, number>();

  #activate(share: string): OwnFeed {
    const known = this.feed(share);
    if (known !== undefined) return known;
    this.#close();
    const feed = new OwnFeed(this.#world, new ShareView(this.#rules.get(share), this.#world.o.codec));
    feed.epoch = this.#dropped.get(share) ?? 0;
    this.#fill(feed);
    this.derived.set(share, feed);
    feed.openEpoch(feed.epoch === 0 ? EPOCH_REASON.CREATED : EPOCH_REASON.RENUMBERED, 0, this.#world.hlc.tick(this.#world.now.wall));
    return feed;
  }

  /** fill notes what the rules show of the nodes that are there. */
  #fill(feed: OwnFeed): void {
    for (const entry of this.#table.entries()) {
      const view = feed.view.viewOf(this.#table, entry);
      if (view === undefined) continue;
      feed.view.note(entry.ref, view);
      for (const kref of view.krefs) feed.view.defines(kref);
    }
  }

  // ---- sessions

  /** offer tells a session what there is for its peer; shares that it must not see any more go first (E1). */
  offer(session: PeerSession): void {
    const share = this.shareOf(session.peer);
    const others = [...(this.#holds.get(session.peer) ?? [])].filter((held) => held !== share).sort();
    if (others.length > 0) {
      session.out = { state: "forgetting", shares: new Set(others) };
      for (const held of others) session.send({ type: "forget", share: held });
      return;
    }
    if (share === undefined) {
      session.out = { state: "idle" };
      session.send({ type: "feed_offer", head: undefined, keyStatement: EMPTY });
      return;
    }
    const feed = this.#activate(share);
    session.out = { state: "offered", share };
    session.send({ type: "feed_offer", head: feed.head, keyStatement: EMPTY });
  }

  #reoffer(session: PeerSession): void {
    const share = this.shareOf(session.peer);
    const { out } = session;
    const current = out.state === "idle" || out.state === "forgetting" ? undefined : out.share;
    if (out.state !== "forgetting" && current === share && (share === undefined || this.feed(share) !== undefined)) return;
    this.offer(session);
  }

  /**
   * remind repeats what a peer is to forget. While two streams to it live side by side its answer may go out on the one that is
   * lost; without this nothing would be offered to it any more.
   */
  remind(session: PeerSession): void {
    if (session.out.state === "forgetting") for (const share of session.out.shares) session.send({ type: "forget", share });
  }

  forgetDone(session: PeerSession, share: string): void {
    const holds = this.#holds.get(session.peer);
    if (holds?.delete(share) === true) this.#persistHolds(session.peer);
    if (session.out.state !== "forgetting") return;
    session.out.shares.delete(share);
    if (session.out.shares.size === 0) this.offer(session);
  }

  feedOpen(session: PeerSession, from: FeedPosition, heldParts: readonly Uint8Array[]): void {
    const { out } = session;
    if (out.state === "idle" || out.state === "forgetting") return;
    const feed = this.feed(out.share);
    if (feed === undefined || from.hubId !== this.#world.o.hubId || (from.epoch > 0 && from.share !== feed.share)) {
      this.offer(session);
      return;
    }
    if (!this.#holds.get(session.peer)?.has(feed.share)) {
      this.#holds.set(session.peer, (this.#holds.get(session.peer) ?? new Set()).add(feed.share));
      this.#persistHolds(session.peer);
    }
    if (this.#knowsMore(feed, from)) {
      this.#restored(session, feed, from);
      return;
    }
    session.acked = from;
    session.ackedAt = this.#world.now.mono;
    if (from.epoch === feed.epoch && from.seq + 1 >= feed.ring.first)
      session.out = { state: "tail", share: feed.share, next: from.seq + 1 };
    else this.#startSnapshot(session, feed, new Set(heldParts.map(hex)));
    this.#pullOne(session);
  }

  /** knowsMore: the peer holds a position that this feed does not have (E4). */
  #knowsMore(feed: OwnFeed, from: FeedPosition): boolean {
    if (from.epoch !== feed.epoch) return from.epoch > feed.epoch && from.epoch < MAX_EPOCH;
    if (from.seq > feed.seq) return true;
    const digest = from.seq === feed.seq ? feed.digest : feed.ring.get(from.seq)?.digest;
    return from.seq > 0 && digest !== undefined && !equalBytes(digest, from.digest);
  }

  #restored(session: PeerSession, feed: OwnFeed, from: FeedPosition): void {
    const last = this.#restoredAt.get(session.peer) ?? Number.NEGATIVE_INFINITY;
    if (this.#world.now.mono - last < RESTORE_EVERY_MS) {
      this.#startSnapshot(session, feed, new Set());
      return;
    }
    this.#restoredAt.set(session.peer, this.#world.now.mono);
    const fields = { peer_epoch: String(from.epoch), peer_seq: String(from.seq), epoch: String(feed.epoch), seq: String(feed.seq) };
    this.#world.event("feed", "WARNING", "a peer knows more of this hub's feed than this hub does", {
      hub: session.peer,
      share: feed.share,
      fields,
    });
    this.openEpoch(feed, EPOCH_REASON.RESTORED, from.epoch);
  }

  /** openEpoch starts a new epoch of a feed and offers it to all who have the feed. */
  openEpoch(feed: OwnFeed, reason: EpochReason, above = 0): void {
    this.#close();
    this.#cancelJobs(feed.share);
    feed.openEpoch(reason, above, this.#world.hlc.tick(this.#world.now.wall));
    for (const session of this.#sessions.values()) {
      const { out } = session;
      if (out.state !== "idle" && out.state !== "forgetting" && out.share === feed.share) this.offer(session);
    }
  }

  ack(session: PeerSession, position: FeedPosition): void {
    const { out } = session;
    const feed = out.state === "idle" || out.state === "forgetting" ? undefined : this.feed(out.share);
    if (feed === undefined || position.epoch !== feed.epoch || position.seq > feed.seq) return;
    session.acked = position;
    session.ackedAt = this.#world.now.mono;
    session.nacks = 0;
  }

  nack(session: PeerSession, held: FeedPosition, problem: Failure, wantSnapshot: boolean): void {
    const { out } = session;
    const feed = out.state === "idle" || out.state === "forgetting" ? undefined : this.feed(out.share);
    if (feed === undefined) return;
    session.nacks++;
    session.pausedUntil = this.#world.now.mono + Math.min(NACK_PAUSE_MAX_MS, NACK_PAUSE_MS * 2 ** Math.min(20, session.nacks - 1));
    this.#world.event("segment_refused", "WARNING", "a peer refused what it was sent", {
      hub: session.peer,
      share: feed.share,
      fields: { reason: problem.reason, message: problem.message },
    });
    if (problem.reason === "FEED_FORK" && held.epoch === feed.epoch) this.#restored(session, feed, held);
    else if (wantSnapshot) this.#startSnapshot(session, feed, new Set());
    else if (held.epoch === feed.epoch && held.seq <= feed.seq) session.out = { state: "tail", share: feed.share, next: held.seq + 1 };
    else this.offer(session);
  }

  // ---- sending

  /** pull lets every session take what it has credit for. */
  pull(): void {
    for (const session of this.#sessions.values()) this.#pullOne(session);
  }

  pullOne(session: PeerSession): void {
    this.#pullOne(session);
  }

  #pullOne(session: PeerSession): void {
    if (session.pausedUntil > this.#world.now.mono) return;
    if (session.out.state === "snapshot") this.#sendSnapshot(session, session.out);
    if (session.out.state !== "tail") return;
    const { out } = session;
    const feed = this.feed(out.share);
    if (feed === undefined) return;
    while (session.credit > 0 && out.next <= feed.seq) {
      const item = feed.ring.get(out.next);
      // One that no peer takes (written before there was a bound) would end the session each time that it is sent.
      if (item === undefined || item.byteLength > this.#world.o.limits.frameBytes) {
        this.#startSnapshot(session, feed, new Set());
        return;
      }
      session.send(
        { type: "segment", segment: item.segment, ...(item.message === undefined ? {} : { message: item.message }) },
        item.byteLength,
      );
      out.next++;
    }
  }

  #startSnapshot(session: PeerSession, feed: OwnFeed, held: ReadonlySet<string>): void {
    if (this.#tooLongUntil.has(feed.share)) {
      session.out = { state: "offered", share: feed.share };
      return;
    }
    this.#close();
    const usable = [...this.#jobs.values()].find(
      (job) => job.share === feed.share && job.position.epoch === feed.epoch && job.position.seq + 1 >= feed.ring.first,
    );
    let job = usable;
    if (job === undefined) {
      job = new SnapshotJob(this.#world, this.#nextJob++, feed, this.#table);
      this.#jobs.set(job.id, job);
    }
    session.out = { state: "snapshot", share: feed.share, held, job: job.id, manifestSent: false, nextPart: 0 };
    if (job.tooLong) this.#giveUp(job);
    else this.#dropIdleJobs();
  }

  /** compressed takes a part of a snapshot; false if the job is not of this exporter. */
  compressed(jobId: number, codec: number, bytes: Uint8Array): void {
    const job = this.#jobs.get(jobId);
    if (job === undefined) return;
    job.compressed(codec, bytes);
    if (job.tooLong) this.#giveUp(job);
    else if (job.manifest !== undefined) this.pull();
  }

  /** giveUp: no peer takes so long a snapshot. Those who ask again get none for a while. */
  #giveUp(job: SnapshotJob): void {
    this.#tooLongUntil.set(job.share, this.#world.now.mono + TOO_LONG_PAUSE_MS);
    for (const session of this.#sessions.values())
      if (session.out.state === "snapshot" && session.out.job === job.id) session.out = { state: "offered", share: job.share };
    this.#dropIdleJobs();
    const fields = { limit: "snapshot_bytes", max: String(this.#world.o.limits.snapshotBytes) };
    this.#world.event("limit", "ERROR", "the feed is longer than a snapshot may be; peers that need one get none", {
      share: job.share,
      fields,
    });
  }

  #sendSnapshot(session: PeerSession, out: Extract<PeerSession["out"], { state: "snapshot" }>): void {
    const job = this.#jobs.get(out.job);
    if (job?.manifest === undefined) return;
    if (!out.manifestSent && session.credit > 0) {
      session.send({ type: "snapshot", manifest: job.manifest }, job.manifest.length);
      out.manifestSent = true;
    }
    while (out.manifestSent && out.nextPart < job.parts.length && session.credit > 0) {
      const index = out.nextPart++;
      const part = job.parts[index] as SnapshotJob["parts"][0];
      if (!out.held.has(hex(part.info.sha256))) session.send({ type: "snapshot_part", index, data: part.bytes }, part.bytes.length);
    }
    if (!out.manifestSent || out.nextPart < job.parts.length) return;
    session.out = { state: "tail", share: out.share, next: job.position.seq + 1 };
    this.#dropIdleJobs();
  }

  /** dropIdleJobs frees snapshots that nobody takes any more. */
  #dropIdleJobs(): void {
    const used = new Set([...this.#sessions.values()].map((session) => (session.out.state === "snapshot" ? session.out.job : 0)));
    for (const [id, job] of this.#jobs) {
      if (used.has(id)) continue;
      job.close();
      this.#jobs.delete(id);
    }
  }

  #cancelJobs(share: string): void {
    for (const [id, job] of this.#jobs) {
      if (job.share !== share) continue;
      job.close();
      this.#jobs.delete(id);
      for (const session of this.#sessions.values())
        if (session.out.state === "snapshot" && session.out.job === id) this.#restart(session, share);
    }
  }

  /** restart makes a session open the feed anew; the peer answers the offer with what it holds. */
  #restart(session: PeerSession, share: string): void {
    const feed = this.feed(share);
    session.out = { state: "offered", share };
    if (feed !== undefined) session.send({ type: "feed_offer", head: feed.head, keyStatement: EMPTY });
  }

  sessionDown(): void {
    this.#dropIdleJobs();
  }

  /** behind is how many segments the fastest live peer is behind; 0 without one. */
  behind(): number {
    let least = Number.POSITIVE_INFINITY;
    for (const session of this.#sessions.values()) {
      const { out, acked } = session;
      if (out.state !== "tail" || acked === undefined || this.#world.now.mono - session.ackedAt > LIVE_MS) continue;
      const feed = this.feed(out.share);
      if (feed !== undefined && acked.epoch === feed.epoch) least = Math.min(least, feed.seq - acked.seq);
    }
    return least === Number.POSITIVE_INFINITY ? 0 : least;
  }

  /** tick offers again what was too long for a snapshot. */
  tick(): void {
    for (const [share, until] of this.#tooLongUntil) {
      if (until > this.#world.now.mono) continue;
      this.#tooLongUntil.delete(share);
      for (const session of this.#sessions.values())
        if (session.out.state === "offered" && session.out.share === share) this.offer(session);
    }
  }

  /** deadline is when a paused session goes on, or a feed is offered again. */
  deadline(): number {
    let next = Number.POSITIVE_INFINITY;
    if (this.#tooLongUntil.size > 0) for (const until of this.#tooLongUntil.values()) next = Math.min(next, until);
    for (const session of this.#sessions.values())
      if (session.pausedUntil > this.#world.now.mono) next = Math.min(next, session.pausedUntil);
    return next;
  }

  // ---- store

  #persistHolds(peer: string): void {
    const holds = [...(this.#holds.get(peer) ?? [])].sort();
    this.#world.persist([
      holds.length === 0
        ? { op: "delete", space: "holds", key: peer }
        : { op: "put", space: "holds", key: peer, bytes: utf8(JSON.stringify(holds)) },
    ]);
  }

  /** restoreDerived brings back the feeds that were active, after the table is there. */
  restoreDerived(reader: StoreReader): OwnFeed[] {
    for (const { key, bytes } of reader.space("holds")) this.#holds.set(key, new Set(JSON.parse(textOf(bytes)) as string[]));
    const changed: OwnFeed[] = [];
    for (const { key, bytes } of reader.space("meta")) {
      const share = key.startsWith("feed/") ? key.slice(5) : "full";
      const meta = readMeta<FeedMeta>(bytes);
      if (share === "full" || meta === undefined) continue;
      const rules = this.#rules.get(share);
      if (!meta.active || rules === undefined) {
        this.#dropped.set(share, meta.epoch);
        continue;
      }
      const feed = new OwnFeed(this.#world, new ShareView(rules, this.#world.o.codec));
      feed.restore(reader, () => {});
      feed.epoch = Math.max(feed.epoch, meta.epoch);
      this.#fill(feed);
      this.derived.set(share, feed);
      if (meta.rules !== JSON.stringify(rules.rules) || feed.seq === 0) changed.push(feed);
    }
    return changed;
  }
}
