import { create, toJson } from "@bufbuild/protobuf";
import type { ClientOf } from "#channel/call.ts";
import type { Clock } from "#channel/clock.ts";
import {
  type Event,
  EventKind,
  EventKindSchema,
  EventSchema,
  Severity,
  type TelemetryService,
  WatchEventsRequestSchema,
} from "#gen/foedus/telemetry/v1alpha1/telemetry_service_pb.ts";
import { FoedusError } from "#kernel/error.ts";
import type { Prng } from "#kernel/prng.ts";
import { sleep } from "#runtime/clock.ts";
import type { EventSink } from "#runtime/events.ts";
import type { Logger } from "#runtime/log/log.ts";
import { ownRetry } from "../own-retry.ts";
import type { WebhookConfig } from "./config.ts";
import type { Positions } from "./positions.ts";
import type { Answer, Poster } from "./post.ts";
import { signedHeaders } from "./signature.ts";
import { type Delivery, SinkQueue } from "./sink-queue.ts";

/** Tries of an event that the receiver refuses for good, in case it does not mean it: with the waits between them, some two minutes. */
const REFUSALS = 8;
/** So long a sink may fail before it becomes an event: one for each short failure would be posted to it, too. */
const TOLD_MS = 60_000;

const KIND_PREFIX = "EVENT_KIND_";

/** FollowerParts are what following the events for one sink takes. */
export interface FollowerParts {
  readonly name: string;
  readonly hubId: string;
  readonly config: WebhookConfig;
  readonly client: () => Pick<ClientOf<typeof TelemetryService>, "watchEvents">;
  readonly poster: Poster;
  /** secrets are read anew for each delivery. */
  readonly secrets: () => readonly Buffer[];
  readonly positions: Positions;
  readonly clock: Clock;
  readonly prng: Prng;
  readonly log: Logger;
  readonly events: EventSink;
  readonly counts: Counts;
}

/** Counts are what a sink counts. */
export interface Counts {
  tried(outcome: "taken" | "failed" | "refused"): void;
  missed(events: number): void;
}

/** Follower posts the events of this hub to one sink, from where it was, until it is stopped. */
export class Follower {
  readonly #o: FollowerParts;
  readonly #queue: SinkQueue<Event>;
  readonly #stop = new AbortController();
  #running: Promise<void> | undefined;
  /** Why the last try failed, and since when all do. */
  #why = "";
  #failingSince: number | undefined;
  #told = false;

  constructor(parts: FollowerParts) {
    const { config, prng, positions, name } = parts;
    this.#o = parts;
    const backoff = { baseMs: 1_000, maxMs: config.retry_max_ms, factor: 2, jitter: 0.25 };
    const rules = { backoff, giveUpMs: config.give_up_ms, refusals: REFUSALS };
    this.#queue = new SinkQueue(rules, prng, positions.of(name), ({ seq }) => Number(seq));
  }

  start(): void {
    this.#running ??= this.#run();
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    this.#o.poster.close();
    await this.#running;
  }

  /** failing tells whether the last try failed. */
  get failing(): boolean {
    return this.#failingSince !== undefined;
  }

