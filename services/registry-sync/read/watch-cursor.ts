import type { FeedPosition, WatchOptions, WatchPush } from "../messages.ts";
import type { HlcValue } from "../ports.ts";
import type { TableScan } from "../table/scan.ts";

/** Cursor is how far a watcher is with one feed. */
export interface Cursor {
  readonly hubId: string;
  readonly generation: number;
  readonly share: string;
  readonly epoch: number;
  /** Next segment. */
  next: number;
  /** Position that was bookmarked last. */
  bookmarked: number;
  /** The snapshot that comes first, and when the watcher took something of it last. */
  scan: TableScan | undefined;
  movedAt: number;
  /** The snapshot was given up: everything must be sent anew. */
  lost: boolean;
  /** Something of what is stored is missing in the snapshot: it is no copy yet, and is sent anew when the store takes writes again. */
  readonly partial: boolean;
  readonly start: FeedPosition;
  readonly hlc: HlcValue;
  resetSent: boolean;
  /** The watcher has what is in the snapshot: it is only looked at for what passes the filter. */
  readonly has: boolean;
  /** Refs of the nodes that the watcher was told of, if it filters. */
  readonly known: Set<number> | undefined;
}

/** Watch is one watcher: what it asked for, and how far it is with each feed. */
export interface Watch {
  readonly id: number;
  options: WatchOptions;
  readonly cursors: Map<string, Cursor>;
  ready: boolean;
  readonly pending: Extract<WatchPush, { kind: "gone" }>[];
  bookmarkedAt: number;
  /** It is told that it has all that there is, wherever feeds are: it was not yet, or one of them went since. */
  owed: boolean;
}

/** holds tells whether a watcher has all of a feed up to its cursor. */
export function holds(cursor: Cursor | undefined): cursor is Cursor {
  return cursor !== undefined && !cursor.lost && !cursor.partial && cursor.scan === undefined;
}
