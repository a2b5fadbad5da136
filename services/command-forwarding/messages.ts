import type { Effect, Persist, StoreOp } from "#kernel/core.ts";
import type { Failure } from "#kernel/error.ts";
import type { Freshness } from "#kernel/freshness.ts";
import type { TraceContext } from "#kernel/trace-context.ts";

/** OUTCOME is how a command ended; the numbers are those of `foedus.command_forwarding.v1alpha1.Outcome`. */
export const OUTCOME = { DONE: 1, FAILED: 2, REJECTED: 3, EXPIRED: 4, UNKNOWN: 5 } as const;

/** Outcome is one of the five: DONE and FAILED ran, REJECTED and EXPIRED provably did not, UNKNOWN may have and is never run again. */
export type Outcome = (typeof OUTCOME)[keyof typeof OUTCOME];

/** OUTCOME_NAMES are the words for people, by number. */
export const OUTCOME_NAMES = ["", "DONE", "FAILED", "REJECTED", "EXPIRED", "UNKNOWN"] as const;

/**
 * NUMBER_END bounds epochs and positions that come from others. They begin as milliseconds of a clock and rise one by one, so that none
 * gets there before the year 10,000; what is larger is no number of ours or theirs, and one more of it may not fit where it is kept.
 */
export const NUMBER_END = 2 ** 48;

/** FLOOR_END bounds `acked_below`, which is the last number that a double counts to for an epoch that is over as a whole. */
export const FLOOR_END = Number.MAX_SAFE_INTEGER + 1;

/** TIMEOUT_END bounds milliseconds left: the field has 32 bits. */
export const TIMEOUT_END = 2 ** 32;

/** NO_VALUE stands for "no value": an empty `foedus.common.v1.Value`. */
export const NO_VALUE: Uint8Array = new Uint8Array(0);

/** Result is what became of a command. `value` is an encoded `foedus.common.v1.Value`, forwarded as it came. */
export interface Result {
  readonly outcome: Outcome;
  readonly value: Uint8Array;
  /** Set unless DONE. */
  readonly failure: Failure | undefined;
}

/** CommandName names a command for ever: position `seq` in the journal `epoch` of the caller's hub (RIFL, Lee et al., SOSP 2015). */
export interface CommandName {
  readonly hubId: string;
  readonly epoch: number;
  readonly seq: number;
}

/** Command is what a caller wants done. */
export interface Command {
  /** Matches the reply; unique per client while in flight. */
  readonly corr: number;
  /** Hub of the target, or empty: own hub first, else a unique match. */
  readonly hubId: string;
  readonly nodeId: string;
  readonly capability: string;
  /** Encoded `foedus.common.v1.Value`; empty for none. */
  readonly value: Uint8Array;
  /** Relative deadline in ms; 0 means the default. */
  readonly timeoutMs: number;
  /** Idempotency key, or empty. */
  readonly key: string;
  /** Hubs and automations that led to this command (B0-8). */
  readonly hops: readonly string[];
  /** Trace that it belongs to; the shell puts a span of this hub in its place. The core hands it on and never looks inside. */
  trace?: TraceContext | undefined;
}

/** Invocation is a command on its way to its owner. `deadline` is the sender's `mono`; the encoder writes what is left of it. */
export interface Invocation {
  readonly seq: number;
  readonly nodeId: string;
  readonly capability: string;
  readonly value: Uint8Array;
  readonly deadline: number;
  readonly retry: boolean;
  readonly hops: readonly string[];
  readonly trace?: TraceContext | undefined;
}

/** ReceivedInvocation is an Invocation as the owner reads it: ms left instead of a deadline. */
export interface ReceivedInvocation {
  readonly seq: number;
  readonly nodeId: string;
  readonly capability: string;
  readonly value: Uint8Array;
  readonly timeoutMs: number;
  readonly retry: boolean;
  readonly hops: readonly string[];
  /** As in Command. */
  trace?: TraceContext | undefined;
}

/** InvocationsFrame is what a caller's hub sends. */
export interface InvocationsFrame {
  readonly epoch: number;
  readonly ackedBelow: number;
  /** Pairs [from, to) of positions above `ackedBelow` whose outcomes the caller holds for good. */
  readonly acks: readonly number[];
  readonly items: readonly ReceivedInvocation[];
  readonly cancels: readonly number[];
  readonly ownerEpoch: number;
  readonly ownerPosition: number;
}

/** Answer is the outcome of an Invocation. */
export interface Answer {
  readonly seq: number;
  readonly result: Result;
  readonly late: boolean;
  /** What came with the invocation. It does not travel: the shell ends its span with it. */
  readonly trace?: TraceContext | undefined;
}

/** ResultsFrame is what an owner sends. Without results it is its greeting: `epoch` is then the newest one it knows of the receiver. */
export interface ResultsFrame {
  readonly epoch: number;
  readonly ownerEpoch: number;
  readonly ownerPosition: number;
  readonly items: readonly Answer[];
}

