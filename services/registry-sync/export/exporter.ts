import type { Failure } from "#kernel/error.ts";
import { EMPTY, hex } from "../codec/wire.ts";
import { claimFields, knowsMore, signedByUs } from "../feed/claims.ts";
import type { OwnFeed } from "../feed/feed.ts";
import { Holds } from "../feed/holds.ts";
import type { FeedPosition, FeedProof, PeerShare, ShareRules } from "../messages.ts";
import { leastBehind, type PeerSession } from "../peer-session.ts";
import { EPOCH_REASON, type EpochReason } from "../ports.ts";
import type { FeedTable } from "../table/table.ts";
import type { World } from "../world.ts";
import { OwnFeeds } from "./own-feeds.ts";
import { type Incoming, lookForSilence, owedBy } from "./silent-peers.ts";
import type { SnapshotJob } from "./snapshot.ts";
import { SnapshotJobs } from "./snapshot-jobs.ts";
import { Turns } from "./turns.ts";

/** A feed that is too long for a snapshot is looked at again after this. */
const TOO_LONG_PAUSE_MS = 600_000;
const NOT_SHOWN = "a peer says that it knows more of this hub's feed, without proof; it is to take it anew";
const FORK_NOT_SEEN = "a peer says that this hub's feed forked, which this hub cannot see; it is to take it anew";

/**
 * Exporter offers each peer the feed of its share and serves cursors over it.
 *
 * EP1 a peer gets one share; another one is offered only after it has forgotten the old one durably.
 * EP2 nothing is queued per peer: a cursor reads the feed's ring while it has credit; one that falls off gets the snapshot.
 * EP3 nothing that came from a peer is ever in a feed (D-5).
 * EP4 a peer that shows, signed by this hub, a position that this hub does not have, makes it open an epoch above that: the store fell
 *    back in time. One that only says so is told to forget what it holds and takes the feed anew, which concerns nobody else.
 * EP5 what a peer refuses is tried again after a pause that grows up to a minute, and at once when something changed.
 * EP6 what a peer makes this hub do has a bound for each peer and minute, whatever it says and over however many sessions: snapshots that are
 *    built, refusals that are answered and told of, records that are written, bytes that are sent once more. The first few are free.
 */
export class Exporter {
  readonly #world: World;
  /** Feeds that this hub writes. */
  readonly own: OwnFeeds;
  readonly #incoming: Incoming;
  readonly #close: () => void;
  /** What each peer may hold of this hub. */
  readonly holds: Holds;
  readonly #sessions: ReadonlyMap<number, PeerSession>;
  readonly #jobs: SnapshotJobs;
  readonly #turns = new Map<string, Turns>();
  /** Of peers that come back after they were removed it is not known any more what they were sent. */
  #leastJob = 0;
  /** Shares that are too long for a snapshot, and until when none is built: 8 at most. */
  readonly #tooLongUntil = new Map<string, number>();

