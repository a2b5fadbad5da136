import { NIL, NO_ROUND, type ValueId } from "../frames.ts";

/** Verdict is what a hub thinks of a value: `early` is one that it does not vote for yet, as its time lies too far ahead
 * of the own clock, or its change of members is not called for as far as this hub knows. If the others decide it, so be it. */
export type Verdict = "valid" | "early" | "invalid";

/** TimeoutStep is the part of a round that a timeout ends. */
export type TimeoutStep = "propose" | "prevote" | "precommit";

/** Proposed is a proposal of a round whose value is here and was looked at. */
export interface Proposed {
  readonly value: ValueId;
  readonly validRound: number;
  readonly verdict: Verdict;
}

/** RoundView is what the machine sees of the height: always what is so now, never what just happened. */
export interface RoundView {
  proposal(round: number): Proposed | undefined;
  polka(round: number): ValueId | undefined;
  hasPolka(round: number, value: ValueId): boolean;
  anyPrevotes(round: number): boolean;
  anyPrecommits(round: number): boolean;
  /** A value that is decided, in whatever round, and is here. */
  commit(): { readonly round: number; readonly value: ValueId } | undefined;
  /** The value is here, and is not invalid. */
  sound(value: ValueId): boolean;
  ahead(round: number): number | undefined;
  /** Something is under way in this height: its rounds take time. */
  active(): boolean;
}

/** RoundOutput is what the machine asks for. */
export type RoundOutput =
  | { readonly kind: "round"; readonly round: number }
  | { readonly kind: "prevote"; readonly round: number; readonly value: ValueId; readonly relies: number }
  | { readonly kind: "precommit"; readonly round: number; readonly value: ValueId }
  | { readonly kind: "timeout"; readonly step: TimeoutStep; readonly round: number }
  | { readonly kind: "decide"; readonly round: number; readonly value: ValueId };

/** ValueAt is a value with the round of its polka. */
export interface ValueAt {
  readonly round: number;
  readonly value: ValueId;
}

const NONE: ValueAt = { round: NO_ROUND, value: NIL };

/**
 * RoundMachine is Tendermint's state machine of one height (arXiv 1807.04938, algorithm 1; its lines are named below). It looks at what is
 * so instead of being told what happened: what came early, late, or twice makes no difference, and no threshold can be missed.
 *
 * RT1 a hub prevotes once and precommits once in a round.
 * RT2 lock rule: it prevotes another value than it is locked on only with a polka for that value in a round that is not before its lock.
 * RT3 a prevote names the round that it relies on: that of the polka, or of its own lock on that value where that is later.
 * RT4 a polka for a value locks it, also if it comes before the proposal or after the vote; in the step after, it makes it valid only.
 * RT5 the valid value is what the hub proposes next.
 * RT6 a quorum of precommits of any round decides.
 * RT7 a timeout of a step that is over, or of a round that was left, does nothing.
 */
export class RoundMachine {
  round = 0;
  step: "propose" | "prevote" | "precommit" | "decided" = "propose";
  locked: ValueAt = NONE;
  valid: ValueAt = NONE;
  /** Timeouts of this round that were asked for. */
  readonly #armed = { propose: false, prevote: false, precommit: false };

  /** next is the next thing to do, or undefined; asked again until there is none. */
  next(view: RoundView): RoundOutput | undefined {
    if (this.step === "decided") return undefined;
    // Lines 49 to 54.
    const commit = view.commit();
    if (commit !== undefined) {
      this.step = "decided";
      return { kind: "decide", ...commit };
    }
    // Line 55.
    const skip = view.ahead(this.round);
    if (skip !== undefined) return this.#enter(skip);
    return this.#prevote(view) ?? this.#polka(view) ?? this.#precommitNil(view) ?? this.#timeout(view);
  }

  /** elapsed is what a timeout leads to, or undefined if it is void. */
  elapsed(step: TimeoutStep, round: number): RoundOutput | undefined {
    if (!this.awaits(step, round)) return undefined;
    // Lines 57 to 67.
    if (step === "propose") return this.#say(NIL, NO_ROUND);
    if (step === "prevote") return this.#precommit(NIL);
    return this.#enter(this.round + 1);
  }

  /** awaits tells whether a timeout would do something (RT7). */
  awaits(step: TimeoutStep, round: number): boolean {
    if (round !== this.round || this.step === "decided") return false;
    return step === "precommit" || step === this.step;
  }

  /** recall puts a lock back that own precommits prove, when what led to it was not replayed. */
  recall(round: number, value: ValueId): void {
    if (round > this.locked.round) this.locked = { round, value };
  }

  /** Lines 22 to 33. */
  #prevote(view: RoundView): RoundOutput | undefined {
    if (this.step !== "propose") return undefined;
    const proposal = view.proposal(this.round);
    if (proposal === undefined) return undefined;
    const { value, validRound, verdict } = proposal;
    if (validRound !== NO_ROUND && (validRound >= this.round || !view.hasPolka(validRound, value))) return undefined;
    return verdict === "valid" && this.mayPrevote(value, validRound)
      ? this.#say(value, this.relies(value, validRound))
      : this.#say(NIL, NO_ROUND);
  }

  /** mayPrevote is the lock rule (RT2). */
  mayPrevote(value: ValueId, validRound: number): boolean {
    return this.locked.round === NO_ROUND || this.locked.value === value || (validRound !== NO_ROUND && this.locked.round <= validRound);
  }

  /** relies is the round that a prevote for this value names (RT3). */
  relies(value: ValueId, validRound: number): number {
    return this.locked.value === value ? Math.max(validRound, this.locked.round) : validRound;
  }

  /** Lines 36 to 43. */
  #polka(view: RoundView): RoundOutput | undefined {
    if (this.step === "propose" || this.valid.round === this.round) return undefined;
    const value = view.polka(this.round);
    if (value === undefined || value === NIL || !view.sound(value)) return undefined;
    this.valid = { round: this.round, value };
    if (this.step !== "prevote") return undefined;
    this.locked = this.valid;
    return this.#precommit(value);
  }

  /** Lines 44 to 46. */
  #precommitNil(view: RoundView): RoundOutput | undefined {
    return this.step === "prevote" && view.polka(this.round) === NIL ? this.#precommit(NIL) : undefined;
  }

  /** Lines 21, 34 and 47. */
  #timeout(view: RoundView): RoundOutput | undefined {
    const { round, step } = this;
    if (step === "propose" && !this.#armed.propose && view.active()) return this.#arm("propose");
    if (step === "prevote" && !this.#armed.prevote && view.anyPrevotes(round)) return this.#arm("prevote");
    return !this.#armed.precommit && view.anyPrecommits(round) ? this.#arm("precommit") : undefined;
  }

  #arm(step: TimeoutStep): RoundOutput {
    this.#armed[step] = true;
    return { kind: "timeout", step, round: this.round };
  }

  #say(value: ValueId, relies: number): RoundOutput {
    this.step = "prevote";
    return { kind: "prevote", round: this.round, value, relies };
  }

  #precommit(value: ValueId): RoundOutput {
    this.step = "precommit";
    return { kind: "precommit", round: this.round, value };
  }

  #enter(round: number): RoundOutput {
    this.round = round;
    this.step = "propose";
    this.#armed.propose = this.#armed.prevote = this.#armed.precommit = false;
    return { kind: "round", round };
  }
}
