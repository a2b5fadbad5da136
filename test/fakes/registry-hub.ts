import { zstdCompressSync } from "node:zlib";
import { create, toBinary } from "@bufbuild/protobuf";
import { CapabilitySchema, NodeSchema } from "#gen/foedus/common/v1/node_pb.ts";
import type { ValueType } from "#gen/foedus/common/v1/value_pb.ts";
import { LIMITS } from "#kernel/bounds/limits.ts";
import type { StoreOp } from "#kernel/core.ts";
import { createCrypto, type FeedKey, importFeedKey } from "#runtime/crypto.ts";
import { segmentCodec } from "../../services/registry-sync/codec/segment-codec.ts";
import { RegistryCore } from "../../services/registry-sync/core.ts";
import type {
  Answer,
  Effect,
  Input,
  NamedUpdate,
  NodeFilter,
  NodeOutcome,
  NodeRecord,
  PeerFrame,
  Scope,
  WatchPush,
} from "../../services/registry-sync/messages.ts";
import type { Boot, StoreReader } from "../../services/registry-sync/ports.ts";
import { REGISTRY_DEFAULTS, type RegistryOptions } from "../../services/registry-sync/world.ts";

/** Instants is a clock that several hubs share and a test moves. */
export class Instants {
  mono = 1_000;
  wall = 1_700_000_000_000;
  advance(ms: number): void {
    this.mono += ms;
    this.wall += ms;
  }
}

/** MemoryDisk is what survives a crash. It refuses what a real store refuses. */
export class MemoryDisk implements StoreReader {
  readonly #logs = new Map<string, Map<number, Uint8Array>>();
  readonly #spaces = new Map<string, Map<string, Uint8Array>>();

  apply(ops: readonly StoreOp[]): void {
    for (const op of ops) this.#apply(op);
  }

