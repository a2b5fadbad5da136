import type { StoreOp } from "#kernel/core.ts";
import type { Failure } from "#kernel/error.ts";
import { BEAT_MS } from "#kernel/instant.ts";
import { messageOf } from "#kernel/wire/bytes.ts";
import { equalBytes } from "../codec/wire.ts";
import { type CameSegment, digestAt, readSegment } from "../feed/segment.ts";
import type { FeedPosition, PeerFrame } from "../messages.ts";
import type { PeerSession } from "../peer-session.ts";
import { failure, limitFailure, type World } from "../world.ts";
import { Applier, tooManyBlocks } from "./apply.ts";
import { FROZEN, ImportFeed, type PeerKey } from "./import-feed.ts";
import { IncomingSnapshots } from "./incoming-snapshots.ts";
import { PeerKeys } from "./peer-keys.ts";
import { Receiver } from "./snapshot-receiver.ts";

/** At most one refusal per session in this time, so that a burst after a gap is answered once. */
const NACK_EVERY_MS = 100;
/** NO_SUCH_SNAPSHOT is why a snapshot is not looked at. */
const NO_SUCH_SNAPSHOT = failure("SEGMENT_INVALID", "the snapshot is malformed, of another hub, or was not asked for");
/** A feed that is asked for, and does not move although its owner is ahead, is asked for again after this. */
const REOPEN_MS = 10_000;

/**
 * Importer takes in the feeds of peers: one per peer, only what the peer itself owns (B0-2), each segment verified, checked whole,
 * applied whole, stored verbatim and acknowledged when it is durable.
 */
export class Importer {
  readonly #world: World;
  readonly applier: Applier;
  readonly feeds = new Map<string, ImportFeed>();
  readonly #keys: PeerKeys;
  readonly receives: IncomingSnapshots;
  readonly #sessions: ReadonlyMap<number, PeerSession>;
  automation = false;
  /** gone is told of feeds that were forgotten. */
  gone: (head: FeedPosition) => void = () => {};

  constructor(world: World, sessions: ReadonlyMap<number, PeerSession>) {
    this.#world = world;
    this.#keys = new PeerKeys(world);
    this.#sessions = sessions;
    this.receives = new IncomingSnapshots(world, this.feeds);
    this.applier = new Applier(world.o.codec, world.o.importRules, world.o.limits);
  }

