import type { Observe, Persist } from "#kernel/core.ts";
import type { Failure } from "#kernel/error.ts";
import type { Action, Ballot, Vote } from "./ballots/messages.ts";
import type { BftFrame } from "./bft/frames.ts";
import type { LivenessFrame } from "./liveness/frames.ts";
import type { ReplicaId, Role } from "./log/engine.ts";
import type { ReplicaFrame } from "./log/replica-messages.ts";
import type { Candidate, Endpoint, Engine, FederationRole, Introduced, Remembered, SignedFounding } from "./members/messages.ts";
import type { PolicyStatus } from "./members/policies.ts";
import type { MigrationFrame } from "./migration/frames.ts";
import type { AgentEffect, AgentInput } from "./migration/hosting/messages.ts";
import type { AgentRecord, Migration } from "./migration/messages.ts";
import type { RaftFrame } from "./raft/frames.ts";
import type { LendingAnswer, LendingAsk, LendingFrame } from "./resources/desk/asks.ts";
import type { PartHead, SharedChange, SharedFrame, SharedKind } from "./shared/messages.ts";
import type { Resolved } from "./shared/resolve.ts";
import type { LogCommand } from "./state/commands.ts";
import type { AgreedValue } from "./values/messages.ts";

/** EngineFrame is a frame of whichever engine a federation has. */
export type EngineFrame = RaftFrame | BftFrame;

/** Greeting says who a hub is for federations, whenever a session comes up and when that changes. */
export interface Greeting {
  readonly kind: "greeting";
  readonly candidate: Candidate | undefined;
  /** Short id of the federation that it belongs to; empty for none. */
  readonly federation: Uint8Array;
  readonly incarnation: number;
  /** Number of its start. */
  readonly life: number;
  /** What it remembers of the receiver's replica (members/memory.ts). */
  readonly remembered: Remembered;
  /** Ids of the members, as far as it knows, for one of them where members do not lie (members/acquaintance.ts). */
  readonly members: readonly string[];
}

/** FormationFrame is what hubs say to each other to found a federation, or to join one. */
export type FormationFrame =
  /** Found one with the sender; undefined withdraws that. */
  | { readonly kind: "founding_offer"; readonly federationId: string; readonly founding: SignedFounding | undefined }
  /** A founder's signature; undefined: it does not want to. */
  | { readonly kind: "founding_consent"; readonly federationId: string; readonly signature: Uint8Array | undefined }
  /** `voters` are those of today, as the sender knows them; none where the founders still are. */
  | {
      readonly kind: "founded";
      readonly founding: SignedFounding;
      readonly incarnation: number;
      readonly voters: readonly Introduced[];
    }
  | { readonly kind: "join_ask"; readonly federationId: string; readonly candidate: Candidate; readonly signature: Uint8Array }
  | { readonly kind: "join_answer"; readonly federationId: string; readonly failure: Failure | undefined; readonly incarnation: number };

/** DismissedFrame tells a hub that its replica is not among those that keep the log any more. */
export interface DismissedFrame {
  readonly kind: "dismissed";
  readonly federation: Uint8Array;
  readonly incarnation: number;
}

/** WatchFrame is a frame of the failure detector. */
export interface WatchFrame {
  readonly kind: "liveness";
  readonly frame: LivenessFrame;
}

/** LendingMessage is a frame of lending. */
export interface LendingMessage {
  readonly kind: "lending";
  readonly frame: LendingFrame;
}

/** SharedMessage is a frame of shared state; `federation` is the short id of whose. */
export interface SharedMessage {
  readonly kind: "shared";
  readonly federation: Uint8Array;
  readonly frame: SharedFrame;
}

/** LogFrame is a frame of the log; `federation` is the short id of whose. */
export type LogFrame = { readonly kind: "log"; readonly federation: Uint8Array; readonly frame: ReplicaFrame<EngineFrame> };

/** MoveFrame is a frame of a migration. */
export interface MoveFrame {
  readonly kind: "migration";
  readonly frame: MigrationFrame;
}

/** Frame goes between the coordination services of two hubs. */
export type Frame = Greeting | FormationFrame | DismissedFrame | WatchFrame | LendingMessage | SharedMessage | MoveFrame | LogFrame;

/** FoundRequest founds a federation with peers. */
export interface FoundRequest {
  readonly kind: "found";
  readonly federationId: string;
  readonly name: string;
  readonly engine: Engine;
  readonly admission: "ballot" | "founder";
  /** Founders beside this hub. */
  readonly founders: readonly string[];
}

