import type { Failure } from "#kernel/error.ts";
import type { LogInstant } from "../../log/book.ts";
import { AMOUNT_MAX, type Amounts, amountsText, ceilingOf, covers, DIMENSIONS, isNothing, NOTHING, plus } from "../amounts.ts";
import type { Offer, Policy, ResourceCommand, ResourceValue } from "../commands.ts";
import { classOf, typeOf } from "../kinds.ts";
import { type HubRecord, type OfferRecord, offerKey } from "./records.ts";
import { dissolve } from "./requests.ts";
import type { ResourceState } from "./state.ts";

type Result = ResourceValue | Failure;
type Command<K extends ResourceCommand["kind"]> = Extract<ResourceCommand, { kind: K }>;

/** onPolicy puts an owner's policy in force, for what is decided from now on. */
export function onPolicy(state: ResourceState, _at: LogInstant, author: string, { policy }: Command<"policy">): Result {
  const hub = state.hub(author);
  for (const record of sorted(hub.offers)) {
    const problem = ceilingProblem(record, ceilingOf(record.offer.capacity, policy.maxUtilization));
    if (problem !== undefined) return problem;
  }
  hub.policy = policy;
  hub.stated = true;
  for (const record of hub.offers) {
    state.recap(record, policy);
    state.touched.add(record);
  }
  return { kind: "done" };
}

function sorted(offers: Iterable<OfferRecord>): OfferRecord[] {
  return [...offers].sort((a, b) => (a.key < b.key ? -1 : 1));
}

/** A ceiling is never below what is lent (RB1) or promised. */
function ceilingProblem(record: OfferRecord, ceiling: Amounts): Failure | undefined {
  if (!covers(ceiling, record.used))
    return {
      reason: "LIMIT_EXCEEDED",
      field: "capacity",
      message: `${record.key} has ${amountsText(record.used)} lent, more than the ${amountsText(ceiling)} that would be left; reclaim leases first`,
    };
  if (covers(ceiling, promised(record))) return undefined;
  return {
    reason: "LIMIT_EXCEEDED",
    field: "capacity",
    message: `nominal quotas of ${record.key} are more than the ${amountsText(ceiling)} that would be left; lower quotas first`,
  };
}

/** promised is the sum of nominal quotas, without that of one borrower. */
function promised(record: OfferRecord, except?: string): Amounts {
  let all: Amounts = NOTHING;
  for (const [borrower, quota] of record.quotas) if (borrower !== except) all = plus(all, quota.nominal);
  return all;
}

/** onOffer offers something, or says something else of what is offered. Who negotiates about the old text begins again. */
export function onOffer(state: ResourceState, at: LogInstant, author: string, { offer }: Command<"offer">): Result {
  if (!offer.shared)
    return { reason: "NOT_SHARED", field: "shared", message: `${offer.name} is not shared, so it is not offered; share it first` };
  const hub = state.hub(author);
  const { policy } = hub;
  const type = typeOf(offer.what);
  if (policy.allowedTypes.length > 0 && !policy.allowedTypes.includes(type))
    return { reason: "LIMIT_EXCEEDED", field: "what", message: `the policy of ${author} does not lend ${type}; change the policy first` };
  const record = state.offers.get(offerKey(author, offer.name));
  const much = sumProblem(hub, record, offer);
  if (much !== undefined) return much;
  if (record !== undefined) return edit(state, at, hub, record, offer);
  if (hub.offers.size >= state.rules.offersMax)
    return { reason: "LIMIT_EXCEEDED", message: `${author} has ${state.rules.offersMax} offers; withdraw one first` };
  const made = newOffer(author, offer, policy);
  state.offers.set(made.key, made);
  hub.offers.add(made);
  state.list(made);
  state.touched.add(made);
  state.news.push({ kind: "offer", owner: author, name: offer.name, what: "offered" });
  return { kind: "offer", name: offer.name, revision: 1 };
}

/** All that one hub offers has the bound of one amount, so that what all hubs offer together is computed exactly. */
function sumProblem(hub: HubRecord, record: OfferRecord | undefined, { name, capacity }: Offer): Failure | undefined {
  let sum = capacity;
  for (const other of hub.offers) if (other !== record) sum = plus(sum, other.offer.capacity);
  const at = sum.findIndex((amount) => amount > AMOUNT_MAX);
  if (at < 0) return undefined;
  const message = `with ${name}, all offers of this hub together have ${sum[at]} ${DIMENSIONS[at]}, and at most ${AMOUNT_MAX} can be offered; offer less`;
  return { reason: "LIMIT_EXCEEDED", field: `capacity.${DIMENSIONS[at]}`, message };
}

/** newOffer makes the record of an offer of which nothing is lent. */
export function newOffer(owner: string, offer: Offer, policy: Policy): OfferRecord {
  return {
    key: offerKey(owner, offer.name),
    owner,
    offer,
    revision: 1,
    withdrawn: false,
    ceiling: ceilingOf(offer.capacity, policy.maxUtilization),
    used: DIMENSIONS.map(() => 0),
    free: offer.what.kind === "agent" ? [...offer.what.agents] : [],
    quotas: new Map(),
    uses: new Map(),
    leases: new Set(),
    talks: new Set(),
    claims: new Set(),
  };
}

