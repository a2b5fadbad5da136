import { type Failure, FoedusError } from "#kernel/error.ts";

/** Failures that this SDK found by itself. A hub may state any fact, and none of its words may pass for ours. */
const found = new WeakMap<Failure, string>();

/** foundRemedy is what to do about a failure that this SDK found by itself: better than the general remedy of its reason. */
export function foundRemedy(failure: Failure): string | undefined {
  return found.get(failure);
}

/** misconfigured makes the error of settings that cannot be used, with what to do about it. */
export function misconfigured(message: string, remedy: string, cause?: unknown): FoedusError {
  const failure: Failure = { reason: "NOT_CONFIGURED", message, facts: { remedy } };
  found.set(failure, remedy);
  return new FoedusError(failure, cause === undefined ? undefined : { cause });
}