/** Request is what a caller of this hub wants. */
export type Request =
  /** `withDigest`: with the digest of the state, for which all of it is read. */
  | { readonly kind: "status"; readonly withDigest?: boolean }
  | FoundRequest
  | { readonly kind: "join"; readonly federationId: string; readonly via: string }
  | { readonly kind: "leave"; readonly federationId: string; readonly force: boolean }
  /** Gives up this hub's replica for another one; or, if `trust`, goes on with the one that was found to be not the last. */
  | { readonly kind: "rejoin"; readonly federationId: string; readonly trust: boolean }
  | { readonly kind: "transfer"; readonly hubId: string }
  | { readonly kind: "log"; readonly limit: number; readonly before: number }
  /** A command of this hub that is to be decided. */
  | { readonly kind: "change"; readonly command: LogCommand }
  /** Opens a ballot. `durationMs` 0: as long as the policy says. */
  | { readonly kind: "propose"; readonly action: Action; readonly reasoning: string; readonly durationMs: number }
  | { readonly kind: "vote"; readonly ballotId: string; readonly vote: Vote; readonly reasoning: string }
  /** Lets in a hub that asked, or removes a member: by this founder's word where that counts, else by a ballot. */
  | { readonly kind: "admit"; readonly hubId: string; readonly weight: number }
  | { readonly kind: "remove"; readonly hubId: string }
  | { readonly kind: "lending"; readonly ask: LendingAsk }
  /** What hubs tell each other beside the log: of one kind, or all. */
  | { readonly kind: "shared"; readonly of: SharedKind | undefined }
  /** Tells the others something beside the log. */
  | { readonly kind: "share"; readonly changes: readonly SharedChange[] }
  /** A question to the state: as it is here, or as of now, confirmed by who leads. */
  | { readonly kind: "query"; readonly query: Query; readonly local: boolean }
  | AgentsRequest;

/** AgentsRequest is what is wanted of agents that can move. */
export type AgentsRequest =
  /** Moves an agent, wherever it is, to a member. `stepMs` 0: as long as the default says. */
  | { readonly kind: "migrate"; readonly agent: string; readonly to: string; readonly stepMs: number; readonly why: string }
  | { readonly kind: "abort_migration"; readonly transfer: number; readonly why: string }
  /** `unless`: nothing is wanted if the log is where it was. */
  | { readonly kind: "agents"; readonly unless: number }
  | { readonly kind: "migrations" };

/** Query is a question to the state of the federation. */
export type Query =
  | { readonly kind: "value"; readonly key: string }
  /** A page of those behind the key `after`. */
  | { readonly kind: "values"; readonly prefix: string; readonly after: string }
  | { readonly kind: "ballots" }
  | { readonly kind: "ballot"; readonly ballotId: string }
  | { readonly kind: "policies" }
  | { readonly kind: "roles" };

/** QueryAnswer is the answer to a query. */
export type QueryAnswer =
  | { readonly kind: "value"; readonly value: AgreedValue | undefined }
  /** `next` is the last key of a page behind which there are more; empty if there are none. */
  | { readonly kind: "values"; readonly values: readonly AgreedValue[]; readonly next: string }
  | { readonly kind: "ballots"; readonly ballots: readonly Ballot[] }
  /** `certificate` is its bytes, or why there is none. */
  | { readonly kind: "ballot"; readonly ballot: Ballot | undefined; readonly certificate: Uint8Array | string }
  | { readonly kind: "policies"; readonly policies: readonly PolicyStatus[] }
  | { readonly kind: "roles"; readonly roles: readonly FederationRole[]; readonly endpoints: readonly DialledEndpoint[] };

/** DialledEndpoint is where a member is reached now. */
export interface DialledEndpoint {
  readonly hubId: string;
  readonly endpoint: Endpoint;
  readonly primary: Endpoint;
  /** 0: its primary; n: the n-th standby. */
  readonly dialled: number;
  readonly standbys: readonly Endpoint[];
  /** Token of who acts for the hub there. */
  readonly fence: number;
}

/** Standing is how a hub stands to a federation. `returning`: a member that takes no part until it has another replica. */
export type Standing = "none" | "founding" | "joining" | "member" | "returning";

/** MemberStatus is a member, for people. */
export interface MemberStatus {
  readonly hubId: string;
  readonly replica: ReplicaId;
  readonly voter: boolean;
  readonly weight: number;
  readonly failed: boolean;
  readonly inContact: boolean;
}

/** InvitationStatus is a federation that a peer founds with this hub. */
export interface InvitationStatus {
  readonly federationId: string;
  readonly from: string;
  readonly founders: readonly string[];
  readonly engine: Engine;
  readonly joined: readonly string[];
}

/** FederationStatus is how this hub stands, for people and programs. */
export interface FederationStatus {
  readonly standing: Standing;
  readonly federationId: string;
  readonly name: string;
  readonly engine: Engine | "";
  readonly role: Role;
  readonly term: number;
  /** Hub that leads; empty if none is known. */
  readonly leader: string;
  readonly committed: number;
  readonly applied: number;
  readonly appliedTime: number;
  readonly canDecide: boolean;
  readonly ageMs: number | undefined;
  /** Why nothing can be decided, and what to do; empty if it can. */
  readonly problem: string;
  readonly members: readonly MemberStatus[];
  readonly invitations: readonly InvitationStatus[];
  readonly stateDigest: Uint8Array;
  /** Encoded founding entry. */
  readonly founding: Uint8Array;
  /** Hubs that have asked to join. */
  readonly joins: readonly string[];
}

