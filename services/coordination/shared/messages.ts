import type { Observe, Persist } from "#kernel/core.ts";
import type { HlcReading } from "#kernel/crdt/hlc.ts";
import type { Failure } from "#kernel/error.ts";

/** Conflict says whose value counts where several hubs say something under one key (S4-14). */
export type Conflict =
  /** The latest by hybrid time; a removal is a value too. */
  | "timestamp"
  /** The greatest priority; of equal ones the earliest, so that a claim that stands is not taken by an equal one. */
  | "priority"
  /** What a ballot decided: it stands in the log, and nobody changes it here. */
  | "consensus";

/** KindRule is what is declared of a kind. */
export interface KindRule {
  /** Number on the wire. */
  readonly number: number;
  readonly conflict: Conflict;
  /** A hub writes only keys of its own: its id, or what begins with its id and a slash. */
  readonly owned: boolean;
}

/** KINDS are what hubs tell each other about the federation (S1-7). */
export const KINDS = {
  /** Summaries of hubs, each by itself: capabilities, load, memory. */
  swarms: { number: 1, conflict: "timestamp", owned: true },
  /** What hubs have to lend, each by itself. */
  resources: { number: 2, conflict: "timestamp", owned: true },
  /** Who uses what, by resource: a view of what the log has decided, for those that do not read it. */
  allocations: { number: 3, conflict: "priority", owned: false },
  /** Rules of the federation. */
  policies: { number: 4, conflict: "consensus", owned: false },
  /** Whatever any hub wants the others to know. */
  facts: { number: 5, conflict: "timestamp", owned: false },
} as const satisfies Readonly<Record<string, KindRule>>;

/** SharedKind is a kind of shared state. */
export type SharedKind = keyof typeof KINDS;

/** SHARED_LIMITS bound what hubs tell each other. Bytes are bytes. */
export const SHARED_LIMITS = {
  /** Hubs whose parts are kept. */
  hubs: 128,
  /** Entries of one hub. */
  entries: 512,
  /** Encoded entries of one hub: they fit into one frame. */
  partBytes: 128 * 1024,
  keyBytes: 190,
  valueBytes: 4 * 1024,
  /** Changes that a hub makes at once. */
  changes: 64,
  /** Removals that a hub remembers, so that who was away for a while gets what changed and not all. */
  removals: 256,
  priority: 255,
  /** Hubs whose whole parts are asked for in one frame. */
  wants: 16,
} as const;

/** SharedSlot names a place: what several hubs may say something about. */
export interface SharedSlot {
  readonly kind: SharedKind;
  readonly key: string;
}

/** SharedEntry is what one hub says under a key. */
export interface SharedEntry extends SharedSlot {
  /** Version of the hub's part that it came with. */
  readonly version: number;
  readonly at: HlcReading;
  /** 0 to 255; 0 where the kind knows none. */
  readonly priority: number;
  /** undefined: the hub says that there is nothing, whatever others said before (kinds that go by timestamp and that all may write). */
  readonly value: Uint8Array | undefined;
}

/** SharedChange is what a program of this hub wants to say; without a value what it said is taken back. */
export interface SharedChange extends SharedSlot {
  readonly priority?: number;
  readonly value: Uint8Array | undefined;
}

/** PartHead says which state of a hub's part somebody has. */
export interface PartHead {
  readonly hub: string;
  /** Of the hub's replica: each begins with nothing. */
  readonly incarnation: number;
  readonly version: number;
  /** SHA-256 of the entries as they are written. */
  readonly digest: Uint8Array;
}

/** PartFrame carries what changed in a hub's part since a version, or all of it. */
export interface PartFrame extends PartHead {
  readonly kind: "part";
  /** The hub's signature over the head: anybody may carry it. */
  readonly signature: Uint8Array;
  /** The receiver has the part at this version or a later one; 0: this is all of it. */
  readonly since: number;
  /** Sorted by kind and key, as `removed`. */
  readonly entries: readonly SharedEntry[];
  readonly removed: readonly SharedSlot[];
}

/** SharedFrame is a frame between two hubs. */
export type SharedFrame =
  /** What the sender has: without heads, only whether it is the same. An answer is not answered by heads again. */
  | { readonly kind: "heads"; readonly root: Uint8Array; readonly heads: readonly PartHead[]; readonly answer: boolean }
  | PartFrame
  /** Parts that the receiver is to send whole. */
  | { readonly kind: "want"; readonly hubs: readonly string[] };

/** SharedMember is a hub of the federation, as the log has it. */
export interface SharedMember {
  readonly hub: string;
  readonly incarnation: number;
  /** Ed25519, 32 bytes: its parts are signed with it. */
  readonly publicKey: Uint8Array;
}

/** SharedInput is what the core takes. */
export type SharedInput =
  | { readonly kind: "change"; readonly call: number; readonly changes: readonly SharedChange[] }
  /** Who is in the federation. What others said goes when they do. */
  | { readonly kind: "members"; readonly members: readonly SharedMember[] }
  | { readonly kind: "peer"; readonly hub: string; readonly up: boolean }
  | { readonly kind: "frame"; readonly from: string; readonly frame: SharedFrame };

/** SharedEffect is what it asks for. */
export type SharedEffect =
  | Persist
  | { readonly kind: "send"; readonly to: string; readonly frame: SharedFrame }
  /** A change is durable here, and goes out. */
  | { readonly kind: "changed"; readonly call: number; readonly version: number }
  | { readonly kind: "refused"; readonly call: number; readonly failure: Failure }
  /** A hub's part is another one: these places may read differently now. */
  | { readonly kind: "news"; readonly hub: string; readonly slots: readonly SharedSlot[] }
  /** `what`: taken, old, refused, base (a difference to something else than what is here), fork (a hub signed two states as one version). */
  | (Observe & {
      readonly what: "taken" | "old" | "refused" | "base" | "fork";
      readonly hub: string;
      readonly from: string;
      readonly failure?: Failure;
    });

/** SHARED_SPACE is where parts are stored, by hub. */
export const SHARED_SPACE = "shared";
