import { assert, unreachable } from "#kernel/assert.ts";
import type { Core, StoreOp } from "#kernel/core.ts";
import { Hlc } from "#kernel/crdt/hlc.ts";
import type { Now } from "#kernel/instant.ts";
import { describeRegistry, feedStatuses } from "./describe.ts";
import { Exporter } from "./export/exporter.ts";
import { bootMark } from "./feed/boot-mark.ts";
import { FeedWriter, shareChanges } from "./feed/feed.ts";
import { type Ack, HeldAcks } from "./feed/held-acks.ts";
import { OpenSegment } from "./feed/open-segment.ts";
import { Importer } from "./import/importer.ts";
import { LocalRegistry } from "./local/local.ts";
import type { Answer, Effect, FeedPosition, FeedStatus, Input, LocalKind, PeerFrame, Query, Scope } from "./messages.ts";
import { PeerSession } from "./peer-session.ts";
import { type Boot, EPOCH_REASON, type StoreReader } from "./ports.ts";
import { getNode, importedSource, ownSource, type Source } from "./read/directory.ts";
import { Listings } from "./read/listing.ts";
import { Watches } from "./read/watch.ts";
import { type Restored, restoreRegistry } from "./restore.ts";
import { Checkpointer } from "./table/checkpoint.ts";
import { NO_NEED, type NumberSpace, numbersOf, Renumbering, renumbered } from "./table/renumber.ts";
import { FeedTable } from "./table/table.ts";
import { Unstored } from "./table/unstored.ts";
import { type RegistryOptions, World } from "./world.ts";

const NOTHING_RESTORED: Omit<Restored, "table"> = { unclean: false, rewrite: [], leftovers: [], told: [] };

/**
 * RegistryCore is the federated registry as a state machine. `restore` comes first, then the input `start`.
 *
 * RC1 what an output is about is durable when the output leaves: it comes after its `persist`, and replies about changes that are
 *    in the open segment wait in the core until that is closed.
 * RC2 a feed has one writer: its owner; what came from a peer is never written into an own feed (D-5).
 * RC3 nothing here grows with a peer that does not read, a watcher that does not take, or a commit that does not end.
 */
export class RegistryCore implements Core<Input, Effect> {
  readonly #world: World;
  #table = new FeedTable();
  readonly #sessions = new Map<number, PeerSession>();
  readonly #open: OpenSegment;
  #local: LocalRegistry;
  readonly #exporter: Exporter;
  readonly #importer: Importer;
  readonly #watches: Watches;
  readonly #unstored: Unstored;
  readonly #listings: Listings;
  readonly #checkpoint: Checkpointer;
  readonly #renumbering: Renumbering;
  /** What `restore` read back, until the start. */
  #restored = NOTHING_RESTORED;
  #boot: Boot = { bootId: "", durability: "full" };
  readonly #heldAcks: HeldAcks;
  #started = false;

