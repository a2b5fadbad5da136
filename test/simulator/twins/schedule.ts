import { type BftFrame, STEP } from "../../../services/coordination/bft/frames.ts";
import type { Copy, World } from "./world.ts";

/** Outcome is what came of a scheduled partition while it was in force. */
export type Outcome =
  /** An honest copy decided a height in it. */
  | "decided"
  /** None did, and one left its round. */
  | "left"
  /** Votes were sent in it, and led to nothing: no set had a quorum, or what it needs was on the other side. */
  | "stuck"
  /** No honest copy voted in it. */
  | "unplayed";

/** OUTCOMES are all of them, from what says most. */
export const OUTCOMES: readonly Outcome[] = ["decided", "left", "stuck", "unplayed"];

/** Played is what became of the scheduled rounds before the network healed. */
export interface Played {
  /** The highest round that an honest copy was in, of whatever height: 0 is the first. */
  readonly reached: number;
  /** For each scheduled partition. */
  readonly outcomes: readonly Outcome[];
}

interface Place {
  index: number;
  committed: number;
  term: number;
}

/**
 * Schedule puts the partitions of a scenario in force, one after the other.
 *
 * A copy is in scheduled round k when it has left k rounds behind it, decided or not: heights and rounds count together. What it says goes to
 * those with whom the partition of that round puts it. A set without a quorum cannot leave a round by itself, so that the next partition
 * comes for it when the time of this one is over: it has as long as a round takes at the most, and more.
 */
export class Schedule {
  readonly #partitions: readonly (readonly number[])[];
  readonly #healAt: number;
  readonly #places = new Map<Copy, Place>();
  readonly #outcomes: Outcome[];
  readonly #honest = new Set<Copy>();
  #reached = 0;

  /** `partitions` give for each scheduled round the set of each copy; all is well from `healAt` on, ms. */
  constructor(partitions: readonly (readonly number[])[], healAt: number) {
    this.#partitions = partitions;
    this.#healAt = healAt;
    this.#outcomes = partitions.map(() => "unplayed");
  }

  /** starts are the instants at which scheduled rounds begin at the latest. */
  get starts(): number[] {
    return this.#partitions.map((_, i) => Math.ceil((i * this.#healAt) / this.#partitions.length));
  }

  /** connects tells whether what a copy sends now reaches another one. */
  connects(world: World, from: Copy, to: Copy): boolean {
    const sets = this.#partitions[this.#look(world, from).index];
    return sets === undefined || sets[world.copies.indexOf(from)] === sets[world.copies.indexOf(to)];
  }

  /** sent notes what a copy says before the network heals. */
  sent(world: World, from: Copy, frame: BftFrame): void {
    if (frame.kind !== "votes" || !frame.votes.some(({ step }) => step === STEP.PREVOTE) || !this.#isHonest(world, from)) return;
    this.#note(this.#look(world, from).index, "stuck");
  }

  /** played is what came of it, up to now. */
  played(world: World): Played {
    for (const copy of world.copies) this.#look(world, copy);
    return { reached: this.#reached, outcomes: [...this.#outcomes] };
  }

  /** Where a copy is by now. What it has left behind it since the last look happened in the partition that was in force then. */
  #look(world: World, copy: Copy): Place {
    const { committed, term } = copy.engine.status(world.clock());
    const slot = Math.floor((world.now * this.#partitions.length) / this.#healAt);
    const place = this.#places.get(copy) ?? { index: 0, committed: 0, term: 0 };
    if (this.#isHonest(world, copy)) {
      if (committed > place.committed) this.#note(place.index, "decided");
      else if (term > place.term) this.#note(place.index, "left");
      this.#reached = Math.max(this.#reached, term);
    }
    [place.index, place.committed, place.term] = [Math.max(committed + term, slot), committed, term];
    this.#places.set(copy, place);
    return place;
  }

  #isHonest(world: World, copy: Copy): boolean {
    if (this.#honest.size === 0) for (const honest of world.honest()) this.#honest.add(honest);
    return this.#honest.has(copy);
  }

  #note(index: number, outcome: Outcome): void {
    const before = this.#outcomes[index];
    if (before !== undefined && OUTCOMES.indexOf(outcome) < OUTCOMES.indexOf(before)) this.#outcomes[index] = outcome;
  }
}
