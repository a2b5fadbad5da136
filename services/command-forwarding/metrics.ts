import type { Registry } from "prom-client";
import { counter, histogram, sampledGauge } from "#runtime/metrics/declare.ts";
import { OUTCOME_NAMES, type Outcome } from "./messages.ts";

const words = OUTCOME_NAMES.map((name) => name.toLowerCase());

/** CommandMetrics count commands on both sides; labels are outcomes only, so the number of series is fixed. */
export class CommandMetrics {
  readonly #called: readonly { inc(): void }[];
  readonly #owned: readonly { inc(): void }[];
  readonly #seconds: { observe(value: number): void };
  readonly #unsample: () => void;

  constructor(registry: Registry, inFlight: () => number) {
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
    this.#called = words.map((outcome) => called.labels({ outcome }));
    this.#owned = words.map((outcome) => owned.labels({ outcome }));
    this.#seconds = histogram(registry, {
      name: "foedus_command_forwarding_command_seconds",
      help: "Time from acceptance of a command to its outcome, at the caller's hub.",
    });
    this.#unsample = sampledGauge(registry, { name: "foedus_command_forwarding_in_flight", help: "Commands without an outcome." })(
      {},
      inFlight,
    );
  }

  called(outcome: Outcome, durationMs: number): void {
    this.#called[outcome]?.inc();
    this.#seconds.observe(durationMs / 1_000);
  }

  owned(outcome: Outcome): void {
    this.#owned[outcome]?.inc();
  }

  close(): void {
    this.#unsample();
  }
}
