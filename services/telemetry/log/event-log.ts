import type { StoreOp } from "#kernel/core.ts";
import { ProtoReader } from "#kernel/wire/proto-reader.ts";
import { ProtoWriter } from "#kernel/wire/proto-writer.ts";
import { BLOOM_BYTES, Bloom } from "./bloom.ts";
import { joined, mayHave, type Part, type Wanted } from "./part.ts";

/** TAIL_LOG holds the newest events, a row for each report; SEGMENT_LOG older ones, many to a row. Each row is at its first event's position. */
export const TAIL_LOG = "tail";
export const SEGMENT_LOG = "segments";
/** SUMMARY_SPACE says of each segment what may be in it. */
export const SUMMARY_SPACE = "summary";

/** A segment has about so many events or bytes. */
const SEGMENT_EVENTS = 512;
const SEGMENT_BYTES = 128 * 1024;

/** TailRow is some of the newest events. */
export interface TailRow {
  readonly first: number;
  readonly bytes: Uint8Array;
  readonly part: Part;
}

/** Segment is what is known of a segment. */
export interface Segment extends Omit<Part, "tokens"> {
  readonly first: number;
  readonly bytes: number;
  readonly bloom: Bloom;
}

/** Retention is how much is kept. */
export interface Retention {
  readonly events: number;
  readonly bytes: number;
  readonly ms: number;
}

/** StoredEvents is what a store holds at the start. */
export interface StoredEvents {
  readonly tail: Iterable<{ readonly seq: number; readonly bytes: Uint8Array }>;
  readonly summaries: Iterable<{ readonly bytes: Uint8Array }>;
}

/**
 * EventLog says where events are stored, and which are kept.
 *
 * EL1 positions rise by one, over rows, segments and restarts.
 * EL2 a row of the tail becomes part of a segment in one transaction: each event is in one place.
 * EL3 of a segment the summary alone is in memory; whoever asks for events looks only into those that may have some.
 * EL4 what is beyond the retention goes by whole segments, the oldest first. The newest row always stays: it says which position comes next.
 */
export class EventLog {
  readonly #retention: Retention;
  #tail: TailRow[] = [];
  #tailEvents = 0;
  #tailBytes = 0;
  #segments: Segment[] = [];
  #segmentBytes = 0;
  #segmentEvents = 0;
  #next = 1;

  constructor(retention: Retention) {
    this.#retention = retention;
  }

  /** next is the position that the next event gets. */
  get next(): number {
    return this.#next;
  }

  /** first is the position of the oldest event that is kept. */
  get first(): number {
    return this.#segments[0]?.first ?? this.tailFirst;
  }

  /** tailFirst is where the tail begins. */
  get tailFirst(): number {
    return this.#tail[0]?.first ?? this.#next;
  }

  /** bytes of all that is kept. */
  get bytes(): number {
    return this.#segmentBytes + this.#tailBytes;
  }

  get tail(): readonly TailRow[] {
    return this.#tail;
  }

  get segments(): readonly Segment[] {
    return this.#segments;
  }

  /** restore takes over what is stored. `partOf` reads what a row of the tail has. */
  restore(stored: StoredEvents, partOf: (bytes: Uint8Array) => Part): void {
    for (const { bytes } of stored.summaries) this.#addSegment(readSegment(bytes));
    const last = this.#segments.at(-1);
    if (last !== undefined) this.#next = last.first + last.count;
    for (const { seq, bytes } of stored.tail) {
      this.#next = Math.max(this.#next, seq);
      this.#addRow(bytes, partOf(bytes));
    }
  }

