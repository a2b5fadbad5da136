import { clipText } from "#kernel/wire/bytes.ts";
import { Reader, Writer } from "../codec/wire.ts";

/** WAY is the part that this hub had in a command; the numbers are those of `foedus.telemetry.v1alpha1.CommandWay`. */
export const WAY = { NONE: 0, LOCAL: 1, FORWARDED: 2, RECEIVED: 3 } as const;

/** Way is one of them. */
export type Way = (typeof WAY)[keyof typeof WAY];

/** AuditRecord is what is kept of one command. The texts are those of callers. */
export interface AuditRecord {
  readonly way: Way;
  /** Number of the outcome; 0 for a record that counts others. */
  readonly outcome: number;
  readonly wallMs: number;
  readonly durationMs: number;
  readonly caller: string;
  readonly hub: string;
  readonly node: string;
  readonly capability: string;
  /** The encoded value, or its beginning; `valueBytes` is then the length of all of it. */
  readonly value: Uint8Array;
  readonly valueBytes: number;
  readonly hidden: boolean;
  readonly reason: string;
  readonly message: string;
  readonly nameEpoch: number;
  readonly nameNumber: number;
  readonly key: string;
  readonly suppressed: number;
}

/** BatchHead is what is known of a batch without its records. */
export interface BatchHead {
  readonly epoch: number;
  readonly first: number;
  readonly count: number;
}

/** Longest text of a record, bytes of UTF-8. */
const TEXT_BYTES = 255;
/** A batch is closed when it has so many bytes or texts: it goes to telemetry in one message with others. */
const FULL_BYTES = 128 * 1024;
const FULL_TEXTS = 2_048;

/** BatchWriter writes records as one `foedus.telemetry.v1alpha1.AuditBatch`, each text of them once. */
export class BatchWriter {
  readonly #records = new Writer(16 * 1024);
  readonly #whole = new Writer(16 * 1024);
  readonly #places = new Map<string, number>();
  #texts: string[] = [];
  #textBytes = 0;
  #count = 0;
  #outcomes = 0;
  #wallFrom = 0;
  #wallTo = 0;
  #namesFrom = 0;
  #namesTo = 0;

  get count(): number {
    return this.#count;
  }

  /** full: it has as much as one batch should have. */
  get full(): boolean {
    return this.#records.length + this.#textBytes >= FULL_BYTES || this.#texts.length >= FULL_TEXTS;
  }

  add(record: AuditRecord): void {
    const writer = this.#records;
    const { outcome, wallMs, nameNumber } = record;
    this.#outcomes |= 1 << outcome;
    this.#wallFrom = this.#count === 0 ? wallMs : Math.min(this.#wallFrom, wallMs);
    this.#wallTo = Math.max(this.#wallTo, wallMs);
    if (nameNumber > 0) {
      this.#namesFrom = this.#namesFrom === 0 ? nameNumber : Math.min(this.#namesFrom, nameNumber);
      this.#namesTo = Math.max(this.#namesTo, nameNumber);
    }
    this.#count++;
    const start = writer.open(0x52);
    writer.uintField(0x08, record.way);
    writer.uintField(0x10, outcome);
    writer.uintField(0x18, wallMs);
    writer.uintField(0x20, Math.max(0, Math.round(record.durationMs * 1_000)));
    writer.uintField(0x28, this.#place(record.caller));
    writer.uintField(0x30, this.#place(record.hub));
    writer.uintField(0x38, this.#place(record.node));
    writer.uintField(0x40, this.#place(record.capability));
    if (record.value.length > 0) {
      writer.uint(0x4a);
      writer.bytes(record.value);
    }
    writer.uintField(0x50, record.valueBytes);
    if (record.hidden) writer.uintField(0x58, 1);
    writer.uintField(0x60, this.#place(record.reason));
    writer.uintField(0x68, this.#place(record.message));
    writer.uintField(0x70, record.nameEpoch);
    writer.uintField(0x78, nameNumber);
    writer.uintField(0x80, this.#place(record.key));
    writer.uintField(0x88, record.suppressed);
    writer.close(start);
  }

  /** take gives the batch, whose first record has this number, and begins another one. */
  take(epoch: number, first: number): Uint8Array {
    const whole = this.#whole;
    whole.reset();
    whole.uintField(0x08, epoch);
    whole.uintField(0x10, first);
    whole.uintField(0x18, this.#count);
    whole.uintField(0x20, this.#wallFrom);
    whole.uintField(0x28, this.#wallTo);
    whole.uintField(0x30, this.#outcomes);
    whole.uintField(0x38, this.#namesFrom);
    whole.uintField(0x40, this.#namesTo);
    for (const text of this.#texts) {
      whole.uint(0x4a);
      whole.string(text);
    }
    whole.raw(this.#records.take());
    this.#places.clear();
    this.#texts = [];
    this.#textBytes = 0;
    this.#count = 0;
    this.#outcomes = 0;
    this.#wallTo = 0;
    this.#namesFrom = 0;
    this.#namesTo = 0;
    return whole.take();
  }

  #place(text: string): number {
    if (text === "") return 0;
    const known = this.#places.get(text);
    if (known !== undefined) return known;
    const clipped = clipText(text, TEXT_BYTES);
    this.#texts.push(clipped);
    this.#textBytes += clipped.length;
    const place = this.#texts.length;
    this.#places.set(text, place);
    return place;
  }
}

/** readHead reads which records a batch has. */
export function readHead(bytes: Uint8Array): BatchHead {
  const reader = new Reader(bytes);
  let epoch = 0;
  let first = 0;
  let count = 0;
  while (!reader.done) {
    const tag = reader.tag();
    if (tag === 0x08) epoch = reader.uint();
    else if (tag === 0x10) first = reader.uint();
    else if (tag === 0x18) count = reader.uint();
    // They come first.
    else break;
  }
  return { epoch, first, count };
}
