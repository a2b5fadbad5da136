import type { Observe, Persist, StoreOp } from "#kernel/core.ts";
import type { Failure } from "#kernel/error.ts";
import type { Freshness } from "#kernel/freshness.ts";
import type { NodeName } from "#kernel/node-name.ts";
import type { Codec, HlcValue, UpdateBatch, ValueType } from "./ports.ts";

/** FeedPosition is a place in a feed. Epoch 0 means that nothing is held. */
export interface FeedPosition {
  readonly hubId: string;
  readonly share: string;
  readonly epoch: number;
  readonly seq: number;
  /** SHA-256 of the header at that position; empty or 32 bytes. */
  readonly digest: Uint8Array;
}

/** Scalar is a value in code: BOOL boolean, SINT64 bigint, DOUBLE number, STRING and JSON string, BYTES bytes. */
export type Scalar = boolean | bigint | number | string | Uint8Array;

/** StateValue is one key's value. */
export interface StateValue {
  readonly key: string;
  readonly type: ValueType;
  readonly value: Scalar;
}

/** Scope says which nodes a caller may speak for. `name` is its principal, such as `node/lamp-1` or `gateway/zigbee`. */
export interface Scope {
  readonly name: string;
  readonly kind: "node" | "gateway";
  /** Exact node ids. */
  readonly ids: readonly string[];
  /** Starts of node ids. */
  readonly prefixes: readonly string[];
}

/** NodeFilter selects nodes; all that is set (not empty, not 0) must match. */
export interface NodeFilter {
  readonly hubIds: readonly string[];
  readonly nodeIdPrefix: string;
  readonly type: string;
  readonly kind: number;
  readonly capability: string;
  readonly onlineOnly: boolean;
  readonly labels: Readonly<Record<string, string>>;
}

/** NodeRecord is a node as the registry knows it. */
export interface NodeRecord {
  readonly name: NodeName;
  /** Encoded foedus.common.v1.Node. */
  readonly node: Uint8Array;
  readonly state: readonly StateValue[];
  /** Values that were left out, because the record would not fit into a message. */
  readonly omitted: number;
  /** False too when `freshness` is UNKNOWN (B0-5). */
  readonly online: boolean;
  readonly freshness: Freshness;
  /** Infinity when never proven; 0 for local nodes. */
  readonly ageMs: number;
  readonly version: FeedPosition;
}

/** HubFreshness says how current one hub's part is: "empty" is not "unknown" (D-7). */
export interface HubFreshness {
  readonly hubId: string;
  readonly freshness: Freshness;
  readonly ageMs: number;
  readonly nodes: number;
}

/** FeedStatus is a feed that this hub holds. */
export interface FeedStatus {
  readonly head: FeedPosition;
  readonly own: boolean;
  readonly freshness: Freshness;
  readonly ageMs: number;
  readonly nodes: number;
  readonly entries: number;
  readonly dropped: number;
  readonly frozen: boolean;
  /** About how much memory its nodes and texts take, and what is kept of a snapshot that is coming in, bytes. */
  readonly bytes: number;
  readonly incoming: number;
  readonly cursors: readonly { readonly hubId: string; readonly acked: FeedPosition; readonly lag: number; readonly snapshot: boolean }[];
}

/** FeedProof shows that a hub signed a position of its feed. One of the two is empty. */
export interface FeedProof {
  /** The encoded segment.v1.Segment of that position, without its payload. */
  readonly segment: Uint8Array;
  /** The SignedManifest of a snapshot as of that position. */
  readonly manifest: Uint8Array;
}

/** PeerFrame is a frame between two registries, in either direction. */
export type PeerFrame =
  /** `keyStatement` is empty in what the core sends: the shell puts its own there. The shell verifies a received one first. */
  | { readonly type: "feed_offer"; readonly head: FeedPosition | undefined; readonly keyStatement: Uint8Array }
  | {
      readonly type: "feed_open";
      readonly from: FeedPosition;
      readonly heldParts: readonly Uint8Array[];
      /** Shows that the owner signed `from`. Peers of older versions send none. */
      readonly proof?: FeedProof;
    }
  /** `message` is the whole encoded SessionRequest or SessionResponse (both have the same bytes), if it is at hand: send it as it is. */
  | { readonly type: "segment"; readonly segment: Uint8Array; readonly message?: Uint8Array }
  | { readonly type: "ack"; readonly position: FeedPosition }
  | { readonly type: "nack"; readonly held: FeedPosition; readonly failure: Failure; readonly wantSnapshot: boolean }
  | { readonly type: "snapshot"; readonly manifest: Uint8Array }
  | { readonly type: "snapshot_part"; readonly index: number; readonly data: Uint8Array }
  | { readonly type: "forget"; readonly share: string }
  | { readonly type: "forget_done"; readonly share: string };

