import type { Failure } from "#kernel/error.ts";
import type { Laid } from "../checkpoint/checkpoint.ts";
import type { Opened, Opening } from "../checkpoint/parcel.ts";
import type { MigrationFrame } from "../frames.ts";
import type { Cause, Migration } from "../messages.ts";
import type { SagaEffect, Seen } from "./saga.ts";

/** DestinationInput is what the destination's saga takes. */
export type DestinationInput =
  | { readonly kind: "log"; readonly seen: Seen }
  /** The policy of this hub takes the agent, with at most so many bytes, until a log time; or not. */
  | { readonly kind: "judged"; readonly failure?: Failure; readonly bytes: number; readonly until: number }
  /** From the source; anybody else's frames do not get here. */
  | { readonly kind: "frame"; readonly frame: MigrationFrame }
  | ({ readonly kind: "opened" } & Opened)
  /** CONFIRM came before TRANSFER stood in the log, and was refused by it. */
  | { readonly kind: "too_early" }
  | { readonly kind: "started" }
  | { readonly kind: "not_started"; readonly failure: Failure }
  /** An operator, preemption, or the end of the lease at this hub. The log decides. */
  | { readonly kind: "abort"; readonly cause: Cause; readonly message: string };

/** DestinationEffect is what the destination's saga asks for; all of it may be repeated without harm. */
export type DestinationEffect =
  | SagaEffect
  | { readonly kind: "judge"; readonly migration: Migration }
  | ({ readonly kind: "open" } & Opening)
  /** The agent runs here from now on, with this fence. Repeated with a fence that it has already, it changes nothing. */
  | { readonly kind: "start"; readonly agent: string; readonly fence: number; readonly checkpoint: Laid }
  /** What may start here is shown to the program that takes it in, so that the start brings only what changed. It may get lost. */
  | { readonly kind: "stage"; readonly transfer: number; readonly agent: string; readonly checkpoint: Laid }
  /** The agent does not come: what was staged of it is deleted. */
  | { readonly kind: "unstage"; readonly transfer: number; readonly agent: string };
