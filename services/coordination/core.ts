import { assert } from "#kernel/assert.ts";
import type { Core, StoreOp } from "#kernel/core.ts";
import type { Failure } from "#kernel/error.ts";
import type { Now } from "#kernel/instant.ts";
import { sameBytes } from "#kernel/wire/shape.ts";
import { Formation } from "./formation/formation.ts";
import { JoinCalls } from "./formation/join-calls.ts";
import { OpenCalls } from "./formation/open-calls.ts";
import { type Begun, beginning, ending, lastIncarnation, SPACE, storedFederation } from "./formation/record.ts";
import { alreadyIn, declined, lastVoice, NONE, notIn, over } from "./formation/refusals.ts";
import { storedWayBack, WayBack, type WayBackGround } from "./formation/way-back.ts";
import type { LogStatus, StoredLog } from "./log/engine.ts";
import type { Candidate } from "./members/messages.ts";
import type { Effect, Event, FederationStatus, FormationFrame, Frame, Greeting, Input, Request } from "./messages.ts";
import type { AgentInput } from "./migration/hosting/messages.ts";
import { Participation } from "./participation.ts";
import type { CoordinationGround } from "./ports.ts";
import { outsideView } from "./state/views.ts";

/** WITNESS_SPACE is where the store holds the number that is kept beside it too. It outlives the federation. */
export const WITNESS_SPACE = "witness";

/** Peer is what is known of another hub while its session is up. */
interface Peer {
  greeting: Greeting | undefined;
  /** Its greeting on this session was answered by ours: what we said first may have come before its side of the session stood. */
  answered: boolean;
}

/** Program is what a program with agents said of itself last. */
type Program = Extract<AgentInput, { kind: "host" }>;

/**
 * CoordinationCore is a hub's part in deciding together: without a federation it waits to found or join one, and as a member of one it
 * takes part in its log.
 *
 * CO1 what a hub says of itself, and every frame of the log, is believed only from that hub's own session.
 * CO2 a hub belongs to one federation at a time; frames of any other have no effect.
 * CO3 a restart goes on with what was durable: the federation, the replica's number, the log.
 * CO4 a member that this hub has a session with and that has not begun yet gets the founding entry, whenever the session comes up.
 * CO5 no replica of this hub ever has the number of an earlier one, also not after it left without the others' word and forgot its log.
 * CO6 two hubs with a session know what the other says of itself, whichever side of the session stood first.
 * CO7 the store holds a number that changes at every start, every clean stop and now and then, and its shell keeps the same beside the store.
 *    A hub whose store is another one than that which ran last, or that hears that it had more, takes no part until it has another replica.
 * CO8 who asks a hub to be let in that is no member hears that, and asks again when that hub has become one.
 */
export class CoordinationCore implements Core<Input, Effect> {
  readonly #ground: CoordinationGround;
  readonly #formation: Formation;
  readonly #joins = new JoinCalls();
  readonly #open = new OpenCalls();
  readonly #peers = new Map<string, Peer>();
  /** Programs that have agents, by number. */
  readonly #programs = new Map<number, Program>();
  #part: Participation | undefined;
  /** The largest incarnation that a replica of this hub ever had. */
  #last = 0;
  /** The way to another replica, while the one that is stored takes no part. */
  #back: WayBack | undefined;
  /** What is to be written before anything else. */
  readonly #first: StoreOp[] = [];

