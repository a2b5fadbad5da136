import type { Registry } from "prom-client";
import type { Clock, Timer } from "#channel/clock.ts";
import type { Entropy } from "#channel/entropy.ts";
import { BoundedQueue } from "#kernel/bounds/bounded-queue.ts";
import { TokenBucket } from "#kernel/bounds/token-bucket.ts";
import { Prng } from "#kernel/prng.ts";
import type { TraceContext } from "#kernel/trace-context.ts";
import type { Logger } from "../log/log.ts";
import { counter } from "../metrics/declare.ts";
import { Span, type SpanKind } from "./span.ts";

/** SpanSink delivers spans. It rejects when they were not taken; they are then lost. */
export interface SpanSink {
  send(spans: readonly Span[]): Promise<void>;
  /** close lets go of its connections; nothing is sent after it. */
  close(): void;
}

/** TracerOptions say how much is traced, and where it goes. */
export interface TracerOptions {
  readonly sink: SpanSink;
  readonly clock: Clock;
  readonly entropy: Entropy;
  readonly log: Logger;
  readonly metrics: Registry;
  /** Share of the traces that begin here which is recorded, 0 to 1. What comes with a trace follows its sender's decision. */
  readonly ratio: number;
  /** Most spans begun in a second in the long run; a caller may ask for a trace of each of its calls. */
  readonly spansPerSecond: number;
  /** Most ended spans that wait to be sent. */
  readonly queueSpans: number;
  /** Longest wait before ended spans are sent. */
  readonly intervalMs: number;
}

/** Spans per request; at this many they are sent at once. */
const BATCH = 512;
/** The wall clock is followed when it is off by more than this, ms; in between spans of one process have one steady clock. */
const CLOCK_STEP_MS = 20;

/** Why a span was dropped. */
const DROPS = ["rate", "queue", "export"] as const;

/**
 * Tracer decides what is traced and gets it out, within bounds: a collector that is slow or away costs spans, which are counted, and
 * never memory or time of a call. Where tracing is off there is no Tracer, and contexts pass through untouched.
 */
export class Tracer {
  readonly #o: TracerOptions;
  readonly #prng: Prng;
  readonly #queue: BoundedQueue<Span>;
  readonly #dropped: Readonly<Record<(typeof DROPS)[number], { inc(n?: number): void }>>;
  readonly #exported: { inc(n?: number): void };
  readonly #bucket: TokenBucket;
  /** Wall minus mono, ms. */
  #offset: number;
  #timer: Timer | undefined;
  #sending: Promise<void> | undefined;
  #failing = false;
  #stopped = false;

  constructor(options: TracerOptions) {
    this.#o = options;
    const { clock, entropy, metrics, queueSpans, spansPerSecond } = options;
    this.#prng = new Prng(entropy.seed());
    this.#queue = new BoundedQueue(queueSpans);
    const { mono, wall } = clock.now();
    this.#bucket = new TokenBucket({ perSecond: spansPerSecond, burst: spansPerSecond }, mono);
    this.#offset = wall - mono;
    const dropped = counter(metrics, {
      name: "foedus_trace_spans_dropped_total",
      help: "Spans that were not delivered: over the rate, over the queue, or not taken by the collector.",
      labels: ["reason"],
    });
    const [rate, queue, failed] = DROPS.map((reason) => {
      const child = dropped.labels({ reason });
      child.inc(0);
      return child;
    });
    this.#dropped = { rate: rate!, queue: queue!, export: failed! };
    this.#exported = counter(metrics, { name: "foedus_trace_spans_exported_total", help: "Spans that the collector took." });
  }

