import { WireError } from "#kernel/wire/proto-reader.ts";

/** AuditHead is what is known of a batch of audit records without reading them. */
export interface AuditHead {
  readonly epoch: number;
  readonly first: number;
  readonly count: number;
  readonly wallFrom: number;
  readonly wallTo: number;
  readonly outcomes: number;
  readonly namesFrom: number;
  readonly namesTo: number;
  readonly texts: readonly string[];
  /** Where records are, [from, to) for each. */
  readonly records: readonly number[];
}

/** AuditRow is one record as it is stored: numbers, and places of texts. */
export interface AuditRow {
  way: number;
  outcome: number;
  wallMs: number;
  durationUs: number;
  caller: number;
  hub: number;
  node: number;
  capability: number;
  value: Uint8Array;
  valueBytes: number;
  hidden: boolean;
  reason: number;
  message: number;
  nameEpoch: number;
  nameNumber: number;
  key: number;
  suppressed: number;
}

const decoder = new TextDecoder();
const NO_BYTES = new Uint8Array();
/** More records than a journal writes into one batch. */
const RECORDS_MAX = 65_536;

/** Cursor walks over protobuf's wire format: varints and lengths that fit into a double, also padded ones. */
class Cursor {
  readonly bytes: Uint8Array;
  at: number;
  readonly end: number;

  constructor(bytes: Uint8Array, at: number, end: number) {
    this.bytes = bytes;
    this.at = at;
    this.end = end;
  }

  get done(): boolean {
    return this.at >= this.end;
  }

  uint(): number {
    let byte = this.#byte();
    if (byte < 0x80) return byte;
    let value = byte & 0x7f;
    for (let scale = 0x80; byte >= 0x80; scale *= 0x80) {
      if (scale > 2 ** 56) throw new WireError("a number is too long");
      byte = this.#byte();
      value += (byte & 0x7f) * scale;
    }
    if (value > Number.MAX_SAFE_INTEGER) throw new WireError("a number is too large");
    return value;
  }

  /** span reads a length and passes over so many bytes, of which it answers the end. */
  span(): number {
    const length = this.uint();
    this.at += length;
    if (this.at > this.end) throw new WireError("a field goes beyond the end");
    return this.at;
  }

  skip(tag: number): void {
    if ((tag & 7) === 0) this.uint();
    else if ((tag & 7) === 2) this.span();
    else throw new WireError("a field has an unknown wire type");
  }

  #byte(): number {
    if (this.at >= this.end) throw new WireError("it is cut short");
    return this.bytes[this.at++] as number;
  }
}

/** readAuditHead reads what a batch is about. What is no batch throws a WireError. */
export function readAuditHead(bytes: Uint8Array): AuditHead {
  const cursor = new Cursor(bytes, 0, bytes.length);
  const numbers = new Array<number>(9).fill(0);
  const texts: string[] = [];
  const records: number[] = [];
  while (!cursor.done) {
    const tag = cursor.uint();
    const field = tag >>> 3;
    if (field >= 1 && field <= 8 && (tag & 7) === 0) numbers[field] = cursor.uint();
    else if (tag === 0x4a || tag === 0x52) {
      const length = cursor.uint();
      const from = cursor.at;
      cursor.at += length;
      if (cursor.at > bytes.length) throw new WireError("a field goes beyond the end");
      if (tag === 0x52) records.push(from, cursor.at);
      else texts.push(decoder.decode(bytes.subarray(from, cursor.at)));
    } else cursor.skip(tag);
  }
  const [, epoch = 0, first = 0, count = 0, wallFrom = 0, wallTo = 0, outcomes = 0, namesFrom = 0, namesTo = 0] = numbers;
  if (count === 0 || count !== records.length / 2 || count > RECORDS_MAX)
    throw new WireError(`it has not the ${count} records that it says`);
  if (first === 0 || epoch === 0) throw new WireError("its records have no number");
  return { epoch, first, count, wallFrom, wallTo, outcomes, namesFrom, namesTo, texts, records };
}

/** readAuditRow reads one record. Places of texts that are not there are no texts. */
export function readAuditRow(bytes: Uint8Array, from: number, to: number): AuditRow {
  const cursor = new Cursor(bytes, from, to);
  const numbers = new Array<number>(18).fill(0);
  let value: Uint8Array = NO_BYTES;
  while (!cursor.done) {
    const tag = cursor.uint();
    const field = tag >>> 3;
    if (tag === 0x4a) {
      const length = cursor.uint();
      const start = cursor.at;
      cursor.at += length;
      if (cursor.at > to) throw new WireError("a value goes beyond the end");
      value = bytes.subarray(start, cursor.at);
    } else if (field >= 1 && field <= 17 && (tag & 7) === 0) numbers[field] = cursor.uint();
    else cursor.skip(tag);
  }
  const [, way = 0, outcome = 0, wallMs = 0, durationUs = 0, caller = 0, hub = 0, node = 0, capability = 0] = numbers;
  const [valueBytes = 0, hidden = 0, reason = 0, message = 0, nameEpoch = 0, nameNumber = 0, key = 0, suppressed = 0] = numbers.slice(10);
  return {
    way,
    outcome,
    wallMs,
    durationUs,
    caller,
    hub,
    node,
    capability,
    value,
    valueBytes,
    hidden: hidden !== 0,
    reason,
    message,
    nameEpoch,
    nameNumber,
    key,
    suppressed,
  };
}
