import type { Shared } from "#kernel/bounds/holdings.ts";
import { StreamsPerCaller } from "#kernel/bounds/streams-per-caller.ts";
import type { Core, StoreOp } from "#kernel/core.ts";
import type { Failure } from "#kernel/error.ts";
import type { Now } from "#kernel/instant.ts";
import { reading } from "#kernel/wire/stored-json.ts";
import type { Effect, Happening, HappeningCodec, HappeningFilter, HappeningReport, Input, LinkCount } from "./messages.ts";

/** EVENT_LOG is the log that holds the events, one blob each, at the event's seq. */
export const EVENT_LOG = "events";

/** Most events in one push to a watcher. */
const PUSH_MAX = 200;

/** Events that are taken while the store refuses them: they wait in memory. What is more waits where it happened. */
const UNWRITTEN_MAX = 1_000;

/** Number of EVENT_KIND_EVENTS_DROPPED in the schema. */
const KIND_EVENTS_DROPPED = 14;

interface Watcher {
  readonly caller: string;
  readonly filter: HappeningFilter;
  nextSeq: number;
  /** True when the last push was taken, so that the next may go. */
  ready: boolean;
}

/** matches tells whether an event passes a filter. */
export function matches(event: HappeningReport, filter: HappeningFilter): boolean {
  if (filter.kinds.length > 0 && !filter.kinds.includes(event.kind)) return false;
  if (event.severity < filter.minSeverity) return false;
  if (filter.peer !== "" && event.peer !== filter.peer) return false;
  return filter.node === "" || event.node === filter.node;
}

/**
 * TelemetryCore keeps the newest events in order.
 *
 * TE1 an event's seq rises by one for each kept event, also across restarts.
 * TE2 at most `eventsKept` events are kept; older ones are trimmed in the same commit that adds newer ones.
 * TE3 a watcher sees each matching event once, in order; what it asked for and is no longer kept is counted in `missed`. So are the
 *    positions that a lost or restored store takes back from one that resumes above the newest event; it goes on with new events. One of
 *    new events only is told at once where they begin, so that it can resume from there.
 * TE4 a watcher that does not take its pushes costs one cursor, no queue.
 * TE5 events that a reporter had to drop become an event themselves: a loss is never silent.
 * TE6 an event that was reported once is kept once, whatever the store does: a report is either taken, and then written as soon as the
 *    store accepts it, or declined as a whole. While the store refuses, at most `UNWRITTEN_MAX` events push older ones out.
 */
export class TelemetryCore implements Core<Input, Effect> {
  readonly #codec: HappeningCodec;
  readonly #kept: number;
  readonly #parts: StreamsPerCaller;
  /** The newest events, oldest first; `#events[0]` has seq `#nextSeq - #events.length`. */
  #events: Happening[] = [];
  #nextSeq = 1;
  readonly #watchers = new Map<number, Watcher>();
  /** Why the store refuses, and how many events were taken since it does. */
  #refusing: Failure | undefined;
  #unwritten = 0;
  readonly #links = new Map<string, readonly LinkCount[]>();

  constructor(options: { readonly codec: HappeningCodec; readonly eventsKept: number; readonly watchers: number }) {
    this.#codec = options.codec;
    this.#kept = options.eventsKept;
    this.#parts = new StreamsPerCaller("watchers", options.watchers);
  }

