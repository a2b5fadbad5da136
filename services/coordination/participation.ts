import type { Failure } from "#kernel/error.ts";
import type { Now } from "#kernel/instant.ts";
import { sameBytes } from "#kernel/wire/shape.ts";
import { BallotDesk } from "./ballots/desk.ts";
import { type Intent, Intents } from "./ballots/intents.ts";
import { Openings } from "./ballots/openings.ts";
import { commandCodec } from "./codec/commands.ts";
import { writeState } from "./codec/state.ts";
import { createReplica } from "./create-replica.ts";
import type { Begun } from "./formation/record.ts";
import { VoterRecord } from "./formation/voter-record.ts";
import { ClockTrust } from "./liveness/clock-trust.ts";
import { hubOf, type LogStatus, type Membership, type ReplicaId, replicaIdOf } from "./log/engine.ts";
import type { Replica } from "./log/replica.ts";
import type { ReplicaEffect, ReplicaFrame } from "./log/replica-messages.ts";
import type { Acquaintance } from "./members/acquaintance.ts";
import { introducedReplicas } from "./members/introduction.ts";
import { Recall } from "./members/memory.ts";
import type { Candidate, Remembered } from "./members/messages.ts";
import { noMember } from "./members/roster.ts";
import { Sponsor } from "./members/sponsor.ts";
import { type Errand, Steward } from "./members/steward.ts";
import type { Effect, EngineFrame, FederationStatus, Frame, Greeting, Query, Request } from "./messages.ts";
import type { AgentInput } from "./migration/hosting/messages.ts";
import type { Asked, PartGround } from "./part.ts";
import { createParts, type Parts } from "./parts.ts";
import type { CoordinationGround, SessionView } from "./ports.ts";
import { RAFT_TUNING } from "./raft/config.ts";
import type { LogCommand, News } from "./state/commands.ts";
import { evidenceOf, newsEvent } from "./state/events.ts";
import { FederationState } from "./state/federation-state.ts";
import { Records, refusedOfOthers } from "./state/records.ts";
import { StateDigest } from "./state/state-digest.ts";
import { answerQuery, statusView } from "./state/views.ts";

/** How often a leader looks whether the membership is as it should be, and a learner whether it has all, ms. */
const LOOK_MS = 500;

/** After so long a learner says again that it has all, ms. */
const READY_MS = 2_000;

/**
 * Participation is a hub's part in one federation: its replica of the log, the state that comes of it, and what keeps the replicas what the
 * members want them to be.
 *
 * PT1 while this hub leads, the engine is brought to the membership that the book of members wants, one change at a time (SW1).
 * PT2 a learner that has all that was decided says so, and may then get a seat.
 * PT3 a hub that left, or was removed, forgets the log once it is kept without it (SW3).
 */
export class Participation {
  readonly #ground: CoordinationGround;
  readonly #replica: Replica<EngineFrame>;
  readonly #self: ReplicaId;
  readonly #inContact: (peer: string) => boolean;
  readonly #asked = new Map<number, Asked>();
  readonly #records = new Records();
  readonly #effects: ReplicaEffect<EngineFrame>[] = [];
  readonly #steward: Steward;
  readonly #sponsor: Sponsor;
  readonly #openings: Openings;
  readonly #parts: Parts;
  readonly #intents: Intents;
  /** What peers are to be told, and commands of this hub itself, once the step is done. */
  readonly #errands: { readonly peer: string; readonly errand: Errand }[] = [];
  readonly #waiting: { readonly command: LogCommand | undefined; readonly call: number }[] = [];
  readonly #recall: Recall;
  readonly #clock: ClockTrust;
  readonly #digest: StateDigest;
  #due: number | undefined;
  readonly acquaintance: Acquaintance;
  readonly #voters: VoterRecord;
  readonly incarnation: number;
  /** Calls of its own, which nobody waits for, are below 0. */
  #nextOwn = -1;
  #lookAt: number;
  #readyAt = Number.NEGATIVE_INFINITY;
  #now: Now;
  isOver = false;