  describe(): string {
    const { waiting, position, givenUp, failures } = this.#queue;
    const why = this.#why === "" ? "" : ` why="${this.#why}"`;
    return `webhook ${this.#o.name} position=${position} waiting=${waiting} given_up=${givenUp} failures=${failures}${why}`;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    const retry = ownRetry();
    while (!signal.aborted) {
      try {
        for await (const { events, missed, nextSeq } of this.#o.client().watchEvents(this.#request(), { signal })) {
          retry.reset();
          if (this.#failingSince === undefined) this.#why = "";
          this.#queue.take({ events, missed: Number(missed), nextSeq: Number(nextSeq) });
          await this.#empty();
        }
      } catch (error) {
        if (signal.aborted) return;
        this.#unheard(error);
      }
      const waitMs = retry.failed(this.#o.clock.mono()) - this.#o.clock.mono();
      await sleep(this.#o.clock, waitMs, signal).catch(() => undefined);
    }
  }

  /** unheard says why telemetry does not tell of events: it is away for a moment, or has as many watchers as it may have. */
  #unheard(error: unknown): void {
    const { log, name } = this.#o;
    const why = error instanceof FoedusError ? error.message : String(error);
    if (this.#why === "") log.info({ webhook: name, why }, "a webhook does not hear of events; it asks again");
    if (this.#failingSince === undefined) this.#why = why;
  }

  #request() {
    const { kinds, min_severity, peer, node } = this.#o.config;
    const filter = { kinds: kinds.map((kind) => EventKind[kind]), minSeverity: Severity[min_severity], peer, node };
    return create(WatchEventsRequestSchema, { filter, fromSeq: BigInt(this.#queue.position) });
  }

  /** empty posts all that waits; it rejects when the follower is stopped. */
  async #empty(): Promise<void> {
    const { clock, positions, name } = this.#o;
    const { signal } = this.#stop;
    for (;;) {
      positions.set(name, this.#queue.position);
      const next = this.#queue.next(clock.mono());
      if (next === undefined) return;
      if (typeof next === "number") await sleep(clock, next, signal);
      else await this.#try(next);
      signal.throwIfAborted();
    }
  }

  async #try(delivery: Delivery<Event>): Promise<void> {
    const { clock, poster, counts, log, name } = this.#o;
    const answer = await this.#post(delivery, poster);
    // What ends because this hub stops says nothing about the receiver.
    if (this.#stop.signal.aborted) return;
    const became = this.#queue.tried(clock.mono(), answer.outcome, answer.retryAfterMs);
    counts.tried(answer.outcome);
    if (delivery.kind === "missed" && became === "taken") counts.missed(delivery.missed);
    this.#note(answer);
    if (became !== "given up") return;
    log.warn({ webhook: name, why: answer.text }, "an event was not taken by a webhook and is left out");
  }

  #post(delivery: Delivery<Event>, poster: Poster): Promise<Answer> {
    const { secrets, clock } = this.#o;
    const { id, body } = this.#written(delivery);
    let headers: Readonly<Record<string, string>>;
    try {
      headers = signedHeaders(secrets(), id, clock.wall(), body);
    } catch (error) {
      return Promise.resolve({ outcome: "failed", text: (error as Error).message });
    }
    return poster.post({ ...headers, "user-agent": "foedus" }, body);
  }

  /** written is a delivery as it is posted. Its id is the same each time that it is, and no other has it, also when telemetry counts anew. */
  #written(delivery: Delivery<Event>): { readonly id: string; readonly body: string } {
    const { hubId: hub, clock } = this.#o;
    if (delivery.kind === "missed") {
      const { missed, after } = delivery;
      const body = { type: "foedus.events_missed", timestamp: new Date(clock.wall()).toISOString(), hub, data: { missed, before: after } };
      return { id: `${hub}-missed-${after}-${missed}`, body: JSON.stringify(body) };
    }
    const { event } = delivery;
    const kind = (EventKindSchema.value[event.kind]?.name.slice(KIND_PREFIX.length) ?? String(event.kind)).toLowerCase();
    const timestamp = new Date(Number(event.wallMs)).toISOString();
    const body = { type: `foedus.${kind}`, timestamp, hub, data: toJson(EventSchema, event) };
    return { id: `${hub}-${event.seq}-${event.wallMs}`, body: JSON.stringify(body) };
  }

  /** note has a sink that fails for long, and one that takes events again after that, be an event once. */
  #note({ outcome, text }: Answer): void {
    const { clock, events, log, name } = this.#o;
    const now = clock.mono();
    if (outcome === "taken") {
      if (this.#told)
        events.report({ kind: "MODULE", severity: "INFO", text: `the webhook ${name} takes events again`, fields: { webhook: name } });
      this.#why = "";
      this.#failingSince = undefined;
      this.#told = false;
      return;
    }
    if (this.#why === "") log.info({ webhook: name, why: text }, "a webhook does not take events; they are posted again");
    this.#why = text;
    this.#failingSince ??= now;
    if (this.#told || now - this.#failingSince < TOLD_MS) return;
    this.#told = true;
    const what = `the webhook ${name} has taken no events for a minute: ${text}`;
    events.report({ kind: "MODULE", severity: "WARNING", text: what, fields: { webhook: name } });
  }
}