  key(peer: string, key: PeerKey, revokesUpTo: number): void {
    this.#keys.take(peer, key, revokesUpTo);
    const receiver = this.receives.get(peer);
    if (receiver !== undefined && this.#keys.good(peer, receiver.manifest.keySerial) === undefined)
      this.#giveUp(peer, "its key was revoked");
  }

  /** hubs are those of which something is kept here. */
  hubs(): string[] {
    return [...new Set([...this.feeds.keys(), ...this.#keys.peers()])];
  }

  /** removePeer deletes what is held of a hub that is no longer a peer. */
  removePeer(hubId: string): void {
    for (const session of this.#sessions.values()) if (session.peer === hubId) session.unask();
    this.#forget(hubId);
    this.#keys.forget(hubId);
    this.receives.forget(hubId);
  }

  frame(session: PeerSession, frame: PeerFrame): void {
    switch (frame.type) {
      case "feed_offer":
        this.#offer(session, frame.head);
        break;
      case "segment":
        this.#segment(session, frame.segment);
        break;
      case "snapshot":
        this.#snapshot(session, frame.manifest);
        break;
      case "snapshot_part":
        this.#part(session, frame.index, frame.data);
        break;
      case "forget":
        this.#forgetShare(session, frame.share);
        session.send({ type: "forget_done", share: frame.share });
    }
    this.#noteSynced(session);
  }

  /** heads takes what the peer's ping or pong says about its feed: the proof of freshness (S0-6, D-1). */
  heads(session: PeerSession, heads: readonly FeedPosition[], rttMs: number | undefined): void {
    session.rttMs = rttMs ?? session.rttMs;
    const feed = this.feeds.get(session.peer);
    if (feed === undefined) return;
    const share = feed.epoch === 0 ? session.offered?.share : feed.share;
    // Epoch 0 says that nothing is held, which is not where an owner can be.
    const head = heads.find(({ hubId, share: of, epoch }) => hubId === session.peer && of === share && epoch > 0);
    if (head === undefined || feed.frozen) return;
    if (head.epoch === feed.epoch && head.seq === feed.seq && !equalBytes(head.digest, feed.digest))
      return this.#fork(session, feed, "the owner's head has another digest than what is held at that position");
    feed.heard(head.epoch, head.seq, session.saidAt());
    if (feed.epoch > 0 && session.asked(feed.share) && this.#wants(session, feed, head)) this.#open(session, head);
    this.#noteSynced(session);
  }

  /** wants tells whether to ask again on a session that stands: the owner is ahead and nothing came (D-18), or all of the feed is wanted. */
  #wants({ openedAt = 0 }: PeerSession, feed: ImportFeed, head: FeedPosition): boolean {
    const { mono } = this.#world.now;
    if ((head.epoch > feed.epoch || head.seq > feed.seq) && mono - openedAt > REOPEN_MS) return true;
    return feed.refetch.due(mono) && this.receives.get(feed.hubId) === undefined;
  }

  #offer(session: PeerSession, head: FeedPosition | undefined): void {
    session.offerSeen = true;
    session.offered = head;
    session.offeredAt = session.saidAt();
    if (head === undefined) return;
    if (head.hubId !== session.peer) {
      this.#refuse(session, undefined, failure("SEGMENT_INVALID", "a hub offers its own feeds only", { hub: head.hubId }), false);
      session.offered = undefined;
      return;
    }
    if (head.epoch === 0 || head.share === "") {
      this.#refuse(session, undefined, failure("SEGMENT_INVALID", "an offer names the share, and the epoch from 1"), false);
      session.offered = undefined;
      return;
    }
    const unknown = failure("FEED_KEY_INVALID", "the feed key of the hub is not known here");
    if (!this.#keys.has(session.peer)) return this.#refuse(session, undefined, unknown, false);
    const feed = this.feeds.get(session.peer);
    if (feed !== undefined && feed.share === head.share) {
      // An offer says anew where the owner is. It may be less than what was said before, by mistake or before a backup came back.
      feed.unheard();
      this.#hear(session, feed, head);
    }
    this.#open(session, head);
  }

  /** hear notes where the owner's head is, unless what is held there is something else: that is for the segments to show. */
  #hear(session: PeerSession, feed: ImportFeed, head: FeedPosition): void {
    const differs = head.epoch === feed.epoch && head.seq === feed.seq && !equalBytes(head.digest, feed.digest);
    if (!differs) feed.heard(head.epoch, head.seq, session.saidAt());
  }

  #open(session: PeerSession, head: FeedPosition): void {
    session.openedAt = this.#world.now.mono;
    session.opening = true;
    session.nackedAt = Number.NEGATIVE_INFINITY;
    // It comes again.
    this.receives.dropBehind(session.peer);
    const feed = this.feeds.get(session.peer);
    const anew = feed?.refetch.asks(session.openedAt, this.receives.get(session.peer) !== undefined);
    const same = feed !== undefined && feed.epoch > 0 && feed.share === head.share && !anew;
    const from = same ? feed.head : { hubId: session.peer, share: head.share, epoch: 0, seq: 0, digest: new Uint8Array(0) };
    const heldParts = this.receives.heldDigests(session.peer);
    const proof = same ? feed.proof() : undefined;
    session.send({ type: "feed_open", from, heldParts, ...(proof === undefined ? {} : { proof }) });
  }

  // ---- segments

  #segment(session: PeerSession, bytes: Uint8Array): void {
    const { codec, crypto } = this.#world.o;
    // What stays in the ring must not keep the buffer that it came in: the network reads into pieces of 64 KiB.
    const item = readSegment(codec, crypto, messageOf(bytes, 0));
    const feed = this.feeds.get(session.peer);
    if (item === undefined) return this.#refuse(session, feed, failure("SEGMENT_INVALID", "the segment is malformed"), true);
    const { header } = item;
    if (header.broken !== undefined) return this.#refuse(session, feed, failure("SEGMENT_INVALID", header.broken), true);
    if (header.hubId !== session.peer)
      return this.#refuse(
        session,
        feed,
        failure("SEGMENT_INVALID", "the segment is of another hub than the one that sent it", { hub: header.hubId }),
        false,
      );
    if (session.openedAt === undefined) return this.#refuse(session, feed, failure("SEGMENT_INVALID", "the feed was not asked for"), false);
    if (!this.receives.waits(session.peer, feed, item)) return this.#follow(session, feed, item);
    this.#relieve();
  }

  /** follow takes a segment in if it is the one after what is held. */
  #follow(session: PeerSession, feed: ImportFeed | undefined, item: CameSegment): void {
    const { header } = item;
    if (feed === undefined || feed.epoch === 0 || feed.share !== header.share)
      return this.#refuse(session, feed, failure("FEED_GAP", "nothing is held of the feed"), true);
    if (feed.frozen) return this.#refuse(session, feed, FROZEN, false);
    if (header.epoch === feed.epoch && header.seq <= feed.seq) return this.#again(session, feed, item);
    // What was under way when the feed was asked for again comes again.
    if (session.resuming && header.epoch === feed.epoch && header.seq > feed.seq + 1) return;
    if (header.epoch !== feed.epoch || header.seq !== feed.seq + 1)
      return this.#refuse(
        session,
        feed,
        failure("FEED_GAP", "a segment is missing before this one", {
          want: `${feed.epoch}/${feed.seq + 1}`,
          got: `${header.epoch}/${header.seq}`,
        }),
        header.epoch !== feed.epoch,
      );
    const problem = this.#keys.problemOf(session.peer, item);
    if (problem !== undefined) return this.#refuse(session, feed, problem, problem.reason === "SEGMENT_INVALID");
    if (!equalBytes(header.prev, feed.digest)) return this.#fork(session, feed, "a segment follows another history than what is held");
    const { segmentBlocks } = this.#world.o.limits;
    const { blocks, next } = this.#world.o.codec.decodePiece(item.payload, 0, Number.POSITIVE_INFINITY, segmentBlocks) ?? {};
    if (blocks === undefined) return this.#refuse(session, feed, failure("SEGMENT_INVALID", "the payload is malformed"), true);
    // A snapshot, which is taken in by steps, may have as many as it likes.
    if (next !== item.payload.length) return this.#refuse(session, feed, tooManyBlocks(segmentBlocks), true);
    const intake = this.receives.intakeOf(feed.hubId);
    const wrong = this.applier.check(feed.table, feed.skipped, blocks, header.count, header.seq === 1, intake);
    if (wrong !== undefined) return this.#refuse(session, feed, wrong, wrong.reason === "SEGMENT_INVALID");
    session.clock(header.hlc);
    const applied = this.applier.apply(feed.table, feed.skipped, blocks, feed.ordinal);
    const { entries, dropped, kept } = applied;
    if (this.automation)
      for (const block of kept ?? blocks)
        if (block.kind === "state") this.#world.emit({ kind: "automate", hub: feed.hubId, batch: block.batch, names: feed.table });
    feed.entries += entries;
    feed.dropped += dropped;
    feed.take(item, applied);
    feed.advanced(session.saidAt() - session.delayOf(header.beat * BEAT_MS));
    this.receives.overtaken(feed);
    session.openedAt = this.#world.now.mono;
    session.took();
    this.#world.emit({ kind: "advanced", hub: feed.hubId, share: feed.share, epoch: feed.epoch, seq: feed.seq });
    this.#world.event("segment_applied", "DEBUG", "segment applied", {
      hub: feed.hubId,
      share: feed.share,
      count: entries,
      bytes: item.byteLength,
    });
    session.send({ type: "ack", position: feed.head });
  }

  /** again: a segment at a position that is held. The same one is acknowledged again, another one is a fork. */
  #again(session: PeerSession, feed: ImportFeed, item: CameSegment): void {
    const held = digestAt(feed, feed.ring, item.header.seq);
    if (held === undefined || equalBytes(held, item.digest)) return session.send({ type: "ack", position: feed.head });
    if (this.#keys.problemOf(session.peer, item) === undefined) this.#fork(session, feed, "two valid segments have the same position");
    else this.#refuse(session, feed, failure("SEGMENT_INVALID", "the signature is not valid"), false);
  }

  #fork(session: PeerSession, feed: ImportFeed, text: string): void {
    feed.freeze();
    this.receives.frozen(feed);
    this.#world.event("fork", "ERROR", text, {
      hub: feed.hubId,
      share: feed.share,
      fields: { epoch: String(feed.epoch), seq: String(feed.seq) },
    });
    this.#refuse(session, feed, failure("FEED_FORK", text), false, true);
  }

  #refuse(session: PeerSession, feed: ImportFeed | undefined, problem: Failure, wantSnapshot: boolean, always = false): void {
    if (!always && this.#world.now.mono - session.nackedAt < NACK_EVERY_MS) return;
    session.nackedAt = this.#world.now.mono;
    // A snapshot that came and could not be taken in; that it is too old says nothing of the next one.
    if (always && problem.reason !== "FEED_GAP") feed?.refetch.answered(session.nackedAt);
    session.trouble.taken(problem);
    const held = feed?.head ?? { hubId: session.peer, share: session.offered?.share ?? "", epoch: 0, seq: 0, digest: new Uint8Array(0) };
    this.#world.event("segment_refused", "WARNING", problem.message, {
      hub: session.peer,
      share: held.share,
      fields: { reason: problem.reason },
    });
    if (problem.reason === "LIMIT_EXCEEDED")
      this.#world.event("limit", "WARNING", problem.message, { hub: session.peer, fields: problem.facts ?? {} });
    session.send({ type: "nack", held, failure: problem, wantSnapshot });
  }

  // ---- snapshots

  #snapshot(session: PeerSession, signed: Uint8Array): void {
    const parts = this.#world.o.codec.decodeSigned(signed);
    const manifest = parts && this.#world.o.codec.decodeManifest(parts.body);
    const held = this.feeds.get(session.peer);
    if (parts === undefined || manifest === undefined || manifest.hubId !== session.peer || !session.asked(manifest.share))
      return this.#refuse(session, held, NO_SUCH_SNAPSHOT, false);
    if (manifest.broken !== undefined) return this.#refuse(session, held, failure("SEGMENT_INVALID", manifest.broken), false);
    if (!this.#keys.signedManifest(session.peer, manifest, parts))
      return this.#refuse(session, held, failure("FEED_KEY_INVALID", "the snapshot is not signed by a key of the hub"), false);
    const problem = Receiver.problemOf(this.#world, manifest, held);
    if (problem !== undefined) return this.#refuse(session, held, problem, false, true);
    const feed = held ?? new ImportFeed(this.#world, session.peer);
    this.feeds.set(session.peer, feed);
    if (held?.share !== manifest.share && session.offered !== undefined)
      feed.heard(session.offered.epoch, session.offered.seq, session.offeredAt);
    const receiver = new Receiver(this.#world, this.applier, feed, manifest, signed, this.receives);
    this.receives.begin(session.peer, receiver);
    session.opening = false;
    session.openedAt = this.#world.now.mono;
    this.#conclude(session, feed, receiver, receiver.step());
  }

  #part(session: PeerSession, index: number, data: Uint8Array): void {
    const receiver = this.receives.get(session.peer);
    const feed = this.feeds.get(session.peer);
    if (receiver === undefined || feed === undefined) return;
    session.openedAt = this.#world.now.mono;
    this.#conclude(session, feed, receiver, receiver.part(index, data));
    this.#relieve();
  }

  /** relieve gives up the snapshot of which most is kept while all of them together are too much (IR2). */
  #relieve(): void {
    for (let most = this.receives.tooMuch(); most !== undefined; most = this.receives.tooMuch()) {
      const max = this.#world.o.limits.incomingBytes;
      const why = "too much is kept of snapshots that come in";
      this.#giveUp(most, why, limitFailure("incoming_bytes", max, why));
    }
  }

  /** takeIn puts a piece of a snapshot that has come into its table. */
  #takeIn(): void {
    const next = this.receives.takeReady();
    if (next !== undefined) this.#tookIn(...next, next[1].step());
  }

  #tookIn(peer: string, receiver: Receiver, problem: Failure | undefined): void {
    const session = this.#sessionOf(peer);
    this.#conclude(session, this.feeds.get(peer) as ImportFeed, receiver, problem);
    this.#relieve();
    if (session !== undefined) this.#noteSynced(session);
  }

  decompressed(job: number, raw: Uint8Array | undefined): void {
    const found = this.receives.byJob(job);
    if (found !== undefined) this.#tookIn(...found, found[1].decompressed(job, raw));
  }

  #sessionOf(peer: string): PeerSession | undefined {
    for (const session of this.#sessions.values()) if (session.peer === peer) return session;
    return undefined;
  }

  #conclude(session: PeerSession | undefined, feed: ImportFeed, receiver: Receiver, problem: Failure | undefined): void {
    if (problem !== undefined) {
      this.#drop(feed.hubId);
      // Also shortly after another refusal: its owner sends nothing more until it hears.
      if (session !== undefined) this.#refuse(session, feed, problem, false, true);
      return;
    }
    if (!receiver.complete) return;
    receiver.finish();
    this.receives.done(feed.hubId, session);
    feed.reached();
    this.#world.event("snapshot", "INFO", "snapshot taken in", { hub: feed.hubId, share: feed.share, count: feed.table.size });
    this.#world.emit({ kind: "advanced", hub: feed.hubId, share: feed.share, epoch: feed.epoch, seq: feed.seq });
    if (session === undefined) return;
    const { opening } = session;
    session.took();
    session.send({ type: "ack", position: feed.head });
    // It was asked for again as one whose parts are held, which are gone: what its owner leaves out because of them would not come.
    if (opening) this.#resume(session);
  }

  /** resume asks for the feed where it stands; what is under way from further on comes again. */
  #resume(session: PeerSession): void {
    if (session.offered === undefined) return;
    session.resuming = true;
    this.#open(session, session.offered);
  }

  /** catchUp applies some of the segments that were kept behind a snapshot (IR4). */
  #catchUp(): void {
    const behind = this.receives.takeBehind();
    if (behind === undefined) return;
    const { session, kept } = behind;
    const feed = this.feeds.get(session.peer);
    if (this.#sessions.get(session.id) !== session || session.openedAt === undefined) return;
    if (feed === undefined || !kept.of(feed) || feed.frozen) return;
    for (const item of kept.take()) {
      this.#follow(session, feed, item);
      // It was refused, and its owner has been told.
      if (feed.seq !== item.header.seq) return;
    }
    if (kept.size > 0) this.receives.putBehind(behind);
    else if (kept.missed) this.#resume(session);
    this.#noteSynced(session);
  }

  /**
   * giveUp ends a snapshot that comes in for a reason of this hub's own; if there is a session, it is asked for again later. That is said
   * even shortly after a refusal: of a feed of which nothing is held the owner would else never hear again.
   */
  #giveUp(peer: string, why: string, problem?: Failure): void {
    const session = this.#sessionOf(peer);
    this.#world.event("snapshot", "WARNING", "a snapshot that was coming in was given up", { hub: peer, fields: { why } });
    this.#drop(peer);
    if (session !== undefined && problem !== undefined)
      this.#refuse(session, this.feeds.get(peer), problem, problem.reason === "FEED_GAP", true);
  }

  /** drop gives up what is half here of a peer, and the feed with it that would have come of it. */
  #drop(peer: string): void {
    this.receives.cancel(peer);
    const feed = this.feeds.get(peer);
    if (feed?.epoch === 0 && feed.forked === undefined) this.feeds.delete(peer);
  }

  #noteSynced(session: PeerSession): void {
    if (session.synced || !session.offerSeen) return;
    if (session.behind(this.feeds.get(session.peer))) return;
    session.synced = true;
    this.#world.emit({ kind: "synced", session: session.id });
  }

  /** forgetShare deletes all that there is of a share, also what is only half here: nothing of it may come back after the answer. */
  #forgetShare(session: PeerSession, share: string): void {
    if (session.offered?.share === share) session.unask();
    const { peer } = session;
    if (this.feeds.get(peer)?.share === share || this.feeds.get(peer)?.forked?.share === share) return this.#forget(peer);
    const half = this.receives.shareOf(peer);
    if (half === share || half === "") this.#drop(peer);
  }

  #forget(hubId: string): void {
    const feed = this.feeds.get(hubId);
    this.#drop(hubId);
    if (feed === undefined) return;
    const ops: StoreOp[] = [];
    feed.forget(ops);
    this.feeds.delete(hubId);
    this.#world.persist(ops);
    if (feed.epoch === 0) return;
    this.#world.event("feed", "INFO", "a peer's feed was deleted", { hub: hubId, share: feed.share, count: feed.table.size });
    this.gone(feed.head);
  }

  // ---- time and store

  /** start says what is held above a limit that was lowered: it is kept, and does not grow. */
  start(): void {
    this.receives.start();
    for (const feed of this.feeds.values()) feed.start();
  }

  deadline(): number {
    let next = this.receives.deadline();
    for (const feed of this.feeds.values()) if (feed.epoch > 0) next = Math.min(next, feed.checkpoint.deadline());
    return next;
  }

  tick(): void {
    const late = failure("FEED_GAP", "nothing of the snapshot came for too long");
    // What is held of the feed tells by the owner's next head whether more is needed.
    for (const peer of this.receives.overdue()) this.#giveUp(peer, late.message, this.feeds.get(peer)?.epoch === 0 ? late : undefined);
    this.#takeIn();
    this.#catchUp();
    for (const feed of this.feeds.values()) feed.checkpointStep();
  }
}
