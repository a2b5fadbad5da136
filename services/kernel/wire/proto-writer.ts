import { assert } from "../assert.ts";
import { copyOf } from "./bytes.ts";

const encoder = new TextEncoder();

/** Texts that are written faster unit by unit than by the encoder, if they are ASCII. */
const SHORT_TEXT = 64;
/** Buffers that writers are done with: most messages are made of several, each far shorter than a buffer. Longer ones are not kept. */
const spare: Uint8Array[] = [];
const SPARE_BYTES = 4 * 1024;
const SPARE_MOST = 16;
const NONE = new Uint8Array();

/**
 * ProtoWriter writes a protobuf message by hand: where pure code signs, hashes or stores bytes, and where the same value must give the same
 * bytes at every hub. Fields are written in ascending order, and what has its default value is left out, as the generated code does.
 */
export class ProtoWriter {
  #bytes: Uint8Array = spare.pop() ?? new Uint8Array(SPARE_BYTES);
  #at = 0;
  #field = 0;

  /** uint writes a whole number from 0 to 2^53 - 1 as a varint. */
  uint(field: number, value: number): this {
    assert(Number.isSafeInteger(value) && value >= 0, "no such number on the wire", { field, value });
    if (value === 0) return this;
    this.#tag(field, 0);
    return this.#varint(value);
  }

  bool(field: number, value: boolean): this {
    return this.uint(field, value ? 1 : 0);
  }

  bytes(field: number, value: Uint8Array): this {
    return value.length === 0 ? this : this.#delimited(field, value);
  }

  text(field: number, value: string): this {
    return value === "" ? this : this.textItem(field, value);
  }

  /** message writes a message in a field, also when it is empty. */
  message(field: number, write: (inner: ProtoWriter) => unknown): this {
    const inner = new ProtoWriter();
    write(inner);
    return this.#delimited(field, inner.finish());
  }

  /** item writes bytes of a repeated field, also when they are empty. */
  item(field: number, value: Uint8Array): this {
    return this.#delimited(field, value);
  }

  /** textItem writes a text of a repeated field, also when it is empty. */
  textItem(field: number, value: string): this {
    return this.#short(field, value) ? this : this.#delimited(field, encoder.encode(value));
  }

  /** uints writes a packed repeated field; nothing if there is none. */
  uints(field: number, values: readonly number[]): this {
    if (values.length === 0) return this;
    const inner = new ProtoWriter();
    for (const value of values) {
      assert(Number.isSafeInteger(value) && value >= 0, "no such number on the wire", { field, value });
      inner.#varint(value);
    }
    return this.#delimited(field, inner.finish());
  }

  /** finish gives the bytes, in memory of their own. It ends the writer: what is written after it is not in them. */
  finish(): Uint8Array {
    const bytes = this.#bytes;
    const finished = copyOf(bytes, 0, this.#at);
    this.#bytes = NONE;
    this.#at = 0;
    if (bytes.length === SPARE_BYTES && spare.length < SPARE_MOST) spare.push(bytes);
    return finished;
  }

  /** short writes a short ASCII text; false, and nothing is written, for any other. */
  #short(field: number, value: string): boolean {
    const { length } = value;
    if (length > SHORT_TEXT) return false;
    for (let i = 0; i < length; i++) if (value.charCodeAt(i) >= 0x80) return false;
    this.#tag(field, 2);
    this.#varint(length);
    this.#room(length);
    for (let i = 0; i < length; i++) this.#bytes[this.#at++] = value.charCodeAt(i);
    return true;
  }

  #delimited(field: number, value: Uint8Array): this {
    this.#tag(field, 2);
    this.#varint(value.length);
    this.#room(value.length);
    this.#bytes.set(value, this.#at);
    this.#at += value.length;
    return this;
  }

  #tag(field: number, wireType: number): void {
    assert(field >= this.#field && Number.isInteger(field) && field > 0, "fields are written in ascending order", { field });
    this.#field = field;
    this.#varint(field * 8 + wireType);
  }

  #varint(value: number): this {
    this.#room(10);
    let left = value;
    while (left >= 0x80) {
      this.#bytes[this.#at++] = (left % 0x80) | 0x80;
      left = Math.floor(left / 0x80);
    }
    this.#bytes[this.#at++] = left;
    return this;
  }

  #room(more: number): void {
    if (this.#at + more <= this.#bytes.length) return;
    const larger = new Uint8Array(Math.max(2 * this.#bytes.length, this.#at + more));
    larger.set(this.#bytes.subarray(0, this.#at));
    this.#bytes = larger;
  }
}
