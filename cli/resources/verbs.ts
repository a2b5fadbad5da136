import { create } from "@bufbuild/protobuf";
import {
  type Allocation,
  AllocationSchema,
  AnswerRequestRequestSchema,
  AuditResourcesRequestSchema,
  AuditResourcesResponseSchema,
  ConfirmRequestRequestSchema,
  ListAllocationsRequestSchema,
  ListOffersRequestSchema,
  ListRequestsRequestSchema,
  OfferResourceRequestSchema,
  PreemptAllocationRequestSchema,
  ReleaseAllocationRequestSchema,
  RenewAllocationRequestSchema,
  RequestResourceRequestSchema,
  RequestResourceResponseSchema,
  ResourceDecision,
  ResourceReply,
  SetQuotaRequestSchema,
  SetResourcePolicyRequestSchema,
  WithdrawOfferRequestSchema,
} from "#gen/foedus/coordination/v1alpha1/lending_pb.ts";
import {
  LeasePriority,
  OnDisconnect,
  ResourceOfferViewSchema,
  ResourceRequestStateSchema,
  type ResourceRequestView,
  ResourceRequestViewSchema,
} from "#gen/foedus/coordination/v1alpha1/resources_pb.ts";
import { own } from "#kernel/own.ts";
import { CliError, EXIT, type ExitCode } from "../exit.ts";
import type { Io } from "../io.ts";
import { parseCount, parseDuration, parseHub, parseWord } from "../parse.ts";
import { clean, duration, label } from "../print/format.ts";
import { type Cell, table } from "../print/table.ts";
import { connect } from "../reach/connect.ts";
import { everyPage } from "../reach/pages.ts";
import { messageJson, type OperatorFlags, printJson } from "../verb.ts";
import { withOffers } from "./near.ts";
import {
  amountsText,
  kindText,
  leftText,
  parseAmounts,
  parseAmountsOf,
  parseKind,
  parseLimit,
  parsePriority,
  parseWant,
  stateCell,
  takeOf,
  unitsText,
} from "./text.ts";

type Done = Promise<ExitCode | undefined>;

/** said ends a verb that changed something. */
async function said(io: Io, options: OperatorFlags, json: object, text: string): Promise<ExitCode> {
  if (options.json) await printJson(io, json);
  else if (!options.quiet) await io.out(`${text}\n`);
  return EXIT.ok;
}

/** offers lists what the hubs of the federation offer. */
export async function offers(io: Io, [owner = ""]: readonly string[], options: OperatorFlags): Done {
  using connection = await connect(options, io);
  const offersAfter = (after: string) => create(ListOffersRequestSchema, { owner, after });
  const pages = await everyPage("offers", (after) => connection.coordination.listOffers(offersAfter(after), { signal: io.stopped }));
  const all = pages.flatMap(({ offers }) => offers);
  const ageMs = pages[0]?.ageMs ?? 0n;
  if (options.json) await printJson(io, { offers: all.map((one) => messageJson(ResourceOfferViewSchema, one)) });
  else if (options.quiet) await io.out(all.map(({ owner: hub, offer }) => `${clean(hub)}/${clean(offer?.name ?? "")}\n`).join(""));
  else if (all.length === 0) io.note("nothing is offered yet: `foedus resources offer` offers something of this hub\n");
  else {
    const rows = all.map(({ owner: hub, offer, ceiling, used, withdrawn, absent, load }): Cell[] => [
      `${hub}/${offer?.name ?? ""}`,
      kindText(offer?.what),
      amountsText(ceiling),
      amountsText(used),
      `${Number(load) / 10} %`,
      withdrawn ? { text: "withdrawn", style: "yellow" } : absent ? { text: "away", style: "red" } : { text: "offered", style: "green" },
    ]);
    const columns = [
      { title: "OFFER" },
      { title: "KIND" },
      { title: "LENT AT MOST" },
      { title: "LENT" },
      { title: "LOAD" },
      { title: "STATE" },
    ];
    await io.out(table(io, columns, rows));
    io.note(`${duration(ageMs)} old at most\n`);
  }
  return EXIT.ok;
}

