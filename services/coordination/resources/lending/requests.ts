import type { Failure } from "#kernel/error.ts";
import type { LogInstant } from "../../log/book.ts";
import type { Answer, ResourceCommand, ResourceValue, Terms } from "../commands.ts";
import { classOf } from "../kinds.ts";
import { type Asked, barred, effectiveRank, hasRoom, misfit } from "./fitness.ts";
import { costOf } from "./ledger.ts";
import { begin, claim, reserve } from "./line.ts";
import {
  type LeaseRecord,
  leaseView,
  loadOfOffer,
  type OfferRecord,
  offerKey,
  type RequestCommand,
  type RequestRecord,
  requestKey,
  requestView,
} from "./records.ts";
import { alike } from "./same.ts";
import type { ResourceState } from "./state.ts";
import { giveNotice, victimsFor } from "./victims.ts";

/** Result of a handler: a value, or why nothing was done. */
type Result = ResourceValue | Failure;

type Command<K extends ResourceCommand["kind"]> = Extract<ResourceCommand, { kind: K }>;

/** Offers with room among which the least loaded is chosen, and offers at which somebody may have to make room: no more are looked at. */
const CHOICES = 16;
const PLANS = 8;

/** onRequest decides a request by policy at once, opens a negotiation, has it wait, or refuses it (S1-3, S1-4). */
export function onRequest(state: ResourceState, at: LogInstant, author: string, command: RequestCommand): Result {
  const known = state.requests.get(requestKey(author, command.id));
  if (known !== undefined) return again(state, at, known, command);
  const full = fullProblem(state, author, command);
  if (full !== undefined) return full;
  const offers = offersFor(state, command);
  if ("reason" in offers) return offers;
  const request = newRequest(state, at, author, command);
  if (command.name !== "" && talks(offers[0] as OfferRecord, command)) return negotiate(state, at, request, offers[0] as OfferRecord);
  return decide(state, at, request, offers);
}

/** fullProblem says why no more is kept for a borrower (BK4). */
function fullProblem(state: ResourceState, borrower: string, { context }: RequestCommand): Failure | undefined {
  const { requestsMax, contextMax } = state.rules;
  const hub = state.hub(borrower);
  if (hub.requests >= requestsMax)
    return { reason: "LIMIT_EXCEEDED", message: `${borrower} has ${requestsMax} requests; wait until some of them are settled` };
  if (hub.context + context.length <= contextMax) return undefined;
  const message = `requests of ${borrower} have contexts of ${hub.context} characters, and at most ${contextMax} are kept; say less, or wait until some are settled`;
  return { reason: "LIMIT_EXCEEDED", field: "context", message };
}

/** again answers a request that was made before: the answer to the first was lost. */
function again(state: ResourceState, at: LogInstant, known: RequestRecord, command: RequestCommand): Result {
  if (!alike(known.command, command))
    return {
      reason: "IDEMPOTENCY_CONFLICT",
      field: "id",
      message: `request ${command.id} was made before and says something else; use another id`,
    };
  return known.state === "over" ? over(known) : answer(state, at, known);
}

function over(request: RequestRecord): Failure {
  return {
    reason: "NEGOTIATION_OVER",
    message: `request ${request.command.id} of ${request.borrower} is over: ${request.why}; make another`,
  };
}

/** offersFor are those that a request is about, withdrawn ones left out. */
function offersFor(state: ResourceState, { owner, name, want }: RequestCommand): readonly OfferRecord[] | Failure {
  if (name !== "") {
    const offer = state.offers.get(offerKey(owner, name));
    if (offer !== undefined && !offer.withdrawn) return [offer];
    return { reason: "OFFER_NOT_FOUND", message: `${offerKey(owner, name)} is not offered; list what is` };
  }
  const all = state.classes.get(classOf(want)) ?? [];
  const offers = owner === "" ? all : all.filter((offer) => offer.owner === owner);
  if (offers.length > 0) return offers;
  return {
    reason: "OFFER_NOT_FOUND",
    message: `nobody offers ${classOf(want)}${owner === "" ? "" : ` at ${owner}`}; list what is offered`,
  };
}

