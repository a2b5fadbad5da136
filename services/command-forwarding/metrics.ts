import type { Registry } from "prom-client";
import type { RoomUse } from "#kernel/bounds/room.ts";
import { counter, sampledCounter, sampledGauge } from "#runtime/metrics/declare.ts";
import { type Traced, type TracedHistogram, tracedHistogram } from "#runtime/metrics/exemplars.ts";
import { sampleRooms } from "#runtime/metrics/rooms.ts";
import { OUTCOME_NAMES, type Outcome } from "./messages.ts";

const words = OUTCOME_NAMES.map((name) => name.toLowerCase());

/** CommandMetrics count commands on both sides; labels are outcomes only, so the number of series is fixed. */
export class CommandMetrics {
  readonly #called: readonly { inc(): void }[];
  readonly #owned: readonly { inc(): void }[];
  readonly #seconds: TracedHistogram;
  readonly #unsample: () => void;

  readonly #removeRooms: () => void;

  constructor(
    registry: Registry,
    inFlight: () => number,
    rooms: () => readonly RoomUse[],
    audit: { readonly next: number; readonly waitingBytes: number },
  ) {
    const removeRooms = sampleRooms(registry, "command-forwarding", rooms);
    const first = audit.next;
    const records = sampledCounter<never>(registry, {
      name: "foedus_command_forwarding_audit_records_total",
      help: "Records of the audit of commands that were written.",
    })({}, () => audit.next - first);
    const waiting = sampledGauge<never>(registry, {
      name: "foedus_command_forwarding_audit_waiting_bytes",
      help: "Bytes of audit records that telemetry has not confirmed yet, or that are not trimmed yet.",
    })({}, () => audit.waitingBytes);
    this.#removeRooms = () => {
      removeRooms();
      records();
      waiting();
    };
    const labels = ["outcome"] as const;
    const called = counter(registry, {
      name: "foedus_command_forwarding_commands_total",
      help: "Commands of this hub's callers, by outcome.",
      labels,
    });
    const owned = counter(registry, {
      name: "foedus_command_forwarding_runs_total",
      help: "Commands for this hub's nodes, by outcome.",
      labels,
    });
    // A counter that appears with its first event hides that event from rate() and increase().
    for (const outcome of words.filter((word) => word !== "")) {
      called.inc({ outcome }, 0);
      owned.inc({ outcome }, 0);
    }
    this.#called = words.map((outcome) => called.labels({ outcome }));
    this.#owned = words.map((outcome) => owned.labels({ outcome }));
    this.#seconds = tracedHistogram(registry, {
      name: "foedus_command_forwarding_command_seconds",
      help: "Time from acceptance of a command to its outcome, at the caller's hub.",
    });
    this.#unsample = sampledGauge(registry, { name: "foedus_command_forwarding_in_flight", help: "Commands without an outcome." })(
      {},
      inFlight,
    );
  }

  /** called counts a command of ours that ended. With a trace, scrapers that ask for OpenMetrics see it at the latency. */
  called(outcome: Outcome, durationMs: number, traced?: Traced): void {
    this.#called[outcome]?.inc();
    this.#seconds.observe(durationMs / 1_000, traced);
  }

  owned(outcome: Outcome): void {
    this.#owned[outcome]?.inc();
  }

  close(): void {
    this.#unsample();
    this.#removeRooms();
  }
}