  constructor(world: World, table: FeedTable, sessions: ReadonlyMap<number, PeerSession>, close: () => void, incoming: Incoming) {
    this.#world = world;
    this.own = new OwnFeeds(world, table, close, (share) => this.#cancelJobs(share));
    this.#sessions = sessions;
    this.#close = close;
    this.#incoming = incoming;
    this.holds = new Holds(world);
    this.#jobs = new SnapshotJobs(world, sessions, (share) => this.own.feed(share));
  }

  /** quiet: no snapshot is under way. */
  get quiet(): boolean {
    return this.#jobs.quiet;
  }

  /** turnsOf is what a peer has made this hub do. */
  turnsOf(peer: string): Turns {
    let turns = this.#turns.get(peer);
    if (turns === undefined) this.#turns.set(peer, (turns = new Turns(this.#world.now.mono, this.#leastJob)));
    return turns;
  }

  // ---- what peers there are, and what they may see

  setPeers(peers: readonly PeerShare[], complete: boolean): void {
    this.own.setPeers(peers, complete);
    if (complete)
      for (const peer of this.#turns.keys()) if (!this.own.knows(peer) && this.#turns.delete(peer)) this.#leastJob = this.#jobs.next;
    if (complete) this.own.deactivateUnused();
    for (const session of this.#sessions.values()) this.#reoffer(session);
  }

  setShares(shares: readonly ShareRules[]): void {
    this.own.setShares(shares);
    for (const session of this.#sessions.values()) this.#reoffer(session);
    this.pull();
  }

  // ---- sessions

  /** offer tells a session what there is for its peer; shares that it must not see any more go first (EP1). */
  offer(session: PeerSession): void {
    session.offerAt = Number.POSITIVE_INFINITY;
    const share = this.own.shareOf(session.peer);
    if (session.turns.offered !== share) session.turns.leastJob = this.#jobs.next;
    session.turns.offered = share;
    const others = this.holds.of(session.peer).filter((held) => held !== share);
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
    const feed = this.own.activate(share);
    session.out = { state: "offered", share };
    session.send({ type: "feed_offer", head: feed.head, keyStatement: EMPTY });
  }

  #reoffer(session: PeerSession): void {
    const share = this.own.shareOf(session.peer);
    const { out } = session;
    const current = out.state === "idle" || out.state === "forgetting" ? undefined : out.share;
    if (out.state !== "forgetting" && current === share && (share === undefined || this.own.feed(share) !== undefined)) return;
    if (current !== share) session.retry.reset();
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
    if (session.out.state !== "forgetting" || !session.out.shares.delete(share)) return;
    this.holds.remove(session.peer, share);
    if (session.out.shares.size === 0) this.offer(session);
  }

  feedOpen(session: PeerSession, from: FeedPosition, heldParts: readonly Uint8Array[], proof?: FeedProof): void {
    const { out } = session;
    if (out.state === "idle" || out.state === "forgetting") return;
    const feed = this.own.feed(out.share);
    if (feed === undefined || from.hubId !== this.#world.o.hubId || (from.epoch > 0 && from.share !== feed.share)) {
      this.#offerLater(session, out.share);
      return;
    }
    session.heard();
    this.holds.add(session.peer, feed.share);
    if (knowsMore(feed, from)) {
      if (signedByUs(this.#world, from, proof)) this.#restored(session, feed, from);
      else this.#distrust(session, feed, from, NOT_SHOWN);
      return;
    }
    // It calls a fork what is none here, or what has left the log: it would never take anything of this epoch.
    if (session.refusedFor === "FEED_FORK" && from.epoch === feed.epoch) return this.#distrust(session, feed, from, FORK_NOT_SEEN);
    session.acked = from;
    session.ackedAt = this.#world.now.mono;
    if (from.epoch === feed.epoch && from.seq + 1 >= feed.ring.first)
      session.out = { state: "tail", share: feed.share, next: from.seq + 1 };
    else this.#startSnapshot(session, feed, from, new Set(heldParts.map(hex)));
    this.#pullOne(session);
  }

  #restored(session: PeerSession, feed: OwnFeed, from: FeedPosition): void {
    this.#world.event("feed", "WARNING", "a peer showed that it holds more of this hub's feed than this hub does", {
      hub: session.peer,
      share: feed.share,
      fields: claimFields(feed, from),
    });
    this.openEpoch(feed, EPOCH_REASON.RESTORED, from.epoch);
  }

  /** distrust makes a peer that says what it cannot show take the feed anew. */
  #distrust(session: PeerSession, feed: OwnFeed, from: FeedPosition, why: string): void {
    const { mono } = this.#world.now;
    if (!session.retry.due(mono)) return this.#offerLater(session, feed.share);
    session.retry.failed(mono);
    if (session.turns.toldFor !== "claim")
      this.#world.event("feed", "WARNING", why, {
        hub: session.peer,
        share: feed.share,
        fields: claimFields(feed, from),
      });
    session.turns.toldFor = "claim";
    session.refusedFor = "claim";
    session.out = { state: "forgetting", shares: new Set([feed.share]) };
    session.send({ type: "forget", share: feed.share });
  }

  /** offerLater offers a feed again when the pause after a refusal is over. */
  #offerLater(session: PeerSession, share: string): void {
    session.out = { state: "offered", share };
    session.offerAt = session.retry.failed(this.#world.now.mono);
  }

  /** openEpoch starts a new epoch of a feed and offers it to all who have the feed. */
  openEpoch(feed: OwnFeed, reason: EpochReason, above = 0): void {
    this.#close();
    this.#cancelJobs(feed.share);
    feed.openEpoch(reason, above, this.#world.hlc.tick(this.#world.now.wall));
    for (const [peer, turns] of this.#turns) if (this.own.shareOf(peer) === feed.share) turns.retry.reset();
    for (const session of this.#sessions.values()) {
      const { out } = session;
      if (out.state !== "idle" && out.state !== "forgetting" && out.share === feed.share) this.offer(session);
    }
  }

  /** renumber opens an epoch of each feed, for a table that has other numbers. Nothing may be in the open segment. */
  renumber(): void {
    for (const feed of this.own.feeds()) feed.view.renumber(this.own.table);
    for (const feed of this.own.feeds()) this.openEpoch(feed, EPOCH_REASON.RENUMBERED);
  }

  ack(session: PeerSession, position: FeedPosition): void {
    const { out } = session;
    const feed = out.state === "idle" || out.state === "forgetting" ? undefined : this.own.feed(out.share);
    if (feed === undefined || position.epoch !== feed.epoch || position.seq > feed.seq) return;
    const { acked } = session;
    session.acked = position;
    session.ackedAt = this.#world.now.mono;
    // Only what the peer did not have before is a success. It is only what the peer says: it ends no pause (BO5).
    if (acked !== undefined && acked.epoch === position.epoch && acked.seq >= position.seq) return;
    session.refusedFor = "";
    session.heard();
    session.trouble.given(undefined);
  }

  nack(session: PeerSession, held: FeedPosition, problem: Failure, wantSnapshot: boolean): void {
    const { out } = session;
    const feed = out.state === "idle" || out.state === "forgetting" ? undefined : this.own.feed(out.share);
    if (feed === undefined) return;
    const { retry, turns } = session;
    // Those that come before its turn are a part of the one that was answered last.
    const counts = retry.due(this.#world.now.mono);
    retry.failed(this.#world.now.mono);
    if (counts || !session.refused) session.trouble.given(problem, retry.failures);
    session.refused = true;
    const told = !counts || turns.toldFor === problem.reason;
    if (counts) turns.toldFor = problem.reason;
    this.#world.event("segment_refused", told ? "DEBUG" : "WARNING", "a peer refused what it was sent", {
      hub: session.peer,
      share: feed.share,
      fields: { reason: problem.reason, message: problem.message },
    });
    session.refusedFor = problem.reason;
    // After a fork the peer says in its answer to the offer what it holds, and shows it.
    if (problem.reason === "FEED_FORK") this.#offerLater(session, feed.share);
    else if (wantSnapshot) this.#startSnapshot(session, feed, held);
    else if (held.epoch === feed.epoch && held.seq <= feed.seq) session.out = { state: "tail", share: feed.share, next: held.seq + 1 };
    else this.#offerLater(session, feed.share);
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
    if (!session.retry.due(this.#world.now.mono)) return;
    if (session.out.state === "snapshot") this.#sendSnapshot(session, session.out);
    if (session.out.state !== "tail") return;
    const { out, turns } = session;
    const feed = this.own.feed(out.share);
    if (feed === undefined || session.credit <= 0 || out.next > feed.seq) return;
    const before = turns.sentUpTo(feed);
    while (session.credit > 0 && out.next <= feed.seq) {
      const item = feed.ring.get(out.next);
      // One that no peer takes (written before there was a bound) would end the session each time that it is sent.
      if (item === undefined || item.byteLength > this.#world.o.limits.frameBytes) {
        this.#startSnapshot(session, feed, { ...feed.head, seq: out.next - 1 });
        return;
      }
      if (out.next <= before && !turns.mayRepeat(this.#world.now.mono, item.byteLength)) break;
      session.send(
        { type: "segment", segment: item.segment, ...(item.message === undefined ? {} : { message: item.message }) },
        item.byteLength,
      );
      out.next++;
    }
    turns.sent(feed, out.next - 1);
  }

  /** startSnapshot begins with a snapshot for a peer that says that it holds so much. */
  #startSnapshot(session: PeerSession, feed: OwnFeed, held: FeedPosition, parts: ReadonlySet<string> = new Set()): void {
    if (this.#tooLongUntil.has(feed.share)) {
      session.out = { state: "offered", share: feed.share };
      return;
    }
    const least = Math.max(session.turns.sentUpTo(feed), held.epoch === feed.epoch ? held.seq : 0);
    session.out = { state: "snapshot", share: feed.share, held: parts, least, job: 0, manifestSent: false, nextPart: 0 };
    this.#join(session, session.out);
    this.#jobs.settle();
  }

  /** join gives a session a snapshot that is there, or has one built if its peer takes any and it is its turn (EP6). */
  #join(session: PeerSession, out: Extract<PeerSession["out"], { state: "snapshot" }>): void {
    const feed = this.own.feed(out.share);
    const { mono } = this.#world.now;
    if (feed === undefined || session.credit <= 0 || !session.retry.due(mono)) return;
    let job = this.#jobs.usable(feed, out.least, session.turns.leastJob);
    if (job === undefined) {
      if (mono < session.turns.buildsAt(feed)) return;
      // This may send to the session, and join it.
      this.#close();
      if (session.out !== out || out.job !== 0) return;
      session.turns.builds(feed, mono);
      job = this.#jobs.build(feed, this.own.table);
    }
    job.idleSince = undefined;
    out.job = job.id;
    if (job.tooLong) this.#giveUp(job);
  }

  /** compressed takes a part of a snapshot that was compressed; one of a job that was given up is dropped. */
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
      if (session.out.state === "snapshot" && session.out.share === job.share) session.out = { state: "offered", share: job.share };
    this.#jobs.drop(job);
    const fields = { limit: "snapshot_bytes", max: String(this.#world.o.limits.snapshotBytes) };
    this.#world.event("limit", "ERROR", "the feed is longer than a snapshot may be; peers that need one get none", {
      share: job.share,
      fields,
    });
  }

  #sendSnapshot(session: PeerSession, out: Extract<PeerSession["out"], { state: "snapshot" }>): void {
    if (out.job === 0) this.#join(session, out);
    const job = this.#jobs.get(out.job);
    if (job === undefined || session.out !== out || !job.sendTo(session, out)) return;
    session.out = { state: "tail", share: out.share, next: job.position.seq + 1 };
    this.#jobs.settle();
  }

  #cancelJobs(share: string): void {
    for (const job of this.#jobs.of(share)) {
      this.#jobs.drop(job);
      for (const session of this.#sessions.values())
        if (session.out.state === "snapshot" && session.out.job === job.id) this.#restart(session, share);
    }
  }

  /** restart makes a session open the feed anew; the peer answers the offer with what it holds. */
  #restart(session: PeerSession, share: string): void {
    const feed = this.own.feed(share);
    session.out = { state: "offered", share };
    if (feed !== undefined) session.send({ type: "feed_offer", head: feed.head, keyStatement: EMPTY });
  }

  sessionDown(): void {
    this.#jobs.settle();
  }

  /** behind is how many segments the fastest live peer is behind; 0 without one. */
  behind(): number {
    return leastBehind(this.#sessions.values(), (share) => this.own.feed(share), this.#world.now.mono);
  }

  /** tick offers again what was refused, or was too long for a snapshot. */
  tick(): void {
    if (this.#jobs.deadline() <= this.#world.now.mono) this.#jobs.settle();
    for (const session of this.#sessions.values()) {
      if (session.offerAt <= this.#world.now.mono) this.offer(session);
      const share = this.own.shareOf(session.peer) ?? "";
      lookForSilence(
        this.#world,
        session,
        this.#tooLongUntil.has(share) ? undefined : this.own.feed(share),
        owedBy(session, this.#incoming),
      );
    }
    for (const [share, until] of this.#tooLongUntil) {
      if (until > this.#world.now.mono) continue;
      this.#tooLongUntil.delete(share);
      for (const session of this.#sessions.values())
        if (session.out.state === "offered" && session.out.share === share) this.offer(session);
    }
  }

  /** deadline is when a paused session goes on, or a feed is offered again. */
  deadline(): number {
    const { mono } = this.#world.now;
    let next = this.#jobs.deadline();
    if (this.#tooLongUntil.size > 0) for (const until of this.#tooLongUntil.values()) next = Math.min(next, until);
    for (const { turns, out, offerAt, lookAt } of this.#sessions.values()) {
      if (!turns.retry.due(mono)) next = Math.min(next, turns.retry.dueAt);
      if (turns.waitsUntil > mono) next = Math.min(next, turns.waitsUntil);
      if (out.state === "snapshot" && out.job === 0) next = Math.min(next, this.#turnAt(turns, out.share));
      next = Math.min(next, offerAt, lookAt);
    }
    return next;
  }

  /** turnAt is when a snapshot is built for a peer that waits for its turn. */
  #turnAt(turns: Turns, share: string): number {
    const feed = this.own.feed(share);
    const at = feed === undefined ? 0 : turns.buildsAt(feed);
    return at > this.#world.now.mono ? at : Number.POSITIVE_INFINITY;
  }
}
