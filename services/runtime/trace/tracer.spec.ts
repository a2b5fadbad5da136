import { Registry } from "prom-client";
import { beforeEach, describe, expect, test } from "vitest";
import { systemEntropy } from "#channel/entropy.ts";
import { parseTrace, type TraceContext } from "#kernel/trace-context.ts";
import { ManualClock } from "../../../test/fakes/manual-clock.ts";
import { type LogLine, memoryLogger } from "../../../test/fakes/memory-logger.ts";
import { SPAN_KIND, Span, traceFields } from "./span.ts";
import { Tracer, type TracerOptions } from "./tracer.ts";

const REMOTE = parseTrace("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "a=1") as TraceContext;

/** A sink whose requests the test answers. */
class Sink {
  readonly batches: (readonly Span[])[] = [];
  readonly #open: PromiseWithResolvers<void>[] = [];
  closed = false;

  send(spans: readonly Span[]): Promise<void> {
    this.batches.push(spans);
    const answer = Promise.withResolvers<void>();
    this.#open.push(answer);
    return answer.promise;
  }

  /** answer settles the oldest request and resolves when the tracer has heard of it. */
  async answer(error?: Error): Promise<void> {
    const open = this.#open.shift();
    if (error === undefined) open?.resolve();
    else open?.reject(error);
    await Promise.resolve();
    await Promise.resolve();
  }

  close(): void {
    this.closed = true;
  }

  get sent(): number {
    return this.batches.reduce((sum, batch) => sum + batch.length, 0);
  }
}

let clock: ManualClock;
let sink: Sink;
let metrics: Registry;
let lines: readonly LogLine[];

function tracer(more: Partial<TracerOptions> = {}): Tracer {
  const log = memoryLogger();
  lines = log.lines;
  return new Tracer({
    sink,
    clock,
    entropy: systemEntropy,
    log,
    metrics,
    ratio: 1,
    spansPerSecond: 100_000,
    queueSpans: 2_048,
    intervalMs: 5_000,
    ...more,
  });
}

const run = (t: Tracer, parent: TraceContext | undefined = REMOTE): void => {
  const span = t.begin("work", SPAN_KIND.SERVER, parent);
  if (!(span instanceof Span)) throw new Error("not recorded");
  t.end(span, false);
};

async function dropped(): Promise<Record<string, number>> {
  const { values } = (await metrics.getSingleMetric("foedus_trace_spans_dropped_total")?.get()) ?? { values: [] };
  return Object.fromEntries(values.map(({ labels, value }) => [labels["reason"], value]));
}

async function exported(): Promise<number> {
  return (await metrics.getSingleMetric("foedus_trace_spans_exported_total")?.get())?.values[0]?.value ?? 0;
}

beforeEach(() => {
  clock = new ManualClock();
  sink = new Sink();
  metrics = new Registry();
});

describe("what is recorded", () => {
  test("what comes with a trace follows its sender, whatever the ratio", () => {
    const child = tracer({ ratio: 0 }).begin("work", SPAN_KIND.CLIENT, REMOTE);
    expect(child).toBeInstanceOf(Span);
    expect(child).toMatchObject({ traceId: REMOTE.traceId, parent: REMOTE, state: "a=1", sampled: true });
    expect(child?.spanId).toMatch(/^[0-9a-f]{16}$/);
    expect(child?.spanId).not.toBe(REMOTE.spanId);
    const unsampled = { ...REMOTE, sampled: false };
    expect(tracer({ ratio: 1 }).begin("work", SPAN_KIND.CLIENT, unsampled)).toBe(unsampled);
  });

  test("what begins here is recorded by the ratio, and else has no trace at all", () => {
    const count = (ratio: number): number => {
      const t = tracer({ ratio });
      return Array.from({ length: 4_000 }, () => t.begin("work", SPAN_KIND.SERVER, undefined)).filter((span) => span !== undefined).length;
    };
    expect([count(0), count(1)]).toEqual([0, 4_000]);
    // Eight standard deviations of a binomial.
    expect(Math.abs(count(0.25) - 1_000)).toBeLessThan(8 * Math.sqrt(4_000 * 0.25 * 0.75));
    const root = tracer({ ratio: 1 }).begin("work", SPAN_KIND.SERVER, undefined) as Span;
    expect([root.traceId.length, root.parent, root.state]).toEqual([32, undefined, ""]);
    expect(traceFields(root)).toEqual({ trace_id: root.traceId, span_id: root.spanId });
    expect(traceFields(undefined)).toEqual({});
  });

  test("a caller that asks for a trace of everything gets so many a second, and the rest is counted", async () => {
    const t = tracer({ spansPerSecond: 10 });
    const spans = Array.from({ length: 50 }, () => t.begin("work", SPAN_KIND.SERVER, REMOTE));
    expect(spans.filter((span) => span instanceof Span)).toHaveLength(10);
    expect(spans[49]).toBe(REMOTE);
    expect(await dropped()).toEqual({ rate: 40, queue: 0, export: 0 });
    clock.advance(500);
    expect(Array.from({ length: 50 }, () => t.begin("work", SPAN_KIND.SERVER, REMOTE)).filter((s) => s instanceof Span)).toHaveLength(5);
  });

  test("a span that was not begun does not give out its parent's: the parent would be ended by it", () => {
    const t = tracer({ spansPerSecond: 1 });
    const parent = t.begin("call", SPAN_KIND.SERVER, REMOTE) as Span;
    const child = t.begin("command", SPAN_KIND.CLIENT, parent);
    expect(child).not.toBeInstanceOf(Span);
    expect(child).toEqual({ traceId: parent.traceId, spanId: parent.spanId, sampled: true, state: "a=1" });
  });

  test("times go forward by the steady clock, and follow the wall clock when that is set", () => {
    const t = tracer();
    const span = t.begin("work", SPAN_KIND.SERVER, REMOTE) as Span;
    expect(span.startMs).toBe(clock.wall());
    clock.advance(7);
    t.note(span, "half");
    clock.advance(5);
    t.end(span, true);
    expect([span.endMs - span.startMs, span.events?.[0]?.atMs, span.failed]).toEqual([12, span.startMs + 7, true]);
    const other = t.begin("work", SPAN_KIND.SERVER, REMOTE) as Span;
    clock.jump(-60_000);
    t.end(other, false);
    expect(other.endMs).toBe(other.startMs);
    expect((t.begin("work", SPAN_KIND.SERVER, REMOTE) as Span).startMs).toBe(clock.wall());
  });
});

describe("what is sent", () => {
  test("ended spans leave together after the interval, and at once when there are many", async () => {
    const t = tracer();
    for (let i = 0; i < 3; i++) run(t);
    clock.advance(4_999);
    expect(sink.batches).toEqual([]);
    clock.advance(1);
    expect(sink.batches.map((batch) => batch.length)).toEqual([3]);
    await sink.answer();
    expect(await exported()).toBe(3);
    for (let i = 0; i < 512; i++) run(t);
    expect(sink.batches.map((batch) => batch.length)).toEqual([3, 512]);
  });

  test("a span is sent once, however often it is ended", () => {
    const t = tracer();
    const span = t.begin("work", SPAN_KIND.SERVER, REMOTE) as Span;
    t.end(span, false);
    t.end(span, true);
    clock.advance(5_000);
    expect([sink.sent, span.failed]).toEqual([1, false]);
  });

  test("a collector that does not answer holds one request and the queue, and nothing more", async () => {
    const t = tracer({ queueSpans: 600 });
    for (let i = 0; i < 5_000; i++) run(t);
    clock.advance(60_000);
    expect(sink.batches.map((batch) => batch.length)).toEqual([512]);
    expect(await dropped()).toEqual({ rate: 0, queue: 5_000 - 512 - 600, export: 0 });
    await sink.answer();
    expect(sink.batches.map((batch) => batch.length)).toEqual([512, 512]);
    await sink.answer();
    clock.advance(5_000);
    expect(sink.batches.map((batch) => batch.length)).toEqual([512, 512, 88]);
  });

  test("what is refused is lost and counted, the log says so once, and again when it is over", async () => {
    const t = tracer();
    for (const error of [new Error("connect ECONNREFUSED"), new Error("connect ECONNREFUSED"), undefined, undefined]) {
      run(t);
      clock.advance(5_000);
      await sink.answer(error);
    }
    expect(await dropped()).toEqual({ rate: 0, queue: 0, export: 2 });
    expect(await exported()).toBe(2);
    expect(lines.map(({ level, message }) => [level, message])).toEqual([
      ["warn", "traces are not delivered; check tracing.endpoint, and the collector"],
      ["info", "traces are delivered again"],
    ]);
  });

  test("stop sends what waits, and gives a silent collector no more than the grace", async () => {
    const t = tracer();
    run(t);
    const stopped = t.stop(1_000);
    expect(sink.sent).toBe(1);
    await sink.answer();
    await stopped;
    expect([await exported(), sink.closed]).toEqual([1, true]);

    sink = new Sink();
    const other = tracer();
    run(other);
    const ended = other.stop(1_000);
    for (let i = 0; i < 3; i++) run(other);
    clock.advance(1_000);
    await ended;
    expect([sink.sent, sink.closed, clock.pending]).toEqual([1, true, 0]);
    expect((await dropped())["queue"]).toBe(3);
  });
});

test("F-8 a collector that refuses is asked at the usual pace, however many spans end", async () => {
  const t = tracer();
  const work = (): void => t.end(t.begin("work", SPAN_KIND.SERVER, REMOTE) as Span, false);
  for (let second = 0; second < 60; second++) {
    for (let i = 0; i < 1_000; i++) work();
    await sink.answer(new Error("gone"));
    clock.advance(1_000);
  }
  // The first one was sent as soon as there was a batch.
  expect(sink.batches.length).toBeLessThanOrEqual(60 / 5 + 1);
  expect(sink.batches.length).toBeGreaterThan(60 / 5 - 2);
});
