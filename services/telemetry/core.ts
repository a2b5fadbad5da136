import type { Shared } from "#kernel/bounds/holdings.ts";
import { StreamsPerCaller } from "#kernel/bounds/streams-per-caller.ts";
import type { Core, StoreOp } from "#kernel/core.ts";
import type { Failure } from "#kernel/error.ts";
import type { Now } from "#kernel/instant.ts";
import { ProtoReader } from "#kernel/wire/proto-reader.ts";
import { ProtoWriter } from "#kernel/wire/proto-writer.ts";
import { reading } from "#kernel/wire/stored-json.ts";
import {
  EventLog,
  type Retention,
  rowMayHave,
  type StoredEvents,
  SUMMARY_SPACE,
  segmentMayHave,
  TAIL_LOG,
  type TailRow,
} from "./log/event-log.ts";
import type { Wanted } from "./log/part.ts";
import type { AuditBatch, Effect, HappeningCodec, HappeningReport, Input, LinkCount } from "./messages.ts";

/** EVENT_LOG is the log in which the version before kept its events, one blob each; they are taken over at the start. */
export const EVENT_LOG = "events";
/** META_SPACE and AUDIT_KEY say up to where the audit of commands was copied. */
export const META_SPACE = "meta";
export const AUDIT_KEY = "audit";

/** Most events, and bytes, that one push to a watcher reads. */
const PUSH_EVENTS = 1_024;
const PUSH_BYTES = 256 * 1024;

/** Events that are taken while the store refuses them: they wait in memory. What is more waits where it happened. */
const UNWRITTEN_MAX = 1_000;

/** How often is looked whether something is too old, ms. */
const RETAIN_MS = 60_000;

/** Events of the version before that are taken over in one row. */
const LEGACY_ROW = 500;

/** Number of EVENT_KIND_EVENTS_DROPPED in the schema. */
const KIND_EVENTS_DROPPED = 14;

interface Watcher {
  readonly caller: string;
  readonly wanted: Wanted;
  nextSeq: number;
  /** True when the last push was taken, so that the next may go. */
  ready: boolean;
}

/** StoredTelemetry is what the store holds at the start. */
export interface StoredTelemetry extends StoredEvents {
  readonly legacy: Iterable<{ readonly seq: number; readonly bytes: Uint8Array }>;
  readonly audit: Uint8Array | undefined;
}

/**
 * TelemetryCore keeps events in order, and the audit of commands among them. It says where they are; the shell reads them.
 *
 * TE1 an event's seq rises by one for each kept event, also across restarts.
 * TE2 what is kept is bounded by number, bytes and age; the oldest go first, in the commit that adds newer ones, or soon after.
 * TE3 a watcher sees each matching event once, in order; what it asked for and is no longer kept is counted in `missed`. So are the
 *    positions that a lost or restored store takes back from one that resumes above the newest event; it goes on with new events. One of
 *    new events only is told at once where they begin, so that it can resume from there.
 * TE4 a watcher that does not take its pushes costs one cursor, no queue.
 * TE5 events that a reporter had to drop become an event themselves: a loss is never silent. So do records of the audit that are missing.
 * TE6 an event that was reported once is kept once, whatever the store does: a report is either taken, and then written as soon as the
 *    store accepts it, or declined as a whole. While the store refuses, at most `UNWRITTEN_MAX` events push older ones out.
 * TE7 a record of the audit is kept once, however often it comes: the number of the last one is written with it.
 */
export class TelemetryCore implements Core<Input, Effect> {
  readonly #codec: HappeningCodec;
  readonly #parts: StreamsPerCaller;
  readonly #log: EventLog;
  readonly #watchers = new Map<number, Watcher>();
  /** Why the store refuses, and how many events were taken since it does. */
  #refusing: Failure | undefined;
  #unwritten = 0;
  readonly #links = new Map<string, readonly LinkCount[]>();
  /** The last record of the audit. */
  #audit = { epoch: 0, number: 0 };
  /** What the start has to write. */
  #first: StoreOp[] = [];
  #retainAt = 0;

