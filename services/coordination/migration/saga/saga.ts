import type { Observe, Persist, StoreOp } from "#kernel/core.ts";
import { decode, encode } from "#kernel/wire/shape.ts";
import type { Chunks } from "../checkpoint/checkpoint.ts";
import type { MigrationFrame } from "../frames.ts";
import type { AgentRecord, Migration, MigrationCommand } from "../messages.ts";
import { STORED_MIGRATION } from "../shapes.ts";
import type { SagaRecord } from "./saga-record.ts";

/** Seen is what this hub's copy of the log says of a migration and its agent. It may come again, and late: `index` orders it. */
export interface Seen {
  /** Position up to which it is true. */
  readonly index: number;
  /** It answers a linearizable read that was asked for after this process started: nothing that was decided before is missing. */
  readonly linear: boolean;
  readonly agent: AgentRecord | undefined;
  readonly migration: Migration | undefined;
}

/** SagaTimes are the settings of both sagas. */
export interface SagaTimes {
  /** What got no answer is done again after so many ms, and then after longer. */
  readonly againMs: number;
  /** Bytes of chunks that are under way at once. Both hubs use the same number. */
  readonly windowBytes: number;
}

/** SAGA_TIMES hold unless a test wants others. */
export const SAGA_TIMES: SagaTimes = { againMs: 500, windowBytes: 2 * 1024 * 1024 };

/** GateState is what happens to commands for the agent at this hub: they run, wait, or are told where the agent is. */
export type GateState = "open" | "closed" | "moved";

/** SagaEffect is what both sagas ask for. */
export type SagaEffect =
  | Persist
  | { readonly kind: "propose"; readonly command: MigrationCommand }
  /** A linearizable read of the log: answered by the input `log` with `linear`. */
  | { readonly kind: "read" }
  /** `early`: it says nothing of what is stored, and waits for nothing that is being written. */
  | { readonly kind: "send"; readonly to: string; readonly frame: MigrationFrame; readonly early: boolean }
  | { readonly kind: "gate"; readonly agent: string; readonly state: GateState; readonly fence: number; readonly hub: string }
  /** The saga is over: the shell forgets it. */
  | { readonly kind: "over"; readonly outcome: "moved" | "aborted" | "stale" }
  | (Observe & { readonly what: SagaEvent; readonly value: number });

/** SagaEvent is what is measured of a saga. */
export type SagaEvent = "round_bytes" | "frozen" | "stale" | "bad_manifest" | "bad_parcel" | "bad_frame" | "started";

/** readRecord reads what was stored of a saga; an error says what is wrong with other bytes: that store is damaged. */
export function readRecord(bytes: Uint8Array): SagaRecord {
  const decoded = decode(STORED_MIGRATION, bytes);
  if (!decoded.ok) throw new RangeError(`the record of a migration is damaged: ${decoded.problem}`);
  return decoded.value;
}

/** StoredSaga is what a start finds of a saga. */
export interface StoredSaga {
  readonly record: SagaRecord;
  readonly chunks: Chunks;
}

/** Side is which of both sagas keeps something: a hub may be source and destination of the same agent one after the other. */
export type Side = "source" | "destination";

/** recordSpace and chunkSpace name where a side keeps its records, by number, and the chunks of one migration, by digest. */
export const recordSpace = (side: Side): string => `migration-${side}`;
/** chunkSpace names where a side keeps the chunks of one migration, by their digest. */
export const chunkSpace = (side: Side, transfer: number): string => `migration-${side}-${transfer}`;

/** SagaStore makes the operations of one saga and remembers which chunks it has stored. */
export class SagaStore {
  readonly #side: Side;
  readonly #key: string;
  readonly #chunks: string;
  #stored: Set<string>;

  constructor(side: Side, transfer: number, chunks: Chunks) {
    this.#side = side;
    this.#key = String(transfer);
    this.#chunks = chunkSpace(side, transfer);
    this.#stored = new Set(chunks.keys());
  }

  record(record: SagaRecord): StoreOp {
    return { op: "put", space: recordSpace(this.#side), key: this.#key, bytes: encode(STORED_MIGRATION, record) };
  }

  /** add stores chunks that are not stored yet. */
  add(chunks: Chunks): StoreOp[] {
    const ops: StoreOp[] = [];
    for (const [digest, bytes] of chunks) {
      if (this.#stored.has(digest)) continue;
      this.#stored.add(digest);
      ops.push({ op: "put", space: this.#chunks, key: digest, bytes });
    }
    return ops;
  }

  /** keep deletes every other chunk. */
  keep(digests: ReadonlySet<string>): StoreOp[] {
    const gone = [...this.#stored].filter((digest) => !digests.has(digest));
    for (const digest of gone) this.#stored.delete(digest);
    return gone.map((key) => ({ op: "delete", space: this.#chunks, key }));
  }

  /** forget deletes all. */
  forget(): StoreOp[] {
    this.#stored = new Set();
    return [
      { op: "clear", space: this.#chunks },
      { op: "delete", space: recordSpace(this.#side), key: this.#key },
    ];
  }
}

/** Waits double so often. */
const DOUBLINGS = 4;

/** Pace is when something is done again that got no answer: after a while, and after twice that each time, up to sixteen times. */
export class Pace {
  readonly #firstMs: number;
  readonly #done = new Map<string, { at: number; times: number }>();
  #due = Number.POSITIVE_INFINITY;

  constructor(firstMs: number) {
    this.#firstMs = firstMs;
  }

  /** ready tells whether something may be done now, and notes that it is. */
  ready(mono: number, name: string): boolean {
    const last = this.#done.get(name);
    const next = last === undefined ? mono : last.at + this.#firstMs * 2 ** last.times;
    if (mono < next) {
      this.#due = Math.min(this.#due, next);
      return false;
    }
    const times = last === undefined ? 0 : Math.min(DOUBLINGS, last.times + 1);
    this.#done.set(name, { at: mono, times });
    this.#due = Math.min(this.#due, mono + this.#firstMs * 2 ** times);
    return true;
  }

  /** answered makes the next time come at once. */
  answered(name: string): void {
    this.#done.delete(name);
  }

  /** heard is called when the other hub says something: it is there, and nothing waits for it longer than at first. */
  heard(): void {
    for (const last of this.#done.values()) last.times = 0;
  }

  /** passed is called before all that is due is tried again. */
  passed(): void {
    this.#due = Number.POSITIVE_INFINITY;
  }

  /** due is when the next thing may be done again. */
  get due(): number | undefined {
    return this.#due === Number.POSITIVE_INFINITY ? undefined : this.#due;
  }
}

/**
 * sideNeeded says which saga a hub runs for a migration for which it has none, by a log that misses nothing that was decided before this
 * process began; `fenceHere` is the fence of the copy that is here, and `owned` is who owns the agent.
 */
export function sideNeeded(migration: Migration, hubId: string, fenceHere = 0, owned?: AgentRecord): Side | undefined {
  const { status, from, to, fence } = migration;
  if (status === "aborted") return undefined;
  // A copy that should have been deleted, of a hub that was down or restored.
  if (from === hubId && (status === "open" || fenceHere === fence)) return "source";
  if (to !== hubId) return undefined;
  if (status === "open") return "destination";
  // What was committed and is not here yet, at a hub that lost what it had.
  if (fenceHere > fence) return undefined;
  // What came, and is in no store here though the agent is still this hub's: the saga only tells it (MX6).
  const missing = owned?.owner === hubId && owned.fence === fence + 1 && !owned.lost;
  return status === "committed" || missing ? "destination" : undefined;
}
