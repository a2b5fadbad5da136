import type { ReplicaId } from "../../../services/coordination/log/engine.ts";
import type { Fact } from "./subject.ts";

/** Held is one entry of a log, as far as checkers compare it. */
export interface Held {
  readonly term: number;
  readonly digest: number;
}

/** LogView is what a replica holds according to what it stored: either what it has asked for, or what is safe on its disk. */
export class LogView {
  term = 0;
  vote: ReplicaId | undefined;
  snapshot = { index: 0, term: 0 };
  last = 0;
  readonly #entries = new Map<number, Held>();

  /** copy is what the next process of a replica starts from. */
  copy(): LogView {
    const copy = new LogView();
    copy.term = this.term;
    copy.vote = this.vote;
    copy.snapshot = this.snapshot;
    copy.last = this.last;
    for (const [index, held] of this.#entries) copy.#entries.set(index, held);
    return copy;
  }

  get size(): number {
    return this.last - this.snapshot.index;
  }

  at(index: number): Held | undefined {
    return this.#entries.get(index);
  }

  /** holds tells whether an entry is there, or in the snapshot. */
  holds(index: number, term: number): boolean {
    return index <= this.snapshot.index || this.#entries.get(index)?.term === term;
  }

  /** termOf is the term of an entry that is there; undefined for one that is not. */
  termOf(index: number): number | undefined {
    if (index === this.snapshot.index) return this.snapshot.term;
    return this.#entries.get(index)?.term;
  }

  take(fact: Fact): void {
    switch (fact.kind) {
      case "hard":
        this.term = fact.term;
        this.vote = fact.vote;
        return;
      case "entry":
        this.#entries.set(fact.index, { term: fact.term, digest: fact.digest });
        this.last = Math.max(this.last, fact.index);
        return;
      case "cut":
        for (let i = fact.from; i <= this.last; i++) this.#entries.delete(i);
        this.last = Math.max(this.snapshot.index, Math.min(this.last, fact.from - 1));
        return;
      case "drop":
        this.#entries.clear();
        this.last = this.snapshot.index;
        return;
      case "snapshot":
        this.snapshot = { index: fact.index, term: fact.term };
        this.last = Math.max(this.last, fact.index);
        return;
    }
  }
}