  constructor(ground: CoordinationGround) {
    this.#ground = ground;
    this.#formation = new Formation({
      hubId: ground.hubId,
      crypto: ground.crypto,
      own: (incarnation) => this.#own(incarnation),
      draw: () => this.#draw(),
      candidateOf: (peer) => this.#peers.get(peer)?.greeting?.candidate,
    });
  }

  /** restore goes on with what the store has; it throws what is wrong with that. */
  restore(now: Now): void {
    this.#formation.restore(this.#ground.stored.get(SPACE, Formation.key));
    const begun = storedFederation(this.#ground.stored);
    this.#last = Math.max(lastIncarnation(this.#ground.stored), begun?.incarnation ?? 0);
    if (begun === undefined) return;
    const record = storedWayBack(this.#ground.stored);
    if (record !== undefined) this.#back = new WayBack(this.#wayBackGround, begun, record);
    else if (this.#ground.doubt === undefined) this.#part = this.#partOf(this.#ground, begun, now);
    else {
      this.#back = WayBack.begin(this.#wayBackGround, begun, this.#ground.doubt);
      this.#first.push(this.#back.keeping());
    }
  }

  step(instant: Now, input: Input, out: Effect[]): void {
    const now = whole(instant);
    this.#writeFirst(out);
    this.#part?.enter(now, out);
    this.#take(now, input, out);
    this.#finish(now, out);
  }

  #take(now: Now, input: Input, out: Effect[]): void {
    switch (input.kind) {
      case "call":
        return this.#call(now, input.call, input.request, out);
      case "cancel":
        for (const calls of [this.#joins, this.#open]) calls.cancel(input.call);
        return this.#part?.cancel(input.call);
      case "up":
        // A session that takes the place of another: the peer may have moved first, and what it said there stands.
        this.#peers.set(input.peer, { greeting: this.#peers.get(input.peer)?.greeting, answered: false });
        this.#greet(input.peer, out);
        this.#formation.up(input.peer, out);
        return this.#part?.contact(now, input.peer, true, out);
      case "down":
        this.#peers.delete(input.peer);
        this.#back?.lost(input.peer);
        return this.#part?.contact(now, input.peer, false, out);
      case "frame":
        return this.#frame(now, input.peer, input.frame, out);
      case "agent":
        return this.#agent(now, input.input, out);
      case "stored":
        return this.#part?.stored(now, input.mark, out);
      case "witness": {
        const bytes = new TextEncoder().encode(input.value);
        out.push({ kind: "persist", ops: [{ op: "put", space: WITNESS_SPACE, key: "value", bytes }] });
        return void out.push({ kind: "witnessed", value: input.value });
      }
    }
  }

  tick(instant: Now, out: Effect[]): void {
    const now = whole(instant);
    this.#writeFirst(out);
    this.#part?.enter(now, out);
    this.#back?.tick(now, out);
    this.#part?.tick(now, out);
    this.#settle(now, out);
    this.#finish(now, out);
  }

  #finish(now: Now, out: Effect[]): void {
    this.#formation.tick(now, out);
    this.#joins.look(now, this.#standing, this.#formation.answer, out);
    this.#open.answered(out);
  }

  deadline(): number | undefined {
    const [first] = [this.#joins.deadline(), this.#formation.deadline()].filter((at) => at !== undefined).sort((a, b) => a - b);
    return this.#part?.deadline() ?? this.#back?.deadline() ?? first;
  }

  describe(): string {
    const peers = [...this.#peers]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([peer, { greeting }]) => `${peer}${greeting === undefined ? "?" : ""}`);
    return [this.#formation.describe(), `peers=${peers.join(",")}`, this.#part?.describe() ?? this.#back?.describe() ?? ""]
      .join("\n")
      .trimEnd();
  }

  /** logStatus is how the log stands at this hub; undefined without a federation. For metrics. */
  logStatus(now: Now): (LogStatus & { readonly applied: number; readonly members: number }) | undefined {
    return this.#part?.logStatus(now);
  }

  #call(now: Now, call: number, request: Request, out: Effect[]): void {
    switch (request.kind) {
      case "status":
        return void out.push({ kind: "status", call, status: this.#status(now, request.withDigest === true) });
      case "found": {
        if (this.#part?.federationId === request.federationId) return void out.push({ kind: "standing", call, standing: "member" });
        const present = this.#part ?? this.#back;
        const begun = present === undefined ? this.#formation.found(request, out) : alreadyIn(present.federationId);
        if (begun !== undefined && "reason" in begun) return void out.push({ kind: "refused", call, failure: begun });
        if (begun !== undefined) this.#begin(now, begun, out);
        return void out.push({ kind: "standing", call, standing: this.#standing });
      }
      case "join": {
        if (this.#part?.federationId === request.federationId) return void out.push({ kind: "standing", call, standing: "member" });
        const present = this.#part ?? this.#back;
        const failure =
          present === undefined ? this.#formation.join(request.federationId, request.via, out) : alreadyIn(present.federationId);
        if (failure !== undefined) return void out.push({ kind: "refused", call, failure });
        return this.#joins.wait(now, call);
      }
      case "leave":
        return this.#leave(now, call, request.federationId, request.force, out);
      case "rejoin":
        return this.#rejoin(now, call, request.federationId, request.trust, out);
      default:
        if (this.#back !== undefined)
          return void out.push({ kind: "refused", call, failure: { reason: "TOO_STALE", message: this.#back.problem } });
        if (this.#part === undefined) return void out.push({ kind: "refused", call, failure: NONE });
        this.#open.add(call);
        this.#part.call(now, call, request, out);
        return this.#settle(now, out);
    }
  }

  #leave(now: Now, call: number, federationId: string, force: boolean, out: Effect[]): void {
    if (this.#part === undefined && this.#formation.federationId === federationId) {
      this.#formation.leave(out);
      return void out.push({ kind: "done", call });
    }
    if (this.#back?.federationId === federationId) {
      if (!force) return void out.push({ kind: "refused", call, failure: { reason: "TOO_STALE", message: this.#back.problem } });
      this.#end(out);
      return void out.push({ kind: "done", call });
    }
    if (this.#part === undefined || this.#part.federationId !== federationId) {
      return void out.push({ kind: "refused", call, failure: notIn(federationId) });
    }
    if (!force) {
      this.#open.add(call);
      return this.#part.leave(now, call, out);
    }
    this.#end(out);
    out.push({ kind: "done", call });
  }

  /** rejoin gives up this replica for another one, or goes on with one that was not trusted, by its operator's word. */
  #rejoin(now: Now, call: number, federationId: string, trust: boolean, out: Effect[]): void {
    const refuse = (failure: Failure): void => void out.push({ kind: "refused", call, failure });
    if ((this.#part ?? this.#back)?.federationId !== federationId) return refuse(notIn(federationId));
    if (this.#back !== undefined && trust) {
      const { begun } = this.#back;
      out.push({ kind: "persist", ops: [this.#back.forgetting()] });
      this.#back = undefined;
      out.push(event("warning", "trusted", "this hub takes part again with the store that it has, by its operator's word"));
      this.#part = this.#partOf(this.#ground, begun, now);
      this.#meetAll(now, out);
    } else if (this.#back !== undefined) this.#back.again(now, out);
    else if (!trust && this.#part !== undefined) {
      const failure = lastVoice(this.#part.logStatus(now), this.#ground.hubId);
      if (failure !== undefined) return refuse(failure);
      this.#distrust(now, "its operator gave it up", out);
    }
    out.push({ kind: "standing", call, standing: this.#standing });
  }

  /** distrust ends this replica's part at once, and has the hub come back with another one. */
  #distrust(now: Now, why: string, out: Effect[]): void {
    const part = this.#part;
    if (part === undefined) return;
    this.#back = WayBack.begin(this.#wayBackGround, part.begun, why);
    this.#open.end({ reason: "OUTCOME_UNKNOWN", message: `${this.#back.problem}; what was asked may still be decided` }, out);
    this.#part = undefined;
    out.push({ kind: "persist", ops: [this.#back.keeping()] });
    out.push(event("error", "distrusted", `this hub takes no part in the federation until it has another replica: ${why}`));
    for (const peer of this.#peers.keys()) this.#greet(peer, out);
    for (const [peer, { greeting }] of this.#peers) if (greeting !== undefined) this.#back.met(now, peer, greeting.federation, out);
  }

  #frame(now: Now, peer: string, frame: Frame, out: Effect[]): void {
    switch (frame.kind) {
      case "greeting":
        return this.#greeted(now, peer, frame, out);
      case "log":
        // Before the greeting it is not known yet whether this replica is to be trusted (CO7).
        if (this.#part === undefined || !this.#isMet(peer) || !sameBytes(frame.federation, this.#part.federation))
          return void out.push({ kind: "observe", what: "stray_frame" });
        // Nor does who is no member keep the log, or lead it.
        if (frame.frame.kind === "engine" && !this.#part.acquaintance.takes(peer))
          return void out.push({ kind: "observe", what: "stray_frame" });
        this.#part.frame(now, peer, frame.frame, out);
        return this.#settle(now, out);
      case "dismissed":
        if (this.#part === undefined || !sameBytes(frame.federation, this.#part.federation)) return;
        this.#part.dismissed(peer, frame.incarnation);
        return this.#settle(now, out);
      case "join_ask":
        return this.#joinAsked(now, peer, frame, out);
      case "founding_consent":
        // Whose consent comes again has not heard that all have signed: it gets the founding entry (CO4).
        if (this.#part?.federationId === frame.federationId) return this.#part.introduce(peer, out);
        return this.#formed(now, peer, frame, out);
      case "founding_offer":
      case "founded":
      case "join_answer":
        return this.#formed(now, peer, frame, out);
      default:
        this.#part?.partFrame(now, peer, frame, out);
        return this.#settle(now, out);
    }
  }

  /** joinAsked says to who asks here by mistake whose member this hub is; one that is on its way into the same is asked again (CO8). */
  #joinAsked(now: Now, peer: string, asked: Extract<FormationFrame, { kind: "join_ask" }>, out: Effect[]): void {
    const { federationId, candidate, signature } = asked;
    if (candidate.hubId !== peer) return;
    if (this.#part?.federationId === federationId) return this.#part.sponsor(now, peer, candidate, signature, out);
    const present = this.#part ?? this.#back;
    const own = (present ?? this.#formation).federationId;
    if (own === federationId) return;
    const frame = declined(federationId, { federationId: own, member: present !== undefined });
    out.push({ kind: "send", peer, early: false, frame });
  }

  #isMet(peer: string): boolean {
    return this.#peers.get(peer)?.greeting !== undefined;
  }

  #formed(now: Now, peer: string, frame: FormationFrame, out: Effect[]): void {
    if (this.#part !== undefined) return void this.#formation.frame(peer, frame, out);
    const begun = this.#back === undefined ? this.#formation.frame(peer, frame, out) : this.#back.frame(peer, frame, out);
    if (begun !== undefined) this.#begin(now, begun, out);
  }

  #agent(now: Now, input: AgentInput, out: Effect[]): void {
    if (input.kind === "host") {
      this.#programs.set(input.host, input);
      if (this.#part === undefined) this.#refuseAgents(input, out);
    } else if (input.kind === "host_gone") this.#programs.delete(input.host);
    this.#part?.agent(now, input, out);
    this.#settle(now, out);
  }

  /** refuseAgents tells a program that its agents do not run, as there is no federation that says whose they are. */
  #refuseAgents({ host, offer }: Program, out: Effect[]): void {
    const agents = offer.agents.map(({ agent }) => ({ agent, fence: 0, runs: false, movedTo: "", failure: NONE }));
    out.push({ kind: "agent", effect: { kind: "hosted", host, agents } });
  }

  #greeted(now: Now, peer: string, greeting: Greeting, out: Effect[]): void {
    const known = this.#peers.get(peer);
    if (known === undefined || (greeting.candidate !== undefined && greeting.candidate.hubId !== peer)) return;
    const before = known.greeting?.federation ?? greeting.federation;
    known.greeting = greeting;
    if (!sameBytes(before, greeting.federation)) this.#formation.up(peer, out);
    if (!known.answered) {
      known.answered = true;
      this.#greet(peer, out);
    }
    const doubt = this.#part?.greeted(now, peer, greeting, out);
    if (doubt !== undefined) this.#distrust(now, doubt, out);
    else this.#back?.met(now, peer, greeting.federation, out);
  }

  #begin(now: Now, begun: Begun, out: Effect[]): void {
    assert(this.#part === undefined, "a hub belongs to one federation at a time");
    this.#last = Math.max(this.#last, begun.incarnation);
    out.push({ kind: "persist", ops: [...ending(this.#ground.stored), ...beginning(begun, this.#last)] });
    const { federationId } = begun.founding.founding;
    const again = this.#back === undefined ? "" : `, with another replica`;
    this.#back = undefined;
    // What is stored is of no federation, or of the replica before; it goes with the write above.
    this.#part = this.#partOf({ ...this.#ground, stored: NOTHING_STORED }, begun, now);
    out.push(event("info", "federated", `this hub belongs to federation ${federationId} now${again}`));
    this.#meetAll(now, out);
  }

  #meetAll(now: Now, out: Effect[]): void {
    for (const program of this.#programs.values()) this.#part?.agent(now, program, out);
    for (const [peer, { greeting }] of this.#peers) {
      this.#greet(peer, out);
      this.#part?.contact(now, peer, true, out);
      if (greeting !== undefined) this.#part?.greeted(now, peer, greeting, out);
    }
  }

  /** settle ends the part of a hub that left, and tells the others of members who came. */
  #settle(_now: Now, out: Effect[]): void {
    if (this.#part?.isOver === true) this.#end(out);
    else if (this.#part?.acquaintance.isWider() === true) for (const peer of this.#peers.keys()) this.#greet(peer, out);
  }

  #end(out: Effect[]): void {
    const federationId = (this.#part ?? this.#back)?.federationId ?? "";
    out.push({ kind: "persist", ops: ending(this.#ground.stored) });
    this.#open.end(over(federationId), out);
    this.#part = undefined;
    this.#back = undefined;
    // Where members are dialled is for its operator to say again.
    out.push({ kind: "dialled", members: [], voters: [], confirmed: true });
    out.push(event("warning", "left", `this hub does not belong to federation ${federationId} any more`));
    for (const program of this.#programs.values()) this.#refuseAgents(program, out);
    for (const peer of this.#peers.keys()) this.#greet(peer, out);
  }

  get #standing(): FederationStatus["standing"] {
    if (this.#back !== undefined) return "returning";
    return this.#part === undefined ? this.#formation.standing : "member";
  }

  #partOf(ground: CoordinationGround, begun: Begun, now: Now): Participation {
    const keySaid = (peer: string): Uint8Array | undefined => this.#peers.get(peer)?.greeting?.candidate?.publicKey;
    return new Participation(ground, begun, now, { inContact: (peer) => this.#peers.has(peer), keySaid });
  }

  get #wayBackGround(): WayBackGround {
    const { hubId, crypto } = this.#ground;
    return { hubId, crypto, own: (incarnation) => this.#own(incarnation), draw: () => this.#draw() };
  }

  #draw(): number {
    return 1 + this.#ground.prng.u32();
  }

  /** #writeFirst writes what a start has found out. */
  #writeFirst(out: Effect[]): void {
    if (this.#first.length > 0) out.push({ kind: "persist", ops: this.#first.splice(0) });
  }

  #own(incarnation = this.#last + 1): Candidate {
    const { hubId, publicKey, sealingKey, endpoint } = this.#ground;
    return { hubId, incarnation, publicKey, sealingKey, weight: 1, primary: endpoint(), standbys: [] };
  }

  #greet(peer: string, out: Effect[]): void {
    const part = this.#part;
    out.push({
      kind: "send",
      peer,
      early: false,
      frame: {
        kind: "greeting",
        candidate: this.#own(),
        federation: part?.federation ?? new Uint8Array(),
        incarnation: part?.incarnation ?? 0,
        life: this.#ground.life,
        remembered: part?.remembered(peer) ?? { incarnation: 0, life: 0, term: 0, index: 0 },
        members: part?.acquaintance.named(peer) ?? [],
      },
    });
  }

  #status(now: Now, withDigest: boolean): FederationStatus {
    const invitations = this.#formation.invitations();
    if (this.#part !== undefined) return { ...this.#part.status(now, withDigest), invitations };
    const { federationId, problem = NONE.message } = this.#back ?? this.#formation;
    return { ...outsideView(this.#standing, federationId, problem), invitations };
  }
}

/** whole is an instant whose wall clock has whole milliseconds, as log time has. */
function whole({ mono, wall }: Now): Now {
  return { mono, wall: Math.floor(wall) };
}

function event(severity: Event["severity"], name: string, message: string): Event {
  return { kind: "event", severity, name, message, hubId: "" };
}

/** NOTHING_STORED is what a replica begins with. */
const NOTHING_STORED: StoredLog = { read: () => [], get: () => undefined, space: () => [] };
