import type { Failure } from "#kernel/error.ts";
import { copyOf } from "#kernel/wire/bytes.ts";
import type { ReplicaId, StoredLog } from "../../log/engine.ts";
import {
  BFT_BOUNDS,
  type BftFrame,
  type Certificate,
  NIL,
  NO_ROUND,
  type Proposal,
  STEP,
  type Step,
  type ValueId,
  type Vote,
} from "../frames.ts";
import type { Members } from "../members.ts";
import type { Settings } from "../options.ts";
import { partsOf } from "../parts.ts";
import { isProposalSigned, isVoteSigned, votesOf } from "../proof/certificate.ts";
import { proposalBytes, voteBytes } from "../proof/signed.ts";
import { type Batch, batchBytes, type Decision, readBatch } from "../record.ts";
import { observe, persist, send, type Turn } from "../turn.ts";
import { type Before, Height, type Held, type Rules, valueIdOf, voteKey } from "./height.ts";
import { Journal, type JournalRecord, journalBytes } from "./journal.ts";
import type { RoundOutput, TimeoutStep } from "./round-machine.ts";
import type { Conflict } from "./vote-keeper.ts";

/** Around is what a height needs of the engine. */
export interface Around {
  /** draft makes the next batch, or undefined while there is nothing to propose. `must`: one is wanted even if it is empty. */
  draft(turn: Turn, height: Height, must: boolean): Batch | undefined;
  /** demand tells whether there is something to propose. */
  demand(turn: Turn): boolean;
  /** decided takes the decision; `begin` of the next height follows. */
  decided(turn: Turn, height: Height, decision: Decision, round: number): void;
  conflict(turn: Turn, height: Height, conflict: Conflict): void;
  proposals(turn: Turn, height: Height, first: Proposal, second: Proposal): void;
}

/** COPIED is the space that holds the vote by which this replica knows of another copy of itself. */
export const COPIED = "bft.copied";

interface Timer {
  readonly step: TimeoutStep;
  readonly round: number;
  at: number;
}

/**
 * Consensus runs one height after the other for one replica: it carries out what the round machine asks for, signs, keeps the time, writes
 * ahead. What comes from others has been checked for form.
 *
 * BF1 whatever changes the state of the height is in the journal before anything that follows from it leaves: votes, proposals, values with
 *    the verdict on them, elapsed timeouts. A replay leads to the same state.
 * BF2 a replica signs one vote in a step of a round, and one proposal in a round, across restarts, and none in a round that it has left; what
 *    it signed it sends again.
 * BF3 a value is asked for once in a round: after a restart the one in the journal is proposed.
 * BF4 a decided height is stored with its certificate in the transaction that ends its journal.
 * BF5 a height ends in the round that its certificate names, whatever round this replica is in.
 * BF6 a replica that sees a vote of its own that it did not cast signs nothing any more, also not after a restart: what else the other copy
 *    signed is not known here.
 */
export class Consensus {
  height: Height;
  readonly #settings: Settings;
  readonly #around: Around;
  readonly #rules: Rules;
  readonly #journal: Journal;
  readonly #timers: Timer[] = [];
  /** What the replay asked for and the journal has not: the process ended before it was durable. */
  readonly #left: RoundOutput[] = [];
  /** Votes of each voter in its far round, which are not in the journal yet. */
  readonly #unwritten = new Map<number, readonly Vote[]>();
  #replaying = true;
  #copied = false;

