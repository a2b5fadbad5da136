import { type Rate, TokenBucket } from "#kernel/bounds/token-bucket.ts";
import type { StoreOp } from "#kernel/core.ts";
import { fromHex } from "../codec/wire.ts";
import type { AfterSnapshot } from "../feed/after-snapshot.ts";
import type { CameSegment } from "../feed/segment.ts";
import type { PeerSession } from "../peer-session.ts";
import type { StoreReader } from "../ports.ts";
import { partOf } from "../table/cost.ts";
import type { World } from "../world.ts";
import type { Intake } from "./apply.ts";
import type { ImportFeed } from "./import-feed.ts";
import { type Coming, type HeldPart, type Receiver, restoreStage, STEP_BYTES, type Staged } from "./snapshot-receiver.ts";

/** A snapshot of which nothing came for so long is given up, ms: a peer that lost its link is back sooner (S0-7). */
const IDLE_MS = 120_000;

/** Steps that are done for the snapshots of one peer: those of some that are as long as may be at once, and so many a second. */
const LONGEST = 4;
const STEPS_PER_SECOND = 16;

/** Work is what has been done for snapshots of a peer. */
interface Work {
  readonly bucket: TokenBucket;
  /** Until when nothing more is (mono). */
  waitsUntil: number;
}

/** Behind are the segments that were kept behind a snapshot which has become the feed, and the session that they came on. */
export interface Behind {
  readonly session: PeerSession;
  readonly kept: AfterSnapshot;
}

/**
 * IncomingSnapshots are the snapshots that are half here: those that come in, and the parts that a restart found. At most one for each peer.
 *
 * IR1 each belongs to one feed of one peer, and goes with it: with the share, the peer and the key that it rests on.
 * IR2 the bytes of all of them have a bound; whoever holds most gives way, so that nobody keeps another from its part.
 * IR3 each has an end: it becomes the feed, is refused, is overtaken, or is given up when nothing comes for two minutes, whether its
 *    session goes on, is over, or was cut by a restart. Then nothing of it is left, in memory and in the store.
 * IR4 what was kept behind it is applied in order, a few segments in each step, and what comes meanwhile queues up behind them; it goes
 *    when the feed is asked for again, replaced, frozen or forgotten, and with its session.
 * IR5 taking them in has a bound for each peer in the steps that it takes, over all its snapshots and sessions: a short frame may announce
 *    again what takes seconds to put into a table, and codecs make much of little. What is beyond that waits, and is not refused.
 */
export class IncomingSnapshots implements Coming {
  readonly #world: World;
  readonly #feeds: ReadonlyMap<string, ImportFeed>;
  readonly #receivers = new Map<string, Receiver>();
  readonly #staged = new Map<string, Staged>();
  readonly #behind = new Map<string, Behind>();
  readonly #work = new Map<string, Work>();
  readonly #rate: Rate;
  #nextJob = 1;
  /** Until when what a restart found is kept. */
  #stagedUntil = Number.POSITIVE_INFINITY;

  constructor(world: World, feeds: ReadonlyMap<string, ImportFeed>) {
    this.#world = world;
    this.#feeds = feeds;
    this.#rate = { perSecond: STEPS_PER_SECOND, burst: LONGEST * Math.ceil(world.o.limits.snapshotBytes / STEP_BYTES) };
  }

  get(peer: string): Receiver | undefined {
    return this.#receivers.get(peer);
  }

