import { sleep } from "#runtime/clock.ts";
import { EXIT, toCliError } from "../exit.ts";
import type { Io } from "../io.ts";
import { clean } from "./format.ts";

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 10_000;

/**
 * follow reads a stream until the operator stops it, and opens it again when the connection is lost after something had
 * arrived: a restart of the hub does not end a watch. `open` is asked each time, so that it can resume where it was.
 * A stream that never delivered anything fails at once.
 */
export async function follow<T>(io: Io, open: () => AsyncIterable<T>, onMessage: (message: T) => Promise<void>): Promise<void> {
  let waitMs = FIRST_WAIT_MS;
  let arrived = false;
  while (!io.stopped.aborted) {
    try {
      for await (const message of open()) {
        arrived = true;
        waitMs = FIRST_WAIT_MS;
        await onMessage(message);
      }
    } catch (error) {
      if (io.stopped.aborted) return;
      const { exitCode, message } = toCliError(error, () => "");
      if (!arrived || exitCode !== EXIT.connect) throw error;
      io.note(`foedus: connection lost (${clean(message)}); trying again in ${waitMs / 1000} s\n`);
    }
    if (io.stopped.aborted) return;
    await sleep(io.clock, waitMs, io.stopped).catch(() => undefined);
    waitMs = Math.min(LONGEST_WAIT_MS, waitMs * 2);
  }
}