/** A request is made known only when something has come of it. */
function newRequest(state: ResourceState, at: LogInstant, borrower: string, command: RequestCommand): RequestRecord {
  const { id, owner, name, amounts, durationMs, maxCostMicro } = command;
  return {
    key: requestKey(borrower, id),
    seq: state.serial + 1,
    borrower,
    command,
    since: at.time,
    state: "waiting",
    owner,
    name,
    terms: { amounts, durationMs, costMicro: maxCostMicro },
    round: 0,
    turn: "owner",
    lease: 0,
    until: 0,
    why: "",
    claim: undefined,
  };
}

function enter(state: ResourceState, request: RequestRecord): void {
  state.serial++;
  state.keep(request);
}

function priceOf(offer: OfferRecord, { amounts, durationMs }: RequestCommand): number {
  return costOf(offer.offer.prices, amounts, durationMs);
}

/** talks tells whether the owner is asked: it decides itself, or what may be paid is less than it takes. */
function talks(offer: OfferRecord, command: RequestCommand): boolean {
  return !offer.offer.automatic || priceOf(offer, command) > command.maxCostMicro;
}

function negotiate(state: ResourceState, at: LogInstant, request: RequestRecord, offer: OfferRecord): Result {
  const { amounts, durationMs, maxCostMicro, want } = request.command;
  const costMicro = Math.min(maxCostMicro, priceOf(offer, request.command));
  const asked = { borrower: request.borrower, want, terms: { amounts, durationMs, costMicro } };
  const refusal = misfit(state, offer, asked) ?? barred(state, offer, asked);
  if (refusal !== undefined) return refusal;
  enter(state, request);
  request.terms = asked.terms;
  request.round = 1;
  offer.talks.add(request);
  state.setRequest(request, "negotiating", at.time + state.rules.answerMs);
  return answer(state, at, request);
}

interface Choice {
  readonly offer: OfferRecord;
  readonly asked: Asked;
  readonly rank: number;
}

function decide(state: ResourceState, at: LogInstant, request: RequestRecord, offers: readonly OfferRecord[]): Result {
  const { choices, refusal } = choicesFor(state, request, offers);
  const best = leastLoaded(state, request, choices);
  if (best !== undefined) {
    enter(state, request);
    reserve(state, at, request, best.offer, best.asked.terms);
    return answer(state, at, request);
  }
  if (choices.length === 0 && refusal !== undefined && !mayWait(refusal)) return refusal;
  const { waitMs } = request.command;
  if (waitMs === 0)
    return (
      (choices.length === 0 ? refusal : undefined) ?? {
        reason: "NO_CAPACITY",
        message: "all that is offered is lent; ask to wait, or later",
      }
    );
  enter(state, request);
  state.waiting.add(request);
  state.setRequest(request, "waiting", at.time + waitMs);
  makeRoom(state, at, request, choices);
  return answer(state, at, request);
}

/** Another time may be better for a quota that is full, or an owner that is away; never for what a policy forbids. */
function mayWait(refusal: Failure): boolean {
  return refusal.reason === "PEER_UNREACHABLE" || (refusal.reason === "QUOTA_EXCEEDED" && refusal.field === undefined);
}

/** choicesFor are the offers that may be for a request now, if they have units; the refusal is that of the last one that may not. */
function choicesFor(
  state: ResourceState,
  request: RequestRecord,
  offers: readonly OfferRecord[],
): { choices: Choice[]; refusal: Failure | undefined } {
  const { borrower, command } = request;
  const { want, amounts, durationMs } = command;
  const choices: Choice[] = [];
  let refusal: Failure | undefined;
  let room = 0;
  for (let i = 0; i < offers.length && room < CHOICES; i++) {
    // Each request begins elsewhere, so that not all look at the same offers.
    const offer = offers[(i + request.seq) % offers.length] as OfferRecord;
    if (talks(offer, command)) {
      refusal ??= {
        reason: "OFFER_NOT_FOUND",
        message: `${offer.key} is for more than may be paid, or its owner decides; name it to negotiate`,
      };
      continue;
    }
    const asked = { borrower, want, terms: { amounts, durationMs, costMicro: priceOf(offer, command) } };
    const problem = misfit(state, offer, asked) ?? barred(state, offer, asked);
    if (problem !== undefined) {
      // What may be better another time is said rather than what never will.
      if (refusal === undefined || mayWait(problem)) refusal = problem;
      continue;
    }
    const rank = effectiveRank(state, offer, command.priority);
    choices.push({ offer, asked, rank });
    if (hasRoom(state, offer, asked, request, rank)) room++;
  }
  return { choices, refusal };
}

