import { type Held, mayServe } from "../liveness/fences.ts";
import type { StoredLog } from "../log/engine.ts";
import { storedFederation } from "./record.ts";
import { storedWayBack } from "./way-back.ts";

/** heldReplica reads which replica of its hub a store has. It throws what is wrong with what is there. */
export function heldReplica(store: StoredLog): Held {
  return { incarnation: storedFederation(store)?.incarnation, returning: storedWayBack(store)?.incarnation };
}

/** replicaProblem says why a store has not what a hub has decided, whose replica of the log has the number `seen`; undefined if it has (LF2). */
export function replicaProblem(store: StoredLog, hub: string, seen: number): string | undefined {
  const verdict = mayServe(hub, heldReplica(store), seen);
  return verdict.ok ? undefined : verdict.why;
}
