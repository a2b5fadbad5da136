import type { Now } from "./instant.ts";

/**
 * Core is a pure state machine: what goes in is an input and the time, what comes out are effects.
 * It never touches a clock, a socket, a file or randomness (DESIGN section 3).
 *
 * The driver's contract with a core:
 * DC1 one input at a time, to the end.
 * DC2 the driver gates outputs, not inputs: every effect but `persist` and `observe` waits, in order, until each
 *    `persist` that came before it is durable. Steps go on meanwhile.
 * DC3 the mailbox is bounded.
 * DC4 one timer, from `deadline()`.
 * DC5 outcomes of effects come back as inputs.
 * DC6 a failed assertion stops the hub.
 */
export interface Core<I, E extends Effect> {
  /** step takes one input and appends what must happen to `out`. Operating errors are effects; only a bug throws. */
  step(now: Now, input: I, out: E[]): void;
  /** tick is called when `deadline()` has passed. */
  tick(now: Now, out: E[]): void;
  /** deadline is the `mono` instant at which `tick` wants to be called, or undefined for never. */
  deadline(): number | undefined;
  /** describe draws the state as stable, readable text: for transcripts, `/statusz` and people. */
  describe(): string;
}

/** Effect is anything a core asks for. `persist` and `observe` have a meaning for every driver. */
export interface Effect {
  readonly kind: string;
}

/** Persist makes records durable. All persists since the last commit are one transaction (DC2). */
export interface Persist extends Effect {
  readonly kind: "persist";
  readonly ops: readonly StoreOp[];
  /** False for what outputs that the driver calls early need not wait for (DR11); every output waits for it otherwise. */
  readonly hard?: boolean;
}

/** Observe is a measurement or event for telemetry; it bypasses the gate. */
export interface Observe extends Effect {
  readonly kind: "observe";
}

/**
 * StoreOp is one change of a service's store. A store holds append-only logs of numbered blobs and spaces of keyed blobs.
 * Bytes are kept as given and must not be changed afterwards.
 */
export type StoreOp =
  | { readonly op: "append"; readonly log: string; readonly seq: number; readonly bytes: Uint8Array }
  | { readonly op: "trim"; readonly log: string; readonly below: number }
  /** Removes the newest blobs of a log, from a position on; the positions may be written again, also in the same batch. */
  | { readonly op: "cut"; readonly log: string; readonly from: number }
  | { readonly op: "drop"; readonly log: string }
  | { readonly op: "put"; readonly space: string; readonly key: string; readonly bytes: Uint8Array }
  | { readonly op: "delete"; readonly space: string; readonly key: string }
  | { readonly op: "clear"; readonly space: string };
