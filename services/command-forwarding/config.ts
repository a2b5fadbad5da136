import * as z from "zod";
import { AUDIT_SECRETS, type Settings } from "./settings.ts";

const ms = (description: string, fallback: number, min: number, max: number) =>
  z.int().min(min).max(max).default(fallback).meta({ unit: "ms", description });

/** commandForwardingConfig says how long commands may take and how many may be open. */
export const commandForwardingConfig = z
  .strictObject({
    default_timeout_ms: ms(
      "deadline of a command that names none; longer hides dead executors, shorter gives up on slow devices",
      10_000,
      10,
      3_600_000,
    ),
    late_ms: ms(
      "how long after its deadline a command of unknown outcome is still corrected by a late report; it stays pending that long",
      30_000,
      0,
      600_000,
    ),
    keep_ms: ms(
      "how long beyond its timeout an outcome is kept for a caller's hub that does not acknowledge it; must outlast a partition's retries",
      300_000,
      1_000,
      86_400_000,
    ),
    ack_delay_ms: ms(
      "longest wait before outcomes are acknowledged to their owners when nothing else is sent; longer saves commits",
      50,
      0,
      10_000,
    ),
    pending_per_peer: z.int().min(1).max(65_536).default(4_096).meta({
      unit: "commands",
      description:
        "commands without an outcome per peer and direction; more are refused. Of those to a peer, one caller, and one node, may have half while nobody else needs them, and an eighth otherwise (operators and automations six eighths)",
    }),
    outcomes_per_caller: z.int().min(16).max(1_000_000).default(16_384).meta({
      unit: "outcomes",
      description: "outcomes kept for one caller's hub until it acknowledges them; beyond it nothing of it is started",
    }),
    idempotency_keys: z.int().min(0).max(1_000_000).default(65_536).meta({
      unit: "keys",
      description:
        "idempotency keys in use; one caller may have half while nobody else needs them, and an eighth otherwise (operators and automations six eighths)",
    }),
    idempotency_bytes: z
      .int()
      .min(1024 * 1024)
      .max(4 * 1024 * 1024 * 1024)
      .default(128 * 1024 * 1024)
      .meta({
        unit: "bytes",
        description:
          "memory of idempotency keys with the outcomes kept for them, 0.5 to 20 KiB each; a caller has the same part of them as of the keys, and a key whose command runs counts as 20 KiB",
      }),
    executors: z.int().min(8).max(65_536).default(4_096).meta({
      unit: "executors",
      description: "attached executors; one caller may have half while nobody else needs them, and an eighth otherwise",
    }),
    outcome_bytes_per_caller: z
      .int()
      .min(1024 * 1024)
      .max(1024 * 1024 * 1024)
      .default(32 * 1024 * 1024)
      .meta({
        unit: "bytes",
        description: "outcomes kept for one caller's hub until it acknowledges them; beyond it nothing of it is started",
      }),
    idempotency_key_life_ms: ms(
      "how long after its command ended a key stands for it, while there is room",
      24 * 3_600_000,
      60_000,
      7 * 24 * 3_600_000,
    ),
    idempotency_key_least_ms: ms(
      "how long a key stands for its command in any case; under pressure the oldest beyond it are forgotten. Longer than any client retries; shorter allows more keyed commands per second",
      600_000,
      60_000,
      24 * 3_600_000,
    ),
    audit: z
      .strictObject({
        secret_capabilities: z
          .array(z.string().min(1).max(127))
          .max(256)
          .default([...AUDIT_SECRETS])
          .meta({
            unit: "names",
            description:
              "capabilities whose values the audit of commands does not keep: a whole name or one of its words, * stands for any characters; those that are declared secret are hidden in any case",
          }),
        value_bytes: z
          .int()
          .min(0)
          .max(1_024)
          .default(64)
          .meta({ unit: "bytes", description: "how much of a value the audit keeps; 0: no values at all" }),
        refusals_per_second: z.int().min(1).max(10_000).default(20).meta({
          unit: "records/s",
          description:
            "refused commands of one caller that the audit keeps each, ten times as many of all callers; more are counted, and the count is kept",
        }),
        refusals_burst: z.int().min(1).max(100_000).default(200).meta({ unit: "records", description: "and so many at once" }),
        waiting_bytes: z
          .int()
          .min(64 * 1024)
          .max(4 * 1024 * 1024 * 1024)
          .default(32 * 1024 * 1024)
          .meta({
            unit: "bytes",
            description:
              "records on disk that wait for telemetry, some 60 bytes a command; the oldest go first, and telemetry says how many",
          }),
      })
      .prefault({}),
  })
  .prefault({});

/** CommandForwardingConfig is the configuration of this service. */
export type CommandForwardingConfig = z.infer<typeof commandForwardingConfig>;

/** settingsOf gives the core its numbers. */
export function settingsOf(config: CommandForwardingConfig): Partial<Settings> {
  return {
    defaultTimeoutMs: config.default_timeout_ms,
    lateMs: config.late_ms,
    keepMs: config.keep_ms,
    ackDelayMs: config.ack_delay_ms,
    pendingPerPeer: config.pending_per_peer,
    outcomesPerCaller: config.outcomes_per_caller,
    keys: config.idempotency_keys,
    keyBytes: config.idempotency_bytes,
    executors: config.executors,
    outcomeBytesPerCaller: config.outcome_bytes_per_caller,
    keyLifeMs: config.idempotency_key_life_ms,
    keyLeastMs: config.idempotency_key_least_ms,
    auditSecrets: config.audit.secret_capabilities,
    auditValueBytes: config.audit.value_bytes,
    auditRefusalsPerSecond: config.audit.refusals_per_second,
    auditRefusalsBurst: config.audit.refusals_burst,
    auditBytes: config.audit.waiting_bytes,
  };
}
