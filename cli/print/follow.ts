import type { BackoffConfig } from "#kernel/backoff.ts";
import type { FollowOptions } from "../../clients/typescript/following.ts";
import { ENDED } from "../../clients/typescript/kept-stream.ts";
import { EXIT, toCliError } from "../exit.ts";
import type { Io } from "../io.ts";
import { clean } from "./format.ts";

/** One operator watches, and reads how long the wait is: no jitter. */
const BACKOFF: BackoffConfig = { baseMs: 500, maxMs: 10_000, factor: 2, jitter: 0 };

/**
 * followOptions make the SDK follow until the operator stops it. A restart of the hub does not end a watch; a stream that never delivered
 * anything fails at once.
 */
export function followOptions(io: Io): FollowOptions {
  return {
    clock: io.clock,
    signal: io.stopped,
    backoff: BACKOFF,
    giveUp: (error, answered) => !answered || toCliError(error, () => "").exitCode !== EXIT.connect,
    onCut: (failure, waitMs) => {
      if (waitMs === undefined || failure === ENDED) return;
      io.note(`foedus: connection lost (${clean(failure.message)}); trying again in ${waitMs / 1000} s\n`);
    },
  };
}

/** follow hands on what the SDK follows, until the operator stops it. */
export async function follow<T>(io: Io, items: AsyncIterable<T>, onItem: (item: T) => Promise<void>): Promise<void> {
  try {
    for await (const item of items) await onItem(item);
  } catch (error) {
    if (!io.stopped.aborted) throw error;
  }
}
