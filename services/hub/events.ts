import { create, type MessageInitShape } from "@bufbuild/protobuf";
import type { Registry } from "prom-client";
import type { ClientOf } from "#channel/call.ts";
import type { Clock, Timer } from "#channel/clock.ts";
import {
  EventKind,
  type EventSchema,
  type LinkReportSchema,
  ReportEventsRequestSchema,
  Severity,
  type TelemetryService,
} from "#gen/foedus/telemetry/v1alpha1/telemetry_service_pb.ts";
import { FoedusError, type Reason } from "#kernel/error.ts";
import { clipText } from "#kernel/wire/bytes.ts";
import type { EventReport, EventSink, LinkCounters } from "#runtime/events.ts";
import { type LimitedLogger, limitedHistory, limitedLogger } from "#runtime/log/limited.ts";
import type { Logger } from "#runtime/log/log.ts";
import { type Sampler, sampledCounter } from "#runtime/metrics/declare.ts";
import { ownRetry } from "./own-retry.ts";

/** Events that wait for telemetry; what comes on top is dropped and counted. */
const QUEUE_MAX = 1_000;
const FLUSH_MS = 100;
const LINKS_MS = 1_000;
/** Counters of links at which nothing but pings happens are told this seldom: on an idle hub telling them is most of what there is to do. */
const QUIET_MS = 5_000;
/** So many frames since the counters were told last are more than pings. */
const QUIET_FRAMES = 20;
/** A longer text of one event would have telemetry refuse all that are reported with it. */
const TEXT_MAX_BYTES = 1_024;

type LinkSource = { readonly service: string; links(): readonly LinkCounters[] };

type Report = MessageInitShape<typeof EventSchema>;

/** Queue is what one service's events wait in. `lost` is all that was ever dropped, `dropped` what telemetry has not been told of yet. */
interface Queue {
  events: Report[];
  dropped: number;
  lost: number;
}

function drop(queue: Queue, count: number): void {
  queue.dropped += count;
  queue.lost += count;
}

function waits({ events, dropped }: Queue): boolean {
  return events.length > 0 || dropped > 0;
}

/** Reasons that lie in what was sent, not in when. */
const FOR_GOOD: ReadonlySet<Reason> = new Set<Reason>(["INVALID_FIELD", "VALUE_OUT_OF_RANGE", "MESSAGE_TOO_LARGE"]);

/** refusedForGood: the same report would be refused again. INTERNAL comes from a broken stream as well; only telemetry's own has an id. */
function refusedForGood(error: unknown): boolean {
  if (!(error instanceof FoedusError)) return true;
  const { reason, facts } = error.failure;
  return FOR_GOOD.has(reason) || (reason === "INTERNAL" && facts?.["error_id"] !== undefined);
}

/** Told is what telemetry was told of a service's links last, and when. */
interface Told {
  readonly frames: number;
  /** Empty: that there is none. */
  readonly marks: string;
  readonly at: number;
}

function toldOf(links: readonly LinkCounters[], at: number): Told {
  const frames = links.reduce((sum, { framesIn, framesOut }) => sum + framesIn + framesOut, 0);
  return { frames, marks: links.map(({ peer, lastEvent, fatal, waiting }) => `${peer} ${lastEvent} ${fatal} ${waiting}`).join("\n"), at };
}

/** quiet: there is no news yet. */
function quiet(before: Told | undefined, now: Told): boolean {
  return before !== undefined && before.marks === now.marks && now.frames - before.frames < QUIET_FRAMES && now.at - before.at < QUIET_MS;
}

/**
 * EventForwarder takes the events of this process's services to telemetry, wherever that runs. It never blocks and never throws;
 * while telemetry is away it keeps the oldest thousand and counts the rest, which telemetry then records as a loss.
 */
export class EventForwarder {
  readonly #clock: Clock;
  readonly #log: Logger;
  #client: ClientOf<typeof TelemetryService> | undefined;
  readonly #queues = new Map<string, Queue>();
  readonly #refusals: LimitedLogger;
  readonly #losses: Sampler<"service">;
  readonly #sources: LinkSource[] = [];
  readonly #limited: { flush(): void }[] = [];
  readonly #told = new Map<string, Told>();
  readonly #retry = ownRetry();
  #timer: Timer | undefined;
  #linksTimer: Timer | undefined;
  #flushing: Promise<void> | undefined;
  #stopped = false;