  constructor(ground: CoordinationGround, begun: Begun, now: Now, { inContact, keySaid }: SessionView) {
    const { founding, incarnation } = begun;
    const { hubId, crypto, prng } = ground;
    this.#voters = new VoterRecord(begun);
    this.#ground = ground;
    this.incarnation = incarnation;
    this.#self = replicaIdOf(hubId, incarnation);
    this.#inContact = inContact;
    this.#lookAt = now.mono + LOOK_MS;
    this.#now = now;
    this.#digest = new StateDigest((all) => ground.crypto.hash(writeState(all.dump())));
    const state = new FederationState({ crypto: ground.crypto, codec: commandCodec }, founding);
    const { members } = state.books;
    const step = (membership: Membership) => this.#steward.next({ membership });
    this.#replica = createReplica({ ground, begun, self: this.#self, state, now, keySaid, step });
    this.#recall = new Recall({ stored: ground.stored, engine: founding.founding.engine, incarnation, life: ground.life });
    const { electionMs, leaseDrift } = { ...RAFT_TUNING, ...ground.tuning.raft };
    // What a lease is shorter than the time in which nobody votes must not be slept through twice over without being noticed.
    this.#clock = new ClockTrust({ pauseMs: electionMs, stepMs: (electionMs * leaseDrift) / 2 });
    this.#steward = new Steward({
      hubId,
      incarnation,
      founding,
      federation: state.federation,
      members,
      membership: () => this.#replica.status(this.#now).membership,
      told: () => introducedReplicas(this.begun.voters),
      tell: (peer, errand) => void this.#errands.push({ peer, errand }),
    });
    this.acquaintance = this.#steward.acquaintance;
    const desk = new BallotDesk({ hubId, crypto, prng, members, ballots: state.books.ballots, at: () => state.at });
    const partGround: PartGround = {
      ground,
      self: this.#self,
      state,
      log: () => this.#replica.status(this.#now),
      inContact,
      submit: (command, then) =>
        this.#later(command, then === undefined ? undefined : (outcome, at, out) => outcome && then(outcome, at, out)),
      read: (then) =>
        this.#later(undefined, (outcome, at, out) => then(outcome?.kind === "refused" ? outcome.failure : undefined, at, out)),
    };
    this.#sponsor = new Sponsor({ federationId: this.federationId, crypto, members, submit: partGround.submit });
    this.#parts = createParts(partGround, now);
    this.#intents = new Intents(hubId, founding.founding, state.books, desk, keySaid);
    this.#openings = new Openings(desk, partGround.submit);
  }

  /** begun is the federation as it is stored. */
  get begun(): Begun {
    return this.#voters.begun;
  }

  get federationId(): string {
    return this.begun.founding.founding.federationId;
  }

  /** federation is its short id. */
  get federation(): Uint8Array {
    return this.#replica.state.federation;
  }

  call(now: Now, call: number, request: Exclude<Request, { kind: "status" | "found" | "join" | "leave" | "rejoin" }>, out: Effect[]): void {
    const part = this.#parts.all.find(({ requests }) => requests.includes(request.kind));
    if (part !== undefined) {
      part.call(now, call, request, out);
      return this.#route(now, out);
    }
    switch (request.kind) {
      case "log": {
        const { records, next } = this.#records.list(request.limit, request.before);
        return void out.push({ kind: "log", call, records, next });
      }
      case "transfer": {
        const member = this.#replica.state.books.members.member(request.hubId);
        if (member === undefined) return void out.push({ kind: "refused", call, failure: noMember(request.hubId, "to_hub_id") });
        this.#asked.set(call, { kind: "transfer" });
        this.#replica.transfer(now, call, replicaIdOf(member.hubId, member.incarnation), this.#effects);
        return this.#route(now, out);
      }
      case "query":
        if (request.local) return this.#local(now, call, request.query, out);
        this.#asked.set(call, { kind: "query", query: request.query });
        this.#replica.read(now, call, this.#effects);
        return this.#route(now, out);
      default: {
        const command = this.#intents.commandOf(request as Intent);
        if ("reason" in command) return void out.push({ kind: "refused", call, failure: command });
        this.#asked.set(call, { kind: "change" });
        this.#replica.submit(now, call, command, this.#effects);
        return this.#route(now, out);
      }
    }
  }

  /** leave gives up membership by this hub's own word, which has to be decided. */
  leave(now: Now, call: number, out: Effect[]): void {
    this.#asked.set(call, { kind: "leave" });
    this.#replica.submit(now, call, { book: "members", command: { kind: "leave" } }, this.#effects);
    this.#route(now, out);
  }

  /** enter is called first at each call: whether this hub was paused, or its clock stepped, decides how far it may rely on that. */
  enter(now: Now, out: Effect[]): void {
    const why = this.#clock.enter(now, this.#due);
    if (why === undefined) return;
    out.push({ kind: "observe", what: "clock_distrusted" });
    this.#replica.distrust(now, this.#clock.stoodStillMs, this.#effects);
    this.#route(now, out);
  }

  /** sponsor brings a hub's request to join, or to come back, into the log. */
  sponsor(now: Now, peer: string, candidate: Candidate, signature: Uint8Array, out: Effect[]): void {
    this.#steward.introduce(peer);
    this.#sponsor.ask(now, peer, candidate, signature, out);
    this.#route(now, out);
  }

  cancel(call: number): void {
    this.#asked.delete(call);
    this.#openings.cancel(call);
    this.#replica.cancel(call);
  }

  contact(now: Now, peer: string, up: boolean, out: Effect[]): void {
    if (!up) this.#steward.meet(peer, undefined);
    for (const part of this.#parts.all) part.contact(now, peer, up, out);
    const member = this.#replica.state.books.members.member(peer);
    if (member === undefined) return;
    this.#replica.hint(now, { kind: "reachable", replica: replicaIdOf(peer, member.incarnation), up }, this.#effects);
    this.#route(now, out);
  }

  /** greeted takes what a peer says of itself (CO4). It gives the reason if this replica is not to be trusted by what the peer remembers. */
  greeted(now: Now, peer: string, greeting: Greeting, out: Effect[]): string | undefined {
    this.#now = now;
    this.#steward.meet(peer, greeting);
    this.#tellErrands(out);
    const isFellow = this.#replica.state.books.members.member(peer) !== undefined && sameBytes(greeting.federation, this.federation);
    return isFellow ? this.#recall.greeted(peer, greeting, this.#replica.status(now)) : undefined;
  }

  /** introduce gives the founding entry to a member that has not begun. */
  introduce(peer: string, out: Effect[]): void {
    this.#steward.introduce(peer);
    this.#tellErrands(out);
  }

  /** dismissed takes a member's word that this replica does not keep the log any more. */
  dismissed(peer: string, incarnation: number): void {
    if (this.#steward.dismissed(peer, incarnation)) this.isOver = true;
  }

  /** partFrame gives a frame to the part that takes its kind. */
  partFrame(now: Now, peer: string, frame: Frame, out: Effect[]): void {
    this.#now = now;
    for (const part of this.#parts.all) if (part.frames.includes(frame.kind)) part.frame(now, peer, frame, out);
    this.#route(now, out);
  }

  /** agent gives the part that moves agents what the shell tells it. */
  agent(now: Now, input: AgentInput, out: Effect[]): void {
    this.#parts.mover.agent(now, input, out);
    this.#route(now, out);
  }

  frame(now: Now, peer: string, frame: ReplicaFrame<EngineFrame>, out: Effect[]): void {
    this.#recall.saw(peer, frame);
    this.#replica.frame(now, peer, frame, this.#effects);
    this.#route(now, out);
  }

  stored(now: Now, mark: { readonly term: number; readonly index: number }, out: Effect[]): void {
    this.#replica.stored(now, mark, this.#effects);
    this.#route(now, out);
  }

  tick(now: Now, out: Effect[]): void {
    this.#replica.tick(now, this.#effects);
    for (const part of this.#parts.all) part.tick(now, out);
    this.#route(now, out);
    if (now.mono < this.#lookAt) return;
    this.#lookAt = now.mono + LOOK_MS;
    this.#look(now, out);
    this.#route(now, out);
  }

  deadline(): number | undefined {
    const never = Number.POSITIVE_INFINITY;
    this.#due = Math.min(
      this.#replica.deadline(this.#now) ?? never,
      this.#lookAt,
      ...this.#parts.all.map((part) => part.deadline() ?? never),
    );
    return this.#due;
  }

  /** remembered is what this hub knows of a peer's replica. */
  remembered(peer: string): Remembered {
    return this.#recall.of(peer, this.#replica.status(this.#now));
  }

  logStatus(now: Now): LogStatus & { readonly applied: number; readonly members: number } {
    const { at, books } = this.#replica.state;
    return { ...this.#replica.status(now), applied: at.index, members: books.members.members().length };
  }

  status(now: Now, withDigest: boolean): Omit<FederationStatus, "invitations"> {
    const { state } = this.#replica;
    const digest = withDigest ? this.#digest.of(state, now) : new Uint8Array();
    const log = this.#replica.status(now);
    const inContact = (hubId: string): boolean => hubId === this.#ground.hubId || this.#inContact(hubId);
    return statusView(state, this.begun.founding, log, digest, { inContact, ...this.#steward.around(log) });
  }

  describe(): string {
    return [
      `federation=${this.federationId} replica=${this.#self} asked=${this.#asked.size}`,
      this.#replica.describe(),
      ...this.#parts.all.map((part) => part.describe()),
    ].join("\n");
  }

  #local(now: Now, call: number, query: Query, out: Effect[]): void {
    const { ageMs } = this.#replica.status(now);
    if (ageMs === undefined) {
      const message = "this hub does not know yet whether it has all that it had before it started; it will when a quorum is in contact";
      return void out.push({ kind: "refused", call, failure: { reason: "TOO_STALE", message } });
    }
    out.push({ kind: "queried", call, answer: answerQuery(this.#replica.state, query), applied: this.#replica.state.at.index, ageMs });
  }

  #route(now: Now, out: Effect[]): void {
    this.#now = now;
    do {
      for (let effect = this.#effects.shift(); effect !== undefined; effect = this.#effects.shift()) this.#one(now, effect, out);
      for (let next = this.#waiting.shift(); next !== undefined; next = this.#waiting.shift())
        if (next.command === undefined) this.#replica.read(now, next.call, this.#effects);
        else this.#replica.submit(now, next.call, next.command, this.#effects);
    } while (this.#effects.length + this.#waiting.length > 0);
    this.#tellErrands(out);
  }

  /** later puts a command of this hub itself, or a read, behind the present step. */
  #later(command: LogCommand | undefined, then?: Extract<Asked, { kind: "part" }>["then"]): void {
    const call = then === undefined ? 0 : this.#nextOwn--;
    if (then !== undefined) this.#asked.set(call, { kind: "part", then });
    this.#waiting.push({ command, call });
  }

  #tellErrands(out: Effect[]): void {
    for (const { peer, errand } of this.#errands.splice(0)) out.push({ kind: "send", peer, early: false, frame: errand });
  }

  #one(now: Now, effect: ReplicaEffect<EngineFrame>, out: Effect[]): void {
    switch (effect.kind) {
      case "send": {
        const { peer, frame, early } = effect;
        return void out.push({ kind: "send", peer, early, frame: { kind: "log", federation: this.federation, frame } });
      }
      case "decided":
        return this.#decided(now, effect, out);
      case "readable": {
        const asked = this.#take(effect.call);
        if (asked?.kind === "part") return asked.then(undefined, now, out);
        if (asked?.kind !== "query") return;
        const answer = answerQuery(this.#replica.state, asked.query);
        return void out.push({ kind: "queried", call: effect.call, answer, applied: this.#replica.state.at.index, ageMs: 0 });
      }
      case "done":
        if (this.#take(effect.call) !== undefined) out.push({ kind: "done", call: effect.call });
        return;
      case "refused":
        return this.#refused(now, effect.call, effect.failure, out);
      case "applied":
        this.#records.add(effect.entry, effect.commands);
        for (const what of refusedOfOthers(effect.commands, this.#ground.hubId)) out.push({ kind: "observe", what });
        if (effect.entry.membership !== undefined) this.#checkMembership();
        for (const news of effect.news) this.#onNews(now, news, out, effect.entry.time);
        return;
      case "replaced":
        for (const part of this.#parts.all) part.onReplaced(now, out);
        return this.#checkMembership();
      case "role":
        this.#lookAt = now.mono;
        return void out.push({ kind: "observe", what: `role_${effect.role}`, value: effect.term });
      case "evidence":
        return void out.push(...evidenceOf(hubOf(effect.against), effect.what, this.#ground.hubId));
      case "observe":
        if (effect.what === "snapshot_unproven") this.#steward.unproven(effect.value ?? 0);
        return void out.push(effect);
      case "persist":
      case "stored":
        return void out.push(effect);
    }
  }

  #decided(now: Now, { call, applied, durable: early }: Extract<ReplicaEffect<never>, { kind: "decided" }>, out: Effect[]): void {
    const { result, at } = applied;
    const asked = this.#take(call);
    if (asked === undefined) return;
    if (asked.kind === "part") return asked.then({ kind: "applied", applied }, now, out);
    if (!result.ok) return void out.push({ kind: "refused", call, failure: result.failure });
    if (asked.kind === "leave") return void out.push({ kind: "done", call });
    const answer = { kind: "changed", call, index: at.index, value: result.value, early } as const;
    if (!this.#openings.holds(answer)) out.push(answer);
  }

  #refused(now: Now, call: number, failure: Failure, out: Effect[]): void {
    const asked = this.#take(call);
    if (asked?.kind === "part") return asked.then({ kind: "refused", failure }, now, out);
    if (asked !== undefined) out.push({ kind: "refused", call, failure });
  }

  #take(call: number): Asked | undefined {
    const asked = this.#asked.get(call);
    this.#asked.delete(call);
    return asked;
  }

  #onNews(now: Now, { book, news }: News, out: Effect[], logTime: number): void {
    if (book === "members") {
      if (news.kind === "admitted" || news.kind === "replaced") this.#steward.introduce(news.hubId);
      this.#lookAt = Math.min(this.#lookAt, now.mono);
    }
    if (book === "ballots" && news.kind !== "fruitless") this.#openings.onNews(news);
    for (const part of this.#parts.all) part.onNews(now, { book, news } as News, out, logTime);
    const event = newsEvent({ book, news } as News, this.#ground.hubId);
    if (event !== undefined) out.push(event);
  }

  #checkMembership(): void {
    this.#steward.dismissAll();
    const isOutside = this.#replica.status(this.#now).role === "outside" && this.#replica.state.at.index > 0;
    if (this.#steward.hasGone && isOutside) this.isOver = true;
  }

  /** look does what has to be done from time to time (PT1, PT2). */
  #look(now: Now, out: Effect[]): void {
    const { members } = this.#replica.state.books;
    const status = this.#replica.status(now);
    if (this.#clock.heard(now, status.ageMs)) this.#replica.hint(now, { kind: "clock", trusted: true }, this.#effects);
    this.#recall.look(now, status, (hubId) => members.member(hubId) !== undefined, out);
    if (this.#steward.isMember) this.#voters.look(status.membership, members, out);
    this.#parts.sentry.refute();
    // Where nobody leads for longer than a round, every voter asks for what is wanted; it is decided once.
    const step =
      status.role === "leader" || (this.begun.founding.founding.engine === "bft" && status.membership.voters.includes(this.#self))
        ? this.#steward.next(status)
        : undefined;
    if (step !== undefined) this.#replica.reconfigure(now, 0, step.voters, step.learners, this.#effects);
    const own = members.member(this.#ground.hubId);
    const hasAll = (status.ageMs ?? Number.POSITIVE_INFINITY) < 2 * LOOK_MS;
    if (own?.incarnation !== this.incarnation || own.ready || !hasAll || now.mono < this.#readyAt) return;
    this.#readyAt = now.mono + READY_MS;
    this.#later({ book: "members", command: { kind: "ready", incarnation: this.incarnation } });
  }
}
