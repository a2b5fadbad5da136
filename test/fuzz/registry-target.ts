import { zstdDecompressSync } from "node:zlib";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { decodeRequest, Malformed } from "#channel/messages.ts";
import {
  FeedSchema,
  NodeRecordSchema,
  RegistrySyncService,
  WatchResponseSchema,
} from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import { type SessionFrame, type SessionRequest, SessionRequestSchema } from "#gen/foedus/registry_sync/v1alpha1/session_pb.ts";
import type { Prng } from "#kernel/prng.ts";
import { type Envelope, sessionCodec } from "#runtime/sessions/session-codec.ts";
import { blocksMessage, feedToProto, pushToProto, recordToProto } from "../../services/registry-sync/codec/answer-codec.ts";
import { frameFromProto } from "../../services/registry-sync/codec/frame-codec.ts";
import { FULL_SHARE } from "../../services/registry-sync/config.ts";
import type { NodeRule } from "../../services/registry-sync/messages.ts";
import { verifyKeyStatement } from "../../services/registry-sync/shell/key.ts";
import { ANY_NODE, Instants, TestHub } from "../fakes/registry-hub.ts";
import { feedKeyOf, simCrypto } from "../simulator/crypto.ts";
import { Reader } from "./reader.ts";
import { LAMP, PEER, RegistryMessages } from "./registry-messages.ts";
import { must, Tally, type Target } from "./target.ts";

/** What a peer sends that has no feed here yet, in its order; then what it sends all the time, and what it says now and then. */
const OPENING = ["feed_offer", "snapshot", "snapshot_part", "snapshot_part", "snapshot_part"];
const OTHERS = ["snapshot", "feed_offer", "feed_open", "ack", "nack", "forget_done", "control", "snapshot_part"];
/** Rules that keep out what is no lamp, so that nodes come in, are kept out, and change from one to the other. */
const LAMPS: NodeRule = { ids: [], types: [LAMP], kind: 0, labels: {}, allow: true, capabilities: ["*"], invoke: [] };
const CODEC = sessionCodec<SessionFrame>(RegistrySyncService.method.session);

/** RegistryTarget is a registry with a hostile peer of level LIMITED: what it takes it must be able to show, send on, and find again. */
export class RegistryTarget extends Tally implements Target {
  readonly name = "registry: frames of a peer";
  readonly weight = 4;
  #messages: RegistryMessages | undefined;
  #session = 0;
  #taken = 0;
  #opening = 0;
  #clock = new Instants();
  readonly #reader = new Reader();
  /** Half of the hubs have import rules. */
  #picky = false;
  #hub = this.#start();

  renew(prng: Prng): void {
    this.#clock = new Instants();
    this.#picky = prng.chance(0.5);
    this.#hub = this.#start();
    this.#messages = undefined;
    this.#opening = 0;
    this.#taken = 0;
  }

