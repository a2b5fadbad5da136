import type { Held } from "../liveness/fences.ts";
import type { StoredLog } from "../log/engine.ts";
import { storedFederation } from "./record.ts";
import { storedWayBack } from "./way-back.ts";

/** heldReplica reads which replica of its hub a store has. It throws what is wrong with what is there. */
export function heldReplica(store: Pick<StoredLog, "get">): Held {
  return { incarnation: storedFederation(store)?.incarnation, returning: storedWayBack(store)?.incarnation };
}