/** OfferFlags are the options of `foedus resources offer`. */
export interface OfferFlags extends OperatorFlags {
  readonly with?: readonly string[];
  readonly price?: readonly string[];
  readonly ask?: boolean;
}

/** offer offers something of this hub. */
export async function offer(io: Io, [name = "", kind = "", ...amounts]: readonly string[], options: OfferFlags): Done {
  using connection = await connect(options, io);
  const prices = (options.price ?? []).map((one) =>
    one.replace(/=(\d+(?:\.\d{1,6})?)$/, (_, units: string) => `=${Math.round(Number(units) * 1_000_000)}`),
  );
  const what = parseKind(kind, options.with ?? []);
  const capacity = parseAmountsOf(kind, amounts);
  if (what.what?.case === "agent") capacity.agents ??= BigInt(options.with?.length ?? 0);
  const request = create(OfferResourceRequestSchema, {
    offer: { name, what, capacity, prices: parseAmounts(prices), shared: true, automatic: options.ask !== true },
  });
  const { revision } = await connection.coordination.offerResource(request, { signal: io.stopped });
  return said(io, options, { name, revision: Number(revision) }, `${clean(name)} is offered`);
}

/** withdraw has no more of an offer lent. */
export async function withdraw(io: Io, [name = ""]: readonly string[], options: OperatorFlags): Done {
  using connection = await connect(options, io);
  await withOffers(connection, { owner: connection.target.hubId, name }, io.stopped, () =>
    connection.coordination.withdrawOffer(create(WithdrawOfferRequestSchema, { name }), { signal: io.stopped }),
  );
  return said(io, options, { name, withdrawn: true }, `${clean(name)} is withdrawn; what is lent of it goes on to its end`);
}

/** RequestFlags are the options of `foedus resources request`. */
export interface RequestFlags extends OperatorFlags {
  readonly of?: string;
  readonly for?: string;
  readonly model?: string;
  readonly priority?: string;
  readonly maxCost?: string;
  readonly wait?: string;
  readonly id?: string;
  readonly keep?: boolean;
  readonly hold?: boolean;
  readonly why?: string;
}

/** request asks for something that is offered. Fails (1) while it only waits or is negotiated. */
export async function request(io: Io, [what = "", ...amounts]: readonly string[], options: RequestFlags): Done {
  using connection = await connect(options, io);
  const [owner = "", name = ""] = (options.of ?? "").split("/", 2);
  const asked = create(RequestResourceRequestSchema, {
    take: takeOf(options),
    request: {
      ...{ id: options.id ?? "", owner, name, want: parseWant(what, options.model), amounts: parseAmountsOf(what, amounts) },
      durationMs: BigInt(parseDuration(options.for ?? "1h")),
      priority: options.priority === undefined ? LeasePriority.MEDIUM : parsePriority(options.priority),
      maxCostMicro: options.maxCost === undefined ? 0n : BigInt(parseCount(options.maxCost)) * 1_000_000n,
      waitMs: options.wait === undefined ? 0n : BigInt(parseDuration(options.wait)),
      context: options.why ?? "",
    },
  });
  const answer = await withOffers(connection, { owner, name, kind: what }, io.stopped, () =>
    connection.coordination.requestResource(asked, { signal: io.stopped }),
  );
  const { decision, allocation, request: view, confirmMs } = answer;
  const id = clean(view?.id ?? "");
  if (options.json) await printJson(io, messageJson(RequestResourceResponseSchema, answer));
  else if (options.quiet) await io.out(`${id}\n`);
  else if (decision === ResourceDecision.ACCEPTED && confirmMs === 0n) await io.out(allocationText(io, allocation!));
  else if (decision === ResourceDecision.ACCEPTED)
    await io.out(`reserved for request ${id}; take it within ${duration(confirmMs)} with: foedus resources confirm ${id}\n`);
  else if (decision === ResourceDecision.NEGOTIATING)
    await io.out(`request ${id} is negotiated: ${clean(view?.owner ?? "")} is to answer (foedus resources requests shows how it stands)\n`);
  else await io.out(`request ${id} waits for room; it is taken as soon as there is (foedus resources requests shows how it stands)\n`);
  return decision === ResourceDecision.ACCEPTED ? EXIT.ok : EXIT.failed;
}

