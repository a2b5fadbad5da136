import type { Failure } from "#kernel/error.ts";
import { problemOf } from "#kernel/wire/shape.ts";
import type { Cause, MigrationCommand } from "./messages.ts";
import { MIGRATION_COMMAND } from "./shapes.ts";

/** Causes that only the log itself can know. */
const OF_THE_LOG: ReadonlySet<Cause> = new Set<Cause>(["DEADLINE", "HUB_REMOVED"]);

/** isCount tells whether a number is a whole one between two bounds, both of which it may be. NaN is none. */
export function isCount(value: number, min: number, max: number = Number.MAX_SAFE_INTEGER): boolean {
  return Number.isSafeInteger(value) && value >= min && value <= max;
}

/** commandProblem says what is wrong with a command by itself, whatever the book holds; undefined if nothing is. */
export function commandProblem(command: MigrationCommand): Failure | undefined {
  const problem = problemOf(MIGRATION_COMMAND, command);
  if (problem !== undefined) return { reason: "INVALID_FIELD", message: `${problem.path} ${problem.message}`, field: problem.path };
  if (command.kind === "abort" && OF_THE_LOG.has(command.cause))
    return { reason: "INVALID_FIELD", message: `${command.cause} is no cause that a hub can give`, field: "cause" };
  return undefined;
}