/** PeerShare says which share a peer gets. Level: 0 none, 1 MINIMAL, 2 LIMITED, 3 FULL; below LIMITED nothing is offered. */
export interface PeerShare {
  readonly hubId: string;
  readonly share: string;
  readonly level: number;
}

/** Pattern matches a text with `*` for any run of characters. */
export type Pattern = string;

/** NodeRule selects nodes and says what of them. A list of rules is read in order; the first that matches a node decides. */
export interface NodeRule {
  /** All that is set must match; an empty list matches any. */
  readonly ids: readonly Pattern[];
  readonly types: readonly Pattern[];
  /** 0 any, 1 device, 2 agent. */
  readonly kind: number;
  readonly labels: Readonly<Record<string, Pattern>>;
  readonly allow: boolean;
  /** Capabilities (and their state) that are shown. */
  readonly capabilities: readonly Pattern[];
  /** Capabilities, among those shown, that may be invoked. */
  readonly invoke: readonly Pattern[];
}

/** ShareRules is one share of this hub. */
export interface ShareRules {
  readonly name: string;
  readonly rules: readonly NodeRule[];
}

/** NamedUpdate is one state change by name. */
export interface NamedUpdate {
  readonly nodeId: string;
  readonly key: string;
  readonly value: Scalar | undefined;
  /** Type of `value`; 0 if it has none. */
  readonly type: ValueType;
}

/** WatchOptions is what a watcher asks for. */
export interface WatchOptions {
  readonly filter: NodeFilter;
  readonly encoding: "events" | "blocks";
  readonly nodesOnly: boolean;
  readonly latestOnly: boolean;
  readonly resume: readonly FeedPosition[];
}

/** ChangeEvent is one change by name. */
export interface ChangeEvent {
  readonly name: NodeName;
  readonly change:
    | { readonly kind: "put"; readonly node: Uint8Array }
    | { readonly kind: "removed" }
    | { readonly kind: "state"; readonly state: StateValue }
    | { readonly kind: "online"; readonly online: boolean };
}

/** WatchPush is one message to a watcher. */
export type WatchPush =
  | { readonly kind: "events"; readonly events: readonly ChangeEvent[] }
  | {
      readonly kind: "blocks";
      readonly position: FeedPosition;
      readonly hlc: HlcValue;
      readonly payload: Uint8Array;
      readonly snapshot: boolean;
      readonly last: boolean;
    }
  | { readonly kind: "bookmark"; readonly positions: readonly FeedPosition[]; readonly hubs: readonly HubFreshness[] }
  | { readonly kind: "reset"; readonly position: FeedPosition }
  | { readonly kind: "gone"; readonly position: FeedPosition };

/**
 * WatchContent is what a `watch_send` shows: a copy, of which some is still to come or has come with it; news; or, while the store
 * refuses, only what is stored.
 */
export type WatchContent = "copy" | "news" | "stored";

/** Query is a question that is answered from memory. */
export type Query =
  | { readonly type: "get"; readonly name: NodeName; readonly maxStalenessMs: number | undefined }
  /**
   * The first page. What is left for others is kept as it is now, for so long as LIMITS says, under the name `keep`, if there is one.
   * Principals take turns with lists that take long.
   */
  | { readonly type: "list"; readonly filter: NodeFilter; readonly limit: number; readonly keep?: string; readonly principal?: string }
  /** A page of what was kept, from a node on. */
  | { readonly type: "page"; readonly listing: string; readonly from: number; readonly limit: number }
  | { readonly type: "feeds" };

/** Answer to a query. */
export type Answer =
  | { readonly type: "node"; readonly record: NodeRecord }
  | {
      readonly type: "nodes";
      readonly records: readonly NodeRecord[];
      /** Where the next page starts; 0 after the last. */
      readonly next: number;
      readonly total: number;
      readonly hubs: readonly HubFreshness[];
    }
  | { readonly type: "feeds"; readonly feeds: readonly FeedStatus[] }
  | { readonly type: "failed"; readonly failure: Failure };

