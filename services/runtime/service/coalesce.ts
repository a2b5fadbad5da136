/**
 * coalesced makes calls of `run` cost at most one run under way and one that follows, however many there are: a call during a run asks
 * for what changed since that run began, and one run after it serves all who asked. Each call settles as the run that served it did.
 */
export function coalesced(run: () => Promise<void>): () => Promise<void> {
  let current: Promise<void> | undefined;
  let following: PromiseWithResolvers<void> | undefined;
  const ended = (): void => {
    const next = following;
    current = following = undefined;
    if (next !== undefined) begin().then(next.resolve, next.reject);
  };
  const begin = (): Promise<void> => {
    current = run();
    current.then(ended, ended);
    return current;
  };
  return () => {
    if (current === undefined) return begin();
    following ??= Promise.withResolvers<void>();
    return following.promise;
  };
}