/** Task is a command as its executor sees it. `deadline` is our `mono`. */
export interface Task {
  readonly taskId: number;
  readonly nodeId: string;
  readonly capability: string;
  readonly value: Uint8Array;
  readonly deadline: number;
  readonly callerHubId: string;
  readonly trace?: TraceContext | undefined;
  /** Fence of the agent that the node is. */
  readonly agentFence?: number;
}

/** TaskReport is what an executor says of a task. */
export interface TaskReport {
  readonly taskId: number;
  readonly value: Uint8Array;
  readonly failure: Failure | undefined;
}

/** Offer is what an executor attaches for. */
export interface Offer {
  readonly nodeIds: readonly string[];
  /** Empty means all of the nodes'. */
  readonly capabilities: readonly string[];
  readonly maxInFlight: number;
  readonly shared: boolean;
}

/** Part says whether nodes of an offer are the first ones, and the last: a long one is taken in parts, so that nothing waits for all of it. */
export interface Part {
  readonly first: boolean;
  readonly last: boolean;
}

/** WHOLE is an offer in one part. */
export const WHOLE: Part = { first: true, last: true };

/** Scope says for which nodes an executor's certificate may speak: one node, or those with a prefix (none means all). */
export type Scope = { readonly kind: "node"; readonly nodeId: string } | { readonly kind: "gateway"; readonly prefixes: readonly string[] };

/** CapabilityInfo is what routing needs of a capability. `type` is the number of `foedus.common.v1.ValueType`. */
export interface CapabilityInfo {
  readonly name: string;
  readonly type: number;
  readonly invocable: boolean;
  readonly readable: boolean;
  readonly idempotent: boolean;
  /** Its values are secret: the audit does not keep them. */
  readonly secret?: boolean;
  readonly min: number | undefined;
  readonly max: number | undefined;
  readonly step: number | undefined;
  readonly allowed: readonly string[];
}

/** DirectoryChange is one change of the node directory, pure data. */
export type DirectoryChange =
  | {
      readonly kind: "put";
      readonly hubId: string;
      readonly nodeId: string;
      readonly online: boolean;
      /** All of them, or a pure function that reads them when the first command for the node comes: most nodes never get one. */
      readonly capabilities: readonly CapabilityInfo[] | (() => readonly CapabilityInfo[]);
    }
  | { readonly kind: "online"; readonly hubId: string; readonly nodeId: string; readonly online: boolean }
  | { readonly kind: "removed"; readonly hubId: string; readonly nodeId: string }
  | { readonly kind: "hub-gone"; readonly hubId: string }
  /** The table that is read has a node of this hub that it did not have before. */
  | { readonly kind: "came"; readonly hubId: string; readonly nodeId: string }
  | { readonly kind: "freshness"; readonly hubId: string; readonly freshness: Freshness }
  /** A new snapshot begins: everything known before is void. */
  | { readonly kind: "reset" };

/** Right is what a peer may do with a capability of a node: not even know of the node, see that node, or invoke the capability. */
export type Right = "none" | "see" | "invoke";

/** SharePolicy answers what a peer's share lets it do. Seeing a node is not the right to invoke it. */
export type SharePolicy = (peerHubId: string, nodeId: string, capability: string) => Right;

/** AgentPlaces says where agents are that move between hubs (S1-13), as far as this hub knows. */
export interface AgentPlaces {
  /** movedTo is the hub that has an agent that was once at `hubId`, and the fence it has there; undefined if it is there, or no agent. */
  movedTo(hubId: string, nodeId: string): { readonly hubId: string; readonly fence: number } | undefined;
  /** fence is that of an agent that is at `hubId`, or was: a copy that is left there has a lower one. 0 for other nodes. */
  fence(hubId: string, nodeId: string): number;
}

/** PeerInfo is a configured peer and its trust level: 1 MINIMAL, 2 LIMITED, 3 FULL. */
export interface PeerInfo {
  readonly hubId: string;
  readonly level: number;
  /** When trust in it was last taken back, wall ms, as when an operator ended the link: tokens from before are void. */
  readonly voidedAt?: number;
}

/** LEVEL_LIMITED is the least trust level for commands (S4-5). */
export const LEVEL_LIMITED = 2;

