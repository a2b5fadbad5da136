import { create } from "@bufbuild/protobuf";
import type { RawMessage } from "#channel/call.ts";
import type { Clock } from "#channel/clock.ts";
import type { Entropy } from "#channel/entropy.ts";
import {
  type GetNodeRequest,
  type GetNodeResponse,
  GetNodeResponseSchema,
  type ListFeedsResponse,
  ListFeedsResponseSchema,
  type ListNodesRequest,
} from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import { FoedusError, fail } from "#kernel/error.ts";
import type { CallContext } from "#runtime/rpc/call.ts";
import { principalOf } from "#runtime/rpc/connections/principal.ts";
import { feedToProto, nodesToRaw, recordToProto } from "../codec/answer-codec.ts";
import { filterFromProto } from "../codec/codec.ts";
import type { Answer, Input, Query } from "../messages.ts";
import { PageTurns } from "./page-turns.ts";
import type { Shell } from "./shell.ts";

const PAGE_DEFAULT = 100;
const PAGE_MAX = 1_000;

/** Prober asks a hub for a fresh sign of life; it resolves when one came, or it gave up. */
export type Prober = (hubId: string) => Promise<void>;

type AnswerOf<T extends Answer["type"]> = Extract<Answer, { readonly type: T }>;

/** asker gives what asks the core for an answer from memory. */
function asker(shell: Shell) {
  return async <T extends Answer["type"]>(question: Query, signal?: AbortSignal): Promise<AnswerOf<T>> => {
    const make = (call: number): Input => ({ kind: "query", call, query: question });
    const { answer } = await (signal === undefined ? shell.ask<"answer">(make) : shell.askUntil<"answer">(signal, make));
    if (answer.type === "failed") throw new FoedusError(answer.failure);
    return answer as AnswerOf<T>;
  };
}

/** createReadHandlers are the handlers that answer from memory. */
export function createReadHandlers(shell: Shell, ids: Pick<Entropy, "id">, probe: Prober, clock: Clock) {
  const turns = new PageTurns(clock);
  const query = asker(shell);

  /** pageOf asks for a page: a token is the name under which the listing is kept, and where the page starts. */
  const pageOf = async (
    request: ListNodesRequest,
    limit: number,
    { caller, signal }: CallContext,
  ): Promise<readonly [string, AnswerOf<"nodes">]> => {
    await turns.turn(principalOf(caller), signal);
    if (request.pageToken === "") {
      const keep = ids.id();
      const filter = filterFromProto(request.filter);
      // It may wait its turn behind others, and take many steps itself.
      return [keep, await query<"nodes">({ type: "list", filter, limit, keep, principal: principalOf(caller) }, signal)];
    }
    const [, listing = "", from = ""] = /^([0-9a-z]+)\.(\d{1,9})$/.exec(request.pageToken) ?? [];
    if (listing === "") throw fail("INVALID_FIELD", "the page token is not one of this hub", { field: "page_token" });
    return [listing, await query<"nodes">({ type: "page", listing, from: Number(from), limit }, signal)];
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

    async listNodes(request: ListNodesRequest, context: CallContext): Promise<RawMessage> {
      const limit = request.pageSize === 0 ? PAGE_DEFAULT : Math.min(request.pageSize, PAGE_MAX);
      const [listing, page] = await pageOf(request, limit, context);
      return nodesToRaw(page, page.next === 0 ? "" : `${listing}.${page.next}`, request.summary);
    },

    async listFeeds(): Promise<ListFeedsResponse> {
      const { feeds } = await query<"feeds">({ type: "feeds" });
      return create(ListFeedsResponseSchema, { feeds: feeds.map(feedToProto) });
    },
  };
}
