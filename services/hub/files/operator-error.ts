import { FoedusError, fail } from "#kernel/error.ts";

/**
 * operatorError is the error that a module failed to start with, as a sentence for the operator, if the operator can put it right: what
 * services say themselves, and what the system says of a file or SQLite of a store. For a bug or a slow start it is undefined.
 */
export function operatorError(error: unknown): FoedusError | undefined {
  if (error instanceof FoedusError) return error.failure.reason === "DEADLINE_EXPIRED" ? undefined : error;
  if (!(error instanceof Error)) return undefined;
  const { code, path, errcode } = error as { readonly code?: unknown; readonly path?: unknown; readonly errcode?: unknown };
  const ofFile = typeof code === "string" && typeof path === "string";
  if (!ofFile && typeof errcode !== "number") return undefined;
  const fix = "look at data_dir: whose its files are, what stands there, and what room is left";
  return fail("NOT_CONFIGURED", `a service cannot start: ${error.message}; ${fix}`, { cause: error });
}
