import { Registry } from "prom-client";
import { expect, test, vi } from "vitest";
import { systemClock } from "#channel/clock.ts";
import { collectProcessMetrics } from "./process.ts";

/** block keeps the event loop from running, and lets it make up for it: whatever was due meanwhile has run. */
async function block(durationMs: number): Promise<void> {
  const end = systemClock.mono() + durationMs;
  while (systemClock.mono() < end);
  // Between two immediates lies a whole turn of the loop.
  for (let turn = 0; turn < 2; turn++) await new Promise<void>((resolve) => void systemClock.setImmediate(resolve));
}

test("a blocked event loop shows as lag, in each registry of the process", async () => {
  const registries = [new Registry(), new Registry()];
  const stops = registries.map((registry) => collectProcessMetrics(registry));
  try {
    // What watches the loop sees a delay between two of its own looks: it may not have had the first one yet.
    await vi.waitFor(
      async () => {
        await block(300);
        for (const page of await Promise.all(registries.map((registry) => registry.metrics()))) {
          expect(Number(/foedus_event_loop_lag_seconds\{stat="max"\} (\S+)/.exec(page)?.[1])).toBeGreaterThan(0.15);
          expect(Number(/^foedus_event_loop_utilization_ratio (\S+)/m.exec(page)?.[1])).toBeGreaterThan(0.3);
          expect(page).toContain("process_resident_memory_bytes");
        }
      },
      { timeout: 10_000, interval: 100 },
    );
  } finally {
    for (const stop of stops) stop();
  }
});