/** Input is everything that can happen to the core. Commands, frames and reports come in batches: one persist per input. */
export type Input =
  | { readonly kind: "execute"; readonly client: number; readonly principal: string; readonly commands: readonly Command[] }
  | { readonly kind: "cancel"; readonly client: number; readonly corrs: readonly number[] }
  | { readonly kind: "client-gone"; readonly client: number }
  | { readonly kind: "invocations"; readonly peer: string; readonly session: number; readonly frame: InvocationsFrame }
  | { readonly kind: "results"; readonly peer: string; readonly session: number; readonly frame: ResultsFrame }
  | { readonly kind: "peers"; readonly peers: readonly PeerInfo[] }
  | { readonly kind: "peer-up"; readonly peer: string; readonly session: number }
  | { readonly kind: "peer-down"; readonly peer: string }
  /** Answers `tell-room`. */
  | { readonly kind: "peer-room"; readonly peer: string }
  | {
      readonly kind: "attach";
      readonly executor: number;
      readonly name: string;
      readonly scope: Scope;
      readonly offer: Offer;
      /** The whole of it by default. */
      readonly part?: Part;
      /** With the first part: older executors of the same group, newest first, whose place it takes. */
      readonly replaces?: readonly number[] | undefined;
    }
  | { readonly kind: "reports"; readonly executor: number; readonly reports: readonly TaskReport[] }
  | { readonly kind: "executor-gone"; readonly executor: number }
  /** Answers `tell-undelivered`. */
  | { readonly kind: "undelivered"; readonly executor: number; readonly tasks: readonly number[] }
  | { readonly kind: "handler"; readonly present: boolean }
  | { readonly kind: "directory"; readonly changes: readonly DirectoryChange[] }
  | { readonly kind: "policy"; readonly policy: SharePolicy }
  | { readonly kind: "places"; readonly places: AgentPlaces }
  | { readonly kind: "stored"; readonly ok: boolean; readonly failure: Failure | undefined; readonly unstored: readonly StoreOp[] }
  /** A caller was refused before its commands were read, so many times. */
  | { readonly kind: "denied"; readonly principal: string; readonly failure: Failure; readonly times: number }
  /** Telemetry has the records of the audit up to this one, for good. */
  | { readonly kind: "audit-copied"; readonly epoch: number; readonly number: number }
  | { readonly kind: "start" }
  | { readonly kind: "stop" };

/** LOCAL_EXECUTOR is the number of the in-process command handler (S0-20); attached executors count from 1. */
export const LOCAL_EXECUTOR = 0;

/** Reply answers a client's command. */
export interface Reply extends Effect {
  readonly kind: "reply";
  readonly client: number;
  readonly corr: number;
  readonly result: Result;
  /** Undefined for a command that was refused before it was named. */
  readonly name: CommandName | undefined;
  readonly durationMs: number;
  readonly replayed: boolean;
  /** It has an idempotency key: who asks again, even after a crash, must hear the same. */
  readonly keyed?: boolean;
  /** What came with the command. It does not travel. */
  readonly trace?: TraceContext | undefined;
}

/** Invoke sends commands to an owner; several of one turn may share a frame when epochs agree. */
export interface Invoke extends Effect {
  readonly kind: "invoke";
  readonly peer: string;
  readonly epoch: number;
  readonly ownerEpoch: number;
  readonly ownerPosition: number;
  ackedBelow: number;
  readonly acks: number[];
  readonly items: Invocation[];
  readonly cancels: number[];
}

/** Respond sends outcomes to a caller's hub. */
export interface Respond extends Effect {
  readonly kind: "respond";
  readonly peer: string;
  readonly epoch: number;
  readonly ownerEpoch: number;
  readonly ownerPosition: number;
  readonly items: Answer[];
}

/** CommandEffect is everything the core asks for. */
export type CommandEffect =
  | Persist
  | Reply
  | Invoke
  | Respond
  /** Asks for `peer-room` when the peer's session has taken all that went before. */
  | { readonly kind: "tell-room"; readonly peer: string }
  /** Asks for `undelivered`: which tasks of an executor that is over were never handed out. They may all have left when it is asked. */
  | { readonly kind: "tell-undelivered"; readonly executor: number }
  | { readonly kind: "tasks"; readonly executor: number; readonly items: Task[] }
  | { readonly kind: "cancel-task"; readonly executor: number; readonly taskId: number }
  | { readonly kind: "attached"; readonly executor: number; readonly nodes: number; readonly refused: readonly Failure[] }
  | { readonly kind: "detach"; readonly executor: number; readonly failure: Failure }
  | { readonly kind: "presence"; readonly nodeIds: readonly string[]; readonly online: boolean }
  | { readonly kind: "observe"; readonly what: Observation };

/** Observation is something worth counting or telling. */
export type Observation =
  /** `peer` is whose word it rests on, if it does. */
  | { readonly event: "journal-epoch"; readonly epoch: number; readonly why: string; readonly peer: string | undefined }
  | { readonly event: "owned"; readonly outcome: Outcome }
  /** Records of the audit are being written; `next` is the number of the next one. */
  | { readonly event: "audited"; readonly next: number }
  | { readonly event: "executor"; readonly executor: string; readonly state: "attached" | "detached"; readonly nodes: number };

/** Sender is who sent the commands of an input: what is the same for all of them is found once. */
export interface Sender {
  readonly client: number;
  readonly principal: string;
  readonly own: boolean;
}
