import * as z from "zod";

/** telemetryConfig says how much is kept. */
export const telemetryConfig = z
  .strictObject({
    events_kept: z
      .int()
      .min(100)
      .max(1_000_000)
      .default(10_000)
      .meta({ unit: "events", description: "events kept on disk and in memory; the oldest go first; each takes about 0.5 KiB of memory" }),
    watchers: z
      .int()
      .min(1)
      .max(10_000)
      .default(64)
      .meta({ unit: "streams", description: "most WatchEvents streams at a time, an eighth of them (at least 8) for one caller" }),
  })
  .prefault({});

/** TelemetryConfig is the configuration of this service. */
export type TelemetryConfig = z.infer<typeof telemetryConfig>;
