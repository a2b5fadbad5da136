import { createHash } from "node:crypto";
import type { Crypto } from "#kernel/crypto.ts";
import type { Now } from "#kernel/instant.ts";
import { Prng } from "#kernel/prng.ts";
import type { Committed, EngineEffect, EngineInput, Membership, ReplicaId } from "../../services/coordination/log/engine.ts";
import type { RaftTuning } from "../../services/coordination/raft/config.ts";
import { RAFT_PARTS, RaftEngine, type RaftParts } from "../../services/coordination/raft/engine.ts";
import type { RaftFrame } from "../../services/coordination/raft/frames.ts";
import { MemoryStore } from "../fakes/memory-store.ts";

/** WALL is the wall clock at the beginning. */
export const WALL = 1_800_000_000_000;

const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text);

/** textOf reads a payload. */
export const textOf = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);

/** fakeKey is the public key of a replica's hub here. */
export const fakeKey = (replica: ReplicaId): Uint8Array => createHash("sha256").update(replica).digest();

/** fakeCrypto signs by a keyed hash. */
export function fakeCrypto(self: ReplicaId): Crypto {
  const tag = (key: Uint8Array, data: Uint8Array): Uint8Array => createHash("sha512").update(key).update(data).digest();
  return {
    hash: (data) => new Uint8Array(createHash("sha256").update(data).digest()),
    sign: (data) => tag(fakeKey(self), data),
    verify: (key, data, signature) => Buffer.compare(tag(key, data), signature) === 0,
  };
}

/** Letter is a frame on its way. */
export interface Letter {
  readonly from: ReplicaId;
  readonly to: ReplicaId;
  readonly frame: RaftFrame;
}

type Effect = EngineEffect<RaftFrame>;
type Output = Exclude<Effect, { kind: "persist" | "observe" }>;

/** RaftNode is one replica with its disk, its application, and what came out of it. */
export class RaftNode {
  readonly id: ReplicaId;
  readonly #cluster: RaftCluster;
  engine!: RaftEngine;
  store = new MemoryStore();
  /** Writes are done when `flush` is called. */
  slowDisk = false;
  /** The application's state is given at once when it is asked for. */
  captures = true;
  /** The application: texts of all payloads, in order. */
  applied: string[] = [];
  appliedIndex = 0;
  entries: Committed[] = [];
  answers: Exclude<Effect, { kind: "persist" | "send" | "committed" }>[] = [];
  observed: string[] = [];
  trace: ((effect: Effect) => void) | undefined;
  #queue: Effect[] = [];

  constructor(cluster: RaftCluster, id: ReplicaId) {
    this.#cluster = cluster;
    this.id = id;
  }

  start(bootstrap: Membership | undefined, parts: RaftParts): void {
    const { tuning, check } = this.#cluster;
    this.engine = new RaftEngine(
      {
        self: this.id,
        crypto: fakeCrypto(this.id),
        prng: new Prng(Number.parseInt(this.id, 36) + this.#cluster.restarts++),
        keysOf: (replica) => [fakeKey(replica)],
        ...(check === undefined ? {} : { check }),
        ...(bootstrap === undefined ? {} : { bootstrap }),
        tuning,
      },
      this.store,
      parts,
    );
    [this.applied, this.appliedIndex, this.entries, this.#queue] = [[], 0, [], []];
  }

  step(input: EngineInput<RaftFrame>): Effect[] {
    const out: Effect[] = [];
    this.engine.step(this.#cluster.now, input, out);
    this.#take(out);
    return out;
  }

  tick(): Effect[] {
    const out: Effect[] = [];
    this.engine.tick(this.#cluster.now, out);
    this.#take(out);
    return out;
  }

  /** crash loses what was not flushed, and starts again. */
  crash(parts: RaftParts = RAFT_PARTS): void {
    this.store = this.store.crash("process");
    this.start(undefined, parts);
  }

  /** flush makes everything durable, and lets out what waited for it. */
  flush(): void {
    const queue = this.#queue;
    this.#queue = [];
    for (const effect of queue) this.#do(effect);
  }

  #take(out: readonly Effect[]): void {
    const hardWaits = (): boolean => this.#queue.some((effect) => effect.kind === "persist" && effect.hard);
    for (const effect of out) {
      this.trace?.(effect);
      if (effect.kind === "observe") this.observed.push(effect.what);
      else if (effect.kind === "send" && effect.early && !hardWaits()) this.#do(effect);
      else this.#queue.push(effect);
    }
    if (!this.slowDisk) this.flush();
  }

  #do(effect: Effect): void {
    if (effect.kind === "persist") {
      const outcome = this.store.commit(effect.ops) as { readonly ok: boolean };
      if (!outcome.ok) throw new Error(`the store refuses: ${JSON.stringify(outcome)}`);
    } else if (effect.kind !== "observe") this.#output(effect);
  }

  #output(effect: Output): void {
    switch (effect.kind) {
      case "send":
        return this.#cluster.post({ from: this.id, to: effect.to, frame: effect.frame });
      case "stored":
        return void this.step({ kind: "stored", mark: effect.mark });
      case "committed":
        for (const entry of effect.entries) {
          if (entry.index !== this.appliedIndex + 1) throw new Error(`${entry.index} is given out behind ${this.appliedIndex}`);
          this.appliedIndex = entry.index;
          this.entries.push(entry);
          this.applied.push(...entry.payloads.map(textOf));
        }
        return;
      case "install":
        this.appliedIndex = effect.snapshot.index;
        this.applied = JSON.parse(textOf(effect.snapshot.state)) as string[];
        this.answers.push(effect);
        return;
      case "capture":
        this.answers.push(effect);
        if (!this.captures) return;
        return void this.step({ kind: "captured", index: this.appliedIndex, state: bytesOf(JSON.stringify(this.applied)) });
      default:
        this.answers.push(effect);
    }
  }
}

/** RaftCluster is some replicas in one process, with virtual time and a net that can be cut. Frames take `latency` ms. */
export class RaftCluster {
  readonly nodes = new Map<ReplicaId, RaftNode>();
  readonly tuning: Partial<RaftTuning>;
  readonly check: ((payload: Uint8Array) => string | undefined) | undefined;
  mono = 0;
  /** Added to the wall clock. */
  wallShift = 0;
  latency = 1;
  restarts = 0;
  /** Replicas that reach nobody, and nobody reaches. */
  readonly cut = new Set<ReplicaId>();
  /** Decides whether a letter is lost. */
  lose: (letter: Letter) => boolean = () => false;
  /** How long each copy of a letter takes. */
  delays: (letter: Letter) => readonly number[] = () => [this.latency];
  readonly post = (letter: Letter): void => {
    if (!this.lose(letter)) for (const delay of this.delays(letter)) this.#letters.push({ letter, at: this.mono + delay });
  };
  #letters: { readonly letter: Letter; readonly at: number }[] = [];
  #calls = 0;