  constructor(options: { readonly clock: Clock; readonly log: Logger; readonly metrics: Registry }) {
    this.#clock = options.clock;
    this.#log = options.log;
    this.#refusals = limitedLogger(options.log, options.clock);
    this.#losses = sampledCounter(options.metrics, {
      name: "foedus_events_dropped_total",
      help: "Events that were dropped because telemetry did not take them in time or refused them for good, by reporting service.",
      labels: ["service"],
    });
  }

  /** sink is the port that a service is given. */
  sink(service: string): EventSink {
    if (!this.#queues.has(service)) {
      const queue = { events: [], dropped: 0, lost: 0 };
      this.#queues.set(service, queue);
      this.#losses({ service }, () => queue.lost);
    }
    const sink = limitedHistory({ report: (event) => this.#add(service, event) }, this.#clock);
    this.#limited.push(sink);
    return sink;
  }

  /** connect starts to deliver. */
  connect(client: ClientOf<typeof TelemetryService>): void {
    this.#client = client;
    this.#arm(0);
    this.#armLinks();
  }

  /** addLinks makes a service's counters part of what is reported. */
  addLinks(source: LinkSource): void {
    this.#sources.push(source);
  }

  /** stop delivers what waits, once, and ends. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#timer?.cancel();
    this.#linksTimer?.cancel();
    for (const sink of this.#limited) sink.flush();
    await this.#flushing;
    await this.#flush();
    this.#refusals.flush();
  }

  #add(service: string, event: EventReport): void {
    const queue = this.#queues.get(service)!;
    this.#logEvent(service, event);
    if (queue.events.length >= QUEUE_MAX) return drop(queue, 1);
    queue.events.push({
      wallMs: BigInt(Math.max(0, Math.round(this.#clock.wall()))),
      kind: EventKind[event.kind],
      severity: Severity[event.severity],
      service,
      peer: event.peer ?? "",
      node: event.node ?? "",
      text: clipText(event.text, TEXT_MAX_BYTES),
      fields: { ...event.fields },
    });
    this.#arm(FLUSH_MS);
  }

  #logEvent(service: string, event: EventReport): void {
    const fields = { service, kind: event.kind, peer: event.peer, node: event.node, text: event.text, ...event.fields };
    if (event.severity === "ERROR") this.#log.error(fields, "event");
    else if (event.severity === "WARNING") this.#log.warn(fields, "event");
    else this.#log.debug(fields, "event");
  }

  #arm(delayMs: number): void {
    if (this.#timer !== undefined || this.#stopped || this.#client === undefined) return;
    this.#timer = this.#clock.setTimer(Math.max(delayMs, this.#retry.dueAt - this.#clock.mono()), () => {
      this.#timer = undefined;
      void this.#flush();
    });
  }

  #armLinks(): void {
    if (this.#stopped) return;
    this.#linksTimer = this.#clock.setTimer(LINKS_MS, () => {
      void this.#sendLinks().finally(() => this.#armLinks());
    });
  }

  /** flush delivers what waits; what comes meanwhile is delivered by the next one. */
  #flush(): Promise<void> {
    if (this.#client === undefined) return Promise.resolve();
    this.#flushing ??= this.#deliverAll().finally(() => {
      this.#flushing = undefined;
      if ([...this.#queues.values()].some(waits)) this.#arm(0);
    });
    return this.#flushing;
  }

  async #deliverAll(): Promise<void> {
    let failed = false;
    for (const [service, queue] of this.#queues) {
      if (!waits(queue)) continue;
      const { events } = queue;
      queue.events = [];
      const left = await this.#deliver(service, queue, events);
      if (left === undefined) continue;
      failed = true;
      this.#retry.failed(this.#clock.mono());
      const room = QUEUE_MAX - queue.events.length;
      queue.events.unshift(...left.slice(0, room));
      drop(queue, Math.max(0, left.length - room));
    }
    if (!failed) this.#retry.reset();
  }

  /**
   * deliver reports events of one service and answers those to try again later, or undefined if that is over for all of them. What
   * telemetry refuses for good would be refused each time, so the culprit is sought by halves and dropped, and the others are delivered.
   */
  async #deliver(service: string, queue: Queue, events: readonly Report[]): Promise<readonly Report[] | undefined> {
    const { dropped } = queue;
    try {
      const request = create(ReportEventsRequestSchema, { service, events: [...events], dropped: BigInt(dropped) });
      await this.#client?.reportEvents(request, { timeoutMs: 2_000 });
      queue.dropped -= dropped;
      return undefined;
    } catch (error) {
      if (!refusedForGood(error)) {
        this.#log.debug({ service, error }, "telemetry does not take events");
        return events;
      }
      if (events.length <= 1) {
        const [event] = events;
        // Without an event it is the report itself that is refused: it would be for ever.
        if (event === undefined) queue.dropped -= dropped;
        else drop(queue, 1);
        this.#refusals.log("warn", service, { service, error, kind: event?.kind, text: event?.text }, "telemetry refused an event");
        return undefined;
      }
    }
    const middle = events.length >> 1;
    const left = await this.#deliver(service, queue, events.slice(0, middle));
    return left === undefined ? this.#deliver(service, queue, events.slice(middle)) : [...left, ...events.slice(middle)];
  }

  async #sendLinks(): Promise<void> {
    const client = this.#client;
    if (client === undefined) return;
    for (const source of this.#sources) {
      const counters = source.links();
      const told = toldOf(counters, this.#clock.mono());
      const before = this.#told.get(source.service);
      const noLinks = counters.length === 0;
      // That there is none is told once, also at the start: those of a run before this one would be shown for ever.
      if (noLinks ? before?.marks === "" : quiet(before, told)) continue;
      const links = counters.map((link) => toProto(source.service, link));
      try {
        await client.reportEvents(create(ReportEventsRequestSchema, { service: source.service, links, noLinks }), { timeoutMs: 2_000 });
        this.#told.set(source.service, told);
      } catch (error) {
        const { service } = source;
        if (refusedForGood(error)) this.#refusals.log("warn", `links of ${service}`, { service, error }, "telemetry refused link counters");
        else this.#log.debug({ service, error }, "telemetry does not take link counters");
      }
    }
  }
}

function toProto(service: string, link: LinkCounters): MessageInitShape<typeof LinkReportSchema> {
  return {
    peer: link.peer,
    service,
    mount: link.mount,
    framesIn: BigInt(link.framesIn),
    framesOut: BigInt(link.framesOut),
    bytesIn: BigInt(link.bytesIn),
    bytesOut: BigInt(link.bytesOut),
    ready: BigInt(link.ready),
    backpressure: BigInt(link.backpressure),
    fatal: BigInt(link.fatal),
    waiting: link.waiting,
    lastEvent: link.lastEvent,
    // Negative before the first frame, which frames_in = 0 tells already, and no age.
    lastFrameAgeMs: BigInt(Math.max(0, Math.round(link.lastFrameAgeMs))),
  };
}
