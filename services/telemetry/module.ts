import type { Registry } from "prom-client";
import { describeHoldings } from "#kernel/bounds/holdings.ts";
import type { Failure } from "#kernel/error.ts";
import { counter, LabelBound } from "#runtime/metrics/declare.ts";
import { Calls } from "#runtime/service/calls.ts";
import { createDriver, type Driver } from "#runtime/service/driver.ts";
import { notDurable, type Platform, type ServiceModule } from "#runtime/service/module.ts";
import { restoring } from "#runtime/store/restoring.ts";
import { happeningCodec } from "./codec.ts";
import type { TelemetryConfig } from "./config.ts";
import { EVENT_LOG, TelemetryCore } from "./core.ts";
import type { Effect, Input, Output } from "./messages.ts";
import { type Answer, createBinding, type Watch } from "./shell/handler.ts";

const STOPPING: Failure = { reason: "SHUTTING_DOWN", message: "the hub is stopping; watch again in a moment" };

/** TelemetryOptions join the service to its process. */
export interface TelemetryOptions {
  readonly platform: Platform;
  readonly config: TelemetryConfig;
  readonly onFatal: (error: unknown) => void;
}

/** createTelemetry makes the service that keeps events and counters. */
export function createTelemetry(options: TelemetryOptions): ServiceModule {
  const { platform, config } = options;
  const store = platform.store("telemetry");
  const core = new TelemetryCore({ codec: happeningCodec, eventsKept: config.events_kept, watchers: config.watchers });
  const calls = new Calls<Input, Answer>("telemetry");
  const watches = new Map<number, Watch>();
  const observe = eventCounter(platform.metrics);
  let driver: Driver<Input> | undefined;

  const execute = (output: Output): void => {
    if (output.kind === "push") watches.get(output.watch)?.push(output);
    else if (output.kind === "refuse") watches.get(output.watch)?.end(output.failure);
    else if (output.kind === "declined") calls.refuse(output.call, output.failure);
    else calls.answer(output.call, output);
  };

  const bindings = [createBinding(calls, watches)];

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
        observe,
        // Events are taken with their report: the committer writes them as soon as it can. A refusal would only bring them again (TE6).
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

/** eventCounter gives what counts events that were kept. */
function eventCounter(registry: Registry): (effect: Extract<Effect, { kind: "observe" }>) => void {
  const seen = counter(registry, {
    name: "foedus_telemetry_events_total",
    help: "Events that were kept, by reporting service and severity.",
    labels: ["service", "severity"],
  });
  const services = new LabelBound(16);
  return ({ service, event }) => seen.inc({ service: services.of(service), severity: SEVERITIES[event.severity] });
}

const SEVERITIES = { 1: "debug", 2: "info", 3: "warning", 4: "error" } as const;
