import type { Histogram, Registry } from "prom-client";
import { histogram, type MetricSpec, SECONDS_BUCKETS } from "./declare.ts";

/** Exemplar is one observation that a trace explains, as prom-client writes it (OpenMetrics, "Exemplars"). */
export interface Exemplar {
  readonly labelSet: { readonly trace_id: string };
  readonly value: number;
  /** Unix time, seconds. */
  readonly timestamp: number;
}

/** Traced says which trace an observation belongs to (W3C trace context: 32 hex digits), and when it was made. */
export interface Traced {
  readonly traceId: string;
  readonly wallMs: number;
}

/** TracedHistogram is a histogram without labels whose buckets show the trace of a recent observation. */
export interface TracedHistogram {
  /** observe counts a value; with a trace, that becomes the exemplar of the value's bucket. */
  observe(value: number, traced?: Traced): void;
}

/** Slots hold the last traced observation of each bucket; writing one allocates nothing. */
class Slots {
  readonly #bounds: Float64Array;
  readonly #traceIds: string[];
  readonly #values: Float64Array;
  readonly #walls: Float64Array;

  constructor(buckets: readonly number[]) {
    this.#bounds = Float64Array.from([...buckets, Number.POSITIVE_INFINITY]);
    this.#traceIds = Array.from(this.#bounds, () => "");
    this.#values = new Float64Array(this.#bounds.length);
    this.#walls = new Float64Array(this.#bounds.length);
  }

  note(value: number, traceId: string, wallMs: number): void {
    let slot = 0;
    while (value > (this.#bounds[slot] as number)) slot++;
    this.#traceIds[slot] = traceId;
    this.#values[slot] = value;
    this.#walls[slot] = wallMs;
  }

  at(bound: number): Exemplar | undefined {
    const slot = this.#bounds.indexOf(bound);
    const traceId = this.#traceIds[slot];
    if (traceId === undefined || traceId === "") return undefined;
    return { labelSet: { trace_id: traceId }, value: this.#values[slot] as number, timestamp: (this.#walls[slot] as number) / 1_000 };
  }
}

const slotsOf = new WeakMap<object, Slots>();

/**
 * tracedHistogram declares a histogram with exemplars. prom-client keeps exemplars only in registries that speak OpenMetrics and
 * nothing else; kept here, one registry serves both formats.
 */
export function tracedHistogram(
  registry: Registry,
  spec: Omit<MetricSpec<never>, "labels">,
  buckets: readonly number[] = SECONDS_BUCKETS,
): TracedHistogram {
  const made: Histogram<never> = histogram(registry, spec, buckets);
  let slots = slotsOf.get(made);
  if (slots === undefined) {
    slots = new Slots(buckets);
    slotsOf.set(made, slots);
  }
  const known = slots;
  return {
    observe: (value, traced) => {
      made.observe(value);
      if (traced !== undefined && traced.traceId !== "") known.note(value, traced.traceId, traced.wallMs);
    },
  };
}

/** exemplarOf is the exemplar of one bucket of a metric; undefined where there is none. `le` is the bucket's upper bound. */
export function exemplarOf(metric: object, le: number | string): Exemplar | undefined {
  return slotsOf.get(metric)?.at(le === "+Inf" ? Number.POSITIVE_INFINITY : Number(le));
}
