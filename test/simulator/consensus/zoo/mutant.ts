import type { RaftTuning } from "../../../../services/coordination/raft/config.ts";
import type { RaftParts } from "../../../../services/coordination/raft/engine.ts";
import type { RaftFrame } from "../../../../services/coordination/raft/frames.ts";
import type { Sabotage } from "../cluster.ts";
import { type ConsensusOptions, drawFaults, drawOptions, type Fault } from "../options.ts";
import { raftSubject } from "../raft.ts";
import { type RunResult, runSeed } from "../run.ts";
import { type Bend, bend } from "./bend.ts";

/** Mutant is a row of the zoo of COORDINATION.md, as something that is wrong on purpose. */
export interface Mutant {
  /** Row of the zoo; a letter tells apart those of one row. */
  readonly row: string;
  readonly what: string;
  /** A seed that finds it, with the checker that does. */
  readonly seed: number;
  readonly by: string;
  /** Words of the assertion or error, where the checker is that nothing throws. */
  readonly says?: string;
  readonly voters?: number;
  /** Kinds of trouble in which it shows; as the seed says if absent. */
  readonly faults?: readonly Fault[];
  readonly options?: Partial<ConsensusOptions>;
  /** Times and bounds in which it shows. */
  readonly tuning?: Partial<RaftTuning>;
  /** The first hub leads whenever it may: what it did in an older term meets what it does now. */
  readonly favoursFirst?: boolean;
  /** Parts of the engine that are wrong. */
  readonly parts?: Partial<RaftParts>;
  /** What goes in and out of the engine is wrong. A new one for each replica. */
  readonly bend?: () => Bend<RaftFrame>;
  /** What is around the engine is wrong. */
  readonly around?: Omit<Sabotage<RaftFrame>, "engine">;
}

/** momentsOf are moments at which alone trouble comes by surprise. */
export function momentsOf(some: Partial<ConsensusOptions["moments"]>): ConsensusOptions["moments"] {
  return { lead: 0, handover: 0, vote: 0, change: 0, decide: 0, snapshot: 0, write: 0, ...some };
}

/** STORMY is a network on which much comes late, and twice. */
export const STORMY: ConsensusOptions["network"] = { minMs: 0.5, jitterMs: 3, loss: 0.05, duplicate: 0.3, stale: 0.3, staleMs: 1_500 };

/** mutantOptions draws the run of a seed for a mutant. */
export function mutantOptions({ voters, faults, options }: Mutant, seed: number): ConsensusOptions {
  const drawn = drawOptions(raftSubject, seed, voters, faults === undefined ? drawFaults(seed) : new Set(faults));
  return { ...drawn, ...options };
}

/** sabotageOf is what is wrong with a cluster of a mutant. */
export function sabotageOf({ parts, tuning, favoursFirst, bend: bent, around }: Mutant): Sabotage<RaftFrame> {
  return {
    ...around,
    engine: (setup, subject) => {
      const engine = subject.create({
        ...setup,
        parts,
        tuning: favoursFirst === true && setup.self !== "hub-0/1" ? { ...tuning, reluctanceMs: 250 } : tuning,
      });
      return bent === undefined ? engine : bend(engine, bent());
    },
  };
}

/** runMutant runs a seed of a mutant; `healthy` runs the same without what is wrong. */
export function runMutant(mutant: Mutant, seed: number, healthy = false, trace = false): Promise<RunResult> {
  return runSeed(mutantOptions(mutant, seed), raftSubject, { trace, ...(healthy ? {} : { sabotage: sabotageOf(mutant) }) });
}
