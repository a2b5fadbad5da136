import type { Crypto } from "#kernel/crypto.ts";
import type { Prng } from "#kernel/prng.ts";
import { sameBytes } from "#kernel/wire/shape.ts";
import { BftEngine } from "../bft/engine.ts";
import type { BftFrame } from "../bft/frames.ts";
import type { Begun } from "../formation/record.ts";
import { LOG } from "../formation/record.ts";
import { introducedReplicas } from "../members/introduction.ts";
import type { EngineFrame } from "../messages.ts";
import type { RaftTuning } from "../raft/config.ts";
import { RaftEngine } from "../raft/engine.ts";
import type { RaftFrame } from "../raft/frames.ts";
import type { FederationState } from "../state/federation-state.ts";
import { readBatch } from "./batch.ts";
import { hubOf, type LogEngine, type Membership, type ReplicaId, replicaIdOf, type StoredLog } from "./engine.ts";

/** EngineGround is what an engine is made with. */
export interface EngineGround {
  readonly self: ReplicaId;
  readonly crypto: Crypto;
  readonly prng: Prng;
  readonly stored: StoredLog;
  readonly raft: Partial<RaftTuning>;
  readonly state: FederationState;
  /** keySaid is the key that a hub says on its own session that it signs with; undefined without one. */
  readonly keySaid: (hubId: string) => Uint8Array | undefined;
  /** step is the next membership on the way to the one that the members want, from the present one. */
  readonly step: (now: Membership) => { readonly voters: readonly ReplicaId[]; readonly learners: readonly ReplicaId[] } | undefined;
}

/**
 * createEngine makes the engine that the founding entry names.
 *
 * EN1 a frame of another engine than the federation's has no effect.
 */
export function createEngine({ founding, voters: told }: Pick<Begun, "founding" | "voters">, ground: EngineGround): LogEngine<EngineFrame> {
  const { founders, engine } = founding.founding;
  const voters = founders.map((founder) => replicaIdOf(founder.hubId, founder.incarnation)).sort((a, b) => (a < b ? -1 : 1));
  const first: Membership = { voters, outgoing: [], learners: [] };
  const keys = new Map(founders.map(({ hubId, publicKey }) => [hubId, publicKey]));
  const { self, crypto, prng, stored, state, keySaid } = ground;
  // A hub that joins checks what it is sent before it has a state of its own: by the founders' keys.
  const keyOf = (replica: ReplicaId): Uint8Array | undefined =>
    state.books.members.key(hubOf(replica))?.publicKey ?? keys.get(hubOf(replica));
  // Who was away, or has just come, cannot know with which key a hub signs states now. That hub says so itself, or the member does who let it in.
  const introduced = new Map(told.map(({ hubId, publicKey }) => [hubId, publicKey]));
  const keysOf = (replica: ReplicaId): Uint8Array[] =>
    // Mostly they are one, and each costs a check.
    [keyOf(replica), introduced.get(hubOf(replica)), keySaid(hubOf(replica))].filter(
      (key, i, all) => key !== undefined && all.findIndex((other) => other !== undefined && sameBytes(other, key)) === i,
    ) as Uint8Array[];
  if (engine === "raft") {
    const bootstrap = voters.includes(self) ? { bootstrap: first } : {};
    const raft = new RaftEngine({ self, crypto, prng, keysOf, ...bootstrap, name: LOG, tuning: ground.raft }, stored);
    return narrowed<RaftFrame>(raft, (frame): frame is RaftFrame => "type" in frame);
  }
  const bft = new BftEngine(
    {
      self,
      federation: hex(state.federation),
      crypto,
      keyOf,
      keysOf,
      introduced: introducedReplicas(told),
      check: (payload) => isBatchOf(state.federation, payload),
      checkMembership: (membership) => isStep(membership, ground.step(previous())),
      due: () => state.due(),
      membership: first,
    },
    stored,
  );
  const previous = (): Membership => bft.status({ mono: 0, wall: 0 }).membership;
  return narrowed<BftFrame>(bft, (frame): frame is BftFrame => !("type" in frame));
}

/** narrowed lets only frames of the engine's own kind through (EN1). */
function narrowed<F extends EngineFrame>(engine: LogEngine<F>, isOwn: (frame: EngineFrame) => frame is F): LogEngine<EngineFrame> {
  const own = engine as unknown as LogEngine<EngineFrame>;
  return {
    step: (now, input, out) => {
      if (input.kind === "frame" && !isOwn(input.frame)) return;
      own.step(now, input, out);
    },
    tick: (now, out) => own.tick(now, out),
    deadline: () => own.deadline(),
    status: (now) => own.status(now),
    time: (now) => own.time(now),
    describe: () => own.describe(),
  };
}

/** isBatchOf tells whether a payload has the form of a batch for this federation. Whose it is, the state tells when it is applied. */
function isBatchOf(federation: Uint8Array, payload: Uint8Array): boolean {
  try {
    return sameBytes(readBatch(payload).batch.federation, federation);
  } catch {
    return false;
  }
}

function isStep(
  membership: Membership,
  step: { readonly voters: readonly ReplicaId[]; readonly learners: readonly ReplicaId[] } | undefined,
): boolean {
  const same = (a: readonly string[], b: readonly string[]): boolean => a.length === b.length && a.every((id, i) => id === b[i]);
  return (
    step !== undefined &&
    membership.outgoing.length === 0 &&
    same(membership.voters, step.voters) &&
    same(membership.learners, step.learners)
  );
}

function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
