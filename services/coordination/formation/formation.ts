import type { Crypto } from "#kernel/crypto.ts";
import type { Failure } from "#kernel/error.ts";
import type { Now } from "#kernel/instant.ts";
import { choice, decode, encode, message, type Of, part, problemOf, sameBytes, text, uint } from "#kernel/wire/shape.ts";
import { isIntroduction } from "../members/introduction.ts";
import {
  CANDIDATE,
  type Candidate,
  FOUNDING,
  type Founding,
  ID_BYTES,
  LOG_MAX,
  MEMBER_LIMITS,
  SIGNED_FOUNDING,
  type SignedFounding,
  VOTERS,
} from "../members/messages.ts";
import { foundingBytes, foundingProblem, joinBytes } from "../members/statements.ts";
import type { Effect, FormationFrame, FoundRequest, InvitationStatus, Standing } from "../messages.ts";
import type { JoinAnswer } from "./join-calls.ts";
import { numberProblem } from "./numbers.ts";
import { type Begun, SPACE } from "./record.ts";

const KEY = "formation";

/** A member that was asked too often is asked again after so long, ms: it brings one request of a hub into the log in this time. */
const AGAIN_MS = 10_000;

/** Weight of every founder in ballots. */
const WEIGHT = 1;

/** STAGE is how far a hub is on its way into a federation, as it is stored. */
const STAGE = choice({
  /** It founds one, and waits for others. */
  offering: message({ founding: part(1, SIGNED_FOUNDING) }),
  /** It has signed what a peer founds. */
  consenting: message({ founding: part(1, SIGNED_FOUNDING), from: text(2, ID_BYTES) }),
  /** It wants to become a member of one that a peer belongs to. */
  joining: message({ federationId: text(1, ID_BYTES), via: text(2, ID_BYTES), incarnation: uint(3, LOG_MAX) }),
});
type Stage = Of<typeof STAGE> | { readonly kind: "none" };

/** FormationGround is what the way into a federation needs. */
export interface FormationGround {
  readonly hubId: string;
  readonly crypto: Crypto;
  /** own is what this hub says of itself; without a number, with the least incarnation that it has never used. */
  readonly own: (incarnation?: number) => Candidate;
  /** draw gives a number for a replica that no replica of this hub is likely to have had: it may have been a member, and not know it. */
  readonly draw: () => number;
  /** candidateOf is what a peer says of itself on its session, which proves who says it; undefined if there is none now. */
  readonly candidateOf: (peer: string) => Candidate | undefined;
}

/**
 * Formation is the way of a hub into a federation: founding one alone or with peers, or joining one that a peer belongs to.
 *
 * FO1 a federation exists when each founder has signed the same founding entry. A founder signs only with its operator's word, and only
 *    if the entry has of every other founder exactly what that hub said of itself on its own session.
 * FO2 a hub is on the way into one federation at a time; what it signed or asked for survives its restart.
 * FO3 offers, consents and answers are sent again whenever a session comes up, so that none is lost with a connection.
 * FO4 all founders begin with the same weight: what one says of its own counts for nobody. Others are given by ballot.
 * FO5 whose word a hub takes for the state, which it has not seen come about, is said by the member through which it joins, and by nobody else.
 * FO6 that a member was asked too often ends nothing: what was asked may be before the members, and it is asked again after a while.
 */
export class Formation {
  readonly #ground: FormationGround;
  #stage: Stage = { kind: "none" };
  /** The newest offer of each peer. */
  readonly #invitations = new Map<string, SignedFounding>();
  #answer: JoinAnswer = "none";
  #againAt: number | undefined;

  constructor(ground: FormationGround) {
    this.#ground = ground;
  }

  get standing(): Standing {
    const { kind } = this.#stage;
    return kind === "offering" || kind === "consenting" ? "founding" : kind === "joining" ? "joining" : "none";
  }

  /** federationId is the federation that this hub is on its way into; empty for none. */
  get federationId(): string {
    const stage = this.#stage;
    if (stage.kind === "joining") return stage.federationId;
    return stage.kind === "none" ? "" : stage.founding.founding.federationId;
  }

