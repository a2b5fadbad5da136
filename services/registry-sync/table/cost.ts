import type { NodeInfo } from "../ports.ts";

/**
 * COST is what things take in memory besides their bytes, in a process with 64-bit pointers: objects, entries of maps, arrays and
 * slots with what is spare in them. `cost.spec.ts` measures them. A node counts twice: what is spare in the payload that it stands in may be as
 * long as the node, and a process that reads the nodes of another one has a copy. Its values count once.
 */
export const COST = {
  /** A node, twice, its entries in maps, and what is noted of it for shares and callers. */
  node: 2_048,
  /** A capability of it: a key number and a slot. */
  capability: 64,
  /** A label of it. */
  label: 288,
  /** A value that is a text or bytes: an array of its own. */
  text: 240,
  /** A definition of a key. */
  key: 256,
  /** A node that import rules keep out. */
  skipped: 160,
  /** The name of a node that was removed, while somebody may have to be told. */
  removed: 448,
  /** A segment that is kept for those who are behind. */
  segment: 1_536,
} as const;

/** nodeCost is the memory that a node takes, without its texts. */
export function nodeCost(info: NodeInfo, bytes: Uint8Array): number {
  let cost = COST.node + 2 * bytes.length + COST.capability * info.capabilities.length + textCost(info.type) + textCost(info.name);
  for (const [label, value] of Object.entries(info.labels)) cost += COST.label + textCost(label) + textCost(value);
  return cost;
}

/** textCost is what a text takes, twice: a byte for a character, or two for each if there is one outside of Latin-1. */
function textCost(text: string): number {
  for (let i = 0; i < text.length; i++) if (text.charCodeAt(i) > 0xff) return 4 * text.length;
  return 2 * text.length;
}

/** Part of a room that one holder always finds, and part beyond which only those grow who have less than that. */
const PART = 1 / 8;
const FREE = 3 / 4;

/**
 * partOf is how much one holder may have of a room of which the others have so much: most of it while it is free, and its part in any
 * case, as long as there is some. Whoever is there first takes nothing from those who need little.
 */
export function partOf(room: number, others: number): number {
  return Math.floor(Math.max(0, Math.min(room - others, Math.max(room * PART, room * FREE - others))));
}

/** Heap that a hub needs for itself, and for what passes through it. */
const BASE_BYTES = 56 * 1024 * 1024;
const LEAST_BYTES = 16 * 1024 * 1024;

/** MemoryPlan says who may use how much of the memory for the registry, bytes. */
export interface MemoryPlan {
  /** Nodes and values of this hub, and of all peers together. */
  readonly ownBytes: number;
  readonly peersBytes: number;
  /** Snapshots that come in: parts, and the nodes in them. */
  readonly incomingBytes: number;
  /** Segments of one feed that are kept for those who are behind; and as much for snapshots that are kept for a while. */
  readonly tailBytes: number;
  /** Copies of what changes while it is listed, and while it is read by watchers. */
  readonly listingBytes: number;
  readonly scanBytes: number;
}

/** memoryPlan divides `memoryBytes`, or what a heap of `heapBytes` has room for. */
export function memoryPlan(heapBytes: number, memoryBytes = Math.max(LEAST_BYTES, heapBytes - BASE_BYTES)): MemoryPlan {
  const part = (parts: number): number => Math.floor((memoryBytes * parts) / 32);
  return { ownBytes: part(8), peersBytes: part(8), incomingBytes: part(12), tailBytes: part(1), listingBytes: part(1), scanBytes: part(1) };
}
