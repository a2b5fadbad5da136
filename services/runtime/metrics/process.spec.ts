import { Registry } from "prom-client";
import { expect, test } from "vitest";
import { sleep, systemClock } from "../clock.ts";
import { collectProcessMetrics } from "./process.ts";

test("a blocked event loop shows as lag, in each registry of the process", async () => {
  const [home, work] = [new Registry(), new Registry()];
  const stops = [collectProcessMetrics(home), collectProcessMetrics(work)];
  await sleep(systemClock, 150);
  const until = systemClock.mono() + 300;
  while (systemClock.mono() < until);
  await sleep(systemClock, 150);
  for (const registry of [home, work]) {
    const text = await registry.metrics();
    const max = Number(/foedus_event_loop_lag_seconds\{stat="max"\} (\S+)/.exec(text)?.[1]);
    expect(max).toBeGreaterThan(0.15);
    expect(Number(/^foedus_event_loop_utilization_ratio (\S+)/m.exec(text)?.[1])).toBeGreaterThan(0.3);
    expect(text).toContain("process_resident_memory_bytes");
  }
  for (const stop of stops) stop();
});
