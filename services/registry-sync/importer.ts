import type { StoreOp } from "#kernel/core.ts";
import type { Failure } from "#kernel/error.ts";
import { tooFarAhead } from "#kernel/hlc.ts";
import { Applier, type Intake } from "./apply.ts";
import { ImportFeed, type PeerKey } from "./import-feed.ts";
import type { FeedPosition, PeerFrame } from "./messages.ts";
import { CODEC, type StoreReader } from "./ports.ts";
import { type HeldPart, Receiver, restoreStage } from "./receive.ts";
import { readSegment, SNAPSHOT_DOMAIN, verifySegment } from "./segment.ts";
import type { PeerSession } from "./session.ts";
import { concat, equalBytes, fromHex } from "./wire.ts";
import { failure, type World } from "./world.ts";

/** At most one refusal per session in this time, so that a burst after a gap is answered once. */
const NACK_EVERY_MS = 100;
/** A feed that is asked for, and does not move although its owner is ahead, is asked for again after this. */
const REOPEN_MS = 10_000;

/**
 * Importer takes in the feeds of peers: one per peer, only what the peer itself owns (B0-2), each segment verified, checked whole,
 * applied whole, stored verbatim and acknowledged when it is durable.
 */
export class Importer {
  readonly #world: World;
  readonly #applier: Applier;
  readonly #intake: Intake;
  readonly feeds = new Map<string, ImportFeed>();
  readonly #keys = new Map<string, Map<number, PeerKey>>();
  readonly #receivers = new Map<string, Receiver>();
  /** Parts held from transfers that were interrupted by a restart. */
  readonly #staged = new Map<string, { readonly parts: ReadonlyMap<string, HeldPart>; readonly gen: number }>();
  #nextJob = 1;
  automation = false;
  /** gone is told of feeds that were forgotten. */
  gone: (head: FeedPosition) => void = () => {};

  constructor(world: World) {
    this.#world = world;
    this.#applier = new Applier(world.o.codec, world.o.importRules, world.o.limits);
    this.#intake = { nodes: world.o.limits.nodesPerPeer };
  }

  key(peer: string, key: PeerKey, revokesUpTo: number): void {
    const keys = this.#keys.get(peer) ?? new Map<number, PeerKey>();
    this.#keys.set(peer, keys);
    for (const serial of [...keys.keys()]) if (serial <= revokesUpTo) keys.delete(serial);
    if (key.serial > revokesUpTo) keys.set(key.serial, key);
    // Two keys are enough for a planned rotation; older ones go.
    while (keys.size > 4) keys.delete(Math.min(...keys.keys()));
  }

