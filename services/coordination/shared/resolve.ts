import { compareHlc } from "#kernel/crdt/hlc.ts";
import { compareLww } from "#kernel/crdt/lww.ts";
import { compareText } from "#kernel/wire/bytes.ts";
import type { Conflict, SharedEntry } from "./messages.ts";

/** Said is what one hub says under a key. */
export interface Said {
  readonly hub: string;
  readonly entry: SharedEntry;
}

/** Resolved is what counts under a key, and who says something else. */
export interface Resolved extends Said {
  /** The others that say something there, sorted. */
  readonly others: readonly string[];
}

/**
 * resolve decides between what hubs say under one key, by the rule of its kind (S4-14): a pure function of what is said, whatever its order,
 * so that hubs with the same parts read the same. Undefined where there is nothing, or the latest word is that there is nothing.
 */
export function resolve(conflict: Conflict, said: readonly Said[]): Resolved | undefined {
  if (said.length === 0) return undefined;
  const compare = conflict === "priority" ? comparePriority : compareTime;
  const best = said.reduce((a, b) => (compare(a, b) >= 0 ? a : b));
  if (best.entry.value === undefined) return undefined;
  const others = said.map(({ hub }) => hub).filter((hub) => hub !== best.hub);
  return { ...best, others: others.sort(compareText) };
}

function compareTime(a: Said, b: Said): number {
  return compareLww(writeOf(a), writeOf(b));
}

/** comparePriority: the greater one; of equal ones the earlier, and of those of one time the hub whose name is smaller. */
function comparePriority(a: Said, b: Said): number {
  return a.entry.priority - b.entry.priority || compareHlc(b.entry.at, a.entry.at) || compareText(b.hub, a.hub);
}

function writeOf({ hub, entry }: Said): {
  readonly at: SharedEntry["at"];
  readonly writer: string;
  readonly value: Uint8Array | undefined;
} {
  return { at: entry.at, writer: hub, value: entry.value };
}
