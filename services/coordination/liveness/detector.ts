import { assert } from "#kernel/assert.ts";
import type { Core } from "#kernel/core.ts";
import type { Now } from "#kernel/instant.ts";
import type { Prng } from "#kernel/prng.ts";
import { Longest } from "./arrivals.ts";
import { frameProblem, type Head, type LivenessFrame, PAUSE_MAX, type Suspect } from "./frames.ts";
import { LocalHealth, suspicionMs } from "./local-health.ts";
import type { LivenessEffect, LivenessInput, Member, ObservedWhat } from "./messages.ts";
import { OwnTime } from "./own-time.ts";
import { Relays } from "./relays.ts";
import { Roster } from "./roster.ts";
import { bootOf, type LivenessConfig, livenessProblem, RAISES } from "./settings.ts";
import type { Watched } from "./watched.ts";

/** Questions of one member that are answered between two beats: it has one in each of its own, those of its doubts, and those of relays. */
const ASKS_MAX = 32;
/** Confirmations that make a suspicion as short as it gets. */
const CONFIRMERS = 2;
/** Intervals that a helper waits for the answer, less than its asker does. */
const RELAY = 0.3;
/** Doubts in a row that a single helper may end. */
const VOUCHES_MAX = 8;
/** A failed hub that is not heard is pinged in every fifth beat. */
const FAILED_BEATS = 5;
/** Intervals to the first repetition of an accusation; the time doubles up to the longest. */
const REPEAT = 5;
const REPEAT_MAX = 60;
/** Intervals in which refutations forced by one member count once against the own health. */
const BLAME = 10;

/**
 * Detector tells members that are dead from those that are slow, and from its own slowness (SWIM with the rules of Lifeguard, arXiv
 * 1707.00788). It never decides: what it finds is a vote.
 *
 * LV1 what is late by d ms because this process did not run shifts every deadline by d: own time stops where it was to be called.
 * LV2 after a pause of half an interval or longer nobody is suspected for one interval, after a shorter one for twice as long.
 * LV3 the health score is 0 to 8; probes wait `score + 1` times as long, and follow each other so many times later.
 * LV4 how long a member may be silent lies between `floor` and `ceiling` intervals, and depends on that member and nobody else.
 * LV5 a silence beyond the ceiling, or across a restart, is an outage and teaches nothing; what was learned fades within `memory`.
 * LV6 a member is suspected only after `floor` intervals of silence in own time, after a probe of its own was not answered directly nor
 *    through the helpers that were asked, and never while this hub hears none of the others: then it is this hub that is cut off.
 * LV7 a member is accused only when it was suspected, has been told so before anybody else, and has neither refuted nor been heard since;
 *    never by a hub that hears no majority of the members.
 * LV8 an acknowledgement counts only with the nonce of a ping to its sender, or of a probe that its sender was asked for; a frame that is
 *    not newer than the sender's last one is no sign of life.
 * LV9 only a hub itself says its incarnation, and only what a hub suspects itself counts as its confirmation, once.
 * LV10 what a member sends takes bounded memory and is answered with a bounded number of frames per beat; its accusations raise the own
 *    incarnation at most once an interval, and the health score at most once in ten.
 * LV11 a probe for another member is answered exactly once; each has at most RELAYS_PER_ASKER at a time.
 * With fewer than three members there is nobody to ask: probes are direct, and `describe` says so.
 */
export class Detector implements Core<LivenessInput, LivenessEffect> {
  readonly #config: LivenessConfig;
  readonly #prng: Prng;
  readonly #own: OwnTime;
  readonly #health = new LocalHealth();
  readonly #relays = new Relays();
  /** Own pauses, as the others are told of them. */
  readonly #pauses: Longest;
  readonly #novice: Longest;
  readonly #members: Roster;
  #incarnation: number;
  #seq = 0;
  #raisedAt = Number.NEGATIVE_INFINITY;
  #beats = 0;
  #beatAt = 0;
  #watchAt = 0;
  /** Whether answers to the last beat can be counted: not across a pause. */
  #counts = false;
  #due: number | undefined;

