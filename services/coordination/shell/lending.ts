import { create } from "@bufbuild/protobuf";
import type { CoordinationService } from "#gen/foedus/coordination/v1alpha1/coordination_service_pb.ts";
import {
  type AnswerRequestRequest,
  AnswerRequestResponseSchema,
  AuditResourcesResponseSchema,
  CheckFenceResponseSchema,
  ConfirmRequestResponseSchema,
  ListAllocationsResponseSchema,
  ListOffersResponseSchema,
  ListRequestsResponseSchema,
  OfferResourceResponseSchema,
  PreemptAllocationResponseSchema,
  ReleaseAllocationResponseSchema,
  RenewAllocationResponseSchema,
  RequestResourceResponseSchema,
  ResourceReply,
  SetQuotaResponseSchema,
  SetResourcePolicyResponseSchema,
  WithdrawOfferResponseSchema,
} from "#gen/foedus/coordination/v1alpha1/lending_pb.ts";
import { LeasePriority, type LeaseTerms, ResourceAmountsSchema } from "#gen/foedus/coordination/v1alpha1/resources_pb.ts";
import { fail } from "#kernel/error.ts";
import type { CallContext, Handlers } from "#runtime/rpc/call.ts";
import {
  allocationPage,
  allocationToProto,
  commandFromProto,
  decisionToProto,
  findingToProto,
  offerPage,
  requestPage,
  requestToProto,
  takeFromProto,
} from "../codec/lending.ts";
import type { Answer as CoreAnswer, Request } from "../messages.ts";
import { AMOUNT_MAX } from "../resources/amounts.ts";
import type { LendingAnswer, LendingAsk } from "../resources/desk/asks.ts";

type Handled = Handlers<typeof CoordinationService>;
type Ask = <K extends CoreAnswer["kind"]>(kind: K, request: Request, context: CallContext) => Promise<Extract<CoreAnswer, { kind: K }>>;
type Lend = <K extends LendingAnswer["kind"]>(ask: LendingAsk, context: CallContext) => Promise<Extract<LendingAnswer, { kind: K }>>;

/** NO_AMOUNTS and NO_LIMIT are what is meant where a caller says nothing. */
const NO_AMOUNTS = create(ResourceAmountsSchema);
const MOST = BigInt(AMOUNT_MAX);
const NO_LIMIT = create(ResourceAmountsSchema, {
  ...{ agents: MOST, cpuMilli: MOST, gpuMilli: MOST, memoryMb: MOST, storageMb: MOST, networkKbps: MOST },
});

type Lending = Pick<
  Handled,
  | "offerResource"
  | "withdrawOffer"
  | "listOffers"
  | "requestResource"
  | "answerRequest"
  | "confirmRequest"
  | "listRequests"
  | "listAllocations"
  | "renewAllocation"
  | "releaseAllocation"
  | "preemptAllocation"
  | "setResourcePolicy"
  | "setQuota"
  | "auditResources"
  | "checkFence"
>;

/** lendingHandlers are the RPCs of lending. `newId` makes an id for a request that has none; `hubId` is this hub's. */
export function lendingHandlers(ask: Ask, hubId: string, newId: () => string): Lending {
  const lend: Lend = async (what, context) => (await ask("lent", { kind: "lending", ask: what }, context)).answer as never;
  return { ...ownerHandlers(lend), ...borrowerHandlers(lend, newId), ...listHandlers(lend, hubId), ...talkHandlers(lend, hubId) };
}

function ownerHandlers(
  lend: Lend,
): Pick<
  Handled,
  "offerResource" | "withdrawOffer" | "preemptAllocation" | "setResourcePolicy" | "setQuota" | "checkFence" | "auditResources"
