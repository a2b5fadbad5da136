import type { Output, StoreReport } from "#runtime/service/driver.ts";
import { type CommandEffect, type Input, OUTCOME, type Outcome } from "../messages.ts";

/**
 * isAnswer: while the store refuses writes, callers are answered at once; all else waits until what it rests on is durable (DR5). So does
 * the outcome of a command with a key: after a crash the same key must not be told anything else (IK2).
 */
export function isAnswer(effect: Output<CommandEffect>): boolean {
  return effect.kind === "reply" && !(effect.keyed === true && isFinal(effect.result.outcome));
}

/** storedInput is what the core hears of a commit: that the store refuses, with all that is not durable, and that it accepts again. */
export function storedInput(report: StoreReport): Input | undefined {
  if (report.ok) return report.recovered ? { kind: "stored", ok: true, failure: undefined, unstored: [] } : undefined;
  return { kind: "stored", ok: false, failure: report.failure, unstored: report.unstored };
}

/** isUrgent: acknowledgements of outcomes wait for a commit that is made anyway; with everything else somebody waits. */
export function isUrgent(effect: Output<CommandEffect>): boolean {
  return effect.kind !== "invoke" || effect.items.length + effect.cancels.length > 0;
}

function isFinal(outcome: Outcome): boolean {
  return outcome === OUTCOME.DONE || outcome === OUTCOME.FAILED;
}

/**
 * overtakes tells whether an effect may leave while older ones wait for a store that refuses writes (DR7). A command must not be
 * asked for, asked for again or started before its record is durable, and an outcome must not be told to its caller's hub: after
 * a crash nobody would know of it, and it would be done a second time (OW1, OW3, CA1).
 */
export function overtakes(effect: Output<CommandEffect>): boolean {
  switch (effect.kind) {
    case "invoke":
    case "tasks":
    // It must not arrive before the task that it is for.
    case "cancel-task":
    // Nor the question which tasks were handed out before the tasks.
    case "tell-undelivered":
      return false;
    case "respond":
      return effect.items.every(({ result }) => !isFinal(result.outcome));
    case "reply":
      return isAnswer(effect);
    default:
      return true;
  }
}
