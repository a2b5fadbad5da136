import type { Observe, Persist } from "#kernel/core.ts";
import type { Failure } from "#kernel/error.ts";
import type { CommandCodec, News } from "../state/commands.ts";
import type { Applied, FederationState, StateData } from "../state/federation-state.ts";
import type { Committed, EngineEffect, LogEngine, ReplicaId } from "./engine.ts";
import type { Proposer } from "./proposer.ts";

/** ReplicaFrame goes between the replicas of two hubs. `F` is a frame of the engine. */
export type ReplicaFrame<F> =
  | { readonly kind: "engine"; readonly from: ReplicaId; readonly to: ReplicaId; readonly frame: F }
  /** A batch for who leads. */
  | { readonly kind: "propose"; readonly payload: Uint8Array }
  /** The batch was not taken; `leader` is the hub to ask, empty if none is known. */
  | { readonly kind: "declined"; readonly session: number; readonly first: number; readonly leader: string; readonly failure: Failure }
  | { readonly kind: "read_ask"; readonly id: number }
  /** Another hub is to lead. */
  | { readonly kind: "lead_ask"; readonly id: number; readonly to: string }
  | { readonly kind: "lead_answer"; readonly id: number; readonly failure: Failure | undefined }
  | { readonly kind: "read_answer"; readonly id: number; readonly index: number; readonly failure: Failure | undefined };

/** ReplicaEffect is what a replica asks for. */
export type ReplicaEffect<F> =
  | Persist
  | { readonly kind: "send"; readonly peer: string; readonly frame: ReplicaFrame<F>; readonly early: boolean }
  | { readonly kind: "stored"; readonly mark: { readonly term: number; readonly index: number } }
  /** A command of this hub was decided and carried out. `durable`: its entry is durable here too, not at a quorum of others only. */
  | { readonly kind: "decided"; readonly call: number; readonly applied: Applied; readonly durable: boolean }
  /** What was applied here up to this moment is at least what was decided when the call was made. */
  | { readonly kind: "readable"; readonly call: number }
  | { readonly kind: "done"; readonly call: number }
  | { readonly kind: "refused"; readonly call: number; readonly failure: Failure }
  /** An entry was applied here, with what became known by it. */
  | { readonly kind: "applied"; readonly entry: Committed; readonly commands: readonly Applied[]; readonly news: readonly News[] }
  /** The state is another one, from a snapshot. */
  | { readonly kind: "replaced" }
  | Extract<EngineEffect<F>, { readonly kind: "role" | "evidence" }>
  | (Observe & { readonly what: string; readonly value?: number });

/** ReplicaOptions are what a replica is made of. */
export interface ReplicaOptions<F> {
  readonly self: ReplicaId;
  readonly engine: LogEngine<F>;
  readonly state: FederationState;
  readonly proposer: Proposer;
  readonly codec: CommandCodec;
  readonly stateCodec: { readonly write: (data: StateData) => Uint8Array; readonly read: (bytes: Uint8Array) => StateData };
  /** Nobody leads for longer than a round: every replica takes commands and confirms reads by itself. */
  readonly leaderless: boolean;
  /** Tells this start of the hub from those before it (`sessionAfter`). */
  readonly start: number;
  /** A command waits so long for its decision, and a read for its confirmation, ms. */
  readonly patienceMs: number;
  /** After so long without a quorum commands are refused at once, ms: an election takes less. */
  readonly graceMs: number;
}