> {
  return {
    offerResource: async ({ offer }, context) => {
      const whole = { ...offer!, capacity: offer!.capacity ?? NO_AMOUNTS, prices: offer!.prices ?? NO_AMOUNTS };
      const command = commandFromProto("offer", { case: "offer", value: { offer: whole } });
      const { revision } = await lend<"offer">({ kind: "command", command, take: "no" }, context);
      return create(OfferResourceResponseSchema, { revision: BigInt(revision) });
    },
    withdrawOffer: async ({ name }, context) => {
      await lend({ kind: "command", command: { kind: "withdraw", name }, take: "no" }, context);
      return create(WithdrawOfferResponseSchema);
    },
    preemptAllocation: async ({ lease, graceMs }, context) => {
      const command = { kind: "reclaim", lease: Number(lease), graceMs: Number(graceMs) } as const;
      const { allocation } = await lend<"lease">({ kind: "command", command, take: "no" }, context);
      return create(PreemptAllocationResponseSchema, { allocation: allocationToProto(allocation) });
    },
    setResourcePolicy: async ({ policy }, context) => {
      const command = commandFromProto("policy", { case: "policy", value: { policy: policy! } });
      await lend({ kind: "command", command, take: "no" }, context);
      return create(SetResourcePolicyResponseSchema);
    },
    setQuota: async ({ quota }, context) => {
      const whole = { ...quota!, nominal: quota!.nominal ?? NO_AMOUNTS, limit: quota!.limit ?? NO_LIMIT };
      await lend({ kind: "command", command: commandFromProto("quota", { case: "quota", value: whole }), take: "no" }, context);
      return create(SetQuotaResponseSchema);
    },
    checkFence: async ({ lease, fence, done }, context) => {
      const { kind, spiffeId } = context.caller;
      // Operators, and what acts for them, say of any program that it is done; a program says that of itself.
      const by = kind === "operator" || kind === "service" ? {} : { by: spiffeId };
      const answer = await lend<"admitted" | "done">({ kind: "check", lease: Number(lease), fence: Number(fence), done, ...by }, context);
      if (answer.kind === "done") return create(CheckFenceResponseSchema);
      return create(CheckFenceResponseSchema, { validMs: BigInt(answer.validMs), agents: [...answer.agents] });
    },
    auditResources: async (_request, context) => {
      const { findings, asked, silent } = await lend<"audit">({ kind: "audit" }, context);
      return create(AuditResourcesResponseSchema, { findings: findings.map(findingToProto), asked: [...asked], silent: [...silent] });
    },
  };
}

function borrowerHandlers(
  lend: Lend,
  newId: () => string,
): Pick<Handled, "requestResource" | "confirmRequest" | "renewAllocation" | "releaseAllocation"> {
  return {
    requestResource: async ({ request, take }, context) => {
      const asked = request!;
      const whole = {
        ...asked,
        id: asked.id === "" ? newId() : asked.id,
        amounts: asked.amounts ?? NO_AMOUNTS,
        priority: asked.priority === LeasePriority.UNSPECIFIED ? LeasePriority.MEDIUM : asked.priority,
      };
      const command = commandFromProto("request", { case: "request", value: whole });
      const answer = await lend<"answer" | "lease">({ kind: "request", command, take: takeFromProto(take) }, context);
      return create(RequestResourceResponseSchema, decided(answer, command.id));
    },
    confirmRequest: async ({ id, keep }, context) => {
      const { allocation } = await lend<"lease">({ kind: "confirm", id, take: keep ? "keep" : "once" }, context);
      return create(ConfirmRequestResponseSchema, { allocation: allocationToProto(allocation) });
    },
    renewAllocation: async ({ lease, fence, durationMs }, context) => {
      const what = { kind: "renew", lease: Number(lease), fence: Number(fence), durationMs: Number(durationMs) } as const;
      const { allocation } = await lend<"lease">(what, context);
      return create(RenewAllocationResponseSchema, { allocation: allocationToProto(allocation) });
    },
    releaseAllocation: async ({ lease, fence }, context) => {
      await lend({ kind: "release", lease: Number(lease), fence: Number(fence) }, context);
      return create(ReleaseAllocationResponseSchema);
    },
  };
}