  /** byJob finds the receive that has a part decompressed. */
  byJob(job: number): readonly [string, Receiver] | undefined {
    for (const entry of this.#receivers) if (entry[1].owns(job)) return entry;
    return undefined;
  }

  /** intakeOf is how much may come in of a peer's feed: its part of the memory that all peers have, of which the others hold some. */
  intakeOf(peer: string): Intake {
    const { nodesPerPeer: nodes, bytesPerPeer, peersBytes } = this.#world.o.limits;
    let others = 0;
    for (const feed of this.#feeds.values())
      if (feed.hubId !== peer) others += Math.max(feed.memory, this.#receivers.get(feed.hubId)?.memory ?? 0);
    const part = partOf(peersBytes, others);
    return part < bytesPerPeer ? { nodes, bytes: part, limit: "memory_bytes" } : { nodes, bytes: bytesPerPeer, limit: "bytes_per_peer" };
  }

  /** heldDigests names the parts that need not be sent again. */
  heldDigests(peer: string): Uint8Array[] {
    return this.#receivers.get(peer)?.heldDigests() ?? [...(this.#staged.get(peer)?.parts.keys() ?? [])].map(fromHex);
  }

  /** known is what a new snapshot of a peer may take over, and the generation that it is kept under. */
  known(peer: string): { readonly parts: ReadonlyMap<string, HeldPart>; readonly gen: number | undefined } {
    const before = this.#receivers.get(peer);
    const staged = this.#staged.get(peer);
    return { parts: before?.heldParts() ?? staged?.parts ?? new Map<string, HeldPart>(), gen: before?.gen ?? staged?.gen };
  }

  nextJob(): number {
    return this.#nextJob++;
  }

  work(peer: string, steps: number): boolean {
    const { mono } = this.#world.now;
    let work = this.#work.get(peer);
    if (work === undefined) this.#work.set(peer, (work = { bucket: new TokenBucket(this.#rate, mono), waitsUntil: mono }));
    const waitMs = work.bucket.take(this.#rate, mono, steps);
    work.waitsUntil = mono + waitMs;
    return waitMs === 0;
  }

  /** goesOnAt is when the next step may be done for a peer. */
  #goesOnAt(peer: string): number {
    return Math.max(this.#world.now.mono, this.#work.get(peer)?.waitsUntil ?? 0);
  }

  /** forget: a hub is no peer any more. */
  forget(peer: string): void {
    this.#work.delete(peer);
  }

  /** begin takes the place of what was half here of the peer. */
  begin(peer: string, receiver: Receiver): void {
    this.#staged.delete(peer);
    this.#behind.delete(peer);
    this.#receivers.set(peer, receiver);
  }

  /** takeReady gives out one of those that have something to put into their table; peers take turns. */
  takeReady(): readonly [string, Receiver] | undefined {
    for (const entry of this.#receivers) {
      const [peer, receiver] = entry;
      if (!receiver.ready || this.#goesOnAt(peer) > this.#world.now.mono) continue;
      this.#receivers.delete(peer);
      this.#receivers.set(peer, receiver);
      return entry;
    }
    return undefined;
  }

  /** done: it has become the feed. What is kept behind it is applied next, if its session still stands. */
  done(peer: string, session: PeerSession | undefined): void {
    const kept = this.#receivers.get(peer)?.kept;
    this.#receivers.delete(peer);
    if (session !== undefined && kept !== undefined && (kept.size > 0 || kept.missed)) this.putBehind({ session, kept });
  }

  /** takeBehind gives out one of those with segments to apply; peers take turns. */
  takeBehind(): Behind | undefined {
    const [behind] = this.#behind.values();
    if (behind !== undefined) this.#behind.delete(behind.session.peer);
    return behind;
  }

  /** putBehind: more of it is to be applied. */
  putBehind(behind: Behind): void {
    this.#behind.set(behind.session.peer, behind);
  }

  /** dropBehind: what is kept behind a snapshot of a peer is not applied any more. */
  dropBehind(peer: string): void {
    this.#behind.delete(peer);
  }

  /**
   * waits: a segment that follows a snapshot which is not whole yet is kept for then. What the feed can take now it does not wait for,
   * unless the snapshot comes because of other rules: if the feed went on, it would be overtaken each time while its owner is busy.
   * What comes while those that were kept are applied waits behind them.
   */
  waits(peer: string, feed: ImportFeed | undefined, item: CameSegment): boolean {
    const receiver = this.#receivers.get(peer);
    const { share, epoch, seq } = item.header;
    const behind = this.#behind.get(peer)?.kept;
    if (feed !== undefined && behind?.of(item.header) === true && seq > feed.seq) {
      behind.keep(item);
      return true;
    }
    if (receiver === undefined || !receiver.before({ share, epoch }, seq)) return false;
    if (feed !== undefined && !feed.refetch.wanted && feed.share === share && feed.epoch === epoch && seq <= feed.seq + 1) return false;
    receiver.kept.keep(item);
    return true;
  }

  /**
   * overtaken: the feed went past the snapshot that is coming in, which must not take back what was acknowledged since. One that it has
   * reached brings nothing new, unless it comes because of other rules.
   */
  overtaken(feed: ImportFeed): void {
    const beyond = feed.refetch.wanted ? feed.seq : feed.seq + 1;
    if (this.#receivers.get(feed.hubId)?.before(feed, beyond) === true) this.cancel(feed.hubId);
  }

  /** frozen: the feed forked. A snapshot of that history which is coming in would thaw it. */
  frozen(feed: ImportFeed): void {
    this.#behind.delete(feed.hubId);
    const coming = this.#receivers.get(feed.hubId)?.manifest;
    if (coming?.share === feed.share && coming.epoch <= feed.epoch) this.cancel(feed.hubId);
  }

  /** shareOf is the share of what is half here of a peer; undefined if nothing is. One that an older version left has no name. */
  shareOf(peer: string): string | undefined {
    return this.#receivers.get(peer)?.manifest.share ?? this.#staged.get(peer)?.share;
  }

  /** cancel gives up what is half here of a peer. */
  cancel(peer: string): void {
    this.#behind.delete(peer);
    const gen = this.#receivers.get(peer)?.gen ?? this.#staged.get(peer)?.gen;
    if (gen === undefined) return;
    this.#receivers.delete(peer);
    this.#staged.delete(peer);
    const ops: StoreOp[] = [{ op: "delete", space: "meta", key: `stage/${peer}` }];
    const feed = this.#feeds.get(peer);
    if (feed !== undefined) ops.unshift({ op: "drop", log: feed.checkpoint.log(gen) });
    this.#world.persist(ops);
  }

  /** bytesOf is what is kept of a peer's snapshot in memory until it is whole. */
  bytesOf(peer: string): number {
    return this.#receivers.get(peer)?.bytes ?? this.#staged.get(peer)?.bytes ?? this.#behind.get(peer)?.kept.bytes ?? 0;
  }

  /** tooMuch is the peer with most, if all together are too many bytes. */
  tooMuch(): string | undefined {
    let sum = 0;
    let most: string | undefined;
    for (const peer of [...this.#receivers.keys(), ...this.#staged.keys(), ...this.#behind.keys()]) {
      sum += this.bytesOf(peer);
      if (most === undefined || this.bytesOf(peer) > this.bytesOf(most)) most = peer;
    }
    return sum > this.#world.o.limits.incomingBytes ? most : undefined;
  }

  deadline(): number {
    if (this.#behind.size > 0) return this.#world.now.mono;
    let next = this.#staged.size > 0 ? this.#stagedUntil : Number.POSITIVE_INFINITY;
    for (const [peer, receiver] of this.#receivers)
      next = Math.min(next, receiver.ready ? this.#goesOnAt(peer) : receiver.movedAt + IDLE_MS);
    return next;
  }

  /**
   * overdue are the peers of whose snapshot nothing came for too long. One with something to put into its table waits for this hub: while
   * the store refuses, nothing is put in.
   */
  overdue(): string[] {
    const { mono } = this.#world.now;
    const late = [...this.#receivers].filter(([, it]) => !it.ready && it.movedAt + IDLE_MS <= mono).map(([peer]) => peer);
    return mono < this.#stagedUntil ? late : [...late, ...this.#staged.keys()];
  }

  start(): void {
    this.#stagedUntil = this.#world.now.mono + IDLE_MS;
  }

  /** restore finds what was half here of a peer; its generation is answered. */
  restore(reader: StoreReader, peer: string): number | undefined {
    const staged = restoreStage(this.#world, reader, peer);
    if (staged !== undefined) this.#staged.set(peer, staged);
    return staged?.gen;
  }
}
