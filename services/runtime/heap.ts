import { getHeapStatistics, setFlagsFromString } from "node:v8";

/** V8 of Node 24, whose counting of external memory is known and measured. */
const KNOWN_V8 = "13.";

/** heapBytes is the heap at which this process ends with out of memory (--max-old-space-size). */
export function heapBytes(): number {
  return getHeapStatistics().heap_size_limit;
}

/**
 * tuneHeap makes V8 count memory outside of its heap (Buffers) against the size of everything, not against that of the old
 * generation. What passes through a hub is such memory, and almost all of it dies young; with V8's default every 15 MB of it start a
 * collection of the whole heap, up to eight a second, which took a third of the processor and 20 ms of delay. Call it first in a
 * process that is a hub; the figures are in docs/adr/0010-count-buffers-against-the-whole.md.
 */
export function tuneHeap(): void {
  if (process.versions.v8.startsWith(KNOWN_V8)) setFlagsFromString("--external-memory-accounted-in-global-limit");
}