  constructor(options: RegistryOptions) {
    this.#world = new World(options, new Hlc(options.limits.clockSkewMs));
    this.#unstored = new Unstored(options.codec);
    this.#checkpoint = new Checkpointer(this.#world, ".own");
    this.#renumbering = new Renumbering(this.#world);
    this.#importer = new Importer(this.#world, this.#sessions);
    this.#watches = new Watches(
      this.#world,
      () => this.sources(),
      () => this.#close(),
      this.#unstored,
    );
    const answer = (call: number, given: Answer) => this.#local.reply({ kind: "answer", call, answer: given });
    this.#listings = new Listings(this.#world, () => this.sources(), answer);
    this.#heldAcks = new HeldAcks(options.ackHoldMs);
    this.#importer.gone = (head) => this.#watches.gone(head);
    this.#open = new OpenSegment(this.#world, () => this.#close());
    this.#local = this.#makeLocal();
    this.#exporter = new Exporter(this.#world, this.#table, this.#sessions, () => this.#close(), this.#importer);
  }

  /** restore reads back what was durable, before the first step; the order of it stands in `restore.ts`. */
  restore(reader: StoreReader, boot: Boot): void {
    assert(!this.#started, "restore comes before start");
    this.#boot = boot;
    const parts = { checkpoint: this.#checkpoint, exporter: this.#exporter, importer: this.#importer };
    const { table, ...restored } = restoreRegistry(this.#world, reader, boot, parts);
    this.#restored = restored;
    this.#table = table;
    this.#local = this.#makeLocal();
  }

  step(now: Now, input: Input, out: Effect[]): void {
    this.#begin(now, out);
    assert(this.#started || input.kind === "start" || input.kind === "stored", "the first input is start", { kind: input.kind });
    this.#step(input);
    this.#end();
  }

  tick(now: Now, out: Effect[]): void {
    this.#begin(now, out);
    if (!this.#started) return;
    this.#local.presence.tick();
    if (!this.#open.empty && now.mono - (this.#open.since as number) >= this.#world.o.limits.segmentLingerMs) this.#close();
    if (this.#world.storeFailure === undefined) {
      this.#checkpointOwn();
      this.#importer.tick();
    }
    this.#releaseAcks();
    this.#exporter.tick();
    this.#exporter.pull();
    this.#watches.tick();
    this.#listings.tick();
    this.#end();
  }

  deadline(): number | undefined {
    if (!this.#started) return undefined;
    let next = Math.min(this.#local.presence.deadline(), this.#exporter.deadline(), this.#watches.deadline());
    next = Math.min(next, this.#listings.deadline(), this.#heldAcks.deadline);
    if (this.#world.storeFailure === undefined) next = Math.min(next, this.#checkpoint.deadline(), this.#importer.deadline());
    if (this.#open.since !== undefined) next = Math.min(next, this.#open.since + this.#world.o.limits.segmentLingerMs);
    return next === Number.POSITIVE_INFINITY ? undefined : next;
  }

  describe(): string {
    return describeRegistry(this.#world, this.#exporter, this.#importer, this.#sessions, this.#local, this.#watches);
  }

  // ---- what the shell may read between steps: cheap, and never for an answer (RC1)

  /** heads are what a ping to this peer says: the feed that is offered to it. */
  heads(peer: string): FeedPosition[] {
    const share = this.#exporter.own.shareOf(peer);
    const feed = share === undefined ? undefined : this.#exporter.own.feed(share);
    return feed === undefined || feed.epoch === 0 ? [] : [this.#unstored.headOf(feed)];
  }

  /** feeds are all feeds that are held, own ones first, for metrics. */
  feeds(): FeedStatus[] {
    return feedStatuses(this.#exporter, this.#importer, this.#sessions, this.#table);
  }

  /** callers are those who speak for nodes of this hub, with the memory that their nodes take, for metrics. */
  callers(): ReturnType<LocalRegistry["presence"]["callers"]> {
    return this.#local.presence.callers();
  }

  /** numbers are those of the own feeds, and how often they were given out anew since the start, for metrics. */
  numbers(): NumberSpace & { readonly renumberings: number } {
    return { ...numbersOf(this.#world, this.#table), renumberings: this.#renumbering.count };
  }

  /** tableOf is what is held of a hub at this moment, for readers in this process. */
  tableOf(hubId: string): FeedTable | undefined {
    if (hubId === this.#world.o.hubId) return this.#table;
    const feed = this.#importer.feeds.get(hubId);
    return feed === undefined || feed.epoch === 0 ? undefined : feed.table;
  }

  /** sources are the hubs' parts of the registry, for readers in this process. */
  sources(): Source[] {
    const sources = [ownSource(this.#table, this.#exporter.own.full)];
    for (const feed of this.#importer.feeds.values()) sources.push(importedSource(feed));
    return sources;
  }

  // ---- inputs

  #step(input: Input): void {
    const local = this.#local;
    switch (input.kind) {
      case "start":
        return this.#start();
      case "stop":
        return this.#stop();
      case "flush":
        return this.#close();
      case "stored":
        return this.#stored(input);
      case "register":
        if (this.#renumbering.near(this.#table)) this.#renumberFor(local.needs(input.scope, input.nodes), input.scope);
        return local.register(input.call, input.scope, input.nodes);
      case "deregister":
        return local.deregister(input.call, input.scope, input.nodeId, this.#exporter.own.full.ordinal);
      case "presence":
        local.presence.executors(input.attached, input.detached, input.replace, input.round);
        return local.reply({ kind: "presence_noted", call: input.call });
      case "stream_open":
        return local.streamOpen(input.stream, input.scope);
      case "stream_close":
        this.#heldAcks.forget(input.stream);
        return local.streamClose(input.stream);
      case "bind":
        return local.bind(input.stream, input.id, input.nodeIds, input.keys);
      case "updates":
        return local.updates(input.stream, input.seq, input.batch);
      case "named":
        return local.named(input.stream, input.seq, input.updates);
      case "query":
        if (input.query.type === "list") return this.#listings.list(input.call, input.query);
        return local.reply({ kind: "answer", call: input.call, answer: this.#answer(input.query) });
      case "query_gone":
        return this.#listings.gone(input.call);
      case "watch_open":
        return this.#watches.open(input.watch, input.options);
      case "watch_ready":
        return this.#watches.ready(input.watch);
      case "watch_close":
        return this.#watches.close(input.watch);
      case "automation":
        local.automation = input.enabled;
        this.#importer.automation = input.enabled;
        return;
      case "directory":
        local.followed = input.followed;
        return;
      default:
        return this.#stepPeer(input);
    }
  }

  #stored({ ok, failure, unstored = [], withheld = [] }: Extract<Input, { kind: "stored" }>): void {
    this.#world.storeFailure = ok ? undefined : (failure ?? { reason: "STORE_UNAVAILABLE", message: "the store refuses writes" });
    if (ok) {
      this.#unstored.end();
      return this.#watches.stored();
    }
    this.#unstored.begin(unstored, this.sources(), this.#exporter.own.feeds());
    this.#watches.refused(withheld);
    // What is open is in the table, and is known to be more than what is stored when it stands in a segment.
    this.#close();
  }

  /** answer answers from memory. */
  #answer(query: Exclude<Query, { type: "list" }>): Answer {
    switch (query.type) {
      case "get":
        return getNode(this.#world.o.hubId, this.sources(), query.name, query.maxStalenessMs);
      case "page":
        return this.#listings.page(query);
      case "feeds":
        return { type: "feeds", feeds: this.feeds() };
    }
  }

  #stepPeer(input: Exclude<Input, { kind: LocalKind }>): void {
    switch (input.kind) {
      case "peers": {
        this.#exporter.setPeers(input.peers, input.complete);
        const known = new Set(input.peers.map((peer) => peer.hubId));
        if (input.complete) for (const hubId of this.#importer.hubs()) if (!known.has(hubId)) this.#importer.removePeer(hubId);
        return;
      }
      case "shares":
        return this.#exporter.setShares(input.shares);
      case "own_key":
        return this.#ownKey(input.serial, input.revoked);
      case "feed_key": {
        const { peer, key, serial, notAfterWall, revokesUpTo } = input;
        return this.#importer.key(peer, { key, serial, notAfterWall }, revokesUpTo);
      }
      case "session_up": {
        const turns = this.#exporter.turnsOf(input.peer);
        const session = new PeerSession(this.#world, input.session, input.peer, input.creditBytes, turns);
        this.#sessions.set(input.session, session);
        return this.#exporter.offer(session);
      }
      case "session_down":
        this.#sessions.delete(input.session);
        return this.#exporter.sessionDown();
      case "compressed":
        return this.#exporter.compressed(input.job, input.codec, input.bytes);
      case "decompressed":
        return this.#importer.decompressed(input.job, input.bytes);
      case "credit":
      case "frame":
      case "heads": {
        const session = this.#sessions.get(input.session);
        if (session === undefined) return;
        if (input.kind === "heads") {
          this.#exporter.remind(session);
          return this.#importer.heads(session, input.heads, input.rttMs);
        }
        if (input.kind === "frame") return this.#frame(session, input.frame);
        session.credit += input.bytes;
        return this.#exporter.pullOne(session);
      }
      default:
        return unreachable(input);
    }
  }

  #frame(session: PeerSession, frame: PeerFrame): void {
    switch (frame.type) {
      case "feed_open":
        return this.#exporter.feedOpen(session, frame.from, frame.heldParts, frame.proof);
      case "ack":
        this.#exporter.ack(session, frame.position);
        return this.#releaseAcks();
      case "nack":
        return this.#exporter.nack(session, frame.held, frame.failure, frame.wantSnapshot);
      case "forget_done":
        return this.#exporter.forgetDone(session, frame.share);
      default:
        return this.#importer.frame(session, frame);
    }
  }

  #start(): void {
    assert(!this.#started, "start comes once");
    this.#started = true;
    const world = this.#world;
    const { unclean, rewrite, leftovers, told } = this.#restored;
    this.#restored = NOTHING_RESTORED;
    for (const effect of told) world.emit(effect);
    world.persist([bootMark(this.#boot, false), ...leftovers]);
    const { full } = this.#exporter.own;
    const tick = () => world.hlc.tick(world.now.wall);
    if (full.epoch === 0) full.openEpoch(EPOCH_REASON.CREATED, 0, tick());
    else if (unclean) full.openEpoch(EPOCH_REASON.UNCLEAN_STOP, 0, tick());
    for (const feed of this.#exporter.own.derived.values()) {
      if (unclean) feed.openEpoch(EPOCH_REASON.UNCLEAN_STOP, 0, tick());
      else if (rewrite.includes(feed.share)) feed.openEpoch(EPOCH_REASON.RENUMBERED, 0, tick());
    }
    this.#local.start();
    this.#importer.start();
    this.#renumberFor(NO_NEED);
  }

  #stop(): void {
    this.#close();
    this.#world.persist([bootMark(this.#boot, true)]);
    this.#world.emit({ kind: "stopped" });
  }

  #ownKey(serial: number, revoked: boolean): void {
    this.#world.keySerial = serial;
    if (revoked) for (const feed of this.#exporter.own.feeds()) this.#exporter.openEpoch(feed, EPOCH_REASON.KEY_REVOKED);
    else
      for (const session of this.#sessions.values())
        if (session.out.state === "tail" || session.out.state === "offered") this.#exporter.offer(session);
  }

  // ---- the open segment

  /** close seals what is open into the feeds, persists it, and lets out what waited for it. */
  #close(): void {
    if (this.#open.empty) return;
    const world = this.#world;
    const { payload, changes } = this.#open.take();
    const hlc = world.hlc.tick(world.now.wall);
    const { full } = this.#exporter.own;
    const { byteLength } = full.append(payload, hlc, this.#table.takeRemovals());
    this.#checkpoint.segment(byteLength);
    this.#table.forgetDead(full.ordinal - full.ring.size);
    for (const feed of this.#exporter.own.derived.values()) {
      const writer = new FeedWriter(world, feed, () => hlc);
      shareChanges(world, this.#table, feed.view, changes, writer);
      writer.end();
      if (feed.logLength > 2 * world.o.tailSegments) {
        const ops: StoreOp[] = [];
        feed.trim(undefined, ops);
        world.persist(ops);
      }
    }
    this.#acknowledge(this.#local.closed());
    this.#exporter.pull();
  }

  /** acknowledge sends acknowledgements, or holds them while the fastest live peer is too far behind. */
  #acknowledge(acks: readonly Ack[]): void {
    if (this.#heldAcks.empty && this.#exporter.behind() <= this.#world.o.ackHoldSegments) return this.#emitAcks(acks);
    for (const ack of acks) this.#heldAcks.hold(this.#world.now.mono, ack);
    this.#releaseAcks();
  }

  #releaseAcks(): void {
    if (this.#heldAcks.empty) return;
    const followed = this.#exporter.behind() <= this.#world.o.ackHoldSegments;
    this.#emitAcks(followed ? this.#heldAcks.all() : this.#heldAcks.due(this.#world.now.mono));
  }

  #emitAcks(acks: readonly Ack[]): void {
    for (const { stream, upTo } of acks) this.#world.emit({ kind: "acked", stream, upTo });
  }

  #checkpointOwn(): void {
    if (this.#checkpoint.due()) {
      this.#close();
      const { full } = this.#exporter.own;
      this.#checkpoint.begin(this.#table, { position: full.head, hlc: full.hlc, skipped: [] });
    }
    this.#checkpoint.step((place, ops) => this.#exporter.own.full.trim(place.position, ops));
  }

  /** renumberFor gives the numbers of the own feeds out anew if it is time. A checkpoint follows at once: until then a start does it again. */
  #renumberFor(need: NumberSpace<number>, scope?: Scope): void {
    const quiet = this.#exporter.quiet && !this.#checkpoint.running;
    if (!this.#renumbering.due(this.#table, need, quiet, this.#local.helps(need, scope))) return;
    this.#close();
    this.#emitAcks(this.#heldAcks.all());
    this.#renumbering.done();
    this.#checkpoint.replaced();
    const { table, refs } = renumbered(this.#table);
    this.#table = table;
    this.#exporter.own.table = table;
    this.#local.renumber(table, refs);
    this.#exporter.renumber();
    this.#checkpoint.begin(table, { position: this.#exporter.own.full.head, hlc: this.#exporter.own.full.hlc, skipped: [] });
  }

  #makeLocal(): LocalRegistry {
    const local = new LocalRegistry(this.#world, this.#table, this.#open);
    local.epoch = () => this.#exporter.own.full.epoch;
    return local;
  }

  #begin(now: Now, out: Effect[]): void {
    this.#world.now = now;
    this.#world.out = out;
  }

  #end(): void {
    if (this.#watches.size > 0) this.#watches.pullAll();
  }
}
