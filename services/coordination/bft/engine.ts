import type { Failure } from "#kernel/error.ts";
import type { Now } from "#kernel/instant.ts";
import { copyOf } from "#kernel/wire/bytes.ts";
import type { EngineEffect, EngineInput, LogEngine, LogStatus, Membership, ReplicaId, StoredLog } from "../log/engine.ts";
import { CatchUp } from "./catch-up.ts";
import { Decisions, type HeldSnapshot } from "./decisions.ts";
import { Fellows } from "./fellows.ts";
import { BFT_BOUNDS, type BftFrame, type Proposal } from "./frames.ts";
import { type Around, Consensus } from "./height/consensus.ts";
import { Height } from "./height/height.ts";
import type { Conflict } from "./height/vote-keeper.ts";
import { hexOf } from "./hex.ts";
import { Inbox } from "./inbox.ts";
import { Members, problemOf } from "./members.ts";
import { type BftOptions, type Settings, settingsOf } from "./options.ts";
import { Peers } from "./peers.ts";
import { Pool } from "./pool.ts";
import { proposalProof, voteProof } from "./proof/evidence.ts";
import { EvidenceBook } from "./proof/evidence-book.ts";
import type { Batch, Decision } from "./record.ts";
import { observe, send, type Turn } from "./turn.ts";

const encoder = new TextEncoder();

interface Change {
  readonly call: number;
  readonly membership: Membership;
}

/**
 * BftEngine keeps a log among hubs of which fewer than a third may lie (Tendermint, arXiv 1807.04938). A height decides one batch of payloads.
 *
 * No height is made without need: while nobody has a payload, a change of members, or a time of the application to reach, no round takes
 * time. A payload goes to all voters at once, so that whoever proposes next has it; who has one waits for a proposal, and votes against the
 * round in vain waiting, which makes the others see that there is something to do. In rounds behind the first a proposer without payloads
 * proposes an empty batch, which ends the height.
 *
 * A linearizable read is a marker that is decided like a payload: what was decided before it was asked for is before it in the log.
 *
 * A change of members is proposed by the hub that was asked for it when it is its turn, is valid only if `checkMembership` says so at every
 * hub, and takes effect at the next height.
 */
export class BftEngine implements LogEngine<BftFrame> {
  readonly #settings: Settings;
  readonly #decisions: Decisions;
  readonly #fellows: Fellows;
  readonly #evidence: EvidenceBook;
  readonly #catchUp: CatchUp;
  readonly #pool = new Pool();
  readonly #consensus: Consensus;
  readonly #peers: Peers;
  readonly #inbox: Inbox;
  /** The last heights, whose late votes may still be evidence. */
  #past: Height[] = [];
  #change: Change | undefined;
  #started = false;
  /** The last step ended with a decision, which the application has taken in by now. */
  #decidedNow = false;
  #resendAt = 0;
  #clockTrusted = true;
  #lastNow: Now = { mono: 0, wall: 0 };
  #reads = 0;

