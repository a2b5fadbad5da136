import type { Failure } from "#kernel/error.ts";
import type { Checkpoint, Laid } from "../checkpoint/checkpoint.ts";
import type { Opened, Opening, Sealing } from "../checkpoint/parcel.ts";

/** DEEDS are what a hub wants of a program for one of its agents (ADR 0018). */
export const DEEDS = ["CAPTURE", "FREEZE", "CLAIM", "RESUME", "START", "DISCARD"] as const;

/** Deed is one of them. */
export type Deed = (typeof DEEDS)[number];

/** OfferedAgent is an agent that a program says it has. */
export interface OfferedAgent {
  readonly agent: string;
  /** Raw Ed25519 public key. */
  readonly nodeKey: Uint8Array;
  /** The fence with which it ran last; 0 if it never ran. */
  readonly fence: number;
}

/** HostOffer is what a program says of itself. */
export interface HostOffer {
  readonly agents: readonly OfferedAgent[];
  /** Kinds of agents that it takes in. */
  readonly kinds: readonly string[];
}

/** AskSpec is what is wanted of an agent. Everything may be repeated without harm. */
export interface AskSpec {
  readonly agent: string;
  readonly fence: number;
  readonly transfer: number;
  readonly deed: Deed;
  readonly round: number;
  /** Of CLAIM: an encoded AgentClaim; else empty. */
  readonly claim: Uint8Array;
  readonly checkpoint: Laid | undefined;
  /** Of DISCARD: the hub that has it now; else empty. */
  readonly hub: string;
}

/** AskReply is what a program answered. */
export interface AskReply {
  readonly checkpoint?: Checkpoint | undefined;
  readonly signature?: Uint8Array | undefined;
  readonly failure?: Failure | undefined;
}

/** Standing is how an agent stands at this hub, for the program that has it. */
export interface Standing {
  readonly agent: string;
  readonly fence: number;
  readonly runs: boolean;
  /** Hub that has it now; empty if it is this one. */
  readonly movedTo: string;
  readonly failure: Failure | undefined;
}

/** AgentInput is what the shell tells of programs, and of what it sealed and opened. */
export type AgentInput =
  /** A program is there, or says something else of itself. `principal` is whose certificate it has. */
  | { readonly kind: "host"; readonly host: number; readonly principal: string; readonly offer: HostOffer }
  | { readonly kind: "host_gone"; readonly host: number }
  | { readonly kind: "replied"; readonly host: number; readonly ask: number; readonly reply: AskReply }
  /** `parcel` undefined: it could not be sealed. */
  | {
      readonly kind: "sealed";
      readonly transfer: number;
      readonly round: number;
      readonly numbers: readonly number[];
      readonly parcel: { readonly enc: Uint8Array; readonly sealed: Uint8Array } | undefined;
    }
  | ({ readonly kind: "opened"; readonly transfer: number } & Opened);

/** AgentEffect is what the shell has to do for agents. */
export type AgentEffect =
  | { readonly kind: "hosted"; readonly host: number; readonly agents: readonly Standing[] }
  | { readonly kind: "ask"; readonly host: number; readonly ask: number; readonly spec: AskSpec }
  /** What may start at a program, and that it does not. Neither is answered; a program that does not keep it is told nothing. */
  | { readonly kind: "stage"; readonly host: number; readonly agent: string; readonly transfer: number; readonly checkpoint: Laid }
  | { readonly kind: "unstage"; readonly agent: string; readonly transfer: number }
  /** Answered by `sealed`. */
  | ({ readonly kind: "seal"; readonly transfer: number } & Sealing)
  /** Answered by `opened`. */
  | ({ readonly kind: "open"; readonly transfer: number } & Opening);
