import { create } from "@bufbuild/protobuf";
import type { CoordinationService } from "#gen/foedus/coordination/v1alpha1/coordination_service_pb.ts";
import { ListSharedResponseSchema, ShareFactResponseSchema } from "#gen/foedus/coordination/v1alpha1/sharing_pb.ts";
import type { CallContext, Handlers } from "#runtime/rpc/call.ts";
import { factPage, headToProto, kindFromProto } from "../codec/shared.ts";
import type { Answer, Request } from "../messages.ts";

type Ask = <K extends Answer["kind"]>(kind: K, request: Request, context: CallContext) => Promise<Extract<Answer, { kind: K }>>;

/** sharingHandlers are the RPCs of shared state. */
export function sharingHandlers(ask: Ask): Pick<Handlers<typeof CoordinationService>, "listShared" | "shareFact"> {
  return {
    listShared: async ({ kind, after }, context) => {
      const { facts, heads, root } = await ask("shared", { kind: "shared", of: kindFromProto(kind) }, context);
      const { items, next } = factPage(facts, after);
      return create(ListSharedResponseSchema, { facts: items, next, heads: heads.map(headToProto), root });
    },
    shareFact: async ({ key, value }, context) => {
      const { version } = await ask("said", { kind: "share", changes: [{ kind: "facts", key, value }] }, context);
      return create(ShareFactResponseSchema, { version: BigInt(version) });
    },
  };
}
