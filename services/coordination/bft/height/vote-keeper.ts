import { assert } from "#kernel/assert.ts";
import { type Certificate, NIL, NO_ROUND, STEP, type Step, type ValueId, type Vote } from "../frames.ts";
import type { Members } from "../members.ts";

/** Rounds behind the current one whose votes are kept. */
const ROUNDS_KEPT = 64;
/** Older rounds with a polka for a value whose votes are kept, as a proposal may name one of them. */
const POLKAS_KEPT = 8;

/** Conflict are two votes of one voter that no honest one casts. */
export interface Conflict {
  readonly kind: "equivocation" | "amnesia";
  readonly first: Vote;
  readonly second: Vote;
}

/** Votes of one step of one round. */
interface StepVotes {
  /** The votes for each value, by voter. */
  readonly byValue: Map<ValueId, Map<number, Vote>>;
  /** By voter, a second vote for a value that it had voted for, which names another round to rely on: it counts for nothing. */
  readonly again: Map<number, Vote>;
  /** Bit of each voter that voted. */
  voters: number;
}

type RoundVotes = readonly [StepVotes, StepVotes];

function bits(mask: number): number {
  let count = 0;
  for (let rest = mask; rest !== 0; rest &= rest - 1) count++;
  return count;
}

/**
 * VoteKeeper counts the votes of one height. Their signatures have been verified.
 *
 * VK1 a voter counts once for a value, and once for "any", however often and however differently it votes.
 * VK2 thresholds are more than two thirds of the members; each is asked for by itself, so that "any" hides neither "nil" nor a value.
 * VK3 the round to skip to is the highest for which f + 1 members have voted in it or a later one, in either step.
 * VK4 a second vote of a voter in one step of one round is a conflict: it counts for its own value too, since others may have seen that one
 *    only, but a third one from the wire does not. What is taken in is known from then on, and taken in once.
 * VK5 beyond the round after the current one, a voter has votes in one round only, its latest: it cannot fill the memory.
 * VK6 a vote and a later prevote of the same voter that no lock rule allows are a conflict (amnesia).
 */
export class VoteKeeper {
  readonly #members: Members;
  readonly #rounds = new Map<number, RoundVotes>();
  /** Latest round of each voter. */
  readonly #latest: number[];

  constructor(members: Members) {
    this.#members = members;
    this.#latest = members.replicas.map(() => NO_ROUND);
  }

  /** has tells whether this very vote is known, apart from its signature. */
  has({ round, step, value, voter, relies }: Vote): boolean {
    return this.#of(round, step, voter).some((vote) => vote.value === value && vote.relies === relies);
  }