  constructor(options: { readonly codec: HappeningCodec; readonly retention: Retention; readonly watchers: number }) {
    this.#codec = options.codec;
    this.#log = new EventLog(options.retention);
    this.#parts = new StreamsPerCaller("watchers", options.watchers);
  }

  /** bytes of the events that are kept. */
  get bytes(): number {
    return this.#log.bytes;
  }

  /** restore takes the stored events, before the first step, which must be `start`. */
  restore(stored: StoredTelemetry): void {
    reading(`${SUMMARY_SPACE} and ${TAIL_LOG}`, () => this.#log.restore(stored, (bytes) => this.#codec.partOf(bytes)));
    if (stored.audit !== undefined) this.#audit = reading(`${META_SPACE}/${AUDIT_KEY}`, () => readPosition(stored.audit as Uint8Array));
    let reports: HappeningReport[] = [];
    let first = true;
    const keep = (): void => {
      const { bytes, part } = this.#codec.encode(reports);
      this.#log.add(bytes, part, this.#first);
      this.#log.settle(0, this.#first);
      reports = [];
    };
    for (const { seq, bytes } of stored.legacy) {
      if (first) this.#log.beginAt(seq);
      first = false;
      reports.push(reading(`${EVENT_LOG}/${seq}`, () => this.#codec.legacy(bytes)));
      if (reports.length === LEGACY_ROW) keep();
    }
    if (reports.length > 0) keep();
    if (!first) this.#first.push({ op: "drop", log: EVENT_LOG });
  }

  step(now: Now, input: Input, out: Effect[]): void {
    switch (input.kind) {
      case "start":
        if (this.#first.length > 0) out.push({ kind: "persist", ops: this.#first });
        this.#first = [];
        this.#retainAt = now.mono;
        return;
      case "report":
        return this.#report(now, input, out);
      case "copy":
        return this.#copy(now, input.call, input.batches, out);
      case "list":
        out.push(this.#list(now, input.call, input.wanted, input.beforeSeq));
        return;
      case "links":
        out.push({
          kind: "linked",
          call: input.call,
          links: [...this.#links.values()].flat().sort((a, b) => (a.peer + a.mount < b.peer + b.mount ? -1 : 1)),
        });
        return;
      case "watch":
        return this.#watch(input, out);
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

  /** tick lets go what has become too old. */
  tick(now: Now, out: Effect[]): void {
    if (now.mono < this.#retainAt) return;
    this.#retainAt = now.mono + RETAIN_MS;
    if (this.#refusing !== undefined) return;
    const ops: StoreOp[] = [];
    this.#log.settle(now.wall, ops);
    if (ops.length > 0) out.push({ kind: "persist", ops });
  }

  deadline(): number {
    return this.#retainAt;
  }

  /** shared is who has how many watches open. */
  shared(): Shared {
    return this.#parts.shared();
  }

  describe(): string {
    const { next, first, segments, bytes } = this.#log;
    const lines = [
      `events kept=${next - first} next_seq=${next} segments=${segments.length} bytes=${bytes} watchers=${this.#watchers.size}`,
      `audit of commands copied to epoch=${this.#audit.epoch} number=${this.#audit.number}`,
    ];
    for (const [service, links] of [...this.#links].sort()) {
      for (const link of links)
        lines.push(
          `link ${link.peer}/${link.mount} by ${service} in=${link.framesIn} out=${link.framesOut} ready=${link.ready} fatal=${link.fatal}`,
        );
    }
    return lines.join("\n");
  }

  #report(now: Now, input: Extract<Input, { readonly kind: "report" }>, out: Effect[]): void {
    if (input.links !== undefined) this.#links.set(input.service, input.links);
    if (this.#refusing !== undefined && input.events.length > 0) {
      if (this.#unwritten + input.events.length > UNWRITTEN_MAX)
        return void out.push({ kind: "declined", call: input.call, failure: this.#refusing });
      this.#unwritten += input.events.length;
    }
    const reports = [...input.events];
    if (input.dropped > 0) {
      const text = `${input.dropped} events of ${input.service} were dropped before they could be kept`;
      reports.push(lossOf(now, input.service, text, input.dropped));
    }
    if (reports.length > 0) {
      const ops: StoreOp[] = [];
      this.#keep(input.service, reports, ops, out);
      this.#write(now, ops, out);
    }
    out.push({ kind: "reported", call: input.call });
    this.#pushAll(out);
  }

  /** copy takes records of the audit that are not here yet (TE7). */
  #copy(now: Now, call: number, batches: readonly AuditBatch[], out: Effect[]): void {
    // They wait in the journal that they come from.
    if (this.#refusing !== undefined) return void out.push({ kind: "declined", call, failure: this.#refusing });
    const ops: StoreOp[] = [];
    let fresh: AuditBatch[] = [];
    const keep = (): void => {
      if (fresh.length === 0) return;
      const { bytes, part } = this.#codec.row(fresh);
      this.#log.add(bytes, part, ops);
      const warnings = fresh.reduce((sum, batch) => sum + batch.warnings, 0);
      if (warnings > 0) out.push({ kind: "observe", service: AUDITED, severity: 3, count: warnings });
      if (part.count > warnings) out.push({ kind: "observe", service: AUDITED, severity: 2, count: part.count - warnings });
      fresh = [];
    };
    for (const batch of batches) {
      const { epoch, number } = this.#audit;
      const last = batch.first + batch.part.count - 1;
      if (batch.epoch < epoch || (batch.epoch === epoch && last <= number)) continue;
      if (batch.first !== number + 1 && number > 0) {
        keep();
        this.#keep(AUDITED, [this.#gap(now, batch, number)], ops, out);
      }
      this.#audit = { epoch: batch.epoch, number: last };
      fresh.push(batch);
    }
    keep();
    if (ops.length > 0) {
      ops.push({ op: "put", space: META_SPACE, key: AUDIT_KEY, bytes: writePosition(this.#audit) });
      this.#write(now, ops, out);
    }
    out.push({ kind: "copied", call, ...this.#audit });
    this.#pushAll(out);
  }

  /** gap is the event that records of the audit are missing (TE5). */
  #gap(now: Now, { first }: AuditBatch, number: number): HappeningReport {
    const missing = first - number - 1;
    if (missing > 0) return lossOf(now, AUDITED, `${missing} records of the audit of commands are missing`, missing);
    return lossOf(now, AUDITED, `the audit of commands goes on at number ${first} after ${number}: its store was lost or restored`, 0);
  }

  #keep(service: string, reports: readonly HappeningReport[], ops: StoreOp[], out: Effect[]): void {
    const { bytes, part } = this.#codec.encode(reports);
    this.#log.add(bytes, part, ops);
    for (const { severity } of reports) out.push({ kind: "observe", service, severity, count: 1 });
  }

  #write(now: Now, ops: StoreOp[], out: Effect[]): void {
    // A segment that is not durable could not be read.
    if (this.#refusing === undefined) this.#log.settle(now.wall, ops);
    out.push({ kind: "persist", ops });
  }

  #list(now: Now, call: number, wanted: Wanted, beforeSeq: number): Effect {
    const log = this.#log;
    const before = beforeSeq === 0 ? log.next : Math.min(beforeSeq, log.next);
    const sinceMs = Math.max(wanted.sinceMs, log.oldestWall(now.wall));
    const bounded = { ...wanted, sinceMs };
    const rows = log.tail.filter((row) => row.first < before && rowMayHave(row, bounded)).reverse();
    const segments: number[] = [];
    for (let i = log.segments.length - 1; i >= 0; i--) {
      const segment = log.segments[i];
      if (segment !== undefined && segment.first < before && segmentMayHave(segment, bounded)) segments.push(segment.first);
    }
    return { kind: "listed", call, rows, segments, sinceMs };
  }

  #watch(input: Extract<Input, { readonly kind: "watch" }>, out: Effect[]): void {
    const { caller, wanted } = input;
    const failure = this.#parts.take(caller);
    if (failure !== undefined) {
      out.push({ kind: "refuse", watch: input.watch, failure });
      return;
    }
    const { next } = this.#log;
    const watcher: Watcher = { caller, wanted, nextSeq: input.fromSeq === 0 ? next : input.fromSeq, ready: true };
    this.#watchers.set(input.watch, watcher);
    if (input.fromSeq === 0) this.#tell(input.watch, watcher, 0, out);
    // One that resumes above the newest event: the store that gave out its position was lost or restored.
    const above = watcher.nextSeq - next;
    if (above > 0) {
      watcher.nextSeq = next;
      this.#tell(input.watch, watcher, above, out);
    }
    this.#push(input.watch, watcher, out);
  }

  /** tell pushes no events, but where a watcher is. */
  #tell(watch: number, watcher: Watcher, missed: number, out: Effect[]): void {
    watcher.ready = false;
    out.push({ kind: "push", watch, rows: [], segment: undefined, fromSeq: watcher.nextSeq, missed, nextSeq: watcher.nextSeq });
  }

  #pushAll(out: Effect[]): void {
    for (const [id, watcher] of this.#watchers) this.#push(id, watcher, out);
  }

  #push(watch: number, watcher: Watcher, out: Effect[]): void {
    const log = this.#log;
    if (!watcher.ready || watcher.nextSeq >= log.next) return;
    const missed = Math.max(0, log.first - watcher.nextSeq);
    const fromSeq = Math.max(watcher.nextSeq, log.first);
    const found = fromSeq < log.tailFirst ? this.#inSegments(watcher, fromSeq) : this.#inTail(watcher, fromSeq);
    watcher.nextSeq = found.nextSeq;
    if (found.rows.length === 0 && found.segment === undefined && missed === 0) return;
    watcher.ready = false;
    out.push({ kind: "push", watch, fromSeq, missed, ...found });
  }

  /** inSegments finds the next segment that may have something for a watcher; without one, it goes on in the tail. */
  #inSegments(watcher: Watcher, fromSeq: number): Found {
    const { segments, tailFirst } = this.#log;
    for (let i = this.#log.segmentAt(fromSeq); i < segments.length; i++) {
      const segment = segments[i];
      if (segment === undefined || !segmentMayHave(segment, watcher.wanted)) continue;
      return { rows: [], segment: segment.first, nextSeq: segment.first + segment.count };
    }
    return this.#inTail(watcher, tailFirst);
  }

  #inTail({ wanted }: Watcher, fromSeq: number): Found {
    const rows: TailRow[] = [];
    let bytes = 0;
    let events = 0;
    for (const row of this.#log.tail) {
      const end = row.first + row.part.count;
      if (end <= fromSeq || !rowMayHave(row, wanted)) continue;
      if (rows.length > 0 && (bytes + row.bytes.length > PUSH_BYTES || events + row.part.count > PUSH_EVENTS))
        return { rows, segment: undefined, nextSeq: row.first };
      rows.push(row);
      bytes += row.bytes.length;
      events += row.part.count;
    }
    return { rows, segment: undefined, nextSeq: this.#log.next };
  }
}

interface Found {
  readonly rows: readonly TailRow[];
  readonly segment: number | undefined;
  readonly nextSeq: number;
}

/** Service that the audit of commands comes from. */
const AUDITED = "command-forwarding";

function lossOf(now: Now, service: string, text: string, dropped: number): HappeningReport {
  const fields = { dropped: String(dropped) };
  return { wallMs: Math.max(0, Math.round(now.wall)), kind: KIND_EVENTS_DROPPED, severity: 3, service, peer: "", node: "", text, fields };
}

interface Position {
  readonly epoch: number;
  readonly number: number;
}

function writePosition({ epoch, number }: Position): Uint8Array {
  return new ProtoWriter().uint(1, epoch).uint(2, number).finish();
}

function readPosition(bytes: Uint8Array): Position {
  const reader = new ProtoReader(bytes);
  let epoch = 0;
  let number = 0;
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) epoch = reader.uint();
    else if (field === 2) number = reader.uint();
    else reader.unknown();
  }
  return { epoch, number };
}