/** LogRecord is an entry that was applied, for people. */
export interface LogRecord {
  readonly index: number;
  readonly term: number;
  readonly time: number;
  readonly lines: readonly { readonly author: string; readonly text: string; readonly refused: string }[];
}

/** Answer is what a call gets. */
export type Answer =
  | { readonly kind: "status"; readonly call: number; readonly status: FederationStatus }
  | { readonly kind: "standing"; readonly call: number; readonly standing: Standing }
  | { readonly kind: "log"; readonly call: number; readonly records: readonly LogRecord[]; readonly next: number }
  /** A command was decided and carried out at this position; `value` is what its book says to its author. `early`: it is durable here. */
  | { readonly kind: "changed"; readonly call: number; readonly index: number; readonly value: unknown; readonly early: boolean }
  | {
      readonly kind: "queried";
      readonly call: number;
      readonly answer: QueryAnswer;
      readonly applied: number;
      /** Age of a local read; 0 for one that was confirmed. */
      readonly ageMs: number;
    }
  | {
      readonly kind: "shared";
      readonly call: number;
      readonly facts: readonly Resolved[];
      readonly heads: readonly PartHead[];
      readonly root: Uint8Array;
    }
  | { readonly kind: "said"; readonly call: number; readonly version: number }
  | { readonly kind: "lent"; readonly call: number; readonly answer: LendingAnswer }
  | { readonly kind: "done"; readonly call: number }
  | {
      readonly kind: "agents";
      readonly call: number;
      readonly agents: readonly { readonly agent: AgentRecord; readonly connected: boolean; readonly runs: boolean }[];
      /** Names that agents had at hubs where they are no more. */
      readonly formerly: readonly { readonly hub: string; readonly agent: string }[];
      readonly index: number;
      readonly ageMs: number;
    }
  /** `doing` is what this hub does for them, in words. */
  | {
      readonly kind: "migrations";
      readonly call: number;
      readonly migrations: readonly Migration[];
      /** How many of them, which stand first, are not over. */
      readonly open: number;
      readonly doing: readonly string[];
      readonly ageMs: number;
    };

/** Input is what the core takes. */
export type Input =
  | { readonly kind: "call"; readonly call: number; readonly request: Request }
  | { readonly kind: "cancel"; readonly call: number }
  | { readonly kind: "up" | "down"; readonly peer: string }
  | { readonly kind: "frame"; readonly peer: string; readonly frame: Frame }
  /** From programs that have agents, and from what was sealed and opened for them. */
  | { readonly kind: "agent"; readonly input: AgentInput }
  | { readonly kind: "stored"; readonly mark: { readonly term: number; readonly index: number } }
  /** The store is to hold this number (core.ts); answered by `witnessed`. */
  | { readonly kind: "witness"; readonly value: string };

/** Event is something that people want to know of. */
export interface Event {
  readonly kind: "event";
  readonly severity: "info" | "warning" | "error";
  /** A word for programs. */
  readonly name: string;
  readonly message: string;
  readonly hubId: string;
}

/** DialledMember is a member with standbys, and where it is dialled. */
export interface DialledMember {
  readonly hubId: string;
  readonly endpoint: Endpoint;
  /** That is one of its standbys. */
  readonly standby: boolean;
  /** Token of who acts for the hub there. */
  readonly fence: number;
  /** Of its replica. */
  readonly incarnation: number;
}

/** Output is what leaves when everything before it is durable; early ones when what is hard is. */
export type Output =
  | Answer
  | Event
  | { readonly kind: "send"; readonly peer: string; readonly frame: Frame; readonly early: boolean }
  | { readonly kind: "stored"; readonly mark: { readonly term: number; readonly index: number } }
  /** There is a proof that a hub broke the protocol. */
  | { readonly kind: "misconduct"; readonly hubId: string; readonly sentence: string }
  /** Where members with standbys are dialled: all of them. `confirmed`: nothing newer is decided. */
  | {
      readonly kind: "dialled";
      readonly members: readonly DialledMember[];
      readonly voters: readonly string[];
      readonly confirmed: boolean;
    }
  /** The store holds the number. */
  | { readonly kind: "witnessed"; readonly value: string }
  | { readonly kind: "agent"; readonly effect: AgentEffect; readonly early?: boolean }
  | { readonly kind: "refused"; readonly call: number; readonly failure: Failure };

/** Measured is a count or a time for metrics. */
export interface Measured extends Observe {
  readonly what: string;
  readonly value?: number;
}

/** Effect is anything that the core asks for. */
export type Effect = Persist | Measured | Output;