  #apply(op: StoreOp): void {
    switch (op.op) {
      case "append": {
        // As in the store that ships: what it does not take ends the hub.
        if (!(op.seq >= 0 && op.seq < 2 ** 40)) throw new Error(`out of range: ${op.log}/${op.seq}`);
        const log = this.#logs.get(op.log) ?? new Map<number, Uint8Array>();
        if (log.has(op.seq)) throw new Error(`conflict at ${op.log}/${op.seq}`);
        this.#logs.set(op.log, log.set(op.seq, op.bytes.slice()));
        break;
      }
      case "trim":
        for (const seq of [...(this.#logs.get(op.log)?.keys() ?? [])]) if (seq < op.below) this.#logs.get(op.log)?.delete(seq);
        break;
      case "cut":
        for (const seq of [...(this.#logs.get(op.log)?.keys() ?? [])]) if (seq >= op.from) this.#logs.get(op.log)?.delete(seq);
        break;
      case "drop":
        this.#logs.delete(op.log);
        break;
      case "put":
        this.#spaces.set(op.space, (this.#spaces.get(op.space) ?? new Map<string, Uint8Array>()).set(op.key, op.bytes.slice()));
        break;
      case "delete":
        this.#spaces.get(op.space)?.delete(op.key);
        break;
      case "clear":
        this.#spaces.delete(op.space);
        break;
    }
  }

  copy(): MemoryDisk {
    const copy = new MemoryDisk();
    for (const [log, blobs] of this.#logs) copy.#logs.set(log, new Map(blobs));
    for (const [space, blobs] of this.#spaces) copy.#spaces.set(space, new Map(blobs));
    return copy;
  }

  logs(): string[] {
    return [...this.#logs.keys()].filter((log) => (this.#logs.get(log)?.size ?? 0) > 0).sort();
  }
  *read(log: string, from: number): Iterable<{ seq: number; bytes: Uint8Array }> {
    for (const [seq, bytes] of [...(this.#logs.get(log) ?? [])].sort((a, b) => a[0] - b[0])) if (seq >= from) yield { seq, bytes };
  }
  *space(space: string): Iterable<{ key: string; bytes: Uint8Array }> {
    for (const [key, bytes] of [...(this.#spaces.get(space) ?? [])].sort()) yield { key, bytes };
  }
  get(space: string, key: string): Uint8Array | undefined {
    return this.#spaces.get(space)?.get(key);
  }
}

/** keyOf is the feed key that a test hub signs with: its seed is made of its name. */
export function keyOf(hubId: string): FeedKey {
  const seed = new Uint8Array(32);
  seed.set(new TextEncoder().encode(hubId).subarray(0, 32));
  return importFeedKey(seed);
}

/** nodeBytes encodes a node with capabilities given as `name:type`, with `!` for invocable. */
export function nodeBytes(
  nodeId: string,
  capabilities: readonly string[],
  more: { type?: string; labels?: Record<string, string>; name?: string } = {},
): Uint8Array {
  const types: Record<string, number> = { bool: 1, int: 2, double: 3, string: 4, bytes: 5, json: 6 };
  const list = capabilities.map((text) => {
    const [name = "", type = ""] = text.replace("!", "").split(":");
    return create(CapabilitySchema, { name, type: (types[type] ?? 0) as ValueType, readable: true, invocable: text.includes("!") });
  });
  return toBinary(
    NodeSchema,
    create(NodeSchema, { nodeId, type: more.type ?? "", name: more.name ?? "", labels: more.labels ?? {}, capabilities: list }),
  );
}

export const ANY_NODE: NodeFilter = { hubIds: [], nodeIdPrefix: "", type: "", kind: 0, capability: "", onlineOnly: false, labels: {} };
export const GATEWAY: Scope = { name: "gateway/test", kind: "gateway", ids: [], prefixes: [""] };

type Output = Exclude<Effect, { kind: "persist" | "observe" }>;

/** TestHub is a core with a disk: outputs wait for the commit like in the driver (DC2); `commit` and `turn` are the test's. */
export class TestHub {
  readonly id: string;
  readonly #clock: Instants;
  readonly #options: Partial<RegistryOptions>;
  readonly boot: Boot;
  disk: MemoryDisk;
  core: RegistryCore;
  readonly #gate: { readonly ticket: number; readonly effect: Output }[] = [];
  #ops: StoreOp[] = [];
  #ticket = 1;
  #wantFlush = false;
  readonly outbox: { readonly session: number; readonly frame: PeerFrame }[] = [];
  readonly acked = new Map<number, number>();
  readonly refused: Extract<Effect, { kind: "refused" }>[] = [];
  readonly bound: Extract<Effect, { kind: "bound" }>[] = [];
  readonly registered = new Map<number, readonly NodeOutcome[]>();
  readonly answers = new Map<number, Answer>();
  readonly pushes = new Map<number, WatchPush[]>();
  readonly events: Extract<Effect, { kind: "observe" }>[] = [];
  readonly others: Output[] = [];
  call = 0;
  /** Watches that take every push at once. */
  eager = true;
  /** Parts of snapshots are compressed with zstd, as by the shell; who receives them answers `decompress` in `others`. */
  zstd = false;
  /** The disk takes nothing: what was persisted waits, as in the driver. */
  stuck = false;

  constructor(
    id: string,
    clock: Instants,
    options: Partial<RegistryOptions> = {},
    disk = new MemoryDisk(),
    boot: Boot = { bootId: "boot", durability: "full" },
  ) {
    this.id = id;
    this.#clock = clock;
    this.#options = options;
    this.disk = disk;
    this.boot = boot;
    this.core = new RegistryCore({
      ...REGISTRY_DEFAULTS,
      hubId: id,
      codec: segmentCodec,
      crypto: createCrypto(keyOf(id)),
      publicKey: keyOf(id).publicKey,
      limits: LIMITS,
      ...options,
    });
    this.core.restore(disk, boot);
    this.post({ kind: "start" });
  }

  /** crash gives the hub that a restart would be: only what was committed is there. */
  crash(options: Partial<RegistryOptions> = {}, boot: Boot = this.boot): TestHub {
    return new TestHub(this.id, this.#clock, { ...this.#options, ...options }, this.disk, boot);
  }

  post(input: Input): void {
    // The driver does what was due before it gives an input of a later instant (DR10).
    if ((this.core.deadline() ?? Number.POSITIVE_INFINITY) < this.#clock.mono) this.#tick();
    const out: Effect[] = [];
    this.core.step({ mono: this.#clock.mono, wall: this.#clock.wall }, input, out);
    this.#route(out);
  }

  #route(out: readonly Effect[]): void {
    for (const effect of out) {
      if (effect.kind === "persist") this.#ops.push(...effect.ops);
      else if (effect.kind === "observe") this.events.push(effect);
      else if (this.#ops.length === 0 && this.#gate.length === 0) this.#execute(effect);
      else this.#gate.push({ ticket: this.#ops.length > 0 ? this.#ticket : this.#ticket - 1, effect });
    }
  }

  /** commit makes durable what was persisted, and lets out what waited for it. */
  commit(): boolean {
    if (this.#ops.length === 0 || this.stuck) return false;
    this.disk.apply(this.#ops);
    this.#ops = [];
    const done = this.#ticket++;
    while (this.#gate[0] !== undefined && this.#gate[0].ticket <= done) this.#execute((this.#gate.shift() as { effect: Output }).effect);
    return true;
  }

  /** turn does what the loop would do next; false if nothing is left. */
  turn(): boolean {
    let busy = this.commit();
    if (this.#wantFlush) {
      this.#wantFlush = false;
      this.post({ kind: "flush" });
      busy = true;
    }
    const part = this.#compressing.shift();
    if (part !== undefined) {
      const bytes = this.zstd ? new Uint8Array(zstdCompressSync(part.raw)) : part.raw;
      this.post({ kind: "compressed", job: part.job, codec: this.zstd ? 2 : 1, bytes });
      busy = true;
    }
    for (const watch of [...this.#unready]) {
      this.#unready.delete(watch);
      if (!this.eager) continue;
      this.post({ kind: "watch_ready", watch });
      busy = true;
    }
    if (this.#tick()) busy = true;
    return this.commit() || busy;
  }

  /** tick does what is due. */
  #tick(): boolean {
    const deadline = this.core.deadline();
    if (deadline === undefined || deadline > this.#clock.mono) return false;
    const out: Effect[] = [];
    this.core.tick({ mono: this.#clock.mono, wall: this.#clock.wall }, out);
    this.#route(out);
    return true;
  }

  readonly #unready = new Set<number>();
  /** Parts that are being compressed: one comes back per turn, so that other inputs come in between. */
  readonly #compressing: Extract<Effect, { kind: "compress" }>[] = [];

  settle(): void {
    for (let i = 0; this.turn(); i++) if (i > 10_000) throw new Error(`${this.id} does not come to rest`);
  }

  #execute(effect: Output): void {
    switch (effect.kind) {
      case "want_flush":
        this.#wantFlush = true;
        break;
      case "send":
        this.outbox.push(effect);
        break;
      case "compress":
        this.#compressing.push(effect);
        break;
      case "acked":
        this.acked.set(effect.stream, effect.upTo);
        break;
      case "refused":
        this.refused.push(effect);
        break;
      case "bound":
        this.bound.push(effect);
        break;
      case "registered":
        this.registered.set(effect.call, effect.results);
        break;
      case "answer":
        this.answers.set(effect.call, effect.answer);
        break;
      case "watch_send":
        this.pushes.set(effect.watch, [...(this.pushes.get(effect.watch) ?? []), ...effect.pushes]);
        this.#unready.add(effect.watch);
        break;
      default:
        this.others.push(effect);
    }
  }

  // ---- shorthands

  register(...nodes: Uint8Array[]): number {
    this.post({ kind: "register", call: ++this.call, scope: GATEWAY, nodes });
    return this.call;
  }

  deregister(nodeId: string): void {
    this.post({ kind: "deregister", call: ++this.call, scope: GATEWAY, nodeId });
  }

  update(stream: number, seq: number, updates: readonly NamedUpdate[]): void {
    this.post({ kind: "named", stream, seq, updates });
  }

  ask(filter: Partial<NodeFilter> = {}): readonly NodeRecord[] {
    this.post({
      kind: "query",
      call: ++this.call,
      query: { type: "list", filter: { ...ANY_NODE, ...filter }, limit: 1_000 },
    });
    this.settle();
    const answer = this.answers.get(this.call);
    if (answer?.type !== "nodes") throw new Error("no answer");
    return answer.records;
  }
}

/** TestLink is a session between two hubs; frames wait in it until they are delivered. */
export class TestLink {
  static #next = 1;
  readonly id = TestLink.#next++;
  readonly a: TestHub;
  readonly b: TestHub;
  up = true;

  constructor(a: TestHub, b: TestHub, creditBytes = 64 * 1024 * 1024) {
    this.a = a;
    this.b = b;
    for (const [self, other] of [
      [a, b],
      [b, a],
    ] as const) {
      self.post({
        kind: "feed_key",
        peer: other.id,
        key: keyOf(other.id).publicKey,
        serial: 1,
        notAfterWall: Number.MAX_SAFE_INTEGER,
        revokesUpTo: 0,
      });
    }
    for (const [self, other] of [
      [a, b],
      [b, a],
    ] as const)
      self.post({ kind: "session_up", session: this.id, peer: other.id, creditBytes });
  }

  /** deliver moves what waits; `fate` may lose (0) or repeat (2) a frame. Answers how many went. */
  deliver(fate: (frame: PeerFrame) => number = () => 1): number {
    let moved = 0;
    for (const [from, to] of [
      [this.a, this.b],
      [this.b, this.a],
    ] as const) {
      const mine = from.outbox.filter((item) => item.session === this.id);
      for (const item of mine) from.outbox.splice(from.outbox.indexOf(item), 1);
      for (const { frame } of mine) {
        moved++;
        if (this.up) for (let i = fate(frame); i > 0; i--) to.post({ kind: "frame", session: this.id, frame });
        if (this.up && frame.type !== "ack")
          from.post({
            kind: "credit",
            session: this.id,
            bytes: 256 + (frame.type === "segment" ? frame.segment.length : frame.type === "snapshot_part" ? frame.data.length : 0),
          });
      }
    }
    return moved;
  }

  /** ping exchanges heads. */
  ping(): void {
    for (const [from, to] of [
      [this.a, this.b],
      [this.b, this.a],
    ] as const) {
      from.settle();
      if (this.up) to.post({ kind: "heads", session: this.id, heads: from.core.heads(to.id), rttMs: 2 });
    }
  }

  down(): void {
    this.up = false;
    for (const hub of [this.a, this.b]) {
      hub.post({ kind: "session_down", session: this.id });
      for (const item of hub.outbox.filter(({ session }) => session === this.id)) hub.outbox.splice(hub.outbox.indexOf(item), 1);
    }
  }
}

/** settleAll runs hubs and links until nothing moves. */
export function settleAll(hubs: readonly TestHub[], links: readonly TestLink[], fate?: (frame: PeerFrame) => number): void {
  for (let i = 0; ; i++) {
    let busy = false;
    for (const hub of hubs) while (hub.turn()) busy = true;
    for (const link of links) if (link.deliver(fate) > 0) busy = true;
    if (!busy) return;
    if (i > 10_000) throw new Error("the hubs do not come to rest");
  }
}