/** confirm takes what is reserved. */
export async function confirm(io: Io, [id = ""]: readonly string[], options: OperatorFlags & { readonly keep?: boolean }): Done {
  using connection = await connect(options, io);
  const asked = create(ConfirmRequestRequestSchema, { id, keep: options.keep ?? false });
  return show(io, options, (await connection.coordination.confirmRequest(asked, { signal: io.stopped })).allocation!);
}

async function show(io: Io, options: OperatorFlags, allocation: Allocation): Promise<ExitCode> {
  if (options.json) await printJson(io, { allocation: messageJson(AllocationSchema, allocation) });
  else if (options.quiet) await io.out(`${allocation.lease?.lease ?? 0n}\n`);
  else await io.out(allocationText(io, allocation));
  return EXIT.ok;
}

const COLUMNS = [
  { title: "ALLOCATION", align: "right" },
  { title: "OFFER" },
  { title: "BORROWER" },
  { title: "AMOUNTS" },
  { title: "STATE" },
  { title: "LEFT", align: "right" },
  { title: "FENCE", align: "right" },
  { title: "COST", align: "right" },
] as const;

function allocationRow(one: Allocation): Cell[] {
  const { lease, owner, name, borrower, amounts, fence, costMicro } = one.lease!;
  return [
    String(lease),
    `${owner}/${name}`,
    borrower,
    amountsText(amounts),
    stateCell(one),
    leftText(one),
    String(fence),
    unitsText(costMicro),
  ];
}

function allocationText(io: Io, one: Allocation): string {
  return table(io, COLUMNS, [allocationRow(one)]);
}

async function allRequests(io: Io, { coordination }: Connection, mineToAnswer = false): Promise<ResourceRequestView[]> {
  const request = (after: string) => create(ListRequestsRequestSchema, { mineToAnswer, after });
  const pages = await everyPage("requests", (after) => coordination.listRequests(request(after), { signal: io.stopped }));
  return pages.flatMap((page) => page.requests);
}

async function allAllocations(
  io: Io,
  { coordination }: Connection,
  of: { readonly owner?: string; readonly borrower?: string } = {},
): Promise<Allocation[]> {
  const request = (after: string) => create(ListAllocationsRequestSchema, { ...of, after });
  const pages = await everyPage("allocations", (after) => coordination.listAllocations(request(after), { signal: io.stopped }));
  return pages.flatMap((page) => page.allocations);
}

/** requests lists requests. */
export async function requests(io: Io, _args: readonly string[], options: OperatorFlags & { readonly mine?: boolean }): Done {
  using connection = await connect(options, io);
  const all = await allRequests(io, connection, options.mine ?? false);
  if (options.json) await printJson(io, { requests: all.map((one) => messageJson(ResourceRequestViewSchema, one)) });
  else if (options.quiet) await io.out(all.map(({ borrower, id }) => `${clean(borrower)} ${clean(id)}\n`).join(""));
  else if (all.length === 0) io.note("there are no requests: `foedus resources request` makes one\n");
  else {
    const rows = all.map(({ id, borrower, owner, name, state, terms, round, borrowersTurn, why }): Cell[] => [
      id,
      borrower,
      owner === "" ? "any" : `${owner}${name === "" ? "" : `/${name}`}`,
      amountsText(terms?.amounts),
      duration(terms?.durationMs ?? 0n),
      unitsText(terms?.costMicro ?? 0n),
      round > 0n
        ? `${label(ResourceRequestStateSchema, state)}, round ${round}: ${borrowersTurn ? borrower : owner} is to answer`
        : `${label(ResourceRequestStateSchema, state)}${why === "" ? "" : `: ${why}`}`,
    ]);
    const titles = [
      { title: "REQUEST" },
      { title: "BORROWER" },
      { title: "OF" },
      { title: "AMOUNTS" },
      { title: "FOR" },
      { title: "COST", align: "right" },
      { title: "STATE", flexible: true, prose: true },
    ] as const;
    await io.out(table(io, titles, rows));
  }
  return EXIT.ok;
}

const REPLIES: Readonly<Record<string, ResourceReply>> = {
  accept: ResourceReply.ACCEPT,
  counter: ResourceReply.COUNTER,
  decline: ResourceReply.DECLINE,
};

