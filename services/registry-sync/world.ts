import type { Limits } from "#kernel/bounds/limits.ts";
import type { StoreOp } from "#kernel/core.ts";
import type { Hlc } from "#kernel/crdt/hlc.ts";
import type { Crypto } from "#kernel/crypto.ts";
import type { Failure, Reason } from "#kernel/error.ts";
import type { Now } from "#kernel/instant.ts";
import { writeStored } from "#kernel/wire/stored-json.ts";
import type { Effect, Event, NodeRule, ShareRules } from "./messages.ts";
import type { SegmentCodec } from "./ports.ts";

/** RegistryOptions is what a core is made of. Times are ms, sizes bytes. */
export interface RegistryOptions {
  readonly hubId: string;
  readonly codec: SegmentCodec;
  readonly crypto: Crypto;
  readonly limits: Limits;
  /** Serial of the key that `crypto.sign` uses. */
  readonly keySerial: number;
  /** Public half of that key, to know again what this hub signed (EP4). */
  readonly publicKey: Uint8Array;
  /** Shares besides `full`. */
  readonly shares: readonly ShareRules[];
  /** Rules that a peer's nodes must pass to be taken in; undefined takes all. */
  readonly importRules: readonly NodeRule[] | undefined;
  /** Segments and bytes that are kept in memory per feed for those who are behind. */
  readonly ringSegments: number;
  readonly ringBytes: number;
  /** Segments that stay in a log after a checkpoint covers them, for those who resume. */
  readonly tailSegments: number;
  /** A checkpoint is written after so many segments, or so long after the first one that it does not cover. */
  readonly checkpointSegments: number;
  readonly checkpointMs: number;
  /** Numbers of nodes and keys are given out anew at most so often: each time all peers take a snapshot. */
  readonly renumberMs: number;
  /** Raw bytes of a part of a snapshot at most; one of a checkpoint is no longer. */
  readonly partBytes: number;
  /** A gateway's nodes stay online so long without an update (3 x 30 s). */
  readonly leaseMs: number;
  /** An acknowledgement is held so long while the fastest live peer is more than so many segments behind. */
  readonly ackHoldMs: number;
  readonly ackHoldSegments: number;
  /** Bytes of pushes to a watcher at a time. */
  readonly watchBytes: number;
  readonly watches: number;
  /** Lists that are kept for their next pages, and the nodes in all of them. */
  readonly listings: number;
  readonly listingRecords: number;
}

/** REGISTRY_DEFAULTS are good for a hub; only the hub's own things are missing. */
export const REGISTRY_DEFAULTS = {
  keySerial: 1,
  shares: [] as readonly ShareRules[],
  importRules: undefined,
  ringSegments: 4_096,
  ringBytes: 32 * 1024 * 1024,
  tailSegments: 256,
  checkpointSegments: 1_024,
  checkpointMs: 60_000,
  renumberMs: 600_000,
  partBytes: 512 * 1024,
  leaseMs: 90_000,
  ackHoldMs: 20,
  ackHoldSegments: 4,
  watchBytes: 128 * 1024,
  watches: 1_024,
  listings: 16,
  listingRecords: 1_000_000,
} as const;

/** World is what the parts of the core share: the options, the clock of this step, and where effects go. */
export class World {
  readonly o: RegistryOptions;
  readonly hlc: Hlc;
  now: Now = { mono: 0, wall: 0 };
  out: Effect[] = [];
  keySerial: number;
  /** Set while the store refuses writes. */
  storeFailure: Failure | undefined;

  constructor(options: RegistryOptions, hlc: Hlc) {
    this.o = options;
    this.hlc = hlc;
    this.keySerial = options.keySerial;
  }

  emit(effect: Effect): void {
    this.out.push(effect);
  }

  persist(ops: readonly StoreOp[]): void {
    if (ops.length > 0) this.out.push({ kind: "persist", ops });
  }

  event(
    event: Event["event"],
    severity: Event["severity"],
    text: string,
    more: Partial<Pick<Event, "hub" | "share" | "count" | "bytes" | "fields">> = {},
  ): void {
    this.out.push({ kind: "observe", event, severity, text, hub: "", share: "", count: 0, bytes: 0, fields: {}, ...more });
  }
}

/** failure makes a Failure in one line. */
export function failure(reason: Reason, message: string, facts?: Readonly<Record<string, string>>): Failure {
  return facts === undefined ? { reason, message } : { reason, message, facts };
}

/** limitFailure names the limit that was exceeded. */
export function limitFailure(limit: string, max: number, message: string): Failure {
  return failure("LIMIT_EXCEEDED", message, { limit, max: String(max) });
}

/** putMeta keeps a small record as JSON; `readMeta` in `table/stored-records.ts` reads it. */
export function putMeta(key: string, value: object): StoreOp {
  return { op: "put", space: "meta", key, bytes: writeStored(value) };
}
