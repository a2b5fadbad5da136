// Processes that tests start: whether they run, and how they are ended so that none is left behind.

import type { ChildProcess } from "node:child_process";
import { systemClock } from "#channel/clock.ts";

/** Longest time that a process may take to end after a signal, ms: five times a hub's default grace, and less than a hook of a test has. */
const END_WITHIN_MS = 25_000;

/** isRunning tells whether a process has not ended yet. */
export function isRunning(child: ChildProcess): boolean {
  return child.exitCode === null && child.signalCode === null;
}

/** endProcess sends a signal and resolves with the exit code. A process that goes on for `withinMs` is killed, and that is an error. */
export async function endProcess(
  child: ChildProcess,
  name: string,
  signal: NodeJS.Signals = "SIGTERM",
  withinMs = END_WITHIN_MS,
): Promise<number | null> {
  if (!isRunning(child)) return child.exitCode;
  const gone = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  let killed = false;
  const timer = systemClock.setTimer(withinMs, () => {
    killed = child.kill("SIGKILL");
  });
  child.kill(signal);
  await gone;
  timer.cancel();
  if (killed) throw new Error(`${name} did not end within ${withinMs} ms after ${signal} and was killed`);
  return child.exitCode;
}

/** allOf waits for all, also when some fail, and then throws the first error: what runs on beside a failure would be left behind. */
export async function allOf<T>(promises: Iterable<Promise<T>>): Promise<T[]> {
  const settled = await Promise.allSettled(promises);
  return settled.map((result) => {
    if (result.status === "rejected") throw result.reason;
    return result.value;
  });
}