  /**
   * takes tells whether a vote is to be taken in, before its signature is looked at: it is not known, and wanted. `certified`: it stands in a
   * certificate, where it counts for more than itself, unless its voter counts for that value already.
   */
  takes(vote: Vote, current: number, certified: boolean): boolean {
    if (this.has(vote)) return false;
    const { round, step, value, voter } = vote;
    return this.wants(vote, current) || (certified && this.#votes(round, step)?.byValue.get(value)?.has(voter) !== true);
  }

  /** wants tells whether a vote that is not known would be taken for itself (VK4, VK5). */
  wants(vote: Vote, current: number): boolean {
    const { round, step, voter } = vote;
    if (round > current + 1 && round < (this.#latest[voter] as number)) return false;
    if (round < current - ROUNDS_KEPT && !this.#rounds.has(round)) return false;
    return this.#of(round, step, voter).length < 2;
  }

  /** add counts a vote, and answers the conflicts in which it stands with others of its voter. */
  add(vote: Vote, current: number): Conflict[] {
    const { round, step, value, voter } = vote;
    assert(voter >= 0 && voter < this.#members.size, "a voter is a member", { voter });
    if (this.has(vote)) return [];
    const conflicts = this.#conflicts(vote);
    this.#leave(voter, round, current);
    let votes = this.#rounds.get(round);
    if (votes === undefined) this.#rounds.set(round, (votes = [emptyStep(), emptyStep()]));
    const of = votes[step - 1] as StepVotes;
    let same = of.byValue.get(value);
    if (same === undefined) of.byValue.set(value, (same = new Map()));
    if (!same.has(voter)) same.set(voter, vote);
    else if (!of.again.has(voter)) of.again.set(voter, vote);
    of.voters |= 1 << voter;
    if (round > (this.#latest[voter] as number)) this.#latest[voter] = round;
    return conflicts;
  }

  /** polka is the value, or NIL, for which more than two thirds prevoted. With more than f liars there may be two: the first. */
  polka(round: number): ValueId | undefined {
    return this.#quorumIn(round, STEP.PREVOTE);
  }

  /** hasPolka tells whether there is a polka for this value. */
  hasPolka(round: number, value: ValueId): boolean {
    return this.#isQuorum(this.#votes(round, STEP.PREVOTE)?.byValue.get(value));
  }

  /** any tells whether more than two thirds voted in a step, for whatever. */
  any(round: number, step: Step): boolean {
    const votes = this.#votes(round, step);
    return votes !== undefined && this.#members.isQuorum(bits(votes.voters));
  }

  /** commits are the values, with their rounds, for which more than two thirds precommitted: one, unless more than f lie. */
  *commits(): Iterable<{ readonly round: number; readonly value: ValueId }> {
    for (const [round, votes] of this.#rounds)
      for (const [value, same] of votes[1].byValue) if (value !== NIL && this.#isQuorum(same)) yield { round, value };
  }

  /** ahead is the round to go to because an honest member is there already, or undefined if that is not beyond the current one (VK3). */
  ahead(current: number): number | undefined {
    const rounds = [...this.#latest].sort((a, b) => b - a);
    const round = rounds[this.#members.faulty] ?? NO_ROUND;
    return round > current ? round : undefined;
  }

  /** later are votes in this round or later ones, one of each member: a certificate for skipping to it, if they are enough. */
  later(round: number): Vote[] {
    const found: Vote[] = [];
    for (const [voter, latest] of this.#latest.entries()) {
      if (latest < round) continue;
      const vote = this.#of(latest, STEP.PRECOMMIT, voter)[0] ?? this.#of(latest, STEP.PREVOTE, voter)[0];
      if (vote !== undefined) found.push(vote);
    }
    return found;
  }

  /** votesIn are the votes of a round, of each voter at most two in each step. */
  votesIn(round: number): Vote[] {
    const votes = this.#rounds.get(round);
    return (votes ?? []).flatMap((of) => [...[...of.byValue.values()].flatMap((same) => [...same.values()]), ...of.again.values()]);
  }

  /** certificate makes one of the votes for a value, or undefined if they are too few. */
  certificate(height: number, round: number, step: Step, value: ValueId): Certificate | undefined {
    const same = this.#votes(round, step)?.byValue.get(value);
    if (same === undefined || !this.#isQuorum(same)) return undefined;
    const votes = [...same.values()].sort((a, b) => a.voter - b.voter);
    return { height, round, step, value, votes: votes.map(({ voter, relies, signature }) => ({ voter, relies, signature })) };
  }

  /** polkas are the rounds with a polka for a value, ascending. */
  polkas(): number[] {
    return [...this.#rounds.keys()].filter((round) => (this.polka(round) ?? NIL) !== NIL).sort((a, b) => a - b);
  }

  /** prune forgets rounds that are long over, but for those with the latest polkas, and `keep`. */
  prune(current: number, keep: readonly number[]): void {
    if (this.#rounds.size <= ROUNDS_KEPT) return;
    const kept = new Set([...this.polkas().slice(-POLKAS_KEPT), ...keep]);
    for (const round of this.#rounds.keys()) if (round < current - ROUNDS_KEPT && !kept.has(round)) this.#rounds.delete(round);
  }

  /** empty tells whether nobody voted yet. */
  get empty(): boolean {
    return this.#rounds.size === 0;
  }

  /** size is how many rounds are kept. */
  get size(): number {
    return this.#rounds.size;
  }

  /** VK5: a voter that is far ahead leaves the round in which it was before. */
  #leave(voter: number, round: number, current: number): void {
    const before = this.#latest[voter] as number;
    if (round <= current + 1 || before <= current + 1 || before >= round) return;
    const votes = this.#rounds.get(before);
    if (votes === undefined) return;
    for (const of of votes) {
      of.voters &= ~(1 << voter);
      of.again.delete(voter);
      for (const [value, same] of of.byValue) if (same.delete(voter) && same.size === 0) of.byValue.delete(value);
    }
    if (votes.every((of) => of.voters === 0)) this.#rounds.delete(before);
  }

  #conflicts(vote: Vote): Conflict[] {
    const found: Conflict[] = [];
    for (const first of this.#of(vote.round, vote.step, vote.voter)) found.push({ kind: "equivocation", first, second: vote });
    if (vote.value === NIL) return found;
    for (const round of this.#rounds.keys()) {
      const [before, after] = vote.step === STEP.PRECOMMIT ? [vote.round, round] : [round, vote.round];
      if (before >= after) continue;
      for (const other of this.#of(round, vote.step === STEP.PRECOMMIT ? STEP.PREVOTE : STEP.PRECOMMIT, vote.voter)) {
        const [first, second] = vote.step === STEP.PRECOMMIT ? [vote, other] : [other, vote];
        if (isAmnesia(first, second)) found.push({ kind: "amnesia", first, second });
      }
    }
    return found;
  }

  #votes(round: number, step: Step): StepVotes | undefined {
    return this.#rounds.get(round)?.[step - 1];
  }

  #of(round: number, step: Step, voter: number): Vote[] {
    const votes = this.#votes(round, step);
    if (votes === undefined || (votes.voters & (1 << voter)) === 0) return [];
    const found: Vote[] = [];
    for (const same of votes.byValue.values()) {
      const vote = same.get(voter);
      if (vote !== undefined) found.push(vote);
    }
    const again = votes.again.get(voter);
    if (again !== undefined) found.push(again);
    return found;
  }

  #quorumIn(round: number, step: Step): ValueId | undefined {
    for (const [value, same] of this.#votes(round, step)?.byValue ?? []) if (this.#isQuorum(same)) return value;
    return undefined;
  }

  #isQuorum(same: ReadonlyMap<number, Vote> | undefined): boolean {
    return same !== undefined && this.#members.isQuorum(same.size);
  }
}

function emptyStep(): StepVotes {
  return { byValue: new Map(), again: new Map(), voters: 0 };
}

/**
 * isAmnesia tells whether a voter that precommitted (`first`) prevoted later (`second`) what its lock forbade: another value, relying on a
 * polka of an earlier round than its precommit, or on none. An honest voter names the round that freed it, or that of its newer lock.
 */
export function isAmnesia(first: Vote, second: Vote): boolean {
  return (
    first.step === STEP.PRECOMMIT &&
    second.step === STEP.PREVOTE &&
    first.height === second.height &&
    first.voter === second.voter &&
    first.value !== NIL &&
    second.value !== NIL &&
    first.value !== second.value &&
    first.round < second.round &&
    second.relies < first.round
  );
}
