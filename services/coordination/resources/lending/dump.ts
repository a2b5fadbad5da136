import { compareText } from "#kernel/wire/bytes.ts";
import type { LeaseView, Offer, Policy, RequestView } from "../commands.ts";
import { newOffer } from "./offers.ts";
import {
  type LeaseRecord,
  leaseDeadline,
  leaseView,
  type OfferRecord,
  offerKey,
  type Quota,
  type RequestCommand,
  requestDeadline,
  requestKey,
} from "./records.ts";
import type { ResourceState } from "./state.ts";

/** HubData is what is kept of a hub that has stated a policy or is away. */
export interface HubData {
  readonly hub: string;
  /** What it has stated; undefined for a hub that has stated none. */
  readonly policy: Policy | undefined;
  readonly absent: boolean;
}

/** QuotaData is the quota of a borrower. */
export interface QuotaData extends Quota {
  readonly borrower: string;
}

/** OfferData is an offer. Quotas are by borrower. */
export interface OfferData {
  readonly owner: string;
  readonly offer: Offer;
  readonly revision: number;
  readonly withdrawn: boolean;
  readonly quotas: readonly QuotaData[];
}

/** LeaseData is a lease. */
export interface LeaseData {
  readonly view: LeaseView;
  readonly paidMs: number;
  readonly nominal: boolean;
}

/** RequestData is a request. Its id stands in the command. */
export interface RequestData extends Omit<RequestView, "id"> {
  readonly since: number;
  readonly command: RequestCommand;
  /** The offer that is kept for it, as `<owner>/<name>`, or empty. */
  readonly claim: string;
}

/** ResourceDump is the whole book: lists are sorted by what they are named by, leases and requests by their numbers. */
export interface ResourceDump {
  readonly serial: number;
  readonly hubs: readonly HubData[];
  readonly offers: readonly OfferData[];
  readonly leases: readonly LeaseData[];
  readonly requests: readonly RequestData[];
  readonly balances: readonly { readonly hub: string; readonly micro: number }[];
  readonly escrow: number;
  readonly writtenOff: number;
}

/** dumpOf writes the state down. */
export function dumpOf(state: ResourceState): ResourceDump {
  return {
    serial: state.serial,
    hubs: [...state.hubs]
      .filter(([, { stated, absent }]) => stated || absent)
      .map(([hub, { policy, stated, absent }]) => ({ hub, policy: stated ? policy : undefined, absent }))
      .sort((a, b) => compareText(a.hub, b.hub)),
    offers: [...state.offers.values()].sort((a, b) => compareText(a.key, b.key)).map(offerData),
    leases: [...state.leases.values()]
      .sort((a, b) => a.lease - b.lease)
      .map((record) => ({ view: leaseView(record), paidMs: record.paidMs, nominal: record.nominal })),
    requests: [...state.requests.values()]
      .sort((a, b) => a.seq - b.seq)
      .map(({ key, claim, ...request }) => ({ ...request, claim: claim?.key ?? "" })),
    balances: state.ledger.entries().map(([hub, micro]) => ({ hub, micro })),
    escrow: state.ledger.escrow,
    writtenOff: state.ledger.writtenOff,
  };
}

function offerData({ owner, offer, revision, withdrawn, quotas }: OfferRecord): OfferData {
  const list = [...quotas].map(([borrower, { nominal, limit }]) => ({ borrower, nominal, limit }));
  return { owner, offer, revision, withdrawn, quotas: list.sort((a, b) => compareText(a.borrower, b.borrower)) };
}

/** loadInto fills a state that is empty. */
export function loadInto(state: ResourceState, dump: ResourceDump): void {
  state.serial = dump.serial;
  for (const { hub, policy, absent } of dump.hubs)
    Object.assign(state.hub(hub), { absent, ...(policy === undefined ? {} : { policy, stated: true }) });
  for (const data of dump.offers) loadOffer(state, data);
  for (const data of dump.leases) loadLease(state, data);
  for (const data of dump.requests) loadRequest(state, data);
  state.ledger.load(
    dump.balances.map(({ hub, micro }) => [hub, micro] as const),
    dump.escrow,
    dump.writtenOff,
  );
}

function loadOffer(state: ResourceState, data: OfferData): void {
  const hub = state.hub(data.owner);
  const record = newOffer(data.owner, data.offer, hub.policy);
  record.revision = data.revision;
  record.withdrawn = data.withdrawn;
  for (const { borrower, nominal, limit } of data.quotas) record.quotas.set(borrower, { nominal, limit });
  state.offers.set(record.key, record);
  hub.offers.add(record);
  if (!record.withdrawn) state.list(record);
}

function loadLease(state: ResourceState, { view, paidMs, nominal }: LeaseData): void {
  const offer = state.offers.get(offerKey(view.owner, view.name));
  if (offer === undefined) return;
  const { lease, borrower, id, amounts, agents, priority, onDisconnect, fence, startedAt, endsAt, costMicro } = view;
  const record: LeaseRecord = {
    ...{ lease, offer, borrower, id, amounts, agents, priority, onDisconnect, fence, startedAt, endsAt, costMicro, paidMs, nominal },
    state: view.state,
    notice: view.notice,
    end: view.end,
  };
  state.occupy(record);
  if (record.state === "live") state.deadlines.set(leaseDeadline(lease), endsAt);
}

function loadRequest(state: ResourceState, { claim, ...data }: RequestData): void {
  const request = { ...data, key: requestKey(data.borrower, data.command.id), claim: state.offers.get(claim) };
  state.keep(request);
  request.claim?.claims.add(request);
  if (request.state === "waiting") state.waiting.add(request);
  if (request.state === "negotiating") state.offers.get(offerKey(data.owner, data.name))?.talks.add(request);
  if (request.until > 0) state.deadlines.set(requestDeadline(request.key), request.until);
}