/** decided is S1-4's answer. What was confirmed at once has its lease and nothing more to be confirmed. */
function decided(answer: Extract<LendingAnswer, { kind: "answer" | "lease" }>, id: string) {
  if (answer.kind === "lease") {
    const { lease } = answer.allocation;
    const { borrower, owner, name } = lease;
    const terms = { amounts: lease.amounts, durationMs: lease.endsAt - lease.startedAt, costMicro: lease.costMicro };
    const view = {
      borrower,
      id,
      owner,
      name,
      terms,
      state: "confirmed",
      round: 0,
      turn: "owner",
      lease: lease.lease,
      until: 0,
      why: "",
    } as const;
    return {
      decision: decisionToProto("accepted"),
      request: requestToProto(view),
      allocation: allocationToProto(answer.allocation),
      windowStart: BigInt(lease.startedAt),
      windowEnd: BigInt(lease.endsAt),
    };
  }
  const { status, request, lease, confirmMs, window } = answer.answer;
  return {
    decision: decisionToProto(status),
    request: requestToProto(request),
    ...(lease === undefined
      ? {}
      : { allocation: allocationToProto({ lease, usableMs: 0, remainingMs: Math.max(0, lease.endsAt - window.start) }) }),
    confirmMs: BigInt(confirmMs),
    windowStart: BigInt(window.start),
    windowEnd: BigInt(window.end),
  };
}

function talkHandlers(lend: Lend, hubId: string): Pick<Handled, "answerRequest"> {
  return {
    answerRequest: async (request, context) => {
      const command = replyOf(request, request.borrower === "" ? hubId : request.borrower);
      const answer = await lend<"answer" | "lease" | "done">({ kind: "command", command, take: takeFromProto(request.take) }, context);
      return create(AnswerRequestResponseSchema, answer.kind === "done" ? {} : only(decided(answer, request.id)));
    },
  };
}

function only({ decision, request, allocation }: ReturnType<typeof decided>) {
  return { decision, request, ...(allocation === undefined ? {} : { allocation }) };
}

function replyOf({ id, reply, round, terms }: AnswerRequestRequest, borrower: string) {
  const said = { borrower, id, round: Number(round) };
  switch (reply) {
    case ResourceReply.ACCEPT:
      return { kind: "accept", ...said } as const;
    case ResourceReply.DECLINE:
      return { kind: "decline", borrower, id } as const;
    case ResourceReply.COUNTER:
      return commandFromProto("counter", { case: "counter", value: { borrower, id, round, terms: termsOf(terms) } });
    default:
      throw fail("INVALID_FIELD", "reply: say ACCEPT, COUNTER or DECLINE", { field: "reply" });
  }
}

function termsOf(terms: LeaseTerms | undefined) {
  if (terms === undefined) throw fail("INVALID_FIELD", "terms: a counter-offer has other terms; say them", { field: "terms" });
  return { ...terms, amounts: terms.amounts ?? NO_AMOUNTS };
}

function listHandlers(lend: Lend, hubId: string): Pick<Handled, "listOffers" | "listRequests" | "listAllocations"> {
  return {
    listOffers: async ({ owner, after }, context) => {
      const { offers, ageMs } = await lend<"offers">({ kind: "list", what: "offers" }, context);
      const some = offers.filter((offer) => owner === "" || offer.owner === owner);
      const { items, next } = offerPage(some, after);
      return create(ListOffersResponseSchema, { offers: items, next, ageMs: BigInt(ageMs) });
    },
    listRequests: async ({ mineToAnswer, after }, context) => {
      const { requests, ageMs } = await lend<"requests">({ kind: "list", what: "requests" }, context);
      const some = requests.filter(
        ({ state, turn, borrower, owner }) =>
          !mineToAnswer || (state === "negotiating" && (turn === "owner" ? owner === hubId : borrower === hubId)),
      );
      const { items, next } = requestPage(some, after);
      return create(ListRequestsResponseSchema, { requests: items, next, ageMs: BigInt(ageMs) });
    },
    listAllocations: async ({ owner, borrower, after }, context) => {
      const { allocations, ageMs } = await lend<"allocations">({ kind: "list", what: "allocations" }, context);
      const some = allocations.filter(
        ({ lease }) => (owner === "" || lease.owner === owner) && (borrower === "" || lease.borrower === borrower),
      );
      const { items, next } = allocationPage(some, after);
      return create(ListAllocationsResponseSchema, { allocations: items, next, ageMs: BigInt(ageMs) });
    },
  };
}
