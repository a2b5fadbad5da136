import { type Certificate, NIL, NO_ROUND } from "../../../services/coordination/bft/frames.ts";
import { Consensus } from "../../../services/coordination/bft/height/consensus.ts";
import { Height, type Held } from "../../../services/coordination/bft/height/height.ts";
import { RoundMachine } from "../../../services/coordination/bft/height/round-machine.ts";
import { Members } from "../../../services/coordination/bft/members.ts";
import { isVoteSigned, votesOf } from "../../../services/coordination/bft/proof/certificate.ts";
import { readBatch } from "../../../services/coordination/bft/record.ts";
import type { Turn } from "../../../services/coordination/bft/turn.ts";
import { simCrypto } from "../crypto.ts";
import { type Problem, runScenario, type SampleKind, sample } from "./scenario.ts";
import { FEDERATION, keyOf } from "./world.ts";

/** Mutant is an engine that is wrong on purpose: it breaks one promise, and Twins must notice. */
export interface Mutant {
  readonly name: string;
  /** Scenarios in which it is looked for. */
  readonly kind: SampleKind;
  /** What it breaks. */
  readonly breaks: readonly Problem["kind"][];
  /** Puts the fault in, and answers how to take it out. */
  readonly put: () => () => void;
}

/** Replaces methods of a class, and answers how to undo it. */
function replace<T extends object>(prototype: T, methods: Partial<T>): () => void {
  const before = Object.keys(methods).map((name) => [name, Object.getOwnPropertyDescriptor(prototype, name)] as const);
  for (const [name, value] of Object.entries(methods))
    Object.defineProperty(prototype, name, { value, configurable: true, writable: true });
  return () => {
    for (const [name, descriptor] of before) if (descriptor !== undefined) Object.defineProperty(prototype, name, descriptor);
  };
}

/** MUTANTS are the five of the plan, and one that accepts everything. */
export const MUTANTS: readonly Mutant[] = [
  {
    name: "no lock",
    kind: "lossy",
    breaks: ["agreement", "blame"],
    put: () => replace(RoundMachine.prototype, { mayPrevote: () => true }),
  },
  {
    name: "quorum n/2",
    kind: "free",
    breaks: ["agreement", "certificate"],
    put: () =>
      replace(Members.prototype, {
        isQuorum(this: Members, count: number): boolean {
          return 2 * count >= this.size;
        },
      }),
  },
  {
    name: "lock forgotten on restart",
    kind: "restarts",
    breaks: ["agreement", "blame"],
    put: () =>
      replace(Height.prototype, {
        restored(this: Height): void {
          this.machine.locked = { round: NO_ROUND, value: NIL };
          this.machine.valid = { round: NO_ROUND, value: NIL };
        },
      }),
  },
  {
    name: "certificate with duplicate signers",
    kind: "forged",
    breaks: ["agreement", "certificate"],
    put: () => {
      const undo = replace(Members.prototype, { areDistinct: () => true });
      const verifier = { federation: FEDERATION, crypto: simCrypto("anyone"), keyOf };
      const undoToo = replace(Consensus.prototype, {
        // Counts signatures, and not signers.
        certificate(this: Consensus, _turn: Turn, certificate: Certificate): "bad" | undefined {
          const { keeper, machine, members } = this.height;
          const votes = votesOf(certificate);
          if (!votes.every((vote) => isVoteSigned(verifier, members.replicas, vote))) return "bad";
          for (const [voter, vote] of votes.entries()) keeper.add({ ...vote, voter }, machine.round);
          return undefined;
        },
      });
      return () => {
        undoToo();
        undo();
      };
    },
  },
  {
    name: "timeouts cancelled",
    kind: "lossy",
    breaks: ["liveness"],
    put: () => {
      const { awaits } = RoundMachine.prototype;
      return replace(RoundMachine.prototype, {
        // Skipping to a round cancels what was to elapse in it.
        awaits(this: RoundMachine, step, round) {
          return round === 0 && awaits.call(this, step, round);
        },
      });
    },
  },
  {
    name: "everything is valid",
    kind: "shameless",
    breaks: ["validity"],
    put: () =>
      replace(Height.prototype, {
        judge: (bytes: Uint8Array): Held => ({ bytes, batch: readBatch(bytes), verdict: "valid" }),
      }),
  },
];

/** hunt looks for a mutant in drawn scenarios, and answers the seed that shows it, or undefined after `most` of them. */
export function hunt(mutant: Mutant, most: number): { readonly seed: number; readonly problem: Problem } | undefined {
  const undo = mutant.put();
  try {
    for (let seed = 1; seed <= most; seed++) {
      const problem = runScenario(sample(mutant.kind, seed)).problems.find(({ kind }) => mutant.breaks.includes(kind));
      if (problem !== undefined) return { seed, problem };
    }
    return undefined;
  } finally {
    undo();
  }
}