  /** restore takes the stored events in order, before the first step. */
  restore(blobs: Iterable<{ readonly seq: number; readonly bytes: Uint8Array }>): void {
    for (const blob of blobs) {
      const event = reading(`${EVENT_LOG}/${blob.seq}`, () => this.#codec.decode(blob.bytes));
      // A hole cannot come from this core; should one be found, what is before it is no longer addressable.
      if (blob.seq !== this.#nextSeq) this.#events = [];
      this.#events.push({ ...event, seq: blob.seq });
      this.#nextSeq = blob.seq + 1;
      if (this.#events.length > 2 * this.#kept) this.#events = this.#events.slice(-this.#kept);
    }
    this.#events = this.#events.slice(-this.#kept);
  }

  step(now: Now, input: Input, out: Effect[]): void {
    switch (input.kind) {
      case "report":
        if (input.links !== undefined) this.#links.set(input.service, input.links);
        if (this.#refusing !== undefined && input.events.length > 0) {
          if (this.#unwritten + input.events.length > UNWRITTEN_MAX)
            return void out.push({ kind: "declined", call: input.call, failure: this.#refusing });
          this.#unwritten += input.events.length;
        }
        this.#add(now, input.service, input.events, input.dropped, out);
        out.push({ kind: "reported", call: input.call });
        this.#pushAll(out);
        return;
      case "list":
        out.push(this.#list(input.call, input.filter, input.limit, input.beforeSeq));
        return;
      case "links":
        out.push({
          kind: "linked",
          call: input.call,
          links: [...this.#links.values()].flat().sort((a, b) => (a.peer + a.mount < b.peer + b.mount ? -1 : 1)),
        });
        return;
      case "watch": {
        const { caller, filter } = input;
        const failure = this.#parts.take(caller);
        if (failure !== undefined) {
          out.push({ kind: "refuse", watch: input.watch, failure });
          return;
        }
        const watcher: Watcher = { caller, filter, nextSeq: input.fromSeq === 0 ? this.#nextSeq : input.fromSeq, ready: true };
        this.#watchers.set(input.watch, watcher);
        if (input.fromSeq === 0) this.#begin(input.watch, watcher, out);
        this.#rewind(input.watch, watcher, out);
        this.#push(input.watch, watcher, out);
        return;
      }
      case "stored":
        this.#refusing = input.ok ? undefined : input.failure;
        if (input.ok) this.#unwritten = 0;
        return;
      case "watch_ready": {
        const watcher = this.#watchers.get(input.watch);
        if (watcher === undefined) return;
        watcher.ready = true;
        this.#push(input.watch, watcher, out);
        return;
      }
      case "watch_end": {
        const watcher = this.#watchers.get(input.watch);
        if (watcher === undefined) return;
        this.#parts.give(watcher.caller);
        this.#watchers.delete(input.watch);
        return;
      }
    }
  }

  tick(): void {}

  deadline(): undefined {
    return undefined;
  }

  /** shared is who has how many watches open. */
  shared(): Shared {
    return this.#parts.shared();
  }

  describe(): string {
    const lines = [`events kept=${this.#events.length} next_seq=${this.#nextSeq} watchers=${this.#watchers.size}`];
    for (const [service, links] of [...this.#links].sort()) {
      for (const link of links)
        lines.push(
          `link ${link.peer}/${link.mount} by ${service} in=${link.framesIn} out=${link.framesOut} ready=${link.ready} fatal=${link.fatal}`,
        );
    }
    return lines.join("\n");
  }

  #add(now: Now, service: string, events: readonly HappeningReport[], dropped: number, out: Effect[]): void {
    const reports = [...events];
    if (dropped > 0) {
      const text = `${dropped} events of ${service} were dropped before they could be kept`;
      const fields = { dropped: String(dropped) };
      reports.push({
        wallMs: Math.max(0, Math.round(now.wall)),
        kind: KIND_EVENTS_DROPPED,
        severity: 3,
        service,
        peer: "",
        node: "",
        text,
        fields,
      });
    }
    if (reports.length === 0) return;
    const ops: StoreOp[] = [];
    for (const report of reports) {
      const event = { ...report, seq: this.#nextSeq++ };
      this.#events.push(event);
      ops.push({ op: "append", log: EVENT_LOG, seq: event.seq, bytes: this.#codec.encode(event) });
      out.push({ kind: "observe", service, event });
    }
    // Trimming a tenth at a time keeps the cost per event constant.
    if (this.#events.length > this.#kept * 1.1) {
      this.#events = this.#events.slice(-this.#kept);
      ops.push({ op: "trim", log: EVENT_LOG, below: this.#nextSeq - this.#events.length });
    }
    out.push({ kind: "persist", ops });
  }

  #list(call: number, filter: HappeningFilter, limit: number, beforeSeq: number): Effect {
    const found: Happening[] = [];
    let next = 0;
    const first = this.#nextSeq - this.#events.length;
    const from = beforeSeq === 0 ? this.#nextSeq - 1 : Math.min(beforeSeq, this.#nextSeq) - 1;
    for (let seq = from; seq >= first; seq--) {
      const event = this.#events[seq - first]!;
      if (!matches(event, filter)) continue;
      if (found.length === limit) {
        next = found.at(-1)!.seq;
        break;
      }
      found.push(event);
    }
    return { kind: "listed", call, events: found, nextBeforeSeq: next };
  }

  #pushAll(out: Effect[]): void {
    for (const [id, watcher] of this.#watchers) this.#push(id, watcher, out);
  }

  /** begin tells a watcher of new events where they begin: one that is cut off before the first of them misses none. */
  #begin(id: number, watcher: Watcher, out: Effect[]): void {
    watcher.ready = false;
    out.push({ kind: "push", watch: id, events: [], missed: 0, nextSeq: watcher.nextSeq });
  }

  /** rewind takes a watcher that resumes above the newest event back to it: the store that gave out its position was lost or restored. */
  #rewind(id: number, watcher: Watcher, out: Effect[]): void {
    const missed = watcher.nextSeq - this.#nextSeq;
    if (missed <= 0) return;
    watcher.nextSeq = this.#nextSeq;
    watcher.ready = false;
    out.push({ kind: "push", watch: id, events: [], missed, nextSeq: watcher.nextSeq });
  }

  #push(id: number, watcher: Watcher, out: Effect[]): void {
    if (!watcher.ready || watcher.nextSeq >= this.#nextSeq) return;
    const first = this.#nextSeq - this.#events.length;
    const missed = Math.max(0, first - watcher.nextSeq);
    const events: Happening[] = [];
    let seq = Math.max(watcher.nextSeq, first);
    for (; seq < this.#nextSeq && events.length < PUSH_MAX; seq++) {
      const event = this.#events[seq - first]!;
      if (matches(event, watcher.filter)) events.push(event);
    }
    watcher.nextSeq = seq;
    if (events.length === 0 && missed === 0) return;
    watcher.ready = false;
    out.push({ kind: "push", watch: id, events, missed, nextSeq: seq });
  }
}