/** BatchNames tells what the numbers of a batch mean, also when they have been given out anew before somebody asks. */
export interface BatchNames {
  named(ref: number): { readonly info: { readonly nodeId: string } } | undefined;
  key(kref: number): { readonly name: string; readonly type: ValueType } | undefined;
}

/** NodeOutcome is the result for one node. `ref` is 0 if it was refused. */
export interface NodeOutcome {
  readonly nodeId: string;
  readonly ref: number;
  readonly failure: Failure | undefined;
}

/** CallId is a number that the shell gives to a call (one answer each), update stream, session or watch. None is used twice in a process. */
export type CallId = number;

/** Input of the core. */
export type Input =
  /** First input after `restore`, once. */
  | { readonly kind: "start" }
  /** Last input: closes what is open and marks a clean stop. Answered by `stopped`. */
  | { readonly kind: "stop" }
  /** Answer to `want_flush`: no earlier commit is in flight. */
  | { readonly kind: "flush" }
  /**
   * From the driver's onStored: whether the store takes writes. When it begins to refuse: what it has not taken of what was persisted, and
   * the watches whose last `watch_send` did not leave, because it was part of a copy.
   */
  | {
      readonly kind: "stored";
      readonly ok: boolean;
      readonly failure?: Failure;
      readonly unstored?: readonly StoreOp[];
      readonly withheld?: readonly number[];
    }
  // Local nodes. `nodes` are encoded foedus.common.v1.Node, already validated by the schema's rules.
  | { readonly kind: "register"; readonly call: CallId; readonly scope: Scope; readonly nodes: readonly Uint8Array[] }
  | { readonly kind: "deregister"; readonly call: CallId; readonly scope: Scope; readonly nodeId: string }
  | {
      readonly kind: "presence";
      readonly call: CallId;
      readonly attached: readonly string[];
      readonly detached: readonly string[];
      readonly replace: boolean;
      /** Number of the whole list of which this is a part; its last part has `replace`. 0 by default: it has no parts. */
      readonly round?: number;
    }
  // Update streams.
  | { readonly kind: "stream_open"; readonly stream: number; readonly scope: Scope }
  | { readonly kind: "stream_close"; readonly stream: number }
  | {
      readonly kind: "bind";
      readonly stream: number;
      readonly id: number;
      readonly nodeIds: readonly string[];
      readonly keys: readonly { readonly name: string; readonly type: ValueType }[];
    }
  | { readonly kind: "updates"; readonly stream: number; readonly seq: number; readonly batch: UpdateBatch }
  | { readonly kind: "named"; readonly stream: number; readonly seq: number; readonly updates: readonly NamedUpdate[] }
  // Peers. `complete`: the list is discovery's whole knowledge, so what is missing is gone.
  | { readonly kind: "peers"; readonly peers: readonly PeerShare[]; readonly complete: boolean }
  | { readonly kind: "shares"; readonly shares: readonly ShareRules[] }
  /** Our own feed key changed; signatures are made with it from now on. */
  | { readonly kind: "own_key"; readonly serial: number; readonly revoked: boolean }
  /** A peer's feed key, verified by the shell. Comes before the `feed_offer` that carried it. */
  | {
      readonly kind: "feed_key";
      readonly peer: string;
      readonly key: Uint8Array;
      readonly serial: number;
      readonly notAfterWall: number;
      readonly revokesUpTo: number;
    }
  | { readonly kind: "session_up"; readonly session: number; readonly peer: string; readonly creditBytes: number }
  | { readonly kind: "session_down"; readonly session: number }
  | { readonly kind: "credit"; readonly session: number; readonly bytes: number }
  | { readonly kind: "frame"; readonly session: number; readonly frame: PeerFrame }
  /** Heads from a ping or pong of the peer. */
  | { readonly kind: "heads"; readonly session: number; readonly heads: readonly FeedPosition[]; readonly rttMs: number | undefined }
  // Blocking work that came back. `bytes` undefined: it failed.
  | { readonly kind: "compressed"; readonly job: number; readonly codec: Codec; readonly bytes: Uint8Array }
  | { readonly kind: "decompressed"; readonly job: number; readonly bytes: Uint8Array | undefined }
  // Readers.
  | { readonly kind: "query"; readonly call: CallId; readonly query: Query }
  /** Who asked does not wait for the answer any more. */
  | { readonly kind: "query_gone"; readonly call: CallId }
  | { readonly kind: "watch_open"; readonly watch: number; readonly options: WatchOptions }
  /** The last `watch_send` was taken; the next may come. */
  | { readonly kind: "watch_ready"; readonly watch: number }
  | { readonly kind: "watch_close"; readonly watch: number }
  | { readonly kind: "automation"; readonly enabled: boolean }
  /** Whether `came` is to be told. */
  | { readonly kind: "directory"; readonly followed: boolean };