/** leastLoaded is the choice with room of which the least is lent (S1-30); the first of several. */
function leastLoaded(state: ResourceState, request: RequestRecord, choices: readonly Choice[]): Choice | undefined {
  let best: Choice | undefined;
  let least = Number.POSITIVE_INFINITY;
  for (const choice of choices) {
    if (!hasRoom(state, choice.offer, choice.asked, request, choice.rank)) continue;
    const load = loadOfOffer(choice.offer);
    if (load >= least) continue;
    best = choice;
    least = load;
  }
  return best;
}

/** makeRoom has others end early where a request goes before them, by the fewest (S4-10, RB9). */
function makeRoom(state: ResourceState, at: LogInstant, request: RequestRecord, choices: readonly Choice[]): void {
  let best: { readonly offer: OfferRecord; readonly victims: readonly LeaseRecord[] } | undefined;
  let nominal: OfferRecord | undefined;
  for (const { offer, asked, rank } of choices.slice(0, PLANS)) {
    if (state.withinNominal(offer, request.borrower, asked.terms.amounts)) nominal ??= offer;
    const victims = victimsFor(state, at.time, offer, asked, request, rank);
    if (victims !== undefined && (best === undefined || victims.length < best.victims.length)) best = { offer, victims };
  }
  if (best !== undefined && best.victims.length > 0) {
    claim(request, best.offer);
    giveNotice(state, at.time, best.victims);
  } else if (nominal !== undefined) claim(request, nominal);
}

/** answer says how a request stands (S1-4). */
export function answer(state: ResourceState, at: LogInstant, request: RequestRecord): ResourceValue {
  const lease = state.leases.get(request.lease);
  const view = requestView(request);
  const accepted = lease !== undefined && (request.state === "reserved" || request.state === "confirmed");
  const confirmMs = request.state === "reserved" ? Math.max(0, request.until - at.time) : 0;
  const end = request.state === "confirmed" ? (lease?.endsAt ?? 0) : at.time + confirmMs + request.terms.durationMs;
  const made: Answer = {
    status: accepted ? "accepted" : request.state === "negotiating" ? "negotiating" : "waiting",
    request: view,
    ...(accepted ? { lease: leaseView(lease) } : {}),
    confirmMs,
    window: { start: at.time, end },
  };
  return { kind: "answer", answer: made };
}

interface Talk {
  readonly request: RequestRecord;
  readonly offer: OfferRecord;
}

/** talkOf finds what an author is talking about: it is the owner or the borrower. */
function talkOf(state: ResourceState, author: string, borrower: string, id: string): RequestRecord | Failure {
  const request = state.requests.get(requestKey(borrower, id));
  if (request === undefined || (author !== borrower && author !== request.owner))
    return { reason: "NEGOTIATION_OVER", message: `${borrower} has no request ${id} that is of any concern to ${author}; see the id` };
  return request;
}

/** turnOf is a talk in which it is an author's turn to answer the terms of a round. */
function turnOf(state: ResourceState, author: string, command: Command<"counter"> | Command<"accept">): Talk | Failure {
  const request = talkOf(state, author, command.borrower, command.id);
  if ("reason" in request) return request;
  const offer = state.offers.get(offerKey(request.owner, request.name));
  if (request.state !== "negotiating" || offer === undefined)
    return request.state === "over"
      ? over(request)
      : { reason: "NEGOTIATION_OVER", message: `nothing is negotiated with request ${command.id}: it is ${request.state}` };
  if (request.round !== command.round)
    return {
      reason: "NEGOTIATION_OVER",
      message: `round ${command.round} is not the one that is open, ${request.round} is; see its terms`,
    };
  if (author !== (request.turn === "owner" ? request.owner : request.borrower))
    return { reason: "ACCESS_DENIED", message: `it is the turn of the ${request.turn} to answer round ${request.round}; wait for it` };
  return { request, offer };
}

