import type { Crypto } from "#kernel/crypto.ts";
import { NIL, NO_ROUND, type Proposal, STEP, type Step, type ValueId, type Vote } from "../frames.ts";
import { hexOf } from "../hex.ts";
import type { Members } from "../members.ts";
import { problemOf } from "../members.ts";
import { type Batch, readBatch } from "../record.ts";
import { type Proposed, RoundMachine, type RoundView, type Verdict } from "./round-machine.ts";
import { VoteKeeper } from "./vote-keeper.ts";

/** Rounds whose proposals are kept, behind the current one. */
const PROPOSALS_KEPT = 8;
/** Rounds whose own votes are known, behind the current one. */
const OWN_KEPT = 1_000;
/** Markers of reads in one batch: a fixed number, so that every hub finds the same batch valid. */
const MARKERS_MAX = 4_096;

/** Held is a value that is here whole. */
export interface Held {
  readonly bytes: Uint8Array;
  /** Undefined for bytes that are no batch. */
  readonly batch: Batch | undefined;
  verdict: Verdict;
}

/** Before is what a height stands on: the decision before it. */
export interface Before {
  readonly time: number;
  readonly previous: ValueId;
}

/** Rules are what a value is judged by, besides the height. */
export interface Rules {
  readonly check: (payload: Uint8Array) => boolean;
  readonly checkMembership: (membership: Members["membership"]) => boolean;
  readonly batchBytes: number;
  readonly batchPayloads: number;
  readonly aheadMs: number;
}

/** Height is what a replica knows of one height: proposals, values, votes, and how far its rounds are. */
export class Height implements RoundView {
  readonly height: number;
  readonly members: Members;
  readonly before: Before;
  readonly keeper: VoteKeeper;
  readonly machine = new RoundMachine();
  /** Votes that this replica signed, by round and step: it signs no other there. */
  readonly own = new Map<string, Vote>();
  /** The first proposal of each round, as its proposer signed it. */
  readonly proposals = new Map<number, Proposal>();
  readonly values = new Map<ValueId, Held>();
  /** There is something to propose, here. */
  demand = false;

  constructor(height: number, members: Members, before: Before) {
    this.height = height;
    this.members = members;
    this.before = before;
    this.keeper = new VoteKeeper(members);
  }

  proposal(round: number): Proposed | undefined {
    const proposal = this.proposals.get(round);
    const held = proposal === undefined ? undefined : this.values.get(proposal.value);
    if (proposal === undefined || held === undefined) return undefined;
    const { value, validRound } = proposal;
    return { value, validRound, verdict: held.bytes.length === proposal.size ? held.verdict : "invalid" };
  }

  polka(round: number): ValueId | undefined {
    return this.keeper.polka(round);
  }

  hasPolka(round: number, value: ValueId): boolean {
    return this.keeper.hasPolka(round, value);
  }

  anyPrevotes(round: number): boolean {
    return this.keeper.any(round, STEP.PREVOTE);
  }

  anyPrecommits(round: number): boolean {
    return this.keeper.any(round, STEP.PRECOMMIT);
  }

  commit(): { readonly round: number; readonly value: ValueId } | undefined {
    for (const commit of this.keeper.commits()) if (this.sound(commit.value)) return commit;
    return undefined;
  }

  sound(value: ValueId): boolean {
    const verdict = this.values.get(value)?.verdict;
    return verdict !== undefined && verdict !== "invalid";
  }

  ahead(round: number): number | undefined {
    return this.keeper.ahead(round);
  }

  active(): boolean {
    return this.demand || this.machine.round > 0 || !this.keeper.empty || this.proposals.size > 0;
  }

  /** missing is a value that this height needs and has not: decided, or with a polka in this round, or proposed in it. */
  missing(): ValueId | undefined {
    for (const { value } of this.keeper.commits()) if (!this.values.has(value)) return value;
    const { round } = this.machine;
    const wanted = [this.keeper.polka(round) ?? NIL, this.proposals.get(round)?.value ?? NIL];
    return wanted.find((value) => value !== NIL && !this.values.has(value));
  }

