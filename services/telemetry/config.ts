import * as z from "zod";

/** telemetryConfig says how much is kept. */
export const telemetryConfig = z
  .strictObject({
    events_kept: z
      .int()
      .min(100)
      .max(1_000_000_000)
      .default(2_000_000)
      .meta({ unit: "events", description: "events kept on disk, commands among them; the oldest go first, some hundreds at a time" }),
    keep_bytes: z
      .int()
      .min(1024 * 1024)
      .max(1024 * 1024 * 1024 * 1024)
      .default(256 * 1024 * 1024)
      .meta({
        unit: "bytes",
        description: "events kept on disk; the oldest go first. 60 to 200 bytes each, and 1 KiB of memory for each 128 KiB of them",
      }),
    keep_days: z
      .number()
      .min(0.001)
      .max(3_650)
      .default(30)
      .meta({ unit: "days", description: "how long events are kept; older ones are not shown, and go within minutes" }),
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

const DAY_MS = 24 * 3_600_000;

/** retentionOf gives the core its numbers. */
export function retentionOf({ events_kept: events, keep_bytes: bytes, keep_days: days }: TelemetryConfig): {
  readonly events: number;
  readonly bytes: number;
  readonly ms: number;
} {
  return { events, bytes, ms: days * DAY_MS };
}
