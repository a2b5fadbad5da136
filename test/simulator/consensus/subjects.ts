import { bftSubject } from "./bft.ts";
import { type ConsensusOptions, drawOptions } from "./options.ts";
import { raftSubject } from "./raft.ts";
import { type RunResult, runSeed } from "./run.ts";
import type { EngineName, Subject } from "./subject.ts";

/** SUBJECTS are the engines that can be run, by name. Their frames are nobody else's business. */
export const SUBJECTS: ReadonlyMap<EngineName, Subject<unknown>> = new Map([
  ["raft", raftSubject as unknown as Subject<unknown>],
  ["bft", bftSubject as unknown as Subject<unknown>],
]);

/** subjectOf gives the engine of a name. */
export function subjectOf(name: string): Subject<unknown> {
  const subject = SUBJECTS.get(name as EngineName);
  if (subject === undefined) throw new Error(`there is no engine ${name}; there are ${[...SUBJECTS.keys()].join(" and ")}`);
  return subject;
}

/** optionsFor draws the options of a seed. */
export function optionsFor(engine: string, seed: number, voters?: number): ConsensusOptions {
  return drawOptions(subjectOf(engine), seed, voters);
}

/** simulate runs a seed of an engine. */
export function simulate(engine: string, seed: number, voters?: number, trace = false): Promise<RunResult> {
  return runSeed(optionsFor(engine, seed, voters), subjectOf(engine), { trace });
}
