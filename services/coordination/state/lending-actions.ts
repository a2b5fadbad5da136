import type { Failure } from "#kernel/error.ts";
import type { Action } from "../ballots/messages.ts";
import type { LogInstant, Outcome } from "../log/book.ts";
import { amountsOf, type Dimension } from "../resources/amounts.ts";
import type { OfferView, ResourceBook } from "../resources/book.ts";
import { PRIORITIES, type Priority, type ResourceCommand, type ResourceNews, type ResourceValue } from "../resources/commands.ts";
import { BALLOT_PREFIX } from "../resources/desk/wanted.ts";
import type { Kind, Want } from "../resources/kinds.ts";
import { NAME_LENGTH } from "../resources/rules.ts";

/** LendingAction is what a ballot can decide of lending. */
export type LendingAction = Extract<Action, { kind: "allocate" | "prioritize" }>;

/** What the members decided costs what its owner asks. */
const ANY_COST = 1_000_000_000_000_000;

/** In what amounts of a kind are counted in a ballot. */
const COUNTED: Readonly<Record<Kind["kind"], Dimension>> = {
  agent: "agents",
  compute: "cpuMilli",
  storage: "storageMb",
  network: "networkKbps",
};

/** isLendingAction tells whether the book of resources carries an action out. */
export function isLendingAction(action: Action): action is LendingAction {
  return action.kind === "allocate" || action.kind === "prioritize";
}

/** priorityOf is a priority of 0 to 100 as one of lending: a quarter each. */
export function priorityOf(priority: number): Priority {
  return PRIORITIES[Math.min(PRIORITIES.length - 1, Math.floor(priority / 25))] as Priority;
}

/** lendingActionProblem says why a ballot about lending could not be carried out as things are, or undefined. */
export function lendingActionProblem(book: ResourceBook, action: Action): Failure | undefined {
  if (!isLendingAction(action)) return undefined;
  if (action.kind === "prioritize") {
    const lease = leaseOf(book, action.id);
    return "reason" in lease ? lease : undefined;
  }
  const offer = offerOf(book, action);
  return "reason" in offer ? offer : undefined;
}

/**
 * carryOutLending does what a ballot decided of lending. An allocation is a request of the borrower with an id of the ballot's: within the
 * owner's policy it is reserved at once, and the borrower's hub confirms it; an owner that answers each request answers this one too.
 */
export function carryOutLending(
  book: ResourceBook,
  at: LogInstant,
  ballotId: string,
  action: LendingAction,
): Outcome<ResourceValue, ResourceNews> {
  if (action.kind === "prioritize") {
    const lease = leaseOf(book, action.id);
    return "reason" in lease ? { ok: false, failure: lease } : book.reprioritize(at, lease.lease, priorityOf(action.priority));
  }
  const offer = offerOf(book, action);
  if ("reason" in offer) return { ok: false, failure: offer };
  const { what, name } = offer.offer;
  const command: ResourceCommand = {
    kind: "request",
    id: requestIdOf(ballotId),
    owner: action.owner,
    name,
    want: wantOf(what),
    amounts: amountsOf({ [COUNTED[what.kind]]: action.amount }),
    durationMs: action.durationMs,
    priority: priorityOf(action.priority),
    context: `ballot ${ballotId}`,
    maxCostMicro: ANY_COST,
    waitMs: 0,
  };
  return book.apply(at, action.borrower, command);
}

/** requestIdOf is the id of the request that a ballot makes. Where both together are too long, it has the end of the ballot's: ids differ there. */
function requestIdOf(ballotId: string): string {
  return BALLOT_PREFIX + ballotId.slice(-(NAME_LENGTH - BALLOT_PREFIX.length));
}

function leaseOf(book: ResourceBook, id: string): { readonly lease: number } | Failure {
  const lease = /^\d{1,15}$/.test(id) ? book.lease(Number(id)) : undefined;
  if (lease?.state === "live") return { lease: lease.lease };
  return {
    reason: "LEASE_OVER",
    message: `${id} is no allocation that runs, and only those have a priority that a ballot changes; name one by its number (foedus resources allocations)`,
    field: "action.id",
  };
}

/** offerOf is the offer that an allocation is of: by its name, or the owner's agents of a type. */
function offerOf(book: ResourceBook, action: Extract<LendingAction, { kind: "allocate" }>): OfferView | Failure {
  const { owner, resource, agentType } = action;
  const own = book.offers().filter((offer) => offer.owner === owner && !offer.withdrawn);
  const found =
    own.find(({ offer }) => offer.name === resource) ??
    (resource === "agents" ? own.find(({ offer }) => offer.what.kind === "agent" && offer.what.type === agentType) : undefined);
  if (found !== undefined) return found;
  const names = own.map(({ offer }) => offer.name).join(", ");
  const message = `${owner} does not offer ${resource}${agentType === "" ? "" : ` of type ${agentType}`}; it offers ${names === "" ? "nothing" : names}`;
  return { reason: "OFFER_NOT_FOUND", message, field: "action.resource" };
}

function wantOf(what: Kind): Want {
  switch (what.kind) {
    case "agent":
      return { kind: "agent", type: what.type };
    case "compute":
      return { kind: "compute", work: what.work, model: "", batch: 0, horizonMs: 0 };
    case "storage":
      return { kind: "storage", holds: what.holds, replication: 0 };
    case "network":
      return { kind: "network", mode: what.mode };
  }
}
