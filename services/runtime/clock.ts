import { whenAborted } from "#channel/abort.ts";
import type { Clock } from "#channel/clock.ts";
import { type Failure, fail } from "#kernel/error.ts";
import type { Now } from "#kernel/instant.ts";

/** RELEASED_AT_WALL is the wall-clock time, ms, before which no reading can be true, as this software did not exist: 2026-11-01T00:00:00Z. */
export const RELEASED_AT_WALL = 1_793_491_200_000;

/**
 * clockPlausible refuses readings from before this software's release, as a machine without a battery clock gives until
 * it has heard from a time server. The answer is a Failure (CLOCK_NOT_SET) to be retried later, or undefined for a good clock;
 * nothing stops because of it.
 */
export function clockPlausible(wall: number): Failure | undefined {
  if (wall >= RELEASED_AT_WALL) return undefined;
  return {
    reason: "CLOCK_NOT_SET",
    message: "the clock of this machine is not set; certificates and tokens cannot be checked until it is",
    facts: { wall_ms: String(Math.floor(wall)) },
  };
}

/** JumpDetector notices when the wall clock was set, by comparing it with the monotonic one. */
export class JumpDetector {
  readonly #thresholdMs: number;
  #offset: number | undefined;

  /** thresholdMs: smaller differences are drift, not a jump (500 by default). */
  constructor(thresholdMs = 500) {
    this.#thresholdMs = thresholdMs;
  }

  /** check answers by how many ms the wall clock jumped since the last check (negative: back), or 0. */
  check(now: Now): number {
    const offset = now.wall - now.mono;
    const jump = this.#offset === undefined ? 0 : offset - this.#offset;
    this.#offset = offset;
    return Math.abs(jump) >= this.#thresholdMs ? jump : 0;
  }
}

/** sleep resolves after `delayMs`, or rejects with the signal's reason as soon as it aborts. */
export function sleep(clock: Clock, delayMs: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const abort = (): void => {
      timer.cancel();
      reject(signal?.reason);
    };
    const timer = clock.setTimer(delayMs, () => {
      signal?.removeEventListener("abort", abort);
      resolve();
    });
    whenAborted(signal, abort);
  });
}

/**
 * withTimeout runs `work` and gives it a signal that aborts after `timeoutMs`, or when `outer` does.
 * It rejects with DEADLINE_EXPIRED at that moment even if the work does not listen to its signal.
 */
export async function withTimeout<T>(
  clock: Clock,
  timeoutMs: number,
  work: (signal: AbortSignal) => Promise<T>,
  outer?: AbortSignal,
): Promise<T> {
  const controller = new AbortController();
  let abort: ((cause: unknown) => void) | undefined;
  const aborted = new Promise<never>((_, reject) => {
    abort = (cause) => {
      controller.abort(cause);
      reject(cause);
    };
  });
  const forward = (): void => abort?.(outer?.reason);
  whenAborted(outer, forward);
  const timer = clock.setTimer(timeoutMs, () => abort?.(fail("DEADLINE_EXPIRED", `no answer within ${timeoutMs} ms`)));
  try {
    return await Promise.race([aborted, work(controller.signal)]);
  } finally {
    timer.cancel();
    outer?.removeEventListener("abort", forward);
    aborted.catch(() => undefined);
  }
}
