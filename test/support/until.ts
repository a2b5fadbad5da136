// Waiting for something to hold, instead of for time to pass.
import { systemClock } from "#channel/clock.ts";
import { sleep } from "#runtime/clock.ts";

/** GivenUp is an error that ends `until` at once: what is waited for cannot come any more, as when the process that it needs has ended. */
export class GivenUp extends Error {
  override readonly name = "GivenUp";
}

const EVERY_MS = 20;

/**
 * until polls a condition, each 20 ms, until it gives something other than undefined or false. Errors count as "not yet", except
 * GivenUp, which is thrown on; after the timeout it fails with `what`, and the last error as the cause.
 */
export async function until<T>(
  what: string,
  condition: () => Promise<T | undefined | false> | T | undefined | false,
  timeoutMs = 15_000,
): Promise<T> {
  const end = systemClock.mono() + timeoutMs;
  let last: unknown;
  for (;;) {
    try {
      const value = await condition();
      if (value !== undefined && value !== false) return value;
    } catch (error) {
      if (error instanceof GivenUp) throw error;
      last = error;
    }
    if (systemClock.mono() > end) throw new Error(`${what} did not happen within ${timeoutMs} ms`, { cause: last });
    await sleep(systemClock, EVERY_MS);
  }
}
