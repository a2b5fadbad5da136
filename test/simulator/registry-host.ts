import { LIMITS } from "#kernel/limits.ts";
import { createDriver, type Driver, type Output as Gated } from "#runtime/driver.ts";
import { RegistryCore } from "../../services/registry-sync/core.ts";
import type {
  Effect,
  FeedPosition,
  Input,
  NodeRecord,
  Output,
  PeerFrame,
  Query,
  Scope,
  ShareRules,
  WatchPush,
} from "../../services/registry-sync/messages.ts";
import { CODEC } from "../../services/registry-sync/ports.ts";
import { segmentCodec } from "../../services/registry-sync/segment-codec.ts";
import { FRAME_OVERHEAD } from "../../services/registry-sync/session.ts";
import { REGISTRY_DEFAULTS, type RegistryOptions } from "../../services/registry-sync/world.ts";
import { feedKeyOf, simCrypto } from "./crypto.ts";
import type { Disk } from "./disk.ts";
import { linksBase, type Process, type Service } from "./host.ts";
import { Links } from "./links.ts";

/** RegistryHooks join the registry of a hub to its surroundings. */
export interface RegistryHooks {
  readonly options: Pick<RegistryOptions, "ringSegments" | "tailSegments" | "checkpointSegments" | "partBytes">;
  readonly shares: () => readonly ShareRules[];
  readonly workMs: () => number;
  /** tamper may change a frame that a hostile hub sends; undefined drops it. */
  readonly tamper: (peer: string, frame: PeerFrame) => readonly PeerFrame[];
  readonly onOutput: (
    output: Extract<Output, { kind: "registered" | "deregistered" | "acked" | "refused" | "bound" | "presence_noted" }>,
  ) => void;
  /** A call that the store refused. */
  readonly onRejected: (call: number) => void;
  readonly onWatch: (watch: number, pushes: readonly WatchPush[]) => void;
}

interface Session {
  readonly id: number;
  readonly peer: string;
  offer: PeerFrame | undefined;
  owed: number;
}

/** GATEWAY may speak for all nodes of a hub. */
export const GATEWAY: Scope = { name: "gateway/sim", kind: "gateway", ids: [], prefixes: [""] };

function frameCost(frame: PeerFrame): number {
  if (frame.type === "segment") return frame.segment.length + FRAME_OVERHEAD;
  if (frame.type === "snapshot") return frame.manifest.length + FRAME_OVERHEAD;
  return (frame.type === "snapshot_part" ? frame.data.length : 0) + FRAME_OVERHEAD;
}

/** RegistryHost runs the shipping registry core of one process with the shipping driver; frames go to peers as in its own `links.ts`. */
export class RegistryHost implements Service {
  readonly #p: Process;
  readonly #hooks: RegistryHooks;
  readonly disk: Disk;
  readonly links: Links;
  readonly core: RegistryCore;
  readonly #sessions = new Map<number, Session>();
  readonly #byPeer = new Map<string, Session>();
  readonly #answers = new Map<number, (records: readonly NodeRecord[]) => void>();
  #driver: Driver<Input> | undefined;
  #lastId = 0;

  constructor(p: Process, disk: Disk, hooks: RegistryHooks) {
    this.#p = p;
    this.#hooks = hooks;
    this.disk = disk;
    this.core = new RegistryCore({
      ...REGISTRY_DEFAULTS,
      ...hooks.options,
      hubId: p.hubId,
      codec: segmentCodec,
      crypto: simCrypto(p.hubId),
      publicKey: feedKeyOf(p.hubId),
      limits: LIMITS,
      shares: hooks.shares(),
    });
    this.links = new Links({
      ...linksBase(p, "registry"),
      synchronises: true,
      heads: (peer) => this.core.heads(peer),
      onUp: (peer, _session, replaced) => this.#onUp(peer, replaced !== undefined),
      onDown: (peer) => this.#onDown(peer),
      onFrame: (peer, _session, frame) => this.#onFrame(peer, frame as PeerFrame),
      onHeads: (peer, heads, rttMs) => this.#onHeads(peer, heads as readonly FeedPosition[], rttMs),
      onCredit: (peer) => this.#onCredit(peer),
    });
  }

