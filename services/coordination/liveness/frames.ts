import { isHubId } from "#kernel/hub-id.ts";
import { INCARNATION_MAX } from "./settings.ts";

/** SUSPECTS_MAX is the most suspicions that one frame tells of. */
export const SUSPECTS_MAX = 16;

/** Suspect is a hub that the sender of a frame suspects, as it knows it. */
export interface Suspect {
  readonly hub: string;
  readonly incarnation: number;
}

/** Head is what every frame begins with. Of one sender, (incarnation, seq) only rises. */
export interface Head {
  /** The sender's own incarnation; a higher one refutes whatever is suspected of it at a lower one. */
  readonly incarnation: number;
  /** Number of the frame within the sender's boot, from 1. */
  readonly seq: number;
  /** The longest pause of the sender that it remembers, ms, fading: for so long it may be silent again without being dead. */
  readonly pauseMs: number;
}

/** PAUSE_MAX is the longest pause that a frame may name, ms. */
export const PAUSE_MAX = 3_600_000;

/**
 * LivenessFrame is what detectors say to each other. A hub speaks of its own incarnation and of its own suspicions only: what a third
 * hub is said to have said is never told, so that no word of a member counts twice.
 */
export type LivenessFrame =
  /** Heartbeat and question; answered by an `ack` with the same nonce. */
  | (Head & { readonly kind: "ping"; readonly nonce: number; readonly suspects: readonly Suspect[] })
  /** The sender is alive, or `subject` is: it answered the sender, who was asked by a `ping_req` with this nonce. */
  | (Head & { readonly kind: "ack"; readonly nonce: number; readonly subject: string; readonly suspects: readonly Suspect[] })
  /** The receiver is asked to ping `subject` and to tell. */
  | (Head & { readonly kind: "ping_req"; readonly nonce: number; readonly subject: string })
  /** `subject` did not answer the sender in time, or the sender could not ask it. The sender itself is well. */
  | (Head & { readonly kind: "nack"; readonly nonce: number; readonly subject: string });

const whole = (value: unknown, least: number, most: number): boolean =>
  Number.isSafeInteger(value) && (value as number) >= least && (value as number) <= most;

/** frameProblem says what is wrong with a frame of `from`, or undefined if nothing is. What it accepts, a detector takes. */
export function frameProblem(from: string, frame: LivenessFrame): string | undefined {
  if (!whole(frame.incarnation, 1, INCARNATION_MAX)) return "the sender's incarnation is out of bounds";
  if (!whole(frame.seq, 1, Number.MAX_SAFE_INTEGER)) return "the number of the frame is out of bounds";
  if (!whole(frame.nonce, 1, Number.MAX_SAFE_INTEGER)) return "the nonce is out of bounds";
  if (!whole(frame.pauseMs, 0, PAUSE_MAX)) return "the sender's pause is out of bounds";
  switch (frame.kind) {
    case "ping":
      return suspectsProblem(frame.suspects);
    case "ack":
      if (frame.subject === from || (frame.subject !== "" && !isHubId(frame.subject)))
        return "the subject of an acknowledgement is no other hub";
      return suspectsProblem(frame.suspects);
    case "ping_req":
    case "nack":
      return isHubId(frame.subject) && frame.subject !== from ? undefined : `the subject of a ${frame.kind} is no other hub`;
    default:
      return "the frame is of no known kind";
  }
}

function suspectsProblem(suspects: readonly Suspect[]): string | undefined {
  if (suspects.length > SUSPECTS_MAX) return `more than ${SUSPECTS_MAX} suspicions are told at once`;
  for (const { hub, incarnation } of suspects) {
    if (!isHubId(hub)) return "a suspicion names no hub";
    if (!whole(incarnation, 0, INCARNATION_MAX)) return "the incarnation of a suspicion is out of bounds";
  }
  return new Set(suspects.map(({ hub }) => hub)).size === suspects.length ? undefined : "a hub is suspected twice in one frame";
}
