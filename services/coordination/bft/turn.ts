import type { StoreOp } from "#kernel/core.ts";
import type { Now } from "#kernel/instant.ts";
import type { EngineEffect, ReplicaId } from "../log/engine.ts";
import type { BftFrame } from "./frames.ts";

/** Turn is one step of the engine: when it is, and where its effects go. */
export interface Turn {
  readonly now: Now;
  readonly out: EngineEffect<BftFrame>[];
}

/**
 * send sends a frame. None is early: whatever this replica says has its signature, or follows from what it has stored, and every output
 * waits for all that was persisted before it. All persists are hard for the same reason.
 */
export function send(turn: Turn, to: ReplicaId, frame: BftFrame): void {
  turn.out.push({ kind: "send", to, frame, early: false });
}

/** persist makes changes of the store durable before anything that follows leaves. */
export function persist(turn: Turn, ...ops: StoreOp[]): void {
  turn.out.push({ kind: "persist", hard: true, ops });
}

/** observe counts something. */
export function observe(turn: Turn, what: string, replica?: ReplicaId, value?: number): void {
  turn.out.push({ kind: "observe", what, ...(replica === undefined ? {} : { replica }), ...(value === undefined ? {} : { value }) });
}