  constructor(
    voters: readonly ReplicaId[],
    options: {
      readonly tuning?: Partial<RaftTuning>;
      readonly check?: (payload: Uint8Array) => string | undefined;
      readonly parts?: RaftParts;
    } = {},
  ) {
    this.tuning = options.tuning ?? {};
    this.check = options.check;
    for (const id of voters) this.add(id, { voters, outgoing: [], learners: [] }, options.parts);
  }

  get now(): Now {
    return { mono: this.mono, wall: WALL + this.mono + this.wallShift };
  }

  /** add starts a replica; one without `bootstrap` waits to be made a learner. */
  add(id: ReplicaId, bootstrap?: Membership, parts: RaftParts = RAFT_PARTS): RaftNode {
    const node = new RaftNode(this, id);
    node.start(bootstrap, parts);
    this.nodes.set(id, node);
    return node;
  }

  node(id: ReplicaId): RaftNode {
    const node = this.nodes.get(id);
    if (node === undefined) throw new Error(`there is no ${id}`);
    return node;
  }

  get leader(): RaftNode | undefined {
    const leaders = [...this.nodes.values()].filter((node) => !this.cut.has(node.id) && node.engine.status(this.now).role === "leader");
    return leaders.sort((a, b) => b.engine.status(this.now).term - a.engine.status(this.now).term)[0];
  }

  /** pass lets time go by, one ms at a time: letters arrive, timers ring. */
  pass(ms: number): void {
    for (const end = this.mono + ms; this.mono < end; ) {
      this.mono++;
      this.#deliver();
      for (const node of this.nodes.values()) if ((node.engine.deadline() ?? Number.POSITIVE_INFINITY) <= this.mono) node.tick();
    }
  }

  /** until lets time go by until something is so. */
  until(what: () => boolean, ms = 10_000): void {
    for (const end = this.mono + ms; !what(); ) {
      if (this.mono >= end) throw new Error(`it does not happen\n${this.describe()}`);
      this.pass(1);
    }
  }

  /** elect waits for a leader that has committed an entry of its term. */
  elect(): RaftNode {
    this.until(() => {
      const leader = this.leader;
      const committed = leader?.engine.status(this.now).committed ?? 0;
      return leader !== undefined && leader.entries.at(-1)?.term === leader.engine.status(this.now).term && committed > 0;
    });
    return this.leader as RaftNode;
  }

  call(): number {
    return ++this.#calls;
  }

  propose(node: RaftNode, text: string): number {
    const call = this.call();
    node.step({ kind: "propose", call, payload: bytesOf(text) });
    return call;
  }

  describe(): string {
    return [...this.nodes.values()].map((node) => node.engine.describe()).join("\n");
  }

  #deliver(): void {
    const due = this.#letters.filter(({ at }) => at <= this.mono);
    this.#letters = this.#letters.filter(({ at }) => at > this.mono);
    for (const { letter } of due) {
      const { from, to, frame } = letter;
      if (!this.cut.has(from) && !this.cut.has(to)) this.nodes.get(to)?.step({ kind: "frame", from, frame });
    }
  }
}