  /** expects tells whether a value may be taken in: somebody who counts has named it. */
  expects(value: ValueId): boolean {
    if (this.values.has(value)) return false;
    for (const proposal of this.proposals.values()) if (proposal.value === value) return true;
    for (const commit of this.keeper.commits()) if (commit.value === value) return true;
    return this.keeper.polka(this.machine.round) === value;
  }

  /** judge looks at the bytes of a value. What depends on the clock, or on the application, is only whether it is early. */
  judge(bytes: Uint8Array, rules: Rules, wall: number): Held {
    const batch = readBatch(bytes, rules.batchPayloads + MARKERS_MAX);
    if (batch === undefined || !this.#fits(batch, rules)) return { bytes, batch, verdict: "invalid" };
    // Whether a change of members is called for is a matter of what the application has taken in: others may know better.
    if (batch.membership !== undefined && !rules.checkMembership(batch.membership)) return { bytes, batch, verdict: "early" };
    // The earliest time that there may be is never early: if clocks were wrong once, log time waits for them to come after it, and goes on.
    const earliest = this.before.time + 1;
    return { bytes, batch, verdict: batch.time > Math.max(wall + rules.aheadMs, earliest) ? "early" : "valid" };
  }

  #fits({ height, time, previous, payloads, markers, membership }: Batch, rules: Rules): boolean {
    if (height !== this.height || previous !== this.before.previous || time <= this.before.time) return false;
    if (payloads.length > rules.batchPayloads || markers.length > MARKERS_MAX) return false;
    if (payloads.reduce((sum, payload) => sum + payload.length, 0) > rules.batchBytes) return false;
    if (membership !== undefined && problemOf(membership) !== undefined) return false;
    return payloads.every(rules.check);
  }

  /** entered forgets what earlier rounds left, once a round has begun. */
  entered(round: number): void {
    const { locked, valid } = this.machine;
    this.keeper.prune(
      round,
      [locked.round, valid.round].filter((kept) => kept !== NO_ROUND),
    );
    for (const old of this.proposals.keys()) if (old < round - PROPOSALS_KEPT) this.proposals.delete(old);
    for (const [key, vote] of this.own) {
      if (vote.round >= round - OWN_KEPT) break;
      this.own.delete(key);
    }
    for (const value of this.values.keys())
      if (value !== locked.value && value !== valid.value && ![...this.proposals.values()].some((proposal) => proposal.value === value))
        this.values.delete(value);
  }

  /** cast tells whether this replica has cast a vote, as far as it remembers. */
  cast({ round, step, value, relies }: Vote): boolean {
    if (round < this.machine.round - OWN_KEPT) return true;
    const own = this.own.get(voteKey(round, step));
    return own?.value === value && own.relies === relies;
  }

  /** restored puts back the locks that own precommits prove. */
  restored(): void {
    for (const { step, round, value } of this.own.values()) if (step === STEP.PRECOMMIT && value !== NIL) this.machine.recall(round, value);
  }

  describe(): string {
    const { round, step, locked, valid } = this.machine;
    const at = ({ round, value }: { round: number; value: ValueId }): string =>
      round === NO_ROUND ? "none" : `${value.slice(0, 8)}@${round}`;
    const rounds = this.keeper.size === 0 ? "none" : `${this.keeper.size}`;
    return `height ${this.height} round ${round} ${step} locked ${at(locked)} valid ${at(valid)} rounds ${rounds} values ${this.values.size}`;
  }
}

/** voteKey names a step of a round. */
export function voteKey(round: number, step: Step): string {
  return `${round}/${step}`;
}

/** valueIdOf is the id of a value. */
export function valueIdOf(crypto: Pick<Crypto, "hash">, bytes: Uint8Array): ValueId {
  return hexOf(crypto.hash(bytes));
}
