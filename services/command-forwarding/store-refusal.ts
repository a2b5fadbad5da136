import type { Output } from "#runtime/driver.ts";
import { type CommandEffect, OUTCOME } from "./messages.ts";

/** isAnswer: while the store refuses writes, callers are answered at once; all else waits until what it rests on is durable (W5). */
export function isAnswer(effect: Output<CommandEffect>): boolean {
  return effect.kind === "reply";
}

/**
 * overtakes tells whether an effect may leave while older ones wait for a store that refuses writes (W7). A command must not be
 * asked for, asked for again or started before its record is durable, and an outcome must not be told to its caller's hub: after
 * a crash nobody would know of it, and it would be done a second time (O1, O3, C1).
 */
export function overtakes(effect: Output<CommandEffect>): boolean {
  switch (effect.kind) {
    case "invoke":
    case "tasks":
    // It must not arrive before the task that it is for.
    case "cancel-task":
      return false;
    case "respond":
      return effect.items.every(({ result: { outcome } }) => outcome !== OUTCOME.DONE && outcome !== OUTCOME.FAILED);
    default:
      return true;
  }
}
