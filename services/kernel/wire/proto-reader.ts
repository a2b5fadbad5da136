const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** WireError says that bytes are not the message that they should be. */
export class WireError extends Error {
  constructor(problem: string) {
    super(problem);
    this.name = "WireError";
  }
}

/**
 * ProtoReader reads a protobuf message by hand, field by field, where pure code has to: signed, hashed and stored bytes. It is strict, so
 * that one value has one encoding: numbers are below 2^53 and in their shortest form, texts are UTF-8, fields come in ascending order.
 * Whatever is not so throws a WireError; nothing is read beyond the end, and lengths are checked before anything is allocated.
 *
 * ```
 * for (let field = r.next(); field !== 0; field = r.next()) switch (field) { case 1: x = r.uint(); break; default: r.unknown(); }
 * ```
 */
export class ProtoReader {
  readonly #bytes: Uint8Array;
  #at = 0;
  #field = 0;
  #wireType = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  /** next moves on to the next field and gives its number; 0 at the end. The value of the field must be read before. */
  next(): number {
    if (this.#at === this.#bytes.length) return 0;
    const tag = this.#varint();
    const field = Math.floor(tag / 8);
    if (field === 0 || field < this.#field) throw new WireError(`field ${field} is out of order`);
    this.#field = field;
    this.#wireType = tag % 8;
    return field;
  }

  /** uint reads a whole number of at most `most`. */
  uint(most: number = Number.MAX_SAFE_INTEGER): number {
    this.#expect(0);
    const value = this.#varint();
    if (value > most) throw new WireError(`field ${this.#field} is ${value}, more than ${most}`);
    return value;
  }

  bool(): boolean {
    return this.uint(1) === 1;
  }

  /** bytes reads at most `most` bytes; they are a view of what is read. */
  bytes(most: number): Uint8Array {
    this.#expect(2);
    const length = this.#varint();
    if (length > most) throw new WireError(`field ${this.#field} has ${length} bytes, more than ${most}`);
    if (this.#at + length > this.#bytes.length) throw new WireError(`field ${this.#field} goes beyond the end`);
    this.#at += length;
    return this.#bytes.subarray(this.#at - length, this.#at);
  }

  /** text reads a text of at most `most` bytes. */
  text(most: number): string {
    try {
      return decoder.decode(this.bytes(most));
    } catch (error) {
      throw error instanceof WireError ? error : new WireError(`field ${this.#field} is not UTF-8`);
    }
  }

  /** message reads a message of at most `most` bytes with a reader of its own. */
  message<T>(most: number, read: (inner: ProtoReader) => T): T {
    return read(new ProtoReader(this.bytes(most)));
  }

  /** uints reads a packed repeated field of at most `most` numbers. */
  uints(most: number): number[] {
    const inner = new ProtoReader(this.bytes(10 * most));
    const values: number[] = [];
    while (inner.#at < inner.#bytes.length) {
      if (values.length === most) throw new WireError(`field ${this.#field} has more than ${most} numbers`);
      values.push(inner.#varint());
    }
    return values;
  }

  /** unknown refuses a field that is not known: what is signed or stored has none. */
  unknown(): never {
    throw new WireError(`field ${this.#field} is not known`);
  }

  #expect(wireType: number): void {
    if (this.#wireType !== wireType) throw new WireError(`field ${this.#field} has wire type ${this.#wireType} instead of ${wireType}`);
  }

  #varint(): number {
    let value = 0;
    let scale = 1;
    for (;;) {
      const byte = this.#bytes[this.#at++];
      if (byte === undefined) throw new WireError("a number goes beyond the end");
      value += (byte & 0x7f) * scale;
      if (value > Number.MAX_SAFE_INTEGER) throw new WireError("a number is larger than 2^53 - 1");
      if (byte < 0x80) {
        if (byte === 0 && scale > 1) throw new WireError("a number is not in its shortest form");
        return value;
      }
      scale *= 0x80;
      if (scale > 2 ** 49) throw new WireError("a number is larger than 2^53 - 1");
    }
  }
}