  constructor(settings: Settings, around: Around, height: Height, stored: StoredLog) {
    this.#settings = settings;
    this.#around = around;
    this.height = height;
    this.#copied = settings.onCopy !== "go on" && stored.get(COPIED, settings.self) !== undefined;
    const { check, checkMembership } = settings;
    const { batchBytes, batchPayloads, aheadMs } = settings.limits;
    this.#rules = { check, checkMembership, batchBytes, batchPayloads, aheadMs };
    this.#journal = new Journal(stored, height.height);
    for (const record of this.#journal.records) if (record.kind === "vote" && this.#isOwn(record.vote)) this.#remember(record.vote);
    for (const record of this.#journal.records) this.#replay(record);
    height.restored();
  }

  /** signing tells whether this replica votes in the height in progress. */
  get signing(): boolean {
    return !this.#copied && this.self >= 0;
  }

  /** self is the number of this replica among the voters, -1 if it is none. */
  get self(): number {
    return this.height.members.indexOf(this.#settings.self);
  }

  /** start goes on where the journal ended, and says again what was said. */
  start(turn: Turn): void {
    this.#replaying = false;
    for (const timer of this.#timers) timer.at = turn.now.mono + this.#duration(timer);
    for (const output of this.#left.splice(0)) if (!this.#isOver(output)) this.#do(turn, output);
    this.resend(turn);
  }

  /** begin goes on with another height. */
  begin(turn: Turn, height: number, members: Members, before: Before): void {
    this.#timers.length = 0;
    this.#unwritten.clear();
    this.#journal.clear(turn);
    this.height = new Height(height, members, before);
  }

  /** deadline is when the next timeout elapses. */
  deadline(): number | undefined {
    let due: number | undefined;
    for (const { step, round, at } of this.#timers)
      if (this.height.machine.awaits(step, round) && (due === undefined || at < due)) due = at;
    return due;
  }

  /** elapse does what is due. */
  elapse(turn: Turn): void {
    for (const timer of [...this.#timers]) {
      if (timer.at > turn.now.mono || !this.#timers.includes(timer)) continue;
      this.#timers.splice(this.#timers.indexOf(timer), 1);
      const { step, round } = timer;
      if (!this.height.machine.awaits(step, round)) continue;
      this.#journal.write(turn, this.height.height, { kind: "elapsed", step, round });
      this.#elapsed(turn, step, round);
      // What else is due is done when this has had its effects.
      return;
    }
  }

  /** proposed takes a proposal whose form was checked. "bad" if its proposer did not sign it. */
  proposed(turn: Turn, proposal: Proposal): "bad" | undefined {
    const { height } = this;
    const known = height.proposals.get(proposal.round);
    if (known !== undefined && isSame(known, proposal)) return undefined;
    const proposer = height.members.replicas[this.#settings.proposer(height.height, proposal.round, height.members)];
    if (!isProposalSigned(this.#settings.verifier, proposer, proposal)) return "bad";
    if (known !== undefined) {
      this.#around.proposals(turn, height, known, proposal);
      return undefined;
    }
    this.#take(turn, { kind: "proposal", proposal: { ...proposal, signature: copyOf(proposal.signature) } });
    const held = height.values.get(proposal.value);
    if (held?.verdict === "early") this.#hold(turn, height.judge(held.bytes, this.#rules, turn.now.wall));
    return undefined;
  }

  /** value takes the bytes of a value that was named. "bad" if they are not that value. */
  value(turn: Turn, value: ValueId, bytes: Uint8Array): "bad" | undefined {
    if (!this.height.expects(value)) return undefined;
    if (valueIdOf(this.#settings.crypto, bytes) !== value) return "bad";
    this.#hold(turn, this.height.judge(copyOf(bytes), this.#rules, turn.now.wall));
    return undefined;
  }

  /** votes takes votes of this height whose form was checked, all or none of them. `certified`: they are a certificate. */
  votes(turn: Turn, votes: readonly Vote[], certified: boolean): "bad" | undefined {
    const { keeper, machine, members } = this.height;
    const fresh = votes.filter((vote) => keeper.takes(vote, machine.round, certified));
    if (fresh.length === 0) return undefined;
    if (!(certified ? votes : fresh).every((vote) => isVoteSigned(this.#settings.verifier, members.replicas, vote))) return "bad";
    for (const vote of fresh) {
      if (this.#isOwn(vote) && this.signing && !this.height.cast(vote)) this.#stop(turn, vote);
      // What is kept pins no message.
      const kept = { ...vote, signature: copyOf(vote.signature) };
      if (certified || vote.round <= machine.round + 1) this.#take(turn, { kind: "vote", vote: kept });
      else this.#far(turn, kept);
    }
    return undefined;
  }

  /** certificate takes a certificate of this height that is well formed. */
  certificate(turn: Turn, certificate: Certificate): "bad" | undefined {
    return this.votes(turn, votesOf(certificate), true);
  }

  /**
   * advance does all that there is to do in this height. It stops behind a decision and answers true: the application has to take that in
   * before it is asked again what it wants, and whether something may be decided.
   */
  advance(turn: Turn): boolean {
    for (const { height } = this; height === this.height; ) {
      height.demand = this.#around.demand(turn);
      const output = height.machine.next(height);
      if (output !== undefined) this.#do(turn, output);
      else if (!this.#propose(turn)) return false;
    }
    return true;
  }

  /** resend repeats what this replica said in its round. */
  resend(turn: Turn): void {
    const { height, members, machine, proposals, own } = this.height;
    const proposal = proposals.get(machine.round);
    if (proposal !== undefined && this.signing && this.#settings.proposer(height, machine.round, members) === this.self)
      this.#sendProposal(turn, proposal);
    const votes = [STEP.PREVOTE, STEP.PRECOMMIT].flatMap((step) => own.get(voteKey(machine.round, step)) ?? []);
    if (votes.length > 0) this.broadcast(turn, { kind: "votes", height, votes });
  }

  /** broadcast sends a frame to all other voters. */
  broadcast(turn: Turn, frame: BftFrame): void {
    for (const replica of this.height.members.replicas) if (replica !== this.#settings.self) send(turn, replica, frame);
  }

  /** refusal is why this replica cannot have anything decided, or undefined. */
  refusal(): Failure | undefined {
    if (!this.#copied) return undefined;
    const message = "another copy of this replica is at work, or it was restored from a backup: let the hub rejoin under a new incarnation";
    return { reason: "IDENTITY_MISMATCH", message };
  }

  #isOwn(vote: Vote): boolean {
    return this.self === vote.voter;
  }

  /**
   * A vote of a round that was left: before the restart everything came at once, and this replica went on without that vote. Cast now, after
   * votes in later rounds, it could break its lock.
   */
  #isOver(output: RoundOutput): boolean {
    return (output.kind === "prevote" || output.kind === "precommit") && output.round < this.height.machine.round;
  }

  #remember(vote: Vote): void {
    this.height.own.set(voteKey(vote.round, vote.step), vote);
  }

  /** BF6. */
  #stop(turn: Turn, vote: Vote): void {
    if (this.#settings.onCopy === "go on") return;
    this.#copied = true;
    const bytes = journalBytes(this.height.height, { kind: "vote", vote });
    persist(turn, { op: "put", space: COPIED, key: this.#settings.self, bytes });
    observe(turn, "copy_seen", this.#settings.self, vote.round);
    turn.out.push({ kind: "role", role: "outside", term: this.height.machine.round, leader: undefined });
  }

  #replay(record: JournalRecord): void {
    if (record.kind === "elapsed") this.#elapsed(undefined, record.step, record.round);
    else this.#apply(undefined, record);
    for (let output = this.height.machine.next(this.height); output !== undefined; output = this.height.machine.next(this.height))
      this.#do(undefined, output);
  }

  /** BF1: writes first. */
  #take(turn: Turn, record: JournalRecord): void {
    this.#journal.write(turn, this.height.height, record);
    this.#apply(turn, record);
  }

  #hold(turn: Turn, { bytes, verdict }: Held): void {
    this.#take(turn, { kind: "value", bytes, verdict });
  }

  #apply(turn: Turn | undefined, record: JournalRecord): void {
    const { height } = this;
    if (record.kind === "proposal") height.proposals.set(record.proposal.round, record.proposal);
    else if (record.kind === "value") {
      const { bytes, verdict } = record;
      height.values.set(valueIdOf(this.#settings.crypto, bytes), { bytes, verdict, batch: readBatch(bytes) });
    } else if (record.kind === "vote") {
      const conflicts = height.keeper.add(record.vote, height.machine.round);
      if (turn !== undefined) for (const conflict of conflicts) this.#around.conflict(turn, height, conflict);
    }
  }

  #elapsed(turn: Turn | undefined, step: TimeoutStep, round: number): void {
    const output = this.height.machine.elapsed(step, round);
    if (output !== undefined) this.#do(turn, output);
  }

  #do(turn: Turn | undefined, output: RoundOutput): void {
    switch (output.kind) {
      case "round":
        if (turn !== undefined) this.#writeFar(turn);
        this.height.entered(output.round);
        return;
      case "timeout":
        this.#timers.push({ step: output.step, round: output.round, at: 0 });
        if (turn !== undefined) (this.#timers.at(-1) as Timer).at = turn.now.mono + this.#duration(output);
        return;
      case "prevote":
        return this.#vote(turn, output, STEP.PREVOTE, output.relies);
      case "precommit":
        return this.#vote(turn, output, STEP.PRECOMMIT, NO_ROUND);
      case "decide":
        if (turn === undefined) this.#left.push(output);
        else this.#decide(turn, output.round, output.value);
    }
  }

  /** A vote in a round that is far away is written when the round begins that comes of it: else who floods would fill the disk. */
  #far(turn: Turn, vote: Vote): void {
    const of = this.#unwritten.get(vote.voter) ?? [];
    this.#unwritten.set(vote.voter, [...of.filter(({ round }) => round === vote.round), vote]);
    this.#apply(turn, { kind: "vote", vote });
  }

  #writeFar(turn: Turn): void {
    for (const votes of this.#unwritten.values())
      for (const vote of votes) this.#journal.write(turn, this.height.height, { kind: "vote", vote });
    this.#unwritten.clear();
  }

  /** BF2. */
  #vote(turn: Turn | undefined, output: Extract<RoundOutput, { kind: "prevote" | "precommit" }>, step: Step, relies: number): void {
    const { round, value } = output;
    const { height, own, keeper, machine } = this.height;
    const said = own.get(voteKey(round, step));
    if (said !== undefined) keeper.add(said, machine.round);
    else if (turn === undefined) this.#left.push(output);
    else if (this.signing) {
      const unsigned = { height, round, step, value, relies };
      const signature = this.#settings.crypto.sign(voteBytes(this.#settings.federation, this.#settings.self, unsigned));
      const vote: Vote = { ...unsigned, voter: this.self, signature };
      this.#remember(vote);
      this.#take(turn, { kind: "vote", vote });
      this.broadcast(turn, { kind: "votes", height, votes: [vote] });
    }
  }

  #decide(turn: Turn, round: number, value: ValueId): void {
    const { height, keeper, values } = this.height;
    const certificate = keeper.certificate(height, round, STEP.PRECOMMIT, value) as Certificate;
    const { bytes } = values.get(value) as Held;
    this.#around.decided(turn, this.height, { certificate, bytes }, round);
  }

  /** BF3; answers whether something was proposed. */
  #propose(turn: Turn): boolean {
    const { height, members, machine, proposals } = this.height;
    const { round } = machine;
    if (!this.signing || this.#replaying || machine.step !== "propose" || proposals.has(round)) return false;
    if (this.#settings.proposer(height, round, members) !== this.self) return false;
    let { value, round: validRound } = machine.valid;
    if (value === NIL || !this.height.values.has(value)) {
      const batch = this.#around.draft(turn, this.height, this.height.active());
      if (batch === undefined) return false;
      const held = this.height.judge(batchBytes(batch), this.#rules, Number.POSITIVE_INFINITY);
      value = valueIdOf(this.#settings.crypto, held.bytes);
      validRound = NO_ROUND;
      if (!this.height.values.has(value)) this.#hold(turn, held);
    }
    const unsigned = { height, round, value, size: (this.height.values.get(value) as Held).bytes.length, validRound };
    const signature = this.#settings.crypto.sign(proposalBytes(this.#settings.federation, this.#settings.self, unsigned));
    const proposal: Proposal = { ...unsigned, signature };
    this.#take(turn, { kind: "proposal", proposal });
    this.#sendProposal(turn, proposal);
    return true;
  }

  #sendProposal(turn: Turn, proposal: Proposal): void {
    const bytes = this.height.values.get(proposal.value)?.bytes ?? new Uint8Array(0);
    const whole = bytes.length <= BFT_BOUNDS.partBytes;
    this.broadcast(turn, { kind: "proposal", proposal, bytes: whole ? bytes : new Uint8Array(0) });
    if (!whole) for (const part of partsOf(proposal.height, proposal.value, bytes)) this.broadcast(turn, part);
  }

  #duration({ step, round }: Pick<Timer, "step" | "round">): number {
    const { proposeMs, proposeMoreMs, voteMs, voteMoreMs, timeoutMaxMs } = this.#settings.limits;
    return Math.min(timeoutMaxMs, step === "propose" ? proposeMs + round * proposeMoreMs : voteMs + round * voteMoreMs);
  }
}

function isSame(a: Proposal, b: Proposal): boolean {
  return a.value === b.value && a.size === b.size && a.validRound === b.validRound;
}

/** proposerOf is the replica that proposes in a round. */
export function proposerOf({ proposer }: Settings, { height, members }: Height, round: number): ReplicaId | undefined {
  return members.replicas[proposer(height, round, members)];
}
