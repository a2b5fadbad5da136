import { unreachable } from "#kernel/assert.ts";
import type { Shared } from "#kernel/bounds/holdings.ts";
import type { RoomUse } from "#kernel/bounds/room.ts";
import type { Core } from "#kernel/core.ts";
import type { Failure } from "#kernel/error.ts";
import type { Now } from "#kernel/instant.ts";
import { reading } from "#kernel/wire/stored-json.ts";
import { Audit } from "./audit/audit.ts";
import { auditRefused } from "./audit/audited.ts";
import { CallerSide, type Parts } from "./caller/caller.ts";
import { Keys, keyId, payloadOf } from "./caller/idempotency.ts";
import type { Peer } from "./caller/peers.ts";
import { Keyed, Pending, UNARY_CLIENT } from "./caller/pending.ts";
import { WaitingCallers } from "./caller/waiting-callers.ts";
import { DeadlineQueue } from "./deadline-queue.ts";
import { describeCore, holdingsOf, roomsOf } from "./describe.ts";
import { Journal, LOG } from "./journal/journal.ts";
import { type Epochs, META_KEY, META_SPACE, Restoration, readEpochs, type StoredBlob, writeEpochs } from "./journal/restore.ts";
import {
  type Command,
  type CommandEffect,
  type CommandName,
  type Input,
  type InvocationsFrame,
  LEVEL_LIMITED,
  type Result,
  type Sender,
} from "./messages.ts";
import { Outbox } from "./outbox.ts";
import { OwnerSide } from "./owner/owner.ts";
import type { NodeTable } from "./ports.ts";
import { isOwn } from "./principals.ts";
import { checkHops, checkShape, Directory, isTarget, offline } from "./route/route.ts";
import { DEFAULT_SETTINGS, type Settings } from "./settings.ts";

/** CommandCoreOptions are what a core is made of. */
export interface CommandCoreOptions {
  readonly hubId: string;
  readonly settings?: Partial<Settings>;
  /** The nodes that are known, where this process has them; else they are what changes tell. */
  readonly nodes?: NodeTable | undefined;
  /** hash is SHA-256, for the fingerprints of idempotency keys. */
  readonly hash: (data: Uint8Array) => Uint8Array;
}

/** Stored is what the store holds at start. */
export interface Stored {
  readonly meta: Uint8Array | undefined;
  readonly blobs: Iterable<StoredBlob>;
  /** Records of the audit, and what had begun. */
  readonly audit?: Iterable<StoredBlob>;
  readonly open?: Iterable<StoredBlob>;
  /** Power was lost under a durability that does not cover it: records may be missing from the end. */
  readonly tailAtRisk?: boolean;
}

/** Known is what GetCommand tells. */
export interface Known {
  readonly result: Result | undefined;
  readonly durationMs: number;
  readonly replayed: boolean;
}

type Execute = Extract<Input, { readonly kind: "execute" }>;

/**
 * CommandCore runs commands at most once: it is the hub of their callers (CallerSide) and the owner of its nodes (OwnerSide)
 * at the same time, over one journal. What it promises is numbered in the README.
 */
export class CommandCore implements Core<Input, CommandEffect> {
  readonly #p: Parts;
  readonly #hash: (data: Uint8Array) => Uint8Array;
  readonly #directory: Directory;
  readonly #caller: CallerSide;
  readonly #owner: OwnerSide;
  readonly #waiting: WaitingCallers;
  readonly #ownHops: readonly string[];
  #stopping = false;
  #refusing: Failure | undefined;

