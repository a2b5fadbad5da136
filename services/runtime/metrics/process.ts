import { monitorEventLoopDelay, performance } from "node:perf_hooks";
import { collectDefaultMetrics, type Registry } from "prom-client";
import { heapBytes } from "../heap.ts";
import { sampledGauge } from "./declare.ts";

/** How often the event loop's delay is sampled, ms; it is also the smallest delay that can be seen. Each sample wakes an idle process. */
const RESOLUTION_MS = 50;

/** prom-client samples the same delay for gauges of its own, which are left out; it cannot be told not to, only to do it once an hour. */
const NEVER_MS = 3_600_000;
const TWICE = ["", "_min", "_max", "_mean", "_stddev", "_p50", "_p90", "_p99"].map((kind) => `nodejs_eventloop_lag${kind}_seconds`);

const NANOS = 1e9;

/** Gauges of prom-client that are named like counters, against the conventions; each is the sum of one that stays, over its types. */
const MISNAMED = ["nodejs_active_handles_total", "nodejs_active_requests_total", "nodejs_active_resources_total"] as const;

/**
 * collectProcessMetrics adds what every process tells about itself (memory, CPU, garbage collection, handles) and how late its
 * event loop runs. Lag counts our own fsyncs too. Answers how to stop; call it once per registry.
 */
export function collectProcessMetrics(registry: Registry): () => void {
  collectDefaultMetrics({ register: registry, eventLoopMonitoringPrecision: NEVER_MS });
  for (const name of [...MISNAMED, ...TWICE]) registry.removeSingleMetric(name);
  const delay = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  delay.enable();
  const lag = sampledGauge(registry, {
    name: "foedus_event_loop_lag_seconds",
    help: "Delay of the event loop since the last scrape.",
    labels: ["stat"],
  });
  const above = (nanos: number): number => Math.max(0, nanos / NANOS - RESOLUTION_MS / 1_000);
  const known = (nanos: number): number => (Number.isFinite(nanos) && delay.count > 0 ? above(nanos) : 0);
  lag({ stat: "p50" }, () => known(delay.percentile(50)));
  lag({ stat: "p99" }, () => known(delay.percentile(99)));
  lag({ stat: "max" }, () => {
    const max = known(delay.max);
    delay.reset();
    return max;
  });
  let last = performance.eventLoopUtilization();
  const utilization = sampledGauge<never>(registry, {
    name: "foedus_event_loop_utilization_ratio",
    help: "Part of the time since the last scrape that the event loop was busy.",
  });
  utilization({}, () => {
    const next = performance.eventLoopUtilization();
    const { utilization: busy } = performance.eventLoopUtilization(next, last);
    last = next;
    return busy;
  });
  sampledGauge<never>(registry, {
    name: "foedus_heap_limit_bytes",
    help: "Heap at which this process ends with out of memory (--max-old-space-size).",
  })({}, heapBytes);
  return () => delay.disable();
}
