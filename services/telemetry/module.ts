import { create } from "@bufbuild/protobuf";
import { whenAborted } from "#channel/abort.ts";
import {
  ListEventsResponseSchema,
  ListLinkCountersResponseSchema,
  ReportEventsResponseSchema,
  TelemetryService,
  WatchEventsResponseSchema,
} from "#gen/foedus/telemetry/v1alpha1/telemetry_service_pb.ts";
import { describeHoldings } from "#kernel/bounds/holdings.ts";
import { type Failure, FoedusError } from "#kernel/error.ts";
import { counter, LabelBound } from "#runtime/metrics/declare.ts";
import { bind } from "#runtime/rpc/call.ts";
import { Calls } from "#runtime/service/calls.ts";
import { createDriver, type Driver } from "#runtime/service/driver.ts";
import { notDurable, type Platform, type ServiceModule } from "#runtime/service/module.ts";
import { restoring } from "#runtime/store/restoring.ts";
import { eventToProto, filterFromProto, happeningCodec, linkFromProto, linkToProto, reportFromProto } from "./codec.ts";
import type { TelemetryConfig } from "./config.ts";
import { EVENT_LOG, TelemetryCore } from "./core.ts";
import type { Effect, Happening, Input, LinkCount, Output } from "./messages.ts";

/** Page sizes of ListEvents. */
const PAGE_DEFAULT = 100;
const PAGE_MAX = 1_000;

type Push = Extract<Output, { kind: "push" }>;

/** Answer is what the core says to a unary call. */
type Answer = Extract<Output, { readonly call: number }>;

const STOPPING: Failure = { reason: "SHUTTING_DOWN", message: "the hub is stopping; watch again in a moment" };

/** createTelemetry makes the service that keeps events and counters. */
export function createTelemetry(options: {
  readonly platform: Platform;
  readonly config: TelemetryConfig;
  readonly onFatal: (error: unknown) => void;
}): ServiceModule {
  const { platform, config } = options;
  const store = platform.store("telemetry");
  const core = new TelemetryCore({ codec: happeningCodec, eventsKept: config.events_kept, watchers: config.watchers });
  const calls = new Calls<Input, Answer>("telemetry");
  const watches = new Map<number, { push: (push: Push) => void; end: (failure: Failure) => void }>();
  const seen = counter(platform.metrics, {
    name: "foedus_telemetry_events_total",
    help: "Events that were kept, by reporting service and severity.",
    labels: ["service", "severity"],
  });
  const services = new LabelBound(16);
  let driver: Driver<Input> | undefined;

  const execute = (output: Output): void => {
    if (output.kind === "push") watches.get(output.watch)?.push(output);
    else if (output.kind === "refuse") watches.get(output.watch)?.end(output.failure);
    else if (output.kind === "declined") calls.refuse(output.call, output.failure);
    else calls.answer(output.call, output);
  };

  const ask = <K extends Answer["kind"]>(make: (call: number) => Input) => calls.ask<Extract<Answer, { kind: K }>>(make);

  const bindings = [
    bind(TelemetryService, {
      reportEvents: async (request) => {
        const events = request.events.map((event) => reportFromProto(event, request.service));
        const links: readonly LinkCount[] | undefined =
          request.links.length > 0 ? request.links.map((link) => linkFromProto(link, request.service)) : undefined;
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
      watchEvents: async (request, out, context) => {
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
      },
    }),
  ];

  return {
    name: "telemetry",
    bindings,
    start: async () => {
      restoring("telemetry", store, () => core.restore(store.read(EVENT_LOG, 0)));
      driver = createDriver<Input, Effect>({
        service: "telemetry",
        core,
        store,
        clock: platform.clock,
        log: platform.log,
        metrics: platform.metrics,
        execute,
        observe: (effect) => seen.inc({ service: services.of(effect.service), severity: SEVERITIES[effect.event.severity] }),
        // Events are taken with their report: the committer writes them as soon as it can. A refusal would only bring them again (T6).
        reject: (output) => {
          if (output.kind !== "reported") return "keep";
          execute(output);
          return "drop";
        },
        onStored: (report) =>
          report.ok && !report.recovered ? undefined : { kind: "stored", ok: report.ok, failure: report.ok ? undefined : report.failure },
        onFatal: options.onFatal,
        commit: "turn",
        ...platform.mailbox,
      });
      calls.attach(driver);
    },
    readiness: () =>
      driver?.state === "running" ? { ready: true } : { ready: false, reason: `telemetry is ${driver?.state ?? "starting"}` },
    describe: () => `${core.describe()}\n${describeHoldings([core.shared()])}`.trimEnd(),
    stop: async () => {
      for (const watch of watches.values()) watch.end(STOPPING);
      const durable = (await driver?.stop()) ?? true;
      calls.end(STOPPING);
      store.close();
      if (!durable) throw notDurable("telemetry");
    },
  };
}

const SEVERITIES = { 1: "debug", 2: "info", 3: "warning", 4: "error" } as const;