/** AnswerFlags are the options of `foedus resources answer`. */
export interface AnswerFlags extends OperatorFlags {
  readonly amount?: readonly string[];
  readonly for?: string;
  readonly cost?: string;
  readonly keep?: boolean;
}

/** answer accepts, counters or declines the terms of a request. */
export async function answer(io: Io, [borrower = "", id = "", word = ""]: readonly string[], options: AnswerFlags): Done {
  using connection = await connect(options, io);
  const reply = parseWord(REPLIES, word, "answer");
  const all = await allRequests(io, connection);
  const view = all.find((one) => one.borrower === parseHub(borrower) && one.id === id);
  if (view === undefined)
    throw new CliError(EXIT.notFound, `${clean(borrower)} has no request ${clean(id)}`, "List them with `foedus resources requests`.");
  const terms = {
    amounts: options.amount === undefined ? view.terms!.amounts! : parseAmounts(options.amount),
    durationMs: options.for === undefined ? view.terms!.durationMs : BigInt(parseDuration(options.for)),
    costMicro: options.cost === undefined ? view.terms!.costMicro : BigInt(parseCount(options.cost)) * 1_000_000n,
  };
  const { round } = view;
  const asked = create(AnswerRequestRequestSchema, {
    borrower,
    id,
    reply,
    round,
    take: takeOf(options),
    ...(word === "counter" ? { terms } : {}),
  });
  const { request: after } = await connection.coordination.answerRequest(asked, { signal: io.stopped });
  const state = after === undefined ? "over" : label(ResourceRequestStateSchema, after.state);
  return said(io, options, { borrower, id, state }, `request ${clean(id)} of ${clean(borrower)} is ${state}`);
}

/** allocations lists what is reserved, lent, or not back yet. */
export async function allocations(
  io: Io,
  _args: readonly string[],
  options: OperatorFlags & { readonly owner?: string; readonly borrower?: string },
): Done {
  using connection = await connect(options, io);
  const { owner = "", borrower = "" } = options;
  const all = await allAllocations(io, connection, { owner, borrower });
  if (options.json) await printJson(io, { allocations: all.map((one) => messageJson(AllocationSchema, one)) });
  else if (options.quiet) await io.out(all.map(({ lease }) => `${lease?.lease ?? 0n}\n`).join(""));
  else if (all.length === 0) io.note("nothing is lent\n");
  else await io.out(table(io, COLUMNS, all.map(allocationRow)));
  return EXIT.ok;
}

/** FenceFlags are the options of what changes an allocation. */
export interface FenceFlags extends OperatorFlags {
  readonly fence?: string;
}

type Connection = Awaited<ReturnType<typeof connect>>;

/** fenceOf is the fence that is given, or the one that the hub knows. */
async function fenceOf(io: Io, connection: Connection, number: number, { fence }: FenceFlags): Promise<bigint> {
  if (fence !== undefined) return BigInt(parseCount(fence));
  const all = await allAllocations(io, connection);
  const lease = all.find((one) => one.lease?.lease === BigInt(number))?.lease;
  if (lease === undefined)
    throw new CliError(EXIT.notFound, `there is no allocation ${number}`, "List them with `foedus resources allocations`.");
  return lease.fence;
}

/** release gives an allocation of this hub back; with `--reclaim` it is the owner's notice that it wants it back. */
export async function release(io: Io, [text = ""]: readonly string[], options: FenceFlags & { readonly reclaim?: boolean }): Done {
  using connection = await connect(options, io);
  const lease = parseCount(text);
  if (options.reclaim === true) {
    const asked = create(PreemptAllocationRequestSchema, { lease: BigInt(lease) });
    return show(io, options, (await connection.coordination.preemptAllocation(asked, { signal: io.stopped })).allocation!);
  }
  const asked = create(ReleaseAllocationRequestSchema, { lease: BigInt(lease), fence: await fenceOf(io, connection, lease, options) });
  await connection.coordination.releaseAllocation(asked, { signal: io.stopped });
  return said(io, options, { lease, released: true }, `allocation ${lease} is given back`);
}