  /** answer is what the member said that was asked last to let this hub in. */
  get answer(): JoinAnswer {
    return this.#answer;
  }

  /** problem says what is waited for, and what to do about it, for people; undefined if nothing is. */
  get problem(): string | undefined {
    const stage = this.#stage;
    if (stage.kind === "none") return undefined;
    const { federationId } = this;
    const otherwise = `or give it up with foedus federation leave ${federationId}`;
    if (stage.kind === "joining") {
      const { via } = stage;
      if (typeof this.#answer === "object")
        return `${this.#answer.message}. This hub asks again by itself; give it up with foedus federation leave ${federationId}`;
      if (this.#answer === "taken")
        return `the members of ${federationId} have to let this hub in: foedus federation admit ${this.#ground.hubId} at one of them, ${otherwise}`;
      return this.#ground.candidateOf(via) === undefined
        ? `this hub waits for a session with ${via}, to ask it to be let into ${federationId}: see to the link (foedus peers), ${otherwise}`
        : `this hub has asked ${via} to be let into ${federationId}, and waits for its answer: see whether ${via} is a member that can decide (foedus federation status), ${otherwise}`;
    }
    const { founding, signatures } = stage.founding;
    if (stage.kind === "consenting")
      return `this hub has joined ${federationId}, and waits until ${stage.from} says that all founders have: see to the link, ${otherwise}`;
    const missing = founding.founders.map(({ hubId }) => hubId).filter((hub) => signatures.every(({ hubId }) => hubId !== hub));
    return `this hub waits until ${missing.join(", ")} ${missing.length === 1 ? "has" : "have"} joined: foedus federation join ${federationId} there, ${otherwise}`;
  }

  /** restore reads what was stored; a problem with it is told as a text. */
  restore(stored: Uint8Array | undefined): void {
    if (stored === undefined) return;
    const decoded = decode(STAGE, stored);
    if (!decoded.ok) throw new RangeError(`what was stored of founding or joining a federation is damaged: ${decoded.problem}`);
    this.#stage = decoded.value;
  }

  /** found begins to found a federation; it is begun at once by a hub alone. */
  found(request: FoundRequest, out: Effect[]): Begun | Failure | undefined {
    if (this.#stage.kind === "offering" && this.federationId === request.federationId) return undefined;
    if (this.#stage.kind !== "none") return busy(this.federationId);
    const { hubId, crypto } = this.#ground;
    const hubs = [...new Set([hubId, ...request.founders])].sort((a, b) => (a < b ? -1 : 1));
    const founders: Candidate[] = [];
    for (const hub of hubs) {
      const candidate = hub === hubId ? this.#ground.own() : this.#ground.candidateOf(hub);
      if (candidate === undefined) return notThere(hub);
      if (candidate.weight !== WEIGHT) return uneven(candidate);
      founders.push(candidate);
    }
    const { federationId, engine, admission } = request;
    const founding: Founding = { federationId, name: request.name === "" ? federationId : request.name, engine, admission, founders };
    const problem = problemOf(FOUNDING, founding);
    if (problem !== undefined) return { reason: "INVALID_FIELD", message: `${problem.path} ${problem.message}`, field: problem.path };
    const { min, max } = VOTERS[engine];
    if (founders.length < min || founders.length > Math.min(max, MEMBER_LIMITS.founders))
      return {
        reason: "VALUE_OUT_OF_RANGE",
        message: `a federation that decides by ${engine} is founded by ${min} to ${max} hubs, not ${founders.length}; others join later`,
        field: "founders",
      };
    const signed: SignedFounding = { founding, signatures: [{ hubId, signature: crypto.sign(foundingBytes(founding)) }] };
    if (founders.length === 1) return this.#begin(signed, out);
    this.#keep({ kind: "offering", founding: signed }, out);
    for (const hub of hubs) if (hub !== hubId) this.#offer(hub, signed, out);
    return undefined;
  }

  /** join takes a peer's invitation, or asks a member to be let in. */
  join(federationId: string, via: string, out: Effect[]): Failure | undefined {
    const stage = this.#stage;
    if (stage.kind !== "none" && this.federationId !== federationId) return busy(this.federationId);
    // What was answered before was answered to another call.
    if (stage.kind !== "joining") this.#answer = "none";
    if (stage.kind === "joining") {
      const next = via === "" ? stage.via : via;
      if (next !== stage.via && this.#ground.candidateOf(next) === undefined) return notThere(next);
      if (next !== stage.via) this.#keep({ ...stage, via: next }, out);
      this.#ask(next, out);
    }
    if (stage.kind !== "none") return undefined;
    const invited = [...this.#invitations].filter(
      ([peer, { founding }]) => founding.federationId === federationId && (via === "" || via === peer),
    );
    // A name is anybody's, and which of the two is meant is for the operator to say.
    if (invited.length > 1) return ambiguous(federationId, invited);
    for (const [from, invitation] of invited) return this.#consent(from, invitation, out);
    if (via === "") {
      const others = [...new Set(this.invitations().map((one) => one.federationId))];
      const meant = others.length === 0 ? "" : `did you mean ${others.join(" or ")}? Else `;
      const message = `no peer founds a federation ${federationId} with this hub; ${meant}name a member to join through (--via)`;
      return { reason: "PEER_NOT_FOUND", message, field: "via" };
    }
    if (this.#ground.candidateOf(via) === undefined) return notThere(via);
    this.#keep({ kind: "joining", federationId, via, incarnation: this.#ground.draw() }, out);
    this.#ask(via, out);
    return undefined;
  }

  /** leave gives up what is under way. */
  leave(out: Effect[]): void {
    const stage = this.#stage;
    if (stage.kind === "offering")
      for (const { hubId } of stage.founding.founding.founders)
        if (hubId !== this.#ground.hubId)
          send(hubId, { kind: "founding_offer", federationId: this.federationId, founding: undefined }, out);
    if (stage.kind === "consenting")
      send(stage.from, { kind: "founding_consent", federationId: this.federationId, signature: undefined }, out);
    this.#keep({ kind: "none" }, out);
  }

  /** up sends again what a peer has to know (FO3). */
  up(peer: string, out: Effect[]): void {
    const stage = this.#stage;
    if (stage.kind === "offering" && isFounder(stage.founding, peer)) this.#offer(peer, stage.founding, out);
    if (stage.kind === "consenting" && stage.from === peer) this.#sendConsent(stage.founding, peer, out);
    if (stage.kind === "joining" && stage.via === peer) this.#ask(peer, out);
  }

  /** frame takes what a peer says; it may begin the federation. */
  frame(peer: string, frame: FormationFrame, out: Effect[]): Begun | undefined {
    switch (frame.kind) {
      case "founding_offer":
        return void this.#offered(peer, frame.federationId, frame.founding, out);
      case "founding_consent":
        return this.#consented(peer, frame.federationId, frame.signature, out);
      case "founded":
        return this.#founded(peer, frame, out);
      case "join_answer":
        return void this.#answered(peer, frame, out);
      case "join_ask":
        // Only a member can do something about it; the asker asks again.
        return undefined;
    }
  }

  /** tick asks again (FO6). */
  tick({ mono }: Now, out: Effect[]): void {
    if (this.#stage.kind !== "joining" || typeof this.#answer !== "object") return void (this.#againAt = undefined);
    this.#againAt ??= mono + AGAIN_MS;
    if (mono >= this.#againAt) this.#ask(this.#stage.via, out);
  }

  /** deadline is when it asks again; undefined if it does not. */
  deadline(): number | undefined {
    return this.#againAt;
  }

  invitations(): InvitationStatus[] {
    return [...this.#invitations]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([from, { founding, signatures }]) => ({
        federationId: founding.federationId,
        from,
        founders: founding.founders.map(({ hubId }) => hubId),
        engine: founding.engine,
        joined: signatures.map(({ hubId }) => hubId),
      }));
  }

  describe(): string {
    return `formation=${this.#stage.kind} federation=${this.federationId} invitations=${this.#invitations.size}`;
  }

  #offered(peer: string, federationId: string, founding: SignedFounding | undefined, out: Effect[]): void {
    const stage = this.#stage;
    if (founding === undefined) {
      this.#invitations.delete(peer);
      if (stage.kind === "consenting" && stage.from === peer && this.federationId === federationId) this.#keep({ kind: "none" }, out);
      return;
    }
    if (founding.founding.federationId !== federationId || !isFounder(founding, peer) || !isFounder(founding, this.#ground.hubId)) return;
    this.#invitations.set(peer, founding);
  }

  #consent(from: string, { founding }: SignedFounding, out: Effect[]): Failure | undefined {
    const { hubId, crypto } = this.#ground;
    for (const founder of founding.founders) {
      const said = founder.hubId === hubId ? this.#ground.own() : this.#ground.candidateOf(founder.hubId);
      if (said === undefined) return notThere(founder.hubId);
      if (founder.weight !== WEIGHT) return uneven(founder);
      if (!sameBytes(encode(CANDIDATE, said), encode(CANDIDATE, founder)))
        return {
          reason: "SIGNATURE_INVALID",
          message: `what ${from} would found has other keys or addresses for ${founder.hubId} than that hub says itself; have ${from} found it anew`,
        };
    }
    const signature = crypto.sign(foundingBytes(founding));
    this.#invitations.delete(from);
    this.#keep({ kind: "consenting", founding: { founding, signatures: [{ hubId, signature }] }, from }, out);
    this.#sendConsent({ founding, signatures: [{ hubId, signature }] }, from, out);
    return undefined;
  }

  #consented(peer: string, federationId: string, signature: Uint8Array | undefined, out: Effect[]): Begun | undefined {
    const stage = this.#stage;
    if (stage.kind !== "offering" || this.federationId !== federationId) {
      // The offer was withdrawn, and word of that was lost.
      if (signature !== undefined) send(peer, { kind: "founding_offer", federationId, founding: undefined }, out);
      return undefined;
    }
    const { founding, signatures } = stage.founding;
    const others = signatures.filter(({ hubId }) => hubId !== peer);
    const key = founding.founders.find(({ hubId }) => hubId === peer)?.publicKey;
    if (key === undefined) return undefined;
    if (signature === undefined) {
      this.#keep({ kind: "offering", founding: { founding, signatures: others } }, out);
      return undefined;
    }
    if (!this.#ground.crypto.verify(key, foundingBytes(founding), signature)) return undefined;
    const all = [...others, { hubId: peer, signature }].sort((a, b) => (a.hubId < b.hubId ? -1 : 1));
    const signed = { founding, signatures: all };
    if (all.length === founding.founders.length) return this.#begin(signed, out);
    this.#keep({ kind: "offering", founding: signed }, out);
    return undefined;
  }

  #founded(peer: string, frame: Extract<FormationFrame, { kind: "founded" }>, out: Effect[]): Begun | undefined {
    const { founding, incarnation, voters } = frame;
    const stage = this.#stage;
    if (stage.kind === "none" || stage.kind === "offering" || founding.founding.federationId !== this.federationId) return undefined;
    // Last of all, as it costs the most: thirty signatures.
    const isSigned = (): boolean => foundingProblem(founding, this.#ground.crypto) === undefined;
    if (stage.kind === "consenting") {
      if (!sameBytes(encode(FOUNDING, founding.founding), encode(FOUNDING, stage.founding.founding)) || !isSigned()) return undefined;
      return this.#begin(founding, out);
    }
    if (incarnation !== stage.incarnation) return undefined;
    const isVia = peer === stage.via;
    // Whose word is taken for the state is not for any peer to say (FO5).
    if ((founding.founding.engine === "bft" && !isVia) || !isIntroduction(voters) || !isSigned()) return undefined;
    this.#keep({ kind: "none" }, out);
    return { founding, incarnation, voters: isVia ? voters : [] };
  }

  #answered(peer: string, said: Extract<FormationFrame, { kind: "join_answer" }>, out: Effect[]): void {
    const { federationId, failure, incarnation } = said;
    const stage = this.#stage;
    if (stage.kind !== "joining" || stage.via !== peer || stage.federationId !== federationId) return;
    const problem = numberProblem(peer, incarnation, this.#ground.own().incarnation - 1);
    if (incarnation > stage.incarnation && problem === undefined) {
      // Its members remember a replica of this hub: another one has a number that was not used.
      this.#keep({ ...stage, incarnation }, out);
      return this.#ask(peer, out);
    }
    this.#answer = "taken";
    if (failure === undefined && problem === undefined) return;
    const message = problem ?? `${peer} refused: ${failure?.message}`;
    // What a peer says of fields and facts is not about the call of this hub's operator.
    this.#answer = { reason: problem === undefined && failure !== undefined ? failure.reason : "VALUE_OUT_OF_RANGE", message };
    // FO6.
    if (this.#answer.reason === "RATE_LIMITED") return;
    out.push({ kind: "event", severity: "warning", name: "join_refused", message, hubId: peer });
    this.#keep({ kind: "none" }, out);
  }

  #begin(founding: SignedFounding, out: Effect[]): Begun {
    this.#keep({ kind: "none" }, out);
    this.#invitations.clear();
    const own = founding.founding.founders.find(({ hubId }) => hubId === this.#ground.hubId) as Candidate;
    for (const { hubId, incarnation } of founding.founding.founders)
      if (hubId !== this.#ground.hubId) send(hubId, { kind: "founded", founding, incarnation, voters: [] }, out);
    return { founding, incarnation: own.incarnation, voters: [] };
  }

  #offer(peer: string, founding: SignedFounding, out: Effect[]): void {
    send(peer, { kind: "founding_offer", federationId: founding.founding.federationId, founding }, out);
  }

  #sendConsent({ founding, signatures }: SignedFounding, peer: string, out: Effect[]): void {
    const signature = signatures.find(({ hubId }) => hubId === this.#ground.hubId)?.signature;
    send(peer, { kind: "founding_consent", federationId: founding.federationId, signature }, out);
  }

  #ask(peer: string, out: Effect[]): void {
    const stage = this.#stage;
    if (stage.kind !== "joining") return;
    this.#answer = "none";
    this.#againAt = undefined;
    const { federationId, incarnation } = stage;
    const candidate = this.#ground.own(incarnation);
    send(peer, { kind: "join_ask", federationId, candidate, signature: this.#ground.crypto.sign(joinBytes(federationId, candidate)) }, out);
  }

  #keep(stage: Stage, out: Effect[]): void {
    this.#stage = stage;
    if (stage.kind === "none") out.push({ kind: "persist", ops: [{ op: "delete", space: SPACE, key: KEY }] });
    else out.push({ kind: "persist", ops: [{ op: "put", space: SPACE, key: KEY, bytes: encode(STAGE, stage) }] });
  }

  /** KEY is where in SPACE the way is kept. */
  static readonly key = KEY;
}

function isFounder({ founding }: SignedFounding, hub: string): boolean {
  return founding.founders.some(({ hubId }) => hubId === hub);
}

function send(peer: string, frame: FormationFrame, out: Effect[]): void {
  out.push({ kind: "send", peer, frame, early: false });
}

function busy(federationId: string): Failure {
  return {
    reason: "ALREADY_EXISTS",
    message: `this hub is on its way into federation ${federationId}; give that up first (foedus federation leave ${federationId})`,
  };
}

function ambiguous(federationId: string, invited: readonly (readonly [string, unknown])[]): Failure {
  const peers = invited.map(([peer]) => peer).sort();
  const message = `${peers.join(" and ")} each found a federation ${federationId} with this hub; say which one is meant (--via ${peers.join(" or --via ")})`;
  return { reason: "INVALID_FIELD", message, field: "via" };
}

function uneven({ hubId, weight }: Candidate): Failure {
  const message = `${hubId} gives itself the weight ${weight} in ballots, and each founder begins with ${WEIGHT}; weights are changed by ballot later (foedus federation propose weight)`;
  return { reason: "VALUE_OUT_OF_RANGE", message, field: "founders" };
}

function notThere(hub: string): Failure {
  return {
    reason: "PEER_UNREACHABLE",
    message: `there is no session with ${hub} on which it says who it is; see that the link is operational (foedus peers) and try again`,
    facts: { hub_id: hub },
  };
}
