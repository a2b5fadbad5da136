import { useEffect, useRef, useState } from "preact/hooks";
import { CallError } from "./api.ts";
import { after, monoMs } from "./browser.ts";

/** Polled is the newest answer, and why there is no newer one. */
export interface Polled<T> {
  readonly data: T | undefined;
  readonly error: CallError | undefined;
  /** When it came, by the monotonic clock. */
  readonly atMs: number;
  /** again asks now. */
  readonly again: () => void;
}

/** Longest wait after failures, ms. */
const RETRY_MAX_MS = 5_000;
const RETRY_MS = 500;

/** asCallError is what was thrown, as a CallError. */
export function asCallError(error: unknown): CallError {
  return error instanceof CallError ? error : new CallError("internal", error instanceof Error ? error.message : String(error));
}

/** usePoll asks now, and again and again: `everyMs` after each answer. A page that nobody sees asks for nothing. */
export function usePoll<T>(ask: (signal: AbortSignal) => Promise<T>, everyMs: number, about: readonly unknown[]): Polled<T> {
  const [polled, set] = useState<Omit<Polled<T>, "again">>({ data: undefined, error: undefined, atMs: 0 });
  const nudge = useRef(() => {});
  // What it is about decides; the function is another one each time.
  useEffect(() => {
    set({ data: undefined, error: undefined, atMs: 0 });
    const ended = new AbortController();
    let cancel = () => {};
    let failures = 0;
    let asking = false;
    const turn = async (): Promise<void> => {
      cancel();
      if (asking || document.hidden) return;
      asking = true;
      try {
        const data = await ask(ended.signal);
        failures = 0;
        if (!ended.signal.aborted) set({ data, error: undefined, atMs: monoMs() });
      } catch (error) {
        failures++;
        if (!ended.signal.aborted) set((old) => ({ ...old, error: asCallError(error) }));
      }
      asking = false;
      const waitMs = failures === 0 ? everyMs : Math.min(RETRY_MAX_MS, Math.max(everyMs, RETRY_MS * 2 ** failures));
      if (!ended.signal.aborted) cancel = after(waitMs, () => void turn());
    };
    nudge.current = () => void turn();
    document.addEventListener("visibilitychange", nudge.current);
    const now = nudge.current;
    void turn();
    return () => {
      ended.abort();
      cancel();
      document.removeEventListener("visibilitychange", now);
    };
  }, [everyMs, ...about]);
  return { ...polled, again: () => nudge.current() };
}