  /**
   * begin starts a span under a parent, and answers what goes on with the work: a new Span if it is recorded, else the parent's
   * context, which is never a Span. Without a parent the ratio decides, and nothing at all goes on with what is not recorded.
   */
  begin(name: string, kind: SpanKind, parent: TraceContext | undefined): TraceContext | undefined {
    if (parent === undefined ? this.#prng.unit() >= this.#o.ratio : !parent.sampled) return parent;
    if (!this.#allowed()) {
      this.#dropped.rate.inc();
      return parent instanceof Span ? { traceId: parent.traceId, spanId: parent.spanId, sampled: true, state: parent.state } : parent;
    }
    const traceId = parent?.traceId ?? this.#id(16);
    return new Span({ name, kind, traceId, spanId: this.#id(8), parent, startMs: this.#nowMs() });
  }

  /** note adds an event to a span: something that happened now. */
  note(span: Span, name: string): void {
    span.events ??= [];
    span.events.push({ name, atMs: this.#nowMs() });
  }

  /** end ends a span and queues it. A second time it does nothing. */
  end(span: Span, failed: boolean): void {
    if (span.endMs !== 0) return;
    span.endMs = Math.max(this.#nowMs(), span.startMs);
    span.failed = failed;
    if (this.#stopped || !this.#queue.push(span)) {
      this.#dropped.queue.inc();
      return;
    }
    // A collector that refuses is asked at the usual pace, however many spans end.
    if (this.#queue.size >= BATCH && !this.#failing) this.#send();
    else this.#timer ??= this.#o.clock.setTimer(this.#o.intervalMs, () => this.#send());
  }

  /** stop sends what waits, for at most `graceMs`, and closes the sink. */
  async stop(graceMs: number): Promise<void> {
    if (this.#stopped) return;
    this.#stopped = true;
    const over = Promise.withResolvers<void>();
    const timer = this.#o.clock.setTimer(graceMs, over.resolve);
    await Promise.race([this.#drain(), over.promise]);
    timer.cancel();
    this.#timer?.cancel();
    this.#dropped.queue.inc(this.#queue.size);
    this.#queue.clear();
    this.#o.sink.close();
  }

  async #drain(): Promise<void> {
    while (this.#queue.size > 0 || this.#sending !== undefined) {
      this.#send();
      await this.#sending;
    }
  }

  /** send starts a request unless one is under way; what ends meanwhile waits in the queue. */
  #send(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    if (this.#sending !== undefined || this.#queue.size === 0) return;
    const batch: Span[] = [];
    for (let span = this.#queue.take(); span !== undefined; span = batch.length < BATCH ? this.#queue.take() : undefined) batch.push(span);
    this.#sending = this.#o.sink.send(batch).then(
      () => this.#sent(batch.length, undefined),
      (error: unknown) => this.#sent(batch.length, error),
    );
  }

  #sent(count: number, error: unknown): void {
    this.#sending = undefined;
    if (error === undefined) this.#exported.inc(count);
    else this.#dropped.export.inc(count);
    if ((error !== undefined) !== this.#failing) this.#tell(error);
    if (this.#queue.size === 0) return;
    // A collector that refuses is asked again at the usual pace.
    if (this.#queue.size >= BATCH && error === undefined) this.#send();
    else this.#timer ??= this.#o.clock.setTimer(this.#o.intervalMs, () => this.#send());
  }

  #tell(error: unknown): void {
    this.#failing = error !== undefined;
    if (this.#failing) this.#o.log.warn({ err: error }, "traces are not delivered; check tracing.endpoint, and the collector");
    else this.#o.log.info({}, "traces are delivered again");
  }

  /** One steady clock for all spans of this process, which follows the wall clock when that was set. */
  #nowMs(): number {
    const { mono, wall } = this.#o.clock.now();
    if (Math.abs(wall - mono - this.#offset) > CLOCK_STEP_MS) this.#offset = wall - mono;
    return mono + this.#offset;
  }

  #allowed(): boolean {
    const { clock, spansPerSecond } = this.#o;
    return this.#bucket.take({ perSecond: spansPerSecond, burst: spansPerSecond }, clock.mono()) === 0;
  }

  #id(bytes: number): string {
    return Buffer.from(this.#o.entropy.bytes(bytes)).toString("hex");
  }
}
