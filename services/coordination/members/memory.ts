import type { StoreOp } from "#kernel/core.ts";
import type { Now } from "#kernel/instant.ts";
import { decode, encode } from "#kernel/wire/shape.ts";
import { hubOf, incarnationOf, type LogStatus, type ReplicaId, replicaIdOf, type StoredLog } from "../log/engine.ts";
import type { ReplicaFrame } from "../log/replica-messages.ts";
import type { Effect, EngineFrame, Greeting } from "../messages.ts";
import { type Engine, LOG_MAX, REMEMBERED, type Remembered } from "./messages.ts";

/** MEMORY_SPACE is where a member keeps what it remembers of others' replicas. */
export const MEMORY_SPACE = "coordination-memory";

/** What is remembered of others' replicas is written so often at most, ms. */
const WRITE_MS = 5_000;

const NOTHING: Remembered = { incarnation: 0, life: 0, term: 0, index: 0 };

/** Own is what a replica knows of itself. */
export interface Own {
  readonly incarnation: number;
  readonly life: number;
  /** Of its log: Raft has a term; of BFT it is 0. */
  readonly term: number;
  readonly last: number;
}

/** What a peer that was leader in a term acknowledged: decided up to what that leader knows to be. */
interface Acknowledged {
  readonly from: ReplicaId;
  readonly term: number;
  readonly index: number;
}

/**
 * Memory is what a member remembers of the replicas of others, so that one whose store fell back in time is told (zoo 27).
 *
 * MM1 nothing is remembered that a replica may lose without its store falling back: only starts and terms, which are durable before they
 *    are said, and positions that were acknowledged and are decided.
 * MM2 it survives a restart, except what came in the last seconds before a crash.
 */
export class Memory {
  readonly #of = new Map<string, Remembered>();
  readonly #acknowledged = new Map<string, Acknowledged>();
  readonly #changed = new Set<string>();

  constructor(stored: StoredLog) {
    for (const { key, bytes } of stored.space(MEMORY_SPACE)) {
      const decoded = decode(REMEMBERED, bytes);
      // What cannot be read is learnt again.
      if (decoded.ok) this.#of.set(key, decoded.value);
    }
  }

  /** of is what is remembered of a peer, with what it acknowledged and is decided by now. */
  of(peer: string, log: Pick<LogStatus, "role" | "term" | "committed">): Remembered {
    const known = this.#of.get(peer) ?? NOTHING;
    const acknowledged = this.#acknowledged.get(peer);
    if (acknowledged === undefined || log.role !== "leader" || log.term !== acknowledged.term) return known;
    if (acknowledged.from !== replicaIdOf(peer, known.incarnation)) return known;
    const index = Math.min(acknowledged.index, log.committed);
    if (index <= known.index) return known;
    const newer = { ...known, index };
    this.#put(peer, newer);
    return newer;
  }

  /** met takes what a member says of itself when its session comes up. */
  met(peer: string, { incarnation, life }: Pick<Greeting, "incarnation" | "life">): void {
    if (!isNumber(incarnation) || !isNumber(life)) return;
    const known = this.#known(peer, incarnation);
    if (known !== undefined && life > known.life) this.#put(peer, { ...known, life });
  }

  /** saw takes a frame of a peer's replica. */
  saw(from: ReplicaId, frame: EngineFrame): void {
    if (!("type" in frame)) {
      if (frame.kind === "status" && isNumber(frame.height)) this.#note(from, 0, frame.height - 1);
      return;
    }
    const isOwn = !("pre" in frame && frame.pre);
    if (!isOwn || !isNumber(frame.term)) return;
    this.#note(from, frame.term, 0);
    if (frame.type !== "append_answer" || !frame.ok || !isNumber(frame.index)) return;
    const peer = hubOf(from);
    const before = this.#acknowledged.get(peer);
    if (before?.from === from && before.term === frame.term && before.index >= frame.index) return;
    this.#acknowledged.set(peer, { from, term: frame.term, index: frame.index });
  }

