import type { Registry } from "prom-client";
import { describeHoldings } from "#kernel/bounds/holdings.ts";
import type { Failure } from "#kernel/error.ts";
import { counter, LabelBound, sampledGauge } from "#runtime/metrics/declare.ts";
import { Calls } from "#runtime/service/calls.ts";
import { createDriver, type Driver } from "#runtime/service/driver.ts";
import { notDurable, type Platform, type ServiceModule } from "#runtime/service/module.ts";
import type { Store } from "#runtime/store/port.ts";
import { restoring } from "#runtime/store/restoring.ts";
import { happeningCodec } from "./codec/events.ts";
import { retentionOf, type TelemetryConfig } from "./config.ts";
import { AUDIT_KEY, EVENT_LOG, META_SPACE, TelemetryCore } from "./core.ts";
import { SUMMARY_SPACE, TAIL_LOG } from "./log/event-log.ts";
import type { Answer, Effect, Input, Output } from "./messages.ts";
import { EventReader } from "./shell/event-reader.ts";
import { createBinding } from "./shell/handler.ts";
import type { Watch } from "./shell/watches.ts";

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
  const core = new TelemetryCore({ codec: happeningCodec, retention: retentionOf(config), watchers: config.watchers });
  const calls = new Calls<Input, Answer>("telemetry");
  const watches = new Map<number, Watch>();
  let driver: Driver<Input> | undefined;

  const execute = (output: Output): void => {
    if (output.kind === "push") watches.get(output.watch)?.push(output);
    else if (output.kind === "refuse") watches.get(output.watch)?.end(output.failure);
    else if (output.kind === "declined") calls.refuse(output.call, output.failure);
    else calls.answer(output.call, output);
  };

  const reader = new EventReader(store, platform.clock, platform.hubId);
  const bindings = [createBinding(calls, watches, () => reader)];
  const unsample = sampleBytes(platform.metrics, core);

  return {
    name: "telemetry",
    bindings,
    start: async () => {
      restoring("telemetry", store, () =>
        core.restore({
          tail: store.read(TAIL_LOG, 0),
          summaries: store.space(SUMMARY_SPACE),
          legacy: store.read(EVENT_LOG, 0),
          audit: store.get(META_SPACE, AUDIT_KEY),
        }),
      );
      driver = drive(options, store, core, execute);
      calls.attach(driver);
      calls.tell({ kind: "start" });
    },
    readiness: () =>
      driver?.state === "running" ? { ready: true } : { ready: false, reason: `telemetry is ${driver?.state ?? "starting"}` },
    describe: () => `${core.describe()}\n${describeHoldings([core.shared()])}`.trimEnd(),
    stop: async () => {
      for (const watch of watches.values()) watch.end(STOPPING);
      const durable = (await driver?.stop()) ?? true;
      calls.end(STOPPING);
      unsample();
      store.close();
      if (!durable) throw notDurable("telemetry");
    },
  };
}

/** drive runs the core over its store. */
function drive(
  { platform, onFatal }: TelemetryOptions,
  store: Store,
  core: TelemetryCore,
  execute: (output: Output) => void,
): Driver<Input> {
  return createDriver<Input, Effect>({
    service: "telemetry",
    core,
    store,
    clock: platform.clock,
    log: platform.log,
    metrics: platform.metrics,
    execute,
    observe: eventCounter(platform.metrics),
    // Events are taken with their report: the committer writes them as soon as it can. A refusal would only bring them again (TE6).
    reject: (output) => {
      if (output.kind !== "reported") return "keep";
      execute(output);
      return "drop";
    },
    onStored: (report) =>
      report.ok && !report.recovered ? undefined : { kind: "stored", ok: report.ok, failure: report.ok ? undefined : report.failure },
    onFatal,
    commit: "turn",
    ...platform.mailbox,
  });
}

/** sampleBytes shows how much is kept. */
function sampleBytes(registry: Registry, core: TelemetryCore): () => void {
  const stored = { name: "foedus_telemetry_stored_bytes", help: "Bytes of the events that are kept." };
  return sampledGauge<never>(registry, stored)({}, () => core.bytes);
}

/** eventCounter gives what counts events that were kept. */
function eventCounter(registry: Registry): (effect: Extract<Effect, { kind: "observe" }>) => void {
  const seen = counter(registry, {
    name: "foedus_telemetry_events_total",
    help: "Events that were kept, by reporting service and severity.",
    labels: ["service", "severity"],
  });
  const services = new LabelBound(16);
  return ({ service, severity, count }) => seen.inc({ service: services.of(service), severity: SEVERITIES[severity] }, count);
}

const SEVERITIES = { 1: "debug", 2: "info", 3: "warning", 4: "error" } as const;
