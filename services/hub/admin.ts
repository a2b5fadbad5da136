import { create } from "@bufbuild/protobuf";
import { GetConfigResponseSchema, GetStatusResponseSchema, HubService } from "#gen/foedus/hub/v1alpha1/hub_service_pb.ts";
import { bind, type ServiceBinding } from "#runtime/rpc/call.ts";
import type { Supervisor } from "#runtime/service/supervisor.ts";

/** AdminFacts are what the operator's surface tells; functions are asked at each call. */
export interface AdminFacts {
  readonly hubId: string;
  readonly software: string;
  readonly mode: string;
  readonly durability: string;
  readonly uptimeMs: () => number;
  readonly wallMs: () => number;
  readonly certificateExpiresMs: () => number;
  readonly supervisor: () => Supervisor;
  readonly describe: (module: string) => string;
  readonly config: () => { readonly inForce: unknown; readonly problem: string };
}

/** createAdmin is the operator's surface of this process. */
export function createAdmin(facts: AdminFacts): ServiceBinding {
  return bind(HubService, {
    getStatus: () =>
      create(GetStatusResponseSchema, {
        hubId: facts.hubId,
        software: facts.software,
        mode: facts.mode,
        durability: facts.durability,
        uptimeMs: BigInt(Math.round(facts.uptimeMs())),
        wallMs: BigInt(Math.round(facts.wallMs())),
        certificateExpiresMs: BigInt(facts.certificateExpiresMs()),
        modules: facts
          .supervisor()
          .states()
          .map((state) => ({ name: state.name, ready: state.ready, reason: state.reason ?? "", description: facts.describe(state.name) })),
      }),
    getConfig: () => {
      const { inForce, problem } = facts.config();
      return create(GetConfigResponseSchema, { json: JSON.stringify(inForce, undefined, 2), problem });
    },
  });
}
