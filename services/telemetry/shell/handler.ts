import { create } from "@bufbuild/protobuf";
import { CopyAuditResponseSchema } from "#gen/foedus/telemetry/v1alpha1/audit_pb.ts";
import {
  ListEventsResponseSchema,
  ListLinkCountersResponseSchema,
  ReportEventsResponseSchema,
  TelemetryService,
} from "#gen/foedus/telemetry/v1alpha1/telemetry_service_pb.ts";
import { bind, type ServiceBinding } from "#runtime/rpc/call.ts";
import type { Calls } from "#runtime/service/calls.ts";
import { auditBatchFrom, filterFromProto, linkFromProto, linkToProto, reportFromProto, wantedBy } from "../codec/events.ts";
import type { Answer, Input, LinkCount } from "../messages.ts";
import type { EventReader } from "./event-reader.ts";
import { type Watch, watcher } from "./watches.ts";

/** Page sizes of ListEvents. */
const PAGE_DEFAULT = 100;
const PAGE_MAX = 1_000;

/** createBinding binds the RPCs of the service to the calls of its shell. Watches are in `watches` as long as they are open. */
export function createBinding(calls: Calls<Input, Answer>, watches: Map<number, Watch>, reader: () => EventReader): ServiceBinding {
  const ask = <K extends Answer["kind"]>(make: (call: number) => Input) => calls.ask<Extract<Answer, { kind: K }>>(make);
  return bind(TelemetryService, {
    reportEvents: async (request) => {
      const events = request.events.map((event) => reportFromProto(event, request.service));
      // A report of events alone says nothing of links.
      const told = request.links.length > 0 || request.noLinks;
      const links: readonly LinkCount[] | undefined = told ? request.links.map((link) => linkFromProto(link, request.service)) : undefined;
      await ask<"reported">((call) => ({
        kind: "report",
        call,
        service: request.service,
        events,
        links,
        dropped: Number(request.dropped),
      }));
      return create(ReportEventsResponseSchema);
    },
    copyAudit: async (request) => {
      const batches = request.batches.map(auditBatchFrom);
      const { epoch, number } = await ask<"copied">((call) => ({ kind: "copy", call, batches }));
      return create(CopyAuditResponseSchema, { epoch: BigInt(epoch), number: BigInt(number) });
    },
    listEvents: async (request) => {
      const limit = request.pageSize === 0 ? PAGE_DEFAULT : Math.min(request.pageSize, PAGE_MAX);
      const filter = filterFromProto(request.filter);
      const beforeSeq = Number(request.beforeSeq);
      const listed = await ask<"listed">((call) => ({ kind: "list", call, wanted: wantedBy(filter), beforeSeq }));
      const { events, nextBeforeSeq } = await reader().page(listed, filter, beforeSeq, limit);
      return create(ListEventsResponseSchema, { events: [...events], nextBeforeSeq: BigInt(nextBeforeSeq) });
    },
    listLinkCounters: async () => {
      const answer = await ask<"linked">((call) => ({ kind: "links", call }));
      return create(ListLinkCountersResponseSchema, { links: answer.links.map(linkToProto) });
    },
    watchEvents: watcher(calls, watches, reader),
  });
}
