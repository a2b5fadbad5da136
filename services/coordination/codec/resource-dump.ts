import { ProtoReader } from "#kernel/wire/proto-reader.ts";
import { ProtoWriter } from "#kernel/wire/proto-writer.ts";
import type { Amounts } from "../resources/amounts.ts";
import {
  ENDS,
  LEASE_STATES,
  type LeaseEnd,
  type LeaseView,
  type Offer,
  ON_DISCONNECT,
  type Policy,
  PRIORITIES,
  REQUEST_STATES,
  type ResourceCommand,
  type Terms,
} from "../resources/commands.ts";
import type { HubData, LeaseData, OfferData, QuotaData, RequestData, ResourceDump } from "../resources/lending/dump.ts";
import {
  boolIn,
  boolOf,
  contextIn,
  fieldsOf,
  listOf,
  messageIn,
  partOf,
  type Reading,
  readAmounts,
  readOffer,
  readPolicy,
  readRequest,
  readTerms,
  textIn,
  textOf,
  uintIn,
  uintOf,
  wordNumber,
  wordOf,
  writeAmounts,
  writeOffer,
  writePolicy,
  writeRequest,
  writeTerms,
} from "./resources.ts";

type Write = (writer: ProtoWriter) => void;

/** Bytes of an offer with all its quotas. */
const OFFER_BYTES = 256 * 1024;
const CLAIM_BYTES = 127;

/** writeLease and readLease write and read what can be seen of a lease (Lease). */
export const writeLease =
  (view: LeaseView): Write =>
  (writer) => {
    writer.uint(1, view.lease).text(2, view.owner).text(3, view.name).text(4, view.borrower).text(5, view.id);
    writer.message(6, writeAmounts(view.amounts));
    for (const agent of view.agents) writer.textItem(7, agent);
    writer.uint(8, wordNumber(PRIORITIES, view.priority)).uint(9, wordNumber(LEASE_STATES, view.state)).uint(10, view.fence);
    writer.uint(11, view.startedAt).uint(12, view.endsAt).uint(13, view.costMicro);
    writer.uint(14, wordNumber(ENDS, view.notice)).uint(15, wordNumber(ENDS, view.end));
    writer.uint(16, wordNumber(ON_DISCONNECT, view.onDisconnect));
  };

export function readLease(reader: ProtoReader): LeaseView {
  const numbers = { 1: uintIn, 8: uintIn, 9: uintIn, 10: uintIn, 11: uintIn, 12: uintIn, 13: uintIn, 14: uintIn, 15: uintIn, 16: uintIn };
  const texts = { 2: textIn, 3: textIn, 4: textIn, 5: textIn, 7: textIn };
  const values = fieldsOf(reader, { ...numbers, ...texts, 6: messageIn(readAmounts) }, [7]);
  const notice = uintOf(values, 14) === 0 ? {} : { notice: wordOf(values, 14, ENDS) as "preempted" | "reclaimed" };
  const end: { end?: LeaseEnd } = uintOf(values, 15) === 0 ? {} : { end: wordOf(values, 15, ENDS) };
  return {
    ...{ lease: uintOf(values, 1), owner: textOf(values, 2), name: textOf(values, 3), borrower: textOf(values, 4), id: textOf(values, 5) },
    ...{ amounts: partOf<Amounts>(values, 6), agents: listOf<string>(values, 7), priority: wordOf(values, 8, PRIORITIES) },
    ...{ state: wordOf(values, 9, LEASE_STATES), fence: uintOf(values, 10), startedAt: uintOf(values, 11), endsAt: uintOf(values, 12) },
    ...{ costMicro: uintOf(values, 13), onDisconnect: wordOf(values, 16, ON_DISCONNECT) },
    ...notice,
    ...end,
  };
}

const writeQuota =
  (quota: QuotaData): Write =>
  (writer) => {
    writer.text(1, quota.borrower).message(2, writeAmounts(quota.nominal)).message(3, writeAmounts(quota.limit));
  };

function readQuota(reader: ProtoReader): QuotaData {
  const values = fieldsOf(reader, { 1: textIn, 2: messageIn(readAmounts), 3: messageIn(readAmounts) });
  return { borrower: textOf(values, 1), nominal: partOf<Amounts>(values, 2), limit: partOf<Amounts>(values, 3) };
}

const writeRequestData =
  (data: RequestData): Write =>
  (writer) => {
    writer
      .uint(1, data.seq)
      .uint(2, data.since)
      .message(3, writeRequest(data.command))
      .message(4, (view) => {
        view.text(1, data.borrower).text(2, data.command.id).uint(3, wordNumber(REQUEST_STATES, data.state)).text(4, data.owner);
        view
          .text(5, data.name)
          .message(6, writeTerms(data.terms))
          .uint(7, data.round)
          .bool(8, data.turn === "borrower");
        view.uint(9, data.lease).uint(10, data.until).text(11, data.why);
      });
    writer.text(5, data.claim);
  };