  /** removePeer deletes what is held of a hub that is no longer a peer. */
  removePeer(hubId: string): void {
    this.#forget(hubId);
    this.#keys.delete(hubId);
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
        if (this.feeds.get(session.peer)?.share === frame.share) this.#forget(session.peer);
        session.send({ type: "forget_done", share: frame.share });
        break;
      default:
        break;
    }
    this.#noteSynced(session);
  }

  /** heads takes what the peer's ping or pong says about its feed: the proof of freshness (S0-6, D-1). */
  heads(session: PeerSession, heads: readonly FeedPosition[], rttMs: number | undefined): void {
    session.rttMs = rttMs ?? session.rttMs;
    const feed = this.feeds.get(session.peer);
    if (feed === undefined || feed.epoch === 0) return;
    const head = heads.find((candidate) => candidate.hubId === session.peer && candidate.share === feed.share);
    if (head === undefined || feed.frozen) return;
    if (head.epoch === feed.epoch) feed.headSeq = Math.max(feed.headSeq, head.seq);
    if (head.epoch === feed.epoch && head.seq === feed.seq) {
      if (equalBytes(head.digest, feed.digest)) feed.proven((session.rttMs ?? 0) / 2);
      else this.#fork(session, feed, "the owner's head has another digest than what is held at that position");
    } else if (
      (head.epoch > feed.epoch || head.seq > feed.seq) &&
      this.#world.now.mono - (session.openedAt ?? 0) > REOPEN_MS &&
      session.openedAt !== undefined
    ) {
      // It is ahead and nothing came: ask again (D-18).
      this.#open(session, head);
    }
    this.#noteSynced(session);
  }

  #offer(session: PeerSession, head: FeedPosition | undefined): void {
    session.offerSeen = true;
    session.offered = head;
    if (head === undefined) return;
    if (head.hubId !== session.peer) {
      this.#refuse(session, undefined, failure("SEGMENT_INVALID", "a hub offers its own feeds only", { hub: head.hubId }), false);
      session.offered = undefined;
      return;
    }
    if (!this.#keys.has(session.peer)) {
      this.#refuse(session, undefined, failure("FEED_KEY_INVALID", "the feed key of the hub is not known here"), false);
      return;
    }
    const feed = this.feeds.get(session.peer);
    if (feed !== undefined && feed.epoch === head.epoch && feed.share === head.share) {
      feed.headSeq = Math.max(feed.headSeq, head.seq);
      if (!feed.frozen && head.seq === feed.seq && equalBytes(head.digest, feed.digest)) feed.proven((session.rttMs ?? 0) / 2);
    }
    this.#open(session, head);
  }

  #open(session: PeerSession, head: FeedPosition): void {
    session.openedAt = this.#world.now.mono;
    session.nackedAt = Number.NEGATIVE_INFINITY;
    const feed = this.feeds.get(session.peer);
    const same = feed !== undefined && feed.epoch > 0 && feed.share === head.share;
    const from = same ? feed.head : { hubId: session.peer, share: head.share, epoch: 0, seq: 0, digest: new Uint8Array(0) };
    const heldParts =
      this.#receivers.get(session.peer)?.heldDigests() ?? [...(this.#staged.get(session.peer)?.parts.keys() ?? [])].map(fromHex);
    session.send({ type: "feed_open", from, heldParts });
  }

  // ---- segments

  #segment(session: PeerSession, bytes: Uint8Array): void {
    const { codec, crypto } = this.#world.o;
    const item = readSegment(codec, crypto, bytes);
    const feed = this.feeds.get(session.peer);
    if (item === undefined) return this.#refuse(session, feed, failure("SEGMENT_INVALID", "the segment is malformed"), true);
    const { header } = item;
    if (header.hubId !== session.peer)
      return this.#refuse(
        session,
        feed,
        failure("SEGMENT_INVALID", "the segment is of another hub than the one that sent it", { hub: header.hubId }),
        false,
      );
    if (session.openedAt === undefined) return this.#refuse(session, feed, failure("SEGMENT_INVALID", "the feed was not asked for"), false);
    if (feed === undefined || feed.epoch === 0 || feed.share !== header.share)
      return this.#refuse(session, feed, failure("FEED_GAP", "nothing is held of the feed"), true);
    if (feed.frozen)
      return this.#refuse(session, feed, failure("FEED_FORK", "the feed is frozen until its owner opens a new epoch"), false);
    if (header.epoch === feed.epoch && header.seq <= feed.seq) return this.#again(session, feed, item);
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
    const problem = this.#verify(session, item);
    if (problem !== undefined) return this.#refuse(session, feed, problem, problem.reason === "SEGMENT_INVALID");
    if (!equalBytes(header.prev, feed.digest)) return this.#fork(session, feed, "a segment follows another history than what is held");
    const blocks = codec.decodePayload(item.payload);
    if (blocks === undefined) return this.#refuse(session, feed, failure("SEGMENT_INVALID", "the payload is malformed"), true);
    const wrong = this.#applier.check(feed.table, feed.skipped, blocks, header.count, header.seq === 1, this.#intake);
    if (wrong !== undefined) return this.#refuse(session, feed, wrong, wrong.reason === "SEGMENT_INVALID");
    this.#clock(session, header.hlc);
    if (this.automation)
      for (const block of blocks) if (block.kind === "state") this.#world.emit({ kind: "automate", hub: feed.hubId, batch: block.batch });
    const { entries, dropped } = this.#applier.apply(feed.table, feed.skipped, blocks, feed.ordinal);
    feed.entries += entries;
    feed.dropped += dropped;
    feed.take(item);
    if (feed.seq >= feed.headSeq) feed.proven((session.rttMs ?? 0) / 2);
    session.openedAt = this.#world.now.mono;
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
  #again(session: PeerSession, feed: ImportFeed, item: NonNullable<ReturnType<typeof readSegment>>): void {
    const held = item.header.seq === feed.seq ? feed.digest : feed.ring.get(item.header.seq)?.digest;
    if (held === undefined || equalBytes(held, item.digest)) return session.send({ type: "ack", position: feed.head });
    if (this.#verify(session, item) === undefined) this.#fork(session, feed, "two valid segments have the same position");
    else this.#refuse(session, feed, failure("SEGMENT_INVALID", "the signature is not valid"), false);
  }

  #verify(session: PeerSession, item: NonNullable<ReturnType<typeof readSegment>>): Failure | undefined {
    const { header } = item;
    const key = this.#keys.get(session.peer)?.get(header.keySerial);
    if (key === undefined || key.notAfterWall < this.#world.now.wall)
      return failure("FEED_KEY_INVALID", "the segment is signed by a key that is not known, revoked or expired", {
        serial: String(header.keySerial),
      });
    if (header.codec !== CODEC.IDENTITY)
      return failure("UPGRADE_NEEDED", "the codec of the payload is not known here", { codec: String(header.codec) });
    const { crypto } = this.#world.o;
    if (header.rawLen !== item.payload.length || !equalBytes(crypto.hash(item.payload), header.payloadDigest))
      return failure("SEGMENT_INVALID", "the payload is not what the header says");
    return verifySegment(crypto, key.key, item.headerBytes, item.signature)
      ? undefined
      : failure("SEGMENT_INVALID", "the signature is not valid");
  }

  /** clock takes in the owner's clock. One that is too far ahead is not believed, but what it says is: order is that of the feed (D-9). */
  #clock(session: PeerSession, hlc: { readonly wallMs: number; readonly logical: number }): void {
    if (this.#world.hlc.receive(hlc, this.#world.now.wall) || session.clockWarned) return;
    session.clockWarned = true;
    const ahead = tooFarAhead(hlc, this.#world.now.wall, this.#world.o.limits.clockSkewMs);
    this.#world.event(
      "clock",
      "WARNING",
      ahead ? "a peer's clock is too far ahead and is not followed" : "a peer's clock reading is malformed",
      { hub: session.peer },
    );
  }

  #fork(session: PeerSession, feed: ImportFeed, text: string): void {
    feed.frozen = true;
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
    const { codec, crypto } = this.#world.o;
    const parts = codec.decodeSigned(signed);
    const manifest = parts === undefined ? undefined : codec.decodeManifest(parts.body);
    const held = this.feeds.get(session.peer);
    if (parts === undefined || manifest === undefined || manifest.hubId !== session.peer || session.openedAt === undefined)
      return this.#refuse(
        session,
        held,
        failure("SEGMENT_INVALID", "the snapshot is malformed, of another hub, or was not asked for"),
        false,
      );
    const key = this.#keys.get(session.peer)?.get(manifest.keySerial);
    if (
      key === undefined ||
      key.notAfterWall < this.#world.now.wall ||
      !crypto.verify(key.key, concat([SNAPSHOT_DOMAIN, parts.body]), parts.signature)
    )
      return this.#refuse(session, held, failure("FEED_KEY_INVALID", "the snapshot is not signed by a key of the hub"), false);
    const older =
      held !== undefined &&
      held.share === manifest.share &&
      (manifest.epoch < held.epoch || (manifest.epoch === held.epoch && manifest.asOfSeq < held.seq));
    if (older) return this.#refuse(session, held, failure("FEED_GAP", "the snapshot is older than what is held"), false);
    const problem = Receiver.problemOf(this.#world, manifest, held);
    if (problem !== undefined) return this.#refuse(session, held, problem, false);
    const feed = held ?? new ImportFeed(this.#world, session.peer);
    this.feeds.set(session.peer, feed);
    const before = this.#receivers.get(session.peer);
    const staged = this.#staged.get(session.peer);
    const known = before?.heldParts() ?? staged?.parts ?? new Map<string, HeldPart>();
    const stale = before?.gen ?? staged?.gen;
    const receiver = new Receiver(this.#world, this.#applier, feed, manifest, known, stale, () => this.#nextJob++);
    this.#staged.delete(session.peer);
    this.#receivers.set(session.peer, receiver);
    session.openedAt = this.#world.now.mono;
    this.#conclude(session, feed, receiver, receiver.advance());
  }

  #part(session: PeerSession, index: number, data: Uint8Array): void {
    const receiver = this.#receivers.get(session.peer);
    const feed = this.feeds.get(session.peer);
    if (receiver === undefined || feed === undefined) return;
    session.openedAt = this.#world.now.mono;
    this.#conclude(session, feed, receiver, receiver.part(index, data));
  }

  decompressed(job: number, raw: Uint8Array | undefined, sessions: Iterable<PeerSession>): void {
    for (const [peer, receiver] of this.#receivers) {
      if (!receiver.owns(job)) continue;
      const problem = receiver.decompressed(job, raw);
      const session = [...sessions].find((candidate) => candidate.peer === peer);
      this.#conclude(session, this.feeds.get(peer) as ImportFeed, receiver, problem);
      if (session !== undefined) this.#noteSynced(session);
      return;
    }
  }

  #conclude(session: PeerSession | undefined, feed: ImportFeed, receiver: Receiver, problem: Failure | undefined): void {
    if (problem !== undefined) {
      this.#receivers.delete(feed.hubId);
      this.#staged.delete(feed.hubId);
      this.#world.persist([
        { op: "drop", log: feed.checkpoint.log(receiver.gen) },
        { op: "delete", space: "meta", key: `stage/${feed.hubId}` },
      ]);
      if (session !== undefined) this.#refuse(session, feed, problem, false);
      return;
    }
    if (!receiver.complete) return;
    receiver.finish();
    this.#receivers.delete(feed.hubId);
    if (feed.epoch === session?.offered?.epoch) feed.headSeq = session.offered.seq;
    else feed.headSeq = feed.seq;
    if (feed.seq >= feed.headSeq) feed.proven((session?.rttMs ?? 0) / 2);
    this.#world.event("snapshot", "INFO", "snapshot taken in", { hub: feed.hubId, share: feed.share, count: feed.table.size });
    this.#world.emit({ kind: "advanced", hub: feed.hubId, share: feed.share, epoch: feed.epoch, seq: feed.seq });
    session?.send({ type: "ack", position: feed.head });
  }

  #noteSynced(session: PeerSession): void {
    if (session.synced || !session.offerSeen) return;
    const feed = this.feeds.get(session.peer);
    const { offered } = session;
    if (
      offered !== undefined &&
      (feed === undefined ||
        feed.share !== offered.share ||
        feed.epoch < offered.epoch ||
        (feed.epoch === offered.epoch && feed.seq < offered.seq))
    )
      return;
    session.synced = true;
    this.#world.emit({ kind: "synced", session: session.id });
  }

  #forget(hubId: string): void {
    const feed = this.feeds.get(hubId);
    const ops: StoreOp[] = [];
    const receiver = this.#receivers.get(hubId);
    const stale = receiver?.gen ?? this.#staged.get(hubId)?.gen;
    if (feed !== undefined && stale !== undefined) ops.push({ op: "drop", log: feed.checkpoint.log(stale) });
    ops.push({ op: "delete", space: "meta", key: `stage/${hubId}` });
    feed?.forget(ops);
    this.#receivers.delete(hubId);
    this.#staged.delete(hubId);
    this.feeds.delete(hubId);
    this.#world.persist(ops);
    if (feed === undefined) return;
    this.#world.event("feed", "INFO", "a peer's feed was deleted", { hub: hubId, share: feed.share, count: feed.table.size });
    this.gone(feed.head);
  }

  // ---- time and store

  /** start says what is held above a limit that was lowered: it is kept, and does not grow. */
  start(): void {
    const max = this.#world.o.limits.nodesPerPeer;
    for (const { hubId, share, table } of this.feeds.values()) {
      if (table.size <= max) continue;
      const fields = { limit: "nodes_per_peer", max: String(max) };
      const text = "a peer's feed has more nodes than this hub takes now; they are kept, and no more come";
      this.#world.event("limit", "WARNING", text, { hub: hubId, share, count: table.size, fields });
    }
  }

  deadline(): number {
    let next = Number.POSITIVE_INFINITY;
    for (const feed of this.feeds.values()) if (feed.epoch > 0) next = Math.min(next, feed.checkpoint.deadline());
    return next;
  }

  tick(): void {
    for (const feed of this.feeds.values()) feed.checkpointStep();
  }

  /** restore brings back all imported feeds; their age is unknown (D-7). */
  restore(reader: StoreReader): readonly StoreOp[] {
    const hubs = new Set<string>();
    for (const { key } of reader.space("meta")) {
      if (key.startsWith("table/") && key !== "table/.own") hubs.add(key.slice(6));
      if (key.startsWith("stage/")) hubs.add(key.slice(6));
    }
    const ops: StoreOp[] = [];
    for (const hubId of hubs) {
      const staged = restoreStage(this.#world, reader, hubId);
      if (staged !== undefined) this.#staged.set(hubId, staged);
      const feed = new ImportFeed(this.#world, hubId);
      const leftovers = feed
        .restore(reader, this.#applier)
        .filter((op) => op.op !== "drop" || staged === undefined || op.log !== feed.checkpoint.log(staged.gen));
      ops.push(...leftovers);
      this.feeds.set(hubId, feed);
    }
    return ops;
  }
}