  /** changes is what changed since it was last asked, for the store. `isMember` tells whose is kept. */
  changes(log: Pick<LogStatus, "role" | "term" | "committed">, isMember: (hubId: string) => boolean): StoreOp[] {
    for (const peer of this.#acknowledged.keys()) this.of(peer, log);
    const ops: StoreOp[] = [];
    for (const key of this.#changed) {
      const known = this.#of.get(key);
      if (known !== undefined && isMember(key)) ops.push({ op: "put", space: MEMORY_SPACE, key, bytes: encode(REMEMBERED, known) });
    }
    this.#changed.clear();
    for (const key of this.#of.keys())
      if (!isMember(key)) {
        this.#of.delete(key);
        this.#acknowledged.delete(key);
        ops.push({ op: "delete", space: MEMORY_SPACE, key });
      }
    return ops;
  }

  /** known is what is held of a replica; undefined for one that another has replaced. */
  #known(peer: string, incarnation: number): Remembered | undefined {
    const known = this.#of.get(peer) ?? NOTHING;
    if (incarnation < known.incarnation) return undefined;
    if (incarnation === known.incarnation) return known;
    this.#acknowledged.delete(peer);
    return { ...NOTHING, incarnation };
  }

  #note(from: ReplicaId, term: number, index: number): void {
    const peer = hubOf(from);
    const current = this.#of.get(peer);
    // Nearly every frame tells nothing new.
    if (current !== undefined && term <= current.term && index <= current.index && replicaIdOf(peer, current.incarnation) === from) return;
    const known = this.#known(peer, incarnationOf(from));
    if (known === undefined || (term <= known.term && index <= known.index)) return;
    this.#put(peer, { ...known, term: Math.max(term, known.term), index: Math.max(index, known.index) });
  }

  #put(peer: string, remembered: Remembered): void {
    this.#of.set(peer, remembered);
    this.#changed.add(peer);
  }
}

function isNumber(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0 && value <= LOG_MAX;
}

/** fellBack says what a peer remembers of a replica that this replica does not have, as a sentence; undefined if it has all of it. */
export function fellBack(peer: string, remembered: Remembered, own: Own): string | undefined {
  const { incarnation, life, term, index } = remembered;
  if (incarnation > own.incarnation)
    return `${peer} knows replica ${incarnation} of this hub, and the store has replica ${own.incarnation}`;
  if (incarnation < own.incarnation) return undefined;
  if (life > own.life) return `${peer} has heard of start ${life} of this hub, and this is start ${own.life}`;
  if (term > own.term) return `${peer} has heard of this hub in term ${term}, and the store has term ${own.term}`;
  if (index > own.last) return `this hub acknowledged the log up to ${index} to ${peer}, and the store has it up to ${own.last}`;
  return undefined;
}

/** RecallOptions are what of a replica its memory depends on. */
export interface RecallOptions {
  readonly stored: StoredLog;
  readonly engine: Engine;
  readonly incarnation: number;
  /** Number of this start. */
  readonly life: number;
}

/**
 * Recall tells others what this hub remembers of their replicas, and takes what they remember of its own.
 *
 * MM3 one member's word is enough where members may only fail. Where up to a third of them may lie, more than those must say it: a liar
 *    takes nobody's vote.
 */
export class Recall {
  readonly #o: RecallOptions;
  readonly #memory: Memory;
  readonly #doubters = new Set<string>();
  #writeAt = Number.NEGATIVE_INFINITY;

  constructor(options: RecallOptions) {
    this.#o = options;
    this.#memory = new Memory(options.stored);
  }

  /** of is what is remembered of a peer. */
  of(peer: string, log: LogStatus): Remembered {
    return this.#memory.of(peer, log);
  }

  /** saw takes a frame of a peer's replica. */
  saw(peer: string, frame: ReplicaFrame<EngineFrame>): void {
    if (frame.kind === "engine" && hubOf(frame.from) === peer) this.#memory.saw(frame.from, frame.frame);
  }

  /** greeted takes what a member says; it gives the reason once this replica is not to be trusted. */
  greeted(peer: string, greeting: Greeting, { last, term, membership }: LogStatus): string | undefined {
    const { engine, incarnation, life } = this.#o;
    this.#memory.met(peer, greeting);
    const why = fellBack(peer, greeting.remembered, { incarnation, life, last, term: engine === "raft" ? term : 0 });
    if (why === undefined) this.#doubters.delete(peer);
    else this.#doubters.add(peer);
    const voters = membership.voters.map(hubOf);
    const said = voters.filter((voter) => this.#doubters.has(voter)).length;
    return engine === "raft" || said > Math.floor((voters.length - 1) / 3) ? why : undefined;
  }

  /** look writes what was learnt, now and then: a little that is lost in a crash does no harm (MM2). */
  look(now: Now, log: LogStatus, isMember: (hubId: string) => boolean, out: Effect[]): void {
    if (now.mono < this.#writeAt) return;
    this.#writeAt = now.mono + WRITE_MS;
    const ops = this.#memory.changes(log, isMember);
    if (ops.length > 0) out.push({ kind: "persist", ops });
  }
}