  start(): void {
    const { clock, metrics, log, bootId } = this.#p;
    const { store } = this.disk;
    this.core.restore(store, { bootId, durability: store.durability });
    this.#driver = createDriver<Input, Effect>({
      service: "registry-sync",
      core: this.#p.sabotage.registry?.(this.core, this.#p.hub) ?? this.core,
      store,
      clock,
      log,
      metrics,
      commit: "turn",
      execute: (effect) => this.#execute(effect),
      observe: (event) =>
        this.#p.trace.note(
          this.#p.scheduler.now,
          this.#p.hub,
          event.event,
          () => `${event.hub} ${event.text} ${JSON.stringify(event.fields)}`,
        ),
      reject: (effect) => {
        if (!("call" in effect)) return "keep";
        this.#hooks.onRejected(effect.call);
        return "drop";
      },
      onStored: (report) =>
        report.ok ? (report.recovered ? { kind: "stored", ok: true } : undefined) : { kind: "stored", ok: false, failure: report.failure },
      onFatal: (error) => this.#p.fatal("registry-sync", error),
    });
    this.tell({ kind: "start" });
    this.setPeers();
  }

  /** id is a fresh number for calls, streams, watches and sessions. */
  id(): number {
    return ++this.#lastId;
  }

  tell(input: Input): void {
    this.#driver?.tell(input);
  }

  /** post gives an input of a client; false when the mailbox is full. */
  post(input: Input): boolean {
    return this.#driver?.post(input) ?? false;
  }

  setPeers(): void {
    const { hub, hubIds, trust } = this.#p;
    const others = hubIds.flatMap((hubId, i) => (i === hub ? [] : [{ hubId, trust: trust(i) }]));
    this.tell({ kind: "peers", peers: others.map(({ hubId, trust: { level, share } }) => ({ hubId, level, share })), complete: true });
    for (const peer of others) this.links.setTrust(peer.hubId, peer.trust);
  }

  setShares(): void {
    this.tell({ kind: "shares", shares: this.#hooks.shares() });
  }

  /** list asks for all nodes of one hub, as this hub sees them. */
  list(hubId: string, done: (records: readonly NodeRecord[]) => void): void {
    const call = this.id();
    this.#answers.set(call, done);
    const filter = { hubIds: [hubId], nodeIdPrefix: "", type: "", kind: 0, capability: "", onlineOnly: false, labels: {} };
    const query: Query = { type: "list", filter, limit: 1_000 };
    this.tell({ kind: "query", call, query });
  }

  stop(): Promise<boolean> {
    this.tell({ kind: "stop" });
    this.links.stop();
    return this.#driver?.stop() ?? Promise.resolve(false);
  }

  describe(): string {
    return `${this.core.describe()}\n${this.links.describe()}`;
  }

  #execute(effect: Gated<Effect>): void {
    const { scheduler, trace, hub, clock } = this.#p;
    trace.note(scheduler.now, hub, effect.kind === "send" ? `send ${effect.frame.type}` : effect.kind, () =>
      "session" in effect ? `to ${this.#sessions.get(effect.session)?.peer}` : "",
    );
    switch (effect.kind) {
      case "want_flush":
        clock.setImmediate(() => this.tell({ kind: "flush" }));
        return;
      case "send":
        return this.#send(effect.session, effect.frame);
      case "synced": {
        const session = this.#sessions.get(effect.session);
        if (session !== undefined) this.links.synced(session.peer);
        return;
      }
      case "compress":
        clock.setTimer(this.#hooks.workMs(), () =>
          this.tell({ kind: "compressed", job: effect.job, codec: CODEC.IDENTITY, bytes: effect.raw }),
        );
        return;
      case "decompress":
        clock.setTimer(this.#hooks.workMs(), () => this.tell({ kind: "decompressed", job: effect.job, bytes: effect.bytes }));
        return;
      case "answer": {
        const done = this.#answers.get(effect.call);
        this.#answers.delete(effect.call);
        if (effect.answer.type === "nodes") done?.(effect.answer.records);
        return;
      }
      case "watch_send":
        this.#hooks.onWatch(effect.watch, effect.pushes);
        clock.setImmediate(() => this.tell({ kind: "watch_ready", watch: effect.watch }));
        return;
      case "registered":
      case "deregistered":
      case "acked":
      case "refused":
      case "bound":
      case "presence_noted":
        return this.#hooks.onOutput(effect);
      default:
        return;
    }
  }

  #send(id: number, frame: PeerFrame): void {
    const session = this.#sessions.get(id);
    if (session === undefined) return;
    for (const each of this.#hooks.tamper(session.peer, frame)) {
      if (!this.links.send(session.peer, each, frameCost(each))) {
        this.links.disconnect(session.peer, { reason: "OVERLOADED", message: "the session cannot take more; connect again to resume" });
        return;
      }
    }
    session.owed += frameCost(frame);
    if (session.owed >= this.#p.windowBytes / 16 && this.links.writable(session.peer)) this.#repay(session);
  }

  #repay(session: Session): void {
    const bytes = session.owed;
    session.owed = 0;
    this.tell({ kind: "credit", session: session.id, bytes });
  }

  #onCredit(peer: string): void {
    const session = this.#byPeer.get(peer);
    if (session !== undefined && session.owed > 0 && this.links.writable(peer)) this.#repay(session);
  }

  #onUp(peer: string, replaced: boolean): void {
    const offer = replaced ? this.#byPeer.get(peer)?.offer : undefined;
    this.#onDown(peer);
    const session: Session = { id: this.id(), peer, offer, owed: 0 };
    this.#sessions.set(session.id, session);
    this.#byPeer.set(peer, session);
    this.tell({ kind: "session_up", session: session.id, peer, creditBytes: this.#p.windowBytes / 4 });
    if (offer !== undefined) this.tell({ kind: "frame", session: session.id, frame: offer });
  }

  #onDown(peer: string): void {
    const session = this.#byPeer.get(peer);
    if (session === undefined) return;
    this.#sessions.delete(session.id);
    this.#byPeer.delete(peer);
    this.tell({ kind: "session_down", session: session.id });
  }

  #onFrame(peer: string, frame: PeerFrame): void {
    const session = this.#byPeer.get(peer);
    if (session === undefined) return;
    if (frame.type === "feed_offer") {
      this.tell({ kind: "feed_key", peer, key: feedKeyOf(peer), serial: 1, notAfterWall: Number.MAX_SAFE_INTEGER, revokesUpTo: 0 });
      session.offer = frame;
    }
    this.tell({ kind: "frame", session: session.id, frame });
  }

  #onHeads(peer: string, heads: readonly FeedPosition[], rttMs: number): void {
    const session = this.#byPeer.get(peer);
    if (session !== undefined) this.tell({ kind: "heads", session: session.id, heads, rttMs: rttMs < 0 ? undefined : rttMs });
  }
}
