import { isReason, reasonRule } from "#channel/status.ts";
import { type Failure, FoedusError, type Reason } from "#kernel/error.ts";
import { foundRemedy } from "./reach/misconfigured.ts";

export { type Failure, FoedusError, fail, REASONS, type Reason } from "#kernel/error.ts";

function failureIn(error: FoedusError | Failure | Reason): Failure {
  if (typeof error === "string") return { reason: error, message: "" };
  return error instanceof FoedusError ? error.failure : error;
}

/** remedyOf says what to do about an error, a failure or a reason: one sentence for people. */
export function remedyOf(error: FoedusError | Failure | Reason): string {
  const failure = failureIn(error);
  return foundRemedy(failure) ?? reasonRule(failure.reason).remedy;
}

/** isRetryable tells whether the same call may succeed later, with nothing changed. */
export function isRetryable(error: FoedusError | Failure | Reason): boolean {
  return reasonRule(failureIn(error).reason).retryable;
}

/** hasReason tells whether something thrown is a FoedusError, of one of the reasons if any are given. */
export function hasReason(error: unknown, ...reasons: readonly Reason[]): error is FoedusError {
  return error instanceof FoedusError && isReason(error.reason) && (reasons.length === 0 || reasons.includes(error.reason));
}
