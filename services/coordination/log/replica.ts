import type { Failure } from "#kernel/error.ts";
import type { Now } from "#kernel/instant.ts";
import type { LogCommand } from "../state/commands.ts";
import type { Applied, FederationState } from "../state/federation-state.ts";
import { sessionAfter } from "./author-sessions.ts";
import { COMMAND_BYTES, readBatch } from "./batch.ts";
import { type Committed, type EngineEffect, type EngineInput, hubOf, type LogStatus, type ReplicaId } from "./engine.ts";
import { Handovers } from "./handovers.ts";
import type { Outgoing } from "./proposer.ts";
import { ReadDesk } from "./read-desk.ts";
import type { ReplicaEffect, ReplicaFrame, ReplicaOptions } from "./replica-messages.ts";
import { Standstill } from "./standstill.ts";

/**
 * Replica is this hub's part in the log of a federation: what it wants decided goes in, what was decided is applied to the state.
 *
 * RO1 a command is answered with its outcome, refused (and then it never happens), or OUTCOME_UNKNOWN (and then it may, once).
 * RO2 without a quorum nothing is decided, and who asks is told so with the reason, after `graceMs` at once (S1-18).
 * RO3 a read that is confirmed sees all that was decided when it was asked.
 * RO4 frames of a replica that another one of its hub has replaced are not looked at.
 * RO5 only members bring batches and questions, to who may lead, and a read is confirmed only by whom it was put to.
 * RO6 a leader's outcome waits for the writes up to its position only, not for those of later ones.
 * RO7 the age of what is shown counts the time in which the monotonic clock may have stood still, until a quorum was heard again.
 */
export class Replica<F> {
  readonly #o: ReplicaOptions<F>;
  readonly #hub: string;
  readonly #reads: ReadDesk;
  readonly #handovers: Handovers;
  /** Calls that wait for a decision, and until when, mono ms. In the order of their ends. */
  readonly #ends = new Map<number, number>();
  /** Batches of others that the engine was given: who is told when it refuses one. */
  readonly #asked = new Map<number, { readonly peer: string; readonly session: number; readonly first: number }>();
  readonly #effects: EngineEffect<F>[] = [];
  /** Controls that the engine was asked for, and the call that waits for each. */
  readonly #controls = new Map<number, number>();
  #routing = false;
  #nextCall = 1;
  #leader: string | undefined;
  /** Who was asked to confirm the reads that wait. */
  #confirmer: string | undefined;
  /** Since when there is no quorum, mono ms; undefined while there is one. */
  #lostAt: number | undefined;
  #clockWritten = 0;
  /** The term in which this replica leads, 0 if it does not, and the position up to which its log is durable, as far as it was told. */
  #ledTerm = 0;
  #durable = 0;
  readonly #standstill = new Standstill();

