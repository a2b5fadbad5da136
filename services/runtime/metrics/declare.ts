import { Counter, Gauge, Histogram, type Registry } from "prom-client";
import { AssertionFailure } from "#kernel/assert.ts";

/** MetricSpec describes one metric. Labels must have few values: a hub with many nodes must not have many series. */
export interface MetricSpec<L extends string = string> {
  readonly name: string;
  readonly help: string;
  readonly labels?: readonly L[];
}

/** SECONDS_BUCKETS are the buckets of durations in seconds, from 0.1 ms to 10 s. */
export const SECONDS_BUCKETS: readonly number[] = [
  0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10,
];

/** COUNT_BUCKETS are the buckets of counts, powers of four up to 65,536. */
export const COUNT_BUCKETS: readonly number[] = [1, 4, 16, 64, 256, 1_024, 4_096, 16_384, 65_536];

/**
 * counter, like each function below, declares a metric once per registry: asking again gives the same one, so that two services of a hub
 * share it by label, and two hubs in one process, which have a registry each, never collide.
 */
export function counter<L extends string>(registry: Registry, spec: MetricSpec<L>): Counter<L> {
  return once(registry, spec, Counter, () => new Counter<L>({ ...shape(spec), registers: [registry] }));
}

/** gauge declares a gauge that is set; for values that exist anyway, prefer `sampledGauge`. */
export function gauge<L extends string>(registry: Registry, spec: MetricSpec<L>): Gauge<L> {
  return once(registry, spec, Gauge, () => new Gauge<L>({ ...shape(spec), registers: [registry] }));
}

/** histogram declares a histogram. */
export function histogram<L extends string>(
  registry: Registry,
  spec: MetricSpec<L>,
  buckets: readonly number[] = SECONDS_BUCKETS,
): Histogram<L> {
  return once(registry, spec, Histogram, () => new Histogram<L>({ ...shape(spec), buckets: [...buckets], registers: [registry] }));
}

/** Sampler adds one series to a sampled metric; the answer removes it again. */
export type Sampler<L extends string> = (labels: Record<L, string>, read: () => number) => () => void;

const samplers = new WeakMap<object, Set<() => void>>();

/** sampledGauge declares a gauge whose series are read when someone scrapes, so that they cost nothing in between. */
export function sampledGauge<L extends string>(registry: Registry, spec: MetricSpec<L>): Sampler<L> {
  const made = once(registry, spec, Gauge, () => {
    const readers = new Set<() => void>();
    const fresh = new Gauge<L>({
      ...shape(spec),
      registers: [registry],
      collect: () => {
        for (const read of readers) read();
      },
    });
    samplers.set(fresh, readers);
    return fresh;
  });
  return samplerOf(made, spec.name, (labels, read) => made.set(labels, read()));
}

/**
 * sampledCounter declares a counter whose series are read when someone scrapes: what is counted is a plain number elsewhere, one
 * addition per event. A read must never give less than the one before.
 */
export function sampledCounter<L extends string>(registry: Registry, spec: MetricSpec<L>): Sampler<L> {
  const made = once(registry, spec, Counter, () => {
    const readers = new Set<() => void>();
    const fresh = new Counter<L>({
      ...shape(spec),
      registers: [registry],
      collect() {
        this.reset();
        for (const read of readers) read();
      },
    });
    samplers.set(fresh, readers);
    return fresh;
  });
  return samplerOf(made, spec.name, (labels, read) => made.inc(labels, read()));
}

function samplerOf<L extends string>(
  made: Gauge<L> | Counter<L>,
  name: string,
  show: (labels: Record<L, string>, read: () => number) => void,
): Sampler<L> {
  const readers = samplers.get(made);
  if (readers === undefined) throw new AssertionFailure("metric was declared as one that is not sampled before", { name });
  return (labels, read) => {
    const sample = (): void => show(labels, read);
    readers.add(sample);
    return () => {
      readers.delete(sample);
      made.remove(labels);
    };
  };
}

/**
 * LabelBound keeps a label's values few: the first `max` distinct values pass, everything later is "other". Use it for
 * whatever an outsider can choose, such as peer ids.
 */
export class LabelBound {
  readonly #max: number;
  readonly #known = new Set<string>();

  constructor(max: number) {
    this.#max = max;
  }

  /** of is the value to put on the series. */
  of(value: string): string {
    if (this.#known.has(value)) return value;
    if (this.#known.size >= this.#max) return "other";
    this.#known.add(value);
    return value;
  }

  /** forget makes room for another value, when its peer is gone. */
  forget(value: string): void {
    this.#known.delete(value);
  }
}

function shape<L extends string>(spec: MetricSpec<L>): { name: string; help: string; labelNames: L[] } {
  return { name: spec.name, help: spec.help, labelNames: [...(spec.labels ?? [])] };
}

/** Remembers the labels that a metric was declared with; prom-client does not tell them. */
const declared = new WeakMap<object, string>();

function once<M extends object>(registry: Registry, spec: MetricSpec, kind: new (...args: never[]) => M, make: () => M): M {
  const wanted = `${spec.help}\n${(spec.labels ?? []).join(",")}`;
  const known: object | undefined = registry.getSingleMetric(spec.name);
  if (known === undefined) {
    const made = make();
    declared.set(made, wanted);
    return made;
  }
  if (!(known instanceof kind) || declared.get(known) !== wanted)
    throw new AssertionFailure("metric is declared twice with different meanings", { name: spec.name });
  return known;
}
