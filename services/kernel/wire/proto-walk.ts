/** Nesting of groups at which the generated code gives up. */
const GROUPS_MAX = 100;

/**
 * ProtoWalk passes over the encoding of a message where the generated code would, so that who looks at bytes without decoding them finds
 * what decoding them gives: a number longer than 32 bits counts by its low ones, and one that does not end, an unknown wire type and a
 * group that is nested too deeply are malformed. From then on it is `over`, and nothing after it is found. A number that is only passed
 * over may be of any length.
 */
export class ProtoWalk {
  readonly bytes: Uint8Array;
  at = 0;
  over = false;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }

  /** varint reads a tag, a length or a number, of which the low 32 bits are answered. */
  varint(): number {
    const { bytes } = this;
    let value = 0;
    for (let shift = 0; shift < 70; shift += 7) {
      const byte = bytes[this.at++] ?? 0;
      if (shift < 28) value |= (byte & 0x7f) << shift;
      else if (shift === 28) value |= (byte & 0x0f) << 28;
      if (byte < 0x80) return value >>> 0;
    }
    this.over = true;
    return 0;
  }

  /** skip passes over the field of a tag by its wire type, as is done with those that nobody knows. */
  skip(tag: number, groups = GROUPS_MAX): void {
    switch (tag & 7) {
      case 0:
        while (((this.bytes[this.at++] ?? 0) & 0x80) !== 0);
        return;
      case 1:
        this.at += 8;
        return;
      case 2: {
        const length = this.varint();
        this.at += length;
        return;
      }
      case 3:
        return this.#group(groups);
      case 5:
        this.at += 4;
        return;
      default:
        this.over = true;
    }
  }

  #group(groups: number): void {
    if (groups === 0) this.over = true;
    while (!this.over && this.at < this.bytes.length) {
      const tag = this.varint();
      if ((tag & 7) === 4) return;
      this.skip(tag, groups - 1);
    }
  }
}
