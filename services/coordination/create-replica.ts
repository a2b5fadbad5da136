import type { Now } from "#kernel/instant.ts";
import { commandCodec } from "./codec/commands.ts";
import { readState, writeState } from "./codec/state.ts";
import type { Begun } from "./formation/record.ts";
import { sessionAfter } from "./log/author-sessions.ts";
import { writeBatch } from "./log/batch.ts";
import { hubOf, incarnationOf, type ReplicaId } from "./log/engine.ts";
import { createEngine, type EngineGround } from "./log/engines.ts";
import { Proposer } from "./log/proposer.ts";
import { Replica } from "./log/replica.ts";
import type { EngineFrame } from "./messages.ts";
import type { CoordinationGround } from "./ports.ts";
import type { FederationState } from "./state/federation-state.ts";

/** PROPOSING bounds the commands of this hub that wait for a decision. */
const PROPOSING = { window: 4, waiting: 8_192, waitingBytes: 16 * 1024 * 1024, resendMs: 1_000 } as const;

/** Openings of the store by one process that have sessions of their own. */
const OPENINGS = 4;

/** ReplicaGround is what this hub's replica of a federation's log is made with. */
export interface ReplicaGround extends Pick<EngineGround, "step" | "keySaid"> {
  readonly ground: CoordinationGround;
  readonly begun: Begun;
  readonly self: ReplicaId;
  readonly state: FederationState;
  readonly now: Now;
}

/** createReplica makes this hub's replica, with the engine that the founding entry names, on what the store has. */
export function createReplica({ ground, begun, self, state, now, step, keySaid }: ReplicaGround): Replica<EngineFrame> {
  const { crypto, prng, stored, tuning } = ground;
  const { patienceMs, graceMs } = tuning;
  // Batches of a hub that are on their way together may be decided in another order there, and what comes too early has no effect.
  const leaderless = begun.founding.founding.engine === "bft";
  const limits = leaderless ? { ...PROPOSING, window: 1 } : PROPOSING;
  // Sessions of a hub rise with its clock; one whose clock went back learns of that from the log, and begins another one. No two starts have the same.
  const author = { federation: state.federation, author: hubOf(self), incarnation: incarnationOf(self) };
  const start = OPENINGS * ground.life + ((ground.opened ?? 0) % OPENINGS);
  const proposer = new Proposer(limits, sessionAfter(0, now.wall, start), (session, first, commands) =>
    writeBatch({ ...author, session, first, commands }, crypto),
  );
  const engine = createEngine(begun, { self, crypto, prng, stored, raft: tuning.raft, state, step, keySaid });
  const codecs = { codec: commandCodec, stateCodec: { write: writeState, read: readState } };
  return new Replica<EngineFrame>({ self, engine, leaderless, state, proposer, start, ...codecs, patienceMs, graceMs });
}