  constructor(options: BftOptions, stored: StoredLog) {
    const settings = settingsOf(options);
    this.#settings = settings;
    this.#decisions = new Decisions(stored, options.membership);
    this.#evidence = new EvidenceBook(settings, stored);
    this.#fellows = new Fellows(settings, this.#decisions);
    this.#catchUp = new CatchUp(settings, this.#decisions, this.#fellows);
    const { head } = this.#decisions;
    const height = new Height(head.index + 1, new Members(head.membership), head);
    this.#consensus = new Consensus(settings, this.#around(), height, stored);
    this.#peers = new Peers(settings);
    this.#inbox = new Inbox(settings, {
      consensus: this.#consensus,
      decisions: this.#decisions,
      fellows: this.#fellows,
      catchUp: this.#catchUp,
      evidence: this.#evidence,
      peers: this.#peers,
      past: () => this.#past,
      conflict: (turn, height, conflict) => this.#conflict(turn, height, conflict),
      payload: (turn, from, frame) => this.#told(turn, from, frame),
      install: (turn, snapshot) => this.#install(turn, snapshot),
      tell: (turn, proof) => this.#tell(turn, proof),
    });
  }

  step(now: Now, input: EngineInput<BftFrame>, out: EngineEffect<BftFrame>[]): void {
    const turn = this.#begin(now, out);
    switch (input.kind) {
      case "propose":
        this.#propose(turn, input.call, input.payload);
        break;
      case "read":
        this.#read(turn, input.call);
        break;
      case "reconfigure":
        this.#reconfigure(turn, input.call, { voters: input.voters, outgoing: [], learners: input.learners });
        break;
      case "transfer":
        refuse(turn, input.call, {
          reason: "INVALID_FIELD",
          message: "nobody leads this log for longer than a round: there is nothing to transfer",
        });
        break;
      case "frame":
        this.#inbox.take(turn, input.from, input.frame);
        break;
      case "reachable":
        this.#peers.reachable(input.replica, input.up);
        if (input.up) this.#met(turn, input.replica);
        break;
      case "captured":
        this.#catchUp.captured(turn, input.index, input.state, (frame) => this.#consensus.broadcast(turn, frame));
        break;
      case "clock":
        this.#clockTrusted = input.trusted;
        break;
      case "stored":
        break;
    }
    this.#run(turn);
  }

  tick(now: Now, out: EngineEffect<BftFrame>[]): void {
    const turn = this.#begin(now, out);
    this.#consensus.elapse(turn);
    if (now.mono >= this.#resendAt) this.#resend(turn);
    this.#run(turn);
  }

  deadline(): number | undefined {
    if (!this.#started) return 0;
    if (this.#decidedNow) return this.#lastNow.mono;
    const due = this.#consensus.height.active() ? undefined : this.#settings.due?.();
    const dueAt = due === undefined ? Number.POSITIVE_INFINITY : this.#lastNow.mono + Math.max(1, due - this.#lastNow.wall);
    return Math.min(this.#resendAt, dueAt, this.#consensus.deadline() ?? Number.POSITIVE_INFINITY);
  }

  time(now: Now): number {
    return Math.max(Math.floor(now.wall), this.#decisions.head.time + 1);
  }

  status(now: Now): LogStatus {
    const { head } = this.#decisions;
    const { height } = this.#consensus;
    const proposer = height.members.replicas[this.#settings.proposer(height.height, height.machine.round, height.members)];
    return {
      role: this.#role(),
      term: height.machine.round,
      leader: proposer,
      committed: head.index,
      last: head.index,
      membership: head.membership,
      ageMs: this.#peers.ageMs(now, height.members),
      quorum: this.#peers.quorum(now, height.members),
    };
  }

  describe(): string {
    const { head, floor, snapshot } = this.#decisions;
    const lines = [
      `decided ${head.index} (${head.previous.slice(0, 8)}) from ${floor} snapshot ${snapshot?.manifest.index ?? "none"}`,
      this.#consensus.height.describe(),
      `waiting ${this.#pool.size} accused ${this.#evidence.accused().join(" ") || "nobody"}`,
    ];
    return lines.join("\n");
  }

  /** proofs are all proofs that this replica has recorded, for whoever asks. */
  proofs(): Uint8Array[] {
    return [...this.#evidence.proofs()];
  }

  /** decision is the decided batch of a height with its certificate, if it is kept. */
  decision(height: number): Decision | undefined {
    return this.#decisions.at(height);
  }

  #around(): Around {
    return {
      draft: (turn, height, must) => this.#draft(turn, height, must),
      demand: (turn) => this.#demand(turn),
      decided: (turn, height, decision, round) => this.#decided(turn, height, decision, round),
      conflict: (turn, height, conflict) => this.#conflict(turn, height, conflict),
      proposals: (turn, height, first, second) => this.#proposals(turn, height, first, second),
    };
  }

  #begin(now: Now, out: EngineEffect<BftFrame>[]): Turn {
    this.#lastNow = now;
    const turn = { now, out };
    if (this.#started) return turn;
    this.#started = true;
    const { snapshot } = this.#decisions;
    if (snapshot !== undefined) out.push({ kind: "install", snapshot: this.#decisions.engineSnapshot(snapshot) });
    const entries = this.#decisions.after(snapshot?.manifest.index ?? 0);
    if (entries.length > 0) out.push({ kind: "committed", entries });
    this.#roleNow(turn);
    this.#consensus.start(turn);
    this.#resend(turn);
    return turn;
  }

  /** Does all that there is to do, up to a decision: the next height begins with the next input, or at once with a tick. */
  #run(turn: Turn): void {
    do this.#decidedNow = this.#consensus.advance(turn);
    while (!this.#decidedNow && this.#inbox.next(turn));
    this.#inbox.want(turn);
  }

  #resend(turn: Turn): void {
    const { resendMs } = this.#settings.limits;
    this.#resendAt = turn.now.mono + resendMs;
    this.#consensus.resend(turn);
    for (const replica of this.#fellows.others) this.#greet(turn, replica);
    for (const { marker, bytes } of this.#pool.of(this.#settings.self)) this.#consensus.broadcast(turn, { kind: "payload", marker, bytes });
  }

  /** A replica is within reach again: it is told what it may have missed and nobody would repeat. */
  #met(turn: Turn, replica: ReplicaId): void {
    this.#greet(turn, replica);
    if (this.#fellows.has(replica)) for (const proof of this.#evidence.proofs()) send(turn, replica, { kind: "evidence", proof });
  }

  #greet(turn: Turn, to: ReplicaId): void {
    const { height, machine, before } = this.#consensus.height;
    send(turn, to, { kind: "status", height, round: machine.round, previous: before.previous });
  }

  #role(): LogStatus["role"] {
    const { voters, learners } = this.#decisions.head.membership;
    const { self } = this.#settings;
    if (this.#consensus.refusal() !== undefined) return "outside";
    return voters.includes(self) ? "follower" : learners.includes(self) ? "learner" : "outside";
  }

  #roleNow(turn: Turn): void {
    turn.out.push({ kind: "role", role: this.#role(), term: this.#consensus.height.machine.round, leader: undefined });
  }

  /** Why nothing can be decided for this hub at the moment. */
  #refusal(): Failure | undefined {
    const copied = this.#consensus.refusal();
    if (copied !== undefined) return copied;
    if (this.#role() === "outside")
      return { reason: "NOT_CONFIGURED", message: "this hub is no member of the federation's log: let a member add it first" };
    return this.#peers.lost(this.#consensus.height.members)
      ? {
          reason: "PEER_UNREACHABLE",
          message: "fewer than two thirds of the members are reachable, so nothing can be decided: try again later",
        }
      : undefined;
  }

  #propose(turn: Turn, call: number, payload: Uint8Array): void {
    const refusal = this.#refusal();
    if (refusal !== undefined) return refuse(turn, call, refusal);
    if (payload.length > Math.min(BFT_BOUNDS.payloadBytes, this.#settings.limits.batchBytes)) {
      const message = `an entry of the log has at most ${BFT_BOUNDS.payloadBytes} bytes: this one has ${payload.length}`;
      return refuse(turn, call, { reason: "MESSAGE_TOO_LARGE", message });
    }
    if (!this.#settings.check(payload))
      return refuse(turn, call, { reason: "INVALID_FIELD", message: "the members would not accept this entry" });
    this.#wait(turn, call, payload, false);
  }

  #read(turn: Turn, call: number): void {
    const refusal = this.#refusal();
    if (refusal !== undefined) return refuse(turn, call, refusal);
    const { self, crypto } = this.#settings;
    const name = `${self} ${turn.now.wall} ${turn.now.mono} ${this.#decisions.head.index} ${this.#reads++}`;
    this.#wait(turn, call, crypto.hash(encoder.encode(name)), true);
  }

  #wait(turn: Turn, call: number, bytes: Uint8Array, marker: boolean): void {
    const { self, limits } = this.#settings;
    const waiting = { marker, bytes: copyOf(bytes), from: self, calls: [call] };
    const added = this.#pool.add(this.#keyOf(marker, bytes), waiting, { count: limits.ownWaiting, bytes: limits.ownWaitingBytes });
    if (added === "full")
      return refuse(turn, call, { reason: "OVERLOADED", message: "too many entries wait for a decision: try again in a moment" });
    if (added === "over") return refuse(turn, call, { reason: "ALREADY_EXISTS", message: "this very entry has been decided already" });
    if (added === "new") this.#consensus.broadcast(turn, { kind: "payload", marker, bytes });
  }

  #told(turn: Turn, from: ReplicaId, { marker, bytes }: Extract<BftFrame, { kind: "payload" }>): "bad" | undefined {
    const { limits, check } = this.#settings;
    if (marker ? bytes.length !== 32 : bytes.length > Math.min(BFT_BOUNDS.payloadBytes, limits.batchBytes) || !check(bytes)) return "bad";
    const waiting = { marker, bytes: copyOf(bytes), from, calls: [] };
    const added = this.#pool.add(this.#keyOf(marker, bytes), waiting, { count: limits.peerWaiting, bytes: limits.peerWaitingBytes });
    if (added === "full") observe(turn, "payload_refused", from);
    return undefined;
  }

  #keyOf(marker: boolean, bytes: Uint8Array): string {
    return `${marker ? "m" : "p"}${hexOf(this.#settings.crypto.hash(bytes))}`;
  }

  #reconfigure(turn: Turn, call: number, membership: Membership): void {
    const refusal = this.#refusal();
    const problem = problemOf(membership);
    this.#dropChange(turn);
    if (refusal !== undefined) refuse(turn, call, refusal);
    else if (problem !== undefined) refuse(turn, call, { reason: "INVALID_FIELD", message: problem });
    else if (this.#change !== undefined)
      refuse(turn, call, { reason: "OVERLOADED", message: "a change of members is under way: wait until it is done" });
    else if (!this.#settings.checkMembership(membership))
      refuse(turn, call, {
        reason: "ACCESS_DENIED",
        message: "the log does not call for this membership: let the members decide on it first",
      });
    else this.#change = { call, membership };
  }

  /** A change that the log calls for no more, as another one was decided on meanwhile, makes room for that one. */
  #dropChange(turn: Turn): void {
    const change = this.#change;
    if (change === undefined || this.#settings.checkMembership(change.membership)) return;
    this.#change = undefined;
    refuse(turn, change.call, { reason: "TOO_STALE", message: "the log calls for another membership by now: look at it and ask again" });
  }

  #demand(turn: Turn): boolean {
    this.#dropChange(turn);
    const due = this.#settings.due?.();
    return this.#pool.size > 0 || this.#change !== undefined || (due !== undefined && due <= turn.now.wall);
  }

  #draft(turn: Turn, height: Height, must: boolean): Batch | undefined {
    if (!must || !this.#clockTrusted) return undefined;
    const { batchPayloads, batchBytes } = this.#settings.limits;
    const { payloads, markers } = this.#pool.take(batchPayloads, batchBytes);
    const change = this.#change?.membership;
    const membership = change !== undefined && this.#settings.checkMembership(change) ? change : undefined;
    const time = Math.max(Math.floor(turn.now.wall), height.before.time + 1);
    return { height: height.height, time, previous: height.before.previous, payloads, markers, membership };
  }

  #decided(turn: Turn, height: Height, decision: Decision, round: number): void {
    const batch = height.values.get(decision.certificate.value)?.batch as Batch;
    const before = this.#decisions.head.membership;
    const entry = this.#decisions.add(turn, decision, batch);
    const { proposed, read } = this.#pool.decided(batch, (marker, bytes) => this.#keyOf(marker, bytes));
    for (const call of proposed) turn.out.push({ kind: "accepted", call, index: entry.index, term: entry.term });
    turn.out.push({ kind: "committed", entries: [entry] });
    for (const call of read) turn.out.push({ kind: "readable", call, index: entry.index });
    observe(turn, "decided", undefined, round);
    this.#past = [...this.#past, height].slice(-this.#settings.limits.pastHeights);
    this.#toLearners(turn, entry.index, before);
    this.#next(turn, before);
    const { snapshotEvery, catchUp } = this.#settings.limits;
    // Half of a window of heights has come: the next ones are asked for.
    const ahead = entry.index % Math.max(1, catchUp >> 1) === 0 ? this.#peers.ahead(entry.index + 1) : undefined;
    if (ahead !== undefined) this.#greet(turn, ahead);
    if (snapshotEvery === 0 || entry.index % snapshotEvery !== 0) return;
    this.#catchUp.ask();
    turn.out.push({ kind: "capture" });
  }

  /** The height that follows on the newest decision. */
  #next(turn: Turn, before: Membership): void {
    const { head } = this.#decisions;
    this.#inbox.decided();
    this.#consensus.begin(turn, head.index + 1, new Members(head.membership), head);
    if (head.membership === before) return;
    const isMember = (replica: ReplicaId): boolean => this.#fellows.has(replica);
    for (const part of [this.#pool, this.#peers, this.#catchUp, this.#inbox]) part.forget(isMember);
    this.#roleNow(turn);
    this.#changed(turn, head.membership);
  }

  #changed(turn: Turn, { voters, learners }: Membership): void {
    const change = this.#change;
    if (change === undefined) return;
    const same = (a: readonly string[], b: readonly string[]): boolean => a.join() === b.join();
    if (!same(change.membership.voters, voters) || !same(change.membership.learners, learners)) return;
    this.#change = undefined;
    turn.out.push({ kind: "done", call: change.call });
  }

  /** One voter tells the learners; who misses it asks. */
  #toLearners(turn: Turn, height: number, { voters, learners }: Membership): void {
    if (voters[height % voters.length] === this.#settings.self) for (const learner of learners) this.#catchUp.serve(turn, learner, height);
  }

  #install(turn: Turn, snapshot: HeldSnapshot): void {
    const before = this.#decisions.head.membership;
    this.#decisions.install(turn, snapshot);
    turn.out.push({ kind: "install", snapshot: this.#decisions.engineSnapshot(snapshot) });
    this.#past = [];
    this.#next(turn, before);
  }

  #conflict(turn: Turn, height: Height, { kind, first, second }: Conflict): void {
    const against = height.members.replicas[first.voter] as ReplicaId;
    if (!this.#evidence.has(against, height.height)) this.#tell(turn, voteProof(this.#settings.federation, kind, against, first, second));
  }

  #proposals(turn: Turn, height: Height, first: Proposal, second: Proposal): void {
    const against = height.members.replicas[this.#settings.proposer(height.height, first.round, height.members)] as ReplicaId;
    if (!this.#evidence.has(against, height.height)) this.#tell(turn, proposalProof(this.#settings.federation, against, first, second));
  }

  /** Records a proof and tells everyone, if it is one and new. */
  #tell(turn: Turn, proof: Uint8Array): "bad" | undefined {
    const recorded = this.#evidence.record(turn, proof);
    if (recorded === undefined) return "bad";
    if (recorded !== "known") for (const replica of this.#fellows.others) send(turn, replica, { kind: "evidence", proof });
    return undefined;
  }
}

function refuse(turn: Turn, call: number, failure: Failure): void {
  turn.out.push({ kind: "refused", call, failure });
}
