import { create } from "@bufbuild/protobuf";
import {
  type GetNodeRequest,
  type GetNodeResponse,
  GetNodeResponseSchema,
  type ListFeedsResponse,
  ListFeedsResponseSchema,
  type ListNodesRequest,
  type ListNodesResponse,
  ListNodesResponseSchema,
} from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import { FoedusError, fail } from "#kernel/error.ts";
import { LIMITS } from "#kernel/limits.ts";
import type { Clock } from "#runtime/clock.ts";
import type { Entropy } from "#runtime/entropy.ts";
import { feedToProto, hubToProto, recordToProto } from "./answer-codec.ts";
import { filterFromProto } from "./codec.ts";
import type { Answer, HubFreshness, NodeRecord, Query } from "./messages.ts";
import type { Shell } from "./shell.ts";

const PAGE_DEFAULT = 100;
const PAGE_MAX = 1_000;

/** Prober asks a hub for a fresh sign of life; it resolves when one came, or it gave up. */
export type Prober = (hubId: string) => Promise<void>;

/** Listing is the answer to a ListNodes with several pages, kept so that all pages show one instant. */
interface Listing {
  readonly records: readonly NodeRecord[];
  readonly hubs: readonly HubFreshness[];
  readonly expiresAt: number;
}

/**
 * Listings keep answers for their next pages: nothing is left out, shown twice or mixed with a later state (B2-1). What is too
 * old, or had to give way, is answered with POSITION_EXPIRED.
 */
export class Listings {
  readonly #clock: Clock;
  readonly #ids: Pick<Entropy, "id">;
  readonly #maxListings: number;
  readonly #maxRecords: number;
  readonly #open = new Map<string, Listing>();
  #records = 0;

  constructor(clock: Clock, ids: Pick<Entropy, "id">, maxListings: number, maxRecords: number) {
    this.#clock = clock;
    this.#ids = ids;
    this.#maxListings = maxListings;
    this.#maxRecords = maxRecords;
  }

  /** keep answers the id of the listing. The newest is always kept; older ones give way. */
  keep(records: readonly NodeRecord[], hubs: readonly HubFreshness[]): string {
    const now = this.#clock.mono();
    for (const [id, listing] of this.#open) {
      const tooMany = this.#open.size >= this.#maxListings || this.#records + records.length > this.#maxRecords;
      if (!tooMany && listing.expiresAt > now) break;
      this.drop(id);
    }
    const id = this.#ids.id();
    this.#open.set(id, { records, hubs, expiresAt: now + LIMITS.pagingMs });
    this.#records += records.length;
    return id;
  }

  find(id: string): Listing | undefined {
    const listing = this.#open.get(id);
    return listing !== undefined && listing.expiresAt > this.#clock.mono() ? listing : undefined;
  }

  drop(id: string): void {
    this.#records -= this.#open.get(id)?.records.length ?? 0;
    this.#open.delete(id);
  }
}

type AnswerOf<T extends Answer["type"]> = Extract<Answer, { readonly type: T }>;

/** createReadHandlers are the handlers that answer from memory. */
export function createReadHandlers(shell: Shell, listings: Listings, probe: Prober) {
  const query = async <T extends Answer["type"]>(question: Query): Promise<AnswerOf<T>> => {
    const { answer } = await shell.ask<"answer">((call) => ({ kind: "query", call, query: question }));
    if (answer.type === "failed") throw new FoedusError(answer.failure);
    return answer as AnswerOf<T>;
  };

  /** firstPage lists the nodes; if they do not fit on one page, all are taken at one instant and kept. */
  const firstPage = async (request: ListNodesRequest, limit: number): Promise<ListNodesResponse> => {
    const filter = filterFromProto(request.filter);
    const first = await query<"nodes">({ type: "list", filter, limit, after: undefined });
    if (!first.more) return page(first.records, first.hubs, first.total, "", request.summary);
    const all = await query<"nodes">({ type: "list", filter, limit: Number.MAX_SAFE_INTEGER, after: undefined });
    if (all.records.length <= limit) return page(all.records, all.hubs, all.total, "", request.summary);
    const token = `${listings.keep(all.records, all.hubs)}.${limit}`;
    return page(all.records.slice(0, limit), all.hubs, all.records.length, token, request.summary);
  };

  const nextPage = (request: ListNodesRequest, limit: number): ListNodesResponse => {
    const [, id = "", offset = ""] = /^([0-9a-z]+)\.(\d{1,9})$/.exec(request.pageToken) ?? [];
    if (id === "") throw fail("INVALID_FIELD", "the page token is not one of this hub", { field: "page_token" });
    const listing = listings.find(id);
    if (listing === undefined)
      throw fail("POSITION_EXPIRED", "the listing is not kept any more; list again from the start", { field: "page_token" });
    const from = Number(offset);
    const to = Math.min(from + limit, listing.records.length);
    const done = to === listing.records.length;
    return page(listing.records.slice(from, to), listing.hubs, listing.records.length, done ? "" : `${id}.${to}`, request.summary);
  };

  return {
    async getNode({ name, maxStalenessMs }: GetNodeRequest): Promise<GetNodeResponse> {
      if (name === undefined) throw fail("INVALID_FIELD", "a name is needed", { field: "name" });
      if (maxStalenessMs !== undefined && maxStalenessMs < 0n)
        throw fail("INVALID_FIELD", "an age is not negative", { field: "max_staleness_ms" });
      const { hubId, nodeId } = name;
      const question: Query = {
        type: "get",
        name: { hubId, nodeId },
        maxStalenessMs: maxStalenessMs === undefined ? undefined : Number(maxStalenessMs),
      };
      let found: AnswerOf<"node">;
      try {
        found = await query<"node">(question);
      } catch (error) {
        if (!(error instanceof FoedusError) || error.failure.reason !== "TOO_STALE") throw error;
        const owner = hubId === "" ? (await query<"node">({ ...question, maxStalenessMs: undefined })).record.name.hubId : hubId;
        await probe(owner);
        found = await query<"node">(question);
      }
      return create(GetNodeResponseSchema, { record: recordToProto(found.record) });
    },

    async listNodes(request: ListNodesRequest): Promise<ListNodesResponse> {
      const limit = request.pageSize === 0 ? PAGE_DEFAULT : Math.min(request.pageSize, PAGE_MAX);
      return request.pageToken === "" ? firstPage(request, limit) : nextPage(request, limit);
    },

    async listFeeds(): Promise<ListFeedsResponse> {
      const { feeds } = await query<"feeds">({ type: "feeds" });
      return create(ListFeedsResponseSchema, { feeds: feeds.map(feedToProto) });
    },
  };
}

function page(
  records: readonly NodeRecord[],
  hubs: readonly HubFreshness[],
  total: number,
  nextPageToken: string,
  summary: boolean,
): ListNodesResponse {
  return create(ListNodesResponseSchema, {
    records: records.map((record) => recordToProto(record, summary)),
    hubs: hubs.map(hubToProto),
    total,
    nextPageToken,
  });
}