/** onCounter puts other terms, which the other side then answers. */
export function onCounter(state: ResourceState, at: LogInstant, author: string, command: Command<"counter">): Result {
  const talk = turnOf(state, author, command);
  if ("reason" in talk) return talk;
  const { request, offer } = talk;
  if (request.round >= state.rules.roundsMax)
    return { reason: "LIMIT_EXCEEDED", message: `a negotiation has at most ${state.rules.roundsMax} rounds; accept or decline the terms` };
  const refusal = misfit(state, offer, askedFor(request, command.terms));
  if (refusal !== undefined) return refusal;
  request.terms = command.terms;
  request.round++;
  request.turn = request.turn === "owner" ? "borrower" : "owner";
  state.setRequest(request, "negotiating", at.time + state.rules.answerMs);
  return answer(state, at, request);
}

function askedFor(request: RequestRecord, terms: Terms): Asked {
  return { borrower: request.borrower, want: request.command.want, terms };
}

/** onAccept reserves what both sides now agree on; said twice, it is answered as before. */
export function onAccept(state: ResourceState, at: LogInstant, author: string, command: Command<"accept">): Result {
  const before = state.requests.get(requestKey(command.borrower, command.id));
  const agreed = before?.state === "reserved" || before?.state === "confirmed";
  if (before !== undefined && agreed && before.round === command.round && (author === before.owner || author === before.borrower))
    return answer(state, at, before);
  const talk = turnOf(state, author, command);
  if ("reason" in talk) return talk;
  const { request, offer } = talk;
  const asked = askedFor(request, request.terms);
  const refusal = misfit(state, offer, asked) ?? barred(state, offer, asked);
  if (refusal !== undefined) return refusal;
  if (!hasRoom(state, offer, asked, request, effectiveRank(state, offer, request.command.priority)))
    return { reason: "NO_CAPACITY", message: `there is no room at ${offer.key} now; accept later, or put other terms` };
  reserve(state, at, request, offer, request.terms);
  return answer(state, at, request);
}

/** onDecline ends a negotiation, a wait or a reservation: of either side until the borrower has confirmed. */
export function onDecline(state: ResourceState, at: LogInstant, author: string, command: Command<"decline">): Result {
  const request = talkOf(state, author, command.borrower, command.id);
  if ("reason" in request) return request;
  if (request.state === "over") return { kind: "done" };
  if (author !== request.borrower && request.state !== "negotiating")
    return { reason: "NEGOTIATION_OVER", message: `${request.command.id} was agreed on; reclaim the lease if it has begun` };
  if (request.state === "confirmed")
    return { reason: "NEGOTIATION_OVER", message: `${request.command.id} was confirmed; release lease ${request.lease}` };
  dissolve(state, at.time, request, `${author} declined it`);
  return { kind: "done" };
}

/** dissolve ends a request that is not confirmed, its reservation with it (RB7). */
export function dissolve(state: ResourceState, time: number, request: RequestRecord, why: string): void {
  const lease = state.leases.get(request.lease);
  const reserved = request.state === "reserved";
  state.overRequest(request, time, why);
  if (reserved && lease !== undefined) state.cancel(lease);
}

/** onConfirm begins the lease; said twice, it is answered as before. */
export function onConfirm(state: ResourceState, at: LogInstant, author: string, command: Command<"confirm">): Result {
  const request = state.requests.get(requestKey(author, command.id));
  if (request === undefined) return { reason: "NEGOTIATION_OVER", message: `${author} has no request ${command.id}; see the id` };
  if (request.state === "over") return over(request);
  const lease = state.leases.get(request.lease);
  if (lease === undefined)
    return { reason: "NEGOTIATION_OVER", message: `nothing is reserved for request ${command.id}: it is ${request.state}` };
  if (request.state === "reserved") {
    if (state.hub(lease.offer.owner).absent)
      return { reason: "PEER_UNREACHABLE", message: `${lease.offer.owner} is not there any more; ask another owner` };
    begin(state, at, request, lease);
  } else {
    // The borrower measures what is left from this answer on, so the owner does as well.
    state.tell("renewed", lease);
  }
  return { kind: "lease", lease: leaseView(lease), remainingMs: Math.max(0, lease.endsAt - at.time) };
}