/** LocalKind are the kinds of inputs that have nothing to do with peers. */
export type LocalKind =
  | "start"
  | "stop"
  | "flush"
  | "stored"
  | "register"
  | "deregister"
  | "presence"
  | "stream_open"
  | "stream_close"
  | "bind"
  | "updates"
  | "named"
  | "query"
  | "query_gone"
  | "watch_open"
  | "watch_ready"
  | "watch_close"
  | "automation"
  | "directory";

/** Event is something to tell telemetry and metrics, at once. */
export interface Event extends Observe {
  readonly event:
    | "node"
    | "feed"
    | "fork"
    | "limit"
    | "clock"
    | "segment_closed"
    | "segment_applied"
    | "segment_refused"
    | "snapshot"
    | "checkpoint";
  readonly severity: "DEBUG" | "INFO" | "WARNING" | "ERROR";
  /** Peer or owner concerned; empty for this hub. */
  readonly hub: string;
  readonly share: string;
  /** A constant sentence. */
  readonly text: string;
  /** Entries or nodes concerned. */
  readonly count: number;
  readonly bytes: number;
  readonly fields: Readonly<Record<string, string>>;
}

/** Output is an effect that leaves the core through the gate, in order. */
export type Output =
  /** Post `flush` in the next turn of the loop (clock.setImmediate). Being gated it comes when earlier commits are done. */
  | { readonly kind: "want_flush" }
  | { readonly kind: "stopped" }
  | { readonly kind: "registered"; readonly call: CallId; readonly results: readonly NodeOutcome[] }
  | { readonly kind: "deregistered"; readonly call: CallId; readonly existed: boolean; readonly failure: Failure | undefined }
  /** Nodes of this hub that are new; told if somebody follows the directory. */
  | { readonly kind: "came"; readonly nodeIds: readonly string[] }
  | { readonly kind: "presence_noted"; readonly call: CallId }
  | {
      readonly kind: "bound";
      readonly stream: number;
      readonly id: number;
      readonly epoch: number;
      readonly refs: readonly number[];
      readonly krefs: readonly number[];
      readonly failure: Failure | undefined;
    }
  /** Everything up to this batch is durable. */
  | { readonly kind: "acked"; readonly stream: number; readonly upTo: number }
  /** Nothing more is taken from the stream: the numbers that its caller has mean something else from now on. */
  | { readonly kind: "stream_ended"; readonly stream: number; readonly failure: Failure }
  | { readonly kind: "refused"; readonly stream: number; readonly seq: number; readonly index: number; readonly failure: Failure }
  /** A feed has a new head that is durable when this leaves: for heads in pings and metrics. */
  | { readonly kind: "advanced"; readonly hub: string; readonly share: string; readonly epoch: number; readonly seq: number }
  | { readonly kind: "send"; readonly session: number; readonly frame: PeerFrame }
  /** First synchronisation of the session is finished: what was offered was received, and what the peer opened was sent. */
  | { readonly kind: "synced"; readonly session: number }
  /** Why the feeds of a session are not taken, in either direction; undefined when they are again. */
  | { readonly kind: "trouble"; readonly session: number; readonly failure: Failure | undefined }
  | { readonly kind: "compress"; readonly job: number; readonly raw: Uint8Array }
  | { readonly kind: "decompress"; readonly job: number; readonly codec: Codec; readonly bytes: Uint8Array; readonly rawLen: number }
  | { readonly kind: "answer"; readonly call: CallId; readonly answer: Answer }
  | { readonly kind: "watch_send"; readonly watch: number; readonly pushes: readonly WatchPush[]; readonly about: WatchContent }
  | { readonly kind: "watch_refused"; readonly watch: number; readonly failure: Failure }
  /** State changed; before the feed learns of it. `hub` is the origin, for the loop guard (B0-8). */
  | { readonly kind: "automate"; readonly hub: string; readonly batch: UpdateBatch; readonly names: BatchNames };

/** Effect of the core. */
export type Effect = Persist | Event | Output;