  #start(): TestHub {
    const hub = new TestHub("me", this.#clock, {
      checkpointSegments: 5,
      crypto: simCrypto("me"),
      importRules: this.#picky ? [LAMPS] : undefined,
    });
    this.#reader.open(hub);
    this.#connect(hub);
    return hub;
  }

  #connect(hub: TestHub): void {
    this.#session++;
    const key = feedKeyOf(PEER);
    hub.post({ kind: "peers", peers: [{ hubId: PEER, share: FULL_SHARE, level: 2 }], complete: true });
    hub.post({ kind: "feed_key", peer: PEER, key, serial: 1, notAfterWall: Number.MAX_SAFE_INTEGER, revokesUpTo: 0 });
    hub.post({ kind: "session_up", session: this.#session, peer: PEER, creditBytes: 2 ** 40 });
    hub.settle();
  }

  take(prng: Prng): void {
    this.#messages ??= new RegistryMessages(prng, () => this.#clock.wall);
    this.#door(this.#messages.frame(this.#kind(prng)));
    this.#clock.advance(150);
    this.#settle();
    if (this.#hear() && this.#taken++ % 8 === 0) this.#prove();
  }

  #kind(prng: Prng): string {
    if (prng.chance(0.15)) return OTHERS[prng.below(OTHERS.length)] as string;
    if (this.#messages !== undefined && this.#messages.held.epoch > 0) return "segment";
    return OPENING[this.#opening++ % OPENING.length] as string;
  }

  /** door does what a session's stream does with a message before the core sees it. */
  #door(bytes: Uint8Array): void {
    const message = decodeRequest(SessionRequestSchema, bytes);
    if (message instanceof Malformed) return this.refuse(message.error.failure.reason);
    const opened = CODEC.open(message as SessionRequest as Envelope<SessionFrame>);
    if (opened === undefined) return this.refuse("no frame");
    const { frame } = opened;
    const problem = CODEC.problem(frame);
    if (problem !== undefined) return this.refuse(problem.reason);
    const control = CODEC.unwrap(frame);
    if (control?.frame.case === "ping" || control?.frame.case === "pong") {
      const heads = control.frame.value.heads.map(({ hubId, share, epoch, seq, digest }) => ({
        hubId,
        share,
        epoch: Number(epoch),
        seq: Number(seq),
        digest,
      }));
      return this.#hub.post({ kind: "heads", session: this.#session, heads, rttMs: 1 });
    }
    const read = frameFromProto(frame);
    if (read === undefined) return;
    if (read.type === "feed_offer")
      verifyKeyStatement(read.keyStatement, { hubId: PEER, bundle: [], revoked: [], nowWall: this.#clock.wall });
    this.#hub.post({ kind: "frame", session: this.#session, frame: read });
  }

  #settle(): void {
    this.#hub.settle();
    for (const output of this.#hub.others.splice(0)) {
      if (output.kind !== "decompress") continue;
      this.#hub.post({ kind: "decompressed", job: output.job, bytes: inflated(output.bytes, output.rawLen) });
      this.#hub.settle();
    }
    this.#hub.events.length = 0;
    this.#reader.take(this.#hub);
  }

  /** hear notes what the hub answered, which is where its feed now is; true if it took something. */
  #hear(): boolean {
    let took = false;
    for (const { frame } of this.#hub.outbox.splice(0)) {
      if (frame.type === "nack") this.refuse(frame.failure.reason);
      if (frame.type === "nack" && frame.held.epoch > 0) this.#at(frame.held);
      if (frame.type !== "ack") continue;
      took = true;
      this.applied++;
      this.#at(frame.position);
    }
    return took;
  }

  #at(position: RegistryMessages["held"]): void {
    if (this.#messages !== undefined) this.#messages.held = position;
  }

  /** prove shows everything to a reader and a watcher of both kinds, and then again after a restart. */
  #prove(): void {
    const before = this.#shown();
    for (const feed of this.#hub.core.feeds()) toBinary(FeedSchema, create(FeedSchema, feedToProto(feed)));
    this.#watch("events");
    this.#watch("blocks");
    this.#hub = this.#hub.crash();
    must(this.#shown() === before, "a restart gave another state than was shown before");
    must(!this.#hub.events.some(({ severity }) => severity === "ERROR"), "a restart gave up what was stored");
    this.#watch("blocks");
    this.#reader.open(this.#hub);
    this.#connect(this.#hub);
    this.#offer();
  }

  /** offer makes the hub open the feed again after a restart. */
  #offer(): void {
    const head = this.#messages?.held;
    this.#hub.post({ kind: "frame", session: this.#session, frame: { type: "feed_offer", head, keyStatement: new Uint8Array(0) } });
    this.#settle();
    this.#hear();
  }

  #shown(): string {
    const records = this.#hub.ask().map((record) => {
      const {
        ageMs: _age,
        freshness: _fresh,
        online: _online,
        ...proto
      } = fromBinary(NodeRecordSchema, toBinary(NodeRecordSchema, create(NodeRecordSchema, recordToProto(record))));
      return proto;
    });
    this.#hub.answers.clear();
    return JSON.stringify(records, (_key, value) => (typeof value === "bigint" ? `${value}n` : value));
  }

  #watch(encoding: "events" | "blocks"): void {
    const hub = this.#hub;
    const watch = ++hub.call;
    hub.post({ kind: "watch_open", watch, options: { filter: ANY_NODE, encoding, nodesOnly: false, latestOnly: false, resume: [] } });
    hub.settle();
    const pushes = hub.pushes.get(watch) ?? [];
    must(pushes.length > 0, `a watcher of ${encoding} was shown nothing`);
    for (const push of pushes) {
      const bytes = push.kind === "blocks" ? blocksMessage(push).bytes : toBinary(WatchResponseSchema, pushToProto(push));
      fromBinary(WatchResponseSchema, bytes);
    }
    hub.post({ kind: "watch_close", watch });
    hub.settle();
    hub.pushes.delete(watch);
  }
}

function inflated(bytes: Uint8Array, rawLen: number): Uint8Array | undefined {
  try {
    return new Uint8Array(zstdDecompressSync(bytes, { maxOutputLength: Math.min(rawLen, 2 ** 20) }));
  } catch {
    return undefined;
  }
}
