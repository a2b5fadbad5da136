import type { DirectoryChange } from "../messages.ts";

/** Changes that are kept as they came before it is looked whether newer ones make some of them worthless. */
const COMPACT_FROM = 1_024;

/** Lists that `mergeChanges` made, and how long each was after its last compaction: they may be added to. */
const gathered = new WeakMap<readonly DirectoryChange[], number>();

/**
 * mergeChanges makes one batch of two. A directory that cannot be told for a long time costs the memory of its nodes and not that of
 * everything that happened to them. `older` must not be used afterwards.
 */
export function mergeChanges(older: readonly DirectoryChange[], newer: readonly DirectoryChange[]): readonly DirectoryChange[] {
  const compacted = gathered.get(older);
  const all = compacted === undefined ? [...older] : (older as DirectoryChange[]);
  for (const change of newer) all.push(change);
  if (all.length <= Math.max(COMPACT_FROM, 2 * (compacted ?? 0))) {
    gathered.set(all, compacted ?? 0);
    return all;
  }
  const compact = compactChanges(all);
  gathered.set(compact, compact.length);
  return compact;
}

/** compactChanges leaves out what later changes of the same batch make worthless. */
export function compactChanges(changes: readonly DirectoryChange[]): DirectoryChange[] {
  const kept: DirectoryChange[] = [];
  const settled = new Set<string>();
  const gone = new Set<string>();
  // From the newest to the oldest: what a newer one covers is known by then.
  for (let i = changes.length - 1; i >= 0; i--) {
    const change = changes[i] as DirectoryChange;
    if (change.kind !== "reset" && gone.has(change.hubId)) continue;
    const key =
      change.kind === "freshness" || change.kind === "hub-gone" || change.kind === "reset" ? "" : `${change.hubId}/${change.nodeId}`;
    switch (change.kind) {
      case "online":
        if (settled.has(key) || settled.has(`online ${key}`)) continue;
        settled.add(`online ${key}`);
        break;
      case "came":
        if (settled.has(`came ${key}`)) continue;
        settled.add(`came ${key}`);
        break;
      case "put":
      case "removed":
        if (settled.has(key)) continue;
        settled.add(key);
        break;
      case "freshness":
        if (settled.has(`freshness ${change.hubId}`)) continue;
        settled.add(`freshness ${change.hubId}`);
        break;
      case "hub-gone":
        gone.add(change.hubId);
        break;
      case "reset":
        kept.push(change);
        return kept.reverse();
    }
    kept.push(change);
  }
  return kept.reverse();
}
