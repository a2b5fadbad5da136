import { create } from "@bufbuild/protobuf";
import type { ClientOf } from "#channel/call.ts";
import { CopyAuditRequestSchema } from "#gen/foedus/telemetry/v1alpha1/audit_pb.ts";
import type { TelemetryService } from "#gen/foedus/telemetry/v1alpha1/telemetry_service_pb.ts";
import type { AuditSink } from "../../command-forwarding/index.ts";

const TIMEOUT_MS = 5_000;

/** createAuditSink gives the audit of commands to telemetry, in this process or elsewhere. */
export function createAuditSink(client: () => Pick<ClientOf<typeof TelemetryService>, "copyAudit">): AuditSink {
  return {
    copy: async (batches) => {
      const request = create(CopyAuditRequestSchema, { batches: [...batches] });
      const { epoch, number } = await client().copyAudit(request, { timeoutMs: TIMEOUT_MS });
      return { epoch: Number(epoch), number: Number(number) };
    },
  };
}
