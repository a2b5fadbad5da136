import type { Registry } from "prom-client";
import { counter, histogram, LabelBound, sampledGauge } from "#runtime/metrics/declare.ts";
import type { LogStatus } from "./log/engine.ts";
import type { Measured } from "./messages.ts";

/** Kinds of what is counted that are told apart; further ones are counted as other. */
const WHATS = 64;

/** CoordinationMetrics are what this service counts and times. */
export interface CoordinationMetrics {
  readonly observe: (measured: Measured) => void;
  /** decided is the time from a command's arrival here to its decision, s. */
  readonly decided: (seconds: number) => void;
  readonly refused: (reason: string) => void;
  readonly stop: () => void;
}

/** createMetrics declares the metrics; `status` is read at each scrape. */
export function createMetrics(
  registry: Registry,
  status: () => (LogStatus & { readonly applied: number; readonly members: number }) | undefined,
): CoordinationMetrics {
  const happened = counter(registry, {
    name: "foedus_coordination_events_total",
    help: "What happened in the log of the federation, by kind: elections, frames that were refused, entries without effect, commands of other hubs that were refused, moves of agents that this hub asked for by itself.",
    labels: ["what"],
  });
  happened.inc({ what: "evidence" }, 0);
  const decision = histogram(registry, {
    name: "foedus_coordination_decision_seconds",
    help: "Time from a command of this hub to its decision (consensus time).",
  });
  const failures = counter(registry, {
    name: "foedus_coordination_refused_total",
    help: "Commands and reads of this hub that were refused, by reason.",
    labels: ["reason"],
  });
  for (const reason of ["NO_QUORUM", "OUTCOME_UNKNOWN", "DEADLINE_EXPIRED"]) failures.inc({ reason }, 0);
  const whats = new LabelBound(WHATS);
  const reasons = new LabelBound(WHATS);
  const gauge = (name: string, help: string, read: (now: NonNullable<ReturnType<typeof status>>) => number): (() => void) =>
    sampledGauge(registry, { name, help })({}, () => {
      const now = status();
      return now === undefined ? 0 : read(now);
    });
  const stops = [
    gauge("foedus_coordination_member", "1 if this hub belongs to a federation.", () => 1),
    gauge("foedus_coordination_can_decide", "1 if a quorum of the federation is in contact.", ({ quorum }) => (quorum ? 1 : 0)),
    gauge("foedus_coordination_leader", "1 if this hub leads the log of its federation.", ({ role }) => (role === "leader" ? 1 : 0)),
    gauge("foedus_coordination_term", "Term of the log.", ({ term }) => term),
    gauge("foedus_coordination_committed_index", "Newest position of the log that is known to be decided.", ({ committed }) => committed),
    gauge("foedus_coordination_applied_index", "Newest position of the log whose effects are visible here.", ({ applied }) => applied),
    gauge("foedus_coordination_members", "Members of the federation.", ({ members }) => members),
    gauge("foedus_coordination_voters", "Voters of the log.", ({ membership }) => membership.voters.length),
    gauge(
      "foedus_coordination_age_seconds",
      "Time since this hub last knew that it has all that is decided; -1 if it does not since it started.",
      ({ ageMs }) => (ageMs === undefined ? -1 : ageMs / 1_000),
    ),
  ];
  return {
    observe: ({ what }) => happened.inc({ what: whats.of(what.replace(/:.*/s, "")) }),
    decided: (seconds) => decision.observe(seconds),
    refused: (reason) => failures.inc({ reason: reasons.of(reason) }),
    stop: () => {
      for (const stop of stops) stop();
    },
  };
}