/** renew has an allocation of this hub end later. */
export async function renew(io: Io, [text = "", time = ""]: readonly string[], options: FenceFlags): Done {
  using connection = await connect(options, io);
  const lease = parseCount(text);
  const fence = await fenceOf(io, connection, lease, options);
  const asked = create(RenewAllocationRequestSchema, { lease: BigInt(lease), fence, durationMs: BigInt(parseDuration(time)) });
  return show(io, options, (await connection.coordination.renewAllocation(asked, { signal: io.stopped })).allocation!);
}

/** PolicyFlags are the options of `foedus resources policy`. */
export interface PolicyFlags extends OperatorFlags {
  readonly maxAgents?: string;
  readonly maxDuration?: string;
  readonly type?: readonly string[];
  readonly ceiling?: string;
  readonly maxPriority?: string;
  readonly preemption?: boolean;
  readonly onDisconnect?: string;
}

const ON_DISCONNECT: Readonly<Record<string, OnDisconnect>> = {
  keep: OnDisconnect.KEEP,
  stop: OnDisconnect.STOP,
  "hand-back": OnDisconnect.HAND_BACK,
};

/** policy sets the limits under which this hub lends, as a whole. */
export async function policy(io: Io, _args: readonly string[], options: PolicyFlags): Done {
  using connection = await connect(options, io);
  const ceiling = options.ceiling === undefined ? 80 : parseCount(options.ceiling);
  const onDisconnect = own(ON_DISCONNECT, options.onDisconnect ?? "keep") ?? OnDisconnect.UNSPECIFIED;
  const asked = create(SetResourcePolicyRequestSchema, {
    policy: {
      maxAgents: BigInt(options.maxAgents === undefined ? 5 : parseCount(options.maxAgents)),
      maxDurationMs: BigInt(parseDuration(options.maxDuration ?? "2h")),
      allowedTypes: [...(options.type ?? [])].sort(),
      maxUtilization: BigInt(ceiling * 10),
      priority: parsePriority(options.maxPriority ?? "high"),
      preemption: options.preemption ?? true,
      ...{ storageMaxMb: 100_000n, storageRetentionMs: 2_592_000_000n, storageReplication: 2n, onDisconnect },
    },
  });
  await connection.coordination.setResourcePolicy(asked, { signal: io.stopped });
  return said(io, options, { done: true }, "the policy is in force for what is decided from now on");
}

/** QuotaFlags are the options of `foedus resources quota`. */
export interface QuotaFlags extends OperatorFlags {
  readonly nominal?: readonly string[];
  readonly limit?: readonly string[];
}

/** quota sets what a hub may count on, and have at the most, of an offer of this hub. */
export async function quota(io: Io, [name = "", hub = ""]: readonly string[], options: QuotaFlags): Done {
  using connection = await connect(options, io);
  const limit = options.limit === undefined ? {} : { limit: parseLimit(options.limit) };
  const quotaOf = { name, borrower: parseHub(hub), nominal: parseAmounts(options.nominal ?? []), ...limit };
  await withOffers(connection, { owner: connection.target.hubId, name }, io.stopped, () =>
    connection.coordination.setQuota(create(SetQuotaRequestSchema, { quota: quotaOf }), { signal: io.stopped }),
  );
  return said(io, options, { name, borrower: hub }, `the quota of ${clean(hub)} of ${clean(name)} is in force`);
}

/** audit compares what was decided with what runs and is used. Fails (1) if it finds something. */
export async function audit(io: Io, _args: readonly string[], options: OperatorFlags): Done {
  using connection = await connect(options, io);
  const answer = await connection.coordination.auditResources(create(AuditResourcesRequestSchema), { signal: io.stopped });
  const { findings, asked, silent } = answer;
  if (options.json) await printJson(io, messageJson(AuditResourcesResponseSchema, answer));
  else if (!options.quiet) {
    for (const { message } of findings) await io.out(`${clean(message)}\n`);
    if (findings.length === 0) await io.out(`nothing contradicts itself at ${asked.map(clean).join(", ")}\n`);
    else io.note("what is on its way may be found as well: look again in some seconds\n");
    if (silent.length > 0) io.note(`not asked, as they are not in contact: ${silent.map(clean).join(", ")}\n`);
  }
  return findings.length === 0 ? EXIT.ok : EXIT.failed;
}