function readRequestData(reader: ProtoReader): RequestData {
  const view = messageIn((inner) => {
    const texts = { 1: textIn, 2: textIn, 4: textIn, 5: textIn, 11: contextIn };
    return fieldsOf(inner, { ...texts, 3: uintIn, 6: messageIn(readTerms), 7: uintIn, 8: boolIn, 9: uintIn, 10: uintIn });
  });
  const claim = (inner: ProtoReader): string => inner.text(CLAIM_BYTES);
  const values = fieldsOf(reader, { 1: uintIn, 2: uintIn, 3: messageIn(readRequest), 4: view, 5: claim });
  const seen = partOf<Reading>(values, 4);
  return {
    ...{ borrower: textOf(seen, 1), seq: uintOf(values, 1), since: uintOf(values, 2) },
    command: partOf<Extract<ResourceCommand, { kind: "request" }>>(values, 3),
    ...{ state: wordOf(seen, 3, REQUEST_STATES), owner: textOf(seen, 4), name: textOf(seen, 5), terms: partOf<Terms>(seen, 6) },
    ...{ round: uintOf(seen, 7), turn: boolOf(seen, 8) ? "borrower" : "owner", lease: uintOf(seen, 9), until: uintOf(seen, 10) },
    ...{ why: textOf(seen, 11), claim: textOf(values, 5) },
  };
}

const writeBalance =
  (hub: string, micro: number): Write =>
  (writer) => {
    writer.text(1, hub).uint(2, Math.max(0, micro)).uint(3, Math.max(0, -micro));
  };

function readBalance(reader: ProtoReader): { hub: string; micro: number } {
  const values = fieldsOf(reader, { 1: textIn, 2: uintIn, 3: uintIn });
  return { hub: textOf(values, 1), micro: uintOf(values, 2) - uintOf(values, 3) };
}

/** encodeResourceDump writes the whole book (ResourceBookDump of resources.proto): the same book gives the same bytes. */
export function encodeResourceDump(dump: ResourceDump): Uint8Array {
  const writer = new ProtoWriter().uint(1, dump.serial);
  for (const { hub, policy, absent } of dump.hubs)
    writer.message(2, (inner) => {
      inner.text(1, hub);
      if (policy !== undefined) inner.message(2, writePolicy(policy));
      inner.bool(3, absent);
    });
  for (const { owner, offer, revision, withdrawn, quotas } of dump.offers)
    writer.message(3, (inner) => {
      inner.text(1, owner).message(2, writeOffer(offer)).uint(3, revision).bool(4, withdrawn);
      for (const quota of quotas) inner.message(5, writeQuota(quota));
    });
  for (const { view, paidMs, nominal } of dump.leases)
    writer.message(4, (inner) => inner.message(1, writeLease(view)).uint(2, paidMs).bool(3, nominal));
  for (const data of dump.requests) writer.message(5, writeRequestData(data));
  for (const { hub, micro } of dump.balances) writer.message(6, writeBalance(hub, micro));
  return writer.uint(7, dump.escrow).message(8, writeBalance("", dump.writtenOff)).finish();
}

/** decodeResourceDump reads a book; WireError if the bytes are not one. What it says is that of a snapshot whose digest was checked. */
export function decodeResourceDump(bytes: Uint8Array): ResourceDump {
  const dump = { serial: 0, escrow: 0, writtenOff: 0 };
  const lists = { hubs: [] as HubData[], offers: [] as OfferData[], leases: [] as LeaseData[], requests: [] as RequestData[] };
  const balances: { hub: string; micro: number }[] = [];
  const reader = new ProtoReader(bytes);
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) dump.serial = reader.uint();
    else if (field === 2) lists.hubs.push(messageIn(readHub)(reader));
    else if (field === 3) lists.offers.push(messageIn(readOfferData, OFFER_BYTES)(reader));
    else if (field === 4) lists.leases.push(messageIn(readLeaseData)(reader));
    else if (field === 5) lists.requests.push(messageIn(readRequestData)(reader));
    else if (field === 6) balances.push(messageIn(readBalance)(reader));
    else if (field === 7) dump.escrow = reader.uint();
    else if (field === 8) dump.writtenOff = messageIn(readBalance)(reader).micro;
    else reader.unknown();
  }
  return { ...dump, ...lists, balances };
}

function readHub(reader: ProtoReader): HubData {
  const values = fieldsOf(reader, { 1: textIn, 2: messageIn(readPolicy), 3: boolIn });
  return { hub: textOf(values, 1), policy: values.get(2) as Policy | undefined, absent: boolOf(values, 3) };
}

function readOfferData(reader: ProtoReader): OfferData {
  const values = fieldsOf(reader, { 1: textIn, 2: messageIn(readOffer), 3: uintIn, 4: boolIn, 5: messageIn(readQuota) }, [5]);
  const [revision, withdrawn, quotas] = [uintOf(values, 3), boolOf(values, 4), listOf<QuotaData>(values, 5)];
  return { owner: textOf(values, 1), offer: partOf<Offer>(values, 2), revision, withdrawn, quotas };
}

function readLeaseData(reader: ProtoReader): LeaseData {
  const values = fieldsOf(reader, { 1: messageIn(readLease), 2: uintIn, 3: boolIn });
  return { view: partOf<LeaseView>(values, 1), paidMs: uintOf(values, 2), nominal: boolOf(values, 3) };
}