function edit(state: ResourceState, at: LogInstant, hub: HubRecord, record: OfferRecord, offer: Offer): Result {
  if (classOf(record.offer.what) !== classOf(offer.what))
    return {
      reason: "ALREADY_EXISTS",
      field: "what",
      message: `${record.key} offers ${classOf(record.offer.what)}; use another name for ${classOf(offer.what)}`,
    };
  const problem = ceilingProblem(record, ceilingOf(offer.capacity, hub.policy.maxUtilization)) ?? agentsProblem(record, offer);
  if (problem !== undefined) return problem;
  stopTalks(state, at.time, record, "its offer was changed");
  if (record.withdrawn) {
    record.withdrawn = false;
    state.list(record);
  }
  record.offer = offer;
  record.revision++;
  state.recap(record, hub.policy);
  if (offer.what.kind === "agent") {
    const lent = new Set([...record.leases].flatMap(({ agents }) => agents));
    record.free = offer.what.agents.filter((agent) => !lent.has(agent));
  }
  state.touched.add(record);
  state.news.push({ kind: "offer", owner: record.owner, name: offer.name, what: "offered" });
  return { kind: "offer", name: offer.name, revision: record.revision };
}

/** An agent that somebody has stays in the offer (RB2). */
function agentsProblem(record: OfferRecord, { what }: Offer): Failure | undefined {
  if (what.kind !== "agent") return undefined;
  for (const { agents, lease } of record.leases) {
    const gone = agents.find((agent) => !what.agents.includes(agent));
    if (gone === undefined) continue;
    return {
      reason: "LIMIT_EXCEEDED",
      field: "agents",
      message: `agent ${gone} is lent (lease ${lease}); reclaim it before it is left out`,
    };
  }
  return undefined;
}

function stopTalks(state: ResourceState, time: number, record: OfferRecord, why: string): void {
  for (const request of [...record.talks].sort((a, b) => a.seq - b.seq)) state.overRequest(request, time, why);
}

/** onWithdraw has no more lent of an offer: what is only reserved or negotiated is over, what is lent goes on to its end (RB7). */
export function onWithdraw(state: ResourceState, at: LogInstant, author: string, { name }: Command<"withdraw">): Result {
  const record = state.offers.get(offerKey(author, name));
  if (record === undefined) return { reason: "OFFER_NOT_FOUND", message: `${author} has no offer ${name}; list those that it has` };
  if (!record.withdrawn) withdraw(state, at.time, record, "its offer was withdrawn");
  return { kind: "done" };
}

/** withdraw takes an offer from those that requests choose from. */
export function withdraw(state: ResourceState, time: number, record: OfferRecord, why: string): void {
  state.unlist(record);
  record.withdrawn = true;
  record.quotas.clear();
  for (const borrower of [...record.uses.keys()].sort()) state.reflag(record, borrower);
  state.news.push({ kind: "offer", owner: record.owner, name: record.offer.name, what: "withdrawn" });
  stopTalks(state, time, record, why);
  for (const request of [...state.waiting.named(record), ...record.claims]) {
    if (request.command.name === record.offer.name && request.command.owner === record.owner) state.overRequest(request, time, why);
    else state.unclaim(request);
  }
  const reserved = [...record.leases].filter(({ state: stands }) => stands === "reserved").sort((a, b) => a.lease - b.lease);
  for (const lease of reserved) {
    const request = state.requestOf(lease);
    if (request !== undefined) dissolve(state, time, request, why);
  }
  if (record.leases.size === 0 && state.offers.has(record.key)) state.drop(record);
}

/** onQuota sets what a borrower may count on and have at the most. A quota below what it has takes nothing away; it has no more of it then. */
export function onQuota(state: ResourceState, _at: LogInstant, author: string, command: Command<"quota">): Result {
  const { borrower, nominal, limit } = command;
  const record = state.offers.get(offerKey(author, command.name));
  if (record === undefined || record.withdrawn)
    return { reason: "OFFER_NOT_FOUND", message: `${author} does not offer ${command.name}; list what it offers` };
  if (borrower === author)
    return { reason: "INVALID_FIELD", field: "borrower", message: "a hub does not lend to itself; name another hub" };
  if (!covers(record.ceiling, plus(promised(record, borrower), nominal)))
    return {
      reason: "LIMIT_EXCEEDED",
      field: "nominal",
      message: `nominal quotas of ${record.key} would be more than the ${amountsText(record.ceiling)} that may be lent; lower one first`,
    };
  const none = isNothing(nominal) && limit.every((amount) => amount === AMOUNT_MAX);
  if (!none && !record.quotas.has(borrower) && record.quotas.size >= state.rules.quotasMax)
    return { reason: "LIMIT_EXCEEDED", message: `${record.key} has ${state.rules.quotasMax} quotas; lift one first` };
  if (none) record.quotas.delete(borrower);
  else record.quotas.set(borrower, { nominal, limit });
  state.reflag(record, borrower);
  state.touched.add(record);
  return { kind: "done" };
}
