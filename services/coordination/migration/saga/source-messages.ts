import type { Failure } from "#kernel/error.ts";
import type { Checkpoint, Laid } from "../checkpoint/checkpoint.ts";
import type { Sealed, Sealing } from "../checkpoint/parcel.ts";
import type { MigrationFrame } from "../frames.ts";
import type { Cause, Claim, Migration } from "../messages.ts";
import type { SagaEffect, Seen } from "./saga.ts";

/** SourceInput is what the source's saga takes. */
export type SourceInput =
  | { readonly kind: "log"; readonly seen: Seen }
  /** The policy of this hub lets the agent go, with at most so many bytes; or not. */
  | { readonly kind: "judged"; readonly failure?: Failure; readonly bytes: number }
  | { readonly kind: "captured"; readonly round: number; readonly checkpoint: Checkpoint }
  | { readonly kind: "not_captured"; readonly round: number; readonly failure: Failure }
  | { readonly kind: "claimed"; readonly round: number; readonly claim: Uint8Array }
  | ({ readonly kind: "sealed" } & Sealed)
  /** From the destination; anybody else's frames do not get here. */
  | { readonly kind: "frame"; readonly frame: MigrationFrame }
  | { readonly kind: "resumed" }
  | { readonly kind: "discarded" }
  /** An operator, or preemption at this hub, wants no move. The log decides. */
  | { readonly kind: "abort"; readonly cause: Cause; readonly message: string };

/** SourceEffect is what the source's saga asks for, each once until it is answered; all of them may be repeated without harm. */
export type SourceEffect =
  | SagaEffect
  | { readonly kind: "judge"; readonly migration: Migration }
  /**
   * What the agent is now. With `freeze` it stops first, and answers the same from then on until `resume`. After the `resume` of a transfer,
   * a capture of it that comes late stops nothing.
   */
  | {
      readonly kind: "capture";
      readonly transfer: number;
      readonly agent: string;
      readonly fence: number;
      readonly round: number;
      readonly freeze: boolean;
    }
  /** The agent's signature by its node key, over `claimBytes`. */
  | { readonly kind: "claim"; readonly agent: string; readonly round: number; readonly claim: Claim }
  | ({ readonly kind: "seal" } & Sealing)
  /** No move: the agent goes on here; from the checkpoint if its program has lost what it was. */
  | {
      readonly kind: "resume";
      readonly transfer: number;
      readonly agent: string;
      readonly fence: number;
      readonly checkpoint: Laid | undefined;
    }
  /** The agent runs elsewhere: what is here of it is deleted. */
  | { readonly kind: "discard"; readonly agent: string; readonly fence: number };
