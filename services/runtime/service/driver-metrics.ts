import type { Registry } from "prom-client";
import { type Sampler, sampledCounter, sampledGauge } from "../metrics/declare.ts";

/** DriverReadings are read at each scrape. */
export interface DriverReadings {
  readonly depth: () => number;
  readonly capacity: () => number;
  readonly refused: () => number;
  readonly gated: () => number;
  readonly waiting: () => number;
  readonly refusing: () => number;
}

/** sampleDriver shows the readings of a service's driver; each answer takes one of them away. */
export function sampleDriver(metrics: Registry, service: string, readings: DriverReadings): (() => void)[] {
  const own = { service };
  const labels = ["service"] as const;
  const show = (sampler: Sampler<"service">, read: () => number): (() => void) => sampler(own, read);
  const mailbox = { name: "foedus_mailbox_depth", help: "Inputs that wait for the core.", labels };
  const capacity = {
    name: "foedus_mailbox_capacity",
    help: "Inputs that may wait for the core. What must not be lost waits beyond it, and counts in the depth.",
    labels,
  };
  const refused = { name: "foedus_mailbox_refused_total", help: "Inputs turned away because the mailbox was full.", labels };
  const gated = { name: "foedus_gated_outputs", help: "Outputs that wait for the store.", labels };
  const waiting = { name: "foedus_commit_waiting_ops", help: "Operations that wait for the next commit.", labels };
  const refusing = { name: "foedus_store_refusing", help: "1 while the store refuses writes.", labels };
  return [
    show(sampledGauge(metrics, mailbox), readings.depth),
    show(sampledGauge(metrics, capacity), readings.capacity),
    show(sampledCounter(metrics, refused), readings.refused),
    show(sampledGauge(metrics, gated), readings.gated),
    show(sampledGauge(metrics, waiting), readings.waiting),
    show(sampledGauge(metrics, refusing), readings.refusing),
  ];
}
