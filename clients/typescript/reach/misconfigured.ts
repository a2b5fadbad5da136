import { FoedusError } from "#kernel/error.ts";

/** REMEDY is the fact of a failure that this SDK found by itself: what to do, better than the general remedy of its reason. */
export const REMEDY = "remedy";

/** misconfigured makes the error of settings that cannot be used, with what to do about it. */
export function misconfigured(message: string, remedy: string, cause?: unknown): FoedusError {
  return new FoedusError({ reason: "NOT_CONFIGURED", message, facts: { [REMEDY]: remedy } }, cause === undefined ? undefined : { cause });
}
