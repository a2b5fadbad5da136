import { FoedusError } from "#kernel/error.ts";
import { remedyOf } from "../../clients/typescript/errors.ts";
import { usage } from "../exit.ts";

/** asUsage makes a mistake of the command line of what the SDK refuses. Throws CliError (usage). */
export function asUsage<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw error instanceof FoedusError ? usage(error.message, remedyOf(error), error) : error;
  }
}
