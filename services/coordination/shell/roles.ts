import { create } from "@bufbuild/protobuf";
import type { CoordinationService } from "#gen/foedus/coordination/v1alpha1/coordination_service_pb.ts";
import {
  CheckRoleResponseSchema,
  ListRolesResponseSchema,
  SetEndpointsResponseSchema,
} from "#gen/foedus/coordination/v1alpha1/roles_pb.ts";
import { FoedusError, fail } from "#kernel/error.ts";
import type { CallContext, Handlers } from "#runtime/rpc/call.ts";
import { holdingProblem } from "../members/holding.ts";
import type { Answer, QueryAnswer, Request } from "../messages.ts";

type Ask = <K extends Answer["kind"]>(kind: K, request: Request, context: CallContext) => Promise<Extract<Answer, { kind: K }>>;

/** roleHandlers answer who has which role and where members are reached. `hubId` is this hub. */
export function roleHandlers(
  hubId: string,
  ask: Ask,
): Pick<Handlers<typeof CoordinationService>, "listRoles" | "checkRole" | "setEndpoints"> {
  const rolesOf = async (local: boolean, context: CallContext) => {
    const { answer, ageMs } = await ask("queried", { kind: "query", query: { kind: "roles" }, local }, context);
    const { roles, endpoints } = answer as Extract<QueryAnswer, { kind: "roles" }>;
    return { roles, endpoints, ageMs };
  };
  return {
    listRoles: async ({ local }, context) => {
      const { roles, endpoints, ageMs } = await rolesOf(local, context);
      return create(ListRolesResponseSchema, {
        roles: roles.map(({ role, hubId: holder, standbys, fence }) => ({
          role,
          hubId: holder,
          standbys: [...standbys],
          fence: BigInt(fence),
        })),
        endpoints: endpoints.map(({ standbys, fence, ...rest }) => ({ ...rest, standbys: [...standbys], fence: BigInt(fence) })),
        ageMs: BigInt(Math.ceil(ageMs)),
      });
    },
    checkRole: async ({ role, fence }, context) => {
      const problem = holdingProblem((await rolesOf(false, context)).roles, role, hubId, Number(fence));
      if (problem !== undefined) throw new FoedusError(problem);
      return create(CheckRoleResponseSchema);
    },
    setEndpoints: async ({ primary, standbys }, context) => {
      const own = (await rolesOf(false, context)).endpoints.find((one) => one.hubId === hubId);
      if (own === undefined) throw fail("NOT_FEDERATED", "this hub is no member of its federation any more");
      const command = { kind: "set_endpoints", primary: primary ?? own.endpoint, standbys } as const;
      await ask("changed", { kind: "change", command: { book: "members", command } }, context);
      const { endpoints } = await rolesOf(false, context);
      return create(SetEndpointsResponseSchema, { fence: BigInt(endpoints.find((one) => one.hubId === hubId)?.fence ?? 0) });
    },
  };
}
