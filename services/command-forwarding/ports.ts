import type { DirectoryChange, SharePolicy } from "./messages.ts";

/** DirectorySource is the port to the node directory: a subscription that registry-sync's Watch feeds, never a query per command. */
export interface DirectorySource {
  /**
   * subscribe calls back with `reset` and everything known, then with every change. A batch is applied as a whole. The
   * returned function ends it.
   */
  subscribe(listener: (changes: readonly DirectoryChange[]) => void): () => void;
}

/** SharePolicySource is the port to the shares' invoke rules, pushed as a pure function; until the first push nothing may be invoked. */
export interface SharePolicySource {
  subscribe(listener: (policy: SharePolicy) => void): () => void;
}

/** PresenceSink is the port that tells registry-sync which nodes have an executor. It never blocks and never throws. */
export interface PresenceSink {
  report(nodeIds: readonly string[], online: boolean): void;
}
