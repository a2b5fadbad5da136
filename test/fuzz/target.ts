import type { Prng } from "#kernel/prng.ts";

/** Target is a part of a hub, or of what reads a hub's answers, that takes messages from outside. */
export interface Target {
  readonly name: string;
  /** How often it is chosen among the targets. */
  readonly weight: number;
  /** take gives it one generated message. What it throws is a fault: everything from outside is refused with a reason, or applied. */
  take(prng: Prng): void | Promise<void>;
  /** renew starts it anew, so that what came before does not stand in the way of everything after, nor decide what comes of it. */
  renew(prng: Prng): void;
  /** Messages that were applied, and those that were refused, by reason: a campaign that only meets refusals tests little. */
  readonly applied: number;
  readonly refused: ReadonlyMap<string, number>;
}

/** Tally counts what became of messages. */
export class Tally {
  applied = 0;
  readonly refused = new Map<string, number>();

  refuse(reason: string): void {
    this.refused.set(reason, (this.refused.get(reason) ?? 0) + 1);
  }
}

/** must fails a target unless something holds. */
export function must(holds: boolean, what: string): asserts holds {
  if (!holds) throw new Error(what);
}