  constructor(options: CommandCoreOptions) {
    const journal = new Journal();
    const settings = { ...DEFAULT_SETTINGS, ...options.settings };
    const outbox = new Outbox(journal);
    this.#p = {
      hubId: options.hubId,
      settings,
      journal,
      outbox,
      deadlines: new DeadlineQueue(),
      keys: new Keys(settings, journal),
      audit: new Audit(settings),
    };
    this.#hash = options.hash;
    this.#directory = new Directory(options.hubId, options.nodes);
    this.#caller = new CallerSide(this.#p);
    this.#owner = new OwnerSide(this.#p, this.#directory);
    this.#ownHops = [options.hubId];
    this.#waiting = new WaitingCallers(this.#p, (now, pending) => {
      if (pending.run !== undefined) this.#owner.cancel(now, pending.run);
      else this.#caller.cancel(now, pending);
    });
    this.#caller.onReply = (client, corr) => this.#waiting.waitsNoMore(client, corr);
    this.#caller.onRaised = (peer, epoch) => this.#saveEpochs(epoch, "a peer knows a newer epoch of this hub", peer);
    this.#owner.onLocal = (now, pending, result, final) => this.#onLocal(now, pending, result, final);
    this.#owner.onRestored = (now, peer) => this.#onRestored(now, peer);
  }

  /**
   * restore takes over what the store holds; it comes before the first step, whose input must be `start`. A lost store, or one that
   * may lack its tail, means a new epoch as owner: what a peer asks again may have been started, and is not started a second time; as caller the epoch is new with every start, so that no name is ever given twice.
   */
  restore(now: Now, stored: Stored): void {
    const epochs =
      stored.meta === undefined ? NO_EPOCHS : reading(`${META_SPACE}/${META_KEY}`, () => readEpochs(stored.meta as Uint8Array));
    this.#caller.restoreEpochs(Math.max(Math.floor(now.wall), epochs.caller + 1, 1), epochs.raised);
    if (epochs.owner === 0) this.#owner.epoch = this.#caller.epoch;
    else this.#owner.epoch = stored.tailAtRisk === true ? Math.max(Math.floor(now.wall), epochs.owner + 1) : epochs.owner;
    this.#p.outbox.ownerEpoch = this.#owner.epoch;
    this.#p.audit.epoch = this.#caller.epoch;
    const begun = this.#p.audit.restore(stored.audit ?? [], stored.open ?? []);
    const restoration = new Restoration(this.#p, this.#caller, this.#owner);
    for (const blob of stored.blobs) reading(`${LOG}/${blob.seq}`, () => restoration.blob(now, blob));
    restoration.finish(now, begun);
  }

  step(now: Now, input: Input, out: CommandEffect[]): void {
    this.#handle(now, input);
    this.#finish(now, out);
  }

  tick(now: Now, out: CommandEffect[]): void {
    for (const item of this.#p.deadlines.take(now.mono)) {
      if (item instanceof Pending) this.#caller.due(now, item);
      else this.#owner.due(now, item);
    }
    this.#p.keys.expire(now.mono);
    if (this.#owner.executors.sweeping) this.#owner.sweep();
    this.#finish(now, out);
  }

  deadline(): number | undefined {
    if (this.#owner.executors.sweeping) return 0;
    const next = this.#p.deadlines.next() ?? Number.POSITIVE_INFINITY;
    const ackAt = (this.#refusing === undefined ? this.#caller.ackAt : undefined) ?? Number.POSITIVE_INFINITY;
    const { keys, audit } = this.#p;
    const least = Math.min(next, ackAt, keys.nextAt ?? Number.POSITIVE_INFINITY, audit.deadline ?? Number.POSITIVE_INFINITY);
    return least === Number.POSITIVE_INFINITY ? undefined : least;
  }

  describe(): string {
    return describeCore(this.#p, this.#caller, this.#owner, this.#directory, this.#refusing);
  }

  /** inFlight is how many commands have no outcome yet, of local callers and of peers. */
  inFlight(): number {
    let count = this.#caller.pendingCount + this.#owner.localOpen;
    for (const book of this.#owner.books.callers.values()) count += book.open;
    return count;
  }

  /** audit is how far the records of commands are, and how much of them waits for telemetry. */
  get audit(): { readonly next: number; readonly waitingBytes: number } {
    return this.#p.audit;
  }

  /** rooms is what callers use up, and how much of it there is. Of rooms of which each peer has one, the fullest is told. */
  readonly rooms = (): RoomUse[] => [...roomsOf(this.#p, this.#caller, this.#owner), ...this.#waiting.unary.room.use()];

  /** holdings is who holds how much of it. */
  readonly holdings = (): Shared[] => holdingsOf(this.#p, this.#caller, this.#owner);

  /** lookup tells what is known of a command, as caller or as owner; undefined if nothing is. It changes nothing. */
  lookup(name: CommandName): Known | undefined {
    const { hubId, epoch, seq } = name;
    if (hubId !== this.#p.hubId) {
      const run = this.#owner.books.find(hubId, epoch, seq);
      return run === undefined ? undefined : { result: run.result, durationMs: 0, replayed: false };
    }
    // No name: what has not left has none.
    if (epoch === 0) return undefined;
    const found = this.#caller.find(epoch, seq) ?? this.#caller.recent(epoch, seq);
    if (found !== undefined) return { result: found.result, durationMs: found.durationMs, replayed: false };
    for (const keyed of this.#p.keys.all())
      if (keyed.epoch === epoch && keyed.seq === seq) return { result: keyed.result, durationMs: keyed.durationMs, replayed: true };
    return undefined;
  }

  #handle(now: Now, input: Input): void {
    switch (input.kind) {
      case "execute":
        return this.#execute(now, input);
      case "cancel":
        for (const corr of input.corrs) this.#waiting.cancel(now, input.client, corr);
        return;
      case "client-gone":
        return this.#waiting.gone(now, input.client);
      case "invocations":
        return this.#invocations(now, input.peer, input.session, input.frame);
      case "results":
        return this.#caller.results(now, this.#caller.peer(input.peer), input.session, input.frame);
      case "attach":
        return this.#owner.attach(now, input);
      case "reports": {
        const executor = this.#owner.executors.get(input.executor);
        if (executor !== undefined) this.#owner.reports(now, executor, input.reports);
        return;
      }
      case "executor-gone":
        return this.#owner.gone(now, input.executor);
      case "undelivered":
        return this.#owner.undelivered(now, input.executor, input.tasks);
      case "handler":
        return this.#owner.setHandler(now, input.present);
      default:
        return this.#handleRare(now, input);
    }
  }

  #handleRare(
    now: Now,
    input: Exclude<
      Input,
      {
        readonly kind:
          | "execute"
          | "cancel"
          | "client-gone"
          | "invocations"
          | "results"
          | "attach"
          | "reports"
          | "executor-gone"
          | "undelivered"
          | "handler";
      }
    >,
  ): void {
    switch (input.kind) {
      case "start":
        return this.#saveEpochs(this.#owner.epoch, "start");
      case "peers":
        for (const hubId of this.#caller.setPeers(input.peers)) this.#owner.withdraw(now, hubId);
        return;
      case "peer-up":
        this.#caller.peerUp(now, this.#caller.peer(input.peer), input.session);
        this.#p.outbox.greet(input.peer, this.#owner.books.newest(input.peer));
        return this.#owner.books.peerUp(input.peer);
      case "peer-down":
        return this.#caller.peerDown(now, this.#caller.peer(input.peer));
      case "peer-room":
        return this.#caller.peerRoom(now, this.#caller.peer(input.peer));
      case "directory":
        return this.#owner.directory(input.changes);
      case "policy":
        this.#owner.policy = input.policy;
        return;
      case "places":
        this.#directory.places = input.places;
        return;
      case "stored":
        return this.#stored(now, input);
      case "denied":
        return this.#p.audit.denied(now, input.principal, input.failure, input.times);
      case "audit-copied":
        return this.#p.audit.copied(input.epoch, input.number);
      case "stop":
        this.#stopping = true;
        // What has not left was not started, and will not be.
        this.#caller.refuseWaiting(now, STOPPING);
        this.#caller.ackAt = 0;
        return;
      default:
        return unreachable(input);
    }
  }

  #stored(now: Now, { ok, failure, unstored }: Extract<Input, { readonly kind: "stored" }>): void {
    const { audit, journal } = this.#p;
    this.#refusing = ok ? undefined : failure;
    this.#owner.refusing = this.#refusing;
    audit.refusing = !ok;
    if (ok) journal.accepted();
    else journal.refused(unstored);
    if (this.#refusing !== undefined) this.#caller.refuseWaiting(now, this.#refusing);
  }

  #invocations(now: Now, hubId: string, session: number, frame: InvocationsFrame): void {
    const peer = this.#caller.peer(hubId);
    if (session === peer.session) this.#owner.invocations(now, peer, frame);
  }

  /** finish starts what can start, and lets the step's effects out behind its persist. */
  #finish(now: Now, out: CommandEffect[]): void {
    this.#owner.dispatch(now);
    const { ackAt } = this.#caller;
    const { journal, audit } = this.#p;
    audit.tell(now);
    const due = ackAt !== undefined && ackAt <= now.mono && this.#refusing === undefined;
    const writes = journal.dirty || audit.urgent || due;
    if (writes) {
      this.#caller.log();
      this.#owner.books.log();
    }
    // Records of commands that the journal notes as resolved go with those notes (WW2).
    this.#p.outbox.flush(out, writes ? audit : undefined);
  }

  #execute(now: Now, input: Execute): void {
    const waits = this.#waiting.of(input.client);
    const sender: Sender = { client: input.client, principal: input.principal, own: isOwn(input.principal) };
    const unary = input.client === UNARY_CLIENT;
    for (const command of input.commands) {
      const full = unary ? this.#waiting.unary.refusal(sender.principal, sender.own) : undefined;
      if (full !== undefined) this.#refuse(now, sender, command, full);
      else if (!unary && waits.size >= this.#p.settings.pendingPerClient)
        this.#refuse(now, sender, command, { reason: "OVERLOADED", message: `${waits.size} commands of this stream are pending` });
      else if (waits.has(command.corr))
        this.#refuse(now, sender, command, { reason: "INVALID_FIELD", message: "corr is in use on this stream", field: "corr" });
      else {
        this.#submit(now, sender, waits, command);
        if (unary && waits.has(command.corr)) this.#waiting.unary.add(command.corr, sender.principal);
      }
    }
  }

  #submit(now: Now, sender: Sender, waits: Map<number, Pending>, command: Command): void {
    const { client, principal } = sender;
    let keyed: Keyed | undefined;
    if (command.key !== "") {
      const fingerprint = this.#hash(payloadOf(command));
      const known = this.#p.keys.get(keyId(principal, command.key), now.mono);
      if (known !== undefined) return this.#waiting.repeat(now, client, waits, command, known, fingerprint);
      const { keyLifeMs } = this.#p.settings;
      keyed = new Keyed(keyId(principal, command.key), fingerprint, { wall: now.wall + keyLifeMs, mono: now.mono + keyLifeMs });
    }
    const failure =
      this.#refusing ??
      checkShape(command) ??
      (this.#stopping ? STOPPING : undefined) ??
      (keyed === undefined ? undefined : this.#p.keys.admit(keyed, now.mono)) ??
      this.#route(now, sender, waits, command, keyed);
    if (failure === undefined) return;
    this.#refuse(now, sender, command, this.#directory.placed(command.hubId || this.#p.hubId, command.nodeId, failure));
  }

  #refuse(now: Now, { client, principal }: Sender, command: Command, failure: Failure): void {
    const node = this.#directory.node(command.hubId || this.#p.hubId, command.nodeId);
    auditRefused(this.#p, now, principal, command, failure, node?.capabilities.get(command.capability)?.secret === true);
    this.#waiting.refuse(client, command, failure);
  }

  /** route finds the target and lets the command go there; it answers what is wrong instead. */
  #route(now: Now, sender: Sender, waits: Map<number, Pending>, command: Command, keyed: Keyed | undefined): Failure | undefined {
    const { hubId } = this.#p;
    const { client, principal, own } = sender;
    if (command.hubId !== "" && command.hubId !== hubId) {
      const failure = this.#reachable(command.hubId);
      if (failure !== undefined) return failure;
    }
    const node = this.#directory.find(command.hubId, command.nodeId);
    if ("reason" in node) return node;
    const target = this.#directory.check(node, command.capability, command.value);
    if (!isTarget(target)) return target;
    const looped = checkHops(command.hops, hubId);
    if (looped !== undefined) return looped;
    if (node.hubId === hubId) {
      const { localRooms } = this.#caller;
      const full = localRooms.refusal(principal, own, node.nodeId, command.value.length);
      if (full !== undefined) return full;
      const pending = this.#caller.accept(now, hubId, undefined, command, command.hops);
      pending.count(localRooms, principal);
      pending.secret = target.capability.secret === true;
      this.#waiting.wait(client, waits, command, pending, keyed);
      this.#owner.local(now, pending, target);
      return undefined;
    }
    const failure = this.#reachable(node.hubId);
    if (failure !== undefined) return failure;
    if (!node.online) return offline(node);
    const peer = this.#caller.peer(node.hubId);
    const full = peer.rooms.refusal(principal, own, node.nodeId, command.value.length);
    if (full !== undefined) return full;
    const hops = command.hops.length === 0 ? this.#ownHops : [...command.hops, hubId];
    const tooFar = checkHops(hops, "");
    if (tooFar !== undefined) return tooFar;
    const pending = this.#caller.accept(now, node.hubId, peer, command, hops);
    pending.count(peer.rooms, principal);
    pending.secret = target.capability.secret === true;
    this.#waiting.wait(client, waits, command, pending, keyed);
    this.#caller.send(peer, pending);
    return undefined;
  }

  /** reachable tells why commands cannot go to a hub now. */
  #reachable(hubId: string): Failure | undefined {
    const peer: Peer | undefined = this.#caller.peers.get(hubId);
    if (peer === undefined || peer.level === 0)
      return { reason: "PEER_NOT_FOUND", message: `${hubId} is not a peer of this hub`, field: "command.target.hub_id" };
    if (peer.level < LEVEL_LIMITED) return { reason: "TRUST_TOO_LOW", message: `${hubId} is trusted for discovery only` };
    return peer.up ? undefined : { reason: "PEER_UNREACHABLE", message: `no session with ${hubId}` };
  }

  #onLocal(now: Now, pending: Pending, result: Result, final: boolean): void {
    if (final) this.#caller.resolve(now, pending, result);
    else this.#caller.answerUnknown(now, pending, result.failure as Failure);
    if (final) pending.run = undefined;
  }

  #onRestored(now: Now, by: string): void {
    this.#owner.epoch = Math.max(this.#owner.epoch + 1, Math.floor(now.wall));
    this.#p.outbox.ownerEpoch = this.#owner.epoch;
    this.#saveEpochs(this.#owner.epoch, "the journal was restored from a backup", by);
    for (const peer of this.#caller.peers.values()) if (peer.up) this.#p.outbox.greet(peer.hubId, this.#owner.books.newest(peer.hubId));
  }

  /** saveEpochs makes the epochs durable: everything after it waits for that. `epoch` is the one that is new. */
  #saveEpochs(epoch: number, why: string, peer?: string): void {
    this.#p.outbox.push({ kind: "observe", what: { event: "journal-epoch", epoch, why, peer } });
    const bytes = writeEpochs({ owner: this.#owner.epoch, caller: this.#caller.epoch, raised: this.#caller.raised });
    this.#p.outbox.before({ kind: "persist", ops: [{ op: "put", space: META_SPACE, key: META_KEY, bytes }] });
  }
}

const NO_EPOCHS: Epochs = { owner: 0, caller: 0, raised: new Map() };
const STOPPING: Failure = { reason: "SHUTTING_DOWN", message: "the hub is stopping" };
