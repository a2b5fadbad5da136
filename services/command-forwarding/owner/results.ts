import type { Failure } from "#kernel/error.ts";
import { sound } from "../codec/value.ts";
import { unpinned } from "../journal/records.ts";
import { NO_VALUE, OUTCOME, type Outcome, type Result, type TaskReport } from "../messages.ts";
import { offline, type RoutedNode } from "../route/route.ts";
import type { Run } from "./run.ts";

/** Reasons with which an executor says that nothing was done. */
const NOT_DONE: ReadonlySet<string> = new Set(["VALUE_OUT_OF_RANGE", "CAPABILITY_ACCESS", "NODE_OFFLINE", "MOVED", "AGENT_FROZEN"]);

/** EXPIRED_ON_ARRIVAL is the outcome of a command that came too late to be started. */
export const EXPIRED_ON_ARRIVAL: Result = {
  outcome: OUTCOME.EXPIRED,
  value: NO_VALUE,
  failure: { reason: "DEADLINE_EXPIRED", message: "deadline passed before it arrived" },
};

/** NOT_SENT_IN_TIME is the outcome of a command that its owner's session had no room for until its deadline. */
export const NOT_SENT_IN_TIME: Result = {
  outcome: OUTCOME.EXPIRED,
  value: NO_VALUE,
  failure: { reason: "DEADLINE_EXPIRED", message: "deadline passed before it was sent" },
};

/** PERHAPS answers for a refusal of what may have been started before a restart: "not started" would be a guess. */
export const PERHAPS = unknown("it is refused now, and may have been started before the hub stopped");

/** refused is the outcome of what was not started. */
export function refused(failure: Failure): Result {
  return { outcome: OUTCOME.REJECTED, value: NO_VALUE, failure };
}

/** unknown is the outcome of what may have run. */
export function unknown(message: string): Result {
  return { outcome: OUTCOME.UNKNOWN, value: NO_VALUE, failure: { reason: "OUTCOME_UNKNOWN", message } };
}

/** resultOf is what an executor's report makes of a run. */
export function resultOf(report: TaskReport): Result {
  const { failure, value } = report;
  let outcome: Outcome = OUTCOME.DONE;
  if (failure?.reason === "OUTCOME_UNKNOWN") outcome = OUTCOME.UNKNOWN;
  else if (failure !== undefined) outcome = NOT_DONE.has(failure.reason) ? OUTCOME.REJECTED : OUTCOME.FAILED;
  return sound({ outcome, value: value.length === 0 ? NO_VALUE : unpinned(value), failure });
}

/** absent says why nobody runs a command of a node. */
export function absent({ nodeId, capability }: Pick<Run, "nodeId" | "capability">, node: RoutedNode | undefined): Failure {
  if (node?.online === false) return offline(node);
  return { reason: "NO_EXECUTOR", message: `no program that serves ${capability} of ${nodeId} is connected` };
}
