import { readFileSync } from "node:fs";

/** Descriptors that are kept for files, stores, own clients and what Node itself needs, and the part of all that is kept at least. */
const OTHER_USES = 128;
const OTHER_PART = 0.25;
/** Connections that a process takes at most, however many descriptors it has: each holds some hundred kilobytes. */
const CONNECTIONS_MAX = 16_384;
const CONNECTIONS_MIN = 32;

/** descriptorLimit is how many files and sockets this process may have open; undefined where the system does not say. */
export function descriptorLimit(read: () => string = () => readFileSync("/proc/self/limits", "utf8")): number | undefined {
  try {
    const limit = Number(/^Max open files\s+(\d+)/m.exec(read())?.[1]);
    return Number.isSafeInteger(limit) && limit > 0 ? limit : undefined;
  } catch {
    return undefined;
  }
}

/** connectionsFor says how many connections fit below a limit of descriptors: at the limit itself nothing can be opened any more, not even a log. */
export function connectionsFor(descriptors: number | undefined): number {
  if (descriptors === undefined) return CONNECTIONS_MAX;
  const left = Math.floor(descriptors - Math.max(OTHER_USES, descriptors * OTHER_PART));
  return Math.min(CONNECTIONS_MAX, Math.max(CONNECTIONS_MIN, left));
}
