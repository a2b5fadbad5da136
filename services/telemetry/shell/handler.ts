import { create } from "@bufbuild/protobuf";
import { whenAborted } from "#channel/abort.ts";
import type { Outbound } from "#channel/call.ts";
import {
  ListEventsResponseSchema,
  ListLinkCountersResponseSchema,
  ReportEventsResponseSchema,
  TelemetryService,
  type WatchEventsRequest,
  type WatchEventsResponse,
  WatchEventsResponseSchema,
} from "#gen/foedus/telemetry/v1alpha1/telemetry_service_pb.ts";
import { type Failure, FoedusError } from "#kernel/error.ts";
import { bind, type CallContext, type ServiceBinding } from "#runtime/rpc/call.ts";
import type { Calls } from "#runtime/service/calls.ts";
import { eventToProto, filterFromProto, linkFromProto, linkToProto, reportFromProto } from "../codec.ts";
import type { Happening, Input, LinkCount, Output } from "../messages.ts";

/** Page sizes of ListEvents. */
const PAGE_DEFAULT = 100;
const PAGE_MAX = 1_000;

type Push = Extract<Output, { kind: "push" }>;

/** Answer is what the core says to a unary call. */
export type Answer = Extract<Output, { readonly call: number }>;

/** Watch is a stream of events that is open. */
export interface Watch {
  readonly push: (push: Push) => void;
  readonly end: (failure: Failure) => void;
}

type Open = Map<number, Watch>;

/** createBinding binds the RPCs of the service to the calls of its shell. Watches are in `watches` as long as they are open. */
export function createBinding(calls: Calls<Input, Answer>, watches: Open): ServiceBinding {
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
    listEvents: async (request) => {
      const limit = request.pageSize === 0 ? PAGE_DEFAULT : Math.min(request.pageSize, PAGE_MAX);
      const filter = filterFromProto(request.filter);
      const answer = await ask<"listed">((call) => ({ kind: "list", call, filter, limit, beforeSeq: Number(request.beforeSeq) }));
      return create(ListEventsResponseSchema, { events: answer.events.map(eventToProto), nextBeforeSeq: BigInt(answer.nextBeforeSeq) });
    },
    listLinkCounters: async () => {
      const answer = await ask<"linked">((call) => ({ kind: "links", call }));
      return create(ListLinkCountersResponseSchema, { links: answer.links.map(linkToProto) });
    },
    watchEvents: watcher(calls, watches),
  });
}

/** watcher gives what serves a watch: it hands on pushes until the caller, the core or the hub has had enough. */
function watcher(calls: Calls<Input, Answer>, watches: Open) {
  return async (request: WatchEventsRequest, out: Outbound<WatchEventsResponse>, context: CallContext): Promise<void> => {
    const watch = calls.id();
    const over = Promise.withResolvers<Failure | undefined>();
    whenAborted(context.signal, () => over.resolve(undefined));
    watches.set(watch, {
      push: (push) => {
        const events = push.events.map((event: Happening) => eventToProto(event));
        if (!out.send(create(WatchEventsResponseSchema, { events, missed: BigInt(push.missed), nextSeq: BigInt(push.nextSeq) })))
          return over.resolve(undefined);
        void out.drained().then(() => calls.tell({ kind: "watch_ready", watch }, `watch_ready ${watch}`));
      },
      end: over.resolve,
    });
    try {
      await calls.offer({
        kind: "watch",
        watch,
        caller: `${context.caller.kind}/${context.caller.name}`,
        filter: filterFromProto(request.filter),
        fromSeq: Number(request.fromSeq),
      });
      const failure = await over.promise;
      if (failure !== undefined) throw new FoedusError(failure);
    } finally {
      watches.delete(watch);
      calls.tell({ kind: "watch_end", watch });
    }
  };
}