  constructor(config: LivenessConfig, prng: Prng) {
    const problem = livenessProblem(config);
    assert(problem === undefined, problem ?? "");
    this.#config = config;
    this.#members = new Roster(config);
    this.#prng = prng;
    this.#pauses = new Longest(config.memory * config.intervalMs);
    // A time without pauses proves itself by passing.
    this.#novice = new Longest(config.novice * config.intervalMs);
    this.#own = new OwnTime(config.intervalMs / 2, config.intervalMs);
    this.#incarnation = config.boot * RAISES;
  }

  /** score is the local health: 0 to 8, 0 is best. */
  get score(): number {
    return this.#health.score;
  }

  /** heard lists the members, this hub included, that can take part in a decision as far as this hub can tell (for the quorum guard). */
  heard(): string[] {
    return [this.#config.hubId, ...this.#members.heard()].sort();
  }

  step(now: Now, input: LivenessInput, out: LivenessEffect[]): void {
    this.#enter(now, out);
    switch (input.kind) {
      case "members":
        this.#setMembers(input.members, out);
        break;
      case "frame":
        this.#frame(input.from, input.frame, out);
        break;
      case "link": {
        const member = this.#members.get(input.hub);
        if (member !== undefined) member.linkUp = input.up;
      }
    }
    this.#due = this.#dueAt();
  }

  tick(now: Now, out: LivenessEffect[]): void {
    this.#enter(now, out);
    const at = this.#own.now;
    if (at >= this.#beatAt) this.#beat(at, out);
    for (const { asker, nonce, subject } of this.#relays.expired(at))
      this.#send(asker, { ...this.#head(), kind: "nack", nonce, subject }, out);
    for (const member of this.#members.all()) this.#settle(member, at, out);
    this.#watchAt = at + Math.min(this.#config.intervalMs / 4, 1_000);
    this.#due = this.#dueAt();
  }

  deadline(): number | undefined {
    return this.#due === undefined ? undefined : this.#own.monoOf(this.#due);
  }

  describe(): string {
    const at = this.#own.now;
    const { hubId } = this.#config;
    const quiet = at < this.#own.quietUntil ? " quiet" : "";
    const head = `${hubId} incarnation=${this.#incarnation} health=${this.#health.score} paused=${Math.round(this.#own.paused)}${quiet}`;
    const alone = this.#members.size < 2 ? ["no indirect probes: they take three members"] : [];
    return [head, ...alone, ...[...this.#members.all()].map((member) => member.describe(at))].join("\n");
  }

  #enter(now: Now, out: LivenessEffect[]): void {
    const { ceiling, margin, novice, intervalMs } = this.#config;
    const pause = this.#own.enter(now, this.#due);
    if (this.#due === undefined && novice > 0) this.#novice.note((ceiling * intervalMs) / margin, this.#own.now);
    if (pause === 0) return;
    out.push({ kind: "observe", what: "pause", value: pause });
    this.#pauses.note(Math.min(pause, ceiling * intervalMs), this.#own.now);
    if (!this.#own.woke(pause)) return;
    this.#worse(Math.min(3, 1 + Math.floor(pause / intervalMs)), out);
    // The others have not heard this hub for as long, and what they answered to the last beat is behind the pause.
    this.#beatAt = this.#own.now;
    this.#counts = false;
  }

  #setMembers(members: readonly Member[], out: LivenessEffect[]): void {
    const beyond = this.#members.set(members, this.#own.now);
    if (beyond > 0) this.#observe("refused", beyond, undefined, "more members than can be watched", out);
    this.#relays.forget((hub) => this.#members.has(hub));
  }

  #frame(from: string, frame: LivenessFrame, out: LivenessEffect[]): void {
    const member = this.#members.get(from);
    const problem = member === undefined ? "the sender is no member" : frameProblem(from, frame);
    if (member === undefined || problem !== undefined) return this.#observe("refused", 1, from, problem, out);
    const { incarnation, seq } = frame;
    if (bootOf(incarnation) < bootOf(member.incarnation) || (bootOf(incarnation) === bootOf(member.incarnation) && seq <= member.seq))
      return this.#observe("refused", 1, from, "the frame is older than another one of its sender", out);
    this.#heard(member, incarnation, out);
    member.arrivals.said(frame.pauseMs);
    member.seq = seq;
    switch (frame.kind) {
      case "ping":
        this.#suspicions(member, frame.suspects, out);
        if (this.#mayAnswer(member, out))
          this.#send(from, { ...this.#head(), kind: "ack", nonce: frame.nonce, subject: "", suspects: this.#members.suspects(from) }, out);
        break;
      case "ack":
        this.#suspicions(member, frame.suspects, out);
        if (frame.subject === "") this.#answered(member, frame.nonce, out);
        else this.#helperSaid(member, frame, out);
        break;
      case "ping_req":
        this.#relay(member, frame.nonce, frame.subject, out);
        break;
      case "nack":
        this.#helperSaid(member, frame, out);
    }
  }

  /** A frame of a member itself: the best there is. */
  #heard(member: Watched, incarnation: number, out: LivenessEffect[]): void {
    const at = this.#own.now;
    const restarted = bootOf(incarnation) !== bootOf(member.incarnation);
    if (member.met && !restarted && !member.failed) member.arrivals.learn(at - member.heardAt, at);
    if (incarnation > member.incarnation) member.suspects = [];
    member.incarnation = Math.max(member.incarnation, incarnation);
    member.heardAt = at;
    member.met = true;
    member.vouches = 0;
    if (member.failed) member.backSince ??= at;
    this.#clear(member, out);
  }

  #clear(member: Watched, out: LivenessEffect[]): void {
    const { hub, incarnation, phase } = member;
    member.phase = "alive";
    member.holds = 0;
    if (phase === "accused") out.push({ kind: "withdraw", hub, incarnation });
    if (phase === "accused" || phase === "suspected") out.push({ kind: "cleared", hub, incarnation });
  }

  #suspicions(member: Watched, suspects: readonly Suspect[], out: LivenessEffect[]): void {
    member.suspects = suspects.filter(({ hub }) => this.#members.has(hub));
    const blame = suspects.find(({ hub }) => hub === this.#config.hubId);
    if (blame === undefined || blame.incarnation < this.#incarnation) return;
    if (blame.incarnation > this.#incarnation)
      return this.#observe("refused", 1, member.hub, "it suspects this hub at an incarnation that this hub never had", out);
    const at = this.#own.now;
    if (at < this.#raisedAt + this.#config.intervalMs || this.#incarnation % RAISES === RAISES - 1) return;
    this.#raisedAt = at;
    this.#incarnation++;
    if (at >= member.blamedAt + BLAME * this.#config.intervalMs) {
      member.blamedAt = at;
      this.#worse(1, out);
    }
    for (const each of this.#members.all()) this.#ping(each, out);
  }

  #mayAnswer(member: Watched, out: LivenessEffect[]): boolean {
    if (++member.asks <= ASKS_MAX) return true;
    this.#observe("refused", 1, member.hub, "it asks more often than is answered", out);
    return false;
  }

  #answered(member: Watched, nonce: number, out: LivenessEffect[]): void {
    if (!member.nonces.includes(nonce)) return this.#observe("refused", 1, member.hub, "it acknowledges what it was not asked", out);
    member.answered = true;
    const relay = this.#relays.answered(member.hub, nonce);
    if (relay === undefined) return;
    const { asker, subject } = relay;
    this.#send(asker, { ...this.#head(), kind: "ack", nonce: relay.nonce, subject, suspects: this.#members.suspects(asker) }, out);
  }

  #helperSaid(helper: Watched, frame: LivenessFrame & { kind: "ack" | "nack" }, out: LivenessEffect[]): void {
    const member = this.#members.get(frame.subject);
    const asked = member?.probe?.nonce === frame.nonce ? member.probe.helpers.find(({ hub }) => hub === helper.hub) : undefined;
    if (member === undefined || member.probe === undefined || asked === undefined || asked.said !== "nothing")
      return this.#observe("refused", 1, helper.hub, "it answers a probe that it was not asked for", out);
    asked.said = frame.kind;
    if (frame.kind === "nack" || member.failed) return;
    const acks = member.probe.helpers.filter(({ said }) => said === "ack").length;
    if (acks === 1 && ++member.vouches > VOUCHES_MAX)
      return this.#observe("refused", 1, helper.hub, `it alone has vouched for ${member.hub} again and again`, out);
    member.vouchedAt = this.#own.now;
    this.#clear(member, out);
  }

  #relay(asker: Watched, nonce: number, subject: string, out: LivenessEffect[]): void {
    if (subject === this.#config.hubId) return this.#observe("refused", 1, asker.hub, "it asks this hub to ping itself", out);
    if (!this.#mayAnswer(asker, out)) return;
    const member = this.#members.get(subject);
    const own = this.#nonce();
    const endsAt = this.#own.now + RELAY * this.#config.intervalMs;
    if (member !== undefined && this.#relays.add({ asker: asker.hub, nonce, own, subject, endsAt })) this.#ping(member, out, own);
    else this.#send(asker.hub, { ...this.#head(), kind: "nack", nonce, subject }, out);
  }

  #beat(at: number, out: LivenessEffect[]): void {
    this.#judge(at, out);
    this.#beats++;
    for (const member of this.#members.all()) {
      member.asks = 0;
      member.answered = false;
      member.asked = !member.failed && member.phase === "alive" && member.met;
      if (!member.failed || member.backSince !== undefined || this.#beats % FAILED_BEATS === 0) this.#ping(member, out);
    }
    this.#beatAt = at + this.#config.intervalMs;
    this.#counts = true;
  }

  /** One member that does not answer says nothing about this hub; most of them at once do. */
  #judge(at: number, out: LivenessEffect[]): void {
    if (!this.#counts || at < this.#own.quietUntil) return;
    const asked = [...this.#members.all()].filter((member) => member.asked);
    const missed = asked.filter((member) => !member.answered).length;
    if (missed * 2 > asked.length) this.#worse(1, out);
    else if (missed * 4 <= asked.length) this.#better(out);
  }

  #settle(member: Watched, at: number, out: LivenessEffect[]): void {
    if (member.failed) return this.#settleFailed(member, at, out);
    if (at < this.#verdictAt(member)) return;
    switch (member.phase) {
      case "alive":
        member.phase = "probing";
        return this.#probe(member, at, out);
      case "probing":
        return this.#verdict(member, at, out);
      default:
        if (at >= this.#reprobeAt(member)) this.#probe(member, at, out);
        if (at >= this.#accuseAt(member)) this.#accuse(member, at, out);
    }
  }

  #settleFailed(member: Watched, at: number, out: LivenessEffect[]): void {
    if (at - member.heardAt > this.#config.floor * this.#config.intervalMs) member.backSince = undefined;
    if (at < this.#verdictAt(member)) return;
    const { hub, incarnation, stableMs } = member;
    member.returnedAt = at;
    out.push({ kind: "returned", hub, incarnation, stableMs });
  }

  #probe(member: Watched, at: number, out: LivenessEffect[]): void {
    const { helpers, probe, intervalMs } = this.#config;
    const able = this.#members.others(member).filter((other) => other.phase === "alive" && other.met);
    for (let i = 0; i < Math.min(helpers, able.length); i++) {
      const j = i + this.#prng.below(able.length - i);
      [able[i], able[j]] = [able[j] as Watched, able[i] as Watched];
    }
    const asked = able.slice(0, helpers);
    const nonce = this.#nonce();
    const endsAt = at + probe * intervalMs * this.#health.factor;
    member.probe = { nonce, at, endsAt, helpers: asked.map(({ hub }) => ({ hub, said: "nothing" })) };
    this.#ping(member, out, nonce);
    for (const { hub } of asked) this.#send(hub, { ...this.#head(), kind: "ping_req", nonce, subject: member.hub }, out);
  }

  #verdict(member: Watched, at: number, out: LivenessEffect[]): void {
    const others = this.#members.others(member);
    const helpers = member.probe?.helpers ?? [];
    if (others.length > 0 && this.#members.freshOthers(member, at) === 0) {
      this.#hold(member, at, "this hub hears none of the others", out);
      return;
    }
    if (helpers.length > 0 && helpers.every(({ said }) => said === "nothing") && member.holds === 0) {
      this.#hold(member, at, "none of those who were asked said anything", out);
      return;
    }
    const { hub, incarnation } = member;
    member.phase = "suspected";
    member.suspectedAt = at;
    member.accuseAt = at;
    member.accusations = 0;
    const through = helpers.length === 0 ? "directly; nobody could be asked" : `directly, nor through ${helpers.length} others`;
    out.push({ kind: "suspected", hub, incarnation, why: `no answer in ${Math.round(at - member.aliveAt)} ms, ${through}` });
    // The suspect hears of it first, so that it can refute before anybody acts on it.
    this.#ping(member, out);
    for (const other of others) this.#ping(other, out);
  }

  #hold(member: Watched, at: number, why: string, out: LivenessEffect[]): void {
    member.holds++;
    this.#observe("held", at - member.aliveAt, member.hub, why, out);
    this.#worse(1, out);
    this.#probe(member, at, out);
  }

  #accuse(member: Watched, at: number, out: LivenessEffect[]): void {
    const { intervalMs } = this.#config;
    const well = this.#members.heard().filter((other) => other !== member.hub).length;
    if ((well + 1) * 2 <= this.#members.size + 1) {
      member.accuseAt = at + intervalMs;
      this.#observe("held", at - member.aliveAt, member.hub, `of ${this.#members.size} others ${well} are heard: no majority`, out);
      return;
    }
    const { hub, incarnation } = member;
    const confirmations = this.#members.confirmations(member);
    const silentMs = Math.round(at - member.aliveAt);
    member.phase = "accused";
    member.accuseAt = at + Math.min(REPEAT_MAX, REPEAT * 2 ** member.accusations++) * intervalMs;
    const why = `silent for ${silentMs} ms; ${confirmations} others found the same`;
    out.push({ kind: "accuse", hub, incarnation, silentMs, confirmations, why });
  }

  /** When `settle` has something to do for a member. Nothing is found while what came during a pause may not have been read. */
  #verdictAt(member: Watched): number {
    const { quietUntil } = this.#own;
    if (member.failed)
      return member.backSince === undefined
        ? Number.POSITIVE_INFINITY
        : Math.max(quietUntil, member.backSince + member.stableMs, member.returnedAt + member.stableMs);
    switch (member.phase) {
      case "alive":
        return Math.max(quietUntil, member.probeAt(this.#own.now));
      case "probing":
        return Math.max(quietUntil, member.probe?.endsAt ?? 0);
      default:
        return Math.max(quietUntil, Math.min(this.#accuseAt(member), this.#reprobeAt(member)));
    }
  }

  #accuseAt(member: Watched): number {
    if (member.phase === "accused") return member.accuseAt;
    const { intervalMs, confirmedAfter, unconfirmedAfter } = this.#config;
    const wanted = Math.min(CONFIRMERS, this.#members.others(member).length);
    const after = suspicionMs(this.#members.confirmations(member), wanted, confirmedAfter * intervalMs, unconfirmedAfter * intervalMs);
    return Math.max(member.accuseAt, member.suspectedAt + after);
  }

  #reprobeAt(member: Watched): number {
    return (member.probe?.at ?? 0) + this.#config.intervalMs * this.#health.factor;
  }

  #dueAt(): number {
    let due = Math.min(this.#beatAt, this.#watchAt, this.#relays.dueAt);
    for (const member of this.#members.all()) due = Math.min(due, this.#verdictAt(member));
    return Math.max(due, this.#own.now);
  }

  #ping(member: Watched, out: LivenessEffect[], nonce = this.#nonce()): void {
    member.expect(nonce);
    this.#send(member.hub, { ...this.#head(), kind: "ping", nonce, suspects: this.#members.suspects(member.hub) }, out);
  }

  #head(): Head {
    const at = this.#own.now;
    const pauseMs = Math.min(PAUSE_MAX, Math.round(Math.max(this.#pauses.ms(at), this.#config.novice > 0 ? this.#novice.ms(at) : 0)));
    return { incarnation: this.#incarnation, seq: ++this.#seq, pauseMs };
  }

  #nonce(): number {
    return 1 + this.#prng.u32() * 2 ** 20 + (this.#prng.u32() >>> 12);
  }

  #send(to: string, frame: LivenessFrame, out: LivenessEffect[]): void {
    out.push({ kind: "send", to, frame });
  }

  #worse(reasons: number, out: LivenessEffect[]): void {
    const before = this.#health.score;
    this.#health.worse(reasons);
    if (this.#health.score !== before) this.#observe("health", this.#health.score, undefined, undefined, out);
  }

  #better(out: LivenessEffect[]): void {
    const before = this.#health.score;
    this.#health.better();
    if (this.#health.score !== before) this.#observe("health", this.#health.score, undefined, undefined, out);
  }

  #observe(what: ObservedWhat, value: number, hub: string | undefined, why: string | undefined, out: LivenessEffect[]): void {
    out.push({ kind: "observe", what, value, ...(hub === undefined ? {} : { hub }), ...(why === undefined ? {} : { why }) });
  }
}