  constructor(options: ReplicaOptions<F>) {
    this.#o = options;
    this.#hub = hubOf(options.self);
    this.#reads = new ReadDesk(options.patienceMs);
    this.#handovers = new Handovers({
      hubId: this.#hub,
      patienceMs: options.patienceMs,
      newId: () => this.#nextCall++,
      replicaOf: (hubId) => options.state.books.members.replicaOf(hubId),
      transfer: (now, call, to) => options.engine.step(now, { kind: "transfer", call, to }, this.#effects),
    });
  }

  get state(): FederationState {
    return this.#o.state;
  }

  status(now: Now): LogStatus {
    return this.#standstill.aged(now, this.#o.engine.status(now));
  }

  /** submit wants a command decided; `call` is answered by `decided` or `refused`, 0 is nobody's. */
  submit(now: Now, call: number, command: LogCommand, out: ReplicaEffect<F>[]): void {
    const refusal = this.#refusal(now);
    if (refusal !== undefined) return this.#refuse(call, refusal, out);
    const bytes = this.#o.codec.write(command);
    if (bytes.length > COMMAND_BYTES) {
      const message = `a command has at most ${COMMAND_BYTES} bytes, this one ${bytes.length}`;
      return this.#refuse(call, { reason: "MESSAGE_TOO_LARGE", message }, out);
    }
    if (!this.#o.proposer.add(call, bytes))
      return this.#refuse(
        call,
        { reason: "OVERLOADED", message: "too many commands of this hub wait for a decision; retry with backoff" },
        out,
      );
    if (call !== 0) this.#ends.set(call, now.mono + this.#o.patienceMs);
    this.#sendNext(now, out);
  }

  /** read asks for a state that has all that is decided by now; answered by `readable` or `refused`. */
  read(now: Now, call: number, out: ReplicaEffect<F>[]): void {
    const refusal = this.#refusal(now, UNREAD);
    if (refusal !== undefined) return this.#refuse(call, refusal, out);
    this.#reads.add(call, now.mono);
    this.#askReads(now, out);
  }

  /** cancel notes that nobody waits for a call any more. */
  cancel(call: number): void {
    this.#ends.delete(call);
    this.#o.proposer.abandon(call);
    this.#reads.cancel(call);
    this.#handovers.cancel(call);
  }

  /** reconfigure asks the engine for another membership; answered by `done` or `refused`, unless the call is 0. */
  reconfigure(now: Now, call: number, voters: readonly ReplicaId[], learners: readonly ReplicaId[], out: ReplicaEffect<F>[]): void {
    this.#step(now, { kind: "reconfigure", call: this.#control(call), voters, learners }, out);
  }

  /** transfer asks whoever leads to hand leadership to another voter; answered by `done` or `refused`. */
  transfer(now: Now, call: number, to: ReplicaId, out: ReplicaEffect<F>[]): void {
    if (this.#asks === this.#hub) return this.#step(now, { kind: "transfer", call: this.#control(call), to }, out);
    const refusal = this.#refusal(now);
    if (refusal !== undefined) return this.#refuse(call, refusal, out);
    this.#handovers.want(now, call, hubOf(to), this.#asks, out);
  }

  /** hint tells the engine of the clock, or of a session with a replica. */
  hint(now: Now, input: Extract<EngineInput<F>, { readonly kind: "clock" | "reachable" }>, out: ReplicaEffect<F>[]): void {
    this.#step(now, input, out);
  }

  /** distrust tells that this hub's clock cannot be relied on, and for how long the monotonic one may have stood still, ms (0: it ran). */
  distrust(now: Now, stoodStillMs: number, out: ReplicaEffect<F>[]): void {
    this.#standstill.note(now, stoodStillMs, this.#o.engine.status(now));
    this.#step(now, { kind: "clock", trusted: false }, out);
  }

  /** stored passes on that what the engine asked about is durable. */
  stored(now: Now, mark: { readonly term: number; readonly index: number }, out: ReplicaEffect<F>[]): void {
    if (mark.term === this.#ledTerm) this.#durable = Math.max(this.#durable, mark.index);
    this.#step(now, { kind: "stored", mark }, out);
  }

  /** frame takes a frame of a peer, which is who it says: its session proves that. */
  frame(now: Now, peer: string, frame: ReplicaFrame<F>, out: ReplicaEffect<F>[]): void {
    switch (frame.kind) {
      case "engine":
        if (frame.to !== this.#o.self || hubOf(frame.from) !== peer) out.push({ kind: "observe", what: "stray_frame" });
        else this.#step(now, { kind: "frame", from: frame.from, frame: frame.frame }, out);
        return;
      case "propose":
        return this.#proposed(now, peer, frame.payload, out);
      case "declined":
        // Whoever leads now gets it, as soon as that is known; until then it is sent again in time.
        if (frame.leader !== "" && frame.leader !== peer && this.#leader === peer) this.#leader = undefined;
        return;
      case "read_ask": {
        if (!this.#mayAsk(peer)) return void out.push({ kind: "observe", what: "stray_frame" });
        const call = this.#nextCall++;
        this.#reads.remote(call, peer, frame.id, now.mono);
        return this.#step(now, { kind: "read", call }, out);
      }
      case "lead_ask":
        if (!this.#mayAsk(peer)) return void out.push({ kind: "observe", what: "stray_frame" });
        this.#handovers.asked(now, peer, frame, out);
        return this.#route(now, out);
      case "lead_answer":
        return this.#handovers.answered(now, peer, frame, out);
      case "read_answer":
        if (peer !== this.#confirmer) return void out.push({ kind: "observe", what: "stray_frame" });
        this.#reads.answered(frame.id, frame.failure === undefined ? frame.index : undefined);
        if (frame.failure !== undefined) this.#reads.again(now.mono);
        return this.#serveReads(now, out);
    }
  }

  tick(now: Now, out: ReplicaEffect<F>[]): void {
    const due = this.#o.engine.deadline();
    if (due !== undefined && due <= now.mono) {
      this.#o.engine.tick(now, this.#effects);
      this.#route(now, out);
    }
    const resend = this.#o.proposer.deadline();
    if (resend !== undefined && resend <= now.mono) {
      // Who declined may lead again, or still.
      this.#leader ??= leaderIn(this.#o.engine.status(now));
      this.#send(now, this.#o.proposer.again(now.mono), out);
    }
    this.#expire(now, out);
    if (this.#reads.due(now.mono)) this.#askReads(now, out);
    this.#handovers.turn(now, this.#asks, out);
    this.#passTime(now, out);
  }

  deadline(now: Now): number | undefined {
    const times = [
      this.#o.engine.deadline(),
      this.#o.proposer.deadline(),
      this.#reads.deadline(),
      this.#ends.values().next().value,
      this.#clockAt(now),
      this.#handovers.deadline(),
    ];
    return times.reduce((least, time) => (time === undefined ? least : least === undefined ? time : Math.min(least, time)), undefined);
  }

  describe(): string {
    return [
      this.#o.engine.describe(),
      this.#o.state.describe(),
      this.#o.proposer.describe(),
      this.#reads.describe(),
      this.#handovers.describe(),
    ].join("\n");
  }

  /** mayAsk: a member puts to who leads what is to be decided. Where nobody leads, each has its own engine for that, and its own room there. */
  #mayAsk(peer: string): boolean {
    return !this.#o.leaderless && this.#o.state.books.members.member(peer) !== undefined;
  }

  #control(call: number): number {
    const own = this.#nextCall++;
    this.#controls.set(own, call);
    return own;
  }

  #step(now: Now, input: EngineInput<F>, out: ReplicaEffect<F>[]): void {
    this.#o.engine.step(now, input, this.#effects);
    this.#route(now, out);
  }

  /** route carries out what the engine asked for, in order. What that leads to may ask more of the engine, which is then done in turn. */
  #route(now: Now, out: ReplicaEffect<F>[]): void {
    if (this.#routing) return;
    this.#routing = true;
    for (let effect = this.#effects.shift(); effect !== undefined; effect = this.#effects.shift()) this.#one(now, effect, out);
    this.#routing = false;
    const { quorum } = this.#o.engine.status(now);
    if (quorum) this.#lostAt = undefined;
    else this.#lostAt ??= now.mono;
  }

  #one(now: Now, effect: EngineEffect<F>, out: ReplicaEffect<F>[]): void {
    switch (effect.kind) {
      case "send": {
        const frame = { kind: "engine", from: this.#o.self, to: effect.to, frame: effect.frame } as const;
        return void out.push({ kind: "send", peer: hubOf(effect.to), frame, early: effect.early });
      }
      case "committed":
        for (const entry of effect.entries) this.#apply(now, entry, out);
        this.#sendNext(now, out);
        return this.#serveReads(now, out);
      case "install":
        this.#o.state.load(this.#o.stateCodec.read(effect.snapshot.state));
        this.#caughtUp(now, out);
        out.push({ kind: "replaced" });
        return this.#serveReads(now, out);
      case "capture": {
        const state = this.#o.stateCodec.write(this.#o.state.dump());
        return this.#o.engine.step(now, { kind: "captured", index: this.#o.state.at.index, state }, this.#effects);
      }
      case "accepted":
        return void this.#asked.delete(effect.call);
      case "readable":
        return this.#readable(now, effect.call, effect.index, out);
      case "refused":
        return this.#engineRefused(now, effect.call, effect.failure, out);
      case "role":
        this.#ledTerm = effect.role === "leader" ? effect.term : 0;
        this.#durable = 0;
        this.#follow(now, leaderIn(effect), out);
        return void out.push(effect);
      case "done": {
        const call = this.#controls.get(effect.call) ?? 0;
        this.#controls.delete(effect.call);
        if (call !== 0) out.push({ kind: "done", call });
        return this.#handovers.over(now, effect.call, undefined, out);
      }
      case "persist":
      case "stored":
      case "evidence":
      case "observe":
        return void out.push(effect);
    }
  }

  #apply(now: Now, entry: Committed, out: ReplicaEffect<F>[]): void {
    const { commands, news, dropped } = this.#o.state.apply(entry);
    for (const what of dropped) out.push({ kind: "observe", what: `dropped: ${what}` });
    out.push({ kind: "applied", entry, commands, news });
    for (const applied of commands) if (applied.author === this.#hub) this.#settle(now, applied, out);
    if (this.#o.proposer.isBehind(this.#o.state.position(this.#hub))) this.#caughtUp(now, out);
  }

  #settle(now: Now, applied: Applied, out: ReplicaEffect<F>[]): void {
    const call = this.#o.proposer.settle(now.mono, applied.session, applied.number);
    if (call === undefined) return;
    this.#ends.delete(call);
    out.push({ kind: "decided", call, applied, durable: applied.at.index <= this.#durable });
  }

  /** caughtUp deals with what was applied without being told here, and with a session of this hub that is larger than the present one. */
  #caughtUp(now: Now, out: ReplicaEffect<F>[]): void {
    const position = this.#o.state.position(this.#hub);
    const { session, last } = position;
    for (const call of this.#o.proposer.passOver(now.mono, session, last)) this.#refuse(call, UNKNOWN, out);
    if (this.#o.proposer.isBehind(position)) this.#o.proposer.renew(sessionAfter(session, now.wall, this.#o.start));
    this.#sendNext(now, out);
  }

  #follow(now: Now, leader: string | undefined, out: ReplicaEffect<F>[]): void {
    if (leader === this.#leader) return;
    this.#leader = leader;
    this.#handovers.turn(now, leader, out);
    if (leader === undefined) return;
    this.#send(now, this.#o.proposer.again(now.mono), out);
    this.#sendNext(now, out);
    this.#reads.again(now.mono);
    this.#askReads(now, out);
  }

  /** asks is the hub that takes commands and confirms reads. */
  get #asks(): string | undefined {
    return this.#o.leaderless ? this.#hub : this.#leader;
  }

  /** sendNext sends what waits. While nobody is known to take it it is not numbered either, so that it can still be refused (RO1). */
  #sendNext(now: Now, out: ReplicaEffect<F>[]): void {
    if (this.#asks !== undefined) this.#send(now, this.#o.proposer.next(now.mono), out);
  }

  #send(now: Now, batches: readonly Outgoing[], out: ReplicaEffect<F>[]): void {
    for (const { payload } of batches) {
      const leader = this.#asks;
      if (leader === undefined) return;
      if (leader !== this.#hub) out.push({ kind: "send", peer: leader, frame: { kind: "propose", payload }, early: true });
      else this.#o.engine.step(now, { kind: "propose", call: this.#nextCall++, payload }, this.#effects);
    }
    if (this.#effects.length > 0) this.#route(now, out);
  }

  #proposed(now: Now, peer: string, payload: Uint8Array, out: ReplicaEffect<F>[]): void {
    if (!this.#mayAsk(peer)) return void out.push({ kind: "observe", what: "stray_frame" });
    let batch: { readonly author: string; readonly session: number; readonly first: number };
    try {
      ({ batch } = readBatch(payload));
    } catch {
      return void out.push({ kind: "observe", what: "stray_frame" });
    }
    // A hub brings its own commands only; its session proves who it is, so that the signature is checked where it counts: in the log.
    if (batch.author !== peer) return void out.push({ kind: "observe", what: "stray_frame" });
    const call = this.#nextCall++;
    this.#asked.set(call, { peer, session: batch.session, first: batch.first });
    this.#step(now, { kind: "propose", call, payload }, out);
    this.#asked.delete(call);
  }

  #engineRefused(now: Now, call: number, failure: Failure, out: ReplicaEffect<F>[]): void {
    const leader = failure.facts?.["leader"] === undefined ? "" : hubOf(failure.facts["leader"]);
    const asked = this.#asked.get(call);
    if (asked !== undefined) {
      const frame = { kind: "declined", session: asked.session, first: asked.first, leader, failure } as const;
      return void out.push({ kind: "send", peer: asked.peer, frame, early: true });
    }
    const read = this.#reads.refused(call);
    if (read === "own") return this.#reads.again(now.mono);
    if (read !== undefined) {
      const frame = { kind: "read_answer", id: read.id, index: 0, failure } as const;
      return void out.push({ kind: "send", peer: read.peer, frame, early: true });
    }
    this.#handovers.over(now, call, failure, out);
    // A batch of our own that the engine did not take is sent again in time; what is left are controls.
    const control = this.#controls.get(call) ?? 0;
    this.#controls.delete(call);
    this.#refuse(control, failure, out);
  }

  #readable(now: Now, call: number, index: number, out: ReplicaEffect<F>[]): void {
    const read = this.#reads.confirmed(call, index);
    const frame = { kind: "read_answer", id: read?.id ?? 0, index, failure: undefined } as const;
    if (read !== undefined) out.push({ kind: "send", peer: read.peer, frame, early: true });
    this.#serveReads(now, out);
  }

  #askReads(now: Now, out: ReplicaEffect<F>[]): void {
    const leader = this.#asks;
    if (leader === undefined) return;
    const id = this.#reads.ask(this.#nextCall, now.mono);
    if (id === undefined) return;
    this.#nextCall++;
    this.#confirmer = leader;
    if (leader === this.#hub) this.#step(now, { kind: "read", call: id }, out);
    else out.push({ kind: "send", peer: leader, frame: { kind: "read_ask", id }, early: true });
  }

  #serveReads(now: Now, out: ReplicaEffect<F>[]): void {
    for (const call of this.#reads.served(this.#o.state.at.index)) out.push({ kind: "readable", call });
    if (this.#reads.waiting(now.mono)) this.#askReads(now, out);
  }

  #expire(now: Now, out: ReplicaEffect<F>[]): void {
    for (const [call, end] of this.#ends) {
      if (end > now.mono) break;
      this.#ends.delete(call);
      this.#refuse(
        call,
        this.#o.proposer.abandon(call) ? UNKNOWN : { reason: "DEADLINE_EXPIRED", message: "no decision in time; nothing was done" },
        out,
      );
    }
    for (const call of this.#reads.expired(now.mono)) this.#refuse(call, UNCONFIRMED, out);
    if (this.#refusal(now) === undefined) return;
    for (const call of this.#o.proposer.dropUnsent()) {
      this.#ends.delete(call);
      this.#refuse(call, this.#noQuorum(now), out);
    }
  }

  #refusal(now: Now, outcome = UNDONE): Failure | undefined {
    return this.#lostAt !== undefined && now.mono - this.#lostAt >= this.#o.graceMs ? this.#noQuorum(now, outcome) : undefined;
  }

  #noQuorum(now: Now, outcome = UNDONE): Failure {
    const hubs = this.#o.engine.status(now).membership.voters.map(hubOf).join(", ");
    const message = `fewer than a quorum of the federation's voters (${hubs}) are in contact; ${outcome} \`foedus federation status\` shows who is missing`;
    return { reason: "NO_QUORUM", message };
  }

  #refuse(call: number, failure: Failure, out: ReplicaEffect<F>[]): void {
    if (call !== 0) out.push({ kind: "refused", call, failure });
  }

  /** clockAt is when log time has to pass although nobody writes; only who leads sees to that. */
  #clockAt(now: Now): number | undefined {
    const due = this.#o.state.due();
    if (due === undefined || this.#leader !== this.#hub || due <= this.#clockWritten) return undefined;
    return now.mono + Math.max(0, due - this.#o.engine.time(now));
  }

  #passTime(now: Now, out: ReplicaEffect<F>[]): void {
    const due = this.#o.state.due();
    if (due === undefined || due > this.#o.engine.time(now) || this.#leader !== this.#hub || due <= this.#clockWritten) return;
    this.#clockWritten = due;
    this.submit(now, 0, { book: "clock" }, out);
  }
}

const leaderIn = ({ leader }: { readonly leader: ReplicaId | undefined }): string | undefined => leader && hubOf(leader);

const UNKNOWN: Failure = { reason: "OUTCOME_UNKNOWN", message: "no answer in time; it may still be decided: look before you repeat it" };

/** How a call ends without a quorum, and where to go on. */
const UNDONE = "nothing was done, and";
const UNREAD = "this read was not answered: `--local` shows what this hub has, and";

const UNCONFIRMED: Failure = { reason: "DEADLINE_EXPIRED", message: "who leads did not confirm the read in time; retry, or read locally" };