  /** beginAt lets an empty log begin at a position: that of the log before it. */
  beginAt(position: number): void {
    if (this.#segments.length === 0 && this.#tail.length === 0) this.#next = Math.max(this.#next, position);
  }

  /** add appends events. */
  add(bytes: Uint8Array, part: Part, ops: StoreOp[]): void {
    ops.push({ op: "append", log: TAIL_LOG, seq: this.#next, bytes });
    this.#addRow(bytes, part);
  }

  /** settle makes a segment of the tail when it is long enough, and lets go what is beyond the retention. */
  settle(nowWall: number, ops: StoreOp[]): void {
    const most = Math.max(16, Math.min(SEGMENT_EVENTS, Math.floor(this.#retention.events / 10)));
    if (this.#tailEvents >= most || this.#tailBytes >= SEGMENT_BYTES) this.#pack(ops);
    this.#retain(nowWall, ops);
  }

  /** oldestWall is the date before which nothing is shown. */
  oldestWall(nowWall: number): number {
    return Math.max(0, Math.floor(nowWall - this.#retention.ms));
  }

  /** segmentAt is the segment with a position, or the first one after it. */
  segmentAt(position: number): number {
    let low = 0;
    let high = this.#segments.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const { first, count } = this.#segments[middle] as Segment;
      if (first + count <= position) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #addRow(bytes: Uint8Array, part: Part): void {
    this.#tail.push({ first: this.#next, bytes, part });
    this.#next += part.count;
    this.#tailEvents += part.count;
    this.#tailBytes += bytes.length;
  }

  #addSegment(segment: Segment): void {
    this.#segments.push(segment);
    this.#segmentBytes += segment.bytes;
    this.#segmentEvents += segment.count;
  }

  #pack(ops: StoreOp[]): void {
    const bytes = new Uint8Array(this.#tailBytes);
    let at = 0;
    for (const row of this.#tail) {
      bytes.set(row.bytes, at);
      at += row.bytes.length;
    }
    const { tokens, ...part } = joined(this.#tail.map((row) => row.part));
    const bloom = new Bloom();
    for (const token of tokens) bloom.add(token);
    const first = this.tailFirst;
    const segment: Segment = { ...part, first, bytes: bytes.length, bloom };
    ops.push(
      { op: "append", log: SEGMENT_LOG, seq: first, bytes },
      { op: "put", space: SUMMARY_SPACE, key: keyOf(first), bytes: writeSegment(segment) },
      { op: "trim", log: TAIL_LOG, below: this.#next },
    );
    this.#addSegment(segment);
    this.#tail = [];
    this.#tailEvents = 0;
    this.#tailBytes = 0;
  }

  #retain(nowWall: number, ops: StoreOp[]): void {
    const { events, bytes } = this.#retention;
    const oldest = this.oldestWall(nowWall);
    let gone = 0;
    for (const segment of this.#segments) {
      const last = gone === this.#segments.length - 1;
      const tooMany = this.#segmentEvents + this.#tailEvents > events * 1.1 || this.bytes > bytes;
      if (last || !(tooMany || segment.wallTo < oldest)) break;
      gone++;
      this.#segmentBytes -= segment.bytes;
      this.#segmentEvents -= segment.count;
      ops.push({ op: "delete", space: SUMMARY_SPACE, key: keyOf(segment.first) });
    }
    if (gone === 0) return;
    this.#segments = this.#segments.slice(gone);
    ops.push({ op: "trim", log: SEGMENT_LOG, below: (this.#segments[0] as Segment).first });
  }
}

/** segmentMayHave tells whether a segment can have an event that is wanted. */
export function segmentMayHave(segment: Segment, wanted: Wanted): boolean {
  return mayHave(segment, (token) => segment.bloom.has(token), wanted);
}

/** rowMayHave tells whether a row of the tail can have one. */
export function rowMayHave({ part }: TailRow, wanted: Wanted): boolean {
  return mayHave(part, (token) => part.tokens.includes(token), wanted);
}

function keyOf(first: number): string {
  return String(first).padStart(16, "0");
}

function writeSegment(segment: Segment): Uint8Array {
  const { first, count, bytes, wallFrom, wallTo, kinds, severity, outcomes, namesFrom, namesTo, bloom } = segment;
  const writer = new ProtoWriter();
  const values = [first, count, bytes, wallFrom, wallTo, kinds, severity, outcomes, namesFrom, namesTo];
  for (const [i, value] of values.entries()) writer.uint(i + 1, value);
  return writer.bytes(11, bloom.bytes).finish();
}

function readSegment(stored: Uint8Array): Segment {
  const reader = new ProtoReader(stored);
  const values = new Array<number>(11).fill(0);
  let bloom = new Bloom();
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field <= 10) values[field] = reader.uint();
    else if (field === 11) bloom = new Bloom(new Uint8Array(reader.bytes(BLOOM_BYTES)));
    else reader.unknown();
  }
  const [, first = 0, count = 0, bytes = 0, wallFrom = 0, wallTo = 0, kinds = 0, severity = 0, outcomes = 0, namesFrom = 0, namesTo = 0] =
    values;
  return { first, count, bytes, wallFrom, wallTo, kinds, severity, outcomes, namesFrom, namesTo, bloom };
}
