/**
 * whenAborted calls a listener once when a signal aborts, and at once if it has: an aborted signal tells nobody any more.
 * `removeEventListener` takes the listener back.
 */
export function whenAborted(signal: AbortSignal | undefined, listener: () => void): void {
  if (signal?.aborted === true) listener();
  else signal?.addEventListener("abort", listener, { once: true });
}
