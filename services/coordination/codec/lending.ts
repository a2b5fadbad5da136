import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import {
  type Allocation as AllocationMessage,
  AllocationSchema,
  type LendingReport as ReportMessage,
  ResourceDecision,
  ResourceTake,
} from "#gen/foedus/coordination/v1alpha1/lending_pb.ts";
import {
  type ResourceCommandSchema as CommandDesc,
  LeaseSchema,
  LeaseTermsSchema,
  ResourceAmountsSchema,
  ResourceCommandSchema,
  type ResourceFinding,
  ResourceFindingSchema,
  ResourceOfferSchema,
  type ResourceOfferView,
  ResourceOfferViewSchema,
  ResourceRequestState,
  type ResourceRequestView,
  ResourceRequestViewSchema,
} from "#gen/foedus/coordination/v1alpha1/resources_pb.ts";
import { fail } from "#kernel/error.ts";
import { WireError } from "#kernel/wire/proto-reader.ts";
import { ProtoWriter } from "#kernel/wire/proto-writer.ts";
import type { Amounts } from "../resources/amounts.ts";
import type { Finding } from "../resources/audit.ts";
import type { OfferView } from "../resources/book.ts";
import type { Answer, REQUEST_STATES, RequestView, ResourceCommand } from "../resources/commands.ts";
import type { Allocation, LendingFrame, Take } from "../resources/desk/asks.ts";
import { numberPlace, type Page, pageOf } from "./pages.ts";
import { writeLease } from "./resource-dump.ts";
import { decodeResourceCommand, writeAmounts, writeOffer, writeTerms } from "./resources.ts";

type CommandInit = NonNullable<MessageInitShape<typeof CommandDesc>["command"]>;

/** commandFromProto takes a command of a caller. Throws INVALID_FIELD with what is wrong; what is out of its bounds, the book says. */
export function commandFromProto<K extends ResourceCommand["kind"]>(kind: K, init: CommandInit): Extract<ResourceCommand, { kind: K }> {
  try {
    const bytes = toBinary(ResourceCommandSchema, create(ResourceCommandSchema, { command: init }));
    return decodeResourceCommand(bytes) as Extract<ResourceCommand, { kind: K }>;
  } catch (error) {
    if (!(error instanceof WireError)) throw error;
    throw fail("INVALID_FIELD", `the ${kind} is not complete: ${error.message}`, { field: kind });
  }
}

/** takeFromProto reads what is done with what is reserved. */
export function takeFromProto(take: ResourceTake): Take {
  if (take === ResourceTake.ASK) return "no";
  return take === ResourceTake.KEEP ? "keep" : "once";
}

/** decisionToProto is S1-4's answer, without REJECTED, which is a refusal. */
export function decisionToProto(status: Answer["status"]): ResourceDecision {
  if (status === "accepted") return ResourceDecision.ACCEPTED;
  return status === "negotiating" ? ResourceDecision.NEGOTIATING : ResourceDecision.WAITING;
}

function written(write: (writer: ProtoWriter) => void): Uint8Array {
  const writer = new ProtoWriter();
  write(writer);
  return writer.finish();
}

/** amountsToProto gives amounts to a caller. */
export function amountsToProto(amounts: Amounts) {
  return fromBinary(ResourceAmountsSchema, written(writeAmounts(amounts)));
}

/** allocationToProto gives a lease to a caller. */
export function allocationToProto({ lease, remainingMs, usableMs }: Allocation): AllocationMessage {
  const view = fromBinary(LeaseSchema, written(writeLease(lease)));
  return create(AllocationSchema, { lease: view, remainingMs: BigInt(remainingMs), usableMs: BigInt(usableMs) });
}

const STATES: Readonly<Record<RequestView["state"], ResourceRequestState>> = {
  waiting: ResourceRequestState.WAITING,
  negotiating: ResourceRequestState.NEGOTIATING,
  reserved: ResourceRequestState.RESERVED,
  confirmed: ResourceRequestState.CONFIRMED,
  over: ResourceRequestState.OVER,
} satisfies Record<(typeof REQUEST_STATES)[number], ResourceRequestState>;

/** requestToProto gives a request to a caller. */
export function requestToProto(view: Omit<RequestView, "seq">): ResourceRequestView {
  const { borrower, id, state, owner, name, terms, round, turn, lease, until, why } = view;
  return create(ResourceRequestViewSchema, {
    ...{ borrower, id, state: STATES[state], owner, name, why, borrowersTurn: turn === "borrower" },
    terms: fromBinary(LeaseTermsSchema, written(writeTerms(terms))),
    ...{ round: BigInt(round), lease: BigInt(lease), until: BigInt(until) },
  });
}

/** offerToProto gives an offer to a caller. */
export function offerToProto({ owner, offer, revision, withdrawn, absent, ceiling, used, load }: OfferView): ResourceOfferView {
  return create(ResourceOfferViewSchema, {
    ...{ owner, withdrawn, absent, load: BigInt(load), revision: BigInt(revision) },
    offer: fromBinary(ResourceOfferSchema, written(writeOffer(offer))),
    ceiling: amountsToProto(ceiling),
    used: amountsToProto(used),
  });
}

/** findingToProto gives what an audit found to a caller. */
export function findingToProto({ kind, hub, lease, message }: Finding): ResourceFinding {
  return create(ResourceFindingSchema, { kind, hub, lease: BigInt(lease), message });
}

/** lendingToProto writes a frame of lending for a session. */
export function lendingToProto(frame: LendingFrame) {
  if (frame.kind === "report_ask") return { case: "lendingReportAsk", value: { id: BigInt(frame.id) } } as const;
  const runs = frame.runs.map((run) => ({ ...run, lease: BigInt(run.lease), fence: BigInt(run.fence) }));
  const uses = frame.uses.map((use) => ({ ...use, lease: BigInt(use.lease), fence: BigInt(use.fence) }));
  return { case: "lendingReport", value: { id: BigInt(frame.id), runs, uses } } as const;
}

/** reportFromProto reads a report; its bounds were checked by the session. */
export function reportFromProto({ id, runs, uses }: ReportMessage): LendingFrame {
  return {
    kind: "report",
    id: Number(id),
    runs: runs.map(({ lease, fence, ran, orphan }) => ({ lease: Number(lease), fence: Number(fence), ran, orphan })),
    uses: uses.map(({ id: of, lease, fence, usable, inUse }) => ({ id: of, lease: Number(lease), fence: Number(fence), usable, inUse })),
  };
}

/** offerPage gives a page of offers, by owner and name. */
export function offerPage(offers: readonly OfferView[], after: string): Page<ResourceOfferView> {
  const placeOf = ({ owner, offer }: OfferView): string => `${owner}/${offer.name}`;
  return pageOf(offers, after, { placeOf, write: offerToProto, sizeOf: (one) => toBinary(ResourceOfferViewSchema, one).length });
}

/** requestPage gives a page of requests, in the order in which they came. */
export function requestPage(requests: readonly RequestView[], after: string): Page<ResourceRequestView> {
  const placeOf = ({ seq }: RequestView): string => numberPlace(seq);
  return pageOf(requests, after, { placeOf, write: requestToProto, sizeOf: (one) => toBinary(ResourceRequestViewSchema, one).length });
}

/** allocationPage gives a page of allocations, by number. */
export function allocationPage(allocations: readonly Allocation[], after: string): Page<AllocationMessage> {
  const placeOf = ({ lease }: Allocation): string => numberPlace(lease.lease);
  return pageOf(allocations, after, { placeOf, write: allocationToProto, sizeOf: (one) => toBinary(AllocationSchema, one).length });
}
