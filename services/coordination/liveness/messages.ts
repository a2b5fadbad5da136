import type { Effect, Observe } from "#kernel/core.ts";
import type { LivenessFrame } from "./frames.ts";

/** Member is a hub of the federation, as the book of members has it. */
export interface Member {
  readonly hub: string;
  /** Its failure has been confirmed, and its return has not. */
  readonly failed: boolean;
}

/** LivenessInput is what a detector takes. */
export type LivenessInput =
  /** All members as the book has them now, this hub included or not. */
  | { readonly kind: "members"; readonly members: readonly Member[] }
  /** A frame of a hub whose identity its session proves. Nothing in it is believed before it is checked. */
  | { readonly kind: "frame"; readonly from: string; readonly frame: LivenessFrame }
  /** The session with a member came up or was lost. A hint: it brings the probe forward, and decides nothing. */
  | { readonly kind: "link"; readonly hub: string; readonly up: boolean };

/** LivenessEffect is what a detector asks for. Except for frames they are news, for whoever decides. */
export type LivenessEffect =
  | (Effect & { readonly kind: "send"; readonly to: string; readonly frame: LivenessFrame })
  /** A member did not answer, neither here nor through others. It has been told. */
  | (Effect & { readonly kind: "suspected"; readonly hub: string; readonly incarnation: number; readonly why: string })
  /** A member that was suspected is alive. */
  | (Effect & { readonly kind: "cleared"; readonly hub: string; readonly incarnation: number })
  /** A suspicion was not refuted in time: this hub's vote for the failure of a member. It comes again until the book has it. */
  | (Effect & {
      readonly kind: "accuse";
      readonly hub: string;
      readonly incarnation: number;
      /** Silence, ms of own time. */
      readonly silentMs: number;
      /** Others who suspect the same. */
      readonly confirmations: number;
      readonly why: string;
    })
  /** A member that this hub accused is alive: the vote is taken back. */
  | (Effect & { readonly kind: "withdraw"; readonly hub: string; readonly incarnation: number })
  /** A member whose failure was confirmed has been heard without a gap for `stableMs`. It comes again until the book has it. */
  | (Effect & { readonly kind: "returned"; readonly hub: string; readonly incarnation: number; readonly stableMs: number })
  | (Observe & { readonly what: ObservedWhat; readonly value: number; readonly hub?: string; readonly why?: string });

/** ObservedWhat are the measurements: own pauses (ms), the health score, frames that were refused, verdicts that were held back. */
export type ObservedWhat = "pause" | "health" | "refused" | "held";
